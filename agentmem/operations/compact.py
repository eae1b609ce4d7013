"""Giving space back: what can be merged is merged, what nobody uses leaves the disk."""

from __future__ import annotations

from functools import partial

from agentmem.engine.engine import Engine
from agentmem.stores import erasure, meta
from agentmem.stores.chunkupkeep import tidy
from agentmem.stores.upkeep import empty_wal, give_space_back, purge
from agentmem.stores.writes import Repository


def compact(engine: Engine) -> None:
    """Merge LanceDB's fragments and versions and the keyword index, remove what is left of what was erased, shrink the
    database, empty its log."""
    engine.check_writable()
    remove_remains(engine)
    tidy(engine.commits, engine.repository.db, engine.held, whole=True)
    give_space_back(engine.commits)
    empty_wal(engine.commits)


def remove_remains(engine: Engine) -> None:
    """Remove what is left of what was erased, ids included, once LanceDB and the keyword index have seen it."""
    engine.write(partial(_begin, engine))
    engine.follower.poke()
    engine.follower.flush()
    engine.keywords.drop_outdated()
    if engine.keywords.applied_seq():
        engine.follower.index_keywords()
        engine.keywords.purge()
    purge(engine.commits, engine.now)


def _begin(engine: Engine, repository: Repository) -> None:
    repository.set_meta(meta.LANCE_PURGE, repository.last_seq() or 1)
    if erasure.holds_the_end(repository, now := engine.now()):
        erasure.mark(repository, now)
