"""What facts were drawn from, and which messages are yet to be looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import NamedTuple

from agentmem.engine.engine import Engine
from agentmem.stores import derived, evidence, meta
from agentmem.stores.connection import Value
from agentmem.stores.records import COLUMNS, UNEXPIRED
from agentmem.stores.rows import ScopeKey, Stored, kept, visible
from agentmem.stores.schema import ARCHIVED, DELETED, EXPIRED
from agentmem.types.inputs import Scope

_CHUNK = 500
_STATES = {DELETED: "deleted", EXPIRED: "expired", ARCHIVED: "archived"}


class Origin(NamedTuple):
    """A source of a fact as it is now: its id (None: it was erased), its state, the words there that say it."""

    id: str | None
    first: int | None
    end: int | None
    state: str
    words: str


def identity(engine: Engine) -> str:
    """A number that a store has, with its backups, and no other one."""
    engine.check()
    return sha256(bytes(engine.repository.meta(meta.ERASURE_KEY))).hexdigest()[:16]


def messages(engine: Engine, scope: Scope, roles: Collection[str], after: int, limit: int) -> list[Stored]:
    """Live messages of these roles whose rows are greater, ascending; those without a text are passed over."""
    engine.check()
    key, found = engine.key(scope), list[Stored]()
    if key is None:
        return found
    where, params = _messages(key, roles)
    sql = f"SELECT {COLUMNS} FROM records r WHERE {where} ORDER BY r.row LIMIT ?"
    while len(found) < limit:
        most = min(_CHUNK, limit - len(found))
        rows = engine.repository.db.execute(sql, (*params, engine.now(), after, most))
        found += map(Stored._make, rows)
        if len(rows) < most:
            break
        after = found[-1].row
    return found


def count(engine: Engine, scope: Scope, roles: Collection[str], after: int, most: int) -> int:
    """How many those are, counting up to ``most``: what they say is not read."""
    engine.check()
    key = engine.key(scope)
    if key is None:
        return 0
    where, params = _messages(key, roles)
    return engine.repository.count(where, (*params, engine.now(), after), most)


def _messages(key: ScopeKey, roles: Collection[str]) -> tuple[str, list[Value]]:
    """The condition that a record is such a message; after its parameters come the time and the row."""
    where, params = key.where()
    said = f"r.role IN ({','.join('?' * len(roles))}) AND r.content != '' AND {UNEXPIRED} AND r.row > ?"
    return f"{where} AND {said}", [*params, *roles]


def find(engine: Engine, scope: Scope, rows: Sequence[int]) -> list[Stored]:
    """Those of these messages that are still there, ascending."""
    engine.check()
    key, now = engine.key(scope), engine.now()
    if key is None:
        return []
    found = engine.repository.find_rows(rows)
    return sorted(one for one in found if one.role is not None and visible(one, now) and key.admits(*one.scope))


def origins(engine: Engine, scope: Scope | None, ids: Sequence[str]) -> dict[str, list[Origin]]:
    """What records were drawn from, by id."""
    engine.check()
    key, records, now = engine.key(scope, anywhere=True), engine.repository, engine.now()
    if key is None:
        return {}
    facts = [one for one in records.find_ids(ids) if kept(one, now) and key.admits(*one.scope)]
    held = {one.id: evidence.sources_of(one) for one in facts}
    rows = {source.row for sources in held.values() for source in sources}
    there = {one.row: one for one in records.find_rows(rows)}
    return {id: [_origin(source, there.get(source.row), now) for source in sources] for id, sources in held.items()}


def _origin(source: evidence.Held, there: Stored | None, now: int) -> Origin:
    if there is None or not isinstance(there.id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return Origin(None, source.first, source.end, "erased", "")
    state = _STATES.get(there.state, "live" if visible(there, now) else "expired")
    words = there.content[source.first or 0 : source.end] if state == "live" else ""
    return Origin(there.id, source.first, source.end, state, words)


def unsaid(engine: Engine, scope: Scope) -> list[Stored]:
    """Live facts of a scope that hold, all of whose sources were deleted."""
    engine.check()
    key, records, now = engine.key(scope), engine.repository, engine.now()
    if key is None or key.user is None:
        return []
    facts = [
        one
        for one in derived.every(records, key.user)
        if visible(one, now) and one.retired_at is None and one.kind == "fact" and key.admits(*one.scope)
    ]
    rows = {source.row for one in facts for source in evidence.sources_of(one)}
    deleted = {one.row for one in records.find_rows(rows) if one.state == DELETED}
    return [one for one in facts if all(source.row in deleted for source in evidence.sources_of(one))]
