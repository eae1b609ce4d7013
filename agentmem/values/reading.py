"""Reading values: whole, or only what is asked for; every frame is checked before anything of it is given out."""

from __future__ import annotations

import ctypes
import io
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property, partial
from hashlib import sha256
from itertools import pairwise
from threading import RLock
from typing import Any, NamedTuple, cast

from typing_extensions import override

from agentmem.engine.engine import Engine
from agentmem.stores import archived, chunks, documents, keys
from agentmem.stores.chunkfiles import ChunkFiles
from agentmem.stores.chunkframes import FRAME, Frame, frames
from agentmem.stores.chunks import Part
from agentmem.stores.rows import Stored, kept, visible
from agentmem.types.data import parsed
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveKeyError,
    NotFoundError,
    ObjectNotFoundError,
    StoreCorruptError,
)
from agentmem.types.inputs import Scope
from agentmem.types.pool import Pool
from agentmem.values.codecs import unpack
from agentmem.values.kinds import KINDS, Whole

UNREADABLE = (ArchiveCorruptError, ObjectNotFoundError, ArchiveKeyError)
_ATTEMPTS = 5
_ALONE, _READERS = 4, 3
"""Frames that a read takes itself, and threads that read those of longer ones."""


class Found(NamedTuple):
    """A value: its record, what it is, and the tier it was placed in."""

    stored: Stored
    about: dict[str, Any]
    placed: str | None
    first: Part | None = None
    """What it begins with, if that was asked for and lies in the database."""


def find(engine: Engine, key: str, scope: Scope) -> Stored | None:
    """The record of a value, if there is one; it may lie in an archive."""
    engine.check()
    stored = keys.find(engine.repository, key, engine.key(scope))
    return stored if stored is not None and kept(stored, engine.now()) else None


def look(engine: Engine, key: str, scope: Scope, *, chunk: bool = False) -> tuple[bool, Found | None]:
    """Whether one statement tells whether there is a value, and if so the value; with ``chunk`` its first one, too."""
    engine.check_process()
    engine.lifecycle.check()
    looked = keys.look(engine.repository, key, engine.key(scope), chunk=chunk)
    if looked is None:
        return False, None
    stored, text, placed, first = looked
    if stored is None or not visible(stored, engine.now()):
        return True, None
    if text is None:
        return False, None
    about = described(text, stored)
    return True, None if about is None else Found(stored, about, placed, first)


def texts(engine: Engine, found: Sequence[Stored]) -> dict[int, str]:
    """The data of records, by row. Of one that lies in an archive it is here, unless it is large."""
    db = engine.repository.db
    large = [stored for stored in found if stored.body_size > documents.SEEN]
    away = set(archived.places(db, [stored.row for stored in large])) if large else set[int]()
    read = documents.read(db, [stored for stored in found if stored.row not in away])
    if away:
        from agentmem.glacier.bodies import fetch

        bodies = fetch(engine, [stored for stored in large if stored.row in away])
        for stored in large:
            if stored.row in bodies:
                parts = [(part, text) for version, part, text in bodies[stored.row].parts if version == stored.body]
                read[stored.row] = documents.joined([each for each in parts if each[0] >= 0]) or ""
    return read


def every_description(engine: Engine, stored: Stored) -> dict[int, dict[str, Any]]:
    """What each version that is kept of a value was, by its number."""
    db = engine.repository.db
    while True:  # it may go to an archive meanwhile, or come back
        away = archived.places(db, [stored.row])
        said = _descriptions_there(engine, stored) if away else _descriptions_here(engine, stored)
        if archived.places(db, [stored.row]) == away:
            return {version: about for version, about in said.items() if about is not None}


def _descriptions_there(engine: Engine, stored: Stored) -> dict[int, dict[str, Any] | None]:
    from agentmem.glacier.bodies import fetch

    parts = dict[int, list[tuple[int, str]]]()
    for body in fetch(engine, [stored]).values():
        for version, part, text in body.parts:
            if part >= 0:
                parts.setdefault(version, []).append((part, text))
    return {version: described(documents.joined(each), stored) for version, each in parts.items()}


