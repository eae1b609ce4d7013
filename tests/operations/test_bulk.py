"""Deleting many: by ids in one transaction, and everybody's, with a guard."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder

from agentmem import ALL, AsyncMemory, InvalidInputError, Memory, ReadOnlyError, ScopeError, Settings

Open = Callable[..., Memory]


def fill(memory: Memory) -> None:
    for number in range(6):
        memory.add(
            f"parcel {number}", id=f"p{number}", user_id="lena" if number % 2 else "omar", metadata={"n": number}
        )
    memory.add("nobody's parcel", id="p6")


def left(memory: Memory) -> list[str]:
    return [record.id for record in memory.iterate(user_id=ALL, order="oldest")]


# -- by ids ------------------------------------------------------------------------------------------------------------


def test_the_result_says_which_were_there(memory: Memory) -> None:
    fill(memory)
    assert memory.delete_many(["p1", "none", "p4", "p1", "p6"]) == [True, False, True, False, True]
    assert left(memory) == ["p0", "p2", "p3", "p5"]
    assert memory.delete_many(("p1", "p0")) == [False, True]
    assert memory.delete_many([]) == []
    assert [event.event.value for event in memory.history("p4")] == ["ADD", "DELETE"]
    assert memory.restore("p4").version == 3
    assert {hit.id for hit in memory.search("parcel", user_id="omar")} == {"p2", "p4"}
    assert memory.verify().ok


def test_a_view_deletes_its_own(memory: Memory) -> None:
    fill(memory)
    view = memory.scoped(user_id="lena")
    assert view.delete_many(["p0", "p1", "p6", "p3"]) == [False, True, False, True]
    assert memory.scoped(user_id="stranger").delete_many(["p0", "p5"]) == [False, False]
    assert left(memory) == ["p0", "p2", "p4", "p5", "p6"]


def test_what_is_no_longer_visible_is_not_there(memory: Memory, clock: FakeClock) -> None:
    memory.add("short", id="short", ttl=10)
    memory.add("erased", id="erased")
    memory.erase("erased")
    clock.advance(11)
    assert memory.delete_many(["short", "erased"]) == [False, False]


def test_ids_are_found_as_they_are_spelled(memory: Memory) -> None:
    spelled = unicodedata.normalize("NFD", "café-7")
    memory.add("x", id="café-7")
    memory.add("y", id=12)
    assert memory.delete_many([spelled, 12, "12"]) == [True, True, False]


def test_one_bad_id_and_nothing_is_deleted(memory: Memory) -> None:
    fill(memory)
    for ids, index in ((["p0", None], 1), ([""], 0), (["p0", "p1", ["p2"]], 2), ([1.5], 0)):
        with pytest.raises(InvalidInputError, match=rf"ids\[{index}\]") as caught:
            memory.delete_many(ids)  # pyright: ignore[reportArgumentType]
        assert (caught.value.field, caught.value.index) == ("ids", index)
    for ids in ("p0", b"p0", {"p0": 1}, {"p0"}, None, 5, iter(["p0"])):
        with pytest.raises(InvalidInputError, match="takes a list of ids"):
            memory.delete_many(ids)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError, match="10,001"):
        memory.delete_many([f"p{n}" for n in range(10_001)])
    assert len(left(memory)) == 7


def test_many_go_in_one_transaction(memory: Memory) -> None:
    added = memory.add_many([f"leaf {n}" for n in range(1_200)], user_id="tree")
    before = memory.handle.engine().repository.last_seq()
    ids = [one.id for one in added]
    assert memory.delete_many([*ids, "none"]) == [True] * 1_200 + [False]
    events = memory.handle.engine().repository.events_after(before, 2_000)
    assert len(events) == 1_200
    assert memory.count(user_id="tree") == 0
    assert memory.restore_all(user_id="tree") == 1_200


def test_a_view_deletes_by_ids_in_all_its_namespaces_as_one_by_one(memory: Memory) -> None:
    ids = [memory.add("a", user_id="lena", namespace=where).id for where in ((), ("letters",), ("letters", "2026"))]
    other = memory.add("a", user_id="omar", namespace=("letters",)).id
    view = memory.scoped(user_id="lena")
    assert view.delete_many([*ids, other]) == [True, True, True, False]
    assert memory.userless().delete_many([other]) == [False]
    assert memory.scoped(user_id="omar", namespace=("notes",)).delete_many([other]) == [False]


def test_read_only_deletes_nothing(memory: Memory, open_memory: Open) -> None:
    fill(memory)
    reading = open_memory(read_only=True)
    for call in (lambda: reading.delete_many(["p0"]), lambda: reading.delete_all(user_id=ALL, before="2030-01-01")):
        with pytest.raises(ReadOnlyError):
            call()


# -- everybody's -------------------------------------------------------------------------------------------------------


def test_everybodys_old_records_go(memory: Memory, clock: FakeClock) -> None:
    memory.add("old", id="old", user_id="lena")
    memory.add("old, of nobody", id="nobody's")
    memory.add("about the future", id="planned", user_id="omar", occurred_at=START + timedelta(days=900))
    clock.advance(3_600)
    at = clock.now
    memory.add("told of the past", id="past", user_id="omar", occurred_at=START - timedelta(days=900))
    clock.advance(3_600)
    memory.add("new", id="new", user_id="lena")
    assert memory.delete_all(user_id=ALL, before=at, dry_run=True) == 3
    assert memory.delete_all(user_id=ALL, before=at) == 3
    assert left(memory) == ["past", "new"]
    assert memory.delete_all(user_id="omar", before=at) == 0
    assert memory.delete_all(user_id="omar", before=at + timedelta(microseconds=1)) == 1


def test_everybodys_takes_filters_agents_and_runs(memory: Memory) -> None:
    fill(memory)
    memory.add("by the bot", id="bot", user_id="lena", agent_id="bot", run_id="r")
    memory.add("by the bot", id="bot2", user_id="omar", agent_id="bot")
    assert memory.delete_all(user_id=ALL, run_id="r") == 1
    assert memory.delete_all(user_id=ALL, agent_id="bot") == 1
    assert memory.delete_all(user_id=ALL, filters={"n": {"$gte": 4}}) == 2
    assert memory.delete_all(user_id=ALL, filters={"$user_id": {"$prefix": "le"}, "n": {"$exists": True}}) == 2
    assert left(memory) == ["p0", "p2", "p6"]


@pytest.mark.parametrize("options", [{}, {"filters": {}}, {"filters": None}, {"dry_run": True}], ids=str)
def test_everybodys_without_more_is_refused(memory: Memory, options: Any) -> None:
    fill(memory)
    with pytest.raises(ScopeError, match=r"every record of every user.*before"):
        memory.delete_all(user_id=ALL, **options)
    with pytest.raises(ScopeError, match="needs user_id"):
        memory.delete_all(before=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(ScopeError, match="bound"):
        memory.scoped(user_id="lena").delete_all(user_id=ALL, before="2030-01-01")
    with pytest.raises(InvalidInputError, match="before"):
        memory.delete_all(user_id=ALL, before="soon")
    assert len(left(memory)) == 7


def test_before_is_a_time_of_the_zone(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(retrieval={"time_zone": "Asia/Tokyo"}))
    clock.now = datetime(2025, 5, 4, 14, 59, tzinfo=UTC)
    memory.add("the evening of the fourth", id="evening")
    clock.now = datetime(2025, 5, 4, 15, 1, tzinfo=UTC)
    memory.add("past midnight", id="night")
    assert memory.delete_all(user_id=ALL, before="2025-05-05") == 1
    assert left(memory) == ["night"]


def test_the_waiting_client_deletes_as_well(store: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    async def main() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as memory:
            await memory.add_many([{"content": f"box {n}", "id": f"b{n}"} for n in range(4)], user_id="kim")
            assert await memory.delete_many(["b0", "b9"]) == [True, False]
            clock.advance(1)
            assert await memory.delete_all(user_id=ALL, before=clock.now) == 3
            with pytest.raises(ScopeError):
                await memory.delete_all(user_id=ALL)

    asyncio.run(main())
