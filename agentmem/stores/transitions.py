"""Moves between layers and out of them: what is due, found by index; what was decided, done with its event.

Everything that is decided is decided inside the transaction that does it, on what the record is by then. Functions that
change something expect to be inside one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from agentmem.stores import accounting
from agentmem.stores.accounting import START, walk
from agentmem.stores.connection import Connection
from agentmem.stores.rows import Place, Stored, Subject, Transition
from agentmem.stores.schema import EXPIRED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType

__all__ = [
    "START",
    "apply",
    "note",
    "past_grace",
    "postpone",
    "promised",
    "promoted_since",
    "renew",
    "renew_all",
    "subjects",
]

_SUBJECT = (
    "SELECT r.row, r.id, r.kind, r.layer, r.importance, r.rating, r.created_at, coalesce(r.aged_from, r.created_at), "
    "r.expires_at, r.updated_at, r.version, r.state, r.pinned, "
    "octet_length(r.content) + coalesce(octet_length(r.metadata), 0) + r.body_size, "
    "coalesce(a.times, 0), a.first_at, a.last_at, "
    "coalesce(a.value, 0.0), coalesce(a.weight, 0.0) FROM records r LEFT JOIN accesses a ON a.row = r.row "
)


def subjects(db: Connection, rows: Iterable[int]) -> list[Subject]:
    """The records of these rows, in their order."""
    wanted = list(rows)
    found = {row[0]: Subject._make(row) for row in db.select_in(_SUBJECT + "WHERE r.row IN ({})", wanted)}
    return [found[row] for row in wanted if row in found]


def promised(db: Connection, now: Micros, after: Place, most: int) -> list[Place]:
    """The next records whose ``ttl`` has passed."""
    return walk(
        db, "records", "expires_at", f"state = {LIVE} AND expires_at IS NOT NULL", until=now, after=after, most=most
    )


def past_grace(db: Connection, until: Micros, after: Place, most: int) -> list[Place]:
    """The next records that expired at ``until`` or before."""
    return walk(db, "records", "updated_at", f"state = {EXPIRED}", until=until, after=after, most=most)


def promoted_since(db: Connection, row: int, instant: Micros) -> bool:
    """Whether a record was promoted at that instant or later."""
    sql = "SELECT 1 FROM history WHERE row = ? AND event = 'PROMOTE' AND at >= ? LIMIT 1"
    return bool(db.execute(sql, (row, instant)))


def scored(db: Connection, after: int, most: int) -> list[tuple[int, str]]:
    """The next events whose decision a learned scorer had a part in: their numbers, and what it said, as JSON."""
    return db.execute(
        "SELECT seq, json_extract(data, '$.scorer') FROM history "
        "WHERE seq > ? AND event IN ('PROMOTE', 'DEMOTE', 'EXPIRE') AND data LIKE '%\"scorer\"%' "
        "AND json_extract(data, '$.scorer') IS NOT NULL ORDER BY seq LIMIT ?",
        (after, most),
    )


def apply(repository: Repository, transitions: Sequence[Transition], now: Micros) -> None:
    """Do what was decided: move or hide the records, write their events, keep the layers' sizes."""
    if not transitions:
        return
    db = repository.db
    moved = [one for one in transitions if one.layer is not None]
    gone = [one for one in transitions if one.layer is None]
    db.executemany(
        "UPDATE records SET layer = ?, kind = ?, version = version + 1, updated_at = ? WHERE row = ?",
        [(one.layer, one.kind, now, one.subject.row) for one in moved],
    )
    # What it needs to move on may be there already.
    accounting.touch(db, (one.subject.row for one in moved))
    db.executemany(
        f"UPDATE records SET state = {EXPIRED}, version = version + 1, updated_at = ? WHERE row = ?",
        [(now, one.subject.row) for one in gone],
    )
    repository.sign(one.subject.row for one in moved if one.kind != one.subject.kind)
    repository.note_events(
        (one.subject.row, one.event, now, one.subject.version + 1, json.dumps({"rule": one.rule, **one.data}))
        for one in transitions
    )
    accounting.queue(db, (one.subject.row for one in moved))
    accounting.resize(
        db,
        (
            (one.subject.row, layer, sign, sign * one.subject.size)
            for one in transitions
            for layer, sign in ((one.subject.layer, -1), (one.layer, 1))
            if layer is not None
        ),
    )
    for one in moved:
        repository.grow(str(one.layer), 1, one.subject.size)


def renew(db: Connection, row: int, now: Micros, *, pinned: bool | None = None) -> None:
    """Let the layer's time to live begin anew; with ``pinned``, pin or unpin."""
    db.execute("UPDATE records SET aged_from = ? WHERE row = ?", (now, row))
    if pinned is not None:
        db.execute("UPDATE records SET pinned = ? WHERE row = ?", (int(pinned), row))
    accounting.queue(db, [row])


def postpone(db: Connection, begun: Sequence[tuple[int, Micros]]) -> None:
    """Let the time of records in their layers begin at other instants, without an event: only sweeps look at it."""
    db.executemany("UPDATE records SET aged_from = ? WHERE row = ?", [(at, row) for row, at in begun])
    accounting.queue(db, [row for row, _ in begun])


def renew_all(db: Connection, found: Iterable[Stored], now: Micros) -> None:
    """Let the time of records in their layers begin anew, without an event: only sweeps look at it."""
    by_layer = dict[str, list[Stored]]()
    for stored in found:
        by_layer.setdefault(stored.layer, []).append(stored)
    for layer, those in by_layer.items():
        accounting.unqueue(db, layer, [(stored.begun, stored.row) for stored in those])
        db.executemany("UPDATE records SET aged_from = ? WHERE row = ?", [(now, stored.row) for stored in those])
        accounting.queue(db, [stored.row for stored in those])


def note(repository: Repository, subject: Subject, event: EventType, now: Micros, data: dict[str, Any]) -> None:
    """Write an event that leaves the record's version as it is."""
    repository.note_events([(subject.row, event, now, subject.version, json.dumps(data))])
