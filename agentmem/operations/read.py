"""Reading by id: a record, and its history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from agentmem.embedding.batcher import embed_documents, embed_query
from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.stores import archived, erasure
from agentmem.stores.archived import Body
from agentmem.stores.rows import AwayError, Stored, kept, not_found, restorable, visible
from agentmem.stores.schema import ARCHIVED, ERASED, LIVE
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.errors import NotFoundError
from agentmem.types.forms import name_of
from agentmem.types.inputs import Scope
from agentmem.types.records import HistoryEvent, MemoryRecord, StoreEvent, Vectors
from agentmem.types.spelling import spellings

_ATTEMPTS = 3
"""How often a record is looked for that is on its way to an archive and back."""


def find(engine: Engine, id: str, scope: Scope | None, *, any_state: bool = False) -> Stored | None:
    """The record with this id inside the scope (None: any); unless ``any_state``, only if it is live."""
    engine.check()
    key = engine.key(scope, anywhere=True)
    if key is None:
        return None
    return engine.repository.find_by_id(id, key, None if any_state else engine.now())


def must_find(engine: Engine, id: str, scope: Scope | None, *, any_state: bool = False) -> Stored:
    """The same; raises ``NotFoundError``."""
    stored = find(engine, id, scope, any_state=any_state)
    if stored is None:
        raise not_found(id)
    return stored


@metered("read")
def get(
    engine: Engine, id: str, scope: Scope | None, *, deleted: bool = False, data: bool = True, touch: bool = True
) -> MemoryRecord | None:
    """The live record that somebody asks for by its id, which counts as an access.

    With ``deleted`` also one that can be brought back, which does not.
    """
    stored, now = find(engine, id, scope, any_state=True), engine.now()
    if stored is None:
        return None
    if kept(stored, now):
        return shown(engine, stored, now, touch=touch, data=data)
    if not deleted or not restorable(stored, now, engine.lifecycle.rules.grace):
        return None
    return shown(engine, stored, now, touch=False, data=data)


def shown(engine: Engine, stored: Stored, now: Micros, *, touch: bool, data: bool = True) -> MemoryRecord | None:
    """A record that somebody asked for, which with ``touch`` is a use of it; None if it was erased meanwhile.

    What lies in an archive is fetched.
    """
    try:
        found = record(engine, stored, data=data)
    except NotFoundError:  # as if the call had come later
        return None
    if touch:
        used(engine, stored, now)
    return found


def used(engine: Engine, stored: Stored, now: Micros) -> None:
    """Note that a record was read, which is a use of it."""
    engine.lifecycle.accesses.read(now, stored.row)
    engine.lifecycle.put_off(now, (stored,))


def record(engine: Engine, stored: Stored, *, data: bool = True) -> MemoryRecord:
    """The public form of a row, with what lies in an archive, as it may since the row was read.

    Raises ``NotFoundError`` if it was erased since; ``ArchiveError`` and below.
    """
    if stored.state == LIVE:
        with suppress(AwayError):
            return engine.record(stored, data=data)
    for found in known(engine, [stored], data=data):
        return found
    raise not_found(stored.id)


def known(engine: Engine, found: Iterable[Stored], *, data: bool = True) -> list[MemoryRecord]:
    """The public form of rows, without those that were erased after they were read; what lies in archives is fetched.

    Raises ``ArchiveError`` and below where that cannot be read.
    """
    every = list(found)
    for _ in range(_ATTEMPTS):
        with suppress(AwayError):
            return _known(engine, every, data=data)
        again = {one.row: one for one in engine.repository.find_rows((one.row for one in every), used=True)}
        every = [again[one.row] for one in every if one.row in again and again[one.row].state != ERASED]
    return _known(engine, every, data=data)


def _known(engine: Engine, every: list[Stored], *, data: bool) -> list[MemoryRecord]:
    """Raises ``AwayError`` where one of the rows has gone to an archive since it was read."""
    stubs = [one for one in every if one.state != LIVE and not one.content]
    if not stubs:
        return engine.known(every, data=data)
    every, fetched = _fetched(engine, every, stubs)
    if not fetched:
        return engine.known(every, data=data)
    from agentmem.glacier import returning

    records = list[MemoryRecord]()
    for one in every:
        with suppress(NotFoundError):
            body = fetched.get(one.row)
            records.append(
                engine.record(one, data=data) if body is None else returning.known(engine, one, body, data=data)
            )
    return records


def _fetched(engine: Engine, every: list[Stored], stubs: list[Stored]) -> tuple[list[Stored], dict[int, Body]]:
    """What lies in archives of some of the rows, and the rows, those as they are now that have come back meanwhile."""
    records, fetched, current = engine.repository, dict[int, Body](), {one.row: one for one in every}
    for _ in range(_ATTEMPTS):
        if archived.places(records.db, [one.row for one in stubs]):
            from agentmem.glacier import bodies

            fetched |= bodies.fetch(engine, stubs)
        rest = [one.row for one in stubs if one.row not in fetched]
        again = {one.row: one for one in records.find_rows(rest, used=True)}
        current |= {row: again.get(row) for row in rest}
        away = archived.places(records.db, rest)
        stubs = [one for one in again.values() if one.state == ARCHIVED or one.row in away]
        if not stubs:
            break
    there = (current[one.row] for one in every)
    return [one for one in there if one is not None and one.state != ERASED], fetched


def events(engine: Engine, after: int, before: int | None, limit: int, *, newest_first: bool) -> list[StoreEvent]:
    """The store's next events; see ``Memory.events``."""
    engine.check()
    return engine.repository.feed(after, before, limit, newest_first=newest_first)


