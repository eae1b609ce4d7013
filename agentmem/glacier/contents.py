"""What values consist of, where archives have them: which chunks make which version of a record, and the chunks.

They go a few at a time, in both directions: a value may be larger than memory. A chunk is stored once for each record
that has it, so that what is erased of one leaves the archive without the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from operator import itemgetter
from typing import NamedTuple

from agentmem.archive.blocks import Block
from agentmem.archive.reading import ArchiveReader
from agentmem.archive.tables import Table
from agentmem.engine.engine import Engine
from agentmem.glacier.place import archives_of
from agentmem.stores import archived, chunks
from agentmem.stores.chunkfiles import ChunkFiles, Staging, settle
from agentmem.stores.chunkframes import is_whole
from agentmem.stores.chunks import Piece
from agentmem.stores.chunkupkeep import look
from agentmem.stores.rows import Stored
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    ObjectNotFoundError,
    StoreError,
)

REFS = Table(
    "value_chunks", (("row", "int"), ("version", "int"), ("start", "int"), ("chunk", "int"), ("size", "int")), ("row",)
)
CHUNKS = Table(
    "chunks",
    (
        ("row", "int"), ("n", "int"), ("hash", "bytes"), ("size", "int"), ("codec", "text"), ("checksum", "bytes"),
        ("body", "bytes"),
    ),
    ("row", "n"),
)  # fmt: skip
"""As the store packs them: ``checksum`` is of ``body``, or the table of its frames, ``hash`` of what was packed."""
UNREADABLE = (ArchiveCorruptError, ObjectNotFoundError, ArchiveKeyError)
_BLOCKS = 3
"""Blocks of chunks that a reader keeps, some 4 MB each."""


class Ref(NamedTuple):
    """Which chunk begins at which byte of a version of a record."""

    row: int
    version: int
    start: int
    chunk: int
    size: int


class Chunk(NamedTuple):
    """A chunk, with the number that the store it came from had for it."""

    row: int
    n: int
    hash: bytes
    size: int
    codec: str
    checksum: bytes
    body: bytes

    @property
    def is_whole(self) -> bool:
        """Whether it is what was stored."""
        return is_whole(self.codec, self.size, self.checksum, self.body)


class FromStore:
    """What the values among some records consist of, each part with the name of its user. Iterated once.

    Those of which a chunk is damaged, cannot be opened, or is gone by then are ``failed`` after that.
    """

    def __init__(self, engine: Engine, found: Iterable[tuple[Stored, str | None]]) -> None:
        self._db, self._files = engine.repository.db, ChunkFiles(engine.held)
        self._users = {stored.row: user for stored, user in found}
        self.failed = set[int]()

    def __iter__(self) -> Iterator[tuple[str | None, Ref | Chunk]]:
        for row, user in self._users.items():
            refs = [Ref(row, *ref) for ref in chunks.references(self._db, row)]
            yield from ((user, ref) for ref in refs)
            for n in sorted({ref.chunk for ref in refs}):
                chunk = self._chunk(row, n)
                if chunk is None:
                    self.failed.add(row)
                    break
                yield user, chunk

    def _chunk(self, row: int, n: int) -> Chunk | None:
        found = chunks.numbered(self._db, n)
        try:
            looked = None if found is None else look(self._db, self._files, found)
        except StoreError:  # it stays in the store, and holds no other up
            return None
        if looked is None or looked.body is None:
            return None
        part = looked.part
        return Chunk(row, n, part.hash, part.size, part.codec, part.checksum, looked.body)


def kept_in(reader: ArchiveReader, users: Mapping[int, str | None]) -> Iterator[tuple[str | None, Ref | Chunk]]:
    """What an archive has of values, for these rows, each with its user. Raises as ``ArchiveReader.read`` does."""
    if not has(reader):
        return
    for found in reader.read(REFS.name):
        yield from ((users[ref[0]], Ref._make(ref)) for ref in found.rows if ref[0] in users)
    for found in reader.read(CHUNKS.name):
        yield from ((users[chunk[0]], Chunk._make(chunk)) for chunk in found.rows if chunk[0] in users)


def has(reader: ArchiveReader) -> bool:
    """Whether an archive has anything of values."""
    return any(content.table.name == REFS.name and content.rows for content in reader.manifest.tables)


def content_of(engine: Engine, stubs: Sequence[Stored], name: str) -> list[tuple[str | None, Ref | Chunk]]:
    """What the values among these consist of, which lie in an archive: all of it at once. Raises as ``Away`` does."""
    db, found = engine.repository.db, list[tuple[str | None, Ref | Chunk]]()
    sizes = archived.sizes_of_values(db, [stub.row for stub in stubs])
    for stub in stubs:
        if stub.row in sizes:
            away, user = Away(engine, stub, name), engine.repository.names.name(db, stub.user)
            refs = away.whole(sizes[stub.row])
            found += ((user, ref) for ref in refs)
            found += ((user, away.chunk(n)) for n in sorted({ref.chunk for ref in refs}))
    return found


class Away:
    """The content of a record that lies in an archive. Not thread-safe.

    Raises ``ArchiveError`` and below for what cannot be read, once every copy was tried.
    """

    def __init__(self, engine: Engine, stored: Stored, name: str) -> None:
        self._archives, self._stored, self._name = archives_of(engine), stored, name
        self._user = engine.repository.names.name(engine.repository.db, stored.user)
        self._kept = OrderedDict[int, dict[int, Chunk]]()

    def refs(self) -> list[Ref]:
        """Which chunks make which of its versions."""

        def read(reader: ArchiveReader) -> list[Ref]:
            if not has(reader):
                return []
            found = reader.read(REFS.name, user=self._user, wanted=lambda block: _spans(block, self._stored.row))
            return [Ref._make(ref) for rows in found for ref in rows.rows if ref[0] == self._stored.row]

        return sorted(self._archives.reading(self._name, read))

    def whole(self, size: int) -> list[Ref]:
        """The same; raises ``ArchiveCorruptError`` where those of its current version have another size together."""
        refs = self.refs()
        if sum(ref.size for ref in refs if ref.version == self._stored.body) != size:
            raise ArchiveCorruptError(
                f"the archive {self._name} does not have all of the value of record {self._stored.id!r}, or no key of "
                "its user's can open it"
            )
        return refs

    def chunk(self, n: int) -> Chunk:
        """One of them, checked. Those that lie beside it are at hand then."""
        for kept in self._kept.values():
            if n in kept:
                return kept[n]

        def read(reader: ArchiveReader) -> Chunk:
            row = self._stored.row
            wanted = reader.read(CHUNKS.name, user=self._user, wanted=lambda block: _spans(block, row, n))
            for found in wanted:
                those = {chunk.n: chunk for chunk in map(Chunk._make, found.rows) if chunk.row == row}
                if n in those:
                    self._kept[found.block.number] = those
                    while len(self._kept) > _BLOCKS:
                        self._kept.popitem(last=False)
                    return those[n]
            raise ArchiveCorruptError(
                f"the archive {self._name} does not have chunk {n} of the value of record {self._stored.id!r}, or no "
                "key of its user's can open it"
            )

        chunk = self._archives.reading(self._name, read)
        if not chunk.is_whole:
            raise ArchiveCorruptError(f"chunk {n} of record {self._stored.id!r} in {self._name} is not what was stored")
        return chunk


def copies_of(engine: Engine, stored: Stored, name: str) -> Iterator[Away]:
    """The content of a record in the archive it is to be in, then in those that have a copy of it."""
    others = archived.copies(engine.repository.db, stored.row)
    for each in dict.fromkeys((name, *others)):
        yield Away(engine, stored, each)


class Returned:
    """The chunks of records that come back: written beside the database, and nobody's until rows name them."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._files = engine, ChunkFiles(engine.held)
        self._inline = round(engine.settings.values.inline_kb * 1024)
        self._staging: Staging | None = None
        self.pieces = dict[int, dict[int, list[Piece]]]()
        """By row and version."""

    def fetch(self, stubs: Sequence[Stored], here: Mapping[int, str]) -> None:
        """Read what the values among these consist of. Raises ``ArchiveError`` and below, and ``StoreError``."""
        sizes = archived.sizes_of_values(self._engine.repository.db, here)
        for stub in stubs:
            if stub.row in sizes:
                self.pieces[stub.row] = self._fetch(stub, here[stub.row], sizes[stub.row])
        if self._staging is not None:
            self._staging.seal()

    def settle(self, done: Future[tuple[list[int], set[str]]]) -> None:
        """The transaction is over that was to name them, and returned which files rows name now."""
        settle(self._staging, done, itemgetter(1))

    def drop(self) -> None:
        """No row will name any of it."""
        if self._staging is not None:
            self._staging.drop()

    def _fetch(self, stub: Stored, name: str, size: int) -> dict[int, list[Piece]]:
        error: ArchiveError | None = None
        for away in copies_of(self._engine, stub, name):
            try:
                refs, made, found = away.whole(size), dict[int, Piece](), dict[int, list[Piece]]()
                for n in sorted({ref.chunk for ref in refs}):
                    made[n] = self._piece(away.chunk(n))
                for ref in refs:
                    found.setdefault(ref.version, []).append(made[ref.chunk]._replace(start=ref.start))
                return found
            except UNREADABLE as exc:
                error = error or exc
        raise error or ArchiveCorruptError(f"no archive has the value of record {stub.id!r}")

    def _piece(self, chunk: Chunk) -> Piece:
        about = (chunk.hash, chunk.size, chunk.codec, len(chunk.body), chunk.checksum)
        if len(chunk.body) <= self._inline:
            return Piece(0, *about, None, chunk.body)
        if self._staging is None:
            self._staging = self._files.stage()
        return Piece(0, *about, self._staging.write(chunk.body), None)


def _spans(block: Block, *wanted: int) -> bool:
    """Whether a block may have what begins with these values in the columns that have zones."""
    zones = zip(block.zones, wanted, strict=False)
    return all(zone is not None and zone[0] <= value <= zone[1] for zone, value in zones)
