"""Records whose text, vectors and data lie in an archive outside of the store.

What stays is the rest of the row: whose it is, its id, key, kind, layer, times, metadata, its version, and of its data
what filters look at; and its history. So a look-up by any of these needs no archive. The row's ``checksum`` is that of
the row as it stands then. The table ``archived`` says in which archive the rest is; a live record of which that is so
has the state ARCHIVED, one that was deleted since stays what it is.

Archives hold copies of records that came back, or that were erased. Which, the ARCHIVE events of a record tell; what
was erased and has yet to leave an archive is in ``burials``. Of the archives that this store has written there is a
line each in ``archives``, which no backup has: a store that was restored changes no archive but to erase.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from agentmem.stores import accounting, bodies, chunks, embeddings, meta
from agentmem.stores.chunks import Brought, Piece
from agentmem.stores.connection import CHUNK, Connection, Value
from agentmem.stores.facts import checksum, key_of
from agentmem.stores.records import Records
from agentmem.stores.rows import ScopeKey, Stored
from agentmem.stores.schema import ARCHIVED, ERASED, LIVE
from agentmem.stores.spaces import OWN, path_of
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType
from agentmem.types.errors import NotFoundError
from agentmem.types.valuekeys import ROOM

_VALUES = path_of((ROOM,))
WRITING, WRITTEN = 0, 1
"""The values of ``archives.state``."""


class Body(NamedTuple):
    """What of a record lies in an archive."""

    row: int
    id: str
    version: int
    vectors: int
    """The code of its embeddings, see the column ``records.vectors``."""
    content: str
    embeddings: bytes
    parts: tuple[tuple[int, int, str], ...]
    """``(version, part, text)`` of all that it has in the table ``bodies``."""


class Back(NamedTuple):
    """A record whose body is at hand again, with the embeddings that it is to have."""

    body: Body
    vectors: int
    embeddings: bytes
    archive: str
    """Where it was noted to lie before it was fetched."""


class Archive(NamedTuple):
    """A line of the table ``archives``."""

    name: str
    state: int
    generation: int
    records: int
    live: int
    objects: int
    bytes: int
    at: Micros
    emptied_at: Micros | None


_LINE = ", ".join(Archive._fields)


# -- reading -----------------------------------------------------------------------------------------------------------


def is_used(db: Connection) -> bool:
    """Whether anything of any record lies elsewhere."""
    return bool(db.execute("SELECT 1 FROM archived LIMIT 1"))


def places(db: Connection, rows: Iterable[int]) -> dict[int, str]:
    """In which archive the rest of these records is, by row; those that are whole are left out."""
    return dict(db.select_in("SELECT row, archive FROM archived WHERE row IN ({})", rows))


def copies(db: Connection, row: int) -> list[str]:
    """The archives that have, or had, a copy of a record, the newest first."""
    sql = "SELECT json_extract(data, '$.archive') FROM history WHERE row = ? AND event = 'ARCHIVE' ORDER BY seq DESC"
    return list(dict.fromkeys(name for (name,) in db.execute(sql, (row,)) if name))


def condition(key: ScopeKey) -> tuple[str, tuple[Value, ...]]:
    """An SQL condition on ``records r`` for the archived records of a scope."""
    tests = key.tests()
    return " AND ".join([f"r.state = {ARCHIVED}", *(sql for _, sql, _ in tests)]), tuple(
        value for _, _, bound in tests for value in bound
    )


def count(db: Connection, key: ScopeKey, where: Sequence[str], params: Sequence[Value], stop: int) -> int:
    """How many archived records a scope has that meet the conditions, counting up to ``stop``."""
    scope, bound = condition(key)
    found = f"SELECT 1 FROM records r INDEXED BY records_archived WHERE {' AND '.join([scope, *where])} LIMIT ?"
    return int(db.execute(f"SELECT count(*) FROM ({found})", (*bound, *params, stop))[0][0])


def count_all(db: Connection) -> int:
    """How many records lie elsewhere."""
    return int(db.execute("SELECT count(*) FROM archived")[0][0])


def all_places(db: Connection) -> Iterator[tuple[int, str]]:
    """Every record of which the rest lies elsewhere: its row, and in which archive."""
    after, sql = 0, "SELECT row, archive FROM archived WHERE row > ? ORDER BY row LIMIT 2000"
    while found := db.execute(sql, (after,)):
        yield from ((row, name) for row, name in found)
        after = found[-1][0]


def newest_place(db: Connection) -> str | None:
    """In which archive the rest of the newest record lies of which it is not here; None where there is none."""
    found = db.execute("SELECT archive FROM archived ORDER BY row DESC LIMIT 1")
    return found[0][0] if found else None


def rows_in(db: Connection, names: Iterable[str]) -> dict[str, list[int]]:
    """The records of which the rest lies in these archives. Looks at all that lie elsewhere."""
    found = {name: list[int]() for name in names}
    for row, name in all_places(db):
        if name in found:
            found[name].append(row)
    return found


def may_leave(records: Records, stored: Stored) -> bool:
    """Whether a record may go to an archive: it is live, its caller has set no end to it, and it is none that the
    package keeps for itself, such as the one that says whether a session is over. Values may."""
    if stored.state != LIVE or stored.expires_at is not None:
        return False
    return is_value(records, stored) or not is_own(records, stored.space)


def values_and_bytes(db: Connection) -> tuple[int, int]:
    """How many values lie in archives, and the bytes of them before they were packed."""
    sql = (
        f"SELECT a.row FROM archived a JOIN records r ON r.row = a.row WHERE r.kind = 'value' AND r.state = {ARCHIVED}"
    )
    rows = [row for (row,) in db.execute(sql)]
    sizes = sizes_of_values(db, rows)
    return len(sizes), sum(sizes.values())


def is_there(stored: Stored) -> bool:
    """Whether a record is live, here or in an archive."""
    return stored.state in (LIVE, ARCHIVED)


def is_value(records: Records, stored: Stored) -> bool:
    """Whether a record is where values are, which is a namespace of the package's own."""
    with suppress(NotFoundError):  # erased since
        return bool(stored.space) and records.names.path(records.db, stored.space).startswith(_VALUES)
    return False


