"""A full backup of a store that is in use: its rows as they are at one event, and nothing held up meanwhile.

Tables are read a few rows at a time, without a transaction, which would keep the log from being emptied, and with it
an erase from being complete. What happened to records while that went on is in the feed; those are read again, in
rounds that get shorter, the last one in a transaction. What was read in a later round takes the place of what was read
before, so the backup is the state at the event that this transaction saw.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.tables import Table
from agentmem.archive.writing import ArchiveWriter
from agentmem.backup import lineage
from agentmem.backup.lineage import Entry, Head, archive_name
from agentmem.backup.tables import NAMES, NOTED, SEQUENCES, TOUCHED, table_of, to_archive
from agentmem.engine.engine import Engine
from agentmem.stores import meta
from agentmem.stores.connection import Row
from agentmem.stores.copying import NAMED, Columns, Source
from agentmem.stores.folder import BACKUP_LOCK
from agentmem.stores.locks import FileLock
from agentmem.stores.writes import Repository
from agentmem.types.errors import StoreError, StoreLockedError
from agentmem.types.patience import Pace

_ROUNDS = 8
_FEW = 1_000
"""Events whose records are read inside of a transaction."""
_NAMES_KEPT = 200_000
_REST = 0.5


def create(
    engine: Engine,
    objects: Objects,
    keyring: KeyRing | None = None,
    *,
    description: str | None = None,
    new_lineage: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Entry:
    """Back up the store as it is now; the entry of the new backup.

    ``new_lineage`` goes on without the backups that are there, for a store that does not know the newest of them.
    ``progress`` is called with the records read so far and their number. Raises ``ConflictError`` where the store is
    not the newest of its lineage, ``StoreError`` where it moves to another model meanwhile, ``ReadOnlyError``, and what
    ``Objects`` and ``KeyRing`` raise. On an error no backup was added, and what was written of it is removed.
    """
    engine.check_process()
    engine.check_writable()
    with _alone(engine):
        before = _head(engine, objects, new_lineage=new_lineage)
        token, number = secrets.token_hex(8), before.number + 1
        name = archive_name(before.lineage, number, token)
        with closing(engine.repository.db.another()) as connection:
            source = Source(connection)
            writer = ArchiveWriter(objects, name, tables_of(source), keyring=keyring, model=source.model())
            with writer:
                copy = _Copy(source, writer, Pace(lambda: engine.commits.requests, _REST), progress)
                copy.run()
                at = engine.now()
                about = {"kind": "full", "lineage": before.lineage, "number": number, "previous": before.sha256}
                about |= {"seq": copy.seq, "at": at, "description": description, "migrations": source.migrations()}
                written = writer.finish(about)
        entry = Entry(
            before.lineage, number, before.sha256, name, written.sha256, "full", copy.seq, at,
            copy.records, written.size, description, token,
        )  # fmt: skip
        # Killed between the two, the store knows its entry by the token.
        _note(engine, objects, replace(before, token=token))
        sha256 = lineage.add(objects, entry)
        _note(engine, objects, Head(before.lineage, number, sha256))
    return entry


def forget(engine: Engine, keyring: KeyRing, user_id: str) -> bool:
    """Delete a user's key for ever; whether there was one. Raises ``StoreLockedError`` while a backup is being made.

    What that one holds of the user since he came back would be lost with what it holds from before.
    """
    engine.check_process()
    with _alone(engine):
        return keyring.delete(user_id)


@contextmanager
def _alone(engine: Engine) -> Generator[None]:
    lock = FileLock(engine.path / BACKUP_LOCK)
    with closing(lock):
        if not lock.try_acquire():
            raise StoreLockedError(f"{engine.path} is being backed up already; wait for that to end")
        yield


def _head(engine: Engine, objects: Objects, *, new_lineage: bool) -> Head:
    """The entry before the next one. Raises ``ConflictError`` for a store that does not know the newest."""

    def claim(repository: Repository) -> Head:
        if new_lineage:
            repository.set_meta(meta.BACKUPS, None)
        known = lineage.head(repository.db, objects.url)
        lineage.note_head(repository.db, objects.url, known)
        return known

    known = engine.write(claim)
    newest = max(lineage.numbers(objects, known.lineage), default=0)
    if newest <= known.number:
        return known
    entry, sha256 = lineage.read(objects, known.lineage, newest)
    if newest == known.number + 1 and known.token == entry.token:
        return Head(known.lineage, newest, sha256)
    raise lineage.overtaken(objects, known.lineage, newest)


def _note(engine: Engine, objects: Objects, head: Head) -> None:
    engine.write(lambda repository: lineage.note_head(repository.db, objects.url, head))


def tables_of(source: Source) -> list[Table]:
    """The tables of a full backup."""
    made = [table_of(columns, rounds=True) for columns in source.by_row]
    return made + [table_of(columns) for columns in (*source.whole, NAMES, NOTED, SEQUENCES, TOUCHED)]


class _Copy:
    """Reads the store into an archive. ``seq``: the event that the copy is the state at; ``records``: rows read."""

    def __init__(
        self, source: Source, writer: ArchiveWriter, pause: Callable[[], object], progress: Callable[[int, int], object]
    ) -> None:
        self._source, self._writer, self._pause, self._progress = source, writer, pause, progress
        self._users: dict[int, str | None] = {0: None}
        self._named = set[tuple[int, int]]()
        self.seq = 0
        self.records = 0

    def run(self) -> None:
        """Read everything. Raises ``StoreError`` where the store moves to another model meanwhile."""
        source = self._source
        try:
            self._read_all()
            moved = source.has_moved()
        except StoreError as exc:
            if not source.has_moved():
                raise
            raise _moved() from exc  # its table is gone
        if moved:
            raise _moved()

    def _read_all(self) -> None:
        source, db = self._source, self._source.db
        seq = source.last_seq()
        total = source.count()
        for table in source.by_row:
            for rows in source.walk(table, self._pause):
                self._take(table, rows, 0)
                if table.name == "records":
                    self.records += len(rows)
                    self._progress(self.records, max(self.records, total))
        for number in range(1, _ROUNDS):
            last = source.last_seq()
            if last - seq <= _FEW:
                break
            self._read_again(seq, last, number)
            seq = last
        db.execute("BEGIN")
        try:
            self.seq = source.last_seq()
            self._read_again(seq, self.seq, _ROUNDS)
            for table in source.whole:
                self._add_all(table, source.rows_of(table))
            self._add_all(NOTED, [_noted(key, value) for key, value in source.noted()])
            self._add_all(SEQUENCES, source.sequences())
            self.records = source.count()
        finally:
            db.execute("COMMIT")

    def _read_again(self, after: int, last: int, number: int) -> None:
        rows = self._source.touched(after, last)
        self._add_all(TOUCHED, [(row, number) for row in rows])
        for table in self._source.by_row:
            for found in self._source.of_rows(table, rows):
                self._take(table, found, number)

    def _take(self, table: Columns, found: Sequence[tuple[int, Row]], number: int) -> None:
        users = defaultdict[int, list[Row]](list)
        for user, row in found:
            users[user].append(row)
        self._learn(users)
        for user, rows in users.items():
            self._writer.add(table.name, self._users[user], [to_archive(table, row, number) for row in rows])
            if table.name == "records":
                self._add_names(user, table, rows)

    def _learn(self, users: Iterable[int]) -> None:
        """Who users are, by their numbers; one whose name is gone was erased, and what is left of him is nobody's."""
        if len(self._users) > _NAMES_KEPT:
            self._users = {0: None}
        missing = [user for user in users if user not in self._users]
        if missing:
            names = self._source.names(missing)
            self._users |= {user: name if isinstance(name := names.get(user), str) else None for user in missing}

    def _add_names(self, user: int, table: Columns, rows: Sequence[Row]) -> None:
        places = [table.columns.index(column) for column in NAMED]
        numbers = {row[place] for row in rows for place in places} - {0}
        new = {number for number in numbers if (user, number) not in self._named}
        if new:
            if len(self._named) > _NAMES_KEPT:
                self._named.clear()
            self._named |= {(user, number) for number in new}
            names = self._source.names(new)
            self._writer.add(NAMES.name, self._users[user], [to_archive(NAMES, item) for item in names.items()])

    def _add_all(self, table: Columns, rows: Sequence[Row]) -> None:
        self._writer.add(table.name, None, [to_archive(table, row) for row in rows])


def _noted(key: str, value: object) -> Row:
    return (key, value, None) if isinstance(value, int) else (key, None, value)


def _moved() -> StoreError:
    return StoreError("the store moved to another model while it was being backed up; back it up once more")
