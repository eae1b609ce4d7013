"""The keyword index compared with the records: what is wrong with it is told, what it has yet to hear of is not."""

from __future__ import annotations

from collections.abc import Callable

from agentmem import Memory, Settings

BEHIND = Settings(arena_limit=0, large_engine="lancedb", follower_delay_s=3_600, lifecycle={"sweep_interval_s": 0})


def test_what_changed_since_is_no_fault_of_the_index(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=BEHIND)
    ids = [result.id for result in memory.add_many([f"lamp {n}" for n in range(6)], user_id="ida")]
    engine = memory.handle.engine()
    engine.follower.index_keywords()
    memory.add("a late lamp", user_id="ida")
    memory.update(ids[1], content="a candle")
    memory.delete(ids[2])
    assert engine.keywords.applied_seq() < engine.repository.last_seq()
    assert engine.keywords.check() == []
    engine.write(lambda repository: repository.db.execute("DELETE FROM keyword_lengths WHERE row = 1"))
    engine.write(lambda repository: repository.db.execute("INSERT INTO keyword_lengths VALUES (99, 3)"))
    assert engine.keywords.check() == ["keywords: 1 records are missing and 1 are left over"]
