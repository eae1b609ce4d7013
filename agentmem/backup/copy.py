"""Reading a store into an archive while it is in use: see ``create``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from agentmem.archive.tables import Table
from agentmem.archive.writing import ArchiveWriter
from agentmem.backup.chunks import ChunkReader
from agentmem.backup.lineage import Entry
from agentmem.backup.tables import CHUNKS, ERASED, NAMES, NOTED, PRESENT, SEQUENCES, TOUCHED, table_of, to_archive
from agentmem.stores import meta
from agentmem.stores.connection import Row
from agentmem.stores.copying import NAMED, Columns, Source
from agentmem.stores.folder import Folder
from agentmem.stores.past import came_at
from agentmem.types.clock import Micros
from agentmem.types.errors import StoreError

_ROUNDS = 8
_FEW = 1_000
"""Events whose records are read inside of a transaction."""
_PART = 2_000
"""Records of which everything is read before what comes next."""
_NAMES_KEPT = 200_000


def tables_of(source: Source) -> list[Table]:
    """The tables of a backup."""
    made = [table_of(columns, rounds=True) for columns in source.by_row]
    own = (NAMES, NOTED, SEQUENCES, TOUCHED, ERASED, PRESENT, CHUNKS)
    return made + [table_of(columns) for columns in (*source.whole, *own)]


class Copy:
    """Reads a store into an archive: all of it, or else what has changed since the ``last`` backup.

    ``path`` is the store's folder. ``only`` is the number of a user, 0 of nobody, whose records alone are read, without
    what is the store's own.

    Afterwards ``seq`` is the event that the copy is the state at, ``after`` the one that it goes on from (None: it is
    whole), ``records`` how many records the store has, ``first_at`` the earliest time of an event since the last
    backup, ``purged`` the last event that was removed with its record, ``chunk`` the last chunk of values.
    """

    def __init__(
        self,
        source: Source,
        writer: ArchiveWriter,
        last: Entry | None,
        pause: Callable[[], object],
        progress: Callable[[int, int], object],
        *,
        path: Folder,
        whole: bool,
        only: int | None = None,
    ) -> None:
        self._only = only
        self._chunks = ChunkReader(source, path, 0 if whole or last is None else last.chunk, only)
        self._source, self._writer, self._pause, self._progress = source, writer, pause, progress
        self._last = last
        self._users: dict[int, str | None] = {0: None}
        self._named = set[tuple[int, int]]()
        self._erased = set[int]()
        self._since = 0 if last is None else last.seq
        self.after = None if whole else self._since
        self.seq = 0
        self.records = 0
        self.first_at: Micros | None = None
        self.purged = 0
        self.chunk = 0

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
        if self.after is None:
            self._read_whole()
        else:
            self._read_changed(self.after, seq)
        for number in range(1, _ROUNDS):
            last = source.last_seq()
            if last - seq <= _FEW:
                break
            self._read_again(seq, last, number)
            seq = last
        self._read_chunks(self._pause)
        with db.standing_still():
            self.seq = source.last_seq()
            self._read_again(seq, self.seq, _ROUNDS)
            self._read_chunks()
            self.chunk = self._chunks.last
            if self._only is not None:
                self._add_all(NOTED, [_noted(key, value) for key, value in source.noted() if key in meta.MODEL_KEYS])
                self.records = len(source.rows_of_user(self._only))
                return
            self._add_all(ERASED, [(row,) for row in sorted(self._erased)])
            self.purged = source.purged()
            if self.after is None or self._last is None or self.purged != self._last.purged:
                self._add_all(PRESENT, list(source.present()))
            for table in source.whole:
                self._add_all(table, source.rows_of(table))
            self._add_all(NOTED, [_noted(key, value) for key, value in source.noted()])
            self._add_all(SEQUENCES, source.sequences())
            self.records = source.count()

    def _read_whole(self) -> None:
        if self._only is not None:
            self._read_parts(self._source.rows_of_user(self._only))
            return
        done, total = 0, self._source.count()
        for table in self._source.by_row:
            for rows in self._source.walk(table, self._pause):
                self._take(table, rows, 0)
                if table.name == "records":
                    done += len(rows)
                    self._progress(done, max(done, total))

    def _read_changed(self, after: int, last: int) -> None:
        self._read_parts(self._source.touched(after, last, self._pause))

    def _read_parts(self, rows: Sequence[int]) -> None:
        for start in range(0, len(rows), _PART):
            self._read_rows(rows[start : start + _PART], 0, self._pause)
            self._progress(min(start + _PART, len(rows)), len(rows))

    def _read_again(self, after: int, last: int, number: int) -> None:
        rows = self._source.touched(after, last)
        if self._only is not None:
            rows = self._source.those_of(self._only, rows)
        self._add_all(TOUCHED, [(row, number) for row in rows])
        self._read_rows(rows, number)

    def _read_rows(self, rows: Sequence[int], number: int, pause: Callable[[], object] = lambda: None) -> None:
        for table in self._source.by_row:
            for found in self._source.of_rows(table, rows, self.after):
                self._take(table, found, number)
                pause()

    def _read_chunks(self, pause: Callable[[], object] = lambda: None) -> None:
        """Of values, what nobody has read yet. What a row refers to that is read later was there, and is so still."""
        for user, row in self._chunks.read(pause):
            self._learn([user])
            self._writer.add(CHUNKS.name, self._users[user], to_archive(CHUNKS, [row]))

    def _take(self, table: Columns, found: Sequence[tuple[int, Row]], number: int) -> None:
        if table.name == "history":
            self._look_at_events(table, found)
        users = defaultdict[int, list[Row]](list)
        for user, row in found:
            users[user].append(row)
        self._learn(users)
        for user, rows in users.items():
            self._writer.add(table.name, self._users[user], to_archive(table, rows, number))
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
            self._writer.add(NAMES.name, self._users[user], to_archive(NAMES, names.items()))

    def _look_at_events(self, table: Columns, found: Sequence[tuple[int, Row]]) -> None:
        """Note what the events since the last backup say of it: who was erased, and when they began."""
        seq, row, event, at, data = (table.columns.index(name) for name in ("seq", "row", "event", "at", "data"))
        for _, values in found:
            if values[event] == "ERASE" and values[row]:
                self._erased.add(values[row])
            if values[seq] > self._since:
                came = came_at(values[at], values[data])
                self.first_at = came if self.first_at is None else min(came, self.first_at)

    def _add_all(self, table: Columns, rows: Sequence[Row]) -> None:
        self._writer.add(table.name, None, to_archive(table, rows))


def _noted(key: str, value: object) -> Row:
    return (key, value, None) if isinstance(value, int) else (key, None, value)


def _moved() -> StoreError:
    return StoreError("the store moved to another model while it was being backed up; back it up once more")
