"""Several changes in one transaction: all of them or, if one cannot be made, none.

They are made one after the other behind a savepoint, so that each sees what those before it did, and that what one of
them raises undoes these and nothing of the others in the group. Neighbours that store something are stored together.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations import add, glacier, touch
from agentmem.operations.change import for_record, to_embed, with_embeddings
from agentmem.stores import archived, documents, evidence, keys, returning
from agentmem.stores.commit import UNMET, UnembeddedError, rows_of
from agentmem.stores.connection import Value
from agentmem.stores.records import Records
from agentmem.stores.rows import Created, Patch, ScopeKey, Stored, kept, version_conflict, visible
from agentmem.stores.writes import Repository
from agentmem.types.changes import Applied
from agentmem.types.clock import Micros
from agentmem.types.enums import UNSET, Unset
from agentmem.types.errors import AgentMemError, ConflictError, InvalidInputError, NotFoundError
from agentmem.types.inputs import Draft, Scope
from agentmem.types.spelling import composed
from agentmem.types.toembed import embeddings_of, texts_of


@dataclass(frozen=True, slots=True)
class Target:
    """Which record is meant: that of an id, inside the scope (None: any), or of a key in the scope's namespace."""

    scope: Scope | None
    id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Storing:
    """A checked item, to be added or to be put by its key."""

    draft: Draft
    put: bool = False


@dataclass(frozen=True, slots=True)
class Changing:
    """A patch of a record."""

    target: Target
    patch: Patch


@dataclass(frozen=True, slots=True)
class Deleting:
    target: Target
    if_version: int | None


@dataclass(frozen=True, slots=True)
class Touching:
    target: Target
    ttl: Micros | Unset | None
    if_version: int | None


@dataclass(frozen=True, slots=True)
class Validating:
    """When a fact holds: new values by column; whether it is retired, and by what (the id; None: nothing)."""

    target: Target
    values: Mapping[str, Micros | None]
    retired: bool | None
    by: str | Unset | None
    if_version: int | None


class Changed(NamedTuple):
    """A record as it was after a change, with the data that it had then as JSON text."""

    stored: Stored
    data: str | None


