"""``swaps``: replace the store under several writing processes at random instants, and look where everything is."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from agentmem import ALL, Memory, StoreError, StoreGoneError
from stress.options import Json, Path_, Seed
from stress.outcome import Outcome, plain
from stress.store import fresh_folder, progress
from stress.victim import HashedWords, settings_of, text_of

SIZES = (1, 1, 2, 20)
MARK = "which"
"""The id of the record that says which store this is."""


class How(StrEnum):
    """How a store is replaced."""

    RENAMED = "renamed"
    DELETED = "deleted"
    DATABASE_ONLY = "database-only"
    INSIDE = "inside"


def swaps(
    writers: Annotated[int, typer.Option(min=1, max=16, help="Processes that add.")] = 4,
    times: Annotated[int, typer.Option(min=1, max=10_000, help="How often the store is replaced.")] = 100,
    every: Annotated[float, typer.Option(min=0.01, max=60, help="Seconds between two of them, on average.")] = 0.4,
    how: Annotated[How | None, typer.Option(help="In one way only; by default all take turns.")] = None,
    seed: Seed = 0,
    path: Path_ = None,
    json_file: Json = None,
) -> None:
    """Replace the store under processes that write to it, and look where everything is that was acknowledged.

    Each store says which one it is, and each writer puts that into what it adds. The folder is renamed and another put
    in its place, or it is deleted first, or the database alone is replaced beside its log, or all but the lock files.
    The old database and its log are kept by further names. In the end each store must hold exactly its own records, and
    all of those that were acknowledged.
    """
    outcome = Outcome("swaps", plain(locals()))
    adding, pick = outcome.figure("add"), random.Random(seed)
    context = multiprocessing.get_context("spawn")
    with fresh_folder(path) as folder, progress("swaps", times) as ticker:
        folder.mkdir(parents=True, exist_ok=True)
        live, place = folder / "live", _Place(folder)
        place.make(0).rename(live)
        pipes, children = dict[Connection, int](), list[Any]()
        for n in range(writers):
            ours, theirs = context.Pipe()
            children.append(context.Process(target=_write, args=(theirs, live, n), daemon=True))
            children[-1].start()
            theirs.close()
            pipes[ours] = n
        acknowledged = dict[str, tuple[int, str]]()

        def listen() -> None:
            left = set(pipes)
            while left:
                for pipe in wait(list(left)):
                    assert isinstance(pipe, Connection)
                    try:
                        what, *words = pipe.recv()
                    except (EOFError, OSError):
                        left.discard(pipe)
                        continue
                    if what == "added":
                        seconds, number, ids, texts = words
                        adding.record(seconds, len(ids))
                        acknowledged.update(zip(ids, ((number, text) for text in texts), strict=True))
                    elif what == "error":
                        noticed[words[0]] += 1
                    else:
                        outcome.checks.problems.append(f"writer {pipes[pipe]}: {words[0]}")

        noticed = Counter[str]()
        listener, began = Thread(target=listen), time.perf_counter()
        listener.start()
        for number in range(1, times + 1):
            fresh = place.make(number)
            time.sleep(pick.uniform(0, 2 * every))
            place.swap(live, fresh, number - 1, how or pick.choice(list(How)))
            ticker.at(number)
        time.sleep(every)
        for pipe in pipes:
            with suppress(OSError):
                pipe.send("stop")
        for child in children:
            child.join(60)
            if child.exitcode:
                outcome.checks.problems.append(f"a writer ended with {child.exitcode}")
        listener.join(60)
        adding.seconds = time.perf_counter() - began
        outcome.notes = {
            "acknowledged": len(acknowledged),
            **dict(noticed),
            **_compare(outcome, place, live, acknowledged),
        }
    outcome.finish(json_file)


class _Place:
    """The stores of a run: the one in use, those to come, and those that were replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs = set[int]()
        self.strays = 0
        """Stores that writers made in the moment without one."""

    def make(self, number: int) -> Path:
        """A new store that says its number."""
        path = self._folder / "coming"
        with _opened(path) as memory:
            memory.add(f"store {number}", id=MARK)
        return path

    def kept(self, number: int) -> Path:
        return self._folder / f"store-{number}"

    def swap(self, live: Path, fresh: Path, number: int, how: How) -> None:
        """Put a new store in the place of the one in use, which is kept as ``number``."""
        aside = self.kept(number)
        if how is How.RENAMED:
            live.rename(aside)
        else:
            # Further names of the same files: whoever has them open goes on writing to these.
            aside.mkdir()
            os.link(live / "agentmem.db", aside / "agentmem.db")
            with suppress(FileNotFoundError):
                log = (live / "agentmem.db-wal").stat().st_ino
                if log not in self._logs:  # else it is still that of the one before
                    self._logs.add(log)
                    os.link(live / "agentmem.db-wal", aside / "agentmem.db-wal")
        if how is How.DELETED:
            while live.exists():
                shutil.rmtree(live, ignore_errors=True)
        elif how is How.DATABASE_ONLY:
            os.replace(fresh / "agentmem.db", live / "agentmem.db")
            shutil.rmtree(fresh)
            return
        elif how is How.INSIDE:
            for name in ("agentmem.db", "agentmem.db-wal", "agentmem.db-shm"):
                (live / name).unlink(missing_ok=True)
            os.rename(fresh / "agentmem.db", live / "agentmem.db")
            shutil.rmtree(fresh)
            return
        while True:
            try:
                fresh.rename(live)
                return
            except OSError:
                self.strays += 1
                with suppress(FileNotFoundError):
                    live.rename(self._folder / f"stray-{self.strays}")


