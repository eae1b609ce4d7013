"""Changing records: update, delete, restore, rate. Every change is an event, and can be undone until it is erased."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from agentmem.embedding.batcher import embed_documents
from agentmem.engine.engine import Engine
from agentmem.lifecycle.promotion_score import feedback
from agentmem.operations.page import matching
from agentmem.operations.read import must_find
from agentmem.stores import keys
from agentmem.stores.connection import Value
from agentmem.stores.rows import Patch, ScopeKey, Stored, not_found, visible
from agentmem.stores.schema import DELETED, EXPIRED
from agentmem.stores.timeline import Conditions
from agentmem.stores.writes import Repository, StaleVectorError
from agentmem.types.clock import Micros
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Scope
from agentmem.types.records import MemoryRecord

_VERSIONED = ("content", "metadata", "importance", "expires_at", "body")
"""What going back to a version brings back. A record stays in the layer that it has come to."""


def update(engine: Engine, id: str, patch: Patch, scope: Scope | None) -> MemoryRecord:
    """Apply a patch to a live record; a new content is embedded first."""
    engine.check_writable()
    content = patch.values.get("content")
    if content and isinstance(content, str):
        must_find(engine, id, scope)
        engine.adding.check_length(content)
    return _change(engine, patch, lambda r, ready: r.update(id, ready, _guard(engine, id, scope), engine.now()))


def delete(engine: Engine, id: str, scope: Scope | None, *, if_version: int | None = None) -> bool:
    """Hide a record; False if there was none. Raises ``ConflictError`` if it is not at ``if_version``."""
    engine.check_writable()
    engine.check()
    key = engine.key(scope, anywhere=True)
    return key is not None and engine.write(lambda repository: repository.delete(id, key, engine.now(), if_version))


def delete_many(engine: Engine, ids: Sequence[str], scope: Scope | None) -> list[bool]:
    """Hide records in one transaction; for each id, whether there was a record. What comes twice is gone by then."""
    engine.check_writable()
    engine.check()
    key = engine.key(scope)
    if key is None or not ids:
        return [False] * len(ids)
    return engine.write(lambda repository: repository.delete_many(ids, key, engine.now()), len(ids))


def delete_matching(engine: Engine, scope: Scope, conditions: Conditions, *, dry_run: bool) -> int:
    """Delete what the scope holds now and satisfies the conditions, a window per transaction; returns how many."""
    if not dry_run:
        engine.check_writable()
    count = 0
    for found in matching(engine, scope, conditions):
        count += len(found) if dry_run else engine.write(partial(_delete_current, found, engine.now))
    return count


def restore(engine: Engine, id: str, version: int | None, scope: Scope | None) -> MemoryRecord:
    """Bring a deleted record back, or a record back to an earlier version, as a new version."""
    engine.check_writable()
    current = must_find(engine, id, scope, any_state=True)
    if version is None and visible(current, engine.now()):
        return engine.record(current)
    values = {} if version is None else _values_at(engine, current, version)
    patch = Patch({k: v for k, v in values.items() if v != getattr(current, k)}, if_version=current.version)
    grace = engine.lifecycle.rules.grace
    return _change(
        engine, patch, lambda r, ready: _restore(r, id, ready, _guard(engine, id, scope), engine.now(), grace)
    )


def _restore(repository: Repository, id: str, patch: Patch, key: ScopeKey, now: Micros, grace: Micros) -> Stored:
    gone, since = repository.find_by_id(id, key), None
    if gone is not None and gone.key is not None and gone.state in (DELETED, EXPIRED):
        since = keys.make_room(repository, gone, now)
    return repository.restore(id, patch, key, now, grace, since)


def rate(engine: Engine, id: str, rating: float | None, data: dict[str, Any], scope: Scope | None) -> None:
    """Store feedback."""
    accepted = data.get("accepted")
    verdict = (0.0, 0.0) if accepted is None else feedback(accepted)
    engine.write(lambda r: r.rate(id, rating, data, _guard(engine, id, scope), engine.now(), verdict))


def _change(engine: Engine, patch: Patch, run: Callable[[Repository, Patch], Stored]) -> MemoryRecord:
    """Run a change with the embedding that its new content needs, made again if the model changes meanwhile."""
    content = patch.values.get("content")
    while True:
        model = engine.model
        if content and isinstance(content, str):
            vector = embed_documents(model.embedder, [content])[0]
            patch = replace(patch, vector=vector, generation=model.number)
        try:
            return engine.record(engine.write(partial(_apply, run, patch)))
        except StaleVectorError:
            continue


def _apply(run: Callable[[Repository, Patch], Stored], patch: Patch, repository: Repository) -> Stored:
    return run(repository, patch)


def _guard(engine: Engine, id: str, scope: Scope | None) -> ScopeKey:
    key = engine.key(scope, anywhere=True)
    if key is None:
        raise not_found(id)
    return key


def _delete_current(found: Sequence[Stored], now: Callable[[], Micros], repository: Repository) -> int:
    """Delete those of the records that are still there now that the transaction has begun."""
    instant = now()
    current = [item for item in repository.find_rows(item.row for item in found) if visible(item, instant)]
    repository.delete_rows(current, instant)
    return len(current)


def _values_at(engine: Engine, current: Stored, version: int) -> dict[str, Value]:
    """A record's values as of one of its versions: today's, undone event by event."""
    if not 1 <= version <= current.version:
        raise NotFoundError(f"record {current.id!r} has the versions 1 to {current.version}, not {version}")
    values = dict[str, Value]()
    for event in reversed(engine.repository.history(current.row, current.id)):
        if event.version > version and event.event in ("UPDATE", "RESTORE"):
            values.update({column: value for column, value in event.data.items() if column in _VERSIONED})
    return values
