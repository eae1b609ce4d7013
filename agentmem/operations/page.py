"""Listing a scope: pages for callers, groups of rows for operations on all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.read import known
from agentmem.stores import archived
from agentmem.stores.changed import by_change
from agentmem.stores.connection import Value
from agentmem.stores.records import UNEXPIRED, Records
from agentmem.stores.rows import ScopeKey, Stored, kept
from agentmem.stores.schema import ARCHIVED, LIVE
from agentmem.stores.timeline import Conditions, Position, Range, during, walk
from agentmem.types.clock import Micros
from agentmem.types.enums import By, Order
from agentmem.types.inputs import Scope
from agentmem.types.records import Page


class Change(NamedTuple):
    """A place in a list by the time of the last change: that time, and the row."""

    at: Micros
    row: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list is of and how it is ordered, as checked; ``after`` is where the page before ended.

    ``after`` is a row number by ``"added"``, a ``Position`` by ``"event"``, a ``Change`` by ``"updated"``. ``offset``
    records from there on are passed over.
    """

    scope: Scope
    conditions: Conditions
    within: Range
    order: Order = "newest"
    by: By = "added"
    after: int | Position | Change | None = None
    offset: int = 0
    data: bool = True
    """Whether records come with their data."""
    archived: bool = False
    """Whether it is of the records that lie in archives, instead of the live ones; by adding only."""


_ATTEMPTS = 3
"""How often a page is looked for whose records change meanwhile, before it comes without those."""
_SMALL = 16 * 1_048_576
"""Bytes of data in a small page, unless a single record has more."""


@metered("read")
def page(engine: Engine, listing: Listing, limit: int, *, small: bool = False, touch: bool = True) -> Page:
    """The next live records of a list; of a ``small`` page those that together have not too much data.

    With ``touch``, that puts off the end of those that slide.
    """
    engine.check()
    key = engine.key(listing.scope)
    if key is None:
        return Page([], None)
    records, now = engine.repository, engine.now()
    end = listing.offset + limit + 1
    attempt = 1
    while True:
        found = list(islice(rows_of(records, key, now, listing, end), listing.offset, end))
        stored = _still(records, [row for row, _ in found[:limit]], listing, now)
        if len(stored) == len(found[:limit]) or attempt == _ATTEMPTS:
            break
        attempt += 1
    if small and listing.data:
        limit = _how_many([stored.get(row) for row, _ in found[:limit]], limit)
    listed = known(engine, [stored[row] for row, _ in found[:limit] if row in stored], data=listing.data)
    if touch:
        engine.lifecycle.put_off(now, stored.values())
    return Page(listed, cursor_of(listing.order, found[limit - 1][1]) if len(found) > limit else None)


def with_archived(engine: Engine, listing: Listing, limit: int) -> list[Stored]:
    """The newest of a list by adding, those among them that lie in archives, which are not asked for what they have."""
    engine.check()
    key = engine.key(listing.scope)
    if key is None:
        return []
    records, now, found = engine.repository, engine.now(), list[tuple[int, Stored]]()
    for each in (listing, replace(listing, archived=True)):
        rows = [row for row, _ in islice(rows_of(records, key, now, each, 0), listing.offset + limit)]
        found += _still(records, rows, each, now).items()
    newest = sorted(dict(found).items(), reverse=True)
    return [stored for _, stored in newest[listing.offset : listing.offset + limit]]


def _still(records: Records, rows: Sequence[int], listing: Listing, now: Micros) -> dict[int, Stored]:
    """Those of the rows of a list that are of it as they are read now; any may have been changed since it was found."""
    times, limits = during(listing.within)
    conditions = (*times, *listing.conditions[0]), (*limits, *listing.conditions[1])
    state = ARCHIVED if listing.archived else LIVE
    there = records.find_rows(rows, used=True, conditions=conditions)
    return {item.row: item for item in there if kept(item, now) and item.state == state}


def _how_many(found: Sequence[Stored | None], limit: int) -> int:
    """How many of the records make a small page."""
    used = 0
    for at, stored in enumerate(found):
        used += 0 if stored is None else stored.body_size
        if used > _SMALL and at:
            return at
    return limit


def rows_of(
    records: Records, key: ScopeKey, now: Micros, listing: Listing, most: int
) -> Iterator[tuple[int, int | Position | Change]]:
    """The rows of a list, each with the place after it; at least the first ``most`` of them."""
    if listing.by == "updated":
        return _by_change(records, key, now, listing, most)
    return (_by_event if listing.by == "event" else _by_adding)(records, key, now, listing)


