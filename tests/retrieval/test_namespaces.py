"""Searches in namespaces: each finds its own, whichever engine proposes, and nothing shows on the other side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentmem import ALL, Memory, Settings

Open = Callable[..., Memory]
TOPICS = ["river", "river bank", "a bridge over the river", "the bank of england", "bridge club"]
PLACES: list[tuple[str | None, tuple[str, ...]]] = [
    (None, ()), (None, ("trips",)), (None, ("trips", "north")), ("eva", ()), ("eva", ("trips",)),
    ("eva", ("trips", "north")), ("eva", ("tripsy",)), ("bob", ("trips", "north", "day 1")),
]  # fmt: skip
WHERE: list[dict[str, Any]] = [
    {}, {"namespace": ("trips",)}, {"under": ("trips",)}, {"under": ()}, {"namespace": ("trips", "north")},
    {"under": ("trips", "north")}, {"under": ("nowhere",)},
]  # fmt: skip


def fill(memory: Memory) -> None:
    for user, path in PLACES:
        texts = [f"{topic} {n} {user} {'/'.join(path)}" for n in range(3) for topic in TOPICS]
        memory.add_many(texts, user_id=user, namespace=path, agent_id="guide", occurred_at="2025-02-01")
        memory.add_many(texts, user_id=user, namespace=path, run_id="talk")


def expected(user: Any, where: dict[str, Any]) -> set[tuple[str | None, tuple[str, ...]]]:
    under = where.get("under")
    return {
        (owner, path)
        for owner, path in PLACES
        if (user is ALL or owner == user)
        and (path[: len(under)] == under if under is not None else path == where.get("namespace", ()))
    }


@pytest.mark.parametrize("arena_limit", [50_000, 5])
@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_each_search_finds_its_own(open_memory: Open, arena_limit: int, mode: Any) -> None:
    memory = open_memory(settings=Settings(arena_limit=arena_limit, follower_delay_s=0.02))
    fill(memory)
    for flushed in (False, True):
        if flushed:
            memory.flush()
        for user in (None, "eva", "bob", "nobody", ALL):
            for where in WHERE:
                for narrow in ({}, {"agent_id": "guide"}, {"run_id": "talk"}):
                    found = memory.search("river bank", user_id=user, mode=mode, limit=1_000, **where, **narrow)
                    own = expected(user, where)
                    assert {(hit.user_id, hit.record.namespace) for hit in found} == own, (user, where, narrow)
                    matching = 15 if mode != "keyword" else 12
                    assert len(found) == len(own) * matching * (1 if narrow else 2), (user, where, narrow)
    assert memory.verify().problems == []


@pytest.mark.parametrize("where", WHERE[1:6])
def test_scores_are_the_same_in_memory_and_by_proposals(open_memory: Open, store: Any, where: dict[str, Any]) -> None:
    results = list[list[tuple[str, float]]]()
    for number, arena_limit in enumerate((50_000, 5)):
        memory = open_memory(
            store.parent / str(number), settings=Settings(arena_limit=arena_limit, follower_delay_s=0.02)
        )
        fill(memory)
        memory.flush()
        found = memory.search("river bank", user_id="eva", limit=20, **where)
        results.append([(hit.content, round(hit.score, 5)) for hit in found])
    assert sorted(results[0]) == sorted(results[1])


def test_what_is_beside_a_namespace_does_not_move_its_scores(memory: Memory) -> None:
    memory.add_many(["a quiet river", "a loud street"], namespace=("trips",))

    def scores() -> list[tuple[str, float]]:
        return [(hit.content, hit.score) for hit in memory.search("river", mode="keyword", namespace=("trips",))]

    before = scores()
    memory.add_many([f"river {n}" for n in range(50)])
    memory.add_many([f"river {n}" for n in range(50)], namespace=("trips", "north"))
    assert scores() == before


@pytest.mark.parametrize("arena_limit", [50_000, 5])
def test_searches_of_several_namespaces_follow_what_is_written(open_memory: Open, arena_limit: int) -> None:
    memory = open_memory(settings=Settings(arena_limit=arena_limit))
    for n in range(12):
        memory.add(f"tent {n}", namespace=("camp", str(n % 3)))
        for under in ((), ("camp",), ("camp", str(n % 3))):
            assert f"tent {n}" in {hit.content for hit in memory.search("tent", under=under, limit=50)}
    memory.put("stove", "a gas stove", namespace=("camp", "new"))
    assert [hit.content for hit in memory.search("stove", under=("camp",), mode="keyword")] == ["a gas stove"]
    memory.put("stove", "a petrol burner", namespace=("camp", "new"))
    assert memory.search("stove", under=("camp",), mode="keyword") == []
    memory.delete(key="stove", namespace=("camp", "new"))
    assert memory.search("burner", under=(), mode="keyword") == []
