"""Bringing back what is gone, all of a scope; ``change`` brings back a single record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from agentmem.engine.engine import Engine
from agentmem.operations.glacier import once_here, thaw_rows
from agentmem.operations.read import known
from agentmem.stores.gone import bring_back, gone, restorable
from agentmem.stores.rows import Place, expired, past_grace
from agentmem.stores.schema import DELETED, EXPIRED
from agentmem.stores.timeline import Conditions, Range
from agentmem.stores.writes import Repository
from agentmem.types.enums import Gone
from agentmem.types.inputs import Scope
from agentmem.types.records import Page

_STATES = {"deleted": DELETED, "expired": EXPIRED}
_GROUP = 500


@dataclass(frozen=True, slots=True)
class Departed:
    """Which records are meant, as checked: what went within the range."""

    scope: Scope
    why: Gone
    conditions: Conditions
    within: Range


def page(engine: Engine, departed: Departed, limit: int, after: Place | None) -> Page:
    """The next records that can be brought back, the last one that went first."""
    engine.check()
    key = engine.key(departed.scope)
    if key is None:
        return Page([], None)
    records = engine.repository
    walked = gone(records.db, key, _STATES[departed.why], _conditions(engine, departed), departed.within, after)
    found = list(islice(walked, limit + 1))
    # Once more, since any of them may have been brought back or erased since it was found.
    there = records.find_rows((row for row, _ in found[:limit]), used=True)
    stored = {item.row: item for item in there if item.state == _STATES[departed.why]}
    listed = known(engine, [stored[row] for row, _ in found[:limit] if row in stored])
    at, row = found[limit - 1][1] if len(found) > limit else (0, 0)
    return Page(listed, f"{departed.why}:{at},{row}" if row else None)


def place_of(why: Gone, cursor: str) -> Place | None:
    """Where a cursor points to; None if it is not one."""
    match = re.fullmatch(rf"{why}:(-?\d{{1,18}}),(\d{{1,18}})", cursor, re.ASCII)
    return None if match is None else (int(match[1]), int(match[2]))


def restore_all(engine: Engine, departed: Departed, *, dry_run: bool) -> int:
    """Bring the records back, some hundred per transaction; returns how many."""
    if not dry_run:
        engine.check_writable()
    engine.check()
    key = engine.key(departed.scope)
    if key is None:
        return 0
    records, state = engine.repository, _STATES[departed.why]
    walked = gone(records.db, key, state, _conditions(engine, departed), departed.within)
    rows = [row for row, _ in walked][::-1]  # in the order in which they went
    if dry_run:
        return len(rows)
    groups = (rows[start : start + _GROUP] for start in range(0, len(rows), _GROUP))
    count = 0
    for group in groups:
        run = partial(engine.write, partial(_bring_back, group, state, engine), len(group))
        count += once_here(partial(thaw_rows, engine, group), run)
    return count


def _conditions(engine: Engine, departed: Departed) -> Conditions:
    where, params = restorable(engine.now(), engine.lifecycle.rules.grace)
    return ([*where, *departed.conditions[0]], [*params, *departed.conditions[1]])


def _bring_back(rows: Sequence[int], state: int, engine: Engine, repository: Repository) -> int:
    """Those of the rows that are still to be brought back now that the transaction has begun."""
    now, grace = engine.now(), engine.lifecycle.rules.grace
    found = {stored.row: stored for stored in repository.find_rows(rows)}
    current = [
        stored
        for row in rows
        if (stored := found.get(row)) is not None
        and stored.state == state
        and not expired(stored, now)
        and not past_grace(stored, now, grace)
    ]
    return bring_back(repository, current, now)
