"""Ends that reads put off, ``touch``, and what the store's feed says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from inspecting import sql

from agentmem import (
    ALL,
    AsyncMemory,
    ConflictError,
    EventType,
    InvalidInputError,
    Memory,
    NotFoundError,
    ScopeError,
    Settings,
)

READS: dict[str, Callable[[Memory, str], object]] = {
    "get": lambda m, id: m.get(id),
    "get by key": lambda m, id: m.get(key="seat"),
    "search": lambda m, id: m.search("window seat"),
    "search again": lambda m, id: [m.search("window seat"), m.search("window seat")],
    "context": lambda m, id: m.context("window seat", max_tokens=100),
    "page": lambda m, id: m.page(),
    "iterate": lambda m, id: list(m.iterate()),
    "touch": lambda m, id: m.touch([id]),
}  # fmt: skip
LOOKS: dict[str, Callable[[Memory, str], object]] = {
    "get": lambda m, id: m.get(id, touch=False),
    "get by key": lambda m, id: m.get(key="seat", touch=False),
    "search": lambda m, id: m.search("window seat", touch=False),
    "context": lambda m, id: m.context("window seat", max_tokens=100, touch=False),
    "page": lambda m, id: m.page(touch=False),
    "iterate": lambda m, id: list(m.iterate(touch=False)),
    "recent": lambda m, id: m.recent(run_id="trip", touch=False),
    "count": lambda m, id: m.count(),
    "history": lambda m, id: m.history(id),
}  # fmt: skip


def seat(memory: Memory, **more: Any) -> str:
    return memory.put("seat", "a window seat", ttl=100, **{"sliding": True, **more}).id


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_puts_the_end_off(memory: Memory, clock: FakeClock, read: Callable[[Memory, str], object]) -> None:
    id = seat(memory)
    for _ in range(3):
        clock.advance(99.999999)  # the last moment
        read(memory, id)
    clock.advance(99.999999)
    assert memory.get(id, touch=False) is not None
    clock.advance(0.000001)
    for gone in (memory.get(id), memory.get(key="seat"), *memory.search("window seat"), *memory.page().records):
        assert gone is None
    assert memory.count() == 0


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_look_does_not(memory: Memory, clock: FakeClock, look: Callable[[Memory, str], object]) -> None:
    id = seat(memory, run_id="trip")
    clock.advance(60)
    look(memory, id)
    clock.advance(40)
    assert memory.get(id) is None
    assert sql(memory, "SELECT count(*) FROM accesses WHERE times > 0") == [(0,)]


def test_what_does_not_slide_keeps_its_promise(memory: Memory, clock: FakeClock) -> None:
    id = seat(memory, sliding=False)
    clock.advance(60)
    assert memory.get(id) is not None
    assert memory.touch([id]) == [True]
    clock.advance(40)
    assert memory.get(id) is None


def test_renewals_are_few_and_only_in_the_feed(memory: Memory, clock: FakeClock) -> None:
    record = memory.put("seat", "a window seat", ttl=100, sliding=True).record
    for _ in range(40):
        clock.advance(3)
        memory.get(record.id)
        memory.lifecycle.sweep()  # which writes down
    events = memory.events()
    assert [event.event for event in events] == ["ADD", "TOUCH"]
    assert events[-1].id == record.id
    assert events[-1].seq <= 1 + 40 // 4 + 1  # at most one for each tenth of the span
    assert [event.event for event in memory.history(record.id)] == ["ADD"]
    now = memory.get(record.id)
    assert now is not None
    assert now.version == 1
    assert now.expires_at is not None
    assert now.expires_at - clock.now >= timedelta(seconds=89)
    assert memory.verify().problems == []


@pytest.mark.parametrize("limit", [10_000, 1])
def test_what_follows_the_feed_learns_of_it(open_memory: Callable[..., Memory], clock: FakeClock, limit: int) -> None:
    memory = open_memory(settings=Settings(performance={"arena_limit": limit}))
    seat(memory)
    memory.put("sea", "a seat by the sea")
    other = open_memory(settings=Settings(performance={"arena_limit": limit}))
    for _ in range(3):
        clock.advance(95)  # so near to the end that the read itself writes it down
        assert {hit.content for hit in memory.search("seat", mode="keyword")} == {"a window seat", "a seat by the sea"}
    memory.flush()
    clock.advance(95)
    assert len(other.search("seat")) == 2
    clock.advance(100)
    assert [hit.content for hit in memory.search("seat")] == ["a seat by the sea"]
    assert memory.verify().problems == []


def test_a_clock_that_goes_back_shortens_nothing(memory: Memory, clock: FakeClock) -> None:
    id = seat(memory)
    clock.advance(50)
    memory.get(id)
    clock.advance(-500)
    assert memory.get(id) is not None
    assert memory.touch([id]) == [True]
    clock.now = START + timedelta(seconds=149)
    assert memory.get(id, touch=False) is not None
    clock.advance(1)
    assert memory.get(id) is None


def test_touch_sets_another_end(memory: Memory, clock: FakeClock) -> None:
    plain = memory.add("a plain note").id
    brief = memory.add("a brief note", ttl=10).id
    slides = seat(memory)
    assert memory.touch([plain, "nobody", brief, slides, plain], ttl=500) == [True, False, True, True, True]
    ends = {record.id: record.expires_at for record in memory.iterate(touch=False)}
    assert set(ends.values()) == {clock.now + timedelta(seconds=500)}
    assert [memory.get(id, touch=False).sliding for id in (plain, brief, slides)] == [None, None, 500.0]  # pyright: ignore[reportOptionalMemberAccess]
    clock.advance(400)
    memory.get(slides)
    clock.advance(200)
    assert [record.id for record in memory.iterate(touch=False)] == [slides]
    assert memory.touch([slides], ttl=None) == [True]
    clock.advance(10_000)
    found = memory.get(slides)
    assert found is not None
    assert (found.expires_at, found.sliding, found.version) == (None, None, 1)
    assert memory.touch([plain]) == [False]
    memory.flush()
    assert memory.verify().problems == []


def test_update_and_restore_of_what_slides(memory: Memory, clock: FakeClock) -> None:
    id = seat(memory)
    record = memory.update(id, ttl=50)
    assert (record.sliding, record.expires_at) == (50.0, clock.now + timedelta(seconds=50))
    record = memory.update(id, ttl=70, sliding=False)
    assert (record.sliding, record.expires_at) == (None, clock.now + timedelta(seconds=70))
    assert memory.update(id, ttl=80, sliding=True).sliding == 80.0
    assert memory.update(id, ttl=None).sliding is None
    assert [event.data.get("sliding") for event in memory.history(id)[1:]] == [100.0, 50.0, None, 80.0]
    clock.advance(1_000)
    back = memory.restore(id, version=1)
    assert (back.sliding, back.expires_at) == (100.0, clock.now + timedelta(seconds=100))
    memory.delete(id)
    clock.advance(60)
    assert memory.restore(id).expires_at == clock.now + timedelta(seconds=100)
    clock.advance(100)
    with pytest.raises(NotFoundError):
        memory.update(id, importance=1)


def test_said_again_it_never_lives_shorter(memory: Memory, clock: FakeClock) -> None:
    memory.add("tea at four", ttl=100, sliding=True)
    again = memory.add("tea at four", ttl=50).record
    assert (again.sliding, again.expires_at) == (100.0, clock.now + timedelta(seconds=100))
    again = memory.add("tea at four", ttl=200, sliding=True).record
    assert (again.sliding, again.expires_at) == (200.0, clock.now + timedelta(seconds=200))
    again = memory.add("tea at four").record
    assert (again.sliding, again.expires_at) == (None, None)


def test_when_it_was_last_used(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("a window seat").id
    first = memory.get(id)
    assert first is not None
    assert first.last_accessed is None
    used = clock.now
    clock.advance(5)
    assert memory.get(id, touch=False).last_accessed == used  # pyright: ignore[reportOptionalMemberAccess]
    assert memory.page().records[0].last_accessed == used
    assert memory.search("seat")[0].record.last_accessed == used
    clock.advance(5)
    memory.lifecycle.sweep()
    assert memory.search("seat")[0].record.last_accessed == clock.now - timedelta(seconds=5)  # from the cache
    clock.advance(5)
    memory.get(id)
    memory.lifecycle.sweep()
    assert memory.search("seat", touch=False)[0].record.last_accessed == clock.now  # written down since it was cached
    again = memory.get(id)
    assert again == first
    assert hash(again) == hash(first)
    assert again is not None
    assert again.last_accessed == clock.now


def test_a_read_survives_closing(open_memory: Callable[..., Memory], store: Path, clock: FakeClock) -> None:
    memory = open_memory()
    id = seat(memory)
    clock.advance(50)
    memory.get(id)
    memory.close()
    clock.advance(60)
    assert open_memory().get(id) is not None


def test_a_lapsed_key_is_free_and_one_that_was_read_is_not(memory: Memory, clock: FakeClock) -> None:
    seat(memory)
    clock.advance(50)
    memory.get(key="seat")
    clock.advance(60)
    with pytest.raises(ConflictError):
        memory.put("seat", "another", if_version=0)
    clock.advance(100)
    assert memory.put("seat", "another", if_version=0).status == "added"


def test_a_reader_only_looks(open_memory: Callable[..., Memory], store: Path, clock: FakeClock) -> None:
    memory = open_memory()
    id = seat(memory)
    memory.close()
    clock.advance(50)
    with Memory(store, clock=clock, embedder=HashEmbedder(), read_only=True) as reader:
        assert reader.get(id) is not None
        assert [event.event for event in reader.events()] == ["ADD"]
        clock.advance(50)
        assert reader.get(id) is None


def test_records_that_return_go_on_sliding(
    memory: Memory, open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path
) -> None:
    seat(memory)
    clock.advance(10)
    other = open_memory(tmp_path / "other")
    for item in (*memory.iterate(touch=False), *[record.to_dict() for record in memory.iterate(touch=False)]):
        record = other.add(item).record
        assert (record.sliding, record.expires_at) == (100.0, START + timedelta(seconds=100))
    assert other.count() == 1


def test_the_feed_of_the_store(memory: Memory, clock: FakeClock) -> None:
    one = memory.add("a secret of mia", user_id="mia", run_id="r", agent_id="a", namespace=("desk",), id="one").id
    memory.update(one, content="another secret")
    memory.add("of nobody", id="two")
    memory.erase("two")
    events = memory.events()
    assert [(event.event, event.version, event.id) for event in events] == [
        (EventType.ADD, 1, "one"),
        (EventType.UPDATE, 2, "one"),
        (EventType.ADD, 1, None),
        (EventType.ERASE, 2, None),
    ]
    assert (events[0].user_id, events[0].agent_id, events[0].run_id, events[0].namespace) == (
        "mia",
        "a",
        "r",
        ("desk",),
    )
    assert "secret" not in str([event.to_dict() for event in events])
    assert memory.events(after=events[1].seq, limit=1) == events[2:3]
    assert memory.events(after=10**9) == []
    memory.erase_all(user_id="mia")
    memory.compact()
    assert all(event.user_id is None for event in memory.events(limit=1_000))
    for view in (memory.scoped(user_id="mia"), memory.userless()):
        with pytest.raises(ScopeError):
            view.events()


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.add("x", sliding=True),
        lambda m: m.add("x", ttl=10, sliding="yes"),
        lambda m: m.put_many([{"key": "k", "content": "x", "sliding": True}]),
        lambda m: m.update("x", sliding=True),
        lambda m: m.touch("id"),
        lambda m: m.touch([None]),
        lambda m: m.touch(["id"], ttl=0),
        lambda m: m.get("id", touch=1),
        lambda m: m.search("x", touch=None),
        lambda m: m.page(touch="no"),
        lambda m: m.events(after=-1),
        lambda m: m.events(limit=0),
    ],
)  # fmt: skip
def test_bad_arguments(memory: Memory, call: Callable[[Memory], object]) -> None:
    with pytest.raises(InvalidInputError):
        call(memory)


def test_views_touch_their_own(memory: Memory) -> None:
    id = memory.add("x of kim", user_id="kim").id
    assert memory.scoped(user_id="lee").touch([id], ttl=5) == [False]
    assert memory.scoped(user_id="kim").touch([id], ttl=5) == [True]


async def touched(path: Path) -> tuple[list[bool], list[str], object]:
    async with AsyncMemory(path, embedder=HashEmbedder()) as memory:
        id = (await memory.put("k", "one", ttl=100, sliding=True)).id
        done = await memory.touch([id], ttl=200)
        found = await memory.get(id, touch=False)
        assert found is not None
        assert [hit.id for hit in await memory.search("one", touch=False)] == [id]
        return done, [event.event for event in await memory.events()], found.sliding


def test_the_async_client_does_the_same(store: Path) -> None:
    assert asyncio.run(touched(store)) == ([True], ["ADD", "TOUCH"], 200.0)


def test_another_process_sees_a_read_of_the_last_moment(open_memory: Callable[..., Memory], store: Path) -> None:
    """Real time: the read writes the new end down before it returns, since it could not wait."""
    memory = Memory(store, embedder=HashEmbedder())
    with memory:
        id = memory.add("x", ttl=4, sliding=True, user_id=None).id
        before = sql(memory, "SELECT expires_at FROM records")[0][0]
        import time

        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and sql(memory, "SELECT expires_at FROM records")[0][0] == before:
            assert memory.get(id) is not None
        assert sql(memory, "SELECT expires_at FROM records")[0][0] > before
        assert memory.count(user_id=ALL) == 1
