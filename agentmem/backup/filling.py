"""A new database, filled from a backup and those that it goes on from, and brought back to a moment."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agentmem.archive.keyring import KeyRing
from agentmem.archive.manifest import Manifest
from agentmem.archive.objects import Objects, Readable
from agentmem.archive.reading import EVERYBODY, ArchiveReader, Rows
from agentmem.backup.chunks import ChunkFilling
from agentmem.backup.lineage import Entry
from agentmem.backup.moment import Moment
from agentmem.backup.tables import CHUNKS, ERASED, NOTED, PRESENT, SEQUENCES, TOUCHED, FromArchive
from agentmem.stores import undo
from agentmem.stores.connection import Connection
from agentmem.stores.copying import Target
from agentmem.stores.schema import check_known, migrate
from agentmem.types.enums import ALL, AllUsers
from agentmem.types.errors import ArchiveCorruptError
from agentmem.types.spelling import spellings

_OWN = frozenset({NOTED.name, SEQUENCES.name, TOUCHED.name, ERASED.name, PRESENT.name})
_WHOLE_ONLY = frozenset({"erasures"})
_CHUNK = 2_000


class Wanted(NamedTuple):
    """Whose records are wanted, and which, by id; None: all."""

    user: str | AllUsers | None = ALL
    ids: frozenset[str] | None = None


class Filled(NamedTuple):
    """How many records there are, the last event, the last row that was given out until then, the rows of those whose
    embeddings are to be made, how many have lost their data, and how many are left out since they were erased."""

    records: int
    seq: int
    last_row: int
    unembedded: list[int]
    without_data: int
    erased: int


class Filling:
    """Fills an empty database with what a moment is made of."""

    def __init__(
        self,
        objects: Objects,
        keyring: KeyRing | None,
        db: Connection,
        into: Path,
        wanted: Wanted,
        progress: Callable[[int, int], object],
    ) -> None:
        self._objects, self._keyring, self._db, self._into = objects, keyring, db, into
        self._wanted, self._progress = wanted, progress
        self._target = Target(db)
        self.chunks = ChunkFilling(db, into)
        self._done = self._total = 0
        self._last: ArchiveReader | None = None
        self._sealed: dict[str, array[int]] = {}
        """Which records were sealed under which key, by its tag."""

    @property
    def dim(self) -> int:
        """Of the vectors; 0 before there are any."""
        return 0 if self._last is None else int(self._last.manifest.model.get("dim") or 0)

    def run(self, moment: Moment) -> Filled:
        """Fill the database. Raises what ``ArchiveReader`` raises."""
        readers = [self._open(entry) for entry in moment.chain]
        self._total = sum(reader.manifest.content("records").rows for reader in readers)
        for reader in readers:
            self._go_on(reader)
        return self.complete(moment)

    def add(self, entry: Entry, objects: Readable | None = None) -> None:
        """Add what a backup has: first one that stands by itself, then each that goes on from the one before.

        ``objects`` is what to read it from, if it was read ahead. Raises ``StoreVersionError`` for one of a newer
        version, which may have what there is no place for here.
        """
        reader = self._open(entry, objects)
        self._total += reader.manifest.content("records").rows
        self._go_on(reader)

    def _go_on(self, reader: ArchiveReader) -> None:
        first = self._last is None
        if first:
            migrations = reader.manifest.about.get("migrations")
            if not isinstance(migrations, list):
                raise ArchiveCorruptError("the archive is not one of a whole store: its manifest names no migrations")
            made_by: list[str] = [str(name) for name in migrations]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            check_known(made_by, self._objects.url)
            migrate(self._db, self._into, made_by)
        self._add(reader, first=first)
        self._last = reader

    def complete(self, moment: Moment) -> Filled:
        """Make the database a store's as it was at the moment, whose backups were all added. Nothing comes after it."""
        last = self._last
        assert last is not None
        self._bookkeeping(last)
        migrate(self._db, self._into)
        seq = moment.chain[-1].seq if moment.seq is None else moment.seq
        if moment.at is not None:
            seq = min(seq, undo.last_event(self._db, moment.at))
        # Two looks at all records, which a restore of what is newest has no need of.
        there = undo.there_at(self._db, seq) if moment.later else 0
        newest = self._erase_again(moment) or last
        erased = there - undo.there_at(self._db, seq) if moment.later else 0
        sequences = {name: seq for rows in self._own(last, SEQUENCES.name) for name, seq in rows}
        for rows in () if newest is last else self._own(newest, SEQUENCES.name):
            sequences.update((name, max(seq, sequences.get(name, 0))) for name, seq in rows)
        self._db.execute("BEGIN")
        if self._wanted.ids is not None:
            found = self._db.execute("SELECT row, id FROM records")
            undo.forget_rows(self._db, [row for row, id in found if id not in self._wanted.ids])
        undo.forget_rows(self._db, self._unreadable_by_now())
        erased += undo.erased_since(self._db, seq)
        left = undo.back_to(self._db, seq) if (moment.seq, moment.at) != (None, None) else undo.TakenBack([], [])
        self.chunks.finish()
        self._target.finish(list(sequences.items()))
        undo.tidy(self._db)
        self._db.execute("COMMIT")
        [(count, last_row)] = self._db.execute("SELECT count(*), coalesce(max(row), 0) FROM records")
        return Filled(count, seq, last_row, left.unembedded, len(left.without_data), erased)

    def _open(self, entry: Entry, objects: Readable | None = None) -> ArchiveReader:
        reader = ArchiveReader(objects or self._objects, entry.archive, keyring=self._keyring)
        if reader.sha256 != entry.manifest:
            raise ArchiveCorruptError(
                f"{self._objects.url}/{entry.archive} is not the archive that the backup {entry.id} names"
            )
        return reader

    # -- one backup ----------------------------------------------------------------------------------------------------

    def _add(self, reader: ArchiveReader, *, first: bool) -> None:
        touched = {row: number for rows in self._own(reader, TOUCHED.name) for row, number in rows}
        for content in reader.manifest.tables:
            name = content.table.name
            if name in _OWN or (name in _WHOLE_ONLY and self._wanted.user is not ALL):
                continue
            found, belongs = FromArchive(content.table), "round" in content.table.names
            for read in self._rows(reader, name, everybody=name in _WHOLE_ONLY):
                rows = read.rows
                if name == CHUNKS.name:
                    self._within(lambda f=found, r=rows: self.chunks.add(f.columns, map(f.row, r)))
                    continue
                kept = [found.row(row) for row in rows if not belongs or _is_last(found.place(row), touched)]
                if name == "history" and not first:
                    row, event = found.columns.index("row"), found.columns.index("event")
                    self._within(lambda kept=kept, r=row, e=event: self._target.make_room((k[r], k[e]) for k in kept))
                self._write(name, found.columns, kept)
                if name == "records":
                    if self._keyring is not None:
                        at = found.columns.index("row")
                        self._sealed.setdefault(read.block.tag, array("q")).extend(row[at] for row in kept)
                    self._done += len(rows)
                    self._progress(self._done, self._total)
        if not first:
            erased = [row for rows in self._own(reader, ERASED.name) for (row,) in rows]
            self._within(lambda: self._target.erase(erased))
        if present := _listed(self._own(reader, PRESENT.name)):
            self._within(lambda: self._target.keep(present))

    def _erase_again(self, moment: Moment) -> ArchiveReader | None:
        """Remove what was erased after the last backup that was read; the newest of those of its lineage."""
        newest = None
        for entry, limit in moment.later:
            reader = self._open(entry)
            erased = [
                row for rows in self._own(reader, ERASED.name) for (row,) in rows if limit is None or row <= limit
            ]
            present = _listed(self._own(reader, PRESENT.name))
            self._within(lambda erased=erased: undo.forget_rows(self._db, erased))
            if present:
                self._within(lambda present=present, limit=limit: self._target.keep(present, limit))
            if limit is None:
                newest = reader
        if newest is not None and self._wanted.user is ALL:
            for content in newest.manifest.tables:
                if content.table.name in _WHOLE_ONLY:
                    found = FromArchive(content.table)
                    for read in self._rows(newest, content.table.name, everybody=True):
                        self._write(content.table.name, found.columns, [found.row(row) for row in read.rows])
        return newest

    def _unreadable_by_now(self) -> list[int]:
        """Records whose key was deleted while they were read: some tables have what belongs to them, others lack it."""
        if self._keyring is None:
            return []
        return [row for tag in self._keyring.deleted() & self._sealed.keys() for row in self._sealed[tag]]

    def _bookkeeping(self, reader: ArchiveReader) -> None:
        noted = FromArchive(reader.manifest.content(NOTED.name).table)
        rows = [noted.row(row) for rows in self._own(reader, NOTED.name) for row in rows]
        self._within(
            lambda: self._target.note((key, value if number is None else number) for key, number, value in rows)
        )

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _own(self, reader: ArchiveReader, table: str) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of a table that is the backup's own; none where it is of a version that had no such table."""
        if _has(reader.manifest, table):
            for read in reader.read(table, user=None):
                yield read.rows

    def _rows(self, reader: ArchiveReader, table: str, *, everybody: bool) -> Iterator[Rows]:
        user = self._wanted.user
        if everybody or user is ALL:
            yield from reader.read(table, user=None if everybody else EVERYBODY)
            return
        for name in [None] if user is None else spellings(str(user)):
            yield from reader.read(table, user=name)

    def _write(self, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            self._within(lambda chunk=chunk: self._target.insert(table, columns, chunk))

    def _within(self, run: Callable[[], object]) -> None:
        self._db.execute("BEGIN")
        run()
        self._db.execute("COMMIT")


def _has(manifest: Manifest, table: str) -> bool:
    return any(content.table.name == table for content in manifest.tables)


def _listed(ranges: Iterator[list[tuple[Any, ...]]]) -> list[tuple[int, int]]:
    return sorted((first, last) for rows in ranges for first, last in rows)


def _is_last(place: tuple[int, int], touched: dict[int, int]) -> bool:
    """Whether a row was read in the last round in which its record was."""
    row, number = place
    return touched.get(row, 0) == number
