"""The store's tables as rows, whatever their columns are: read a few at a time while others write, and written anew.

Which tables make up a store stands here, once: what is not named is derived from these, and made anew. Columns are
those that the database has, so that a migration adds its own without a word here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from agentmem.stores import accounting, meta
from agentmem.stores.connection import CHUNK, Connection, Row, Value
from agentmem.stores.rows import exact
from agentmem.stores.schema import ERASED, LIVE
from agentmem.types.clock import now_micros

NAMED = ("user", "agent", "run", "space")
"""The columns of ``records`` that hold numbers of names."""
EITHER = frozenset({("records", "id"), ("records", "key"), ("names", "value"), ("meta", "value")})
"""Columns that hold text in some rows, and bytes in others."""

_BY_ROW = ("records", "history", "accesses", "bodies", "archived", "value_chunks")
_OF_MODEL = ("embeddings", "more_embeddings")
_WHOLE = ("erasures",)
_META = frozenset({*meta.MODEL_KEYS, meta.ERASURE_KEY, meta.FIRST_KEYS, meta.PURGED, meta.FORMER_KEYS})
"""What is kept of ``meta``: the model, and what is known of erased records. The rest is about copies of this store."""
_MOST_ROWS, _MOST_BYTES, _MOST_EVENTS = 500, 4 * 2**20, 5_000
_MOVING = ("ARCHIVE", "REHYDRATE")
"""Events after which what a record says lies elsewhere, or here again."""
_REPLACING = ("ADD", "UPDATE", "RESTORE", "ERASE", *_MOVING)
"""Events after which a record may have other embeddings."""
_EMBEDDED = (
    " AND EXISTS (SELECT 1 FROM history h WHERE h.row = t.row AND h.seq > {after} AND h.event IN "
    f"({', '.join(map(repr, _REPLACING))}))"
)
_BROUGHT = (
    " AND (t.version >= (SELECT min(h.version) FROM history h WHERE h.row = t.row AND h.seq > {after}) OR EXISTS "
    "(SELECT 1 FROM history h WHERE h.row = t.row AND h.seq > {after} AND h.event = 'REHYDRATE'))"
)
_CHANGED = {
    "history": " AND t.seq > {after}",
    "bodies": _BROUGHT,
    "value_chunks": _BROUGHT,
    "embeddings": _EMBEDDED,
    "more_embeddings": _EMBEDDED,
}


class Columns(NamedTuple):
    """A table: its name outside of the store and inside, its columns, and their declared types."""

    name: str
    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]


class Source:
    """The tables of a store, read on a connection of its own."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.generation = int(meta.get(db, meta.GENERATION) or 1)
        self.by_row = tuple(self._columns(name, name) for name in _BY_ROW)
        self.by_row += tuple(self._columns(name, f"{name}_{self.generation}") for name in _OF_MODEL)
        """Tables that belong to records, ``records`` first."""
        self.whole = tuple(self._columns(name, name) for name in _WHOLE)
        """Tables that are the store's own."""

    def _columns(self, name: str, table: str) -> Columns:
        found = self.db.execute(f"PRAGMA table_info({table})")
        return Columns(name, table, tuple(row[1] for row in found), tuple(row[2] for row in found))

    def model(self) -> dict[str, Any]:
        """Whose vectors these are: ``model``, ``dim``, ``fingerprint``, ``model_spec``."""
        return {key: meta.get(self.db, key) for key in meta.MODEL_KEYS}

    def count(self) -> int:
        """How many records there are, in whatever state."""
        return int(self.db.execute("SELECT count(*) FROM records")[0][0])

    def last_seq(self) -> int:
        """The newest event's number; 0 if nothing ever happened."""
        return int(self.db.execute("SELECT coalesce(max(seq), 0) FROM history")[0][0])

    def has_moved(self) -> bool:
        """Whether the store uses another model's vectors by now."""
        return int(meta.get(self.db, meta.GENERATION) or 1) != self.generation

    def walk(self, table: Columns, pause: Callable[[], object]) -> Iterator[list[tuple[int, Row]]]:
        """Everything that the table has when this begins, with the number of the user whose it is, 0 for none."""
        last = self.db.execute(f"SELECT coalesce(max(rowid), 0) FROM {table.table}")[0][0]
        sql = f"{self._select(table)} WHERE t.rowid > ? AND t.rowid <= ? ORDER BY t.rowid LIMIT ?"
        at, most = 0, _MOST_ROWS // 4
        while found := self.db.execute(sql, (at, last, most)):
            at = found[-1][1]
            yield [(row[0], row[2:]) for row in found]
            size = sum(len(value) for row in found for value in row if isinstance(value, (str, bytes)))
            most = max(1, most // 2) if size > _MOST_BYTES else min(_MOST_ROWS, most * 2)
            pause()

    def of_rows(self, table: Columns, rows: Sequence[int], after: int | None = None) -> Iterator[list[tuple[int, Row]]]:
        """What the table has of these records now; row 0 is the store itself.

        With ``after``, what events after that one may have changed: those events, the bodies that they brought,
        embeddings where there was an event that may have replaced them.
        """
        also = "" if after is None else _CHANGED.get(table.name, "").format(after=after)
        for start in range(0, len(rows), CHUNK):
            sql = f"{self._select(table)} WHERE t.row IN ({{}}){also} ORDER BY t.rowid"
            yield [(row[0], row[2:]) for row in self.db.select_in(sql, rows[start : start + CHUNK])]

    def touched(self, after: int, last: int, pause: Callable[[], object] = lambda: None) -> list[int]:
        """Records, by row, that anything happened to after an event and up to another; 0 is the store itself."""
        found, sql = set[int](), "SELECT row FROM history WHERE seq > ? AND seq <= ?"
        for low in range(after, last, _MOST_EVENTS):
            found.update(row for (row,) in self.db.execute(sql, (low, min(last, low + _MOST_EVENTS))))
            pause()
        return sorted(found)

    def rows_of_user(self, user: int) -> list[int]:
        """The rows of a user's records, of 0 nobody's, in whatever state but erased, ascending."""
        found, hidden = list[int](), list[int]()
        for rows, state in ((found, f"state = {LIVE}"), (hidden, f"state != {LIVE}")):
            where = f"user = ? AND {state} AND state != {ERASED} AND row > ?"
            sql = f"SELECT row FROM records WHERE {where} ORDER BY row LIMIT ?"
            while chunk := self.db.execute(sql, (user, rows[-1] if rows else 0, _MOST_EVENTS)):
                rows += (row for (row,) in chunk)
        return sorted(found + hidden)

    def those_of(self, user: int, rows: Sequence[int]) -> list[int]:
        """Of these records those of a user, and those that are gone."""
        others = self.db.select_in(f"SELECT row FROM records WHERE row IN ({{}}) AND user != {user}", rows)
        return sorted(set(rows) - {row for (row,) in others} - {0})

    def user(self, name: str) -> int | None:
        """The number of a user's name as it is spelled; None for nobody's."""
        found = self.db.execute("SELECT n FROM names WHERE value = ?", (name,))
        return int(found[0][0]) if found else None

    def present(self) -> Iterator[tuple[int, int]]:
        """The rows that there are, as ranges with both ends, ascending."""
        first, last = 0, -1
        sql = "SELECT row FROM records WHERE row > ? ORDER BY row LIMIT ?"
        while found := self.db.execute(sql, (max(last, 0), _MOST_EVENTS)):
            for (row,) in found:
                if row != last + 1:
                    if last > 0:
                        yield first, last
                    first = row
                last = row
        if last > 0:
            yield first, last

    def purged(self) -> int:
        """The last event that was removed with its record; 0 for none."""
        return int(meta.get(self.db, meta.PURGED) or 0)

    def chunks(self, after: int, only: int | None, limit: int) -> list[Row]:
        """The next chunks of values after a number, of one user where ``only`` is his: their columns in the table."""
        whose = "" if only is None else f" AND user = {only:d}"
        return self.db.execute(f"SELECT * FROM chunks WHERE n > ?{whose} ORDER BY n LIMIT ?", (after, limit))

    def names(self, numbers: Iterable[int]) -> dict[int, str | bytes]:
        """Names by their numbers, those that there are."""
        return dict(self.db.select_in("SELECT n, value FROM names WHERE n IN ({})", numbers))

    def rows_of(self, table: Columns) -> list[Row]:
        """All of a table that is the store's own."""
        return self.db.execute(f"SELECT {', '.join(table.columns)} FROM {table.table}")

    def noted(self) -> list[Row]:
        """``(key, value)`` of what is kept of the store's bookkeeping."""
        return [row for row in self.db.execute("SELECT key, value FROM meta") if row[0] in _META]

    def restored_from(self) -> tuple[str | None, int]:
        """The lineage of the backup that the store was made of, and the last row that it had from there."""
        lineage, _, row = str(meta.get(self.db, meta.RESTORED) or "").partition(" ")
        return lineage or None, int(row or 0)

    def sequences(self) -> list[Row]:
        """``(table, number)``: the last number that each table has given out."""
        return self.db.execute("SELECT name, seq FROM sqlite_sequence")

    def migrations(self) -> list[str]:
        """Those that the database has gone through."""
        return [row[0] for row in self.db.execute("SELECT name FROM migrations ORDER BY name")]

    @staticmethod
    def _select(table: Columns) -> str:
        columns = ", ".join(f"t.{column}" for column in table.columns)
        return (
            f"SELECT coalesce(r.user, 0), t.rowid, {columns} FROM {table.table} t LEFT JOIN records r ON r.row = t.row"
        )


class Target:
    """A new database, into which tables are written that were read elsewhere. The caller has it to himself."""

    def __init__(self, db: Connection) -> None:
        self.db = db

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """Add rows, in the place of what has their numbers, or their names."""
        table = f"{table}_1" if table in _OF_MODEL else table
        self.db.insert(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES {{}}",
            [tuple(map(exact, row)) for row in rows],
        )

    def make_room(self, events: Iterable[tuple[int, str]]) -> None:
        """Remove what records have that is replaced by what comes next, as their events ``(row, event)`` tell."""
        rows, moved = dict[int, bool](), set[int]()
        for row, event in events:
            rows[row] = rows.get(row, False) or event in _REPLACING
            if event in _MOVING:
                moved.add(row)
        if moved:  # a database of a version without archives has neither
            self.db.executemany("DELETE FROM archived WHERE row = ?", [(row,) for row in moved])
        changed = [row for row, replaced in rows.items() if replaced]
        for table in _OF_MODEL:
            self.db.executemany(f"DELETE FROM {table}_1 WHERE row = ?", [(row,) for row in changed])

    def erase(self, rows: Iterable[int]) -> None:
        """Remove what records say beside what stands in the records themselves."""
        bound = [(row,) for row in rows]
        known = {row[0] for row in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in known & {"bodies", "accesses", "archived", *(f"{name}_1" for name in _OF_MODEL)}:
            self.db.executemany(f"DELETE FROM {table} WHERE row = ?", bound)
        self.db.executemany("UPDATE history SET data = NULL WHERE row = ?", bound)

    def keep(self, present: Iterable[tuple[int, int]], limit: int | None = None) -> None:
        """Remove records whose rows are in none of these ranges, which ascend; with ``limit``, up to that row."""
        before, sql = 0, "DELETE FROM records WHERE row > ? AND row < ?"
        gaps = list[tuple[int, int]]()
        for first, last in present:
            if first > before + 1:
                gaps.append((before, first))
            before = last
        gaps.append((before, 2**62))
        most = 2**62 if limit is None else limit + 1
        self.db.executemany(sql, [(low, min(high, most)) for low, high in gaps])

    def note(self, rows: Iterable[tuple[str, Any]]) -> None:
        """Put back what was kept of the bookkeeping."""
        for key, value in rows:
            if key in _META:
                meta.put(self.db, key, value)

    def finish(self, sequences: Sequence[tuple[str, int]]) -> None:
        """Make the accounts anew, and see to it that no number is given out twice.

        An erased record that was removed while it was being read, half of which came along, goes for good, and so does
        one whose first events cannot be read any more.
        """
        known = {row[0] for row in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        kept = [(name, number) for name, number in sequences if name in known]
        self.db.executemany("DELETE FROM sqlite_sequence WHERE name = ?", [(name,) for name, _ in kept])
        self.db.executemany("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", kept)
        self.db.execute(
            f"DELETE FROM records WHERE state = {ERASED} AND version != "
            "coalesce((SELECT max(version) FROM history h WHERE h.row = records.row), -1)"
        )
        self.db.execute(
            f"DELETE FROM records WHERE state = {ERASED} AND "
            "coalesce((SELECT event FROM history h WHERE h.row = records.row ORDER BY seq LIMIT 1), '') != 'ADD'"
        )
        for table in (*_BY_ROW[1:], *(f"{name}_1" for name in _OF_MODEL)):
            self.db.execute(f"DELETE FROM {table} WHERE row != 0 AND row NOT IN (SELECT row FROM records)")
        self.db.execute("DELETE FROM chunks WHERE n NOT IN (SELECT chunk FROM value_chunks)")
        self.db.execute("DELETE FROM loose_chunks")
        used = " UNION ".join(f"SELECT {column} FROM records" for column in NAMED)
        self.db.execute(f"DELETE FROM names WHERE n NOT IN ({used})")
        self.db.execute("UPDATE accesses SET touched = 1")
        self._mark_the_end(dict(kept).get("history", 0))
        last = self.db.execute("SELECT coalesce(max(row), 0) FROM records")[0][0]
        meta.put(self.db, meta.SETTLED, last)
        accounting.recount(self.db)

    def _mark_the_end(self, number: int) -> None:
        """Where the last events that were given a number are not there, put one of the store's own after them: what
        follows the history waits for the last one, and who knows of those that are missing is to start anew."""
        [(last,)] = self.db.execute("SELECT coalesce(max(seq), 0) FROM history")
        if number > last:
            self.db.execute(
                "INSERT INTO history (seq, row, event, at, version) VALUES (?, 0, 'ERASE', ?, 0)",
                (number + 1, now_micros()),
            )
            meta.put(self.db, meta.PURGED, number)
