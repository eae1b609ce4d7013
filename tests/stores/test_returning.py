"""Adds of records that have a key, and puts with ids of their own, through both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import Add, AsyncMemory, ConflictError, InvalidInputError, Memory, MemoryRecord, Put, ScopeError

Open = Callable[..., Memory]


@pytest.fixture
def record(open_memory: Open, tmp_path: Path) -> MemoryRecord:
    """A record of another store, by key."""
    other = open_memory(tmp_path / "other")
    other.put("tone", "short", user_id="ana", namespace=("desk",), id="tone-1", metadata={"n": 1})
    return other.put("tone", "short answers", user_id="ana", namespace=("desk",), id="tone-1", data=[1]).record


WAYS: list[Callable[[Memory, Any], Any]] = [
    lambda memory, record: memory.add(record),
    lambda memory, record: memory.add_many([record])[0],
    lambda memory, record: memory.add_many([record], source="s")[0],
    lambda memory, record: next(memory.add_stream([record]))[0],
    lambda memory, record: memory.apply([Add(record)])[0],
    lambda memory, record: memory.aio and asyncio.run(async_add(memory, record)),
]


async def async_add(memory: Memory, record: MemoryRecord) -> Any:
    return await memory.aio.add(record)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["record", "mapping"])
def test_a_record_comes_back_with_its_key(memory: Memory, record: MemoryRecord, way: Any, form: str) -> None:
    item = record if form == "record" else record.to_dict()
    for status in ("added", "duplicate", "duplicate"):
        assert way(memory, item).status == status
    found = memory.get(key="tone", user_id="ana", namespace=("desk",))
    assert found is not None
    assert (found.id, found.version, found.data) == ("tone-1", 1, [1])
    assert [str(event.event) for event in memory.history("tone-1")] == ["ADD"]
    memory.delete("tone-1")
    theirs = memory.put("tone", "another", user_id="ana", namespace=("desk",))
    assert theirs.record.version == 3  # it goes on from the deleted one's
    with pytest.raises(ConflictError, match=r"'tone-1'.*deleted"):
        way(memory, item)
    with pytest.raises(ConflictError, match=f"'tone-2' cannot be added: its key 'tone' is that of '{theirs.id}'"):
        way(memory, replace(record, id="tone-2"))
    assert memory.count(user_id="ana", under=()) == 1
    memory.flush()
    assert memory.verify().problems == []


def test_what_is_taken_is_left_out(memory: Memory, record: MemoryRecord, clock: FakeClock) -> None:
    memory.put("tone", "theirs", user_id="ana", namespace=("desk",), ttl=60, agent_id="clerk")
    items = [
        replace(record, id="a"), replace(record, key="b", id="b"), replace(record, key="b", id="c"),
        replace(record, key="d", id="b"), replace(record, key=None, id="e"),
    ]  # fmt: skip
    results = memory.add_many(items, on_conflict="skip")
    assert [one.id for one in results] == ["b", "e"]
    assert [(one.index, one.field) for one in results.skipped] == [(0, "key"), (2, "key"), (3, "id")]
    assert "'a' cannot be added: its key 'tone' is that of another record" in results.skipped[0].reason
    nameless = {**record.to_dict(), "id": None}
    assert [one.field for one in memory.add_many([nameless], on_conflict="skip").skipped] == ["key"]
    with pytest.raises(ConflictError):
        memory.add_many(items[:3])
    clock.advance(61)
    assert memory.add(items[0]).record.version == 3  # of before, and what it expired as
    assert memory.count(user_id="ana", under=()) == 3
    memory.flush()
    assert memory.verify().problems == []


def test_views_keep_keys_where_they_are_bound(memory: Memory, record: MemoryRecord) -> None:
    memory.scoped(user_id="ana").add(record)
    for view in (memory.scoped(user_id="bo"), memory.scoped(user_id="ana", namespace=("other",))):
        with pytest.raises(ScopeError):
            view.add(replace(record, id="x"))
    with pytest.raises(ConflictError) as caught:  # nothing of whose it is
        memory.put("k", "x", user_id="bo", id="tone-1")
    assert "ana" not in str(caught.value)
    assert "desk" not in str(caught.value)


def test_puts_with_ids(memory: Memory) -> None:
    first = memory.put("k", "one", id="mine")
    assert (first.id, first.status) == ("mine", "added")
    assert memory.put("k", "two", id="mine").status == "replaced"
    with pytest.raises(ConflictError, match="has the id 'mine', not 'other'"):
        memory.put("k", "three", id="other")
    with pytest.raises(ConflictError, match="'mine' is already in use for a record with the key 'k'"):
        memory.put("l", "one", id="mine")
    plain = memory.add("plain", id="plain")
    with pytest.raises(ConflictError, match="'plain' is already in use for a record without a key"):
        memory.put("l", "plain", id=plain.id)
    with pytest.raises(InvalidInputError, match="the id 'two' occurs twice") as caught:
        memory.put_many([{"key": "a", "content": "x", "id": "two"}, {"key": "b", "content": "y", "id": "two"}])
    assert caught.value.index == 1
    with pytest.raises(ConflictError) as conflict:
        memory.apply([Put("a", "x", id="two"), Put("b", "y", id="two")])
    assert conflict.value.index == 1
    with pytest.raises(ConflictError) as conflict:
        memory.put_many([{"key": "a", "content": "x"}, {"key": "b", "content": "y", "id": "plain"}])
    assert conflict.value.index == 1
    assert memory.count() == 2


def test_decomposed_ids(memory: Memory) -> None:
    assert memory.put("k", "one", id="cafe\u0301").id == "caf\xe9"
    assert memory.put("k", "two", id="caf\xe9").status == "replaced"
    assert memory.put("k", "three", id="cafe\u0301").record.version == 3


def test_records_are_put_as_they_are(memory: Memory, record: MemoryRecord) -> None:
    assert memory.put_many([record])[0].id == "tone-1"
    assert [one.status for one in memory.put_many([record.to_dict()])] == ["replaced"]
    with pytest.raises(InvalidInputError, match="key"):
        memory.put_many([replace(record, key=None)])


def test_the_async_client_takes_ids(store: Path) -> None:
    async def run() -> None:
        async with AsyncMemory(store, embedder=HashEmbedder()) as memory:
            assert (await memory.put("k", "x", id="mine")).id == "mine"
            with pytest.raises(ConflictError):
                await memory.put("k", "x", id="other")
            assert (await memory.apply([Put("l", "x", id="m")]))[0].id == "m"  # pyright: ignore[reportAttributeAccessIssue]

    asyncio.run(run())
