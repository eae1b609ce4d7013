"""Records by key: in each namespace of a user, one live or archived record has it.

Deleting, expiry and erasing free a key. Whoever makes it again goes on with its version, so that a change that was made
conditional on a version of before cannot succeed. What has lapsed counts as absent, and expires when it is met.

Functions that write expect to be inside a transaction, and decide everything before they change anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentmem.stores import accounting, bodies, chunks, documents, embeddings, forms, keyed, meta, past
from agentmem.stores.connection import CHUNK, Row, Value
from agentmem.stores.facts import checksum
from agentmem.stores.records import STANDING, USED, Records
from agentmem.stores.repetition import id_in_use
from agentmem.stores.rows import AwayError, Created, Numbers, ScopeKey, Stored, exact, expired
from agentmem.stores.schema import ARCHIVED, EXPIRED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import EventType
from agentmem.types.errors import ConflictError
from agentmem.types.forms import OF_CONTENT
from agentmem.types.ids import uuid7s
from agentmem.types.inputs import Draft
from agentmem.types.spelling import composed, spellings

_KEPT = f"r.key IS NOT NULL AND r.state IN ({LIVE}, {ARCHIVED})"
_AT_ONCE = 4_096
"""Bytes of a chunk that are read with a value's record, whether or not it is at hand already."""
_LOOK = (
    f"{STANDING}, b.body, p.tier, {{columns}} FROM (SELECT 1) "
    f"LEFT JOIN records r INDEXED BY records_by_key ON r.user = ? AND r.space = ? AND r.key = ? AND {_KEPT} "
    "LEFT JOIN bodies b ON b.row = r.row AND b.version = r.body AND b.part >= 0 "
    "LEFT JOIN placements p ON p.row = r.row {joined}LIMIT 2"
)
_RECORD = _LOOK.format(columns=USED, joined="")
_TERMS = {
    "row", "id", "user", "agent", "run", "created_at", "updated_at", "expires_at", "version", "state", "space", "key",
    "metadata", "sliding",
}  # fmt: skip
"""What says whether a record is there, how long, and what its metadata are: a third of the time of all of it."""
_READ = {
    "row", "id", "user", "agent", "run", "importance", "expires_at", "version", "state",
    "space", "key", "body", "body_size", "vectors", "sliding",
}  # fmt: skip
"""What reading a value takes of its record: to read the others, too, is a sixth of the time."""
_PARTLY, _BRIEFLY = (
    ", ".join(f"r.{name}" if name in read else "NULL" for name in Stored._fields) for read in (_READ, _TERMS)
)
_FIND, _FIND_TERMS = (
    f"SELECT {columns} FROM records r INDEXED BY records_by_key WHERE r.user = ? AND r.space = ? AND r.key = ? "
    f"AND {_KEPT}"
    for columns in (USED, _BRIEFLY)
)
_VALUE = _LOOK.format(
    columns=f"{_PARTLY}, {chunks.PART}",
    joined="LEFT JOIN value_chunks v ON v.row = r.row AND v.version = r.body AND v.start = 0 "
    f"LEFT JOIN chunks c ON c.n = v.chunk AND c.file IS NULL AND c.stored <= {_AT_ONCE} ",
)
_PART = len(chunks.Part._fields)
_FORMER = f"r.key IS NOT NULL AND r.state NOT IN ({LIVE}, {ARCHIVED})"
_PUT = ("role", "kind", "layer", "content", "metadata", "importance", "occurred_at", "expires_at", "sliding")
"""Columns that a put replaces; it begins the record's time in its layer anew, too."""


_FORM = ("vectors", "body")
"""And those that most records make no use of."""


class Place(NamedTuple):
    """Where a key is: the numbers of its user and of the namespace."""

    user: int
    space: int
    key: str


def find(records: Records, key: str, scope: ScopeKey | None, *, terms: bool = False) -> Stored | None:
    """The live or archived record of a key inside a scope of one namespace, a lapsed one too.

    With ``terms`` only whose it is, how long it is there, its version and its metadata; the rest is None.
    """
    if scope is None or scope.user is None or scope.space is None:
        return None
    # Half the time of ``holders`` for a single one.
    found = records.db.execute(_FIND_TERMS if terms else _FIND, (scope.user, scope.space, key))
    stored = Stored._make(found[0]) if found else None
    return stored if stored is not None and scope.admits(*stored.scope) else None


