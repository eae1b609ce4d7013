"""Many who put the same keys at once: from several processes, and as many creators of one key."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HashEmbedder

from agentmem import AsyncMemory, ConflictError, Memory

PROCESSES, KEYS, ROUNDS = 8, 60, 2
SHELF = ("shelf", "1")


def fill(path: Path, number: int, done: multiprocessing.Queue[Counter[str]]) -> None:
    """Put every key some times, one by one and together, and tell which puts were acknowledged."""
    puts = Counter[str]()
    with Memory(path, embedder=HashEmbedder()) as memory:
        for turn in range(ROUNDS):
            for n in range(KEYS):
                key = f"book {(n * (number + 1)) % KEYS}"
                memory.put(key, f"copy {number} {turn}", namespace=SHELF, user_id="lib")
                puts[key] += 1
            names = [f"book {n}" for n in range(0, KEYS, 2)]
            memory.put_many(
                [{"key": key, "content": f"many {number}"} for key in names], namespace=SHELF, user_id="lib"
            )
            puts.update(names)
    done.put(puts)


@pytest.mark.slow
def test_each_key_is_there_once_with_every_put(store: Path, open_memory: Callable[..., Memory]) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    others = [context.Process(target=fill, args=(store, number, done)) for number in range(PROCESSES)]
    for other in others:
        other.start()
    puts = Counter[str]()
    for _ in others:
        puts.update(done.get(timeout=120))
    for other in others:
        other.join(60)
        assert other.exitcode == 0
    memory = open_memory()
    records = {record.key: record for record in memory.iterate(user_id="lib", namespace=SHELF)}
    assert {key: record.version for key, record in records.items()} == puts
    assert memory.count(user_id="lib", under=()) == KEYS
    for record in records.values():
        assert [event.version for event in memory.history(record.id)] == list(range(1, record.version + 1))
    memory.flush()
    assert memory.verify().problems == []


async def create(path: Path, keys: int, creators: int) -> Counter[str]:
    winners = Counter[str]()

    async def one(memory: AsyncMemory, key: str, number: int) -> None:
        try:
            await memory.put(key, f"by {number}", namespace=SHELF, if_version=0)
        except ConflictError:
            return
        winners[key] += 1

    async with AsyncMemory(path, embedder=HashEmbedder()) as memory, asyncio.TaskGroup() as group:
        for number in range(creators):
            for key in range(keys):
                group.create_task(one(memory, str(key), number))
    return winners


def test_of_many_creators_one_wins(store: Path, open_memory: Callable[..., Memory]) -> None:
    assert asyncio.run(create(store, 20, 100)) == {str(key): 1 for key in range(20)}
    memory = open_memory()
    assert {record.version for record in memory.iterate(namespace=SHELF)} == {1}
    assert memory.count(namespace=SHELF) == 20
