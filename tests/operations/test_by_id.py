"""One record by its id: its metadata replaced as a whole, and looked at though it was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import FakeClock

from agentmem import ConflictError, InvalidInputError, Memory, Settings

Open = Callable[..., Memory]


# -- update(merge=False) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "new", [{"colour": "red"}, {"size": None}, {"deep": {"a": [1, None]}}, {}, None, {"colour": "blue", "size": 3}]
)
def test_metadata_are_replaced_as_add_would_keep_them(memory: Memory, new: dict[str, Any] | None) -> None:
    id = memory.add("a coat", metadata={"colour": "blue", "size": 3}).id
    fresh = memory.add("another coat", metadata=new).record.metadata
    changed = memory.update(id, metadata=new, merge=False)
    assert changed.metadata == fresh == (new or {})
    assert changed.version == (1 if new == {"colour": "blue", "size": 3} else 2)
    assert memory.restore(id, version=1).metadata == {"colour": "blue", "size": 3}
    assert memory.verify().ok


def test_merging_is_what_happens_otherwise(memory: Memory) -> None:
    id = memory.add("a coat", metadata={"colour": "blue", "size": 3}).id
    assert memory.update(id, metadata={"size": None}).metadata == {"colour": "blue"}
    assert memory.update(id, metadata={"size": 4}, merge=True).metadata == {"colour": "blue", "size": 4}


def test_a_filter_goes_by_the_new_metadata(memory: Memory) -> None:
    id = memory.add("a coat", metadata={"colour": "blue"}).id
    memory.update(id, metadata={"size": 3}, merge=False)
    assert memory.count(filters={"colour": "blue"}) == 0
    assert memory.count(filters={"size": 3}) == 1


def test_what_merge_may_be(memory: Memory) -> None:
    id = memory.add("a coat", metadata={"a": 1}).id
    for wrong in (None, 0, "no", []):
        with pytest.raises(InvalidInputError, match="merge must be True or False") as caught:
            memory.update(id, metadata={}, merge=wrong)  # type: ignore[arg-type]
        assert caught.value.field == "merge"
    with pytest.raises(InvalidInputError, match="merge=False says how metadata is stored"):
        memory.update(id, merge=False)
    with pytest.raises(InvalidInputError, match="merge=False says how metadata is stored"):
        memory.update(id, content="a hat", merge=False)
    with pytest.raises(InvalidInputError, match="metadata must be a mapping"):
        memory.update(id, metadata=["a"], merge=False)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="max_metadata_bytes"):
        memory.update(id, metadata={"long": "x" * 70_000}, merge=False)
    with pytest.raises(ConflictError, match="version 1"):
        memory.update(id, metadata={"b": 2}, merge=False, if_version=7)
    assert memory.get(id).metadata == {"a": 1}


def test_replacing_makes_room_where_merging_would_not_fit(open_memory: Open) -> None:
    memory = open_memory(settings=Settings(max_metadata_bytes=1_024))
    id = memory.add("a coat", metadata={"old": "x" * 900}).id
    with pytest.raises(InvalidInputError, match="max_metadata_bytes"):
        memory.update(id, metadata={"new": "y" * 900})
    assert memory.update(id, metadata={"new": "y" * 900}, merge=False).metadata == {"new": "y" * 900}


# -- get(deleted=True) -------------------------------------------------------------------------------------------------


def test_a_deleted_record_can_be_looked_at(memory: Memory) -> None:
    record = memory.add("a lost glove", user_id="ida", metadata={"hand": "left"}).record
    assert memory.get(record.id, deleted=True) == record
    memory.delete(record.id)
    assert memory.get(record.id) is None
    assert memory.get(record.id, deleted=False) is None
    gone = memory.get(record.id, deleted=True)
    assert gone == memory.deleted(user_id="ida").records[0]
    assert (gone.content, gone.metadata, gone.version) == (record.content, record.metadata, 2)
    memory.restore(record.id)
    assert memory.get(record.id).content == record.content


def test_not_behind_a_wall_nor_once_it_cannot_come_back(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("a lost glove", user_id="ida").id
    memory.delete(id)
    assert memory.scoped(user_id="olaf").get(id, deleted=True) is None
    assert memory.userless().get(id, deleted=True) is None
    assert memory.scoped(user_id="ida").get(id, deleted=True).id == id
    memory.erase(id)
    assert memory.get(id, deleted=True) is None
    short = memory.add("for a minute", ttl=timedelta(minutes=1)).id
    clock.advance(61)
    assert memory.get(short, deleted=True) is None  # a ttl is a promise
    memory.lifecycle.sweep()
    assert memory.get(short, deleted=True) is None
    assert memory.get("never", deleted=True) is None


def test_what_its_layer_let_go_for_as_long_as_it_can_be_restored(memory: Memory, clock: FakeClock) -> None:
    id = memory.add({"role": "user", "content": "said in passing"}, run_id="r").id
    clock.advance(2 * 86_400)
    memory.lifecycle.sweep()
    assert memory.get(id) is None
    assert memory.get(id, deleted=True).content == "said in passing"
    clock.advance(40 * 86_400)
    assert memory.get(id, deleted=True) is None


def test_looking_at_what_is_gone_is_no_use_of_it(memory: Memory) -> None:
    id = memory.add("a lost glove").id
    memory.delete(id)
    for _ in range(3):
        memory.get(id, deleted=True)
    memory.restore(id)
    assert memory.lifecycle.explain(id).accesses == 0


def test_what_deleted_may_be(memory: Memory) -> None:
    for wrong in (None, 1, "yes"):
        with pytest.raises(InvalidInputError, match="deleted must be True or False"):
            memory.get("x", deleted=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        memory.get("x", True)  # type: ignore[misc]


def test_for_loops_as_well(memory: Memory) -> None:
    async def main() -> None:
        id = (await memory.aio.add("a lost glove", metadata={"a": 1})).id
        assert (await memory.aio.update(id, metadata={"b": 2}, merge=False)).metadata == {"b": 2}
        await memory.aio.delete(id)
        assert await memory.aio.get(id) is None
        assert (await memory.aio.get(id, deleted=True)).id == id

    asyncio.run(main())
