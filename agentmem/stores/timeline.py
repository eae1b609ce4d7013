"""A scope's records by the time of the event, whatever the order in which they were added.

The time of an event is ``occurred_at``. What has none stands where it was added, at its ``created_at``: such records
follow each other in the order of adding, even where the clock was set back in between. So there are two walks, one
through each kind, and the two are merged; ties go by the order of adding. Only what has an ``occurred_at`` is in an
index of times, so that adding what is said right now costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from agentmem.stores.connection import Connection, Row, Value
from agentmem.stores.rows import Place, ScopeKey
from agentmem.stores.schema import LIVE
from agentmem.types.clock import Micros

LARGEST = 2_000
"""Records that one statement looks at: a few milliseconds."""
_SMALLEST = 64
_GROWTH = 4


class Position(NamedTuple):
    """How far a walk has come: the row among records without a date, the place among the others; None: not begun."""

    plain: int | None = None
    dated: Place | None = None


class Range(NamedTuple):
    """Times ``since <= t < until``; None: no end."""

    since: Micros | None = None
    until: Micros | None = None


Conditions: TypeAlias = tuple[Sequence[str], Sequence[Value]]
"""SQL on ``records r``, all of which have to hold, and what it binds."""


def walk(
    db: Connection,
    key: ScopeKey,
    conditions: Conditions,
    within: Range,
    *,
    newest_first: bool,
    start: Position,
) -> Iterator[tuple[int, Position]]:
    """Row numbers of live records by the time of their event, each with the position after it.

    However rarely the conditions are met, no statement takes more than some milliseconds.
    """
    begun = None if start.plain is None else (0, start.plain)
    plain = _Plain(db, key, conditions, within, newest_first, begun)
    dated = _Dated(db, key, conditions, within, newest_first, start.dated)
    while True:
        one, other = plain.head(), dated.head()
        if one is None and other is None:
            return
        first = one is not None and (other is None or (one > other if newest_first else one < other))
        row = (plain if first else dated).take()
        yield row, Position(None if plain.passed is None else plain.passed[1], dated.passed)


class _Walk:
    """Through one kind of records; ``passed`` is the place up to which everything was taken or did not qualify."""

    def __init__(
        self,
        db: Connection,
        key: ScopeKey,
        conditions: Conditions,
        within: Range,
        newest_first: bool,
        start: Place | None,
    ) -> None:
        self.passed = start
        self._db = db
        self._key = key
        self._conditions = conditions
        self._within = within
        self._newest_first = newest_first
        self._read = start
        self._ended = False
        self._size = _SMALLEST
        self._ready = deque[Place]()

    def head(self) -> Place | None:
        """The next record's time and row; None if there is none."""
        while not self._ready and not self._ended:
            self.passed = self._read
            found = self._more(self._size, "DESC" if self._newest_first else "ASC")
            self._ended = len(found) < self._size
            self._size = min(LARGEST, self._size * _GROWTH)
            self._ready.extend((at, row) for at, row, qualifies in found if qualifies)
            if found:
                self._read = found[-1][0], found[-1][1]
        if not self._ready:
            self.passed = self._read
        return self._ready[0] if self._ready else None

    def take(self) -> int:
        """The row of the next record, which is passed now."""
        self.passed = self._ready.popleft()
        return self.passed[1]

    def _more(self, size: int, direction: str) -> list[Row]:
        """The next ``(time, row, whether it qualifies)``."""
        raise NotImplementedError

    def _test(self, *more: str) -> str:
        """Whether a record is in the scope and satisfies the conditions, as one expression; binds ``_tested``."""
        scope = [sql for _, sql, _ in self._key.tests()]
        return " AND ".join([*more, *scope, *self._conditions[0]]) or "1"

    def _tested(self) -> list[Value]:
        return [*(value for _, _, bound in self._key.tests() for value in bound), *self._conditions[1]]


class _Plain(_Walk):
    """Records without a date, in the order of adding."""

    def _more(self, size: int, direction: str) -> list[Row]:
        key = self._key
        indexed, params = "1", list[Value]()
        narrow = key.user or key.space or key.path
        for column, value in (("run", key.run), ("agent", None if narrow else key.agent), ("user", key.user)):
            if value is not None:
                indexed, params = f"r.{column} = ?" + f" AND r.{column} != 0" * (column != "user"), [value]
                if column == "user" and key.space is not None:
                    indexed, params = f"{indexed} AND r.space = ?", [value, key.space]
                break
        if self._read is not None:
            indexed += f" AND r.row {'<' if self._newest_first else '>'} ?"
            params.append(self._read[1])
        times, limits = _times("r.created_at", self._within)
        return self._db.execute(
            f"SELECT r.created_at, r.row, {self._test('r.occurred_at IS NULL', *times)} FROM records r "
            f"WHERE r.state = {LIVE} AND {indexed} ORDER BY r.row {direction} LIMIT ?",
            (*limits, *self._tested(), *params, size),
        )


class _Dated(_Walk):
    """Records with a date, by that."""

    def _more(self, size: int, direction: str) -> list[Row]:
        index, indexed, params = "records_dated", list[str](), list[Value]()
        if self._key.run:
            index, indexed, params = "records_dated_by_run", ["r.run = ?", "r.run != 0"], [self._key.run]
        elif self._key.user is not None and self._key.space is not None:
            index, indexed = "records_dated_by_user", ["r.user = ?", "r.space = ?"]
            params = [self._key.user, self._key.space]
        times, limits = _times("r.occurred_at", self._within)
        if self._read is not None:
            at, row = self._read
            than = "<" if self._newest_first else ">"
            times.append(f"r.occurred_at {than}= {INSTANT} AND (r.occurred_at {than} {INSTANT} OR r.row {than} ?)")
            limits += [str(at), str(at), row]
        where = " AND ".join([f"r.state = {LIVE}", "r.occurred_at IS NOT NULL", *indexed, *times])
        return self._db.execute(
            f"SELECT r.occurred_at, r.row, {self._test()} FROM records r INDEXED BY {index} WHERE {where} "
            f"ORDER BY r.occurred_at {direction}, r.row {direction} LIMIT ?",
            (*self._tested(), *params, *limits, size),
        )


INSTANT = "CAST(? AS INTEGER)"
"""Bound as text: the driver turns large ints into floats."""


def _times(column: str, within: Range) -> tuple[list[str], list[Value]]:
    """SQL for a time in the range."""
    terms, params = list[str](), list[Value]()
    for compare, value in ((">=", within.since), ("<", within.until)):
        if value is not None:
            terms.append(f"{column} {compare} {INSTANT}")
            params.append(str(value))
    return terms, params


def added_before(instant: Micros) -> Conditions:
    """The condition that a record was added before an instant."""
    return _times("r.created_at", Range(until=instant))


def during(within: Range) -> Conditions:
    """The condition that a record's event lies in the range."""
    return _times("coalesce(r.occurred_at, r.created_at)", within)
