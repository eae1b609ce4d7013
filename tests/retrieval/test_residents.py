"""Scopes held in memory as copies that follow the records."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contracts.feed_copy import FeedCopyContract

from agentmem import ALL, Memory, Settings
from agentmem.engine.engine import Engine
from agentmem.retrieval import residents
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.walls import EVERYBODY


class TestResidents(FeedCopyContract):
    def copy_of(self, engine: Engine) -> Residents:
        return engine.retriever.residents

    def rows_of(self, engine: Engine) -> set[int]:
        rows = engine.retriever.residents.use(EVERYBODY, lambda arena: set(arena.versions()))
        assert rows is not None
        return rows

    def spoil(self, engine: Engine, row: int) -> None:
        engine.retriever.residents.use(EVERYBODY, lambda arena: arena.remove(row))


@pytest.mark.parametrize("limit", [100, 5])
def test_changes_of_a_scope_that_nobody_searches_any_more_are_not_noted_for_ever(
    open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(residents, "BACKLOG", 30)
    monkeypatch.setattr(residents, "_LONG_BACKLOG", 30)
    memory = open_memory(settings=Settings(arena_limit=limit, large_wait_s=60, query_cache_size=0))
    memory.add_many([f"a harbour {n}" for n in range(20)], user_id="ana", dedupe=False)
    memory.search("harbour", user_id=ALL)
    held = memory.handle.engine().retriever.residents
    for n in range(20):
        memory.add_many([f"a lantern {n} {m}" for m in range(4)], user_id="ben", dedupe=False)
        memory.search("lantern", user_id="ben", limit=1)
    assert sum(len(one.dirty) + len(one.altered) for one in held._every()) <= 30
    assert len(memory.search("harbour", user_id=ALL, limit=1_000)) == 100