def _by_adding(records: Records, key: ScopeKey, now: Micros, listing: Listing) -> Iterator[tuple[int, int]]:
    """Rows, each with the place after it."""
    newest = listing.order == "newest"
    scope_where, scope_params = archived.condition(key) if listing.archived else key.where()
    times, limits = during(listing.within)
    condition = " AND ".join([scope_where, UNEXPIRED, *times, *listing.conditions[0]])
    params = (*scope_params, now, *limits, *listing.conditions[1])
    after = listing.after if isinstance(listing.after, int) else None
    for low, high in records.windows(scope_where, scope_params, newest_first=newest, start=after):
        rows = records.rows_between(condition, params, low, high)
        for row in reversed(rows) if newest else rows:
            yield row, row


def _by_event(records: Records, key: ScopeKey, now: Micros, listing: Listing) -> Iterator[tuple[int, Position]]:
    """The same by the time of the event."""
    where, params = listing.conditions
    start = listing.after if isinstance(listing.after, Position) else Position()
    return walk(
        records.db,
        key,
        ([UNEXPIRED, *where], [now, *params]),
        listing.within,
        newest_first=listing.order == "newest",
        start=start,
    )


def _by_change(
    records: Records, key: ScopeKey, now: Micros, listing: Listing, most: int
) -> Iterator[tuple[int, Change]]:
    """The same by the time of the last change, up to ``most`` of them."""
    after = listing.after if isinstance(listing.after, Change) else None
    newest = listing.order == "newest"
    found = by_change(
        records, key, listing.conditions, listing.within, now, newest_first=newest, after=after, most=most
    )
    return ((row, Change(at, row)) for at, row in found)


_CHANGE = re.compile(r"updated:(-?\d{1,18}),(\d{1,18})", re.ASCII)
_PLACES = re.compile(r"event:(\d{1,18})?:(?:(-?\d{1,18}),(\d{1,18}))?", re.ASCII)


def cursor_of(order: Order, position: int | Position | Change) -> str:
    """A place in a list as text."""
    if isinstance(position, int):
        return f"{order}:{position}"
    if isinstance(position, Change):
        return f"{order}:updated:{position.at},{position.row}"
    at = "" if position.dated is None else f"{position.dated[0]},{position.dated[1]}"
    return f"{order}:event:{'' if position.plain is None else position.plain}:{at}"


def place_of(order: Order, by: By, cursor: str) -> int | Position | Change | None:
    """Where a cursor of a list with this order points to; None if it is not one."""
    direction, _, place = cursor.partition(":")
    if direction != order:
        return None
    if by == "added":
        return int(place) if re.fullmatch(r"\d{1,18}", place, re.ASCII) else None
    if by == "updated":
        changed = _CHANGE.fullmatch(place)
        return None if changed is None else Change(int(changed[1]), int(changed[2]))
    match = _PLACES.fullmatch(place)
    if match is None:
        return None
    plain, at, row = match.groups()
    return Position(None if plain is None else int(plain), None if at is None else (int(at), int(row)))


def matching(
    engine: Engine,
    scope: Scope,
    conditions: Conditions = ((), ()),
    *,
    deleted_too: bool = False,
    archived_too: bool = False,
) -> Iterator[list[Stored]]:
    """The scope's records that satisfy the conditions, in groups; those added meanwhile are left out.

    With ``archived_too``, after the live ones those that lie in archives, where no condition on their text holds.

    With ``deleted_too``, all that was ever stored, in whatever namespace, but what was erased.
    """
    engine.check()
    key = engine.key(scope, anywhere=deleted_too)
    if key is None:
        return
    where, params = key.where(erased_apart=deleted_too)
    terms, values = [where], list[Value](params)
    if not deleted_too:
        terms.append(UNEXPIRED)
        values.append(engine.now())
    terms += conditions[0]
    values += conditions[1]
    records = engine.repository
    last = records.last_row()
    for low, high in records.windows(f"{where} AND r.row <= ?", (*params, last)):
        rows = records.rows_between(" AND ".join(terms), values, low, high)
        if rows:
            yield list(records.find_rows(rows, conditions=conditions))
    if archived_too and archived.is_used(records.db):
        where, params = archived.condition(key)
        tests, bound = " AND ".join([where, *conditions[0]]), (*params, *conditions[1])
        for low, high in records.windows(f"{where} AND r.row <= ?", (*params, last)):
            if rows := records.rows_between(tests, bound, low, high):
                yield list(records.find_rows(rows, conditions=conditions))
