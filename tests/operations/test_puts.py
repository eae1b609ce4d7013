"""Records by key: what a put replaces, which keys go on, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeClock, HashEmbedder
from inspecting import files_with, sql

from agentmem import (
    ALL,
    AsyncMemory,
    ConflictError,
    InvalidInputError,
    Memory,
    ScopeError,
)


def test_a_put_replaces_everything_but_id_and_birth(memory: Memory, clock: FakeClock) -> None:
    first = memory.put(
        "menu",
        "soup of the day",
        metadata={"day": 1},
        importance=0.9,
        kind="card",
        role="user",
        ttl=3600,
        layer="interact",
    ).record
    clock.advance(60)
    second = memory.put("menu", "bread", layer="insights").record
    assert (second.id, second.created_at, second.version) == (first.id, first.created_at, 2)
    assert (second.metadata, second.importance, second.role, second.kind) == ({}, None, None, "fact")
    assert second.expires_at is None
    assert second.layer == "insights"
    *_, event = memory.history(first.id)
    assert event.event == "UPDATE"
    assert event.data["content"] == "soup of the day"
    assert event.data["metadata"] == {"day": 1}
    assert memory.restore(first.id, version=1).content == "soup of the day"
    assert memory.get(key="menu") == memory.get(first.id)
    memory.flush()
    assert memory.verify().problems == []


def test_the_same_put_is_another_version(memory: Memory) -> None:
    for version in (1, 2, 3):
        assert memory.put("theme", "dark").record.version == version


def test_a_put_is_found_by_search_at_once(memory: Memory) -> None:
    memory.put("door", "the blue door", namespace=("house",))
    assert [hit.content for hit in memory.search("door", namespace=("house",))] == ["the blue door"]
    memory.put("door", "the red gate", namespace=("house",))
    assert [hit.content for hit in memory.search("gate", namespace=("house",), mode="keyword")] == ["the red gate"]
    assert memory.search("blue", namespace=("house",), mode="keyword") == []


def test_versions_go_on_after_the_end_of_a_tombstone(memory: Memory, clock: FakeClock, store: Path) -> None:
    secret = "key-of-zoe-7431"
    for _ in range(4):
        last = memory.put(secret, "where zoe keeps her spare key", user_id="zoe", namespace=("zoe-room",)).record
    memory.erase_all(user_id="zoe")
    memory.compact()
    assert files_with(store, secret, "zoe-room") == {}
    assert sql(memory, "SELECT count(*) FROM records") == [(0,)]
    again = memory.put(secret, "another one", user_id="zoe", namespace=("zoe-room",)).record
    assert again.version > last.version
    with pytest.raises(ConflictError):
        memory.put(secret, "stale", user_id="zoe", namespace=("zoe-room",), if_version=last.version)


def test_what_had_a_key_last_comes_back(memory: Memory) -> None:
    for n in range(3):
        memory.put("seat", f"row {n}", user_id="ola")
        memory.delete(key="seat", user_id="ola")
    memory.put("taken", "old", user_id="ola")
    memory.delete(key="taken", user_id="ola")
    memory.put("taken", "new", user_id="ola")
    assert memory.restore_all(user_id="ola") == 1
    assert memory.get(key="seat", user_id="ola").content == "row 2"  # pyright: ignore[reportOptionalMemberAccess]
    assert memory.get(key="taken", user_id="ola").content == "new"  # pyright: ignore[reportOptionalMemberAccess]
    memory.flush()
    assert memory.verify().problems == []


def test_one_bad_item_stores_none(memory: Memory) -> None:
    memory.put("b", "old")
    with pytest.raises(ConflictError, match="'b'"):
        memory.put_many([{"key": "a", "content": "x"}, {"key": "b", "content": "y", "if_version": 7}])
    with pytest.raises(InvalidInputError, match="twice") as caught:
        memory.put_many([{"key": "a", "content": "x"}, {"key": "a", "content": "y"}])
    assert caught.value.index == 1
    assert memory.get(key="a") is None
    assert memory.count() == 1


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.put("", "x"), InvalidInputError),
        (lambda m: m.put("k" * 2049, "x"), InvalidInputError),
        (lambda m: m.put(7, "x"), InvalidInputError),
        (lambda m: m.put("k", ""), InvalidInputError),
        (lambda m: m.put("k", "x", if_version=-1), InvalidInputError),
        (lambda m: m.put("k", "x", namespace="shelf"), ScopeError),
        (lambda m: m.put("k", "x", namespace=("shelf", "")), ScopeError),
        (lambda m: m.put("k", "x", user_id=ALL), ScopeError),
        (lambda m: m.get(), InvalidInputError),
        (lambda m: m.get("id", key="k"), InvalidInputError),
        (lambda m: m.get("id", namespace=("shelf",)), InvalidInputError),
        (lambda m: m.search("x", namespace=(), under=()), ScopeError),
        (lambda m: m.put_many([{"content": "x"}]), InvalidInputError),
        (
            lambda m: m.put_many([{"key": k, "content": "x", "id": "mine"} for k in "kl"]),
            InvalidInputError,
        ),
    ],
)  # fmt: skip
def test_bad_arguments(memory: Memory, call: Callable[[Memory], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(memory)
    assert memory.count(under=()) == 0


def test_views_have_their_own_keys(memory: Memory) -> None:
    mine = memory.scoped(user_id="kim", under=("desk",))
    assert mine.put("pen", "a blue one").record.namespace == ("desk",)
    assert mine.put("pen", "a red one", namespace=("desk", "drawer")).record.namespace == ("desk", "drawer")
    assert memory.get(key="pen", user_id="kim", namespace=("desk",)).content == "a blue one"  # pyright: ignore[reportOptionalMemberAccess]
    assert memory.get(key="pen", user_id="lee", namespace=("desk",)) is None
    assert {hit.content for hit in mine.search("pen one")} == {"a blue one", "a red one"}
    with pytest.raises(ScopeError):
        mine.put("pen", "x", namespace=("desktop",))
    with pytest.raises(ScopeError):
        mine.search("pen", under=())
    inner = mine.scoped(namespace=("desk", "drawer"))
    assert [record.content for record in inner.iterate()] == ["a red one"]
    assert [one.namespace for one in mine.namespaces()] == [("desk",), ("desk", "drawer")]
    assert inner.delete(key="pen")
    assert mine.count() == 1


async def async_puts(path: Path) -> list[int]:
    async with AsyncMemory(path, embedder=HashEmbedder()) as memory:
        await memory.put("k", "one", namespace=("n",))
        await memory.put_many([{"key": "k", "content": "two"}], namespace=("n",))
        found = await memory.get(key="k", namespace=("n",))
        assert found is not None
        assert await memory.delete(key="k", namespace=("n",), if_version=found.version)
        return [found.version, len(await memory.namespaces())]


def test_the_async_client_does_the_same(store: Path) -> None:
    import asyncio

    assert asyncio.run(async_puts(store)) == [2, 0]
