"""Frames: what of a chunk is packed, read and checked by itself.

A chunk of up to ``FRAME`` bytes is one frame: its codec is the frame's, and its checksum is of all that is stored. A
longer one has several, stored one after the other: its codec is ``FRAMES``, and its checksum is their *table*, which
says of each its codec, its sizes and the SHA-256 of what is stored, behind the SHA-256 of all this. So any part of a
chunk can be read and checked without the rest, and no byte is hashed twice for it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha3_256, sha256
from typing import NamedTuple, TypeVar

FRAME = 524_288
"""Bytes of a frame, but the last: what a read of one byte takes, and small enough that any megabyte lies in three."""
FRAMES = "frames"
_CODECS = ("none", "zstd", "lz4")
CODECS = (*_CODECS, FRAMES)
"""How chunks are packed."""
_ENTRY = struct.Struct("<BII32s")
_HASH = 32

B = TypeVar("B", bytes, memoryview)


class Frame(NamedTuple):
    """Where a frame begins in the chunk and how long it is; by what it is packed; where what is stored of it begins
    and how much it is, None for all there is; and the hash of that."""

    start: int
    size: int
    codec: str
    at: int
    stored: int | None
    checksum: bytes

    def of(self, body: B) -> B:
        """What is stored of it, out of all that is stored of the chunk."""
        return body if self.stored is None else body[self.at : self.at + self.stored]


def frames(codec: str, size: int, checksum: bytes) -> list[Frame]:
    """The frames of a chunk, in their order. Raises ``ValueError`` where its row is damaged."""
    if codec != FRAMES:
        return [Frame(0, size, codec, 0, None, checksum)]
    made, start, at = list[Frame](), 0, 0
    try:
        if sha256(checksum[_HASH:]).digest() != checksum[:_HASH]:
            raise ValueError("its table is not what was stored")
        for number, length, stored, hash in _ENTRY.iter_unpack(checksum[_HASH:]):
            made.append(Frame(start, length, _CODECS[number], at, stored, hash))
            start, at = start + length, at + stored
    except (TypeError, IndexError, struct.error) as exc:
        raise ValueError("its table is none") from exc
    if start != size:
        raise ValueError(f"its frames have {start} bytes, not {size}")
    return made


def table(entries: Sequence[tuple[str, int, int, bytes]]) -> bytes:
    """What to keep as the checksum of a chunk of several frames: ``(codec, size, stored, checksum)`` of each."""
    made = b"".join(
        _ENTRY.pack(_CODECS.index(codec), size, stored, checksum) for codec, size, stored, checksum in entries
    )
    return sha256(made).digest() + made


def name(hashes: Sequence[bytes]) -> bytes:
    """The hash that tells a chunk from others, from those of the contents of its frames.

    That of several is made by another function, so that no content of one frame has it.
    """
    return hashes[0] if len(hashes) == 1 else sha3_256(b"".join(hashes)).digest()


def is_whole(codec: str, size: int, checksum: bytes, body: bytes) -> bool:
    """Whether all that is stored of a chunk is what was stored."""
    if codec != FRAMES:
        return sha256(body).digest() == checksum
    try:
        found, view = frames(codec, size, checksum), memoryview(body)
    except (TypeError, ValueError):
        return False
    length = sum(frame.stored or 0 for frame in found)
    return length == len(view) and all(sha256(frame.of(view)).digest() == frame.checksum for frame in found)
