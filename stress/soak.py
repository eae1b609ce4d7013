"""``soak``: the traffic of ``mixed`` for as long as you like, and whether anything grows or slows down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from agentmem import AsyncMemory
from stress.ledger import check
from stress.measure import files_and_bytes, rss_mb
from stress.mixed import Readers, Writers, prepare
from stress.options import Duration, Embedder, Json, Path_, Records, Seed, Texts, Users
from stress.outcome import Outcome, plain
from stress.store import Ticker, fresh_folder, opened, progress
from stress.texts import Profile
from stress.traffic import Traffic


def soak(
    duration: Duration = 600,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two samples.")] = 10,
    readers: Readers = 2,
    writers: Writers = 2,
    users: Users = 100,
    records: Records = 10_000,
    profile: Texts = Profile.DIALOGUE,
    embedder: Embedder = None,
    seed: Seed = 7,
    path: Path_ = None,
    json: Json = None,
) -> None:
    """Readers and writers for a given time; samples speed, memory, disk and files, and checks everything at the end."""
    outcome = Outcome("soak", plain(locals()))
    with fresh_folder(path) as folder, opened(folder, embedder) as memory:
        traffic = prepare(outcome, memory, users, records, profile, seed)
        with progress("soak", duration) as ticker:
            asyncio.run(_run(traffic, folder, embedder, (readers, writers), (duration, every), ticker))
        outcome.measure_store(memory, folder)
        outcome.checks.merge(check(memory, traffic.ledger))
    _trend(outcome)
    outcome.finish(json)


async def _run(
    traffic: Traffic,
    folder: Path,
    embedder: str | None,
    callers: tuple[int, int],
    times: tuple[float, float],
    ticker: Ticker,
) -> None:
    async with AsyncMemory(folder, embedder=embedder) as memory:
        await asyncio.gather(traffic.run(memory, *callers, times[0]), _sample(traffic, memory, folder, times, ticker))


async def _sample(
    traffic: Traffic, memory: AsyncMemory, folder: Path, times: tuple[float, float], ticker: Ticker
) -> None:
    seconds, every = times
    start, before, at = time.perf_counter(), 0, 0.0
    while at < seconds:
        await asyncio.sleep(min(every, seconds - at))
        now = time.perf_counter() - start
        health = await memory.health()
        files, size = files_and_bytes(folder)
        traffic.outcome.samples.append(
            {
                "seconds": round(now, 1),
                "ops_per_second": round((traffic.operations - before) / (now - at), 1),
                "records": len(traffic.ledger.users),
                "rss_mb": round(rss_mb(), 1),
                "disk_mb": round(size / 1_048_576, 1),
                "files": files,
                "vectors_behind": health.vectors_behind,
            }
        )
        before, at = traffic.operations, now
        ticker.at(now, f"{traffic.outcome.samples[-1]['ops_per_second']:,.0f} ops/s")


def _trend(outcome: Outcome) -> None:
    """The last quarter beside the second one: the first still warms up."""
    quarter = len(outcome.samples) // 4
    if quarter:
        early, late = outcome.samples[quarter : 2 * quarter], outcome.samples[-quarter:]
        outcome.notes["speed_late_to_early"] = round(
            _median(late, "ops_per_second") / _median(early, "ops_per_second"), 3
        )
        outcome.notes["rss_growth_mb"] = round(_median(late, "rss_mb") - _median(early, "rss_mb"), 1)
        outcome.notes["most_files"] = max(sample["files"] for sample in outcome.samples)


def _median(samples: Sequence[dict[str, Any]], key: str) -> float:
    return median(sample[key] for sample in samples) or 1.0