class Looked(NamedTuple):
    """A record with its data and the tier it was placed in; of a value the first chunk too, if it is small."""

    stored: Stored | None
    text: str | None = None
    placed: str | None = None
    first: chunks.Part | None = None


def look(records: Records, key: str, scope: ScopeKey | None, *, chunk: bool = False) -> Looked | None:
    """What ``find`` finds, with its data where that is small and the record live; None if more has to be asked.

    With ``chunk`` what a value begins with, and of its record only what reading that takes: the rest is None.

    It is one statement, a driver's call being most of what a read takes: it reads also what ``is_current`` does, and is
    of no use where names that the scope was made of were removed since, or the model is another one.
    """
    if scope is None or scope.user is None or scope.space is None:
        return None
    epoch = records.names.epoch
    # More than one row where the data has several parts.
    asked = (scope.user, scope.space, key)
    (generation, now, text, placed, *columns), *more = records.db.execute(_VALUE if chunk else _RECORD, asked)
    if not records.stands(generation, now) or records.names.epoch != epoch:
        return None
    if columns[0] is None:
        return Looked(None)
    first = None
    if chunk:
        columns, part = columns[:-_PART], columns[-_PART:]
        first = None if part[-1] is None else chunks.Part._make(part)
    stored = Stored._make(columns)
    if not scope.admits(*stored.scope):
        return Looked(None)
    whole = not more and (text is not None or stored.body is None or stored.has_texts)
    return Looked(stored, text, placed, first) if whole and stored.state == LIVE else None


def listed(
    records: Records, scope: ScopeKey | None, prefix: str, after: str | None, limit: int, *, archived: bool = False
) -> list[Stored]:
    """The live records of a scope of one namespace whose keys begin so, by their keys, after one of them; with
    ``archived`` also those that lie in archives."""
    if scope is None or scope.user is None or scope.space is None:
        return []
    tests = [test for column, test, _ in scope.tests() if column in ("agent", "run")]
    bound = [value for column, _, values in scope.tests() if column in ("agent", "run") for value in values]
    sql = (
        f"SELECT {USED} FROM records r INDEXED BY records_by_key WHERE r.user = ? AND r.space = ? AND r.key >= ? "
        f"AND r.key < ? AND r.key > ? AND r.state IN ({LIVE}, {ARCHIVED if archived else LIVE}) "
        f"AND {' AND '.join([_KEPT, *tests])} ORDER BY r.key LIMIT ?"
    )
    # No key is longer than that, so none that begins so comes after it.
    end = prefix + "\U0010ffff" * 600
    return [
        Stored._make(found)
        for found in records.db.execute(
            sql, (scope.user, scope.space, prefix, end, "" if after is None else after, *bound, limit)
        )
    ]


def everything_of(records: Records, key: str, scope: ScopeKey | None) -> list[Stored]:
    """The records that have a key, or had it when they were deleted or expired, inside a scope of one namespace."""
    if scope is None or scope.user is None or scope.space is None:
        return []
    found = list[Stored]()
    for index, state in (("records_by_key", _KEPT), ("records_by_former_key", _FORMER)):
        where = f"r.user = ? AND r.space = ? AND r.key = ? AND {state}"
        sql = f"SELECT {USED} FROM records r INDEXED BY {index} WHERE {where}"
        found += map(Stored._make, records.db.execute(sql, (scope.user, scope.space, key)))
    return [stored for stored in found if scope.admits(*stored.scope)]


def holders(records: Records, places: Iterable[Place]) -> dict[Place, Stored]:
    """The live or archived records of keys, lapsed ones too."""
    sql = (
        f"WITH wanted (user, space, name) AS (VALUES {{}}) SELECT {USED} FROM wanted w CROSS JOIN records r "
        f"INDEXED BY records_by_key ON r.user = w.user AND r.space = w.space AND r.key = w.name WHERE {_KEPT}"
    )
    found = map(Stored._make, _select(records, sql, list(dict.fromkeys(places))))
    return {Place(stored.user, stored.space, str(stored.key)): stored for stored in found}


