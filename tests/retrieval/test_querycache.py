"""The query cache keeps what it was asked to keep, and nothing beside it."""

from __future__ import annotations

from agentmem.retrieval.query import Found
from agentmem.retrieval.querycache import QueryCache
from agentmem.retrieval.walls import Wall

NOTHING = Found([], ("arena",), 0)


def put(cache: QueryCache, user: int, now: int = 0) -> None:
    cache.put(f"a question of {user}", NOTHING, {}, wall=Wall(user), drops=cache.drops, now=now)


def test_many_scopes_leave_nothing_behind() -> None:
    cache = QueryCache(50, ttl_minutes=30)
    for user in range(1, 5_001):
        put(cache, user)
    assert cache.usage()["entries"] == 50
    assert len(cache._by_wall) == 50
    for user in range(1, 5_001):
        cache.drop([Wall(user)])
    assert cache.usage()["entries"] == len(cache._by_wall) == 0


def test_the_least_recently_used_goes_first() -> None:
    cache = QueryCache(2, ttl_minutes=30)
    put(cache, 1)
    put(cache, 2)
    assert cache.get("a question of 1", 0) is not None
    put(cache, 3)
    assert cache.get("a question of 2", 0) is None
    assert cache.get("a question of 1", 0) is not None
    cache.drop(None)
    assert cache.get("a question of 1", 0) is None