Step = Storing | Changing | Deleting | Touching | Validating
Done = Created | Changed | bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps, and what is to be embedded for them: each text with the position of a step that needs it."""

    steps: Sequence[Step]
    texts: Mapping[str, int]


def plan(engine: Engine, steps: Sequence[Step]) -> Plan:
    """What is to be embedded, as far as the records tell by now which changes need it; the rest is left to ``run``."""
    engine.check_writable()
    engine.check()
    _thaw(engine, steps)
    texts = dict[str, int]()
    for at, step in enumerate(steps):
        needed: Sequence[str] = ()
        if isinstance(step, Storing):
            engine.adding.check_given(step.draft.form, at)
            needed = texts_of([step.draft])
        elif isinstance(step, Changing):
            engine.adding.check_given(step.patch.form, at)
            stored = _holder(engine.repository, step.target)
            if stored is not None:
                needed = to_embed(stored, for_record(step.patch, stored))
        for text in needed:
            texts.setdefault(text, at)
    return Plan(steps, texts)


def _thaw(engine: Engine, steps: Sequence[Step]) -> None:
    """Make records whole that lie in archives."""
    if not archived.is_used(engine.repository.db):
        return
    glacier.thaw_drafts(engine, [step.draft for step in steps if isinstance(step, Storing) and step.put])
    targets = [step.target for step in steps if not isinstance(step, Storing)]
    found = [_holder(engine.repository, target) for target in targets]
    glacier.thaw_rows(engine, [stored.row for stored in found if stored is not None])


def apply(engine: Engine, steps: Sequence[Step]) -> list[Done]:
    """Make changes, planned anew where a record that they mean goes to an archive meanwhile."""
    made = list[Plan]()
    return glacier.once_here(
        lambda: made.append(plan(engine, steps)), lambda: submit(engine, made[-1], here=True).result()
    )


@metered("apply")
def submit(engine: Engine, plan: Plan, *, here: bool = False) -> Future[list[Done]]:
    """Begin to make changes; texts are embedded before. Errors have the position of the change as ``index``."""
    engine.check_process()
    rows = sum(1 + rows_of(_data_of(step)) for step in plan.steps)
    return engine.adding.submit_all(plan.texts, rows, partial(run, plan.steps), here=here)


def results(engine: Engine, done: Sequence[Done]) -> list[Applied]:
    """The public form of what became of the changes."""
    created = iter(add.results(engine, [one for one in done if isinstance(one, Created)]))
    return [
        next(created) if isinstance(one, Created) else one if isinstance(one, bool) else engine.changed(*one)
        for one in done
    ]


def run(steps: Sequence[Step], repository: Repository, vectors: Mapping[str, bytes], now: Micros) -> list[Done]:
    """Make changes within a transaction; ``vectors`` are those of their texts."""
    done = list[Done]()
    for start, group in _groups(steps):
        with _placed(start, len(group)):
            match group[0]:
                case Storing(_, put):
                    drafts = [step.draft for step in group if isinstance(step, Storing)]
                    store = keys.put if put else returning.add
                    made = [vectors[text] for text in texts_of(drafts)]
                    done += store(repository, drafts, embeddings_of(drafts, made), now)
                case Changing(target, patch):
                    stored = _must_find(repository, target, now)
                    ready = for_record(patch, stored)
                    needed = to_embed(stored, ready)
                    if any(text not in vectors for text in needed):
                        raise UnembeddedError(needed, start)
                    ready = with_embeddings(ready, stored, [vectors[one] for one in needed], repository.generation)
                    done.append(_changed(repository, repository.update(stored.id, ready, None, now), patch))
                case Deleting(target, if_version):
                    if (stored := _find(repository, target, if_version, now)) is not None:
                        repository.delete_rows([stored], now)
                    done.append(stored is not None)
                case Touching(target, ttl, if_version):
                    if (stored := _find(repository, target, if_version, now)) is not None:
                        touch.use(repository, [stored], ttl, now)
                    done.append(stored is not None)
                case Validating():
                    done.append(_changed(repository, _validated(repository, group[0], now), Patch({})))
    return done


def _validated(repository: Repository, step: Validating, now: Micros) -> Stored:
    """A record with other times at which it holds."""
    stored = _must_find(repository, step.target, now)
    if step.if_version is not None and stored.version != step.if_version:
        raise version_conflict(stored.id, step.if_version, stored.version)
    if stored.key is not None:
        raise InvalidInputError(f"record {stored.id!r} has a key; put() replaces what it says", field="id")
    values: dict[str, Value] = dict(step.values)
    successor = _successor(repository, stored, step.by, now) if isinstance(step.by, str) else None
    if step.retired and "valid_to" not in values and stored.retired_at is None:
        values["valid_to"] = None if successor is None else _ended(stored, successor, now)
    if step.retired:
        values = {**evidence.retiring(stored, now), **values}
    elif step.retired is not None:
        values = {**evidence.reviving(stored), **values}
    if step.by is not UNSET:
        values["superseded_by"] = None if successor is None else successor.row
    since, until = values.get("valid_from", stored.valid_from), values.get("valid_to", stored.valid_to)
    if since is not None and until is not None and int(since) >= int(until):
        raise InvalidInputError(
            f"record {stored.id!r} would hold at no time: valid_to is not after valid_from", field="valid_to"
        )
    return repository.update(stored.id, Patch(values), None, now)


def _successor(repository: Repository, stored: Stored, id: str, now: Micros) -> Stored:
    """The record that takes the place of another one."""
    [found] = repository.there([id], None, now)
    if found is None or (found.user, found.space) != (stored.user, stored.space):
        raise ConflictError(f"there is no record {id!r} here, which is to take the place of {stored.id!r}")
    if found.row == stored.row:
        raise ConflictError(f"record {id!r} cannot take its own place")
    seen, after = {found.row}, found.superseded_by
    while after is not None and after not in seen:
        if after == stored.row:
            raise ConflictError(f"record {stored.id!r} takes its place already, of {id!r}; neither would hold")
        seen.add(after)
        after = next((one.superseded_by for one in repository.find_rows([after])), None)
    return found


def _ended(stored: Stored, successor: Stored, now: Micros) -> Micros | None:
    """Until when a fact held whose place another one takes; None: it never did, since that begins before it."""
    begins = next(at for at in (successor.valid_from, successor.occurred_at, now) if at is not None)
    if stored.valid_from is not None and begins <= stored.valid_from:
        return None
    return begins if stored.valid_to is None else min(begins, stored.valid_to)


def _data_of(step: Step) -> str | Unset | None:
    match step:
        case Storing(draft):
            return draft.data
        case Changing(_, patch):
            return patch.data
        case _:
            return None


def _changed(repository: Repository, stored: Stored, patch: Patch) -> Changed:
    """What a change came to. Data that it did not bring is read now: changes that follow may replace it."""
    if patch.data is not UNSET:
        return Changed(stored, patch.data)
    return Changed(stored, documents.read(repository.db, [stored]).get(stored.row))


def _groups(steps: Sequence[Step]) -> Iterator[tuple[int, Sequence[Step]]]:
    """Steps that can be made together, with the position of the first: puts of different keys and ids."""
    start = 0
    while start < len(steps):
        end, names = start + 1, _names(steps[start])
        while names and end < len(steps) and (more := _names(steps[end])) and not more & names:
            names |= more
            end += 1
        yield start, steps[start:end]
        start = end


def _names(step: Step) -> set[object]:
    """The key of something that is put, and the id that was chosen for it; nothing of what is not."""
    if not isinstance(step, Storing) or not step.put:
        return set()
    draft = step.draft
    return {draft.place} if draft.id is None else {draft.place, composed(draft.id)}


@contextmanager
def _placed(start: int, count: int) -> Generator[None]:
    """Errors of changes have their position; where several were made together, what raises knows which one it was."""
    try:
        yield
    except AgentMemError as exc:
        index = getattr(exc, "index", None)
        if isinstance(exc, UNMET) and (index is not None or count == 1):
            exc.index = start + (index or 0)
        raise


def _must_find(repository: Repository, target: Target, now: Micros) -> Stored:
    stored = _find(repository, target, None, now)
    if stored is None:
        what = f"the id {target.id!r}" if target.key is None else f"the key {target.key!r}"
        raise NotFoundError(f"there is no record with {what} here")
    return stored


def _find(repository: Repository, target: Target, if_version: int | None, now: Micros) -> Stored | None:
    """The live record that is meant. Raises ``ConflictError`` if it is not at that version."""
    stored = _holder(repository, target)
    if stored is not None and kept(stored, now):
        repository.check_here([stored])
    stored = stored if stored is not None and visible(stored, now) else None
    if target.key is not None:
        keys.check_version(target.key, stored, if_version)
        return stored
    id = str(target.id)
    if if_version is not None and (stored is None or stored.version != if_version):
        if stored is None:
            raise ConflictError(f"there is no record with the id {id!r} here, so none at version {if_version}")
        raise version_conflict(id, if_version, stored.version)
    return stored


def _holder(records: Records, target: Target) -> Stored | None:
    """The record that is meant, in any state; of a key not one that was deleted."""
    scope = _numbers(records, target)
    if target.key is not None:
        return keys.find(records, target.key, scope)
    return None if scope is None else records.find_by_id(str(target.id), scope)


def _numbers(records: Records, target: Target) -> ScopeKey | None:
    if target.scope is None:
        return ScopeKey(None, None, None, None)
    return records.scope_key(target.scope, anywhere=target.key is None)
