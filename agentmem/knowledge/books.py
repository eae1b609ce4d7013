"""Paying: what a call may come to is booked before it, with the user and the store, and what it came to after it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from agentmem.knowledge import ledger
from agentmem.knowledge.ledger import Caps, Spend
from agentmem.knowledge.ports import Change, KnowledgeStore, Room, StaleError, Write

SPENT = "spent"
LEDGERS: tuple[Room, Room] = ("user", "store")
"""Whose days are counted."""
PAUSES = 200


class CappedError(Exception):
    """A call could come to more than a cap allows; the text says which."""


class BusyError(Exception):
    """The ledgers were changed again and again by others."""


def booked(
    store: KnowledgeStore, day: str, change: Spend, *, caps: Caps | None = None, run: Spend | None = None
) -> list[Change]:
    """Both ledgers with a change of what a day came to. With ``caps``, ``CappedError`` if it would be above one;
    ``run`` is what the run came to before."""
    found = [store.read(SPENT, room) for room in LEDGERS]
    if caps is not None:
        user, whole = (ledger.of_day(one.data, day).plus(change) for one in found)
        cap = ledger.exceeded(caps, (run or Spend()).plus(change), user, whole)
        if cap is not None:
            raise CappedError(f"the next call could come to more than max_{cap} allows")
    return [
        Write(SPENT, ledger.booked(one.data, day, change), one.version, room)
        for one, room in zip(found, LEDGERS, strict=True)
    ]


def book(
    store: KnowledgeStore,
    day: str,
    change: Spend,
    *,
    caps: Caps | None = None,
    run: Spend | None = None,
    more: Sequence[Change] = (),
) -> None:
    """Store that, with other changes, whoever else books at the same time. Raises ``CappedError``, ``BusyError``."""
    for attempt in range(PAUSES):
        try:
            store.commit([*booked(store, day, change, caps=caps, run=run), *more])
        except StaleError:
            time.sleep(0.001 * min(attempt, 20))
            continue
        return
    raise BusyError("the ledger was changed again and again")
