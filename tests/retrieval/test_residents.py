"""Scopes held in memory as copies that follow the records."""

from __future__ import annotations

from contracts.feed_copy import FeedCopyContract

from agentmem.engine.engine import Engine
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
