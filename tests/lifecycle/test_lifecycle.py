"""Layers that live: promotion, expiry, pins, eviction, and what is told of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, START, FakeClock

from agentmem import (
    ALL,
    CapacityError,
    EventType,
    InvalidInputError,
    Memory,
    NotFoundError,
    Pressure,
    ScopeError,
    Settings,
)
from agentmem.stores import accounting
from stress import year
from stress.victim import HashedWords

Open = Callable[..., Memory]
HOUR, DAY = 3_600, 86_400
KB = 1 / 1_024


def say(memory: Memory, text: str, **more: Any) -> str:
    """Add a message: it goes to the lowest layer."""
    return memory.add({"role": "user", "content": text}, user_id="ada", **more).id


def ask(memory: Memory, clock: FakeClock, text: str, times: int, every: float) -> None:
    """Search for a text that many times, with pauses in between."""
    for n in range(times):
        if n:
            clock.advance(every)
        assert memory.search(text, user_id="ada", limit=1)


def layer(memory: Memory, id: str) -> str | None:
    record = memory.page(user_id=ALL, limit=10_000).records
    return next((found.layer.value for found in record if found.id == id), None)


def names(memory: Memory, id: str) -> list[str]:
    return [event.event.value for event in memory.history(id)]


# -- promotion and expiry ---------------------------------------------------------------------------------------------


def test_what_is_used_is_promoted_and_the_rest_expires(memory: Memory, clock: FakeClock) -> None:
    used, idle, fact = say(memory, "green tea"), say(memory, "it rains"), memory.add("plain", user_id="ada").id
    ask(memory, clock, "green tea", 5, 4 * HOUR)
    clock.advance(8 * HOUR - 1)
    report = memory.lifecycle.sweep()
    assert (report.promoted, report.expired) == (1, 0)
    clock.advance(1)
    report = memory.lifecycle.sweep()
    assert (report.promoted, report.expired) == (0, 1)
    assert [layer(memory, id) for id in (used, idle, fact)] == ["insights", None, "assets"]
    assert memory.get(idle) is None
    assert memory.search("rains", user_id="ada", mode="keyword") == []
    assert memory.search("rains", user_id="ada", layers=["insights"])[0].id == used
    stats = memory.stats()
    assert (stats.records, stats.expired) == (2, 1)
    report = memory.verify()
    assert report.ok, report.problems


def test_eligible_at_its_review_is_promoted_not_expired(memory: Memory, clock: FakeClock) -> None:
    """No sweep ran while it was being used: the one that finds it due finds it eligible too."""
    used = say(memory, "green tea")
    ask(memory, clock, "green tea", 5, 4 * HOUR)
    clock.advance(10 * HOUR)
    report = memory.lifecycle.sweep()
    assert (report.promoted, report.expired) == (1, 0)
    assert layer(memory, used) == "insights"


def test_what_was_promoted_while_the_clock_was_ahead_falls_due_as_it_would_have(
    memory: Memory, clock: FakeClock
) -> None:
    used, right = say(memory, "green tea"), clock.now
    clock.advance(365 * DAY)
    ask(memory, clock, "green tea", 5, 4 * HOUR)
    memory.lifecycle.sweep()
    assert layer(memory, used) == "insights"
    clock.now = right + timedelta(days=89)
    assert memory.lifecycle.sweep().expired == 0
    clock.advance(2 * DAY)
    assert memory.lifecycle.explain(used).due_at == right + timedelta(days=90)
    assert memory.lifecycle.sweep().expired == 1


def test_a_move_says_why(memory: Memory, clock: FakeClock) -> None:
    used, idle = say(memory, "green tea"), say(memory, "it rains")
    ask(memory, clock, "green tea", 5, 4 * HOUR)
    clock.advance(DAY)
    memory.lifecycle.sweep()
    promoted = memory.history(used)[-1]
    assert (promoted.event, promoted.version, promoted.at) == (EventType.PROMOTE, 2, clock.now)
    assert (promoted.data["rule"], promoted.data["from"], promoted.data["to"]) == ("promotion", "interact", "insights")
    assert promoted.data["components"].keys() == {"relevance", "recency", "frequency", "importance"}
    assert promoted.data["met"]["accesses"] == {"value": 5, "threshold": 3}
    expired = memory.history(idle)[-1]
    assert (expired.event, expired.data["rule"]) == (EventType.EXPIRE, "layer ttl")
    assert expired.data["threshold"] == (START + timedelta(days=1)).isoformat()
    assert expired.data["lacks"] == ["score", "accesses", "span_hours", "relevance"]


def test_all_the_way_up(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("green tea", user_id="ada", kind="session_data").id
    kinds = []
    for _ in range(26):
        ask(memory, clock, "green tea", 1, 0)
        memory.lifecycle.sweep()
        kinds.append((layer(memory, id), memory.page(user_id="ada").records[0].kind))
        clock.advance(40 * HOUR)
        if len(kinds) < 4:
            clock.advance(-40 * HOUR + 5 * HOUR)
    assert list(dict.fromkeys(kinds)) == [
        ("interact", "session_data"), ("insights", "pattern"), ("assets", "code_documentation"),
    ]  # fmt: skip
    assert names(memory, id) == ["ADD", "PROMOTE", "PROMOTE"]
    assert memory.verify().ok


@pytest.mark.parametrize(
    ("kind", "accesses", "importance", "becomes"),
    [
        ("temporary_context", 5, None, None), ("temporary_context", 6, None, "snippet"),
        ("recent_query", 4, None, None), ("recent_query", 12, 1.0, "learned_context"),
        ("interaction", 4, None, "solution"), ("note", 4, None, "note"),
    ],
)  # fmt: skip
def test_edges_between_kinds(
    memory: Memory, clock: FakeClock, kind: str, accesses: int, importance: float | None, becomes: str | None
) -> None:
    id = memory.add("green tea", user_id="ada", kind=kind, layer="interact", importance=importance).id
    ask(memory, clock, "green tea", accesses, 13 * HOUR / (accesses - 1))
    clock.advance(DAY - 13 * HOUR)
    memory.lifecycle.sweep()
    record = memory.get(id)
    assert (record and record.kind) == becomes
    assert layer(memory, id) == (becomes and "insights")


def test_a_promise_is_kept_without_a_sweep_and_never_rescued(memory: Memory, clock: FakeClock) -> None:
    id = say(memory, "green tea", ttl=14 * HOUR)
    memory.lifecycle.pin(id)
    ask(memory, clock, "green tea", 8, 110 * 60)
    memory.lifecycle.unpin(id)
    clock.advance(2 * HOUR)
    assert memory.get(id) is None
    assert memory.lifecycle.explain(id).state == "expired"
    report = memory.lifecycle.sweep()
    assert (report.promoted, report.expired) == (0, 1)
    assert memory.history(id)[-1].data["rule"] == "ttl"
    with pytest.raises(NotFoundError):
        memory.restore(id)


def test_a_rating_counts_where_there_is_one(memory: Memory, clock: FakeClock) -> None:
    liked, disliked = say(memory, "green tea"), say(memory, "black coffee")
    for text in ("green tea", "black coffee"):
        ask(memory, clock, text, 4, 5 * HOUR)
        clock.advance(-15 * HOUR)
    memory.feedback(liked, rating=5)
    memory.feedback(disliked, rating=4)
    clock.advance(23 * HOUR)
    assert memory.lifecycle.sweep().promoted == 1
    assert memory.lifecycle.explain(disliked).lacks == ("rating",)
    assert layer(memory, liked) == "insights"


def test_feedback_moves_relevance(memory: Memory, clock: FakeClock) -> None:
    id = say(memory, "green tea")
    assert memory.lifecycle.explain(id).components["relevance"] == 0
    memory.search("green tea", user_id="ada")
    assert memory.lifecycle.explain(id).components["relevance"] == 1
    memory.feedback(id, accepted=False)
    assert memory.lifecycle.explain(id).components["relevance"] == pytest.approx(1 / 4)
    memory.feedback(id, accepted=True)
    assert memory.lifecycle.explain(id).components["relevance"] == pytest.approx(4 / 7)
    assert memory.lifecycle.explain(id).accesses == 1


def test_the_gate_any(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(lifecycle={"promotion_gate": "any"}))
    id, other = say(memory, "green tea"), say(memory, "it rains")
    ask(memory, clock, "green tea", 1, 0)
    memory.lifecycle.sweep()
    assert [layer(memory, each) for each in (id, other)] == ["insights", "interact"]


def test_other_rules_apply_to_what_was_used_before(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory()
    id = say(memory, "green tea")
    ask(memory, clock, "green tea", 1, 0)
    assert memory.lifecycle.sweep().promoted == 0
    memory.close()
    easy = {"promotion_accesses": 0, "promotion_span_hours": 0, "promotion_threshold": 0.1}
    memory = open_memory(settings=Settings(layers={"interact": easy}, lifecycle={"promotion_gate": "any"}))
    assert memory.lifecycle.sweep().promoted == 1
    assert layer(memory, id) == "insights"


def test_a_sweep_at_another_time(memory: Memory, clock: FakeClock) -> None:
    id = say(memory, "green tea")
    later = START + timedelta(days=2)
    planned = memory.lifecycle.sweep(now=later, dry_run=True)
    assert [(move.id, move.event, move.to_layer, move.rule) for move in planned.moves] == [
        (id, EventType.EXPIRE, None, "layer ttl")
    ]
    assert names(memory, id) == ["ADD"]
    assert memory.lifecycle.sweep(now=later).expired == planned.expired == 1
    assert memory.history(id)[-1].at == later


def test_a_dry_run_foretells_the_sweep(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(layers={"insights": {"ttl_days": 1}}))
    ids = [say(memory, f"word{n} tea", ttl=[None, DAY][n % 2]) for n in range(20)]
    for n in range(0, 20, 3):
        memory.lifecycle.promote(ids[n])
    for n in range(6):
        ask(memory, clock, f"word{n} tea", 5, 3.5 * HOUR)
        clock.advance(-14 * HOUR)
    clock.advance(25 * HOUR)
    planned = memory.lifecycle.sweep(dry_run=True)
    before = {id: names(memory, id) for id in ids}
    assert planned.promoted > 0
    assert planned.expired > 0
    real = memory.lifecycle.sweep()
    assert (real.promoted, real.expired) == (planned.promoted, planned.expired)
    moved = {id: names(memory, id)[-1] for id in ids if names(memory, id) != before[id]}
    assert moved == {move.id: move.event for move in planned.moves}


# -- use ---------------------------------------------------------------------------------------------------------------


def test_a_search_counts_once_cached_or_not_and_get_counts(memory: Memory, clock: FakeClock) -> None:
    id = say(memory, "green tea")
    for n in range(1, 4):
        memory.search("green tea", user_id="ada")
        clock.advance(60)
        assert memory.lifecycle.explain(id).accesses == n
    assert memory.stats().query_cache["hits"] == 2
    memory.get(id)
    found = memory.lifecycle.explain(id)
    assert (found.accesses, found.first_access, found.last_access) == (4, START, clock.now)
    # Looking through records is not using them.
    list(memory.iterate(user_id="ada"))
    memory.history(id)
    assert memory.lifecycle.explain(id).accesses == 4


def test_a_context_counts_what_it_shows(memory: Memory) -> None:
    ids = [say(memory, f"green tea number {n} " + "and so on " * 20) for n in range(5)]
    text = memory.context("green tea", max_tokens=90, user_id="ada")
    assert text.count("\n- ") == 1
    assert sum(memory.lifecycle.explain(id).accesses for id in ids) == 1


def test_use_is_written_down_within_a_second_and_leaves_no_event(memory: Memory) -> None:
    id = say(memory, "green tea")
    events = memory.stats().events
    memory.search("green tea", user_id="ada")
    deadline = time.monotonic() + 10
    sql = "SELECT times FROM accesses"
    db = memory.handle.engine().repository.db
    while not db.execute(sql):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert db.execute(sql) == [(1,)]
    assert memory.stats().events == events
    memory.close()
    del id


def test_use_survives_closing_and_adds_up_over_clients(open_memory: Open, store: Path) -> None:
    memory = open_memory()
    id = say(memory, "green tea")
    for _ in range(3):
        memory.search("green tea", user_id="ada")
        memory.close()
        memory = open_memory()
    assert memory.lifecycle.explain(id).accesses == 3


def test_rank_and_similarity_make_relevance(memory: Memory) -> None:
    first, second = say(memory, "green tea"), say(memory, "green coffee tea")
    assert [hit.id for hit in memory.search("green tea", user_id="ada")] == [first, second]
    relevance = [memory.lifecycle.explain(id).components["relevance"] for id in (first, second)]
    assert relevance == [1, pytest.approx(0.95)]
    memory.search("entirely unrelated matter", user_id="ada")
    assert memory.lifecycle.explain(first).components["relevance"] < 1


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_pinned_records_stay(memory: Memory, clock: FakeClock) -> None:
    idle, used = say(memory, "it rains"), say(memory, "green tea")
    assert memory.lifecycle.pin(idle).pinned
    memory.lifecycle.pin(used)
    ask(memory, clock, "green tea", 5, 4 * HOUR)
    clock.advance(30 * DAY)
    report = memory.lifecycle.sweep()
    assert (report.promoted, report.expired) == (0, 0)
    assert memory.lifecycle.explain(used).lacks == ("score", "unpinned")
    assert memory.lifecycle.explain(idle).due_at is None
    assert not memory.lifecycle.unpin(idle).pinned
    memory.lifecycle.unpin(used)
    assert memory.lifecycle.explain(idle).due_at == clock.now + timedelta(days=1)
    memory.lifecycle.sweep()
    assert [layer(memory, id) for id in (idle, used)] == ["interact", "interact"]
    clock.advance(DAY)
    assert memory.lifecycle.sweep().expired == 2
    assert names(memory, idle) == ["ADD", "PIN", "UNPIN", "EXPIRE"]
    assert memory.verify().ok


def test_it_is_said_who_moved_a_record(memory: Memory) -> None:
    id = say(memory, "green tea")
    memory.lifecycle.promote(id)
    assert memory.lifecycle.explain(id).because.startswith("promoted from interact by hand, score ")


def test_pinning_twice_is_pinning_once(memory: Memory) -> None:
    id = say(memory, "green tea")
    for _ in range(2):
        memory.lifecycle.pin(id)
    assert names(memory, id) == ["ADD", "PIN"]


def test_moves_by_hand(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("green tea", user_id="ada", kind="interaction").id
    assert memory.lifecycle.promote(id).kind == "solution"
    clock.advance(89 * DAY)
    assert memory.lifecycle.promote(id).layer == "assets"
    with pytest.raises(InvalidInputError, match="highest layer"):
        memory.lifecycle.promote(id)
    clock.advance(400 * DAY)
    memory.lifecycle.sweep()
    record = memory.lifecycle.demote(id)
    assert (record.layer, record.kind, record.version) == ("insights", "core_concept", 4)
    memory.lifecycle.sweep()
    assert memory.lifecycle.explain(id).due_at == clock.now + timedelta(days=90)
    memory.lifecycle.demote(id)
    with pytest.raises(InvalidInputError, match="lowest layer"):
        memory.lifecycle.demote(id)
    assert names(memory, id) == ["ADD", "PROMOTE", "PROMOTE", "DEMOTE", "DEMOTE"]
    assert memory.search("green tea", user_id="ada", layers=["interact"])
    assert memory.verify().ok


def test_views_see_their_own(memory: Memory) -> None:
    id = say(memory, "green tea")
    eve = memory.scoped(user_id="eve")
    for act in (eve.lifecycle.explain, eve.lifecycle.promote, eve.lifecycle.pin):
        with pytest.raises(NotFoundError):
            act(id)
    with pytest.raises(ScopeError):
        eve.lifecycle.sweep()
    assert memory.scoped(user_id="ada").lifecycle.promote(id).layer == "insights"


def test_restore_within_grace(memory: Memory, clock: FakeClock) -> None:
    id, other = say(memory, "green tea"), say(memory, "it rains")
    clock.advance(DAY)
    memory.lifecycle.sweep()
    found = memory.lifecycle.explain(id)
    assert (found.state, found.restorable_until) == ("expired", clock.now + timedelta(days=30))
    assert found.because.startswith("expired from interact by layer ttl")
    clock.advance(30 * DAY - 1)
    assert memory.restore(id).layer == "interact"
    memory.lifecycle.sweep()
    assert memory.search("green tea", user_id="ada", mode="keyword")
    clock.advance(1)
    with pytest.raises(NotFoundError):
        memory.restore(other)
    assert memory.lifecycle.sweep().erased == 1
    assert names(memory, other) == ["ADD", "EXPIRE", "ERASE"]
    assert memory.verify().ok


def test_an_explanation_of_a_record_on_its_way(memory: Memory, clock: FakeClock) -> None:
    id = say(memory, "green tea", importance=1.0)
    ask(memory, clock, "green tea", 2, HOUR)
    found = memory.lifecycle.explain(id)
    assert (found.layer, found.target_layer, found.eligible, found.because) == ("interact", "insights", False, "added")
    assert found.lacks == ("accesses", "span_hours")
    assert (found.due_at, found.due_rule) == (START + timedelta(days=1), "layer ttl")
    assert found.score == pytest.approx(0.4 + 0.3 * found.components["frequency"] + 0.2 + 0.1, abs=1e-5)
    memory.update(id, ttl=60)
    found = memory.lifecycle.explain(id)
    assert (found.due_at, found.due_rule) == (clock.now + timedelta(seconds=60), "ttl")


# -- room --------------------------------------------------------------------------------------------------------------


def small(layer_name: str, kilobytes: float, **more: Any) -> Settings:
    return Settings(layers={layer_name: {"max_size_mb": kilobytes * KB, **more}}, lifecycle={"sweep_interval_s": 0})


def test_a_full_layer_evicts_what_is_worth_least(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=small("interact", 100))
    weights = [0.1 + 0.9 * (n * 37 % 71) / 71 for n in range(71)]
    ids = {say(memory, f"{n:03}" + "x" * 869, importance=weight): weight for n, weight in enumerate(weights)}
    # 71 records of 872 bytes and a vector of 128: 69 %.
    assert memory.stats().layers["interact"].pressure == Pressure.MEDIUM
    assert memory.lifecycle.sweep().evicted == 0
    more = {say(memory, f"{n:03}" + "y" * 869, importance=1.0): 1.0 for n in range(20)}
    deadline = time.monotonic() + 30
    while memory.stats().expired == 0 or memory.handle.engine().lifecycle._crowded:
        assert time.monotonic() < deadline, "the background does this by itself"
        time.sleep(0.05)
    stats = memory.stats()
    assert stats.layers["interact"].pressure == Pressure.MEDIUM
    gone = [id for id in ids if layer(memory, id) is None]
    kept = [id for id in ids if id not in gone]
    assert 0 < len(gone) < 30
    assert max(ids[id] for id in gone) <= min(ids[id] for id in kept)
    assert all(layer(memory, id) for id in more)
    assert stats.layers["interact"].bytes == 1_000 * stats.layers["interact"].records
    assert 0.79 < stats.layers["interact"].bytes / (100 * 1_024) <= 0.85
    event = memory.history(gone[0])[-1]
    assert (event.event, event.data["rule"], event.data["from"]) == (EventType.EVICT, "layer size", "interact")
    assert memory.restore(gone[0]).id == gone[0]
    report = memory.verify()
    assert report.ok, report.problems


def test_least_recently_used_goes_first(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=small("interact", 10, eviction_policy="lru"))
    ids = []
    for n in range(8):
        ids.append(say(memory, f"word{n}" + " x" * 430))
        clock.advance(1)
    memory.get(ids[0])
    clock.advance(1)
    ids.append(say(memory, "more" + " y" * 430))
    memory.lifecycle.sweep()
    assert [id for id in ids if layer(memory, id) is None] == [ids[1]]


def test_pinned_records_are_not_evicted(open_memory: Open) -> None:
    memory = open_memory(settings=small("interact", 10))
    pinned = say(memory, "p" * 800, importance=0.0)
    memory.lifecycle.pin(pinned)
    for n in range(9):
        say(memory, f"{n}" + "x" * 900, importance=1.0)
    memory.lifecycle.sweep()
    assert layer(memory, pinned) == "interact"
    assert memory.stats().expired > 0


def test_assets_are_never_evicted_but_refused(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=small("assets", 10))
    for n in range(9):
        memory.add(f"{n}" + "x" * 900, user_id="ada")
    memory.lifecycle.sweep()
    assert memory.stats().records == 9
    with pytest.raises(CapacityError, match=r"layers\.assets\.max_size_mb"):
        memory.add("y" * 1_500, user_id="ada")
    small_one = memory.add("z" * 100, user_id="ada")
    assert small_one.status == "added"
    mention = say(memory, "m" * 900)
    memory.lifecycle.promote(mention)
    with pytest.raises(CapacityError):
        memory.lifecycle.promote(mention)
    with pytest.raises(CapacityError):
        memory.update(small_one.id, content="z" * 2_000)
    assert memory.stats().pressure == Pressure.HIGH
    assert memory.verify().ok
    # One that cannot be added does not fail the others of its group.
    outcomes: list[Any] = []

    def add(text: str) -> None:
        try:
            outcomes.append(memory.add(text, user_id="eve", role="user").status)
        except CapacityError as exc:
            outcomes.append(type(exc))

    threads = [threading.Thread(target=add, args=(f"{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["added"] * 8


def test_what_is_eligible_for_a_full_layer_waits(open_memory: Open, clock: FakeClock) -> None:
    easy = {"promotion_accesses": 0, "promotion_span_hours": 0, "promotion_threshold": 0.1, "promotion_relevance": 0.1}
    memory = open_memory(
        settings=Settings(layers={"insights": {"ttl_days": 1, **easy}, "assets": {"max_size_mb": 1 * KB}})
    )
    id = memory.add("green tea " * 100, user_id="ada", layer="insights").id
    ask(memory, clock, "green tea", 2, HOUR)
    clock.advance(2 * DAY)
    report = memory.lifecycle.sweep()
    assert (report.promoted, report.expired, report.blocked) == (0, 0, 1)
    assert layer(memory, id) == "insights"


def test_pressure_does_not_flutter() -> None:
    from agentmem.lifecycle.pressure import pressure

    level, seen = Pressure.LOW, []
    for used in (0.59, 0.60, 0.56, 0.54, 0.86, 0.81, 0.86, 0.80, 0.56, 0.55, 0.9, 0.1):
        level = pressure(used, level)
        seen.append(level.value)
    assert seen == [
        "low", "medium", "medium", "low", "high", "high", "high", "medium", "medium", "low", "high", "low",
    ]  # fmt: skip


def test_verify_notices_a_wrong_count(memory: Memory) -> None:
    say(memory, "green tea")
    memory.lifecycle.sweep()
    assert memory.verify().ok
    write = memory.handle.engine().write
    write(lambda repository: accounting.resize(repository.db, [(1, "assets", 1, 5)]))
    write(lambda repository: repository.db.execute("DELETE FROM due"))
    problems = memory.verify().problems
    assert any(problem.startswith("lifecycle: the layer assets") for problem in problems)
    assert any(problem.endswith("is in no queue") for problem in problems)
    assert memory.repair().ok


# -- in the background -------------------------------------------------------------------------------------------------


def test_the_background_sweeps_and_closing_does_not_wait(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(lifecycle={"sweep_interval_s": 0.1}))
    for start in range(0, 3_000, 1_000):
        memory.add_many([{"content": f"{start + n} x", "role": "user"} for n in range(1_000)])
    clock.advance(DAY)
    deadline = time.monotonic() + 60
    while memory.stats().expired == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = time.monotonic()
    memory.close()
    assert time.monotonic() - started < 2
    memory = open_memory(settings=Settings(lifecycle={"sweep_interval_s": 0}))
    memory.lifecycle.sweep()
    stats = memory.stats()
    assert (stats.records, stats.expired, stats.events) == (0, 3_000, 6_000)


def test_two_sweeps_at_once_move_each_record_once(memory: Memory, clock: FakeClock) -> None:
    memory.add_many([{"content": f"{n} x", "role": "user"} for n in range(2_000)])
    clock.advance(DAY)
    reports = list[Any]()
    threads = [threading.Thread(target=lambda: reports.append(memory.lifecycle.sweep())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.expired for report in reports) == 2_000
    assert memory.stats().events == 4_000
    assert memory.verify().ok


CHILD = """
import os, signal, sys, time
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
for _ in range(5):
    assert memory.search("green tea", user_id="ada")