def sizes_of_values(db: Connection, rows: Iterable[int]) -> dict[int, int]:
    """How many bytes each of these records has as a value, by what it says of itself; of what is none nothing."""
    size = f"""json_extract(b.body, '$."{chunks.MARK}".size')"""
    sql = (
        f"SELECT r.row, {size} FROM records r JOIN bodies b ON b.row = r.row AND b.version = r.body AND b.part = 0 "
        f"WHERE r.row IN ({{}}) AND json_valid(b.body) AND {size} IS NOT NULL"
    )
    return {row: int(found) for row, found in db.select_in(sql, rows)}


def idle_values(db: Connection, since: Micros, after: int, most: int) -> list[int]:
    """Live values, by row, which nobody has read or put since, and which are to stay nowhere else."""
    sql = (
        "SELECT r.row FROM records r LEFT JOIN accesses a ON a.row = r.row WHERE r.row > ? "
        f"AND r.row IN (SELECT row FROM value_chunks) AND r.state = {LIVE} AND r.expires_at IS NULL "
        "AND max(r.updated_at, coalesce(a.last_at, 0)) < ? AND r.row NOT IN (SELECT row FROM placements) "
        "ORDER BY r.row LIMIT ?"
    )
    return [row for (row,) in db.execute(sql, (after, since, most))]


def is_own(records: Records, space: int) -> bool:
    """Whether a namespace is one of the package's own; or nobody's any more, since its user was erased."""
    try:
        return bool(space) and records.names.path(records.db, space).startswith(OWN)
    except NotFoundError:
        return True


def leaving(records: Records, rows: Sequence[int]) -> list[tuple[Stored, Body]]:
    """Those of the records that may leave, with what leaves of them. A change meanwhile is seen by ``shelve``."""
    found = sorted(stored for stored in records.find_rows(rows) if may_leave(records, stored))
    vectors, parts = records.vectors(found), dict[int, list[tuple[int, int, str]]]()
    sql = "SELECT row, version, part, body FROM bodies WHERE row IN ({}) ORDER BY row, version, part"
    for row, version, part, text in records.db.select_in(sql, [stored.row for stored in found]):
        parts.setdefault(row, []).append((version, part, text))
    return [
        (
            stored,
            Body(
                stored.row, stored.id, stored.version, stored.vectors, stored.content,
                vectors.get(stored.row, b""), tuple(parts.get(stored.row, ())),
            ),
        )
        for stored in found
    ]  # fmt: skip


