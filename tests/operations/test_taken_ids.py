"""Items whose id another record has: they fail the whole call, or are left out, also where somebody is faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest

from agentmem import ConflictError, InvalidInputError, Memory
from agentmem.client.importing import Importing

Open = Callable[..., Memory]


def item(id: str, content: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "content": content, **more}


@pytest.mark.parametrize("stream", [False, True])
def test_taken_ids_are_left_out_and_told(memory: Memory, stream: bool) -> None:
    memory.add("the first of a", id="a", user_id="ida")
    memory.add("deleted", id="b", user_id="ida")
    memory.delete("b")
    memory.add("a stranger's", id="c", user_id="olaf")
    items = [
        item("a", "something else"), "no id at all", item("a", "the first of a"), item("b", "deleted"),
        item("c", "a stranger's"), item("d", "new"), item("d", "new, too"), item("d", "new"),
    ]  # fmt: skip
    if stream:
        chunks = list(memory.add_stream(items, chunk=3, on_conflict="skip", user_id="ida"))
        results, skipped = [r for c in chunks for r in c], [s for c in chunks for s in c.skipped]
    else:
        results = memory.add_many(items, on_conflict="skip", user_id="ida")
        skipped = results.skipped
    assert [(r.record.content, r.status) for r in results] == [
        ("no id at all", "added"), ("the first of a", "duplicate"), ("new", "added"), ("new", "duplicate"),
    ]  # fmt: skip
    assert [(s.index, s.field) for s in skipped] == [(n, "id") for n in (0, 3, 4, 6)]
    assert all("'" in s.reason and "id" in s.reason for s in skipped)
    assert "stranger" not in skipped[2].reason
    assert memory.count(user_id="ida") == 3
    assert memory.get("a").content == "the first of a"
    assert memory.verify().ok


def test_otherwise_one_of_them_fails_all(memory: Memory) -> None:
    memory.add("the first of a", id="a")
    for more in ({}, {"on_conflict": "raise"}):
        with pytest.raises(ConflictError, match="'a' is already in use"):
            memory.add_many(["fine", item("a", "something else")], **more)
    assert memory.count() == 1


def test_a_bad_item_is_an_error_all_the_same(memory: Memory) -> None:
    memory.add("the first of a", id="a")
    with pytest.raises(InvalidInputError, match="item 1: "):
        memory.add_many([item("a", "something else"), ""], on_conflict="skip")
    results = memory.add_many([item("a", "something else"), "", "fine"], on_conflict="skip", on_error="skip")
    assert [s.index for s in results.skipped] == [0, 1]
    assert [r.record.content for r in results] == ["fine"]
    for wrong in ("ignore", None, True, ["skip"]):
        with pytest.raises(InvalidInputError, match=r"on_conflict=.* is not one of raise, skip") as caught:
            memory.add_many(["x"], on_conflict=wrong)  # type: ignore[arg-type]
        assert caught.value.field == "on_conflict"


def test_all_of_them_may_be_taken(memory: Memory) -> None:
    memory.add("the first of a", id="a")
    results = memory.add_many([item("a", "one"), item("a", "two")], on_conflict="skip")
    assert results == []
    assert [s.index for s in results.skipped] == [0, 1]


@pytest.mark.parametrize("how", [{"on_conflict": "skip"}, {"on_error": "skip"}])
def test_an_id_that_is_taken_at_the_last_moment(
    memory: Memory, how: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = Importing.check

    def overtaken(self: Importing, items: Any, first_index: int) -> Any:
        found = checked(self, items, first_index)
        monkeypatch.undo()
        memory.add("somebody was faster", id="b")
        return found

    monkeypatch.setattr(Importing, "check", overtaken)
    results = memory.add_many([item("a", "one"), item("b", "two"), item("c", "three")], **how)
    assert [r.id for r in results] == ["a", "c"]
    [skipped] = results.skipped
    assert (skipped.index, skipped.field) == (1, "id")
    assert "'b' is already in use" in skipped.reason
    assert memory.get("b").content == "somebody was faster"
    assert memory.verify().ok


def test_of_those_who_race_for_ids_each_has_one_winner(memory: Memory) -> None:
    ids = [str(n) for n in range(60)]

    def claim(who: int) -> tuple[set[str], set[int]]:
        results = memory.add_many([item(id, f"{id} is mine, says {who}") for id in ids], on_conflict="skip")
        assert all(r.status == "added" for r in results)
        return {r.id for r in results}, {s.index for s in results.skipped}

    with ThreadPoolExecutor(6) as threads:
        claims = list(threads.map(claim, range(6)))
    assert sorted(id for won, _ in claims for id in won) == sorted(ids)
    for won, lost in claims:
        assert won | {ids[n] for n in lost} == set(ids)
    assert memory.count() == 60


def test_for_loops_as_well(memory: Memory) -> None:
    async def main() -> None:
        face = memory.aio
        await face.add("the first of a", id="a")
        results = await face.add_many([item("a", "x"), item("b", "y")], on_conflict="skip")
        assert ([r.id for r in results], [s.index for s in results.skipped]) == (["b"], [0])
        async with aclosing(face.add_stream([item("a", "x"), item("c", "z")], chunk=1, on_conflict="skip")) as stream:
            told = [([r.id for r in chunk], [s.index for s in chunk.skipped]) async for chunk in stream]
        assert told == [([], [0]), (["c"], [])]

    asyncio.run(main())
