"""``processes``: several processes open a store that is not there yet, and write, search and compact it at once."""

from __future__ import annotations

import multiprocessing
import random
import time
from itertools import cycle
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmem import ALL, Memory
from stress.options import Json, Path_, Seed
from stress.outcome import Outcome, plain
from stress.store import fresh_folder, progress
from stress.victim import HashedWords, settings_of, text_of

TOLD_EACH = 10
"""One acknowledgement in so many is handed to a reader, which must find it with its next call."""
SIZES = (1, 1, 7, 50, 100)
ARENA_LIMIT = 5_000
"""Below the records of a writer, so that scopes outgrow memory on the way."""


def processes(
    writers: Annotated[int, typer.Option(min=1, max=16, help="Processes that add.")] = 4,
    readers: Annotated[int, typer.Option(min=1, max=16, help="Processes that search.")] = 4,
    records: Annotated[int, typer.Option(min=1, max=1_000_000, help="Records that each writer adds.")] = 10_000,
    seed: Seed = 0,
    path: Path_ = None,
    json_file: Json = None,
) -> None:
    """Write, search and compact one store from several processes, and count what arrived.

    All of them open the store at the same moment, before it exists. Each writer adds as a user of its own; readers
    search every user, open the store anew now and then, and are told of records that were just acknowledged, which
    their next call must find.
    """
    outcome = Outcome("processes", plain(locals()))
    adding, told = outcome.figure("add"), outcome.figure("told, then found")
    context = multiprocessing.get_context("spawn")
    users = [f"user-{n}" for n in range(writers)]
    expected: dict[str, tuple[str, str]] = {}
    looked = 0
    with fresh_folder(path) as folder, progress("records", writers * records) as ticker:
        started = time.perf_counter()
        pipes, children, asking = dict[Any, str](), list[Any](), list[Connection]()
        for n in range(writers + readers):
            ours, theirs = context.Pipe()
            target, extra = (_write, (users[n], records)) if n < writers else (_read, (users, seed + n))
            child = context.Process(target=target, args=(theirs, folder, *extra), daemon=True)
            child.start()
            theirs.close()
            children.append(child)
            pipes[ours] = users[n] if n < writers else ""
            if n >= writers:
                asking.append(ours)
        turns, writing, acknowledged = cycle(asking), writers, 0
        while pipes:
            for pipe in wait(list(pipes)):
                assert isinstance(pipe, Connection)
                try:
                    what, *words = pipe.recv()
                except (EOFError, OSError):
                    del pipes[pipe]
                    continue
                if what == "added":
                    seconds, ids, texts = words
                    adding.record(seconds, len(ids))
                    expected.update(zip(ids, ((pipes[pipe], text) for text in texts), strict=True))
                    acknowledged += 1
                    if acknowledged % TOLD_EACH == 0:
                        next(turns).send((ids[-1], pipes[pipe], texts[-1]))
                    ticker.at(len(expected))
                elif what == "written":
                    writing -= 1
                    if not writing:
                        adding.seconds = time.perf_counter() - started
                        for reader in asking:
                            reader.send(None)
                elif what == "found":
                    told.record(words[0])
                elif what == "looked":
                    looked += words[0]
                else:
                    outcome.checks.problems.append(f"{pipes[pipe] or 'a reader'}: {words[0]}")
        for child in children:
            child.join(60)
            if child.exitcode:
                outcome.checks.problems.append(f"a process ended with {child.exitcode}")
        told.seconds = adding.seconds
        with Memory(folder, settings=settings_of(ARENA_LIMIT), embedder=HashedWords()) as memory:
            outcome.measure_store(memory, folder)
            found = {one.id: (one.user_id, one.content) for one in memory.iterate(user_id=ALL)}
            report = memory.verify()
        checks = outcome.checks
        checks.compare(expected, found)
        checks.vectors = report.counts["lancedb"]
        checks.problems += report.problems
        if len(expected) != writers * records:
            checks.problems.append(f"{len(expected)} acknowledged instead of {writers * records}")
    outcome.notes = {"acknowledged": len(expected), "hits_checked": looked, "told_to_readers": told.operations}
    outcome.finish(json_file)


def _opened(folder: Path) -> Memory:
    return Memory(folder, settings=settings_of(ARENA_LIMIT), embedder=HashedWords())


def _write(pipe: Connection, folder: Path, user: str, records: int) -> None:
    try:
        with _opened(folder) as memory:
            done, sizes = 0, cycle(SIZES)
            while done < records:
                texts = [f"{user} {text_of(n, 0)}" for n in range(done, min(records, done + next(sizes)))]
                at = time.perf_counter()
                if len(texts) == 1:
                    ids = [memory.add(texts[0], user_id=user).id]
                else:
                    ids = [one.id for one in memory.add_many(texts, user_id=user)]
                pipe.send(("added", time.perf_counter() - at, ids, texts))
                before, done = done, done + len(texts)
                if done // 3_000 != before // 3_000:
                    memory.compact()
        pipe.send(("written",))
    except BaseException as exc:
        pipe.send(("failed", f"{type(exc).__name__}: {exc}"))
        raise


def _read(pipe: Connection, folder: Path, users: list[str], seed: int) -> None:
    pick, looked = random.Random(seed), 0
    memory = _opened(folder)
    try:
        while True:
            if pick.random() < 0.02:
                memory.close()
                memory = _opened(folder)
            user = pick.choice(users)
            mode = pick.choice(["vector", "keyword", "hybrid"])
            for hit in memory.search("copper garden river", user_id=user, mode=mode):
                looked += 1
                if hit.record.user_id != user or not hit.content.startswith(f"{user} "):
                    pipe.send(("failed", f"a search of {user} found {hit.content!r} of {hit.record.user_id}"))
            while pipe.poll():
                told = pipe.recv()
                if told is None:
                    pipe.send(("looked", looked))
                    return
                id, user, text = told
                at = time.perf_counter()
                hits = [hit.id for hit in memory.search(text, user_id=user, limit=3)]
                pipe.send(("found", time.perf_counter() - at))
                record = memory.get(id)
                if id not in hits or record is None or record.content != text:
                    pipe.send(("failed", f"{id} of {user} was acknowledged and is not found"))
    except BaseException as exc:
        pipe.send(("failed", f"{type(exc).__name__}: {exc}"))
        raise
    finally:
        memory.close()
