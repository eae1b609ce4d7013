"""Packing chunks, as far as that makes them smaller."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeAlias

from agentmem.stores.chunkframes import FRAMES, table

Bytes: TypeAlias = bytes | bytearray | memoryview
Compression: TypeAlias = Literal["auto", "zstd", "lz4", "none"]
_SMALLEST = 512
"""Bytes below which nothing is gained that would be worth the time."""
_SAMPLE = 65_536
_WORTH = 0.9
"""What is left of a frame must be less than this share of it."""
_QUICK = 1.15
"""lz4 is taken where it leaves less than so much more than zstd does: it unpacks three times as fast."""


class Packed(NamedTuple):
    """What is stored of a chunk, one frame after the other, and what its row says of that."""

    codec: str
    stored: int
    checksum: bytes
    bodies: list[Bytes]


class Packer:
    """Packs frames of chunks by one codec, or by whichever a sample of each says is worth it."""

    def __init__(self, compression: Compression, level: int) -> None:
        self._compression = compression
        self._level = level

    def packed(self, frames: Sequence[tuple[bytes, Bytes]]) -> Packed:
        """A chunk of these frames, each with its hash."""
        entries, bodies = list[tuple[str, int, int, bytes]](), list[Bytes]()
        for hash, body in frames:
            codec, packed = self.pack(body)
            checksum = hash if codec == "none" else sha256(packed).digest()
            entries.append((codec, len(body), len(packed), checksum))
            bodies.append(packed)
        if len(entries) == 1:
            codec, _, stored, checksum = entries[0]
            return Packed(codec, stored, checksum, bodies)
        return Packed(FRAMES, sum(stored for _, _, stored, _ in entries), table(entries), bodies)

    def pack(self, body: Bytes) -> tuple[str, Bytes]:
        """The codec, and what it made of a frame; ``"none"`` and the frame itself where nothing is gained."""
        if self._compression == "none" or len(body) < _SMALLEST:
            return "none", body
        codec = self._choose(body) if self._compression == "auto" else self._compression
        if codec == "none":
            return "none", body
        packed = self._packed(codec, body)
        return (codec, packed) if len(packed) < _WORTH * len(body) else ("none", body)

    def _choose(self, body: Bytes) -> str:
        sample = memoryview(body)[:_SAMPLE]
        quick, small = (len(self._packed(codec, sample)) for codec in ("lz4", "zstd"))
        if min(quick, small) >= _WORTH * len(sample):
            return "none"
        return "lz4" if quick < _QUICK * small else "zstd"

    def _packed(self, codec: str, body: Bytes) -> bytes:
        return _codec(codec, self._level).compress(body, asbytes=True)


def unpack(codec: str, body: bytes, size: int) -> bytes:
    """A frame of ``size`` bytes as it was. Raises ``ValueError`` for what no codec has made."""
    if codec == "none":
        return body
    if codec not in ("zstd", "lz4"):
        raise ValueError(f"there is no codec {codec!r}")
    try:
        return _codec(codec, 0).decompress(body, decompressed_size=size, asbytes=True)
    except OSError as exc:
        raise ValueError(str(exc)) from exc


@cache
def _codec(name: str, level: int) -> Any:
    import pyarrow as pa

    made: Any = pa
    return made.Codec(name, compression_level=level) if name == "zstd" and level else made.Codec(name)
