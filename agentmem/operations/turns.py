"""The turns of a session: appended behind its record in one transaction, read in the order of appending, taken back.

The order is that of the rows, which no two transactions share: turns of the same instant, and those of several
processes, have one order for everybody. A turn is whatever has a role in the session's scope.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.apply import Step, run
from agentmem.stores import archived, documents, keys, renewal, transitions
from agentmem.stores.commit import rows_of
from agentmem.stores.connection import Row
from agentmem.stores.records import COLUMNS, UNEXPIRED, Records
from agentmem.stores.rows import Created, ScopeKey, Stored, Transition, expired, visible
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.data import copied, dumped
from agentmem.types.enums import EventType, Layer
from agentmem.types.errors import SessionClosedError
from agentmem.types.inputs import Draft, Scope
from agentmem.types.sessionkeys import CLOSED
from agentmem.types.toembed import draft_at, embeddings_of, texts_of

SLACK = 10
"""A session's end is put off once less than its ttl is left, by a tenth more: so one append in many writes it."""
_CHUNK = 500
_LAST = 2**62
_COLUMNS = (
    "r.row, r.id, r.role, r.content, coalesce(r.occurred_at, r.created_at), r.expires_at, r.agent, r.body, "
    "r.body_size, NULL"
)


class Turn(NamedTuple):
    """One turn as it is stored; ``data`` is JSON text, the message where that has more than a role and a text."""

    row: int
    id: str
    role: str
    content: str
    at: Micros
    expires_at: Micros | None
    agent: int
    body: int | None
    body_size: int
    data: str | None = None


class Appended(NamedTuple):
    """What an append did: whether it began the session, and what became of each turn."""

    began: bool
    created: list[Created]


# -- appending ---------------------------------------------------------------------------------------------------------


@metered("add")
def append(
    engine: Engine, session: Draft, turns: Sequence[Draft], *, only_new: bool = False, here: bool = False
) -> Future[Appended]:
    """Begin to append turns to the session whose record ``session`` is, if there is none yet; all or none.

    With ``only_new``, only if there is none: else ``ConflictError``. Raises ``SessionClosedError``.
    """
    engine.check_writable()
    engine.check_process()
    for at, draft in enumerate(turns):
        engine.adding.check_given(draft.form, at)
    found = dict[str, int]()
    for at, text in enumerate(texts_of(turns)):
        found.setdefault(text, draft_at(turns, at))
    rows = len(turns) + sum(rows_of(draft.data) for draft in turns)
    return engine.adding.submit_all(found, rows, partial(_append, session, turns, only_new), here=here)


def _append(
    session: Draft,
    turns: Sequence[Draft],
    only_new: bool,
    repository: Repository,
    vectors: Mapping[str, bytes],
    now: Micros,
) -> Appended:
    user, _, _, space = repository.numbers_of(session.scope)
    key, place = str(session.key), ScopeKey(user, None, None, space)
    stored = keys.find(repository, key, place, terms=True)
    began = stored is None or expired(stored, now)
    if stored is not None and began:
        _let_go(repository, session.scope, now)
    if began or only_new:
        draft = replace(session, if_version=0) if only_new else session
        keys.put(repository, [draft], embeddings_of([draft], []), now)
    elif stored is not None:
        check_open(stored)
        _put_off(repository, stored, key, place, now)
    made = embeddings_of(turns, [vectors[text] for text in texts_of(turns)])
    return Appended(began, repository.batch_create(turns, made, now) if turns else [])


def _let_go(repository: Repository, scope: Scope, now: Micros) -> None:
    """The session of before is over: what no sweep has found yet of its turns goes now, so that the new one has none of
    them. What was promoted for good, or pinned, stays a memory."""
    key = repository.scope_key(place_of_turns(scope))
    if key is None:
        return
    rows = [turn.row for turn in _rows(repository, key, now, 2**53, None, 0)]
    found = [one for one in transitions.subjects(repository.db, rows) if not one.pinned and one.layer != Layer.ASSETS]
    data = {"threshold": to_datetime(now).isoformat()}
    transitions.apply(
        repository,
        [Transition(one, EventType.EXPIRE, "session", {"from": one.layer, **data}) for one in found],
        now,
    )


def place_of_turns(scope: Scope) -> Scope:
    """Where the turns of a session are, by the scope of its record."""
    return replace(scope, namespace=(scope.namespace or ())[1:])


def check_open(stored: Stored) -> None:
    """Raise ``SessionClosedError`` for the record of a session that was closed."""
    closed = json.loads(stored.metadata).get(CLOSED) if stored.metadata else None
    if closed is not None:
        raise SessionClosedError(f"the session was closed at {closed}; reopen() lets it go on")


def _check_open(repository: Repository, session: tuple[str, Scope], now: Micros) -> None:
    """The same for the key of that record, and where it is."""
    record = keys.find(repository, session[0], repository.scope_key(session[1]), terms=True)
    if record is not None and visible(record, now):
        check_open(record)