# -- there, and back ---------------------------------------------------------------------------------------------------


def shelve(
    repository: Repository,
    found: Sequence[tuple[Stored, Body]],
    name: str,
    now: Micros,
    generation: int,
    failed: Collection[int] = (),
) -> set[int]:
    """Keep of records only what stays, each with an ARCHIVE event; the rest is in the archive ``name``.

    ``generation`` is that of the vectors there. Returns the rows of those that were left as they are, since they are no
    longer what was archived, or ``failed`` to get there whole.
    """
    db = repository.db
    current = {stored.row: stored for stored in repository.find_rows(stored.row for stored, _ in found)}
    same = [
        stored
        for stored, _ in found
        if current.get(stored.row) == stored and repository.generation == generation and stored.row not in failed
    ]
    rows = [stored.row for stored in same]
    stubs = [stored._replace(content="", state=ARCHIVED) for stored in same]
    db.executemany(
        f"UPDATE records SET state = {ARCHIVED}, content = '', checksum = ? WHERE row = ?",
        [(checksum(stub), stub.row) for stub in stubs],
    )
    embeddings.remove(db, repository.embedding_tables(), rows)
    db.executemany(
        "DELETE FROM bodies WHERE row = ? AND NOT (part = 0 AND version = coalesce(?, -1))",
        [(stored.row, stored.body) for stored in same],
    )
    db.execute_in("DELETE FROM value_chunks WHERE row IN ({})", rows)
    chunks.collect(db)
    for layer in {stored.layer for stored in same}:
        accounting.unqueue(db, layer, [(one.begun, one.row) for one in same if one.layer == layer])
    accounting.resize(db, ((one.row, one.layer, -1, -one.size) for one in same))
    _note(repository, same, name, now)
    db.execute(
        "UPDATE archives SET state = ?, records = ?, live = ? WHERE name = ?", (WRITTEN, len(found), len(same), name)
    )
    left = {stored.row for stored, _ in found} - set(rows)
    # What is in there and was not to be: it may have been erased by now, and nothing else would say where it is.
    db.executemany(
        "INSERT OR IGNORE INTO burials VALUES (?, ?, ?)",
        [(name, one.row, one.user) for one, _ in found if one.row in left],
    )
    return left


def move(repository: Repository, found: Iterable[Stored], names: Iterable[str], name: str, now: Micros) -> int:
    """Note that what lay in some archives lies in another one, too, from now on: of those that are still there."""
    were, db = set(names), repository.db
    here = places(db, [stored.row for stored in found])
    moved = [stored for stored in found if here.get(stored.row) in were]
    _leave(db, [here[stored.row] for stored in moved], now)
    _note(repository, moved, name, now)
    return len(moved)


def bury_others(repository: Repository, found: Iterable[Stored], name: str) -> None:
    """Have those of the records leave an archive that do not lie there: they came back, or went, while it was written,
    and nothing else would say that it has a copy of them."""
    every = {stored.row: stored.user for stored in found}
    here = places(repository.db, every)
    others = [(name, row, user) for row, user in every.items() if here.get(row) != name]
    repository.db.executemany("INSERT OR IGNORE INTO burials VALUES (?, ?, ?)", others)


def _note(repository: Repository, found: Sequence[Stored], name: str, now: Micros) -> None:
    repository.db.executemany("INSERT OR REPLACE INTO archived VALUES (?, ?)", [(one.row, name) for one in found])
    data = json.dumps({"archive": name})
    repository.note_events((one.row, EventType.ARCHIVE, now, one.version, data) for one in found)


