"""Erasing: what stays of a record for a while, what stays of a person, and the end of both.

An erased record leaves a *tombstone* until the instant in its ``expires_at``: a row without text, under a keyed hash of
its id, with the events of its life but not what they said. After that, and once every copy has seen that it is gone, it
is removed with its events; so are the names that nobody has any more. Of a person one line stays, in ``erasures``.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentmem.stores import accounting, archived, attachments, bodies, chunks, embeddings, keyed, meta
from agentmem.stores.connection import Connection, Value
from agentmem.stores.records import COLUMNS, Records
from agentmem.stores.rows import Place, ScopeKey, Stored
from agentmem.stores.schema import ERASED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import EventType
from agentmem.types.inputs import Scope
from agentmem.types.reports import Erasure
from agentmem.types.spelling import composed, spellings

KEPT: Micros = 30 * 86_400_000_000
"""How long a single erased record's events stay."""
AT_ONCE: Micros = -(2**52)
"""An instant that is over whatever the clock says, and however it is set."""
MARKED = 2_000
"""Tombstones whose time is changed in one transaction."""
PURGED = 200
"""Tombstones that are removed in one transaction: about 5 ms."""

_HIDDEN = f"state != {LIVE}"
"""As the partial indexes of what is hidden ask for it."""
_LAST_EVENT = "coalesce((SELECT max(seq) FROM history h WHERE h.row = r.row), 0)"
_INDEXED = "EXISTS (SELECT 1 FROM keyword_lengths k WHERE k.row = r.row)"
"""Whether the keyword index has the words of a record yet. One that it never had, it will not miss."""
_DUE = f"r.state = {ERASED} AND r.expires_at <= ?"
_USED = " OR ".join(
    f"EXISTS (SELECT 1 FROM records WHERE {column} = ? AND {state}{'' if column == 'user' else f' AND {column} != 0'})"
    for column in ("user", "agent", "run")
    for state in (f"state = {LIVE}", _HIDDEN)
)
_FILLED = " OR ".join(
    f"EXISTS (SELECT 1 FROM records WHERE user = ? AND space = ? AND {state})" for state in (f"state = {LIVE}", _HIDDEN)
)
"""Whether anything, in whatever state, is in a user's namespace."""


BEGINNING: Place = (AT_ONCE - 1, 0)


class Purged(NamedTuple):
    """How many tombstones and names were removed, and how many wait for the keyword index alone.

    ``next``: from where to go on, if there may be more of them.
    """

    rows: int
    names: int
    indexed: int = 0
    next: Place | None = None


_ANYBODY = Scope()


def erase(
    repository: Repository,
    found: Sequence[Stored],
    now: Micros,
    until: Micros,
    *,
    carried: Scope | None = _ANYBODY,
) -> int:
    """Remove everything that records say, from their history too, and what is known of their use; how many those are,
    with the values that they alone have carried and that are ``carried``'s agent's and run's. Without it, those go by
    themselves.

    What stays, until that instant, is that there was a record and what became of it when.
    """
    if not found:
        return 0
    if carried is not None:
        found = [*found, *attachments.erased_with(repository, found, carried)]
    db, rows, key = repository.db, [(stored.row,) for stored in found], _key(repository)
    db.executemany(
        f"UPDATE records SET state = {ERASED}, version = version + 1, id = ?, key = ?, content = '', metadata = NULL, "
        "fingerprint = NULL, checksum = NULL, role = NULL, kind = '', importance = NULL, rating = NULL, "
        "occurred_at = NULL, aged_from = NULL, sliding = NULL, pinned = 0, valid_from = NULL, "
        "valid_to = NULL, stated_to = NULL, superseded_by = NULL, retired_at = NULL, evidence = NULL, "
        "body = NULL, body_size = 0, vectors = 0, "
        "expires_at = ?, updated_at = ? "
        "WHERE row = ?",
        [
            (
                keyed.tombstone_id(key, stored.id, stored.row),
                None if stored.key is None else keyed.former_key(key, stored.key),
                until,
                now,
                stored.row,
            )
            for stored in found
        ],
    )
    archived.bury(db, found, now)
    embeddings.remove(db, repository.embedding_tables(), [stored.row for stored in found])
    bodies.erase(db, [stored.row for stored in found])
    chunks.collect(db)
    accounting.forget_use(db, (stored.row for stored in found))
    for layer in {stored.layer for stored in found}:
        accounting.unqueue(db, layer, [(stored.begun, stored.row) for stored in found if stored.layer == layer])
    accounting.resize(db, ((one.row, one.layer, -1, -one.size) for one in found if one.state == LIVE))
    db.executemany("UPDATE history SET data = NULL WHERE row = ?", rows)
    repository.note_events((stored.row, EventType.ERASE, now, stored.version + 1, None) for stored in found)
    return len(found)


