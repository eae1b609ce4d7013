"""Lists: one documented order each, by adding or by the time of the event, with cursors that stay right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from heapq import merge
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import ALL, AsyncMemory, InvalidInputError, Memory, MemoryRecord
from agentmem.stores import timeline
from agentmem.types.inputs import Scope

ORDERS = ["newest", "oldest"]


def when(record: MemoryRecord) -> datetime:
    return record.occurred_at or record.created_at


def by_event(records: list[MemoryRecord]) -> list[MemoryRecord]:
    """Slow and obvious, from records in the order of adding."""
    plain = [(when(r), n, r) for n, r in enumerate(records) if r.occurred_at is None]
    dated = sorted((when(r), n, r) for n, r in enumerate(records) if r.occurred_at is not None)
    return [record for _, _, record in merge(plain, dated)]


def read(memory: Memory, limit: int, **options: Any) -> list[MemoryRecord]:
    """Page by page."""
    found, cursor = list[MemoryRecord](), None
    while True:
        page = memory.page(limit=limit, cursor=cursor, **options)
        found += page.records
        cursor = page.cursor
        if cursor is None:
            return found
        assert len(page.records) == limit


def fill(memory: Memory, clock: FakeClock, count: int, seed: int = 1) -> list[MemoryRecord]:
    """Records of several scopes with and without a date; returned as they were added."""
    pick, added = random.Random(seed), list[MemoryRecord]()
    for n in range(count):
        clock.advance(pick.choice([0, 0, 1, 3_600]))
        item = {
            "content": f"entry {n}",
            "user_id": pick.choice([None, "ida", "ida", "tor"]),
            "agent_id": pick.choice([None, "helper"]),
            "run_id": pick.choice([None, "chat", "call"]),
            "metadata": {"n": n % 5},
        }
        if pick.random() < 0.5:
            item["occurred_at"] = START + timedelta(hours=pick.randrange(-50, 50))
        added.append(memory.add(item, dedupe=False).record)
    return added


def admits(record: MemoryRecord, scope: dict[str, Any]) -> bool:
    user = scope.get("user_id")
    others = all(getattr(record, name) == scope[name] for name in ("agent_id", "run_id") if name in scope)
    return others and (user is ALL or record.user_id == user)


SCOPES: list[dict[str, Any]] = [
    {},
    {"user_id": "ida"},
    {"user_id": "tor", "agent_id": "helper"},
    {"user_id": "ida", "run_id": "chat"},
    {"user_id": ALL},
    {"user_id": ALL, "run_id": "call"},
    {"user_id": ALL, "agent_id": "helper"},
    {"agent_id": "helper"},
    {"run_id": "chat", "agent_id": "helper"},
    {"user_id": "nobody"},
]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_lists_of_every_scope(memory: Memory, clock: FakeClock, scope: dict[str, Any], order: Any) -> None:
    added = [record for record in fill(memory, clock, 120) if admits(record, scope)]
    happened = by_event(added)
    expected = {"added": added, "event": happened}
    for by, records in expected.items():
        wanted = records[::-1] if order == "newest" else records
        for limit in (1, 7, 500):
            assert read(memory, limit, order=order, by=by, **scope) == wanted
        assert list(memory.iterate(order=order, by=by, **scope)) == wanted
    if "run_id" in scope:
        assert memory.recent(limit=5, **scope) == happened[-5:]
        assert memory.recent(limit=5, by="added", **scope) == added[-5:]


@pytest.mark.parametrize("by", ["added", "event"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_span_of_time(memory: Memory, clock: FakeClock, by: Any, order: Any) -> None:
    added = [record for record in fill(memory, clock, 150) if record.user_id == "ida"]
    records = by_event(added) if by == "event" else added
    ends = [None, *(START + timedelta(hours=hours) for hours in (-100, -7, 0, 20, 100))]
    for since in ends:
        for until in ends:
            if since and until and since > until:
                with pytest.raises(InvalidInputError, match="since is after until"):
                    memory.page(user_id="ida", since=since, until=until, by=by)
                continue
            within = [r for r in records if (since is None or when(r) >= since) and (until is None or when(r) < until)]
            found = read(memory, 6, user_id="ida", since=since, until=until, by=by, order=order)
            assert found == (within[::-1] if order == "newest" else within)
            few = read(memory, 6, user_id="ida", since=since, until=until, by=by, filters={"n": 3})
            assert few == [r for r in within[::-1] if r.metadata["n"] == 3]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    added=st.lists(
        st.tuples(st.sampled_from([-7_200, -1, 0, 1, 600]), st.none() | st.integers(-10_000, 10_000)), max_size=40
    ),
    limit=st.integers(1, 9),
    order=st.sampled_from(ORDERS),
)
def test_whatever_the_clock_does(
    embedder: HashEmbedder, tmp_path_factory: Any, added: list[tuple[int, int | None]], limit: int, order: Any
) -> None:
    clock = FakeClock()
    with Memory(tmp_path_factory.mktemp("store"), clock=clock, embedder=embedder) as memory:
        for n, (step, at) in enumerate(added):
            clock.advance(step)
            happened = None if at is None else START + timedelta(seconds=at)
            memory.add(f"entry {n}", user_id="ida", run_id="chat", occurred_at=happened)
        found = read(memory, limit, user_id="ida", run_id="chat", by="event", order=order)
        records = list(memory.iterate(user_id="ida", order="oldest"))
    assert sorted(r.content for r in found) == sorted(r.content for r in records)
    if order == "newest":
        found.reverse()
    if all(step >= 0 for step, _ in added):
        assert found == sorted(records, key=when)
    for kind in (True, False):  # what has no date stays in the order of adding, what has one in that of the dates
        of_a_kind = [r for r in found if (r.occurred_at is None) == kind]
        same = [r for r in records if (r.occurred_at is None) == kind]
        assert of_a_kind == (same if kind else sorted(same, key=when))


@pytest.mark.parametrize("order", ORDERS)
def test_pages_by_event_while_others_come_and_go(memory: Memory, clock: FakeClock, order: Any) -> None:
    old = [record.id for record in by_event([r for r in fill(memory, clock, 80) if r.user_id == "ida"])]
    old = old[::-1] if order == "newest" else old
    seen, cursor, gone, step = list[str](), None, set[str](), 0
    while True:
        page = memory.page(user_id="ida", by="event", order=order, limit=4, cursor=cursor)
        seen += [record.id for record in page.records]
        cursor, step = page.cursor, step + 1
        if cursor is None:
            break
        memory.add("newcomer", user_id="ida", dedupe=False, occurred_at=START + timedelta(hours=step - 30))
        memory.add("newcomer", user_id="ida", dedupe=False)
        gone |= {seen[0], seen[-1], old[-step]}
        for id in gone:
            memory.delete(id)
    assert len(seen) == len(set(seen))
    assert [id for id in seen if id in old] == [id for id in old if id in seen]
    assert set(old) - set(seen) <= gone


def test_far_years_are_in_order_to_the_microsecond(memory: Memory) -> None:
    years = [datetime(9999, 12, 31, 23, 59, 59, 999_999 - n, tzinfo=UTC) for n in (0, 1, 2)]
    years += [datetime(1, 1, 1, tzinfo=UTC) + timedelta(microseconds=n) for n in (2, 1, 0)]
    for at in years:
        memory.add("far away", occurred_at=at, dedupe=False)
    found = read(memory, 1, by="event", order="oldest")
    assert [record.occurred_at for record in found] == sorted(years)
    found = read(memory, 1, by="event", since=years[1], until=years[0])
    assert [record.occurred_at for record in found] == [years[1]]
    found = read(memory, 2, by="added", since=years[2], until=years[0])
    assert [record.occurred_at for record in found] == [years[2], years[1]]


def test_a_cursor_belongs_to_what_its_list_follows(memory: Memory) -> None:
    memory.add_many(["one", "two", "three"], user_id="ida")
    memory.add("four", user_id="ida", occurred_at=START)
    added = memory.page(user_id="ida", limit=1).cursor
    event = memory.page(user_id="ida", limit=1, by="event").cursor
    assert added
    assert event
    for cursor, by, order in (
        (added, "event", "newest"), (event, "added", "newest"), (event, "event", "oldest"),
        (f"{event}1,2", "event", "newest"),
        ("newest:event", "event", "newest"), ("newest:event:1:2", "event", "newest"),
        ("newest:event:1:٣,4", "event", "newest"), (f"newest:event:{'9' * 19}:", "event", "newest"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match="cursor=") as caught:
            memory.page(user_id="ida", cursor=cursor, by=by, order=order)  # type: ignore[arg-type]
        assert caught.value.field == "cursor"
    with pytest.raises(InvalidInputError, match="by='when' is not one of added, event"):
        memory.page(by="when")  # type: ignore[arg-type]


def test_the_waiting_client_lists_in_the_same_order(
    memory: Memory, clock: FakeClock, store: Path, embedder: HashEmbedder
) -> None:
    added = [record for record in fill(memory, clock, 60) if record.run_id == "chat" and record.user_id == "ida"]
    happened = by_event(added)

    async def main() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as waiting:
            assert await waiting.recent(run_id="chat", user_id="ida", limit=9) == happened[-9:]
            assert await waiting.recent(run_id="chat", user_id="ida", limit=9, by="added") == added[-9:]
            found = [r async for r in waiting.iterate(run_id="chat", user_id="ida", by="event", since=START)]
            assert found == [record for record in happened[::-1] if when(record) >= START]
            page = await waiting.page(run_id="chat", user_id="ida", by="event", until=START, order="oldest")
            assert page.records == [record for record in happened if when(record) < START]

    asyncio.run(main())


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many records the walks have looked at."""
    looked = [0]
    for name in ("_Plain", "_Dated"):
        more = getattr(timeline, name)._more

        def counted(self: Any, size: int, direction: str, more: Any = more) -> list[Any]:
            rows = more(self, size, direction)
            assert len(rows) <= timeline.LARGEST
            looked[0] += len(rows)
            return rows

        monkeypatch.setattr(getattr(timeline, name), "_more", counted)
    return lambda: looked[0]


