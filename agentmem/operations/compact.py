"""Giving space back: what can be merged is merged, what nobody uses leaves the disk."""

from __future__ import annotations

from agentmem.engine.engine import Engine
from agentmem.stores import meta
from agentmem.stores.upkeep import empty_wal, give_space_back


def compact(engine: Engine) -> None:
    """Merge LanceDB's fragments and versions and the keyword index, shrink the database, empty its log."""
    engine.write(lambda repository: repository.set_meta(meta.LANCE_PURGE, repository.last_seq() or 1))
    engine.follower.poke()
    engine.follower.flush()
    engine.keywords.drop_outdated()
    if engine.keywords.applied_seq():
        engine.keywords.purge()
    give_space_back(engine.commits)
    empty_wal(engine.commits)