def find_erased(engine: Engine, id: str, scope: Scope | None) -> Stored | None:
    """What stays inside the scope of the record that had this id and was erased."""
    key = engine.key(scope, anywhere=True)
    return None if key is None else erasure.find_erased(engine.repository, id, key, engine.now())


@metered("read")
def history(engine: Engine, id: str, scope: Scope | None) -> list[HistoryEvent]:
    """Every event of a record, deleted or not, oldest first; where none has the id, of the last one that was erased.

    Raises ``NotFoundError``.
    """
    stored = find(engine, id, scope, any_state=True) or find_erased(engine, id, scope)
    if stored is None:
        raise not_found(id)
    return [replace(event, data=_readable(event.data)) for event in engine.repository.history(stored.row, id)]


def vectors(engine: Engine, ids: Sequence[str], scope: Scope | None) -> list[Vectors | None]:
    """The vectors of the live records with these ids inside the scope, each None where there is none."""
    engine.check()
    key = engine.key(scope, anywhere=True)
    if key is None:
        return [None] * len(ids)
    while True:
        records, dim, now = engine.repository, engine.embedder.dim, engine.now()
        known = {stored.id: stored for stored in records.find_ids({each for id in ids for each in spellings(id)})}
        found = {row.id: row for row in known.values() if visible(row, now) and key.admits(*row.scope)}
        held = records.vectors(list(found.values()))
        texts = records.texts((one.row, one.vectors, one.body) for one in found.values())
        versions = {one.row: one.version for one in records.find_rows(one.row for one in found.values())}
        if records.is_current() and all(versions.get(one.row) == one.version for one in found.values()):
            break
        engine.check_model()  # or something changed meanwhile
    result = list[Vectors | None]()
    for id in ids:
        one = next((found[spelling] for spelling in spellings(id) if spelling in found), None)
        if one is not None:
            parts = np.frombuffer(held.get(one.row, b""), np.float32).reshape(-1, dim).copy()
            result.append(Vectors(one.id, name_of(one.vectors), parts, tuple(texts.get(one.row, ()))))
        else:
            result.append(None)
    return result


def embed(engine: Engine, texts: Sequence[str], *, query: bool) -> list[list[float]]:
    """The embeddings of texts by the store's model, of documents or of queries, each of length one."""
    engine.check_model()
    embedder = engine.embedder
    if query:
        return [embed_query(embedder, text).tolist() for text in texts]
    return [np.frombuffer(made, np.float32).tolist() for made in embed_documents(embedder, texts)]


_ROWS = ("superseded_by", "evidence", "stated_to")
"""What names records by their numbers here, and what follows from the rest."""


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """An event's data as a caller knows the fields: metadata as a dict, times as ISO 8601 text, data by its version."""
    readable = {name: value for name, value in data.items() if name not in ("vectors", "body", *_ROWS)}
    if "vectors" in data:
        readable["embedding"] = name_of(data["vectors"])
    if "body" in data:
        readable["data_version"] = data["body"]
    if isinstance(data.get("metadata"), str):
        readable["metadata"] = json.loads(data["metadata"])
    for name in ("expires_at", "valid_from", "valid_to", "retired_at"):
        if isinstance(data.get(name), int):
            readable[name] = to_datetime(data[name]).isoformat()
    if isinstance(data.get("sliding"), int):
        readable["sliding"] = data["sliding"] / 1_000_000
    return readable
