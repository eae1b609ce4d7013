"""A value's bytes as chunks that are ready to be referred to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from hashlib import sha256
from itertools import islice
from typing import NamedTuple, TypeAlias

from agentmem.stores import chunks
from agentmem.stores.chunkfiles import ChunkFiles, Staging
from agentmem.stores.chunkframes import FRAME, is_whole, name
from agentmem.stores.chunks import Piece
from agentmem.stores.connection import Connection
from agentmem.types.errors import StoreError
from agentmem.types.pool import Pool
from agentmem.values.codecs import Bytes, Packer

_FRAMES = 8
"""Frames of a chunk, but the last. Each chunk is a file, which takes time to make and to sync."""
_ALONE, _WORKERS, _AHEAD = 4, 8, 8
"""Frames that a put sees to itself, threads that hash, pack and write the others, and how many are hashed ahead."""
_PENDING = 4
"""Chunks that are being packed and written."""
_HELD = 4 * 1_048_576
"""Bytes of a value's chunks that go to the database, and so are in memory until they are there."""


Frames: TypeAlias = Sequence[tuple[bytes, Bytes]]
"""Those of a chunk, each with its hash."""


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
        self._held = 0
        self._made = dict[bytes, "Piece | Future[Piece]"]()
        self._pending = deque[Future[Piece]]()
        self._threads: Pool | None = None
        self.staging: Staging | None = None

    def cut(self, blocks: Iterable[Bytes]) -> Cut:
        """Cut what comes in blocks of any sizes. Raises what reading the blocks raises, and ``StoreError``."""
        order, start, digest = list[tuple[int, bytes]](), 0, sha256()
        self._held = 0
        hashed = self._hashed(frames_of(blocks))
        while frames := list(islice(hashed, _FRAMES)):
            hash, size = name([one for one, _ in frames]), sum(len(body) for _, body in frames)
            digest.update(hash)
            if hash not in self._made:
                self._made[hash] = self._piece(hash, size, frames)
            order.append((start, hash))
            start += size
        pieces = [self._resolved(hash)._replace(start=at) for at, hash in order]
        return Cut(pieces, start, digest.hexdigest())

    def _hashed(self, bodies: Iterable[Bytes]) -> Iterator[tuple[bytes, Bytes]]:
        """The frames with their hashes; after the first few, others hash the next ones meanwhile."""
        ahead = deque[tuple[Bytes, Future[bytes]]]()
        for number, body in enumerate(bodies):
            if number < _ALONE:
                yield sha256(body).digest(), body
                continue
            ahead.append((body, self._workers().submit(_hash, body)))
            if len(ahead) > _AHEAD:
                first, hash = ahead.popleft()
                yield hash.result(), first
        while ahead:
            first, hash = ahead.popleft()
            yield hash.result(), first

    def _resolved(self, hash: bytes) -> Piece:
        made = self._made[hash]
        if not isinstance(made, Piece):
            made = self._made[hash] = made.result()
        return made

    def _workers(self) -> Pool:
        if self._threads is None:
            self._threads = Pool(_WORKERS, "agentmem-values")
        return self._threads

    def _end(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)

    def seal(self) -> None:
        """Rows may name what was cut from now on."""
        self._end()
        if self.staging is not None:
            self.staging.seal()

    def drop(self) -> None:
        """No row will."""
        self._end()
        if self.staging is not None:
            self.staging.drop()

    def _piece(self, hash: bytes, size: int, frames: Frames) -> Piece | Future[Piece]:
        """A chunk that is not at hand yet; after the first few, others pack and write it."""
        damaged = None
        if size > self._inline and self._place is not None:
            there = chunks.known_file(self._db, *self._place, hash)
            if there is not None and there.file is not None:
                if self._is_whole(there) and (own := self._staged().link(there.file)) is not None:
                    return Piece(0, hash, size, there.codec, there.stored, there.checksum, own, None)
                damaged = there.file
        if (self._threads is None and len(self._made) < _ALONE) or size <= self._inline:
            return self._packed(hash, size, frames, damaged)
        self._staged()
        made = self._workers().submit(self._packed, hash, size, frames, damaged)
        self._pending.append(made)
        if len(self._pending) > _PENDING:
            self._pending.popleft().result()
        return made

    def _packed(self, hash: bytes, size: int, frames: Frames, damaged: str | None) -> Piece:
        """A chunk, packed and written. Called on several threads."""
        codec, stored, checksum, bodies = self._packer.packed(frames)
        about = (0, hash, size, codec, stored, checksum)
        if stored <= self._inline and self._held < _HELD:  # a little more, where threads meet here
            self._held += stored
            return Piece(*about, None, b"".join(bodies), damaged)
        return Piece(*about, self._staged().write(*bodies), None, damaged)

    def _is_whole(self, there: chunks.Part) -> bool:
        try:
            return is_whole(there.codec, there.size, there.checksum, self._files.read(str(there.file)))
        except (FileNotFoundError, StoreError):
            return False

    def _staged(self) -> Staging:
        if self.staging is None:
            self.staging = self._files.stage()
        return self.staging


def _hash(body: Bytes) -> bytes:
    return sha256(body).digest()


def _stable(view: memoryview) -> Bytes:
    """The same bytes, which nobody changes while they are hashed, packed and written one after the other."""
    return view if isinstance(view.obj, bytes) else bytes(view)


def frames_of(blocks: Iterable[Bytes]) -> Iterator[Bytes]:
    """The same bytes in frames, the last one shorter; nothing for nothing.

    What a caller may go on writing to, an array or a buffer that a stream fills again and again, is copied.
    """
    held = bytearray()
    for block in blocks:
        view = memoryview(block).cast("B")
        if held:
            taken = FRAME - len(held)
            held += view[:taken]
            view = view[taken:]
            if len(held) < FRAME:
                continue
            yield held
            held = bytearray()
        while len(view) >= FRAME:
            yield _stable(view[:FRAME])
            view = view[FRAME:]
        held += view
    if held:
        yield held
