"""Filling a store before it is searched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from agentmem import Memory
from stress.ledger import Ledger
from stress.measure import Figure
from stress.store import Ticker
from stress.texts import Maker

CHUNK = 1_000
TOPICS = ("home", "work", "health", "travel", "food", "family", "music", "money", "sport", "garden")
"""A tenth of the records has each of them, as ``metadata["topic"]``."""


def user_of(number: int) -> str:
    return f"user-{number}"


def topic_of(number: int) -> str:
    return TOPICS[number % len(TOPICS)]


def fill(
    memory: Memory,
    ledger: Ledger,
    text_of: Maker,
    users: int,
    per_user: int,
    figure: Figure,
    ticker: Ticker,
    turns: int = 0,
) -> int:
    """Add ``per_user`` records for each user, 1,000 in a chunk whoever they belong to; returns the bytes of text.

    With ``turns`` that many of a user's records after each other are one conversation.

    ``figure.more["by_tenth"]`` has the speed of each tenth of the load, to see whether it falls as the store grows.
    """
    items = list[dict[str, Any]]()
    source = _items(text_of, users, per_user, turns)
    total, size = users * per_user, 0
    tenths, started, marked = list[float](), time.perf_counter(), time.perf_counter()

    def recorded() -> Iterator[dict[str, Any]]:
        for item in source:
            items.append(item)
            yield item

    for added in memory.add_stream(recorded(), chunk=CHUNK):
        now = time.perf_counter()
        figure.record(now - marked, len(added))
        marked = now
        for item, one in zip(items[: len(added)], added, strict=True):
            ledger.added(item["user_id"], item["content"], one.id)
            size += len(item["content"])
        del items[: len(added)]
        if figure.operations >= total * (len(tenths) + 1) / 10:
            tenths.append(now - started)
        ticker.at(figure.operations, f"loading: {figure.operations:,}")
    figure.seconds = time.perf_counter() - started
    steps = [end - begin for begin, end in zip([0.0, *tenths], tenths, strict=False)]
    figure.more["by_tenth"] = [round(total / 10 / step) if step else 0 for step in steps]
    return size


def _items(text_of: Maker, users: int, per_user: int, turns: int) -> Iterator[dict[str, Any]]:
    # Users take turns, as they would in a service, so that nobody's records lie side by side on the disk.
    for number in range(per_user):
        run = f"run-{number // turns}" if turns else None
        for user in range(users):
            topic = {"topic": topic_of(number)}
            yield {"content": text_of(user, number), "user_id": user_of(user), "run_id": run, "metadata": topic}
