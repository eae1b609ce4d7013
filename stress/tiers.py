"""``tiers``: what each engine of large scopes finds, how fast, and what it takes; what is held within budgets."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Annotated, Any

import typer

from agentmem import Memory, Settings
from stress.bundles import ASKED, Bundles, text_of
from stress.measure import anonymous_mb
from stress.options import Json, Seed
from stress.outcome import Outcome, plain
from stress.preloading import preloading
from stress.steps import serve, step
from stress.store import progress
from stress.week import week

USER = "user"
HOT = 500
"""Records that are placed in hot: such as the first searches find, so that it shows if one is missed."""
TOLERANCE = 1e-4
"""Scores that differ by less are equal: one search reads the clock a little later than the other."""
ENGINES = ("rabitq", "int8", "hnsw", "lancedb")
GRAPHS = (40, 100, 300)
"""Values of ``hnsw_ef_search`` that are tried."""
LIMITS = (10, 100)
"""Hits that are asked for: of more hits, engines look at more candidates."""


def tiers(
    records: Annotated[int, typer.Option(min=1_000, max=10_000_000, help="Records of the one scope.")] = 100_000,
    queries: Annotated[int, typer.Option(min=10, max=10_000, help="Searches of each kind.")] = 100,
    engines: Annotated[str, typer.Option(help="Which ones, beside exact.")] = ",".join(ENGINES),
    budgets: Annotated[
        str, typer.Option(help="Megabytes for warm records, with codes and without; 0 is what the rest is compared to.")
    ] = "0,32,128,4096",
    pairs: Annotated[int, typer.Option(min=0, max=100, help="Runs of a writer with and without an index.")] = 10,
    seed: Seed = 7,
    path: Annotated[
        Path | None, typer.Option(help="Folder for the store; one that is there is used, and kept.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Search one large scope by every engine, beside exact; within budgets; and through a week of made-up use.

    Each step is a process of its own. Vectors have 256 numbers and are made up, so that no model's time is in it.
    """
    outcome = Outcome("tiers", plain(locals()))
    chosen = [name for name in engines.split(",") if name]
    if unknown := set(chosen) - set(ENGINES):
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(ENGINES)}")
    sizes = sorted({0, *(int(size) for size in budgets.split(",") if size)})
    with tempfile.TemporaryDirectory(prefix="agentmem-tiers-") as name:
        folder = Path(name) if path is None else path
        with progress("tiers", 3 + len(chosen) + 2 * len(sizes)) as ticker:
            _run(outcome, folder, records, queries, chosen, sizes, seed, ticker.at)
            outcome.notes["writers"] = _writers(folder, pairs, chosen)
    outcome.finish(json_file)


def _run(
    outcome: Outcome, folder: Path, records: int, queries: int, engines: list[str], sizes: list[int], seed: int,
    tick: Any,
) -> None:  # fmt: skip
    if not (folder / "store").exists():
        step("tiers", "fill", folder, records=records)
    done, points = 1, list[dict[str, Any]]()
    for engine in ("exact", *engines):
        if engine in _MISSING and find_spec(_MISSING[engine]) is None:
            outcome.notes[engine] = f"{_MISSING[engine]} is not installed"
            continue
        found = step("tiers", "search", folder, engine=engine, records=records, queries=queries)
        points += found["points"]
        tick(done := done + 1)
    budgets = list[dict[str, Any]]()
    step("tiers", "place", folder, records=records)
    for engine in ("auto", "lancedb"):
        off = None
        for size in sizes:
            one = step("tiers", "within", folder, engine=engine, megabytes=size, records=records, queries=queries)
            off = one if off is None else off
            one["above_mb"] = round(one["anonymous_mb"] - off["anonymous_mb"], 1)
            one["peak_above_mb"] = round(one["peak_mb"] - off["peak_mb"], 1)
            budgets.append(one)
            tick(done := done + 1)
    outcome.notes["preloading"] = step("tiers", "preloading", folder, users=1_000, seed=seed)
    lived = step("tiers", "week", folder, records=min(records, 8_000), seed=seed)
    for point in [*points, *budgets]:
        figure = outcome.figure(point["name"])
        for spent in point.pop("spent"):
            figure.record(spent)
        figure.seconds = sum(figure.latencies)
        point["p50_ms"] = round(figure.to_dict()["p50_ms"], 3)
        outcome.checks.problems += point.pop("problems")
    if lived["missed"]:
        outcome.checks.problems.append(f"{lived['missed']} searches of the week did not find what they asked for")
    outcome.notes |= {"engines": points, "budgets": budgets, "week": lived["samples"]}


_BEFORE = 20_000
"""Records that are there before writers are measured."""
_PHASE = 2
"""Seconds of each run of a writer."""