def former_versions(records: Records, places: Iterable[Place]) -> dict[Place, int]:
    """The highest version that any record had which had a key before, whatever became of it; 0 if none had it."""
    wanted = list(dict.fromkeys(places))
    floor = int(records.meta(meta.FORMER_KEYS) or 0)
    found = dict.fromkeys(wanted, floor)
    secret = bytes(records.meta(meta.ERASURE_KEY))
    names: dict[tuple[int, int, str | bytes], Place] = {
        (place.user, place.space, name): place
        for place in wanted
        for name in (place.key, keyed.former_key(secret, place.key))
    }
    sql = (
        "WITH wanted (user, space, name) AS (VALUES {}) SELECT w.user, w.space, w.name, max(r.version) FROM wanted w "
        "CROSS JOIN records r INDEXED BY records_by_former_key ON r.user = w.user AND r.space = w.space "
        f"AND r.key = w.name WHERE {_FORMER} GROUP BY 1, 2, 3"
    )
    for user, space, name, version in _select(records, sql, list(names)):
        place = names[user, space, name]
        found[place] = max(found[place], version)
    return found


def put(repository: Repository, drafts: Sequence[Draft], vectors: Sequence[bytes], now: Micros) -> list[Created]:
    """Store drafts by their keys, each of which occurs once: what is there is replaced as a whole, and keeps its id.

    Raises ``ConflictError`` with the ``index`` of the draft, before anything has changed, if a record is not at the
    draft's ``if_version``, if it is one of another agent or run or has another id than the draft, or if a new one's
    id is taken; ``AwayError`` if one has gone to an archive. Where any has the ``new_id`` of its draft, all of it was
    done by the same call before, and nothing is done now.
    """
    numbers = [repository.numbers_of(draft.scope) for draft in drafts]
    places = [Place(one[0], one[3], str(draft.key)) for one, draft in zip(numbers, drafts, strict=True)]
    there, made = holders(repository, places), _made_before(repository, drafts)
    if made and all(at in made or place in there for at, place in enumerate(places)):
        return [
            Created("added", made[at]) if at in made else Created("replaced", there[place])
            for at, place in enumerate(places)
        ]
    for at, place in enumerate(places):
        if place in there and there[place].state == ARCHIVED:  # it was brought back before, and archived again since
            raise AwayError(there[place].id, at)
    lapsed = [stored for stored in there.values() if expired(stored, now)]
    for stored in lapsed:
        del there[_place(stored)]
    absent = former_versions(repository, (place for place in places if place not in there))
    for stored in lapsed:
        absent[_place(stored)] = max(absent[_place(stored)], stored.version + 1)
    by_id = _with_ids(repository, drafts)
    for at, (draft, place) in enumerate(zip(drafts, places, strict=True)):
        try:
            check_version(place.key, there.get(place), draft.if_version)
            if (current := there.get(place)) is not None:
                _check_owner(current, draft, *numbers[at][1:3])
            _check_id(draft, current, by_id, numbers[at], now)
        except ConflictError as exc:
            exc.index = at
            raise
    ids, row = iter(uuid7s(len(absent), now)), repository.last_row() + 1
    written = list[forms.Brought]()
    new, changed = list[tuple[Stored, bytes]](), list[tuple[Stored, Stored, bytes]]()
    outcomes = list[Created]()
    for draft, place, scope, vector in zip(drafts, places, numbers, vectors, strict=True):
        current = there.get(place)
        if current is None:
            id = draft.id or draft.new_id
            stored = Stored(
                row, next(ids) if id is None else composed(id), *scope[:3], draft.role, draft.kind,
                draft.layer.value, draft.content, draft.metadata, draft.importance, None, now, now, draft.occurred_at,
                draft.end(now), absent[place] + 1, LIVE, 0, None,
                None, place.space, place.key, sliding=draft.sliding,
            )  # fmt: skip
            row += 1
        else:
            stored = _replaced(current, draft, now)
        if draft.form is not None:
            stored = forms.begin(stored, draft.form, written)
        if draft.data is not None:
            stored = documents.begin(repository.db, stored, draft.data, current, written)
        if current is None:
            new.append((stored, vector))
        else:
            changed.append((current, stored, vector))
        outcomes.append(Created("added" if current is None else "replaced", stored, data=draft.data))
    expire(repository, lapsed, now)
    repository.insert(new, now)
    _replace(repository, changed, now)
    if written:
        bodies.write(repository.db, written)
    return outcomes