def _descriptions_here(engine: Engine, stored: Stored) -> dict[int, dict[str, Any] | None]:
    db, said = engine.repository.db, dict[int, dict[str, Any] | None]()
    for version, size in documents.versions(db, stored.row).items():
        at = stored._replace(body=version, body_size=size)
        text = texts(engine, [at]).get(stored.row)
        if text is not None or version in documents.versions(db, stored.row):  # a put has let go of it since
            said[version] = described(text, at)
    return said


def described(text: str | None, stored: Stored) -> dict[str, Any] | None:
    """The same from the record's data."""
    if text is None:
        if stored.body is None:
            return None
        raise documents.missing(stored)
    data: object = parsed(text)
    about = cast("dict[str, object]", data).get(chunks.MARK) if isinstance(data, dict) else None
    if not isinstance(about, dict):
        return None
    found = cast("dict[str, Any]", about)
    kind, size = found.get("kind"), found.get("size")
    return found if kind in KINDS and type(size) is int and size >= 0 and "digest" in found else None


class _Wanted(NamedTuple):
    """A frame that is read, and the chunk that it is of."""

    start: int
    """Where it begins in the value."""
    part: Part
    frame: Frame

    @property
    def end(self) -> int:
        return self.start + self.frame.size


class _LeftError(Exception):
    """A chunk is not here any more: the value went to an archive while it was being read."""


class FromArchive:
    """A version of a value as an archive has it. Raises ``ArchiveError`` and below."""

    def __init__(self, away: Any, version: int | None) -> None:
        self._away, self._version = away, version
        self._refs: list[Any] | None = None

    @classmethod
    def of(cls, engine: Engine, stored: Stored) -> Iterator[FromArchive]:
        """That in the archive it lies in, then copies."""
        from agentmem.glacier.contents import copies_of

        name = archived.places(engine.repository.db, [stored.row]).get(stored.row)
        if name is not None:
            yield from (cls(away, stored.body) for away in copies_of(engine, stored, name))

    def frame_at(self, at: int) -> tuple[int, bytes]:
        """The frame that has a byte: where it begins, and what it is."""
        if self._refs is None:
            self._refs = [ref for ref in self._away.refs() if ref.version == self._version]
        place = bisect_right(self._refs, at, key=lambda ref: ref.start) - 1
        if place < 0 or at >= self._refs[place].start + self._refs[place].size:
            raise ArchiveCorruptError(f"an archive does not have the value's bytes from {at:,} on")
        start, chunk = self._refs[place].start, self._away.chunk(self._refs[place].chunk)
        try:
            every = frames(chunk.codec, chunk.size, chunk.checksum)
            frame = every[bisect_right(every, at - start, key=lambda each: each.start) - 1]
            return start + frame.start, unpack(frame.codec, frame.of(chunk.body), frame.size)
        except ValueError as exc:
            raise ArchiveCorruptError(f"a chunk in an archive cannot be unpacked: {exc}") from exc


def _within(body: bytes, begin: int, at: int, end: int) -> memoryview:
    return memoryview(body)[at - begin : end - begin]


