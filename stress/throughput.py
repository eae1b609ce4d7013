"""``throughput``: how fast records become durable, one by one, in batches, from many callers, as a stream."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from agentmem import AgentMemError, AsyncMemory, Memory
from stress import limits
from stress.ledger import Ledger, check
from stress.measure import Figure, files_and_bytes
from stress.options import Duration, Embedder, Json, Path_, Seed, Texts, Users
from stress.outcome import MB, Limit, Outcome, plain
from stress.store import Ticker, fresh_folder, opened, progress
from stress.texts import Maker, Profile, maker

_STREAM = 10_000


class Way(StrEnum):
    """How records are added; ``all`` is one after the other, in one run."""

    SINGLE = "single"
    BATCH = "batch"
    CONCURRENT = "concurrent"
    STREAM = "stream"
    ALL = "all"


@dataclass
class Load:
    """What is being added, and what became of it."""

    outcome: Outcome
    ledger: Ledger
    text_of: Maker
    users: int
    batch_size: int
    seconds: float
    ticker: Ticker
    folder: Path
    most: int
    batches: Iterator[int] = field(default_factory=itertools.count)
    stored: int = 0
    text_bytes: int = 0
    largest_log: int = 0
    most_files: int = 0
    _looked: float = 0.0

    def open(self) -> bool:
        return self.stored < self.most

    def look(self) -> None:
        """Take note, twice a second, of how large the write-ahead log and how many LanceDB's files have become."""
        now = time.perf_counter()
        if now - self._looked > 0.5:
            self._looked = now
            with suppress(FileNotFoundError):
                self.largest_log = max(self.largest_log, (self.folder / "agentmem.db-wal").stat().st_size)
            self.most_files = max(self.most_files, files_and_bytes(self.folder / "lance")[0])

    def user(self, batch: int) -> str:
        return f"user-{batch % self.users}"

    def texts(self, batch: int) -> list[str]:
        return [self.text_of(batch, item) for item in range(self.batch_size)]

    def acknowledged(self, user: str, texts: list[str], ids: list[str]) -> None:
        for text, id in zip(texts, ids, strict=True):
            self.ledger.added(user, text, id)
            self.text_bytes += len(text)
        self.stored += len(ids)

    def failed(self, user: str, texts: list[str], error: AgentMemError) -> None:
        self.outcome.errors[type(error).__name__] += 1
        for text in texts:
            self.ledger.failed(user, text)


def throughput(
    profile: Texts = Profile.SEED,
    mode: Annotated[Way, typer.Option(help="How records are added.")] = Way.BATCH,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="Records per add_many.")] = 100,
    num_batches: Annotated[int, typer.Option(min=1, help="Batches at least, however long they take.")] = 10,
    max_concurrency: Annotated[int, typer.Option(min=1, max=256, help="Batches in flight.")] = 4,
    adders: Annotated[int, typer.Option(min=1, max=4_096, help="Callers of add in mode concurrent.")] = 64,
    users: Users = 100,
    duration: Duration = 10,
    most: Annotated[int, typer.Option(min=1, max=5_000_000, help="Records after which to stop at once.")] = 2_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Repeat, and report medians over the rounds.")] = 1,
    with_limits: Annotated[bool, typer.Option("--limits", help="Measure each part alone, too.")] = False,
    embedder: Embedder = None,
    seed: Seed = 7,
    path: Path_ = None,
    json: Json = None,
) -> None:
    """Add fresh, different texts to a new store for a while; count what was acknowledged, then check all of it."""
    outcome = Outcome("throughput", plain(locals()))
    ways = [way for way in Way if way is not Way.ALL] if mode is Way.ALL else [mode]
    text_of = maker(profile, seed)
    ledger = Ledger()
    speeds: dict[str, list[float]] = {way.value: [] for way in ways}
    alone: list[dict[str, float]] = []
    with fresh_folder(path) as folder, opened(folder, embedder) as memory:
        with progress(f"throughput {profile.value}", duration * len(ways) * rounds) as ticker:
            load = Load(outcome, ledger, text_of, users, batch_size, duration, ticker, folder, most)
            for way in ways * rounds:
                figure = _figure(outcome, f"{profile.value} {way.value}")
                speed = _run(way, load, figure, folder, memory, (num_batches, max_concurrency, adders), embedder)
                speeds[way.value].append(speed)
                if with_limits and way is ways[-1]:
                    memory.flush()  # nothing in the background while a part is measured alone
                    batches = (load.texts(next(load.batches)) for _ in itertools.count())
                    alone.append(limits.measure(batches, embedder, min(duration, 5)))
        _summarize(outcome, speeds)
        if alone:
            outcome.limits = _compare(alone, speeds)
        outcome.measure_store(memory, folder, load.text_bytes)
        outcome.notes |= {"largest_log_mb": round(load.largest_log / MB, 1), "most_lancedb_files": load.most_files}
        outcome.checks = check(memory, ledger)
    outcome.finish(json)