def delete(repository: Repository, stored: Stored | None, key: str, if_version: int | None, now: Micros) -> bool:
    """Hide the record of a key; False if there was none. Raises ``ConflictError`` if it is not at ``if_version``."""
    lapsed = stored is not None and expired(stored, now)
    check_version(key, None if lapsed else stored, if_version)
    if stored is None:
        return False
    if lapsed:
        expire(repository, [stored], now)
        return False
    repository.delete_rows([stored], now)
    return True


def expire(repository: Repository, found: Sequence[Stored], now: Micros) -> None:
    """Hide records whose ``ttl`` has passed, each with its EXPIRE event, as a sweep would."""
    if not found:
        return
    db = repository.db
    db.executemany(
        f"UPDATE records SET state = {EXPIRED}, version = version + 1, updated_at = ? WHERE row = ?",
        [(now, stored.row) for stored in found],
    )
    repository.note_events(
        (
            stored.row,
            EventType.EXPIRE,
            now,
            stored.version + 1,
            json.dumps({"rule": "ttl", "from": stored.layer, "threshold": _iso(stored.expires_at)}),
        )
        for stored in found
    )
    accounting.resize(db, ((one.row, one.layer, -1, -one.size) for one in found))


def make_room(repository: Repository, stored: Stored, now: Micros) -> int:
    """Before a record with a key comes back: nothing else may have it. Returns the version to go on from.

    Raises ``ConflictError``.
    """
    place = _place(stored)
    holder = holders(repository, [place]).get(place)
    if holder is not None and not expired(holder, now):
        raise ConflictError(
            f"record {stored.id!r} cannot come back: its key {stored.key!r} is that of {holder.id!r} now; delete that "
            "one first"
        )
    if holder is not None:
        expire(repository, [holder], now)
    return former_versions(repository, [place])[place]


def returnable(repository: Repository, found: Sequence[Stored], now: Micros) -> list[Stored]:
    """Those of hidden records that can come back together: of a key's, the last one, if nothing has the key now."""
    places = [_place(stored) for stored in found if stored.key is not None]
    holder = holders(repository, places)
    lapsed = [stored for stored in holder.values() if expired(stored, now)]
    expire(repository, lapsed, now)
    taken, former = holder.keys() - {_place(stored) for stored in lapsed}, former_versions(repository, places)
    return [
        stored
        for stored in found
        if stored.key is None or (_place(stored) not in taken and stored.version == former[_place(stored)])
    ]


def check_version(key: str, stored: Stored | None, if_version: int | None) -> None:
    """Raise ``ConflictError`` if the record of a key is not at a version; 0 means that there is none."""
    found = 0 if stored is None else stored.version
    if if_version is None or if_version == found:
        return
    if not found:
        raise ConflictError(f"there is no record with the key {key!r}, so none at version {if_version}")
    if not if_version:
        raise ConflictError(f"there is a record with the key {key!r} already, at version {found}")
    raise ConflictError(f"the record with the key {key!r} is at version {found}, not {if_version}; read it again")


def _select(records: Records, sql: str, wanted: Sequence[tuple[Value, ...]]) -> list[Row]:
    """Rows of ``sql``, whose ``{}`` becomes the placeholders of triples."""
    found = list[Row]()
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        found += records.db.execute(
            sql.format(",".join(["(?,?,?)"] * len(chunk))), tuple(value for each in chunk for value in each)
        )
    return found


def _place(stored: Stored) -> Place:
    return Place(stored.user, stored.space, str(stored.key))


def _iso(at: Micros | None) -> str | None:
    return None if at is None else to_datetime(at).isoformat()


def _check_owner(current: Stored, draft: Draft, agent: int, run: int) -> None:
    if agent not in (0, current.agent) or run not in (0, current.run):
        what = "agent" if agent not in (0, current.agent) else "run"
        raise ConflictError(
            f"the record with the key {draft.key!r} is that of another {what}; leave {what}_id out to replace it, or "
            "delete it first"
        )


def _made_before(records: Records, drafts: Sequence[Draft]) -> dict[int, Stored]:
    """By the positions of drafts the records that have their ``new_id``."""
    wanted = {draft.new_id: at for at, draft in enumerate(drafts) if draft.id is None and draft.new_id is not None}
    return {wanted[stored.id]: stored for stored in records.find_ids(wanted)} if wanted else {}


def _with_ids(records: Records, drafts: Sequence[Draft]) -> dict[str, Stored]:
    """The records that have ids of drafts, by the ids."""
    chosen = [spelling for draft in drafts if draft.id is not None for spelling in spellings(draft.id)]
    return {stored.id: stored for stored in records.find_ids(chosen)} if chosen else {}


