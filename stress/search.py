"""``search``: how long a search takes, whether it finds what it must, and always ``limit`` hits of the right user."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from agentmem import AgentMemError, Memory, SearchResults, Settings
from agentmem.embedding import open_embedder
from stress.ledger import Ledger, check
from stress.loading import TOPICS, fill, user_of
from stress.measure import Figure, rss_mb
from stress.options import Embedder, Json, Path_, Seed, Texts
from stress.oracle import Oracle
from stress.outcome import Outcome, plain
from stress.store import fresh_folder, opened, progress
from stress.texts import Profile, maker, question

WAYS: dict[str, dict[str, Any]] = {
    "hybrid": {"mode": "hybrid"},
    "vector": {"mode": "vector"},
    "keyword": {"mode": "keyword"},
    "hybrid filtered": {"mode": "hybrid", "topics": 1},
    "vector filtered": {"mode": "vector", "topics": 1},
    "hybrid filtered 30 %": {"mode": "hybrid", "topics": 3},
    "vector filtered 30 %": {"mode": "vector", "topics": 3},
}
_LARGE = Settings().performance.arena_limit


class Engine(StrEnum):
    """The values of ``performance.large_engine``."""

    AUTO = "auto"
    RABITQ = "rabitq"
    INT8 = "int8"
    LANCEDB = "lancedb"


@dataclass
class Bench:
    """What the searches share."""

    memory: Memory
    outcome: Outcome
    ask: Iterator[str]
    rng: random.Random
    users: range
    per_user: int
    limit: int


def search(
    users: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Users; left out, 1,000, or 1 with a large scope.")
    ] = None,
    records: Annotated[int, typer.Option(min=1, max=10_000_000, help="Records per user.")] = 100,
    queries: Annotated[int, typer.Option(min=1, max=1_000_000, help="Searches of each kind at most.")] = 2_000,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds for each kind of search at most.")] = 10,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Hits asked for.")] = 10,
    checked: Annotated[int, typer.Option(min=0, help="Searches of each kind compared with brute force.")] = 50,
    turns: Annotated[
        int, typer.Option(min=0, help="Records of a conversation; 0: outside of any. Inside, recall is not measured.")
    ] = 0,
    active: Annotated[int | None, typer.Option(min=1, help="Only so many of the users search; left out, all.")] = None,
    warm: Annotated[
        bool, typer.Option(help="Let every user that searches do so once before measuring; they are cold without.")
    ] = True,
    engine: Annotated[
        Engine, typer.Option(help="What holds scopes that are too large to be searched exactly.")
    ] = Engine.AUTO,
    profile: Texts = Profile.DIALOGUE,
    embedder: Embedder = None,
    seed: Seed = 7,
    path: Path_ = None,
    json: Json = None,
) -> None:
    """Fill a new store, open it again, and search it: every query different, each user's scope in random order."""
    users = users or (1 if records > _LARGE else 1_000)
    outcome = Outcome("search", plain(locals()))
    ledger, rng, asked = Ledger(), random.Random(seed), question(seed)
    ask = map(asked, iter(range(10**9)))
    with fresh_folder(path) as folder:
        with opened(folder, embedder) as memory, progress("search: loading", users * records) as ticker:
            load = outcome.figure("load")
            text_bytes = fill(memory, ledger, maker(profile, seed), users, records, load, ticker, turns)
            memory.flush()
        start = time.perf_counter()
        settings = Settings(large_engine=engine.value, large_wait_s=3_600)
        with Memory(folder, embedder=embedder, settings=settings) as memory:
            # Spread evenly over the users, as those who are there at a time would be.
            searching = range(0, users, users // min(active or users, users))
            bench = Bench(memory, outcome, ask, rng, searching, records, limit)
            _open(bench, start)
            if warm:
                _warm(bench, duration)
            with progress("search", len(WAYS) * queries) as ticker:
                for position, (name, options) in enumerate(WAYS.items()):
                    figure = outcome.figure(name)
                    _measure(bench, figure, options, queries, duration)
                    ticker.at((position + 1) * queries, name)
            outcome.notes["arenas"] = {"exact": memory.stats().arenas, "large": memory.stats().large}
            outcome.notes["rss_mb"] = round(rss_mb())
            outcome.measure_store(memory, folder, text_bytes)
            if not turns:
                outcome.notes["recall"] = _recalls(bench, embedder, checked)
            outcome.checks.merge(check(memory, ledger))
    least = 1 if records <= _LARGE else 0.99
    if outcome.notes.get("recall", least) < least:
        outcome.checks.problems.append(f"recall is {outcome.notes['recall']}, and has to be {least}")
    outcome.finish(json)


def _open(bench: Bench, start: float) -> None:
    """Time from the constructor to the store being open and warm, and the first search after that."""
    bench.memory.get("no such id")
    bench.outcome.notes["open_ms"] = round((time.perf_counter() - start) * 1_000, 1)
    start = time.perf_counter()
    bench.memory.warm_up()
    bench.outcome.notes["warm_up_ms"] = round((time.perf_counter() - start) * 1_000, 1)
    figure = bench.outcome.figure("first search")
    _measure(bench, figure, {"mode": "hybrid"}, 1, 60)


def _warm(bench: Bench, seconds: float) -> None:
    """Each one's first search, in order: the scope is read from disk."""
    figure = bench.outcome.figure("first search of a user")
    start = time.perf_counter()
    for user in bench.users:
        _one(bench, figure, user, "hybrid", topics=0)
        if time.perf_counter() - start > 6 * seconds:
            break
    figure.seconds = time.perf_counter() - start


def _measure(bench: Bench, figure: Figure, options: dict[str, Any], queries: int, seconds: float) -> None:
    start = time.perf_counter()
    for _ in range(queries):
        user = bench.rng.choice(bench.users)
        _one(bench, figure, user, options["mode"], topics=options.get("topics", 0))
        if time.perf_counter() - start > seconds:
            break
    figure.seconds = time.perf_counter() - start


def _one(bench: Bench, figure: Figure, user: int, mode: Any, *, topics: int) -> tuple[str, SearchResults]:
    """One search, timed and checked: hits of this user and so many topics (0: all), and as many as there are."""
    query, chosen = next(bench.ask), bench.rng.sample(range(len(TOPICS)), topics or len(TOPICS))
    named = [TOPICS[topic] for topic in chosen]
    filters = {"topic": {"$in": named}} if topics else None
    found = SearchResults()
    try:
        with figure.timed():
            found = bench.memory.search(query, user_id=user_of(user), limit=bench.limit, mode=mode, filters=filters)
    except AgentMemError as exc:
        bench.outcome.errors[type(exc).__name__] += 1
        return query, found
    checks = bench.outcome.checks
    checks.cross_scope += sum(hit.record.user_id != user_of(user) for hit in found)
    checks.altered += sum(hit.record.metadata["topic"] not in named for hit in found)
    if mode != "keyword":  # which finds records with a word of the query only
        there = sum(len(range(topic, bench.per_user, len(TOPICS))) for topic in chosen)
        checks.short += len({hit.id for hit in found}) != min(bench.limit, there)
    return query, found


def _recalls(bench: Bench, embedder: str | None, count: int) -> float:
    """Mean recall of unfiltered searches against brute force."""
    model = open_embedder(embedder, cache_size=0)
    oracles: dict[int, Oracle] = {}
    recalls: list[float] = []
    for number in range(count):
        # Few users, so that few scopes are embedded again.
        user = bench.users[(number % 10) * max(1, len(bench.users) // 10) % len(bench.users)]
        if user not in oracles:
            oracles[user] = Oracle(bench.memory.iterate(user_id=user_of(user)), model)
        for mode in ("vector", "hybrid", "keyword"):
            query, hits = _one(bench, Figure(""), user, mode, topics=0)
            recalls.append(oracles[user].recall(query, mode, hits, bench.limit, datetime.now(UTC)))
    return round(sum(recalls) / len(recalls), 4) if recalls else 1.0
