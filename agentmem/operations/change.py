"""Changing records: update, delete, restore, rate. Every change is an event, and can be undone until it is erased."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from agentmem.embedding.batcher import embed_documents
from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.lifecycle.promotion_score import feedback
from agentmem.operations.glacier import once_here, thaw
from agentmem.operations.page import matching
from agentmem.operations.read import must_find, record
from agentmem.stores import keys
from agentmem.stores.connection import Value
from agentmem.stores.forms import StaleVectorError
from agentmem.stores.rows import AwayError, Patch, ScopeKey, Stored, kept, not_found, visible
from agentmem.stores.schema import DELETED, EXPIRED
from agentmem.stores.timeline import Conditions
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import UNSET
from agentmem.types.errors import ConflictError, NotFoundError
from agentmem.types.forms import OF_CONTENT, Form
from agentmem.types.inputs import Scope
from agentmem.types.records import MemoryRecord

VALIDITY = ("valid_from", "valid_to", "superseded_by", "retired_at", "stated_to")
_VERSIONED = ("content", "metadata", "importance", "expires_at", "vectors", "body", "sliding", *VALIDITY)
"""What going back to a version brings back. A record stays in the layer that it has come to."""
_ATTEMPTS = 100
"""How often going back begins anew, each time because somebody else has changed the record in between."""


@metered("update")
def update(engine: Engine, id: str, patch: Patch, scope: Scope | None) -> MemoryRecord:
    """Apply a patch to a live record; a new content is embedded first."""
    engine.check_writable()
    engine.adding.check_given(patch.form)

    def find() -> Stored:
        stored = must_find(engine, id, scope, any_state=True)
        if not visible(stored, engine.now()):
            raise AwayError(id) if kept(stored, engine.now()) else not_found(id)
        for text in to_embed(stored, for_record(patch, stored)):
            engine.adding.check_length(text)
        return stored

    def run() -> MemoryRecord:
        return _change(
            engine, patch, find, lambda r, ready: r.update(id, ready, _guard(engine, id, scope), engine.now())
        )

    return once_here(partial(thaw, engine, [id], scope), run)


@metered("delete")
def delete(engine: Engine, id: str, scope: Scope | None, *, if_version: int | None = None) -> bool:
    """Hide a record; False if there was none. Raises ``ConflictError`` if it is not at ``if_version``."""
    engine.check_writable()
    engine.check()
    key = engine.key(scope, anywhere=True)
    return key is not None and engine.write(lambda repository: repository.delete(id, key, engine.now(), if_version))


@metered("delete")
def delete_many(engine: Engine, ids: Sequence[str], scope: Scope | None) -> list[bool]:
    """Hide records in one transaction; for each id, whether there was a record. What comes twice is gone by then."""
    engine.check_writable()
    engine.check()
    key = engine.key(scope, anywhere=True)
    if key is None or not ids:
        return [False] * len(ids)
    return engine.write(lambda repository: repository.delete_many(ids, key, engine.now()), len(ids))


@metered("delete")
def delete_matching(engine: Engine, scope: Scope, conditions: Conditions, *, dry_run: bool) -> int:
    """Delete what the scope holds now and satisfies the conditions, a window per transaction; returns how many."""
    if not dry_run:
        engine.check_writable()
    count = 0
    for found in matching(engine, scope, conditions, archived_too=True):
        count += len(found) if dry_run else engine.write(partial(_delete_current, found, conditions, engine.now))
    return count


@metered("update")
def restore(engine: Engine, id: str, version: int | None, scope: Scope | None) -> MemoryRecord:
    """Bring a deleted record back, or a record back to an earlier version, as a new version."""
    engine.check_writable()

    def run() -> MemoryRecord:
        for _ in range(_ATTEMPTS):
            current = must_find(engine, id, scope, any_state=True)
            try:
                return _restored(engine, current, version, scope)
            except ConflictError:
                if must_find(engine, id, scope, any_state=True).version == current.version:
                    raise
        return _restored(engine, must_find(engine, id, scope, any_state=True), version, scope)

    return once_here(partial(thaw, engine, [id], scope), run)


def _restored(engine: Engine, current: Stored, version: int | None, scope: Scope | None) -> MemoryRecord:
    """Raises ``ConflictError`` where the record is not what it was any more."""
    id = current.id
    if version is None and visible(current, engine.now()):
        return record(engine, current)
    values = {} if version is None else _values_at(engine, current, version)
    if (span := values.get("sliding", current.sliding)) is not None:
        values["expires_at"] = engine.now() + int(span)  # where reads count, its time begins anew
    changed = {k: v for k, v in values.items() if v != getattr(current, k)}
    body = cast("int | None", changed["body"]) if "body" in changed else UNSET
    form = _form_at(engine, current, changed)
    changed.pop("body", None)
    patch = Patch(changed, if_version=current.version, form=form, data_of=body)
    grace = engine.lifecycle.rules.grace
    return _change(
        engine,
        patch,
        lambda: must_find(engine, id, scope, any_state=True),
        lambda r, ready: _restore(r, id, ready, _guard(engine, id, scope), engine.now(), grace),
    )


def _restore(repository: Repository, id: str, patch: Patch, key: ScopeKey, now: Micros, grace: Micros) -> Stored:
    gone, since = repository.find_by_id(id, key), None
    if gone is not None and gone.key is not None and gone.state in (DELETED, EXPIRED):
        since = keys.make_room(repository, gone, now)
    return repository.restore(id, patch, key, now, grace, since)


@metered("update")
def rate(engine: Engine, id: str, rating: float | None, data: dict[str, Any], scope: Scope | None) -> None:
    """Store feedback."""
    accepted = data.get("accepted")
    verdict = (0.0, 0.0) if accepted is None else feedback(accepted)

    def run() -> None:
        engine.write(lambda r: r.rate(id, rating, data, _guard(engine, id, scope), engine.now(), verdict))

    once_here(partial(thaw, engine, [id], scope), run)


def _change(
    engine: Engine, patch: Patch, find: Callable[[], Stored], run: Callable[[Repository, Patch], Stored]
) -> MemoryRecord:
    """Run a change with the embeddings that it needs, made again if what they are of changes meanwhile."""
    while True:
        ready = patch if patch.form is None and "content" not in patch.values else _embedded(engine, patch, find())
        try:
            return record(engine, engine.write(partial(_apply, run, ready)))
        except StaleVectorError:
            continue


def _embedded(engine: Engine, patch: Patch, stored: Stored) -> Patch:
    """The patch with the embeddings that it needs for the record as it is; one that had no content yet gets one."""
    patch, model = for_record(patch, stored), engine.model
    return with_embeddings(patch, stored, embed_documents(model.embedder, to_embed(stored, patch)), model.number)


def for_record(patch: Patch, stored: Stored) -> Patch:
    """The patch with the form that it brings: a record that had no content, and so no vector, gets one with it."""
    if patch.form is None and "content" in patch.values and not stored.content and not stored.vectors:
        return replace(patch, form=Form(of_content=True))
    return patch


def with_embeddings(patch: Patch, stored: Stored, made: Sequence[bytes], generation: int) -> Patch:
    """The patch with the embeddings of what ``to_embed`` says."""
    given = () if patch.form is None else patch.form.given
    content = str(patch.values.get("content", stored.content))
    return replace(patch, vector=b"".join((*given, *made)), generation=generation, of=content)


def to_embed(stored: Stored, patch: Patch) -> Sequence[str]:
    """The texts that a change of this record embeds."""
    form = patch.form
    if form is None and "content" not in patch.values:
        return []
    of_content = stored.vectors == OF_CONTENT if form is None else form.of_content
    return [str(patch.values.get("content", stored.content))] if of_content else form.texts if form is not None else []


def _apply(run: Callable[[Repository, Patch], Stored], patch: Patch, repository: Repository) -> Stored:
    return run(repository, patch)


def _guard(engine: Engine, id: str, scope: Scope | None) -> ScopeKey:
    key = engine.key(scope, anywhere=True)
    if key is None:
        raise not_found(id)
    return key


def _form_at(engine: Engine, current: Stored, values: dict[str, Value]) -> Form | None:
    """What a record was embedded by at a version, whose columns say it; they are taken out. None: by what it is now.

    The history keeps no vectors that were given, and the texts of the last versions only.
    """
    code = int(values.pop("vectors", current.vectors) or 0)
    if code <= OF_CONTENT and not current.has_texts:
        return None if code < 0 or code == current.vectors else Form(of_content=code == OF_CONTENT)
    body = values.pop("body", current.body)
    if code < 0:
        return None
    if code <= OF_CONTENT:
        return Form(of_content=code == OF_CONTENT)
    place = (current.row, code, None if body is None else int(body))
    texts = engine.repository.texts([place]).get(current.row)
    return None if texts is None else Form(tuple(texts))


def _delete_current(
    found: Sequence[Stored], conditions: Conditions, now: Callable[[], Micros], repository: Repository
) -> int:
    """Delete those of the records that are still there, and still meant, now that the transaction has begun."""
    instant = now()
    there = repository.find_rows((item.row for item in found), conditions=conditions)
    current = [item for item in there if kept(item, instant)]
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
