"""``lifecycle``: a simulated year against an oracle, what a sweep costs, and what it costs those who use the store."""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from agentmem import Memory
from stress.habits import HABITS, Habit
from stress.options import Json, Seed
from stress.store import Ticker, progress
from stress.victim import HashedWords
from stress.year import WORDS, Clock, Year, settings

BATCH = 10_000
ROUNDS = 7
DAY = timedelta(days=1)


class Part(StrEnum):
    YEAR = "year"
    COST = "cost"
    TRAFFIC = "traffic"
    SCORER = "scorer"


def lifecycle(
    part: Annotated[list[Part] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    records: Annotated[int, typer.Option(min=10, max=10_000_000, help="Records of the simulated year.")] = 200_000,
    days: Annotated[int, typer.Option(min=1, max=3_650, help="Days of the simulated year.")] = 365,
    small: Annotated[int, typer.Option(min=10, help="Records of the small store of which --due are due.")] = 10_000,
    large: Annotated[int, typer.Option(min=10, help="Records of the large store of which --due are due.")] = 1_000_000,
    due: Annotated[int, typer.Option(min=1, help="Records that are due in both.")] = 1_000,
    swept: Annotated[int, typer.Option(min=1, help="Records that are due under traffic.")] = 50_000,
    used: Annotated[int, typer.Option(min=100, help="Records of each year in which a scorer is learned.")] = 1_500,
    seed: Seed = 7,
    json_file: Json = None,
) -> None:
    """Check promotion and expiry against an oracle over a simulated year, and measure what sweeps cost.

    year: every record's layer, kind and history must be what a slow and obvious oracle says.
    cost: sweeping the same number of due records must cost less than twice as much in the large store as in the small.
    scorer: a learned scorer must tell what is used again as well as the formula, and better where use is skewed; each
    of its decisions must come out the same once more.
    traffic: the 99th percentile of adds and searches must be less than twice as long during a sweep as without.
    """
    outcome: dict[str, Any] = {"command": "lifecycle", "ok": True}
    parts = part or list(Part)
    if Part.YEAR in parts:
        outcome["year"] = _year(records, days, seed)
    if Part.COST in parts:
        outcome["cost"] = _cost(small, large, due, seed)
    if Part.TRAFFIC in parts:
        outcome["traffic"] = _traffic(swept, seed)
    if Part.SCORER in parts:
        outcome |= {f"scorer, {name}": _scorer(name, used, seed) for name in HABITS}
    outcome["ok"] = all(outcome[name]["ok"] for name in outcome if name not in ("command", "ok"))
    if json_file is not None:
        json_file.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    _show(outcome)
    if not outcome["ok"]:
        raise typer.Exit(1)


@contextmanager
def _store(clock: Clock, **options: Any) -> Iterator[Memory]:
    with tempfile.TemporaryDirectory(prefix="agentmem-lifecycle-") as folder:
        with Memory(
            Path(folder) / "store", settings=settings(**options), embedder=HashedWords(), clock=clock
        ) as memory:
            yield memory


def _year(records: int, days: int, seed: int) -> dict[str, Any]:
    clock, started = Clock(), time.perf_counter()
    with _store(clock) as memory, progress("year", 1) as ticker:
        year = Year(memory, clock, records, days, seed)
        found = year.run(lambda done, total: ticker.at(done / total, f"day {done * days // total}"))
        report = memory.verify()
    differences = {name: value for name, value in vars(found).items() if name != "examples"}
    for example in found.examples:
        print(example)
    return {
        "ok": found.ok and report.ok,
        "seconds": round(time.perf_counter() - started, 1),
        "records": len(year.lives.all),
        "searches": year.searches,
        "differences": differences,
        "verify": report.problems[:5],
        "moves": dict(sorted(year.lives.moves.items())),
        "kinds": dict(sorted(year.lives.kinds.items())),
        "expired_for_want_of_one_thing": dict(sorted(year.lives.only.items())),
        "live_at_the_end": year.flow[-1] if year.flow else {},
    }


def _fill(memory: Memory, count: int, pick: random.Random, role: str | None, ticker: Ticker | None = None) -> None:
    users = max(1, count // 200)
    for start in range(0, count, BATCH):
        items: list[Any] = [
            {
                "content": f"n{n} {' '.join(pick.sample(WORDS, 4))}",
                "user_id": f"user-{n % users}",
                **({"role": role} if role else {}),
            }
            for n in range(start, min(start + BATCH, count))
        ]
        memory.add_many(items)
        if ticker is not None:
            ticker.at(start / count, "filling")


def _scorer(name: str, records: int, seed: int) -> dict[str, Any]:
    """A year of one habit, scored by whichever scorer tells better what is used again."""
    clock, started = Clock(), time.perf_counter()
    plan, least = HABITS[name]
    with _store(clock, scorer="auto") as memory, progress(f"scorer, {name}", 1) as ticker:
        found = Habit(memory, clock, plan, records, seed).run(lambda done: ticker.at(done, f"day {done * 365:.0f}"))
        report = memory.verify()
    ahead = found["auc"] - found["formula_auc"]
    sound = report.ok and not found["decisions"]["different"]
    return {"ok": sound and ahead >= least, "seconds": round(time.perf_counter() - started, 1), **found}


def _cost(small: int, large: int, due: int, seed: int) -> dict[str, Any]:
    """The same sweep in two stores, in turns: so many have come to their end, the others are as they were."""
    pick = random.Random(seed)
    seconds: dict[int, list[float]] = {small: [], large: []}
    with ExitStack() as stack:
        stores = {count: _filled(stack, count, due, pick) for count in (small, large)}
        for _ in range(ROUNDS):
            for count, (memory, clock) in stores.items():
                seconds[count].append(_sweep_seconds(memory, clock, due, pick))
    ratio = median(large_one / small_one for small_one, large_one in zip(seconds[small], seconds[large], strict=True))
    return {
        "ok": ratio < 2,
        "due": due,
        "seconds": {f"{count:,}": [round(each, 4) for each in times] for count, times in seconds.items()},
        "ratio": round(ratio, 2),
    }


def _filled(stack: ExitStack, count: int, due: int, pick: random.Random) -> tuple[Memory, Clock]:
    """A store of which half are facts and half messages with half a day to go; some are pinned."""
    clock = Clock()
    memory = stack.enter_context(_store(clock))
    with progress(f"{count:,} records", 1) as ticker:
        for role in (None, "user"):
            _fill(memory, (count - due) // 2, pick, role, ticker)
    for record in memory.page(user_id="user-0", limit=200).records:
        memory.lifecycle.pin(record.id)
    clock.now += DAY / 2
    memory.lifecycle.sweep()
    memory.flush()
    return memory, clock


def _sweep_seconds(memory: Memory, clock: Clock, due: int, pick: random.Random) -> float:
    """How long it takes to sweep what has just come to its end by a promise, so that the rest stays as it is."""
    items: list[Any] = [{"content": f"d{n} {' '.join(pick.sample(WORDS, 4))}", "ttl": 60} for n in range(due)]
    for start in range(0, due, BATCH):
        memory.add_many(items[start : start + BATCH], dedupe=False)
    clock.now += timedelta(minutes=1)
    memory.flush()
    started = time.perf_counter()
    report = memory.lifecycle.sweep()
    seconds = time.perf_counter() - started
    assert (report.expired, report.promoted) == (due, 0), report
    return seconds


def _traffic(swept: int, seed: int) -> dict[str, Any]:
    """Adds and searches without and with a sweep, in turns."""
    clock, pick = Clock(), random.Random(seed)
    calm: dict[str, list[float]] = {"add": [], "search": []}
    busy: dict[str, list[float]] = {"add": [], "search": []}
    held = list[float]()
    # LanceDB follows as it does by default.
    with _store(clock, follower_group=5_000, follower_delay_s=5) as memory, progress("traffic", 1) as ticker:
        _fill(memory, swept, pick, None, ticker)
        _fill(memory, swept, pick, "user", ticker)
        memory.flush()
        _use(memory, pick, {"add": [], "search": []}, lambda spent: spent > 2)
        _use(memory, pick, calm, lambda spent: spent > 10)
        clock.now += DAY
        done = threading.Event()
        reports = list[Any]()

        def sweep() -> None:
            started = time.perf_counter()
            reports.append(memory.lifecycle.sweep())
            held.append(time.perf_counter() - started)
            done.set()

        thread = threading.Thread(target=sweep)
        thread.start()
        _use(memory, pick, busy, lambda spent: done.is_set())
        thread.join()
        moved = reports[0].expired + reports[0].promoted
    figures = {
        name: {
            "without_p50_ms": _percentile(calm[name], 50),
            "during_p50_ms": _percentile(busy[name], 50),
            "without_p99_ms": _percentile(calm[name], 99),
            "during_p99_ms": _percentile(busy[name], 99),
            "during_max_ms": round(max(busy[name]) * 1_000, 2),
            "calls": len(busy[name]),
        }
        for name in calm
    }
    ratios = [figure["during_p99_ms"] / figure["without_p99_ms"] for figure in figures.values()]
    return {
        "ok": moved >= swept and max(ratios) < 2,
        "moved": moved,
        "sweep_seconds": round(held[0], 1),
        **figures,
    }


def _use(memory: Memory, pick: random.Random, spent: dict[str, list[float]], over: Callable[[float], bool]) -> None:
    """One caller that adds and one that searches, each as fast as it can, until it is over."""
    begun = time.perf_counter()

    def work(name: str, act: Callable[[int], object]) -> None:
        n = 0
        while not over(time.perf_counter() - begun):
            started = time.perf_counter()
            act(n)
            spent[name].append(time.perf_counter() - started)
            n += 1

    tag, own = pick.randrange(10**9), random.Random(pick.random())
    query = random.Random(pick.random())
    users = 200
    threads = [
        threading.Thread(
            target=work,
            args=("add", lambda n: memory.add(f"a{tag} {n} {own.choice(WORDS)}", user_id=f"user-{n % users}")),
        ),
        threading.Thread(
            target=work,
            args=("search", lambda n: memory.search(" ".join(query.sample(WORDS, 3)), user_id=f"user-{n % users}")),
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _percentile(seconds: list[float], q: float) -> float:
    return round(float(np.percentile(seconds, q)) * 1_000, 3) if seconds else 0.0


def _show(outcome: dict[str, Any]) -> None:
    console = Console(width=None if Console().is_terminal else 160)
    for part, found in outcome.items():
        if not isinstance(found, dict):
            continue
        table = Table(title=f"{part}: {'as it must be' if found['ok'] else 'NOT as it must be'}", title_justify="left")
        table.add_column("")
        table.add_column("")
        for name, value in found.items():
            if name != "ok":
                shown = value if not isinstance(value, dict) else "\n".join(f"{k}: {v}" for k, v in value.items())
                table.add_row(name.replace("_", " "), str(shown))
        console.print(table, markup=False)