def _compare(outcome: Outcome, place: _Place, live: Path, acknowledged: dict[str, tuple[int, str]]) -> dict[str, int]:
    """Look into each store: nothing of another one, everything of its own."""
    problems, unnoted, times = outcome.checks.problems, 0, int(outcome.options["times"])
    expected = dict[int, dict[str, str]]()
    for id, (number, text) in acknowledged.items():
        expected.setdefault(number, {})[id] = text
    for number in range(times + 1):
        with _opened(live if number == times else place.kept(number)) as memory:
            memory.flush()
            report = memory.verify()
            found = {one.id: one.content for one in memory.iterate(user_id=ALL) if one.id != MARK}
        problems += [f"store {number}: {problem}" for problem in report.problems]
        own = expected.get(number, {})
        lost = [text for id, text in own.items() if found.get(id) != text]
        strangers = [text for text in found.values() if not text.startswith(f"s{number} ")]
        problems += [f"store {number}: {text!r} was acknowledged and is not there" for text in lost[:5]]
        problems += [f"store {number}: {text!r} belongs to another one" for text in strangers[:5]]
        unnoted += len(found.keys() - own.keys())
    return {"not acknowledged, and there": unnoted, "stores made in between": place.strays}


def _opened(folder: Path) -> Memory:
    return Memory(folder, settings=settings_of(5_000), embedder=HashedWords())


def _write(pipe: Connection, live: Path, writer: int) -> None:
    """Add to whatever lies there, until told to stop; each error means to close and to open again."""
    done = 0
    try:
        while not pipe.poll():
            memory = _opened(live)
            try:
                marked = memory.get(MARK)
                if marked is None:
                    time.sleep(0.01)  # one that was made in between
                    continue
                number = int(marked.content.split()[1])
                while not pipe.poll():
                    size = SIZES[done % len(SIZES)]
                    texts = [f"s{number} w{writer} {text_of(done + n, writer)}" for n in range(size)]
                    at = time.perf_counter()
                    added = memory.add_many(texts, user_id="ana") if size > 1 else [memory.add(texts[0], user_id="ana")]
                    pipe.send(("added", time.perf_counter() - at, number, [one.id for one in added], texts))
                    done += size
                    if done % 40 == 0:
                        for hit in memory.search(texts[0], user_id="ana"):
                            if not hit.content.startswith(f"s{number} "):
                                pipe.send(("failed", f"a search in store {number} found {hit.content!r}"))
            except StoreGoneError:
                pipe.send(("error", "StoreGoneError"))
            except StoreError as exc:
                pipe.send(("failed", f"{type(exc).__name__}: {exc}"))
            finally:
                memory.close()
    except BaseException as exc:
        pipe.send(("failed", f"{type(exc).__name__}: {exc}"))
        raise
