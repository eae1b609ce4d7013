"""Adding: from checked drafts to acknowledgements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.glacier import once_here, thaw_drafts
from agentmem.stores import erasure
from agentmem.stores.commit import Put
from agentmem.stores.facts import canonical
from agentmem.stores.records import public
from agentmem.stores.repetition import is_over
from agentmem.stores.rows import Created, Numbers, Stored, expired, visible
from agentmem.stores.schema import EXPIRED, LIVE
from agentmem.types.clock import Micros
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Draft
from agentmem.types.records import AddResult, AddResults, MemoryRecord, Skipped


@metered("add")
def submit(
    engine: Engine,
    drafts: Sequence[Draft],
    first_index: int | None = None,
    after: Future[Any] | None = None,
    *,
    here: bool = False,
) -> Future[list[Created]]:
    """Begin to store drafts, all or none; see ``Adding.submit``."""
    engine.check_writable()
    engine.check_process()
    return engine.adding.submit(drafts, first_index, after, here=here)


@metered("put")
def put(engine: Engine, drafts: Sequence[Draft], first_index: int | None = None) -> list[Created]:
    """Store drafts by their keys, all or none, once what they replace is here; see ``Adding.submit``."""
    engine.check_writable()
    engine.check_process()
    return once_here(
        partial(thaw_drafts, engine, drafts),
        lambda: engine.adding.submit(drafts, first_index, work=Put, here=True).result(),
    )


@metered("put")
def submit_puts(engine: Engine, drafts: Sequence[Draft], first_index: int | None = None) -> Future[list[Created]]:
    """Begin the same where nothing of it lies in an archive; otherwise the future raises ``AwayError``."""
    engine.check_writable()
    engine.check_process()
    return engine.adding.submit(drafts, first_index, work=Put)


def unused_ids(engine: Engine, wanted: Sequence[Callable[[int], str]]) -> list[str]:
    """For each item of an import the first of its ids whose record has not expired: that one is added again."""
    found, generation = [ids(0) for ids in wanted], 0
    left = list(range(len(wanted)))
    while left:
        stored = _stored(engine, [found[at] for at in left])
        now, generation = engine.now(), generation + 1
        left = [at for at in left if (one := stored.get(found[at])) is not None and _has_expired(one, now)]
        for at in left:
            found[at] = wanted[at](generation)
    return found


def taken_ids(engine: Engine, drafts: Sequence[Draft], imported: Collection[int], *, check_all: bool) -> dict[int, str]:
    """Which drafts, by position, cannot be added because of what has their id in the store, and why.

    Of ``imported`` ones, what was deleted, erased or changed since; of the others, with ``check_all``, all that would
    conflict. What was erased is known until its tombstone goes.
    """
    asked = [at for at, one in enumerate(drafts) if one.id is not None and (check_all or at in imported)]
    stored, now = _stored(engine, [str(drafts[at].id) for at in asked]), engine.now()
    reasons = dict[int, str]()
    tombstones = bool(imported) and erasure.has_tombstones(engine.repository)
    for at in asked:
        draft = drafts[at]
        there = stored.get(str(draft.id))
        if there is None:
            if tombstones and at in imported and _was_erased(engine, draft, now):
                reasons[at] = "it was added before, and erased since"
            continue
        scope = (draft.scope.user_id, draft.scope.agent_id, draft.scope.run_id, draft.scope.namespace or ())
        same = there.content == draft.content or canonical(there.content) == canonical(draft.content)
        there_or_over = visible(there, now) or (is_over(draft, now) and expired(there, now))
        if same and there_or_over and engine.repository.owner(there) == scope:
            continue
        if at not in imported:
            reasons[at] = f"the id {draft.id!r} is already in use; choose another one, or update the record"
        elif visible(there, now):
            reasons[at] = f"it was added before as {draft.id!r}, and changed since"
        else:
            reasons[at] = f"it was added before as {draft.id!r}, and deleted since"
    return reasons


def _was_erased(engine: Engine, draft: Draft, now: Micros) -> bool:
    key = engine.key(draft.scope)
    return key is not None and erasure.find_erased(engine.repository, str(draft.id), key, now) is not None


def _stored(engine: Engine, ids: Sequence[str]) -> dict[str, Stored]:
    engine.check()
    return {stored.id: stored for stored in engine.repository.find_ids(ids)}


def _has_expired(stored: Stored, now: Micros) -> bool:
    return stored.state == EXPIRED or (stored.state == LIVE and expired(stored, now))


def results(
    engine: Engine, created: Sequence[Created], skipped: Sequence[Skipped] = (), indexes: Sequence[int] = ()
) -> AddResults:
    """The public form of what an add did. It needs no store any more, which may be closed by the time it is read.

    ``skipped`` are the items that were left out before, ``indexes`` the positions of the others for the caller.
    Only where all of it was erased since, and the user, too, the record cannot be had: looking at it raises
    ``NotFoundError``.
    """
    builders: dict[Numbers, Callable[[Stored], MemoryRecord]] = {}
    found: list[AddResult] = []
    late: list[Skipped] = []
    for at, (status, stored, reason, data, field) in enumerate(created):
        if status == "taken":
            late.append(Skipped(indexes[at], field, reason))
            continue
        build = builders.get(stored.scope)
        if build is None:
            try:
                build = partial(public, owner=engine.repository.owner(stored))
            except NotFoundError:
                build = engine.repository.record
            builders[stored.scope] = build
        if stored.body is not None:
            build = _with_data(engine, stored, data)
        found.append(AddResult.on_use(stored.id, status, build, stored))
    if late:
        skipped = sorted((*skipped, *late), key=lambda one: one.index)
    return AddResults(found, skipped)


def _with_data(engine: Engine, stored: Stored, data: str | None) -> Callable[[Stored], MemoryRecord]:
    """What builds a record that has data, which is read now where the draft did not say it."""
    records = engine.repository
    try:
        text = records.data_of([stored]).get(stored.row) if data is None else data
        return partial(public, owner=records.owner(stored), data=text)
    except NotFoundError:  # changed or erased since
        return records.record
