"""Several searches of one scope by one call: the answers of single ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import AsyncMemory, InvalidInputError, Memory, ScopeError

QUERIES = ["the quiet harbour", "violins", "nothing of the kind", "the quiet harbour"]


@pytest.fixture
def filled(memory: Memory) -> Memory:
    for user in ("ana", "ben"):
        memory.add_many(
            [f"{user} has a {what} {n}" for n, what in enumerate(("harbour", "violin", "zebra") * 5)], user_id=user
        )
    return memory


def test_each_answer_is_that_of_a_single_search(filled: Memory) -> None:
    queries = QUERIES
    for more in ({}, {"mode": "vector", "limit": 3}, {"rank": "similarity", "min_similarity": 0.1}):
        found = filled.search_many(queries, user_id="ana", explain=True, **more)  # pyright: ignore[reportArgumentType]
        single = [filled.search(query, user_id="ana", explain=True, **more) for query in queries]  # pyright: ignore[reportArgumentType]
        assert found == single
        assert {hit.record.user_id for hits in found for hit in hits} == {"ana"}
        assert all(hits.trace is not None for hits in found)
    assert filled.search_many([], user_id="ana") == []
    assert filled.scoped(user_id="ben").search_many(["zebra"]) == [filled.search("zebra", user_id="ben")]


def test_a_bad_one_is_told_before_anything_is_searched_for(filled: Memory) -> None:
    with pytest.raises(InvalidInputError, match=r"^queries\[1\]: ") as error:
        filled.search_many(["good", 7, "fine"], user_id="ana")  # pyright: ignore[reportArgumentType]
    assert error.value.index == 1
    for wrong in ("harbour", {"a": 1}, 7):
        with pytest.raises(InvalidInputError, match="takes a list of queries"):
            filled.search_many(wrong, user_id="ana")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError, match="at most 10,000"):
        filled.search_many(["x"] * 10_001, user_id="ana")
    with pytest.raises(ScopeError):
        filled.scoped(user_id="ben").search_many(["x"], user_id="ana")


def test_without_touch_nothing_counts_as_used(filled: Memory) -> None:
    id = filled.search_many(["zebra"], user_id="ana", touch=False)[0][0].id
    assert filled.lifecycle.explain(id).accesses == 0
    filled.search_many(["zebra", "zebra"], user_id="ana")
    assert filled.lifecycle.explain(id).accesses == 2


def test_the_async_client_answers_alike(filled: Memory, store: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    async def main() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as memory:
            found = await memory.search_many(["zebra", "violin"], user_id="ana", limit=4)
            assert found == filled.search_many(["zebra", "violin"], user_id="ana", limit=4)
            with pytest.raises(InvalidInputError, match=r"queries\[0\]"):
                await memory.search_many([None], user_id="ana", mode="vector")  # pyright: ignore[reportArgumentType]

    asyncio.run(main())
