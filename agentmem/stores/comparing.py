"""Two databases of one store, the older one a copy: what differs although nothing has happened to it since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from agentmem.stores.connection import Connection, Row
from agentmem.stores.schema import ERASED

_WINDOW = 500
_UNTOLD = frozenset({"aged_from", "fingerprint"})
"""Columns of records that may change without an event."""


class _Table(NamedTuple):
    name: str
    live: str
    other: str
    key: str
    columns: tuple[str, ...]
    row: int


class Comparison:
    """Compares ``other``, which has events up to ``seq``, with ``live``, which goes on meanwhile.

    What anything happened to since is passed over, and so are records that are gone since. With ``partial``, ``other``
    may lack records. ``compared`` counts the records that were looked at.
    """

    def __init__(self, live: Connection, other: Connection, seq: int, generation: int, *, partial: bool) -> None:
        self._live, self._other, self._seq, self._partial = live, other, seq, partial
        self._generation = generation
        self.compared = 0

    def differences(self, pause: Callable[[], object]) -> Iterator[str]:
        """What differs, in words."""
        for name in ("records", "embeddings", "more_embeddings", "history"):
            live, other = name, name
            if name.endswith("embeddings"):
                live, other = f"{name}_{self._generation}", f"{name}_1"
            yield from self._compare(self._table(name, live, other, "seq" if name == "history" else "row"), pause)

    def _table(self, name: str, live: str, other: str, key: str) -> _Table:
        there = {row[1] for row in self._other.execute(f"PRAGMA table_info({other})")}
        names = [row[1] for row in self._live.execute(f"PRAGMA table_info({live})")]
        columns = tuple(column for column in names if column in there - _UNTOLD)
        return _Table(name, live, other, key, columns, columns.index("row"))

    def _compare(self, table: _Table, pause: Callable[[], object]) -> Iterator[str]:
        after = 0
        [(last,)] = self._other.execute(f"SELECT coalesce(max({table.key}), 0) FROM {table.other}")
        last = min(last, self._seq) if table.key == "seq" else last
        while after < last:
            until = after + _WINDOW
            where = f"WHERE {table.key} > ? AND {table.key} <= ?"
            columns = ", ".join(table.columns)
            live = self._live.execute(f"SELECT {columns} FROM {table.live} {where}", (after, min(until, last)))
            other = self._other.execute(f"SELECT {columns} FROM {table.other} {where}", (after, min(until, last)))
            self.compared += len(other) if table.name == "records" else 0
            yield from self._unlike(table, live, other)
            after = until
            pause()

    def _unlike(self, table: _Table, live: Sequence[Row], other: Sequence[Row]) -> Iterator[str]:
        here, there = set(live), set(other)
        if here == there:
            return
        known = {row[table.row] for row in there}
        for row in sorted({row[table.row] for row in here ^ there} - {0}):
            if not self._is_excused(row, lacking=row not in known):
                yield f"{table.name} of row {row} are not those that the store has, to which nothing has happened since"

    def _is_excused(self, row: int, *, lacking: bool) -> bool:
        found = self._live.execute("SELECT state FROM records WHERE row = ?", (row,))
        if not found or (lacking and (self._partial or found[0][0] == ERASED)):
            return True
        return bool(self._live.execute("SELECT 1 FROM history WHERE row = ? AND seq > ? LIMIT 1", (row, self._seq)))