def _run(
    way: Way,
    load: Load,
    figure: Figure,
    folder: Path,
    memory: Memory,
    sizes: tuple[int, int, int],
    embedder: str | None,
) -> float:
    """One round; returns operations per second."""
    num_batches, max_concurrency, adders = sizes
    before, start = load.stored, time.perf_counter()
    if way is Way.SINGLE:
        _single(memory, load, figure, start)
    else:
        asyncio.run(_async(way, folder, embedder, load, figure, start, (num_batches, max_concurrency, adders)))
    seconds = time.perf_counter() - start
    figure.seconds += seconds
    return (load.stored - before) / seconds


async def _async(
    way: Way,
    folder: Path,
    embedder: str | None,
    load: Load,
    figure: Figure,
    start: float,
    sizes: tuple[int, int, int],
) -> None:
    num_batches, max_concurrency, adders = sizes
    async with AsyncMemory(folder, embedder=embedder) as memory:
        if way is Way.STREAM:
            await _stream(memory, load, figure, start)
        elif way is Way.BATCH:
            left = itertools.count(1)
            keep_on: Callable[[], bool] = lambda: next(left) <= num_batches or _in_time(load, start)  # noqa: E731
            await asyncio.gather(*(_batches(memory, load, figure, start, keep_on) for _ in range(max_concurrency)))
        else:
            await asyncio.gather(*(_adder(memory, load, figure, start) for _ in range(adders)))


def _in_time(load: Load, start: float) -> bool:
    return time.perf_counter() - start < load.seconds and load.open()


def _single(memory: Memory, load: Load, figure: Figure, start: float) -> None:
    while _in_time(load, start):
        batch = next(load.batches)
        user, texts = load.user(batch), load.texts(batch)
        for text in texts:
            try:
                with figure.timed():
                    added = memory.add(text, user_id=user)
                load.acknowledged(user, [text], [added.id])
            except AgentMemError as exc:
                load.failed(user, [text], exc)
            if not _in_time(load, start):
                break
        _tick(load, figure, start)


async def _batches(memory: AsyncMemory, load: Load, figure: Figure, start: float, keep_on: Callable[[], bool]) -> None:
    while keep_on():
        batch = next(load.batches)
        user, texts = load.user(batch), load.texts(batch)
        try:
            with figure.timed(len(texts)):
                added = await memory.add_many(texts, user_id=user)
            load.acknowledged(user, texts, [one.id for one in added])
        except AgentMemError as exc:
            load.failed(user, texts, exc)
        _tick(load, figure, start)


async def _adder(memory: AsyncMemory, load: Load, figure: Figure, start: float) -> None:
    while _in_time(load, start):
        batch = next(load.batches)
        user = load.user(batch)
        for item in range(load.batch_size):
            text = load.text_of(batch, item)
            try:
                with figure.timed():
                    added = await memory.add(text, user_id=user)
                load.acknowledged(user, [text], [added.id])
            except AgentMemError as exc:
                load.failed(user, [text], exc)
            if not _in_time(load, start):
                break
        _tick(load, figure, start)


async def _stream(memory: AsyncMemory, load: Load, figure: Figure, start: float) -> None:
    """Streams of some ten thousand records, each of one user; latencies are those between two acknowledgements."""
    per_stream = max(1, _STREAM // load.batch_size)
    while _in_time(load, start):
        numbers = [next(load.batches) for _ in range(per_stream)]
        user, texts = load.user(numbers[0]), [text for number in numbers for text in load.texts(number)]
        acknowledged, last = 0, time.perf_counter()
        try:
            async for added in memory.add_stream(texts, user_id=user):
                now = time.perf_counter()
                figure.record(now - last, len(added))
                last = now
                load.acknowledged(user, texts[acknowledged : acknowledged + len(added)], [one.id for one in added])
                acknowledged += len(added)
                _tick(load, figure, start)
        except AgentMemError as exc:
            load.failed(user, texts[acknowledged:], exc)


def _tick(load: Load, figure: Figure, start: float) -> None:
    spent = time.perf_counter() - start
    load.look()
    load.ticker.at(sum(one.seconds for one in load.outcome.figures) + spent, f"{figure.name}: {load.stored:,} stored")


def _figure(outcome: Outcome, name: str) -> Figure:
    return next((figure for figure in outcome.figures if figure.name == name), None) or outcome.figure(name)


def _summarize(outcome: Outcome, speeds: dict[str, list[float]]) -> None:
    for figure, (way, found) in zip(outcome.figures, speeds.items(), strict=True):
        figure.more["rounds"] = [round(speed, 1) for speed in found]
        if way != "batch" and "batch" in speeds:
            ratios = [mine / batch for mine, batch in zip(found, speeds["batch"], strict=True)]
            outcome.notes[f"{way}_to_batch"] = round(median(ratios), 3)


def _compare(alone: list[dict[str, float]], speeds: dict[str, list[float]]) -> list[Limit]:
    """Medians over the rounds; a ratio is taken within its round."""
    found = []
    for part in alone[0]:
        of = {
            way: round(median(mine / one[part] for mine, one in zip(values, alone, strict=True)), 3)
            for way, values in speeds.items()
        }
        found.append(Limit(part, median(one[part] for one in alone), of))
    return found