def unshelve(
    repository: Repository,
    found: Sequence[Back],
    now: Micros,
    generation: int,
    pieces: Mapping[int, Mapping[int, Sequence[Piece]]],
) -> tuple[list[int], set[str]]:
    """Make records whole again, each with a REHYDRATE event; the rows of those that were not whole until now, and the
    files that are the store's now of the ``pieces`` that values consist of, by row and version.

    The time of a live one in its layer begins anew: otherwise the rules would let it go at once. ``generation`` is that
    of the embeddings. Left as they are, for the caller to fetch again, are records that lie elsewhere by now, since
    they may have changed on the way, and all of them where the store has moved to another model.
    """
    db, done = repository.db, list[Stored]()
    if repository.generation != generation:
        return [], set()
    here = places(db, [one.body.row for one in found])
    there = {one.body.row: one.archive for one in found if here.get(one.body.row) == one.archive}
    current = {stored.row: stored for stored in repository.find_rows(there)}
    held = list[tuple[int, int, bytes]]()
    for one in {one.body.row: one for one in found}.values():
        stub = current.get(one.body.row)
        if stub is None or one.body.row not in there:
            continue
        whole = _whole(stub, one, now)
        bodies.write(db, _by_version(one.body))
        db.execute(
            "UPDATE records SET state = ?, content = ?, vectors = ?, body = ?, body_size = ?, fingerprint = ?, "
            "aged_from = ?, checksum = ? WHERE row = ?",
            (
                whole.state, whole.content, whole.vectors, whole.body, whole.body_size, whole.fingerprint,
                whole.aged_from, checksum(whole), whole.row,
            ),
        )  # fmt: skip
        held.append((whole.row, whole.vectors, one.embeddings))
        done.append(whole)
    used = chunks.refer(
        db,
        [
            Brought(one.user, one.space, one.row, version, listed)
            for one in done
            for version, listed in pieces.get(one.row, {}).items()
        ],
    )
    embeddings.replace(db, repository.embeddings, held)
    rows = [stored.row for stored in done]
    db.execute_in("DELETE FROM archived WHERE row IN ({})", rows)
    _leave(db, [there[row] for row in rows], now)
    repository.note_events((stored.row, EventType.REHYDRATE, now, stored.version, None) for stored in done)
    live = [stored for stored in done if stored.state == LIVE]
    accounting.resize(db, ((stored.row, stored.layer, 1, stored.size) for stored in live))
    for layer in {stored.layer for stored in live}:
        sizes = [stored.size for stored in live if stored.layer == layer]
        repository.grow(layer, len(sizes), sum(sizes))
    accounting.queue(db, [stored.row for stored in live])
    accounting.touch(db, [stored.row for stored in live])
    return rows, used


def _whole(stub: Stored, back: Back, now: Micros) -> Stored:
    sizes = Counter[int]()
    for version, _, text in back.body.parts:
        sizes[version] += bodies.size({0: text})
    body = stub.body if stub.body in sizes else None
    whole = stub._replace(
        content=back.body.content, vectors=back.vectors, body=body, body_size=0 if body is None else sizes[body]
    )
    if stub.state == ARCHIVED:
        whole = whole._replace(state=LIVE, aged_from=max(now, stub.begun))
    return whole._replace(fingerprint=key_of(whole))


def _by_version(body: Body) -> list[tuple[int, int, dict[int, str]]]:
    parts = dict[int, dict[int, str]]()
    for version, part, text in body.parts:
        parts.setdefault(version, {})[part] = text
    return [(body.row, version, each) for version, each in parts.items()]


def _leave(db: Connection, names: Iterable[str], now: Micros) -> None:
    """Count records less in the archives that this store has written, and note when there are none left."""
    gone = Counter(names)
    db.executemany("UPDATE archives SET live = live - ? WHERE name = ?", [(n, name) for name, n in gone.items()])
    db.executemany("UPDATE archives SET emptied_at = ? WHERE name = ? AND live <= 0", [(now, name) for name in gone])


