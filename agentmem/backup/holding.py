"""Which backups that are not sealed still hold what was erased, and until when.

What is known of the events of what was erased tells it, without a look into any archive: a backup that stands by itself
holds what had happened until then, an increment what happened since the one before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain

from agentmem.backup.lineage import Entry
from agentmem.backup.moment import Places
from agentmem.backup.pruning import Retention
from agentmem.engine.engine import Engine
from agentmem.stores import erasure
from agentmem.stores.connection import CHUNK
from agentmem.stores.rows import Stored
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.inputs import Scope
from agentmem.types.reports import HoldingBackup

_HOUR: Micros = 3_600_000_000
_DAY, _WEEK = 24 * _HOUR, 7 * 24 * _HOUR


def events_of(engine: Engine, groups: Iterable[Sequence[Stored]], scope: Scope) -> list[int]:
    """The numbers of all events of these records, ascending, before they are erased; and of those of the scope that
    were erased before, as long as anything stays of them."""
    found, sql, key = list[int](), "SELECT seq FROM history WHERE row IN ({})", engine.key(scope, anywhere=True)
    erased = [] if key is None else erasure.tombstones(engine.repository, key)
    for rows in chain(([stored.row for stored in group] for group in groups), [erased]):
        for start in range(0, len(rows), CHUNK):
            found += (seq for (seq,) in engine.repository.db.select_in(sql, rows[start : start + CHUNK]))
    return sorted(set(found))


def holders(places: Places, lineage: str, events: Sequence[int], erased: int) -> list[Entry]:
    """The backups of a lineage, and of those that its store was restored from, that hold any of these events and are
    not sealed, oldest first. ``erased`` is the event by which their records were gone from the store."""
    related, found = {lineage}, places.all()
    while more := {entry.parent for entry in found if entry.lineage in related and entry.parent} - related:
        related |= more
    unsealed = [entry for entry in found if entry.lineage in related and not entry.sealed]
    return [
        entry for entry in unsealed if _holds(entry, events) and not (entry.lineage == lineage and entry.seq >= erased)
    ]


def _holds(entry: Entry, events: Sequence[int]) -> bool:
    return bisect_right(events, entry.seq) > (0 if entry.after is None else bisect_right(events, entry.after))


def with_followers(places: Places, lineage: str, held: Sequence[Entry]) -> list[Entry]:
    """Of a lineage those that are held, and whatever goes on from one of them, by number."""
    gone = {entry.number for entry in held if entry.lineage == lineage}
    own = sorted((entry for entry in places.all() if entry.lineage == lineage), key=lambda entry: entry.number)
    for entry in own:
        if entry.after is not None and entry.number - 1 in gone:
            gone.add(entry.number)
    return [entry for entry in own if entry.number in gone]


def described(places: Places, held: Sequence[Entry], retention: Retention) -> list[HoldingBackup]:
    """The public form, with when each is removed by a ``prune`` at the latest, if backups go on being made."""
    own = {(entry.lineage, entry.number): entry for entry in places.all()}
    until = dict[tuple[str, int], Micros | None]()
    for place, entry in sorted(own.items(), reverse=True):
        ends = [_until(entry, retention)]
        follower = own.get((entry.lineage, entry.number + 1))
        if follower is not None and follower.after is not None:
            ends.append(until[entry.lineage, entry.number + 1])
        until[place] = None if None in ends else max(end for end in ends if end is not None)
    found = list[HoldingBackup]()
    for entry in held:
        end = until[entry.lineage, entry.number]
        found.append(
            HoldingBackup(entry.id, entry.kind, to_datetime(entry.at), None if end is None else to_datetime(end))
        )
    return found


def _until(entry: Entry, retention: Retention) -> Micros | None:
    if entry.kind == "snapshot":
        return None
    kept = [int(retention.hours * _HOUR)]
    if entry.after is None:
        kept += [retention.days * _DAY, retention.weeks * _WEEK]
    return entry.at + max(kept)
