"""Key figures, each moved by what it is of."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import AsyncMemory, InvalidInputError, Memory, Pressure, Settings
from agentmem.engine import metering
from agentmem.engine.metering import Call, Meter

Open = Callable[..., Memory]


class Ticks:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_store_without_any_calls(memory: Memory) -> None:
    found = memory.kpis()
    assert (found.records, found.usage_percent, found.pressure) == (0, 0.0, Pressure.LOW)
    assert (found.search_latency.p50, found.cache_hit_rate, found.recovery_time_s) == (None, None, None)
    assert (found.error_rate, found.fallback_rate, found.promotion_rate, found.uptime_percent) == (0, 0, 0, 100)
    assert found.total_size > 0
    assert set(found.to_dict()["search_latency"]) == {"p50", "p95", "p99", "calls"}


def test_size_usage_and_pressure(open_memory: Open) -> None:
    settings = Settings(layers={"insights": {"max_size_mb": 1}})
    memory = open_memory(settings=settings)
    before = memory.kpis()
    memory.add_many(["a" * 7_000 for _ in range(100)], layer="insights", dedupe=False)
    memory.lifecycle.sweep(dry_run=True)
    found = memory.kpis()
    assert found.records == 100
    assert 60 < found.usage_percent < 85
    assert found.pressure is Pressure.MEDIUM
    assert found.total_size > before.total_size + 700_000


def test_latencies_rates_and_hits(memory: Memory) -> None:
    ticks = Ticks()
    engine = memory.handle.engine()
    engine.meter = Meter("store", ticks)
    ticks.now += 10
    for milliseconds in range(1, 101):
        engine.meter.note(Call("search", ticks.now - milliseconds / 1_000, ticks.now, None, False))
    found = memory.kpis()
    assert found.search_latency.p50 == pytest.approx(51)
    assert found.search_latency.p95 == pytest.approx(96)
    assert found.search_latency.p99 == pytest.approx(100)
    assert (found.qps, found.window_s) == (10, 10)
    ticks.now += 301
    assert memory.kpis().search_latency.p50 is None

    memory.add("Ana plays the cello.")
    for _ in range(4):
        memory.search("cello")
    assert memory.kpis().cache_hit_rate == 0.75


def test_every_kind_of_call_counts_once(memory: Memory) -> None:
    engine = memory.handle.engine()
    engine.meter = Meter("store")
    id = memory.add("a").id
    memory.add_many(["b", "c"])
    memory.put("k", "d")
    memory.get(id)
    memory.update(id, content="e")
    memory.search("e")
    memory.context("e", max_tokens=50)
    list(memory.iterate())
    memory.delete(id)
    memory.erase(id)
    assert [call.operation for call in engine.meter.calls] == [
        "add", "add", "put", "read", "update", "search", "search", "read", "delete", "erase",
    ]  # fmt: skip
    assert all(call.ended >= call.began and call.error is None for call in engine.meter.calls)


def test_both_clients_are_counted(open_memory: Open, store: Path, embedder: HashEmbedder, clock: FakeClock) -> None:
    async def run() -> list[str]:
        async with AsyncMemory(store, embedder=embedder, clock=clock) as memory:
            await memory.add("a")
            await memory.search("a")
            assert (await memory.kpis()).records == 1
            return [call.operation for call in memory.blocking.handle.engine().meter.calls]

    assert asyncio.run(run()) == ["add", "search"]


class Failing(HashEmbedder):
    """A model that fails when it is told to."""

    fails = False

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        if self.fails:
            raise RuntimeError("the model is gone")
        return super().embed_documents(texts)


def test_errors_outages_and_recovery(open_memory: Open) -> None:
    model, ticks = Failing(), Ticks()
    memory = open_memory(embedder=model)
    engine = memory.handle.engine()
    engine.meter = Meter("store", ticks)
    ticks.now += 80
    memory.add("works")
    with pytest.raises(InvalidInputError):
        memory.add("")
    with pytest.raises(InvalidInputError):
        memory.search("x", vector=[1.0])
    assert memory.kpis().error_rate == 0
    model.fails = True
    for _ in range(2):
        with pytest.raises(Exception, match="the model is gone"):
            memory.add("fails")
        ticks.now += 5
    memory.search("works")  # reading goes on, which ends no outage of writing
    found = memory.kpis()
    assert (found.error_rate, found.recovery_time_s) == (pytest.approx(2 / 5), None)
    assert found.uptime_percent == pytest.approx(100 * 80 / 90)
    model.fails = False
    ticks.now += 10
    memory.add("works again")
    ticks.now += 100
    found = memory.kpis()
    assert found.recovery_time_s == 20
    assert found.uptime_percent == pytest.approx(90)


def test_a_store_that_is_gone_counts_as_failing(open_memory: Open, store: Path) -> None:
    memory = open_memory()
    memory.add("a")
    engine = memory.handle.engine()
    shutil.rmtree(store)
    with pytest.raises(Exception, match="store"):
        memory.add("b")
    assert engine.meter.failing


def test_promotions_of_the_last_hour(memory: Memory, clock: FakeClock) -> None:
    ids = [memory.add(f"turn {number}", layer="interact").id for number in range(3)]
    memory.lifecycle.promote(ids[0])
    clock.advance(3_000)
    memory.lifecycle.promote(ids[1])
    assert memory.kpis().promotion_rate == 2
    clock.advance(1_000)
    assert memory.kpis().promotion_rate == 1


def test_fragmentation_comes_with_what_is_replaced_and_goes_with_compacting(memory: Memory) -> None:
    ids = [memory.add(f"{number}", data={"large": "a" * 20_000}).id for number in range(40)]
    assert memory.kpis().fragmentation_percent < 5
    for id in ids[:20]:
        for count in range(12):  # older data than that of the last ten versions goes
            memory.update(id, data={"count": count})
    assert memory.kpis().fragmentation_percent > 10
    memory.compact()
    assert memory.kpis().fragmentation_percent < 5


def test_watchers_hear_of_calls_and_break_none(memory: Memory) -> None:
    heard = list[Any]()

    class Ear:
        def began(self, operation: str, store: str) -> str:
            return f"{operation} of {Path(store).name}"

        def ended(self, token: Any, call: Call) -> None:
            heard.append((token, call.error))

    class Broken:
        def began(self, operation: str, store: str) -> str:
            raise RuntimeError

        def ended(self, token: Any, call: Call) -> None:
            raise RuntimeError

    stop = [metering.watch(Broken()), metering.watch(Ear())]
    try:
        memory.add("a")
        with pytest.raises(InvalidInputError):
            memory.search("x", vector=[1.0])
    finally:
        for one in stop:
            one()
    memory.search("a")
    assert heard == [("add of store", None), ("search of store", "InvalidInputError")]


def test_many_threads_at_once(memory: Memory) -> None:
    memory.add("a")
    engine = memory.handle.engine()
    engine.meter = Meter("store")
    threads = [threading.Thread(target=lambda: [memory.search("a") for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engine.meter.calls) == 200
    assert timedelta(seconds=memory.kpis().window_s) > timedelta(0)
