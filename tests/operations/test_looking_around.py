"""What an operator asks in the first week: who is here, how much, since when; and what was deleted, brought back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder

from agentmem import (
    ALL,
    AsyncMemory,
    CapacityError,
    Group,
    InvalidInputError,
    Memory,
    MemoryRecord,
    ScopeError,
    Settings,
)
from agentmem.stores import gone as gone_module

Open = Callable[..., Memory]


def when(record: MemoryRecord) -> datetime:
    return record.occurred_at or record.created_at


def fill(memory: Memory, clock: FakeClock, count: int = 150) -> None:
    pick = random.Random(5)
    for n in range(count):
        clock.advance(pick.choice([0, 30, 3_600]))
        memory.add(
            {
                "content": f"item {n}", "user_id": pick.choice([None, "ida", "tor", "Ida"]),
                "agent_id": pick.choice([None, "scout", "clerk"]), "run_id": pick.choice([None, "r1", "r2"]),
                "kind": pick.choice([None, "note", "wish"]), "metadata": {"n": n % 4}, "layer": "assets",
                "occurred_at": pick.choice([None, START - timedelta(days=n)]), "ttl": pick.choice([None, None, 5_000]),
            },
            dedupe=False,
        )  # fmt: skip


def told(records: list[MemoryRecord], field: str, apart: bool, named: bool = False) -> list[Group]:
    """Slow and obvious."""
    groups = defaultdict[tuple[str | None, str | None], list[MemoryRecord]](list)
    for record in records:
        name = getattr(record, field)
        if name is not None or not named:
            groups[name, record.user_id if apart else None].append(record)
    found = [Group(name, user, len(of), min(map(when, of)), max(map(when, of))) for (name, user), of in groups.items()]
    return sorted(found, key=lambda g: (-g.last_at.timestamp(), g.name or "", g.user_id or ""))


def everything(memory: Memory, **scope: Any) -> list[MemoryRecord]:
    return list(memory.iterate(**scope))


# -- who is here -------------------------------------------------------------------------------------------------------


def test_users_runs_agents_and_kinds_with_their_times(memory: Memory, clock: FakeClock) -> None:
    assert memory.users() == memory.runs() == memory.agents(user_id=ALL) == memory.kinds() == []
    assert memory.count(user_id=ALL) == 0
    fill(memory, clock)
    records = everything(memory, user_id=ALL)
    assert len(records) < 150  # some have expired
    assert memory.users() == told(records, "user_id", True)
    assert {group.name for group in memory.users()} == {None, "ida", "tor", "Ida"}
    assert memory.users(agent_id="scout") == told(everything(memory, user_id=ALL, agent_id="scout"), "user_id", True)
    for user in ("ida", None, ALL):
        mine = everything(memory, user_id=user)
        assert memory.runs(user_id=user) == told(mine, "run_id", True, named=True)
        assert memory.agents(user_id=user) == told(mine, "agent_id", True, named=True)
        assert memory.kinds(user_id=user) == told(mine, "kind", False)
        assert memory.count(user_id=user) == len(mine)
    assert memory.runs(user_id="ida", agent_id="clerk") == told(
        everything(memory, user_id="ida", agent_id="clerk"), "run_id", True, named=True
    )
    assert memory.kinds(user_id=ALL, run_id="r1") == told(everything(memory, user_id=ALL, run_id="r1"), "kind", False)


def test_count_takes_what_page_takes(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock)
    options: list[dict[str, Any]] = [
        {"filters": {"n": {"$gte": 2}}}, {"kinds": ["wish"]}, {"layers": ["assets"]}, {"layers": ["interact"]},
        {"since": START}, {"until": START - timedelta(days=30)},
        {"agent_id": "scout", "since": START, "kinds": ["note"]},
    ]  # fmt: skip
    for more in options:
        for user in ("ida", None, ALL, "nobody"):
            assert memory.count(user_id=user, **more) == len(everything(memory, user_id=user, **more))
    with pytest.raises(InvalidInputError):
        memory.count(since="yesterday")


def test_walls_hold_in_views(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock)
    ida, clerk = memory.scoped(user_id="ida"), memory.scoped(user_id="ida", agent_id="clerk")
    assert [group.name for group in ida.users()] == ["ida"]
    assert ida.count() == memory.count(user_id="ida") == ida.users()[0].records
    assert {group.user_id for group in [*ida.runs(), *ida.agents()]} == {"ida"}
    assert [group.name for group in clerk.agents()] == ["clerk"]
    assert clerk.count() == clerk.users()[0].records == memory.count(user_id="ida", agent_id="clerk")
    assert [group.name for group in memory.scoped(agent_id="clerk").users()] == [None]
    assert memory.scoped(user_id="nobody").users() == []
    for call in (ida.count, ida.runs, ida.agents, ida.kinds, ida.deleted):
        for other in ("tor", ALL):
            with pytest.raises(ScopeError):
                call(user_id=other)
    with pytest.raises(ScopeError):
        clerk.users(agent_id="scout")
    with pytest.raises(ScopeError):
        ida.restore_all(user_id="tor")


def test_counting_many_takes_a_little_at_a_time(memory: Memory) -> None:
    memory.add_many([{"content": f"{n}", "user_id": f"u{n % 700}"} for n in range(9_000)])
    started = time.perf_counter()
    users = memory.users()
    assert time.perf_counter() - started < 5
    assert sum(group.records for group in users) == 9_000
    assert [group.name for group in users] == sorted(f"u{n}" for n in range(700))


# -- what was deleted --------------------------------------------------------------------------------------------------


def ids(records: list[MemoryRecord]) -> list[str]:
    return [record.id for record in records]


def test_a_delete_of_everything_is_undone(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock)
    clock.advance(10_000)
    before = {record.id: record for record in everything(memory, user_id=ALL)}
    early = [record.id for record in everything(memory, user_id="ida")[:3]]
    for id in early:
        clock.advance(1)
        memory.delete(id)
    clock.advance(60)
    moment = clock.now
    gone = memory.delete_all(user_id="ida")
    assert everything(memory, user_id="ida") == []
    assert memory.restore_all(user_id="ida", since=moment, dry_run=True) == gone
    assert everything(memory, user_id="ida") == []
    clock.advance(60)
    assert memory.restore_all(user_id="ida", since=moment) == gone
    back = everything(memory, user_id="ida", order="oldest")
    assert ids(back) == [id for id, record in reversed(before.items()) if record.user_id == "ida" and id not in early]
    for record in back:
        assert record.content == before[record.id].content
        assert (record.version, record.updated_at) == (before[record.id].version + 2, clock.now)
        assert [event.event for event in memory.history(record.id)] == ["ADD", "DELETE", "RESTORE"]
    assert memory.restore_all(user_id="ida", since=moment) == 0
    assert ids(memory.deleted(user_id="ida").records) == early[::-1]
    assert memory.restore_all(user_id="ida", until=moment) == 3
    assert {record.id for record in everything(memory, user_id=ALL)} == before.keys()
    hits = memory.search("item", user_id="ida", limit=500)
    assert set(ids([hit.record for hit in hits])) == set(ids(back)) | set(early)
    memory.flush()
    report = memory.verify()
    assert report.ok, report.problems


def test_deleted_records_are_listed_as_they_went(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock, 80)
    clock.advance(10_000)
    pick, went = random.Random(2), list[MemoryRecord]()
    records = everything(memory, user_id=ALL, order="oldest")
    for record in pick.sample(records, len(records)):
        clock.advance(pick.choice([0, 1]))
        memory.delete(record.id)
        went.append(record)
    order = {record.id: n for n, record in enumerate(records)}
    at = {record.id: record.updated_at for record in memory.deleted(user_id=ALL, limit=10_000).records}
    expected = sorted(went, key=lambda r: (at[r.id], order[r.id]), reverse=True)
    for scope in ({"user_id": ALL}, {"user_id": "ida"}, {}, {"user_id": ALL, "run_id": "r1"}, {"agent_id": "scout"}):
        wanted = [
            r.id for r in expected
            if (scope.get("user_id") is ALL or r.user_id == scope.get("user_id"))
            and scope.get("run_id") in (None, r.run_id) and scope.get("agent_id") in (None, r.agent_id)
        ]  # fmt: skip
        for limit in (1, 7, 1_000):
            found, cursor = list[str](), None
            while True:
                page = memory.deleted(limit=limit, cursor=cursor, **scope)
                found += ids(page.records)
                if (cursor := page.cursor) is None:
                    break
            assert found == wanted
        filtered = memory.deleted(filters={"n": 1}, limit=1_000, **scope).records
        assert ids(filtered) == [id for id in wanted if records[order[id]].metadata["n"] == 1]
    for since, until in ((None, expected[20]), (expected[40], None), (expected[40], expected[20])):
        first, last = since and at[since.id], until and at[until.id]
        found = ids(memory.deleted(user_id=ALL, since=first, until=last, limit=1_000).records)
        inside = [r.id for r in expected if (first is None or at[r.id] >= first) and (last is None or at[r.id] < last)]
        assert found == inside


def test_what_expired_comes_back_for_a_while(memory: Memory, clock: FakeClock) -> None:
    said = memory.add({"role": "user", "content": "good night"}, user_id="ida").id
    kept = memory.add("sleeps late", user_id="ida").id
    promised = memory.add("a promise", user_id="ida", ttl=100).id
    clock.advance(86_401)
    memory.lifecycle.sweep()
    memory.delete(kept)
    assert ids(memory.deleted(user_id="ida").records) == [kept]
    assert ids(memory.deleted(user_id="ida", why="expired").records) == [said]
    assert memory.restore_all(user_id="ida", why="expired") == 1
    assert ids(everything(memory, user_id="ida")) == [said]
    memory.lifecycle.sweep()
    assert memory.get(said) is not None  # its time has begun anew
    assert memory.get(promised) is None
    clock.advance(86_401)
    memory.lifecycle.sweep()
    clock.advance(31 * 86_400)
    assert memory.deleted(user_id="ida", why="expired").records == []
    assert memory.restore_all(user_id="ida", why="expired") == 0
    memory.erase(kept)
    assert memory.deleted(user_id="ida").records == []


def test_a_full_layer_takes_back_what_fits(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(layers={"assets": {"max_size_mb": 0.5}}))
    memory.add_many([f"{n} " + "x" * 200 for n in range(1_200)], user_id="ida")
    memory.delete_all(user_id="ida")
    memory.add_many([f"{n} " + "y" * 200 for n in range(600)], user_id="tor")
    with pytest.raises(CapacityError):
        memory.restore_all(user_id="ida")
    assert memory.count(user_id="ida") == 500
    memory.delete_all(user_id="tor")
    assert memory.restore_all(user_id="ida") == 700
    assert memory.verify().ok


def test_bad_arguments(memory: Memory) -> None:
    memory.add_many(["one", "two", "three"], user_id="ida")
    memory.delete_all(user_id="ida")
    cursor = memory.deleted(user_id="ida", limit=1).cursor
    assert cursor is not None
    for wrong, why in ((cursor, "expired"), ("deleted:1", "deleted"), (f"{cursor}x", "deleted"), (5, "deleted")):
        with pytest.raises(InvalidInputError, match="cursor="):
            memory.deleted(user_id="ida", cursor=wrong, why=why)  # type: ignore[arg-type]
    for call in (memory.deleted, memory.restore_all):
        with pytest.raises(InvalidInputError, match="why='erased' is not one of deleted, expired"):
            call(user_id="ida", why="erased")  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match="needs user_id"):
        memory.restore_all()
    with pytest.raises(ScopeError, match="ALL is for reads"):
        memory.restore_all(user_id=ALL)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="dry_run"):
        memory.restore_all(user_id="ida", dry_run=1)  # type: ignore[arg-type]


def test_lists_of_what_is_gone_follow_an_index(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock, 30)
    engine, plans = memory.handle.engine(), list[str]()
    db = engine.repository.db

    class Explained:
        def execute(self, sql: str, params: Any) -> list[Any]:
            plans.extend(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", params))
            return db.execute(sql, params)

    for state in (1, 3):
        for user in (None, 0, 1):
            key = gone_module.ScopeKey(user, None, None)
            list(gone_module.gone(Explained(), key, state, ([], []), gone_module.Range(0, 2**50), (2**49, 7)))  # type: ignore[arg-type]
    assert len(plans) == 6
    assert all("SEARCH r USING" in plan for plan in plans), plans


def test_the_waiting_client_looks_around_as_well(
    memory: Memory, clock: FakeClock, store: Path, embedder: HashEmbedder
) -> None:
    fill(memory, clock, 60)

    async def main() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as waiting:
            assert await waiting.users() == memory.users()
            assert await waiting.runs(user_id=ALL) == memory.runs(user_id=ALL)
            assert await waiting.agents() == memory.agents()
            assert await waiting.kinds(user_id="ida") == memory.kinds(user_id="ida")
            count = await waiting.count(user_id="ida")
            assert await waiting.delete_all(user_id="ida") == count > 0
            assert len((await waiting.deleted(user_id="ida")).records) == count
            view = waiting.scoped(user_id="ida")
            assert await view.restore_all(dry_run=True) == await view.restore_all() == count == await view.count()

    asyncio.run(main())
