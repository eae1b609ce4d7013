"""One run of ``pairs`` in a process of its own: a fixed amount of work, and how long it took.

``pairs`` starts this file by its path, not as a part of the package ``stress``: so one script measures both versions,
with the agentmem that ``PYTHONPATH`` names. It uses nothing else but the standard library, and of agentmem only what
both versions must have: the public API. The job comes as JSON on stdin, the seconds go to stdout's last line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import agentmem
from agentmem import AsyncMemory, Memory

BATCH = 100
CHUNK = 1_000
USERS = 100
"""That batches and single adds are spread over, as the other commands do it."""
TASKS = 64
LIMIT = 10
OWNER = "owner"
"""Of the scope that is searched."""
Job = dict[str, Any]


def fill(job: Job) -> float:
    """Make the store that is searched later, and leave nothing to be done in it."""
    with Memory(job["folder"]) as memory:
        for first in range(0, len(job["texts"]), CHUNK):
            memory.add_many(job["texts"][first : first + CHUNK], user_id=OWNER)
        memory.search("warm up", user_id=OWNER)
        memory.flush()
    return 0.0


def batch(job: Job) -> float:
    """Seconds for adding the texts in batches, one after the other."""
    texts, ids = job["texts"], list[str]()
    with _warm(job) as memory:
        start = time.perf_counter()
        for number, first in enumerate(range(0, len(texts), BATCH)):
            added = memory.add_many(texts[first : first + BATCH], user_id=f"user-{number % USERS}")
            ids += [one.id for one in added]
        return _all_of(texts, ids, time.perf_counter() - start)


def single(job: Job) -> float:
    """Seconds for adding the texts one by one."""
    texts, ids = job["texts"], list[str]()
    with _warm(job) as memory:
        start = time.perf_counter()
        for number, text in enumerate(texts):
            ids.append(memory.add(text, user_id=f"user-{number % USERS}").id)
        return _all_of(texts, ids, time.perf_counter() - start)


def concurrent(job: Job) -> float:
    """Seconds until all texts are added by tasks of one loop, each of which adds one by one."""
    texts, ids = job["texts"], list[str]()

    async def adder(memory: AsyncMemory, task: int) -> None:
        for text in texts[task::TASKS]:
            ids.append((await memory.add(text, user_id=f"user-{task}")).id)

    async def add() -> float:
        async with AsyncMemory(job["folder"]) as memory:
            start = time.perf_counter()
            await asyncio.gather(*(adder(memory, task) for task in range(TASKS)))
            return time.perf_counter() - start

    with _warm(job):  # the clients of one path share what is warm
        return _all_of(texts, ids, asyncio.run(add()))


def search(job: Job) -> float:
    """Seconds for a hybrid search, the median over the queries, each of which is asked once."""
    warming, *queries = job["queries"]
    if len(set(queries)) < len(queries):
        raise RuntimeError("a query comes twice; the second time, the cache would answer")
    taken = list[float]()
    with Memory(job["folder"]) as memory:
        memory.search(warming, user_id=OWNER, limit=LIMIT)  # loads the model, and the scope into memory
        gc.collect()
        for query in queries:
            start = time.perf_counter()
            hits = memory.search(query, user_id=OWNER, limit=LIMIT)
            taken.append(time.perf_counter() - start)
            if len(hits) != LIMIT:
                raise RuntimeError(f"{len(hits)} hits instead of {LIMIT} for {query!r}")
    return median(taken)


WORK: dict[str, Callable[[Job], float]] = {
    "fill": fill,
    "batch": batch,
    "single": single,
    "concurrent": concurrent,
    "search": search,
}


def _warm(job: Job) -> Memory:
    """A client on a new store that has done everything once: LanceDB is loaded now, not in the middle of the work."""
    memory = Memory(job["folder"])
    memory.add_many([f"warm up {number}" for number in range(BATCH)], user_id="warm-up")
    memory.add("warm up", user_id="warm-up")
    memory.search("warm up", user_id="warm-up")
    memory.flush()
    gc.collect()
    return memory


def _all_of(texts: list[str], ids: list[str], seconds: float) -> float:
    """``seconds``, if each text became a record of its own."""
    if len(set(ids)) != len(texts):
        raise RuntimeError(f"{len(texts)} texts became {len(set(ids))} records")
    return seconds


def main() -> None:
    job = json.load(sys.stdin)
    if not Path(agentmem.__file__).is_relative_to(job["package"]):
        raise RuntimeError(f"agentmem comes from {agentmem.__file__}, not from {job['package']}")
    print(WORK[job["work"]](job))


if __name__ == "__main__":
    main()