def _check_id(draft: Draft, current: Stored | None, by_id: dict[str, Stored], scope: Numbers, now: Micros) -> None:
    """Raise ``ConflictError`` if the id that was chosen for a record is not the key's or, of a new one, not free."""
    if draft.id is None:
        return
    if current is not None and current.id not in spellings(draft.id):
        whose = f"{current.id!r}" if current.scope == scope else "another"
        raise ConflictError(
            f"the record with the key {draft.key!r} has the id {whose}, not {draft.id!r}; leave id out to replace it, "
            "or delete it first"
        )
    taken = next((by_id[spelling] for spelling in spellings(draft.id) if spelling in by_id), None)
    if current is None and taken is not None:
        raise id_in_use(draft, scope, taken, now)


def _replaced(current: Stored, draft: Draft, now: Micros) -> Stored:
    return current._replace(
        role=draft.role, kind=draft.kind, layer=draft.layer.value, content=draft.content, metadata=draft.metadata,
        importance=draft.importance, occurred_at=draft.occurred_at, expires_at=draft.end(now), updated_at=now,
        version=current.version + 1, aged_from=max(now, current.begun), fingerprint=None, sliding=draft.sliding,
        body=None, body_size=0, vectors=OF_CONTENT,
    )  # fmt: skip


def _replace(repository: Repository, changed: Sequence[tuple[Stored, Stored, bytes]], now: Micros) -> None:
    """Write records anew with their embeddings and UPDATE events, and tell of what has grown."""
    if not changed:
        return
    db = repository.db
    like_most = all(old.vectors == new.vectors == OF_CONTENT and old.body == new.body for old, new, _ in changed)
    put = _PUT if like_most else (*_PUT, *_FORM, "body_size")
    sets = ", ".join(f"{column} = ?" for column in (*put, "updated_at", "version", "aged_from", "fingerprint"))
    db.executemany(
        f"UPDATE records SET {sets}, checksum = ? WHERE row = ?",
        [
            (
                *(exact(getattr(new, column)) for column in put),
                new.updated_at, new.version, new.aged_from, new.fingerprint, checksum(new), new.row,
            )
            for _, new, _ in changed
        ],
    )  # fmt: skip
    db.executemany(
        f"UPDATE {repository.embeddings} SET vector = ? WHERE row = ?",
        [
            (vector, new.row)
            for old, new, vector in changed
            if old.content != new.content and old.vectors == new.vectors == OF_CONTENT
        ],
    )
    given = dict[int, bytes]()
    if not like_most:
        given = repository.vectors([old for old, _, _ in changed if old.vectors < 0])
        other = [(new.row, new.vectors, held) for old, new, held in changed if (old.vectors, new.vectors) != (1, 1)]
        embeddings.replace(db, repository.embeddings, other)
    repository.note_events(
        (new.row, EventType.UPDATE, now, new.version, _before(old, new, given.get(new.row, b"")))
        for old, new, _ in changed
    )
    accounting.resize(
        db,
        ((one.row, one.layer, sign, sign * one.size) for old, new, _ in changed for one, sign in ((old, -1), (new, 1))),
    )
    growth = dict[str, tuple[int, int]]()
    for old, new, _ in changed:
        moved = old.layer != new.layer
        more = new.size if moved else max(0, new.size - old.size)
        if moved or more:
            count, size = growth.get(new.layer, (0, 0))
            growth[new.layer] = (count + moved, size + more)
    for layer, (count, size) in growth.items():
        repository.grow(layer, count, size)
    for layer in {old.layer for old, _, _ in changed}:
        accounting.unqueue(db, layer, [(old.begun, old.row) for old, _, _ in changed if old.layer == layer])
    accounting.queue(db, [new.row for _, new, _ in changed])
    accounting.touch(
        db, [new.row for old, new, _ in changed if (old.layer, old.importance) != (new.layer, new.importance)]
    )


def _before(old: Stored, new: Stored, given: bytes) -> str | None:
    """What an event tells: the values that were replaced."""
    columns = _PUT if old.vectors == new.vectors and old.body == new.body else (*_PUT, *_FORM)
    replaced = {column: getattr(old, column) for column in columns if getattr(old, column) != getattr(new, column)}
    return past.with_past(replaced, past.replaced(old, new, given))