class Content(Whole):
    """The bytes of one version of a value. Thread-safe.

    Raises ``StoreCorruptError`` for a chunk that is not what was stored, ``NotFoundError`` once the value was erased,
    or replaced so often that this version is kept no more, and ``ArchiveError`` for what lies in an archive and cannot
    be read.
    """

    def __init__(self, engine: Engine, stored: Stored, size: int, only: Part | None = None) -> None:
        self._engine, self._stored, self._only = engine, stored, only
        self._turn = RLock()
        self._archived: list[FromArchive] | None = None
        self.size = size

    @override
    def bytes(self, start: int, end: int) -> bytes:
        if end - start <= _ALONE * FRAME:
            return b"".join(view for _, view in self.blocks(start, end))
        made, buffer = blank(end - start)
        self.fill(buffer, start)
        buffer.release()
        return made

    @override
    def fill(self, buffer: memoryview, start: int) -> None:
        filled, end = start, start + len(buffer)
        wanted = self._wanted(start, end) if len(buffer) > _ALONE * FRAME else list[_Wanted]()
        if wanted and wanted[0].start > start:  # it is lost, which ``blocks`` tells of
            wanted = []
        if all(one.end == other.start for one, other in pairwise(wanted)):
            fill = partial(self._fill, buffer=buffer, start=start)
            with Pool(_READERS, "agentmem-values") as readers:
                for ended in readers.map(fill, wanted):
                    if ended is None:
                        break
                    filled = ended
        for at, view in self.blocks(filled, end):
            buffer[at - start : at - start + len(view)] = view

    def _fill(self, wanted: _Wanted, buffer: memoryview, start: int) -> int | None:
        """Write what a frame has of a buffer that begins at ``start``; where it ends, None if it is not here any more.

        One that is not packed, and wanted whole, is read to where it is to be, without a copy in between.
        """
        _, part, frame = wanted
        low, high = max(wanted.start, start), min(wanted.end, start + len(buffer))
        view = buffer[low - start : high - start]
        if frame.codec == "none" and part.file is not None and len(view) == frame.size:
            at = None if frame.stored is None else frame.at
            with suppress(FileNotFoundError):
                if self._files.read_into(part.file, view, at) and sha256(view).digest() == frame.checksum:
                    return high
        try:
            view[:] = _within(self._body(wanted), wanted.start, low, high)
        except _LeftError:
            return None
        return high

    def blocks(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """The bytes of a range, a frame at a time, each with where it begins."""
        at = start
        try:
            for wanted, body in self._bodies(self._wanted(start, end)):
                if wanted.start > at:
                    break
                yield at, _within(body, wanted.start, at, end)
                at = min(end, wanted.end)
        except _LeftError:
            pass
        if at < end and archived.places(self._engine.repository.db, [self._stored.row]):
            for begin, body in self._from_archive(at, end):
                yield at, _within(body, begin, at, end)
                at = min(end, begin + len(body))
        if at < end:
            self._check_there()
            raise StoreCorruptError(
                f"the value of record {self._stored.id!r} has no bytes from {at:,} on, and should have {self.size:,}; "
                "verify() says more, and a backup may have it"
            )

    def _from_archive(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Frames of a value that lies in an archive, from the first on that has any of the range."""
        at, error = start, None
        while at < end:
            with self._turn:
                if self._archived is None:
                    self._archived = list(FromArchive.of(self._engine, self._stored))
                if not self._archived:
                    break
                try:
                    begin, body = self._archived[0].frame_at(at)
                except UNREADABLE as exc:
                    error = error or exc
                    self._archived.pop(0)
                    continue
            yield begin, body
            at = begin + len(body)
        if at < end and error is not None:
            raise error

    def _bodies(self, several: Sequence[_Wanted]) -> Iterator[tuple[_Wanted, bytes]]:
        """The frames with their bytes; of many, the next ones are read and checked meanwhile."""
        if len(several) <= _ALONE:
            yield from ((wanted, self._body(wanted)) for wanted in several)
            return
        with Pool(_READERS, "agentmem-values") as readers:
            ahead = deque[tuple[_Wanted, Future[bytes]]]()
            try:
                for wanted in several:
                    ahead.append((wanted, readers.submit(self._body, wanted)))
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
        self._engine.check_process()
        if start >= end or self._stored.body is None:
            return []
        if self._only is not None:
            return [self._only]
        return chunks.parts(self._engine.repository.db, self._stored.row, self._stored.body, start, end)

    def _wanted(self, start: int, end: int) -> list[_Wanted]:
        """The frames that have any bytes of a range, in their order."""
        made = list[_Wanted]()
        for part in self._parts(start, end):
            try:
                every = frames(part.codec, part.size, part.checksum)
            except ValueError as exc:
                raise self._unreadable(part.start, f"cannot be read ({exc})") from exc
            of_part = (_Wanted(part.start + frame.start, part, frame) for frame in every)
            made += (wanted for wanted in of_part if wanted.start < end and wanted.end > start)
        return made

    @cached_property
    def _files(self) -> ChunkFiles:
        return ChunkFiles(self._engine.held)

    def _body(self, wanted: _Wanted) -> bytes:
        wrong = "is missing"
        for _ in range(_ATTEMPTS):
            start, part, frame = wanted
            try:
                if part.file is not None:
                    body = self._files.read(part.file, frame.at, frame.stored)
                else:
                    body = None if part.body is None else frame.of(part.body)
            except FileNotFoundError:
                # Its file may have been replaced since the row was read, or gone with the value.
                now = self._wanted(start, start + 1)
                if now and now[0].part.file != part.file:
                    wanted = now[0]
                    continue
                self._check_there()
                if not now:
                    raise _LeftError from None
                break
            except (TypeError, ValueError):  # its row names no file
                break
            if body is not None and sha256(body).digest() == frame.checksum:
                try:
                    whole = unpack(frame.codec, body, frame.size)
                except ValueError as exc:
                    wrong = f"cannot be unpacked ({exc})"
                    break
                if len(whole) == frame.size:
                    return whole
            wrong = "is not what was stored"
            break
        raise self._unreadable(wanted.part.start, wrong)

    def _unreadable(self, start: int, wrong: str) -> StoreCorruptError:
        return StoreCorruptError(
            f"the value of record {self._stored.id!r} cannot be read: its chunk at byte {start:,} {wrong}; put "
            "the value again, which mends that, or restore it from a backup"
        )

    def _check_there(self) -> None:
        db, stored = self._engine.repository.db, self._stored
        if not db.execute("SELECT 1 FROM bodies WHERE row = ? AND version = ? LIMIT 1", (stored.row, stored.body)):
            raise NotFoundError(f"the value of record {stored.id!r} was erased, or replaced, while it was being read")


def blank(size: int) -> tuple[bytes, memoryview]:
    """Bytes that are yet to be written, once, by whoever made them, before anybody else has them.

    Python makes none that are not zeroed or copied first, which for what is large takes as long as reading it.
    """
    made: bytes = _new_bytes(None, size)
    return made, memoryview((ctypes.c_char * size).from_address(_address(made))).cast("B")


_new_bytes: Any = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype, _new_bytes.argtypes = ctypes.py_object, [ctypes.c_char_p, ctypes.c_ssize_t]
_address: Any = ctypes.pythonapi.PyBytes_AsString
_address.restype, _address.argtypes = ctypes.c_void_p, [ctypes.py_object]


class ValueStream(io.RawIOBase):
    """A value's bytes as a file that is read: what is skipped is not read. Not thread-safe."""

    def __init__(self, content: Whole, size: int) -> None:
        self._content, self._size = content, size
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
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} is before the beginning")
        self._at = base + offset
        return self._at

    @override
    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        # Not beyond the frame, so that the next read begins with one.
        count = min(len(view), max(0, self._size - self._at), FRAME - self._at % FRAME)
        self._content.fill(view[:count], self._at)
        self._at += count
        return count

    @override
    def readall(self) -> bytes:
        # Python's own asks for a few KB at a time.
        body = self._content.bytes(self._at, max(self._at, self._size))
        self._at += len(body)
        return body


def opened(content: Whole, size: int) -> io.BufferedReader:
    """The value as a file."""
    return io.BufferedReader(ValueStream(content, size), FRAME)
