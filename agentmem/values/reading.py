"""Reading values: whole, or only what is asked for; every chunk is checked before anything of it is given out."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import Any, cast

from typing_extensions import override

from agentmem.engine.engine import Engine
from agentmem.stores import chunks, documents, keys
from agentmem.stores.chunkfiles import ChunkFiles
from agentmem.stores.chunks import Part
from agentmem.stores.rows import Stored, visible
from agentmem.types.data import parsed
from agentmem.types.errors import NotFoundError, StoreCorruptError
from agentmem.types.inputs import Scope
from agentmem.values.codecs import unpack
from agentmem.values.cutting import SIZE
from agentmem.values.kinds import Whole

_ATTEMPTS = 5
_ALONE, _READERS = 4, 3
"""Chunks that a read takes itself, and threads that read those of longer ones."""


def find(engine: Engine, key: str, scope: Scope) -> Stored | None:
    """The live record of a value, if there is one."""
    engine.check()
    stored = keys.find(engine.repository, key, engine.key(scope))
    return stored if stored is not None and visible(stored, engine.now()) else None


def description(engine: Engine, stored: Stored) -> dict[str, Any] | None:
    """What a value is; None for a record that is none. Raises ``StoreCorruptError`` where that cannot be read."""
    return described(documents.read(engine.repository.db, [stored]).get(stored.row), stored)


def described(text: str | None, stored: Stored) -> dict[str, Any] | None:
    """The same from the record's data."""
    if text is None:
        if stored.body is None:
            return None
        raise documents.missing(stored)
    data: object = parsed(text)
    about = cast("dict[str, object]", data).get(chunks.MARK) if isinstance(data, dict) else None
    if not isinstance(about, dict) or not {"kind", "size", "digest"} <= about.keys():
        return None
    return cast("dict[str, Any]", about)


class Content(Whole):
    """The bytes of one version of a value. Thread-safe.

    Raises ``StoreCorruptError`` for a chunk that is not what was stored, and ``NotFoundError`` once the value was
    erased, or replaced so often that this version is kept no more.
    """

    def __init__(self, engine: Engine, stored: Stored, size: int) -> None:
        self._engine, self._stored = engine, stored
        self._files = ChunkFiles(engine.held)
        self.size = size

    @override
    def bytes(self, start: int, end: int) -> bytes:
        return b"".join(view for _, view in self.blocks(start, end))

    @override
    def fill(self, buffer: memoryview, start: int) -> None:
        for at, view in self.blocks(start, start + len(buffer)):
            buffer[at - start : at - start + len(view)] = view

    def blocks(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """The bytes of a range, a chunk at a time, each with where it begins."""
        at, parts = start, self._parts(start, end)
        for part, body in self._bodies(parts):
            if part.start > at:
                break
            view = memoryview(body)
            low, high = at - part.start, min(end - part.start, part.size)
            yield at, view[low:high]
            at = part.start + high
        if at < end:
            self._check_there()
            raise StoreCorruptError(
                f"the value of record {self._stored.id!r} has no bytes from {at:,} on, and should have {self.size:,}; "
                "verify() says more, and a backup may have it"
            )

    def _bodies(self, parts: Sequence[Part]) -> Iterator[tuple[Part, bytes]]:
        """The chunks with their bytes; of many, the next ones are read and checked meanwhile."""
        if len(parts) <= _ALONE:
            yield from ((part, self._body(part)) for part in parts)
            return
        with ThreadPoolExecutor(_READERS, "agentmem-values") as readers:
            ahead = deque[tuple[Part, Future[bytes]]]()
            try:
                for part in parts:
                    ahead.append((part, readers.submit(self._body, part)))
                    if len(ahead) > 2 * _READERS:
                        first, body = ahead.popleft()
                        yield first, body.result()
                while ahead:
                    first, body = ahead.popleft()
                    yield first, body.result()
            finally:
                for _, body in ahead:
                    body.cancel()

    def _parts(self, start: int, end: int) -> list[Part]:
        if start >= end or self._stored.body is None:
            return []
        return chunks.parts(self._engine.repository.db, self._stored.row, self._stored.body, start, end)

    def _body(self, part: Part) -> bytes:
        wrong = "is missing"
        for _ in range(_ATTEMPTS):
            try:
                body = part.body if part.file is None else self._files.read(part.file)
            except FileNotFoundError:
                # Its file may have been replaced since the row was read, or gone with the value.
                now = self._parts(part.start, part.start + 1)
                if now and now[0].file != part.file:
                    part = now[0]
                    continue
                self._check_there()
                break
            if body is not None and sha256(body).digest() == part.checksum:
                try:
                    whole = unpack(part.codec, body, part.size)
                except ValueError as exc:
                    wrong = f"cannot be unpacked ({exc})"
                    break
                if len(whole) == part.size:
                    return whole
            wrong = "is not what was stored"
            break
        raise StoreCorruptError(
            f"the value of record {self._stored.id!r} cannot be read: its chunk at byte {part.start:,} {wrong}; put "
            "the value again, which mends that, or restore it from a backup"
        )

    def _check_there(self) -> None:
        db, stored = self._engine.repository.db, self._stored
        if not db.execute("SELECT 1 FROM bodies WHERE row = ? AND version = ? LIMIT 1", (stored.row, stored.body)):
            raise NotFoundError(f"the value of record {stored.id!r} was erased, or replaced, while it was being read")


class ValueStream(io.RawIOBase):
    """A value's bytes as a file that is read: what is skipped is not read. Not thread-safe."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._at = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}[whence]
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} is before the beginning")
        self._at = base + offset
        return self._at

    @override
    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._content.size - self._at))
        self._content.fill(view[:count], self._at)
        self._at += count
        return count


def opened(content: Content) -> io.BufferedReader:
    """The value as a file."""
    return io.BufferedReader(ValueStream(content), SIZE)