def find_erased(records: Records, id: str, scope: ScopeKey, now: Micros) -> Stored | None:
    """What stays of the record that had this id, if it was erased; the last one, if there were several.

    Of the spellings of an id the given one goes first.
    """
    key = _key(records)
    sql = f"SELECT {COLUMNS} FROM records r WHERE r.id BETWEEN ? AND ? AND r.expires_at > ? ORDER BY r.row DESC"
    for spelling in spellings(id):
        for found in records.db.execute(sql, (*keyed.tombstone_range(key, spelling), now)):
            stored = Stored._make(found)
            if scope.admits(*stored.scope):
                return stored
    return None


def has_tombstones(records: Records) -> bool:
    """Whether anything was erased of which something stays."""
    return bool(records.db.execute(f"SELECT 1 FROM records r WHERE state = {ERASED} LIMIT 1"))


# -- a person ----------------------------------------------------------------------------------------------------------


def note_person(repository: Repository, user_id: str, count: int, now: Micros, line: int | None) -> int:
    """Count records in the line that stays of a person, begun now if there is none yet; returns its number."""
    if line is None:
        sql = "INSERT INTO erasures (who, records, at) VALUES (?, ?, ?) RETURNING n"
        who = keyed.person(_key(repository), composed(user_id))
        return int(repository.db.execute(sql, (who, count, now))[0][0])
    repository.db.execute("UPDATE erasures SET records = records + ?, at = ? WHERE n = ?", (count, now, line))
    return line


def hasten(repository: Repository, scope: ScopeKey, now: Micros) -> int:
    """Have a scope's next tombstones go at once; returns how many there were."""
    sql, params = _tombstones_of(scope)
    rows = repository.db.execute(f"{sql} AND expires_at > ? LIMIT ?", (*params, now, MARKED))
    repository.db.executemany("UPDATE records SET expires_at = ? WHERE row = ?", [(AT_ONCE, row) for (row,) in rows])
    return len(rows)


def tombstones(records: Records, scope: ScopeKey) -> list[int]:
    """The rows of a scope's tombstones."""
    return [row for (row,) in records.db.execute(*_tombstones_of(scope))]


def _tombstones_of(scope: ScopeKey) -> tuple[str, tuple[Value, ...]]:
    tests = scope.tests()
    where = " AND ".join([*(test for _, test, _ in tests), _HIDDEN, f"state = {ERASED}"])
    return f"SELECT row FROM records r WHERE {where}", tuple(value for _, _, bound in tests for value in bound)


def erasures(records: Records, user_id: str) -> list[Erasure]:
    """What stays of a person: when his records were erased, and how many, oldest first."""
    sql = "SELECT at, records FROM erasures WHERE who = ? ORDER BY n"
    found = records.db.execute(sql, (keyed.person(_key(records), composed(user_id)),))
    return [Erasure(to_datetime(at), count) for at, count in found]


def last_line(records: Records) -> int:
    """The number of the last line that stays of a person; 0 before there is any."""
    return int(records.db.execute("SELECT coalesce(max(n), 0) FROM erasures")[0][0])


