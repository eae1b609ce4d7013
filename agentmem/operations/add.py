"""Adding: from checked drafts to acknowledgements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from agentmem.engine.engine import Engine
from agentmem.stores.records import public
from agentmem.stores.rows import Created, Stored
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Draft
from agentmem.types.records import AddResult, MemoryRecord


def submit(
    engine: Engine, drafts: Sequence[Draft], first_index: int | None = None, after: Future[Any] | None = None
) -> Future[list[Created]]:
    """Begin to store drafts, all or none; see ``Adding.submit``."""
    engine.check_process()
    return engine.adding.submit(drafts, first_index, after)


def results(engine: Engine, created: Sequence[Created]) -> list[AddResult]:
    """The public form of what an add did. It needs no store any more, which may be closed by the time it is read.

    Only where all of it was erased since, and the user, too, the record cannot be had: looking at it raises
    ``NotFoundError``.
    """
    builders = dict[tuple[int, int, int], Callable[[Stored], MemoryRecord]]()
    found = list[AddResult]()
    for status, stored in created:
        build = builders.get(stored.scope)
        if build is None:
            try:
                build = partial(public, owner=engine.repository.owner(stored))
            except NotFoundError:
                build = engine.repository.record
            builders[stored.scope] = build
        found.append(AddResult.on_use(stored.id, status, build, stored))
    return found
