"""Records that were deleted or have expired, by when that was, and their return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agentmem.stores import accounting, keys, past
from agentmem.stores.connection import Connection, Value
from agentmem.stores.records import UNEXPIRED
from agentmem.stores.rows import Place, ScopeKey, Stored
from agentmem.stores.schema import DELETED, EXPIRED, LIVE
from agentmem.stores.timeline import Conditions, Range
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType

_INDEX = {DELETED: "records_by_deletion", EXPIRED: "records_by_grace"}
_WINDOW = 1_000


def gone(
    db: Connection, key: ScopeKey, state: int, conditions: Conditions, within: Range, after: Place | None = None
) -> Iterator[tuple[int, Place]]:
    """Rows of records that went to the state within the range, the last one first; each with the place after it."""
    index, terms, bound = _INDEX[state], [f"r.state = {state}"], list[Value]()
    if key.user is not None:
        index, terms, bound = "records_gone", ["r.state IN (1, 3)", f"r.state = {state}", "r.user = ?"], [key.user]
    for compare, value in ((">=", within.since), ("<", within.until)):
        if value is not None:
            terms.append(f"r.updated_at {compare} ?")
            bound.append(value)
    owners = key.tests()
    test = " AND ".join([*(term for _, term, _ in owners), *conditions[0]]) or "1"
    tested = [*(value for _, _, bound in owners for value in bound), *conditions[1]]
    while True:
        beyond, place = "", list[Value]()
        if after is not None:
            beyond, place = " AND r.updated_at <= ? AND (r.updated_at < ? OR r.row < ?)", [after[0], *after]
        found = db.execute(
            f"SELECT r.updated_at, r.row, {test} FROM records r INDEXED BY {index} WHERE {' AND '.join(terms)}{beyond} "
            f"ORDER BY r.updated_at DESC, r.row DESC LIMIT {_WINDOW}",
            (*tested, *bound, *place),
        )
        for at, row, qualifies in found:
            if qualifies:
                yield row, (at, row)
        if len(found) < _WINDOW:
            return
        after = found[-1][0], found[-1][1]


def restorable(now: Micros, grace: Micros) -> Conditions:
    """That a record can come back: its own ``ttl`` has not passed, nor the time that expired ones have."""
    return ([UNEXPIRED, f"(r.state != {EXPIRED} OR r.updated_at > ?)"], (now, now - grace))


def bring_back(repository: Repository, found: Sequence[Stored], now: Micros) -> int:
    """Make records live again, each with its RESTORE event; an expired one's time in its layer begins anew.

    What had a key comes back only if it was the last that had it, and nothing has it now. Returns how many came back.
    """
    db = repository.db
    repository.check_here(found)
    back = keys.returnable(repository, found, now) if any(stored.key is not None for stored in found) else found
    db.executemany(
        f"UPDATE records SET aged_from = CASE state WHEN {EXPIRED} THEN ? ELSE aged_from END, state = {LIVE}, "
        "version = version + 1, updated_at = ? WHERE row = ?",
        [(now, now, stored.row) for stored in back],
    )
    repository.note_events(
        (stored.row, EventType.RESTORE, now, stored.version + 1, past.with_past({}, _was(stored))) for stored in back
    )
    accounting.resize(db, ((stored.row, stored.layer, 1, stored.size) for stored in back))
    for layer in {stored.layer for stored in back}:
        sizes = [stored.size for stored in back if stored.layer == layer]
        repository.grow(layer, len(sizes), sum(sizes))
    accounting.queue(db, [stored.row for stored in back])
    accounting.touch(db, [stored.row for stored in back])
    return len(back)


def _was(stored: Stored) -> dict[str, Any]:
    return {"aged_from": stored.aged_from} if stored.state == EXPIRED else {}