def is_gone(records: Records, user_id: str, after: int) -> bool:
    """Whether a person was erased in a line after this one."""
    sql = "SELECT 1 FROM erasures WHERE who = ? AND n > ?"
    return bool(records.db.execute(sql, (keyed.person(_key(records), composed(user_id)), after)))


# -- the end -----------------------------------------------------------------------------------------------------------


def is_due(db: Connection, now: Micros) -> bool:
    """Whether there are tombstones whose time is over."""
    return bool(db.execute(f"SELECT 1 FROM records r WHERE {_DUE} LIMIT 1", (now,)))


def mark(repository: Repository, now: Micros) -> None:
    """Append an event of the store's own.

    The newest event is never removed: what follows the history would wait for it. With this one, it is nobody's.
    """
    repository.note_events([(0, EventType.ERASE, now, 0, None)])


def holds_the_end(records: Records, now: Micros) -> bool:
    """Whether the newest event is a tombstone's whose time is over."""
    sql = f"SELECT 1 FROM history h JOIN records r ON r.row = h.row WHERE h.seq = ? AND {_DUE}"
    return bool(records.db.execute(sql, (records.last_seq(), now)))


def purge(repository: Repository, now: Micros, after: Place = BEGINNING) -> Purged:
    """Remove the next tombstones whose time is over, with their events, and the names that only they had.

    Only those whose last event every copy has passed: one that learns of a record later would keep it for ever. Who
    follows in memory sees by ``meta.PURGED`` that something is missing in what it has yet to read.
    """
    db, newest = repository.db, repository.last_seq()
    passed = min(int(repository.meta(meta.LANCE_APPLIED) or 0), newest - 1)
    found = db.execute(
        f"SELECT r.row, r.user, r.agent, r.run, {_LAST_EVENT}, {_INDEXED}, r.expires_at, r.space, "
        "iif(r.key IS NULL, 0, r.version) FROM records r "
        f"WHERE {_DUE} AND (r.expires_at, r.row) > (?, ?) ORDER BY r.expires_at, r.row LIMIT ?",
        (now, *after, PURGED),
    )
    ripe = [row for row in found if row[4] <= passed]
    gone = [row for row in ripe if not row[5]]
    at = (found[-1][6], found[-1][0]) if len(found) == PURGED else None
    if not gone:
        return Purged(0, 0, len(ripe), at)
    marks = db.execute("SELECT seq FROM history WHERE row = 0 AND event = 'ERASE' AND seq <= ?", (passed,))
    db.executemany("DELETE FROM history WHERE row = ?", [row[:1] for row in gone])
    db.executemany("DELETE FROM history WHERE seq = ?", marks)
    db.executemany("DELETE FROM records WHERE row = ?", [row[:1] for row in gone])
    last = max(int(repository.meta(meta.PURGED) or 0), *(row[4] for row in gone), *(row[0] for row in marks))
    repository.set_meta(meta.PURGED, last)
    if former := max(row[8] for row in gone):
        # Whoever makes their keys again must not come to a version that somebody remembers of before.
        repository.set_meta(meta.FORMER_KEYS, max(int(repository.meta(meta.FORMER_KEYS) or 0), former))
    numbers = {number for row in gone for number in row[1:4] if number}
    names = _remove_names(repository, numbers, {(row[1], row[7]) for row in gone if row[7]})
    return Purged(len(gone), names, len(ripe) - len(gone), at)


def _remove_names(repository: Repository, numbers: Iterable[int], spaces: Iterable[tuple[int, int]]) -> int:
    """Remove those of the names, and of users' namespaces, that no record has, in whatever state; who has cached them
    sees that by the epoch."""
    db = repository.db
    unused = [number for number in numbers if not db.execute(f"SELECT {_USED}", (number,) * 6)[0][0]]
    unused += [space for user, space in spaces if not db.execute(f"SELECT {_FILLED}", (user, space) * 2)[0][0]]
    if unused:
        repository.names.remove(db, unused)
    return len(unused)


def _key(records: Records) -> bytes:
    return bytes(records.meta(meta.ERASURE_KEY))