def bury(db: Connection, found: Sequence[Stored], now: Micros) -> None:
    """Records are being erased: note the archives that have copies of them. Before their events lose what they say."""
    rows = [stored.row for stored in found]
    here = places(db, rows)
    sql = "SELECT row, json_extract(data, '$.archive') FROM history WHERE row IN ({}) AND event = 'ARCHIVE'"
    held = {*here.items(), *((row, name) for row, name in db.select_in(sql, rows) if name)}
    if not held:
        return
    users = {stored.row: stored.user for stored in found}
    db.executemany(
        "INSERT OR IGNORE INTO burials VALUES (?, ?, ?)", [(name, row, users[row]) for row, name in sorted(held)]
    )
    for start in range(0, len(rows), CHUNK):
        db.execute_in("DELETE FROM archived WHERE row IN ({})", rows[start : start + CHUNK])
    _leave(db, here.values(), now)


# -- the archives ------------------------------------------------------------------------------------------------------


def archives(db: Connection) -> list[Archive]:
    """The archives that this store has written, or is writing."""
    return [
        Archive._make(row) for row in db.execute(f"SELECT {', '.join(Archive._fields)} FROM archives ORDER BY at, name")
    ]


def archive(db: Connection, name: str) -> Archive | None:
    """One of them, or None."""
    rows = db.execute(f"SELECT {_LINE} FROM archives WHERE name = ?", (name,))
    return Archive._make(rows[0]) if rows else None


def begin(db: Connection, name: str, now: Micros) -> None:
    """Note an archive that is about to be written."""
    db.execute("INSERT INTO archives VALUES (?, ?, 1, 0, 0, 0, 0, ?, NULL)", (name, WRITING, now))


def put(db: Connection, found: Archive) -> None:
    """Change the line of an archive, or add it."""
    db.execute(f"INSERT OR REPLACE INTO archives VALUES ({', '.join('?' * len(found))})", found)


def forget(db: Connection, name: str) -> None:
    """Remove the line of an archive that is no more."""
    db.execute("DELETE FROM archives WHERE name = ?", (name,))
    db.execute("DELETE FROM burials WHERE archive = ?", (name,))


def is_due(db: Connection) -> bool:
    """Whether archives may have what was erased: that is noted, or they are being written, maybe by somebody dead."""
    sql = "SELECT EXISTS (SELECT 1 FROM burials) OR EXISTS (SELECT 1 FROM archives WHERE state = ?)"
    return bool(db.execute(sql, (WRITING,))[0][0])


def burials(db: Connection) -> dict[str, set[int]]:
    """What is yet to leave which archive: rows, by the archive's name."""
    found = dict[str, set[int]]()
    for name, row in db.execute("SELECT archive, row FROM burials"):
        found.setdefault(name, set()).add(row)
    return found


def buried(db: Connection, name: str, rows: Iterable[int]) -> None:
    """Note that these rows have left an archive."""
    db.executemany("DELETE FROM burials WHERE archive = ? AND row = ?", [(name, row) for row in rows])


def any_of(db: Connection, user: int) -> bool:
    """Whether anything of a user's lies in archives that was not erased."""
    sql = f"SELECT 1 FROM records r WHERE r.user = ? AND r.state != {LIVE} AND r.state != {ERASED} "
    return bool(db.execute(sql + "AND EXISTS (SELECT 1 FROM archived a WHERE a.row = r.row) LIMIT 1", (user,)))


def unreadable(db: Connection, user: int, names: Iterable[str]) -> None:
    """Note that nobody can read any more what archives have of a user: the key is gone that they were sealed with."""
    db.executemany("DELETE FROM burials WHERE user = ? AND archive = ?", [(user, name) for name in names])


def take_over(old: Connection, new: Connection, now: Micros) -> None:
    """Note in a database that takes another one's place what that knows of its archives; with both to oneself."""
    held = Counter(name for _, name in all_places(new))
    new.execute("BEGIN")
    for line in archives(old):
        live = held[line.name]
        put(new, line._replace(live=live, emptied_at=None if live else line.emptied_at or now))
    rows = old.execute("SELECT archive, row, user FROM burials")
    new.executemany("INSERT OR IGNORE INTO burials VALUES (?, ?, ?)", rows)
    new.execute("COMMIT")


def model(db: Connection) -> dict[str, object]:
    """What tells the vectors of one model from those of another."""
    return {key: meta.get(db, key) for key in (meta.MODEL, meta.DIM, meta.MODEL_FINGERPRINT)}