print("searched", flush=True)
time.sleep(float(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_use_in_other_processes_counts_up_to_a_second_before_a_kill(open_memory: Open, store: Path) -> None:
    memory = open_memory(clock=None)
    id = say(memory, "green tea")
    for seconds in (2.5, 2.5):
        searched = subprocess.run(
            [sys.executable, "-c", CHILD, str(store), str(seconds)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert searched.stdout == "searched\n", searched.stderr
    memory.get(id)
    assert memory.lifecycle.explain(id).accesses == 11
    assert names(memory, id) == ["ADD"]


@pytest.mark.slow
def test_half_a_year_against_the_oracle(tmp_path: Path) -> None:
    """Every layer, kind and history is what a slow and obvious oracle says, and every threshold matters."""
    clock = year.Clock()
    with Memory(tmp_path / "store", settings=year.settings(), embedder=HashedWords(), clock=clock) as memory:
        simulated = year.Year(memory, clock, records=1_200, days=120, seed=3)
        found = simulated.run()
        assert found.ok, found.examples
        report = memory.verify()
        assert report.ok, report.problems
    assert simulated.lives.moves["interact → insights"] > 50
    assert simulated.lives.moves["insights → assets"] > 0
    lacked = {name.removeprefix("interact: ") for name in simulated.lives.only if name.startswith("interact")}
    assert lacked >= {"accesses", "span", "rating", "relevance"}


def test_only_what_is_due_is_looked_at(memory: Memory, clock: FakeClock) -> None:
    """The work of a sweep grows with what is due, not with what is there."""
    for start in range(0, 5_000, 1_000):
        memory.add_many([f"fact {start + n}" for n in range(1_000)], user_id="ada")
        memory.add_many([{"content": f"word {start + n}", "role": "user"} for n in range(1_000)], user_id="ada")
    memory.lifecycle.sweep()
    assert memory.lifecycle.sweep().examined == 0
    memory.search("word 17", user_id="ada", limit=3)
    assert memory.lifecycle.sweep().examined <= 3
    for n in range(7):
        say(memory, f"for a minute {n}", ttl=60)
    clock.advance(60)
    assert memory.lifecycle.sweep().examined == 7


def test_what_is_hidden_is_counted_whether_it_is_much_or_little(memory: Memory) -> None:
    ids = [memory.add(f"note {number}", user_id="una").id for number in range(40)]
    for gone in (3, 30):  # by their index, and among all
        memory.delete_many(ids[:gone])
        stats = memory.stats()
        assert (stats.records, stats.deleted, sum(stats.by_layer.values())) == (40 - gone, gone, 40 - gone)
    memory.erase_all(user_id="una")
    assert (memory.stats().records, memory.stats().deleted) == (0, 0)
