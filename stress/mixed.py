"""``mixed``: readers and writers at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from agentmem import AsyncMemory, Memory
from stress.ledger import Ledger, check
from stress.loading import CHUNK, user_of
from stress.options import Duration, Embedder, Json, Path_, Records, Seed, Texts, Users
from stress.outcome import Outcome, plain
from stress.store import Ticker, fresh_folder, opened, progress
from stress.texts import Profile, maker, question
from stress.traffic import Traffic, UserState

Readers = Annotated[int, typer.Option(min=0, max=1_000, help="Callers that search, one search after the other.")]
Writers = Annotated[int, typer.Option(min=0, max=1_000, help="Callers that add, update and delete.")]


def mixed(
    readers: Readers = 4,
    writers: Writers = 4,
    users: Users = 100,
    records: Records = 10_000,
    duration: Duration = 10,
    profile: Texts = Profile.DIALOGUE,
    embedder: Embedder = None,
    seed: Seed = 7,
    path: Path_ = None,
    json: Json = None,
) -> None:
    """Fill a new store, then search, add, update and delete at the same time; every answer is checked as it comes."""
    outcome = Outcome("mixed", plain(locals()))
    with fresh_folder(path) as folder, opened(folder, embedder) as memory:
        traffic = prepare(outcome, memory, users, records, profile, seed)
        with progress("mixed", duration) as ticker:
            asyncio.run(_run(traffic, folder, embedder, (readers, writers), duration, ticker))
        outcome.measure_store(memory, folder)
        outcome.checks.merge(check(memory, traffic.ledger))
    outcome.finish(json)


def prepare(outcome: Outcome, memory: Memory, users: int, records: int, profile: Profile, seed: int) -> Traffic:
    """Fill the store with ``records`` records, shared out among the users."""
    ledger, text_of = Ledger(), maker(profile, seed)
    states = [UserState() for _ in range(users)]
    for start in range(0, records, CHUNK):
        numbers = range(start, min(start + CHUNK, records))
        items = [{"content": text_of(n // 100, n % 100), "user_id": user_of(n % users)} for n in numbers]
        for number, item, added in zip(numbers, items, memory.add_many(items), strict=True):
            ledger.added(item["user_id"], item["content"], added.id)
            states[number % users].ids.append(added.id)
            states[number % users].added += 1
    return Traffic(outcome, ledger, text_of, question(seed), seed, states, most_records=max(2 * records, 1_000_000))


async def _run(
    traffic: Traffic, folder: Path, embedder: str | None, callers: tuple[int, int], seconds: float, ticker: Ticker
) -> None:
    async with AsyncMemory(folder, embedder=embedder) as memory:
        await asyncio.gather(traffic.run(memory, *callers, seconds), _show(traffic, ticker, seconds))


async def _show(traffic: Traffic, ticker: Ticker, seconds: float) -> None:
    spent = 0.0
    while spent < seconds:
        await asyncio.sleep(min(0.5, seconds - spent))
        spent += 0.5
        ticker.at(min(spent, seconds), f"{traffic.operations:,} operations")