def _writers(folder: Path, pairs: int, engines: list[str]) -> dict[str, Any]:
    """What writers reach beside an index that follows them, as a part of what they reach without.

    They add to the scope that is searched, or for a thousand other users.
    """
    found = dict[str, Any]()
    for engine in engines:
        if not pairs or (engine in _MISSING and find_spec(_MISSING[engine]) is None):
            continue
        for others in (0, 1_000):
            speeds = step("tiers", "write", folder, engine=engine, pairs=pairs, others=others)["speeds"]
            ratios = [beside / alone for beside, alone in speeds]
            found[f"{engine}, {'other users' if others else 'the same scope'}"] = {
                "mean": round(fmean(ratios), 3),
                "median": round(median(ratios), 3),
                "error of the mean": round(stdev(ratios) / len(ratios) ** 0.5, 3) if len(ratios) > 1 else None,
                "all": [round(one, 3) for one in ratios],
            }
    return found


_MISSING = {"rabitq": "faiss", "hnsw": "hnswlib"}

# -- steps: each in a process of its own -----------------------------------------------------------------------------


def _settings(engine: str, records: int, megabytes: float = 0, **more: Any) -> Settings:
    performance: dict[str, Any] = {"large_budget_mb": 100_000, "large_engine": engine}
    performance["arena_limit"] = min(50_000, records // 2)
    if engine == "exact":
        performance = {"arena_limit": records + 1, "arena_budget_mb": 100_000}
    tiers = {"interval_s": 0, "hot": {"size_gb": megabytes and 0.002}, "warm": {"size_gb": megabytes / 1_000}}
    return Settings(
        query_cache_size=0, embedding_cache_size=0, large_wait_s=3_600, lifecycle={"sweep_interval_s": 0}, tiers=tiers,
        **performance, **more,
    )  # fmt: skip


def _opened(folder: Path, settings: Settings) -> Memory:
    return Memory(folder / "store", settings=settings, embedder=Bundles())


def fill(folder: Path, records: int) -> dict[str, Any]:
    """Add that many records, have LanceDB follow, and its index made."""
    items = ({"content": text_of(n), "user_id": USER, "id": f"r{n:08}"} for n in range(records))
    with _opened(folder, _settings("lancedb", records)) as memory:
        for _ in memory.add_stream(items, chunk=1_000):
            pass
        memory.flush()
        memory.compact()
    return {}


def search(folder: Path, engine: str, records: int, queries: int) -> dict[str, Any]:
    """Points of one engine: time, recall beside what ``exact`` found before it, memory beside a process without."""
    graphs = GRAPHS if engine == "hnsw" else (100,)
    points = list[dict[str, Any]]()
    for ef in graphs:
        with _opened(folder, _settings(engine, records, hnsw_ef_search=ef)) as memory:
            memory.warm_up()
            _trim()
            before = anonymous_mb()
            memory.search(text_of(ASKED), user_id=USER, mode="vector", touch=False)
            if engine == "hnsw":
                _wait_for_front(memory)
            for limit in LIMITS:
                name = f"{engine}, {limit} hits" + (f", ef {ef}" if engine == "hnsw" else "")
                point = _asked(folder, memory, name, queries, limit, keep=engine == "exact")
                _trim()
                taken = anonymous_mb() - before
                points.append(
                    {**point, "engine": engine, "mb": round(taken), "bytes_a_record": round(taken * 2**20 / records)}
                )
    return {"points": points}


def place(folder: Path, records: int) -> dict[str, Any]:
    """Have everything warm, as far as there is room, and some of what is searched for hot."""
    answers = json.loads(_file(folder, LIMITS[-1]).read_text())
    hot = list(dict.fromkeys(id for answer in answers for id in answer["ids"][::2]))[:HOT]
    with _opened(folder, _settings("lancedb", records)) as memory:
        memory.tiers.place({"user_id": USER}, "warm")
        memory.tiers.place(hot, "hot")
    return {}


def within(folder: Path, engine: str, megabytes: int, records: int, queries: int) -> dict[str, Any]:
    """Hold what a budget has room for, and search; what that takes, and whether anything that is held is missed."""
    with _opened(folder, _settings(engine, records, megabytes)) as memory, _Peak() as peak:
        memory.warm_up()
        memory.search(text_of(ASKED), user_id=USER, mode="vector", touch=False)
        memory.handle.engine().tiering.look()
        point = _asked(folder, memory, f"{engine}, {megabytes} MB warm", queries, LIMITS[0], keep=False)
        _trim()
        stats = memory.tiers.stats()
        return {
            **point,
            "engine": engine,
            "budget_mb": megabytes,
            "anonymous_mb": round(anonymous_mb(), 1),
            "peak_mb": round(peak.mb, 1),
            "hot": stats["hot"].records,
            "warm": stats["warm"].records,
            "bytes": stats["hot"].bytes + stats["warm"].bytes,
        }


def write(folder: Path, engine: str, pairs: int, others: int) -> dict[str, Any]:
    """Add batches of 100 while a large scope is searched twice a second, and while it is not.

    In turns to two stores of this process that have grown alike: what the machine does meanwhile differs by more than
    what is asked for. Nobody ever searches the second one, so that nothing follows it.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name, ExitStack() as stack:
        settings = _settings(engine, _BEFORE, 32)
        searched, alone = (
            stack.enter_context(Memory(Path(name) / which, settings=settings, embedder=Bundles()))
            for which in ("searched", "alone")
        )
        numbers = {memory: iter(range(10**9)) for memory in (searched, alone)}
        asked = iter(range(ASKED, ASKED + 10**6))

        def batch(memory: Memory, users: int) -> list[dict[str, Any]]:
            some = [next(numbers[memory]) for _ in range(100)]
            return [{"content": text_of(n), "user_id": f"user-{n % users}" if users else USER} for n in some]

        def ask() -> None:
            searched.search(text_of(next(asked)), user_id=USER, mode="vector", touch=False)

        def added_per_second(memory: Memory) -> float:
            batches = iter([batch(memory, others) for _ in range(300 * _PHASE)])
            searched.flush()
            alone.flush()
            over, added = threading.Event(), 0

            def keep_asking() -> None:
                while not over.wait(0.5):
                    ask()

            searcher = threading.Thread(target=keep_asking)
            if memory is searched:
                searcher.start()
            begun = time.perf_counter()
            while time.perf_counter() - begun < _PHASE:
                added += len(memory.add_many(next(batches)))
            took = time.perf_counter() - begun
            over.set()
            if memory is searched:
                searcher.join()
            return added / took

        for memory in numbers:
            for _ in range(_BEFORE // 100):
                memory.add_many(batch(memory, 0))
            memory.flush()
        ask()
        searched.tiers.place({"user_id": USER}, "warm")
        for _ in range(4):  # until what was placed is held
            time.sleep(0.5)
            ask()
        speeds = list[tuple[float, float]]()
        for number in range(pairs):
            order = (searched, alone) if number % 2 else (alone, searched)
            reached = {memory: added_per_second(memory) for memory in order}
            speeds.append((reached[searched], reached[alone]))
    return {"speeds": speeds}


def _week(folder: Path, records: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return week(Path(name) / "store", records, seed)


def _preloading(folder: Path, users: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return preloading(Path(name) / "store", users, seed)


def _asked(folder: Path, memory: Memory, name: str, queries: int, limit: int, *, keep: bool) -> dict[str, Any]:
    """Search, and compare with the exact answers, or be those."""
    kept, answers, problems = _file(folder, limit), list[dict[str, Any]](), list[str]()
    exact = None if keep else json.loads(kept.read_text())
    spent, right, held, missed = list[float](), 0.0, 0, 0
    for number in range(queries):
        query = text_of(ASKED + 1 + number)
        begun = time.perf_counter()
        found = memory.search(query, user_id=USER, mode="vector", limit=limit, touch=False)
        spent.append(time.perf_counter() - begun)
        answers.append({"ids": [hit.id for hit in found], "scores": [hit.score for hit in found]})
        if len(found) != limit or any(hit.record.user_id != USER for hit in found):
            problems.append(f"{name}: query {number} found {len(found)} instead of {limit} of its user")
        if exact is None:
            right += 1
            continue
        least = exact[number]["scores"][limit - 1] - TOLERANCE
        right += sum(hit.score >= least for hit in found) / limit
        true = dict(zip(exact[number]["ids"], exact[number]["scores"], strict=True))
        wrong = [hit.id for hit in found if hit.id in true and abs(hit.score - true[hit.id]) > TOLERANCE]
        problems += [f"{name}: query {number}, {id} has another score" for id in wrong]
        there = {id for id in exact[number]["ids"][:limit] if memory.tiers.explain(id).tier in ("hot", "warm")}
        held += len(there)
        missed += len(there - set(answers[-1]["ids"]))
    if exact is None:
        kept.write_text(json.dumps(answers))
    if missed:
        problems.append(f"{name}: {missed} of {held} hits that are hot or warm were missed")
    more = {"recall": round(right / queries, 4), "held_hits": held, "held_missed": missed, "hits": limit}
    return {"name": name, "spent": spent, "problems": problems, **more}


def _file(folder: Path, limit: int) -> Path:
    return folder / f"exact-{limit}.json"


def _wait_for_front(memory: Memory) -> None:
    for _ in range(36_000):
        memory.search(text_of(ASKED), user_id=USER, mode="vector", touch=False)
        fronts = memory.handle.engine().retriever.residents.fronts
        if fronts is None or fronts.made or fronts.fallbacks:
            return
        time.sleep(0.1)


def _trim() -> None:
    """Give back what the allocator holds free, so that memory is what is in use."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


class _Peak:
    """The most anonymous memory while it was entered, looked at forty times a second."""

    def __enter__(self) -> _Peak:
        self.mb, self._over = anonymous_mb(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.025):
            self.mb = max(self.mb, anonymous_mb())


if __name__ == "__main__":
    serve(
        {
            "fill": fill,
            "search": search,
            "place": place,
            "within": within,
            "write": write,
            "week": _week,
            "preloading": _preloading,
        }
    )
