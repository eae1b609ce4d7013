"""Filters that find nothing because they ask the wrong thing say so, once, where the caller stands."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path
from typing import Any

import pytest

from agentmem import AsyncMemory, FilterWarning, Memory
from agentmem.filters.never import contradiction
from agentmem.filters.parsing import parse_filter

NEVER = [
    {"tag": "x", "$and": [{"tag": {"$ne": "x"}}]},
    {"tag": {"$gt": 3, "$not": {"$gt": 3}}},
    {"tag": {"$exists": False, "$eq": 1}},
    {"tag": {"$exists": False, "$gte": 1}},
    {"a.b": {"$exists": False, "$contains": "x"}},
    {"$or": [{"tag": {"$eq": 1, "$ne": 1}}, {"n": {"$in": [1], "$nin": [1]}}]},
    {"$not": {"$or": [{"tag": 1}, {"tag": {"$ne": 1}}]}},
    {"$kind": "fact", "$and": [{"$kind": "note"}]},
    {"$importance": {"$gt": 0.8, "$lt": 0.2}},
    {"$importance": {"$gte": 0.5, "$lt": 0.5}},
    {"$pinned": {"$eq": True, "$ne": True}},
]
MAY_BE = [
    {},
    {"tag": "x"},
    {"tag": {"$in": []}},
    {"tag": {"$gt": 5, "$lt": 3}},  # of a list, [0, 9]
    {"$and": [{"tag": "a"}, {"tag": "b"}]},  # of a list, too
    {"tag": {"$exists": False, "$eq": None}},
    {"tag": {"$exists": True, "$ne": 1}},
    {"$or": [{"tag": {"$eq": 1, "$ne": 1}}, {"tag": 2}]},
    {"$importance": {"$gte": 0.5, "$lte": 0.5}},
    {"$kind": {"$in": ["a", "b"]}, "$and": [{"$kind": {"$in": ["b", "c"]}}]},
    {"tag": 1, "$and": [{"tag": {"$ne": True}}]},
]


@pytest.mark.parametrize("filters", NEVER, ids=str)
def test_a_contradiction_is_told(memory: Memory, filters: dict[str, Any]) -> None:
    memory.add("tagged", user_id="noa", metadata={"tag": "x", "n": 1})
    for call in (
        lambda: memory.search("tagged", user_id="noa", filters=filters),
        lambda: memory.page(user_id="noa", filters=filters).records,
        lambda: memory.delete_all(user_id="noa", filters=filters),
    ):
        with pytest.warns(FilterWarning, match="can never match: no value of") as told:
            assert not call()
        assert [Path(each.filename).name for each in told] == [Path(__file__).name]


@pytest.mark.parametrize("filters", MAY_BE, ids=str)
def test_what_may_be_is_no_contradiction(filters: dict[str, Any]) -> None:
    tree = parse_filter(filters)
    assert tree is None or contradiction(tree) is None


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("user_id", ["'user_id'", "pass user_id=", "'$user_id'"]),
        ("kind", ["'kind'", "pass kinds=", "'$kind'"]),
        ("created_at", ["since= and until=", "'$created_at'"]),
        ("role", ["'role'", "write '$role'"]),
    ],
)
def test_a_field_of_the_record_is_not_looked_for_in_metadata(memory: Memory, field: str, words: list[str]) -> None:
    memory.add("to be found", user_id="noa", role="user", metadata={"topic": "x"})
    scope: dict[str, Any] = {"user_id": "noa", "filters": {"$or": [{field: "user"}, {"topic": "y"}]}}
    with pytest.warns(FilterWarning) as told:
        assert memory.search("found", **scope) == []
    assert all(word in str(told[0].message) for word in words), str(told[0].message)
    assert Path(told[0].filename).name == Path(__file__).name
    assert memory.search("found", **scope) == []  # told once; a second warning would be an error here
    assert memory.page(**scope).records == []
    other = memory.scoped(user_id="noa")
    with pytest.warns(FilterWarning, match=field):
        assert other.delete_all(filters={field: "user"}) == 0


def test_no_hint_without_a_reason(memory: Memory) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert memory.search("found", filters={"kind": "x"}) == []  # there is nothing here at all
        memory.add("has such a key", metadata={"kind": "own", "role.name": "x"})
        assert memory.search("found", filters={"kind": "x"}) == []
        assert len(memory.search("found", filters={"kind": "own"})) == 1
        assert memory.search("found", filters={"topic": "x"}) == []
        assert memory.search("found", filters={"role.id": "x"}) == []
        assert memory.search("found", filters={"$role": "x"}) == []


def test_the_waiting_client_hints_as_well(store: Path, embedder: Any) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.add("to be found")
            with pytest.warns(FilterWarning, match=r"pass layers=.*\$layer"):
                assert await memory.search("found", filters={"layer": "assets"}) == []
            with pytest.warns(FilterWarning, match="never match"):
                assert await memory.delete_all(run_id="r", filters=NEVER[0]) == 0

    asyncio.run(main())
