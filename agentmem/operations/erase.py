"""Erasing: every trace of a text, from libSQL now and from what is derived in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from agentmem.embedding.cache import CachedEmbedder
from agentmem.engine.engine import Engine
from agentmem.operations.page import matching
from agentmem.operations.read import must_find
from agentmem.stores import meta
from agentmem.stores.rows import Stored
from agentmem.stores.schema import ERASED
from agentmem.stores.upkeep import empty_wal
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.inputs import Scope
from agentmem.types.reports import EraseReport


def erase(engine: Engine, id: str, scope: Scope | None) -> EraseReport:
    """Erase one record, in whatever state. Raises ``NotFoundError``."""
    return _erase(engine, [[must_find(engine, id, scope, any_state=True)]])


def erase_all(engine: Engine, scope: Scope) -> EraseReport:
    """Erase every record of a scope, deleted ones too."""
    return _erase(engine, matching(engine, scope, deleted_too=True))


def _erase(engine: Engine, groups: Iterable[list[Stored]]) -> EraseReport:
    count = sum(engine.write(partial(_erase_current, found, engine.now)) for found in groups)
    pending = list[str]()
    if count:
        engine.keywords.drop_outdated()
        if engine.keywords.applied_seq():
            engine.follower.index_keywords()
            engine.keywords.purge()
        engine.retriever.residents.reset()
        if isinstance(engine.embedder, CachedEmbedder):
            engine.embedder.clear()
        if not empty_wal(engine.commits):
            pending.append("write-ahead log")
        pending.append("lancedb")
        engine.follower.poke()
    return EraseReport(count, tuple(pending))


def _erase_current(found: list[Stored], now: Callable[[], Micros], repository: Repository) -> int:
    current = [item for item in repository.find_rows(item.row for item in found) if item.state != ERASED]
    repository.erase_rows(current, now())
    if current:
        repository.set_meta(meta.LANCE_PURGE, repository.last_seq())
    return len(current)
