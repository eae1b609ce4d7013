"""The statements of the lifecycle: what is due, found by index; moves, each with its event; use, as it is noted.

Everything that is decided is decided inside the transaction that does it, on what the record is by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from agentmem.lifecycle.subject import Subject
from agentmem.stores.repository import INSERT_EVENTS, Repository
from agentmem.stores.schema import EXPIRED, RECOUNT, REQUEUE, SETTLED
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType, Layer

_SUBJECT = (
    "SELECT r.row, r.id, r.kind, r.layer, r.importance, r.rating, r.created_at, coalesce(r.aged_from, r.created_at), "
    "r.expires_at, r.updated_at, r.version, r.state, r.pinned, "
    "octet_length(r.content) + coalesce(octet_length(r.metadata), 0), coalesce(a.times, 0), a.first_at, a.last_at, "
    "coalesce(a.value, 0.0), coalesce(a.weight, 0.0) FROM records r LEFT JOIN accesses a ON a.row = r.row "
)

SETTLE = 500
"""New records that are counted and queued in one transaction: about 3 ms."""

Place = tuple[int, int]
"""Where a walk through an index is: the time and the row it has come to."""
START: Place = (-(2**53), 0)


class Step(NamedTuple):
    """A decision about a record: what happens to it, why, and where it is then (``layer`` None: it goes)."""

    subject: Subject
    event: EventType
    rule: str
    data: dict[str, Any]
    layer: Layer | None = None
    kind: str | None = None


def subjects(repository: Repository, rows: Iterable[int]) -> list[Subject]:
    """The records of these rows, in their order."""
    wanted = list(rows)
    found = {row[0]: Subject._make(row) for row in repository.db.select_in(_SUBJECT + "WHERE r.row IN ({})", wanted)}
    return [found[row] for row in wanted if row in found]


# -- what is due -----------------------------------------------------------------------------------------------------


def touched(repository: Repository, after: int, most: int) -> list[int]:
    """The next rows that were used since a sweep last looked at them."""
    sql = "SELECT row FROM accesses WHERE touched = 1 AND row > ? ORDER BY row LIMIT ?"
    return [row[0] for row in repository.db.execute(sql, (after, most))]


def promised(repository: Repository, now: Micros, after: Place, most: int) -> list[Place]:
    """The next records whose ``ttl`` has passed."""
    return _walk(repository, "expires_at", "state = 0 AND expires_at IS NOT NULL", (), now, after, most)


def aged(repository: Repository, layer: str, until: Micros, after: Place, most: int) -> list[Place]:
    """The next entries of a layer's queue whose time began at ``until`` or before; some may be out of date."""
    return _walk(repository, "at", "layer = ?", (layer,), until, after, most, "due")


def past_grace(repository: Repository, until: Micros, after: Place, most: int) -> list[Place]:
    """The next records that expired at ``until`` or before."""
    return _walk(repository, "updated_at", "state = 3", (), until, after, most)


def _walk(
    repository: Repository,
    time: str,
    where: str,
    params: tuple[Any, ...],
    until: Micros,
    after: Place,
    most: int,
    table: str = "records",
) -> list[Place]:
    sql = (
        f"SELECT {time}, row FROM {table} WHERE {where} AND {time} >= ? AND {time} <= ? "
        f"AND ({time} > ? OR row > ?) ORDER BY {time}, row LIMIT ?"
    )
    return [(row[0], row[1]) for row in repository.db.execute(sql, (*params, after[0], until, *after, most))]


def promoted_since(repository: Repository, row: int, instant: Micros) -> bool:
    """Whether a record was promoted at that instant or later."""
    sql = "SELECT 1 FROM history WHERE row = ? AND event = 'PROMOTE' AND at >= ? LIMIT 1"
    return bool(repository.db.execute(sql, (row, instant)))


# -- what happens ----------------------------------------------------------------------------------------------------


def seen(repository: Repository, rows: Iterable[int]) -> None:
    """These need not be looked at again until they are used again."""
    repository.db.executemany("UPDATE accesses SET touched = 0 WHERE row = ?", [(row,) for row in rows])


def touch_all(repository: Repository, after: int, most: int) -> int | None:
    """Have the next sweep look at the next records that were ever used; returns how far this came, None at the end."""
    sql = "SELECT row FROM accesses WHERE row > ? ORDER BY row LIMIT ?"
    rows = [row[0] for row in repository.db.execute(sql, (after, most))]
    repository.touch(rows)
    return rows[-1] if rows else None


