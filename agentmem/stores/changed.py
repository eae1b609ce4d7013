"""A scope's live records by the time of their last change.

No index is kept of those times, since it would change with every change of a record. So a page looks at every record of
its scope, a window at a time, and keeps the ones that it is to have.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest, nsmallest

from agentmem.stores.connection import Value
from agentmem.stores.records import UNEXPIRED, Records
from agentmem.stores.rows import Place, ScopeKey
from agentmem.stores.timeline import INSTANT, Conditions, Range, during
from agentmem.types.clock import Micros


def by_change(
    records: Records,
    key: ScopeKey,
    conditions: Conditions,
    within: Range,
    now: Micros,
    *,
    newest_first: bool,
    after: Place | None,
    most: int,
) -> list[Place]:
    """The next ``most`` places: the time of the last change and the row, those of one time in the order of adding."""
    choose = nlargest if newest_first else nsmallest
    return choose(most, _places(records, key, conditions, within, now, newest_first, after, most))


def _places(
    records: Records,
    key: ScopeKey,
    conditions: Conditions,
    within: Range,
    now: Micros,
    newest_first: bool,
    after: Place | None,
    most: int,
) -> Iterator[Place]:
    scope, params = key.where()
    times, limits = during(within)
    terms, bound = [scope, UNEXPIRED, *times, *conditions[0]], list[Value]([*params, now, *limits, *conditions[1]])
    if after is not None:
        terms.append(f"(r.updated_at, r.row) {'<' if newest_first else '>'} ({INSTANT}, ?)")
        bound += [str(after[0]), after[1]]
    direction = "DESC" if newest_first else "ASC"
    sql = (
        f"SELECT r.updated_at, r.row FROM records r WHERE {' AND '.join(terms)} AND r.row > ? AND r.row <= ? "
        f"ORDER BY r.updated_at {direction}, r.row {direction} LIMIT ?"
    )
    for low, high in records.windows(scope, params):
        yield from ((at, row) for at, row in records.db.execute(sql, (*bound, low, high, most)))