def test_the_last_turns_are_found_without_reading_the_rest(
    memory: Memory, clock: FakeClock, statements: Callable[[], int]
) -> None:
    at = START - timedelta(days=900)
    imported = [{"role": "user", "content": f"{n}", "occurred_at": at + timedelta(minutes=n)} for n in range(9_000)]
    memory.add_many(imported, user_id="ida", run_id="chat")
    for n in range(40):
        clock.advance(1)
        memory.add({"role": "user", "content": f"live {n}"}, user_id="ida", run_id="chat")
    before = statements()
    assert [r.content for r in memory.recent(run_id="chat", user_id="ida", limit=3)] == [
        "live 37",
        "live 38",
        "live 39",
    ]
    assert statements() - before <= 200
    before = statements()
    assert len(list(memory.iterate(user_id="ida", by="event"))) == 9_040
    assert statements() - before < 5 * 9_040


def test_each_walk_follows_an_index(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock, 50)
    engine = memory.handle.engine()
    db, plans = engine.repository.db, list[str]()

    class Explained:
        def execute(self, sql: str, params: Any) -> list[Any]:
            plans.extend(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", params))
            return db.execute(sql, params)

    for scope in SCOPES[:-1]:
        key = engine.repository.scope_key(Scope(**scope))
        assert key is not None
        for newest in (True, False):
            within = timeline.Range(0, 2**50)
            start = timeline.Position(25, (10**15, 25))
            walked = timeline.walk(Explained(), key, ([], []), within, newest_first=newest, start=start)  # type: ignore[arg-type]
            list(walked)
    assert len(plans) >= 4 * len(SCOPES[:-1])
    assert all("SEARCH r USING" in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans
