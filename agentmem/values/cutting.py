"""A value's bytes as chunks that are ready to be referred to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple

from agentmem.stores import chunks
from agentmem.stores.chunkfiles import ChunkFiles, Staging
from agentmem.stores.chunks import Piece
from agentmem.stores.connection import Connection
from agentmem.types.errors import StoreCorruptError
from agentmem.values.codecs import Bytes, Packer

SIZE = 524_288
"""Bytes of a chunk, but the last: what a read of one byte takes, and small enough that any megabyte lies in three."""


class Cut(NamedTuple):
    """The chunks of a value, all of its bytes, and a hash that tells it from others."""

    pieces: list[Piece]
    size: int
    digest: str


class Cutter:
    """Cuts values that are put together, into one place. Not thread-safe; closed by ``seal`` or ``drop``.

    ``place`` is the number of the user and that of the namespace, None where nothing was ever stored there.
    """

    def __init__(
        self, db: Connection, files: ChunkFiles, packer: Packer, place: tuple[int, int] | None, *, inline: int
    ) -> None:
        self._db, self._files, self._packer, self._place = db, files, packer, place
        self._inline = inline
        self._made = dict[bytes, Piece]()
        self.staging: Staging | None = None

    def cut(self, blocks: Iterable[Bytes]) -> Cut:
        """Cut what comes in blocks of any sizes. Raises what reading the blocks raises, and ``StoreError``."""
        pieces, start, digest = list[Piece](), 0, sha256()
        for body in pieces_of(blocks):
            hash = sha256(body).digest()
            digest.update(hash)
            made = self._made.get(hash)
            if made is None:
                made = self._made[hash] = self._piece(hash, body)
            pieces.append(made._replace(start=start))
            start += len(body)
        return Cut(pieces, start, digest.hexdigest())

    def seal(self) -> None:
        """Rows may name what was cut from now on."""
        if self.staging is not None:
            self.staging.seal()

    def drop(self) -> None:
        """No row will."""
        if self.staging is not None:
            self.staging.drop()

    def _piece(self, hash: bytes, body: Bytes) -> Piece:
        size, damaged = len(body), None
        if size > self._inline and self._place is not None:
            there = chunks.known_file(self._db, *self._place, hash)
            if there is not None and there.file is not None:
                if self._is_whole(there) and (own := self._staged().link(there.file)) is not None:
                    return Piece(0, hash, size, there.codec, there.stored, there.checksum, own, None)
                damaged = there.file
        codec, packed = self._packer.pack(body)
        checksum = hash if codec == "none" else sha256(packed).digest()
        if len(packed) <= self._inline:
            return Piece(0, hash, size, codec, len(packed), checksum, None, bytes(packed), damaged)
        file = self._staged().add(packed)
        return Piece(0, hash, size, codec, len(packed), checksum, file, None, damaged)

    def _is_whole(self, there: chunks.Part) -> bool:
        try:
            return sha256(self._files.read(str(there.file))).digest() == there.checksum
        except (FileNotFoundError, StoreCorruptError):
            return False

    def _staged(self) -> Staging:
        if self.staging is None:
            self.staging = self._files.stage()
        return self.staging


def pieces_of(blocks: Iterable[Bytes]) -> Iterator[Bytes]:
    """The same bytes in pieces of ``SIZE``, the last one shorter; nothing for nothing."""
    held = bytearray()
    for block in blocks:
        view = memoryview(block).cast("B")
        if held:
            taken = SIZE - len(held)
            held += view[:taken]
            view = view[taken:]
            if len(held) < SIZE:
                continue
            yield held
            held = bytearray()
        while len(view) >= SIZE:
            yield view[:SIZE]
            view = view[SIZE:]
        held += view
    if held:
        yield held
