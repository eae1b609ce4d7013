"""Records counted, as a whole and by what they have in common; a window of them at a time, a few milliseconds each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from agentmem.stores.connection import Value
from agentmem.stores.records import UNEXPIRED, Records
from agentmem.stores.rows import ScopeKey
from agentmem.stores.schema import LIVE
from agentmem.stores.timeline import Conditions, Range, during
from agentmem.types.clock import Micros

GROUPED_BY = {"users": "r.user, NULL", "agents": "r.user, r.agent", "runs": "r.user, r.run", "kinds": "NULL, r.kind"}
"""What records are counted by: the number of their user, where it matters, and what else they have in common."""
_APART = {"agents": "r.agent != 0", "runs": "r.run != 0"}
_LAST_NAME = 2**62
_HIGHEST = "\U0010ffff"
_HELD = 10_000
_LAPSED = 1_000
_NAMES = 20_000
_NAMES_AT_ONCE = 500
_WHEN = "coalesce(r.occurred_at, r.created_at)"


class Group(NamedTuple):
    """Live records with the same user and the same number or name, and the times of the first and the last event."""

    user: int | None
    common: int | str | None
    records: int
    first: Micros
    last: Micros


def grouped(records: Records, key: ScopeKey, by: str, now: Micros) -> list[Group]:
    """The live records of a scope by one of ``GROUPED_BY``, in no order."""
    scope, params = key.where()
    where = " AND ".join([scope, UNEXPIRED, *([_APART[by]] if by in _APART else [])])
    found = dict[tuple[int | None, int | str | None], Group]()
    for low, high in records.windows(scope, params):
        rows = records.db.execute(
            f"SELECT {GROUPED_BY[by]}, count(*), min({_WHEN}), max({_WHEN}) FROM records r "
            f"WHERE {where} AND r.row > ? AND r.row <= ? GROUP BY 1, 2",
            (*params, now, low, high),
        )
        for group in map(Group._make, rows):
            before = found.get(group[:2])
            if before is not None:
                group = Group(
                    *group[:2],
                    before.records + group.records,
                    min(before.first, group.first),
                    max(before.last, group.last),
                )
            found[group[:2]] = group
    return list(found.values())


def users_before(records: Records, number: int | None, limit: int) -> list[int]:
    """The numbers of the next users with live records, below one (None: from the top), the highest first; 0 is nobody.

    A step of the index for each, however many records and other names there are.
    """
    sql = "SELECT user FROM records INDEXED BY records_by_user WHERE state = 0 AND user < ? ORDER BY user DESC LIMIT 1"
    found = list[int]()
    at = _LAST_NAME if number is None else number
    while len(found) < limit:
        below = records.db.execute(sql, (at,))
        if not below:
            break
        found.append(at := below[0][0])
    return found


def users_with_most(records: Records, limit: int) -> list[int]:
    """The numbers of the users with the most live records, the one with the most first; 0 is nobody."""
    sql = (
        f"SELECT user FROM records INDEXED BY records_by_user WHERE state = {LIVE} GROUP BY user "
        "ORDER BY count(*) DESC, user DESC LIMIT ?"
    )
    return [number for (number,) in records.db.execute(sql, (limit,))]


def held(records: Records, number: int) -> tuple[int, Micros, Micros] | None:
    """How many live records a user has, in whatever namespaces, and when the first and the last of them were added;
    None where there are none. Reads an index and no records, so what has lapsed and was not swept yet counts, too."""
    total, rows = 0, list[int]()
    rest, space, row = "space > ?", -1, 0  # an index is entered by both at once only with the space alone or equal
    while True:
        where = f"FROM records INDEXED BY records_by_user WHERE state = 0 AND user = ? AND {rest}"
        bound = (number, space) if rest == "space > ?" else (number, space, row)
        size, first, last = records.db.execute(
            f"SELECT count(*), min(row), max(row) FROM (SELECT row {where} ORDER BY space, row LIMIT {_HELD})", bound
        )[0]
        if size:
            total, rows = total + size, [*rows, first, last]
        if size == _HELD:
            end = f"SELECT space, row {where} ORDER BY space, row LIMIT 1 OFFSET {_HELD - 1}"
            found = records.db.execute(end, bound)
            if found:
                rest, (space, row) = "space = ? AND row > ?", found[0]
                continue
        if rest == "space > ?":
            break
        rest = "space > ?"
    if not rows:
        return None
    when = "SELECT min(created_at), max(created_at) FROM records WHERE row IN (?, ?)"
    first_at, last_at = records.db.execute(when, (min(rows), max(rows)))[0]
    return None if first_at is None else (total, first_at, last_at)


def users_named(records: Records, prefix: str, after: str, limit: int) -> tuple[list[int], str | None]:
    """The numbers of the next users whose names begin so, by name; and the name to go on after, None at the end.

    Names of other things are passed over, up to ``_NAMES`` of them, so there may be fewer where more follow.
    """
    found, at = list[int](), after
    sql = (
        "SELECT n, value, EXISTS (SELECT 1 FROM records r WHERE r.user = names.n AND r.state = 0) FROM names "
        "WHERE value >= ? AND value > ? AND value < ? ORDER BY value LIMIT ?"
    )
    for _ in range(_NAMES // _NAMES_AT_ONCE):
        rows = records.db.execute(sql, (prefix, at, prefix + _HIGHEST, _NAMES_AT_ONCE))
        for number, at, there in rows:
            if there:
                found.append(number)
                if len(found) == limit:
                    return found, at
        if len(rows) < _NAMES_AT_ONCE:
            return found, None
    return found, at


def column(
    records: Records, key: ScopeKey, sql: str, conditions: Conditions, within: Range, now: Micros
) -> Iterator[list[Any]]:
    """The different values of an expression on ``records r``, without NULL, of a window of live records at a time."""
    scope, params = key.where()
    times, limits = during(within)
    where = " AND ".join([scope, UNEXPIRED, *times, *conditions[0]])
    bound = (*params, now, *limits, *conditions[1])
    statement = f"SELECT DISTINCT {sql} FROM records r WHERE {where} AND r.row > ? AND r.row <= ?"
    for ends in records.windows(scope, params):
        yield [row[0] for row in records.db.execute(statement, (*bound, *ends)) if row[0] is not None]


def count(records: Records, key: ScopeKey, conditions: Conditions, within: Range, now: Micros) -> int:
    """How many live records of a scope satisfy the conditions and happened within the range."""
    scope, params = key.where()
    times, limits = during(within)
    where = " AND ".join([scope, UNEXPIRED, *times, *conditions[0]])
    bound = (*params, now, *limits, *conditions[1])
    between = "r.row > ? AND r.row <= ?"
    sql = f"SELECT count(*) FROM records r WHERE {where} AND {between}"
    if not times and not conditions[0] and _few_lapsed(records, now):
        # The ends of records are in no index of scopes: those that have lapsed are taken off, and no record is read.
        lapsed, own = _lapsed(key)
        sql = f"SELECT count(*) - (SELECT count(*) {lapsed} AND {between}) FROM records r WHERE {scope} AND {between}"
        return sum(
            records.db.execute(sql, (*own, now, *ends, *params, *ends))[0][0] for ends in records.windows(scope, params)
        )
    return sum(records.db.execute(sql, (*bound, *ends))[0][0] for ends in records.windows(scope, params))


def by_space(records: Records, key: ScopeKey, now: Micros) -> dict[int, int]:
    """How many live records each namespace of a scope has. What has lapsed is counted apart: those are few."""
    where, params = _tests(key)
    counts = "SELECT r.space, count(*)"
    found = dict(records.db.execute(f"{counts} FROM records r WHERE {where} AND r.space != 0 GROUP BY 1", params))
    lapsed, own = _lapsed(key)
    for space, count in records.db.execute(f"{counts} {lapsed} AND r.space != 0 GROUP BY 1", (*own, now)):
        found[space] -= count
    return {space: count for space, count in found.items() if count}


def _tests(key: ScopeKey) -> tuple[str, list[Value]]:
    """The condition that a live record lies in a scope, driven by no index in particular."""
    tests = key.tests()
    where = " AND ".join([f"r.state = {LIVE}", *(test for _, test, _ in tests)])
    return where, [value for _, _, bound in tests for value in bound]


def _lapsed(key: ScopeKey) -> tuple[str, list[Value]]:
    """Live records of a scope whose end has come, by the index of ends; after its parameters comes the time."""
    where, params = _tests(key)
    ends = "r.expires_at IS NOT NULL AND r.expires_at <= ?"
    return f"FROM records r INDEXED BY records_by_expiry WHERE {where} AND {ends}", params


def _few_lapsed(records: Records, now: Micros) -> bool:
    """Whether hardly any record waits for the sweep that removes it, as where sweeps run."""
    sql = (
        f"SELECT count(*) FROM (SELECT 1 FROM records INDEXED BY records_by_expiry WHERE state = {LIVE} "
        "AND expires_at IS NOT NULL AND expires_at <= ? LIMIT ?)"
    )
    return records.db.execute(sql, (now, _LAPSED + 1))[0][0] <= _LAPSED