def _put_off(repository: Repository, terms: Stored, key: str, place: ScopeKey, now: Micros) -> None:
    span, end = terms.sliding, terms.expires_at
    if span is not None and end is not None and end - now < ttl_of(span):
        stored = keys.find(repository, key, place)
        assert stored is not None  # it is there, and this is one transaction
        renewal.set_ends(repository, [(stored, now + span, span)], now)


def span_of(ttl: Micros) -> Micros:
    """By how much an append puts off a session's end."""
    return ttl + max(1, ttl // SLACK)


def ttl_of(span: Micros) -> Micros:
    """What is left at least after each append."""
    return span * SLACK // (SLACK + 1)


# -- reading -----------------------------------------------------------------------------------------------------------


def newest(engine: Engine, scope: Scope, limit: int, *, before: int | None = None, after: int = 0) -> list[Turn]:
    """The last ``limit`` turns of a scope, oldest first, of those between two rows, both excluded."""
    engine.check()
    key = engine.key(scope)
    if key is None:
        return []
    records = engine.repository
    found = _rows(records, key, engine.now(), limit, before, after)
    texts = documents.read(records.db, found, set())
    # One that was changed since it was read, and with its data, or has gone to an archive, is read again.
    if any(turn.body is not None and turn.row not in texts for turn in found):
        found = _rows(records, key, engine.now(), limit, before, after)
        texts = documents.read(records.db, found, set())
    return [turn._replace(data=texts.get(turn.row)) if turn.body is not None else turn for turn in reversed(found)]


def _rows(records: Records, key: ScopeKey, now: Micros, limit: int, before: int | None, after: int) -> list[Turn]:
    """Newest first."""
    return list(map(Turn._make, _select(records, _COLUMNS, key, now, limit, before, after)))


def _stored(records: Records, key: ScopeKey, now: Micros, limit: int, before: int | None = None) -> list[Stored]:
    """The same with all that is stored of them."""
    return list(map(Stored._make, _select(records, COLUMNS, key, now, limit, before, 0)))


def _select(
    records: Records, columns: str, key: ScopeKey, now: Micros, limit: int, before: int | None, after: int
) -> list[Row]:
    where, params = key.where()
    sql = (
        f"SELECT {columns} FROM records r WHERE {where} AND r.role IS NOT NULL AND {UNEXPIRED} "
        "AND r.row < ? AND r.row > ? ORDER BY r.row DESC LIMIT ?"
    )
    found, at = list[Row](), _LAST if before is None else before
    while len(found) < limit:
        most = min(_CHUNK, limit - len(found))
        rows = records.db.execute(sql, (*params, now, at, after, most))
        found += rows
        if len(rows) < most:
            break
        at = rows[-1][0]
    return found


def find(engine: Engine, scope: Scope, ids: Sequence[str]) -> list[Turn]:
    """Those of the turns with these ids that a scope has, by their rows; without their data."""
    engine.check()
    key, now = engine.key(scope), engine.now()
    if key is None:
        return []
    found = [
        _turn(one)
        for one in engine.repository.find_ids(ids)
        if one.role is not None and visible(one, now) and key.admits(*one.scope)
    ]
    return sorted(found)


def _turn(one: Stored, data: str | None = None) -> Turn:
    return Turn(
        one.row, one.id, str(one.role), one.content,
        one.created_at if one.occurred_at is None else one.occurred_at, one.expires_at, one.agent,
        None, 0, data,
    )  # fmt: skip


def is_over(engine: Engine, session: tuple[str, Scope]) -> bool:
    """Whether the session of a key, in the scope of the namespace of its record, has lapsed. Then its turns are of the
    past, whether a sweep has found them or not."""
    engine.check()
    stored = keys.find(engine.repository, session[0], engine.key(session[1]), terms=True)
    return stored is not None and expired(stored, engine.now())


def row_of(engine: Engine, scope: Scope, id: str) -> int | None:
    """Where the turn with an id stands, or stood; None if it is none of the scope's."""
    engine.check()
    key = engine.key(scope)
    stored = None if key is None else engine.repository.find_by_id(id, key)
    return None if stored is None else stored.row


def as_data(message: Mapping[str, object]) -> str:
    """A message as the data of a turn."""
    return dumped(copied(message, "message"), "message")


def count(engine: Engine, scope: Scope) -> int:
    """How many turns a scope has."""
    engine.check()
    key = engine.key(scope)
    if key is None:
        return 0
    where, params = key.where()
    condition = f"{where} AND r.role IS NOT NULL AND {UNEXPIRED}"
    return engine.repository.count(condition, (*params, engine.now()), 2**53)


def seq(engine: Engine) -> int:
    """How far the store has come: two reads at the same number see the same, but for what has lapsed between them."""
    engine.check()
    return engine.repository.newest()


class Changes(NamedTuple):
    """What has happened to a scope: whether turns after the last one that was known were added, and which are gone."""

    more: bool
    gone: frozenset[int]


def changed(engine: Engine, scope: Scope, since: int, last_row: int, most: int = 500) -> Changes | None:
    """What has happened to a scope since an event; None if it is something else, or more than is worth looking at."""
    records = engine.repository
    events = records.events_after(since, most + 1)
    if len(events) > most or records.purged_seq() > since:
        return None
    key, more, known = engine.key(scope), False, set[int]()
    for event in events:
        if not event.row:
            return None
        if key is None or not key.admits(event.user, event.agent, event.run, event.space):
            continue
        if event.row > last_row:
            more = True
        else:
            known.add(event.row)
    now = engine.now()
    if known and any(visible(stored, now) for stored in records.find_rows(known)):
        return None
    return Changes(more, frozenset(known))


# -- taking back -------------------------------------------------------------------------------------------------------


class Taking(NamedTuple):
    """Which turns go: the last ``n``, or with ``exchange`` as many exchanges, each from what the user said last on."""

    n: int
    exchange: bool = False


class Taken(NamedTuple):
    """Turns that were deleted, oldest first, and the names of their agents."""

    turns: list[Turn]
    agents: dict[int, str | None]


def take(engine: Engine, session: tuple[str, Scope], scope: Scope, taking: Taking) -> Future[Taken]:
    """Begin to delete the last turns in one transaction. Raises ``SessionClosedError``."""
    engine.check_writable()
    engine.check_process()
    return engine.begin_write(partial(_take, engine, session, scope, taking), taking.n)


def _take(engine: Engine, session: tuple[str, Scope], scope: Scope, taking: Taking, repository: Repository) -> Taken:
    now, key = engine.now(), repository.scope_key(scope)
    _check_open(repository, session, now)
    if key is None:
        return Taken([], {})
    found = _exchanges(repository, key, now, taking.n) if taking.exchange else _stored(repository, key, now, taking.n)
    found.reverse()
    texts = documents.read(repository.db, found)
    repository.delete_rows(found, now)
    taken = [_turn(one, texts.get(one.row)) for one in found]
    return Taken(taken, agents(repository, taken))


def _exchanges(repository: Repository, key: ScopeKey, now: Micros, n: int) -> list[Stored]:
    """Newest first, the turns from the ``n``-th last one of the user on; all, if there are not that many."""
    found, left, before = list[Stored](), n, None
    while left:
        rows = _stored(repository, key, now, 100, before)
        for turn in rows:
            found.append(turn)
            left -= turn.role == "user"
            if not left:
                break
        if len(rows) < 100:
            break
        before = rows[-1].row
    return found


def clear(engine: Engine, session: tuple[str, Scope], scope: Scope, ending: Sequence[Step] | None = None) -> int:
    """Delete the turns that there are, in transactions of 500, those in archives too, as every deletion does: else they
    would come back into a session of the same id. Those that come meanwhile stay. Returns how many.

    With ``ending`` the session goes, a closed one too: these changes are made in one transaction with the last of the
    deletions, which leaves no turn. Broken off before that, there is still a session, with fewer turns.

    Raises ``SessionClosedError``.
    """
    engine.check_writable()
    engine.check()
    before = _LAST if ending is not None else engine.repository.last_row() + 1
    total, count = 0, _CHUNK
    while count == _CHUNK:
        count = engine.write(partial(_clear, engine, session, scope, before, ending), _CHUNK)
        total += count
    return total


def _clear(
    engine: Engine,
    session: tuple[str, Scope],
    scope: Scope,
    before: int,
    ending: Sequence[Step] | None,
    repository: Repository,
) -> int:
    now, key = engine.now(), repository.scope_key(scope)
    if ending is None:
        _check_open(repository, session, now)
    found = list[Stored]()
    if key is not None:
        found += _stored(repository, key, now, _CHUNK, before)
        found += repository.find_rows(_archived(repository, key, _CHUNK - len(found), before))
        repository.delete_rows(found, now)
    if len(found) < _CHUNK:
        run(ending or (), repository, {}, now)
    return len(found)


def _archived(records: Records, key: ScopeKey, limit: int, before: int) -> list[int]:
    """The rows of turns that lie in archives, which every other call passes over."""
    where, params = archived.condition(key)
    sql = (
        f"SELECT r.row FROM records r INDEXED BY records_archived WHERE {where} AND r.role IS NOT NULL "
        "AND r.row < ? ORDER BY r.row LIMIT ?"
    )
    return [row for (row,) in records.db.execute(sql, (*params, before, limit))]


def agents(records: Records, turns: Sequence[Turn]) -> dict[int, str | None]:
    """The names of the agents of turns, by their numbers."""
    return {number: records.names.name(records.db, number) for number in {turn.agent for turn in turns}}


def last_at(engine: Engine, scope: Scope) -> Micros | None:
    """When the last turn of a scope was added; None if there is none."""
    key = engine.key(scope)
    if key is None:
        return None
    found = _rows(engine.repository, key, engine.now(), 1, None, 0)
    return found[0].at if found else None