def apply(repository: Repository, steps: Sequence[Step], now: Micros) -> None:
    """Do what was decided: move or hide the records, write their events, keep the layers' sizes."""
    if not steps:
        return
    moved = [step for step in steps if step.layer is not None]
    gone = [step for step in steps if step.layer is None]
    repository.db.executemany(
        "UPDATE records SET layer = ?, kind = ?, version = version + 1, updated_at = ? WHERE row = ?",
        [(step.layer, step.kind, now, step.subject.row) for step in moved],
    )
    # What it needs to move on may be there already.
    repository.touch(step.subject.row for step in moved)
    repository.db.executemany(
        f"UPDATE records SET state = {EXPIRED}, version = version + 1, updated_at = ? WHERE row = ?",
        [(now, step.subject.row) for step in gone],
    )
    repository.refresh_prints(step.subject.row for step in moved if step.kind != step.subject.kind)
    repository.db.insert(
        INSERT_EVENTS,
        [
            (s.subject.row, s.event.value, now, s.subject.version + 1, json.dumps({"rule": s.rule, **s.data}))
            for s in steps
        ],
    )
    repository.queue(step.subject.row for step in moved)
    repository.resize(
        (s.subject.row, layer, sign, sign * s.subject.size)
        for s in steps
        for layer, sign in ((s.subject.layer, -1), (s.layer, 1))
        if layer is not None
    )
    for step in moved:
        repository.grow(str(step.layer), 1, step.subject.size)


def unqueue(repository: Repository, layer: str, places: Iterable[Place]) -> None:
    """Take entries out of a layer's queue: these records have gone, have moved, or have another entry."""
    sql = "DELETE FROM due WHERE layer = ? AND at = ? AND row = ?"
    repository.db.executemany(sql, [(layer, *place) for place in places])


def settle(repository: Repository, most: int) -> bool:
    """Count and queue the next new records; False if those were all."""
    db, low, last = repository.db, int(repository.meta(SETTLED) or 0), repository.last_row()
    high = min(low + most, last)
    new = "state = 0 AND row > ? AND row <= ?"
    db.execute(
        f"INSERT OR IGNORE INTO due SELECT layer, coalesce(aged_from, created_at), row FROM records "
        f"WHERE {new} AND pinned = 0",
        (low, high),
    )
    db.execute(
        "UPDATE layers SET records = records + t.count, bytes = bytes + t.size FROM (SELECT layer, count(*) AS count, "
        f"sum(octet_length(content) + coalesce(octet_length(metadata), 0)) AS size FROM records WHERE {new} "
        "GROUP BY layer) AS t WHERE t.layer = layers.layer",
        (low, high),
    )
    repository.set_meta(SETTLED, high)
    return high < last


def unsettled(repository: Repository) -> bool:
    """Whether there are records that are yet to be counted and queued."""
    return int(repository.meta(SETTLED) or 0) < repository.last_row()


def renew(repository: Repository, row: int, now: Micros, *, pinned: bool | None = None) -> None:
    """Let the layer's time to live begin anew; with ``pinned``, pin or unpin."""
    repository.db.execute("UPDATE records SET aged_from = ? WHERE row = ?", (now, row))
    if pinned is not None:
        repository.db.execute("UPDATE records SET pinned = ? WHERE row = ?", (int(pinned), row))
    repository.queue([row])


def note(repository: Repository, subject: Subject, event: EventType, now: Micros, data: dict[str, Any]) -> None:
    """Write an event that leaves the record's version as it is."""
    repository.db.insert(INSERT_EVENTS, [(subject.row, event.value, now, subject.version, json.dumps(data))])


def sizes(repository: Repository) -> dict[str, tuple[int, int, str]]:
    """Of each layer the live records, the bytes of their text and metadata, and the pressure that was last noted.

    What is counted, and in the same statement what is not counted yet.
    """
    found = repository.db.execute(
        "WITH t AS (SELECT layer, count(*) AS count, sum(octet_length(content) + coalesce(octet_length(metadata), 0)) "
        "AS size FROM records WHERE state = 0 AND row > (SELECT value FROM meta WHERE key = ?) GROUP BY layer) "
        "SELECT l.layer, l.records + coalesce(t.count, 0), l.bytes + coalesce(t.size, 0), l.pressure "
        "FROM layers l LEFT JOIN t ON t.layer = l.layer LIMIT 10",
        (SETTLED,),
    )
    return {layer: (records, used, level) for layer, records, used, level in found}


def note_pressure(repository: Repository, layer: str, level: str) -> None:
    repository.db.execute("UPDATE layers SET pressure = ? WHERE layer = ?", (level, layer))


def recount(repository: Repository) -> None:
    """Count the layers' records and bytes anew, and make their queues anew."""
    repository.db.execute("DELETE FROM due")
    repository.db.execute(REQUEUE)
    repository.db.execute(RECOUNT)
    repository.db.execute("DELETE FROM accesses WHERE row NOT IN (SELECT row FROM records)")


def unqueued(repository: Repository, low: int, high: int) -> list[str]:
    """Ids of records in ``low < row <= high`` that sweeps would not find when their time is over."""
    sql = (
        "SELECT id FROM records r WHERE row > ? AND row <= ? AND state = 0 AND pinned = 0 "
        "AND row <= (SELECT value FROM meta WHERE key = ?) AND NOT EXISTS (SELECT 1 FROM due d "
        "WHERE d.layer = r.layer AND d.at = coalesce(r.aged_from, r.created_at) AND d.row = r.row)"
    )
    return [row[0] for row in repository.db.execute(sql, (low, high, SETTLED))]
