"""Lists by the time of the last change, and pages that are chosen by their number."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder

from agentmem import ALL, AsyncMemory, InvalidInputError, Memory, MemoryRecord
from agentmem.stores import records as stored_records


def fill(memory: Memory, clock: FakeClock, count: int = 40) -> None:
    pick = random.Random(3)
    for n in range(count):
        clock.advance(pick.choice([0, 0, 5]))
        memory.add(
            f"line {n}", id=f"l{n:02}", user_id=pick.choice(["rosa", "rosa", "timo"]),
            run_id=pick.choice([None, "call"]), metadata={"n": n % 4},
            occurred_at=START - timedelta(hours=n) if n % 3 else None,
        )  # fmt: skip
    for _ in range(count):
        clock.advance(pick.choice([0, 5]))
        memory.update(f"l{pick.randrange(count):02}", metadata={"seen": pick.random()})


def ids(records: list[MemoryRecord]) -> list[str]:
    return [record.id for record in records]


def read(memory: Memory, limit: int, **options: Any) -> list[str]:
    found, cursor = list[str](), None
    while True:
        page = memory.page(limit=limit, cursor=cursor, **options)
        found += ids(page.records)
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("window", [2_000, 6])
def test_by_the_last_change(
    memory: Memory, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, window: int, order: Any
) -> None:
    monkeypatch.setattr(stored_records, "WINDOW", window)
    fill(memory, clock)
    added = list(memory.iterate(user_id=ALL, order="oldest"))
    changed = sorted(added, key=lambda record: record.updated_at)  # stable: ties stay in the order of adding
    for options in (
        {"user_id": ALL}, {"user_id": "rosa"}, {"user_id": "timo", "run_id": "call"}, {"user_id": "nobody"},
        {"user_id": ALL, "filters": {"n": 2}}, {"user_id": ALL, "since": START - timedelta(hours=9)},
    ):  # fmt: skip
        there = set(ids(list(memory.iterate(**options))))
        wanted = [record.id for record in changed if record.id in there]
        wanted = wanted[::-1] if order == "newest" else wanted
        for limit in (1, 7, 100):
            assert read(memory, limit, by="updated", order=order, **options) == wanted
        assert ids(list(memory.iterate(by="updated", order=order, **options))) == wanted


def test_what_changes_meanwhile_comes_again(memory: Memory, clock: FakeClock) -> None:
    for n in range(6):
        clock.advance(1)
        memory.add(f"note {n}", id=str(n))
    first = memory.page(by="updated", order="oldest", limit=3)
    clock.advance(1)
    memory.update("1", importance=1)
    memory.delete("4")
    rest = memory.page(by="updated", order="oldest", cursor=first.cursor)
    assert ids(first.records) == ["0", "1", "2"]
    assert ids(rest.records) == ["3", "5", "1"]
    clock.advance(1)
    memory.restore("4")
    assert ids(memory.page(by="updated", limit=2).records) == ["4", "1"]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("by", ["added", "event", "updated"])
def test_an_offset_passes_over_the_first(memory: Memory, clock: FakeClock, by: Any, order: Any) -> None:
    fill(memory, clock)
    for options in ({"user_id": ALL}, {"user_id": "rosa", "filters": {"n": {"$lt": 3}}}):
        every = read(memory, 100, by=by, order=order, **options)
        for offset in (0, 1, 5, len(every) - 1, len(every), 500):
            page = memory.page(by=by, order=order, offset=offset, limit=4, **options)
            assert ids(page.records) == every[offset : offset + 4]
            assert (page.cursor is not None) == (offset + 4 < len(every))
            if page.cursor is not None:
                rest = memory.page(by=by, order=order, cursor=page.cursor, limit=100, **options)
                assert ids(rest.records) == every[offset + 4 :]


def test_bad_arguments(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock, 8)
    cursors = {by: memory.page(user_id=ALL, by=by, limit=2).cursor for by in ("added", "event", "updated")}
    for by, cursor in cursors.items():
        for other in cursors:
            if other != by:
                with pytest.raises(InvalidInputError, match="cursor="):
                    memory.page(user_id=ALL, by=other, cursor=cursor)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidInputError, match="cursor="):
            memory.page(user_id=ALL, by=by, order="oldest", cursor=cursor)  # pyright: ignore[reportArgumentType]
    for cursor in ("newest:updated:1", "newest:updated:1,2,3", "newest:updated:,", "newest:updated:\uff11,2"):
        with pytest.raises(InvalidInputError, match="cursor="):
            memory.page(by="updated", cursor=cursor)
    with pytest.raises(InvalidInputError, match="exclude each other") as caught:
        memory.page(user_id=ALL, offset=1, cursor=cursors["added"])
    assert caught.value.field == "offset"
    for offset in (-1, True, 0.5, "1", None, 10**10):
        with pytest.raises(InvalidInputError, match="offset must be an int from 0"):
            memory.page(offset=offset)  # pyright: ignore[reportArgumentType]
    assert memory.page(user_id=ALL, by="updated", offset=10**9, limit=10_000).records == []
    with pytest.raises(InvalidInputError, match="added, event, updated"):
        memory.page(by="changed")  # pyright: ignore[reportArgumentType]


def test_the_waiting_client_lists_so_as_well(
    memory: Memory, clock: FakeClock, store: Path, embedder: HashEmbedder
) -> None:
    fill(memory, clock)
    wanted = read(memory, 100, by="updated", user_id="rosa")

    async def main() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as waiting:
            page = await waiting.page(user_id="rosa", by="updated", offset=2, limit=3)
            assert ids(page.records) == wanted[2:5]
            assert [record.id async for record in waiting.iterate(user_id="rosa", by="updated")] == wanted

    asyncio.run(main())
