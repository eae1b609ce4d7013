"""``backup``: what backups take of time and memory, and what they cost those who write meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agentmem import Memory, Settings, restore
from stress.measure import peak_rss_mb
from stress.options import Json
from stress.store import progress
from stress.victim import HashedWords, text_of

DIM = 256
CHUNK = 1_000
USERS = 1_000
PACED = 1_000
"""Adds a second, of a writer that does not write as fast as it can."""
_WARM_S = 1.0
WHO = ("nobody", "itself", "another process")
"""Who backs a writer's store up."""


def backup(
    records: Annotated[int, typer.Option(min=100, max=10_000_000, help="Records in the store.")] = 100_000,
    pairs: Annotated[int, typer.Option(min=0, max=100, help="Runs of each writer.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long each of those writes.")] = 8,
    interval: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds between increments.")] = 2,
    path: Annotated[
        Path | None,
        typer.Option(help="Folder for the store and its backups; a store that is there is used, and kept."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Back a store up, restore it, verify it, and write while increments are made; each step is a process of its own.

    Writers run without increments, with those that they make themselves, and with those that another process makes, in
    turns: one at 1,000 adds a second, whose cost is the time that its calls take, and one at full speed, whose cost is
    what it no longer adds. Vectors have 256 numbers.
    """
    with tempfile.TemporaryDirectory(prefix="agentmem-backup-") as name, progress("steps", 4 + 2 * pairs) as ticker:
        folder = Path(name) if path is None else path
        if not (folder / "store").exists():
            _step("fill", folder, records=records)
        ticker.at(1)
        steps = dict[str, dict[str, Any]]()
        for number, step in enumerate(("full", "restore", "verify")):
            steps[step] = _step(step, folder)
            ticker.at(2 + number)
        costs = {f"{speed}, backed up by {who}": list[float]() for speed in ("paced", "full speed") for who in WHO[1:]}
        runs = product(range(pairs), ("paced", "full speed"))
        for done, (number, speed) in enumerate(runs, 1):
            found = dict[str, float]()
            for who in WHO[number % 3 :] + WHO[: number % 3]:
                step = _step("write", folder, speed=speed, seconds=seconds, interval=interval, who=who)
                found[who] = step["cost"]
            for who in WHO[1:]:
                costs[f"{speed}, backed up by {who}"].append(100 * (found[who] / found[WHO[0]] - 1))
            ticker.at(4 + done)
    outcome = {
        "command": "backup",
        "steps": steps,
        "writers_percent": {
            kind: {"median": round(median(each), 1), "all": [round(one, 1) for one in each]}
            for kind, each in costs.items()
            if each
        },
        "ok": steps["verify"]["ok"] and steps["restore"]["records"] == steps["full"]["records"],
    }
    if json_file is not None:
        json_file.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    _show(outcome)
    if not outcome["ok"]:
        raise typer.Exit(1)


def _step(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Run a step in a process of its own; what it found."""
    task = json.dumps({"step": name, "folder": str(folder), **more})
    done = subprocess.run(
        [sys.executable, "-m", "stress.backups", task], cwd=Path(__file__).parents[1], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _settings(folder: Path, interval: float = 0) -> Settings:
    chosen = {"url": str(folder / "backups"), "interval_s": interval, "prove_every_hours": 0}
    return Settings(backup=chosen, embedding_cache_size=0, lifecycle={"sweep_interval_s": 0})


def _opened(folder: Path, interval: float = 0, store: str = "store") -> Memory:
    return Memory(folder / store, settings=_settings(folder, interval), embedder=HashedWords(DIM))


def fill(folder: Path, records: int) -> dict[str, Any]:
    """Add that many records of a thousand users."""
    items = ({"content": text_of(n, 1), "user_id": f"user-{n % USERS}"} for n in range(records))
    with _opened(folder) as memory:
        for _ in memory.add_stream(items, chunk=CHUNK):
            pass
        memory.flush()
    return {}


def full(folder: Path) -> dict[str, Any]:
    """A full backup."""
    with _opened(folder) as memory:
        memory.warm_up()
        before, begun = peak_rss_mb(), time.perf_counter()
        made = memory.backup.create(new_lineage=True)
        took = time.perf_counter() - begun
    return {
        "seconds": round(took, 1), "records": made.records, "mb": round(made.bytes / 2**20), **_memory(before)
    }  # fmt: skip


def again(folder: Path) -> dict[str, Any]:
    """A store that is made of it."""
    into, before, begun = folder / "restored", peak_rss_mb(), time.perf_counter()
    shutil.rmtree(into, ignore_errors=True)
    report = restore(folder / "backups", into)
    took = time.perf_counter() - begun
    shutil.rmtree(into)
    return {"seconds": round(took, 1), "records": report.records, **_memory(before)}


def verify(folder: Path) -> dict[str, Any]:
    """A store that is made of it and compared."""
    with _opened(folder) as memory:
        memory.warm_up()
        before, begun = peak_rss_mb(), time.perf_counter()
        report = memory.backup.verify()
        took = time.perf_counter() - begun
    return {"seconds": round(took, 1), "records": report.counts["compared"], "ok": report.ok, **_memory(before)}


def _memory(before: float) -> dict[str, float]:
    return {"peak_mb": round(peak_rss_mb()), "grown_mb": round(peak_rss_mb() - before)}


def write(folder: Path, speed: str, seconds: float, interval: float, who: str) -> dict[str, Any]:
    """Add to a store of its own; ``cost`` is the seconds that an add takes."""
    own = folder / "written"
    shutil.rmtree(own, ignore_errors=True)
    size, spent, added = (100, 0.0, 0) if speed == "paced" else (500, 0.0, 0)
    items = [[{"content": text_of(n, k), "user_id": f"user-{k % 20}"} for k in range(size)] for n in range(50)]
    with _opened(own, interval if who == "itself" else 0) as memory, ExitStack() as stack:
        memory.add_many(items[0])
        time.sleep(_WARM_S)
        _wait_for_full(memory)
        if who == "another process":
            stack.enter_context(_another(folder, interval))
        begun = time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            number = added // size
            batch = [{**item, "content": f"{item['content']} {number}"} for item in items[number % len(items)]]
            start = time.perf_counter()
            memory.add_many(batch)
            added, spent = added + size, spent + time.perf_counter() - start
            if speed == "paced":
                time.sleep(max(0.0, begun + added / PACED - time.perf_counter()))
        took = now - begun
    shutil.rmtree(own)
    return {"cost": (spent if speed == "paced" else took) / added, "adds_per_second": round(added / took)}


def _wait_for_full(memory: Memory) -> None:
    """The first increment is all there is."""
    while (health := memory.health().backup) is not None and health.behind:
        time.sleep(0.05)


@contextmanager
def _another(folder: Path, interval: float) -> Generator[None]:
    """A process that backs up what is written, until it is stopped."""
    task = json.dumps({"step": "follow", "folder": str(folder), "interval": interval})
    command = [sys.executable, "-m", "stress.backups", task]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("the process that backs up did not begin")
        yield
        _, __ = process.communicate()
        if process.returncode:
            raise RuntimeError("the process that backs up failed")


def follow(folder: Path, interval: float) -> dict[str, Any]:
    """Back up what another process writes."""
    with _opened(folder / "written", interval) as memory:
        _wait_for_full(memory)
        print("ready", flush=True)
        sys.stdin.read()
        health = memory.health().backup
        if health is None or health.last_error is not None:
            raise RuntimeError(f"backing up failed: {health}")
    return {}


STEPS = {"fill": fill, "full": full, "restore": again, "verify": verify, "write": write, "follow": follow}


def _show(outcome: dict[str, Any]) -> None:
    table = Table(title="backup", title_justify="left")
    for column in ("step", "records", "seconds", "peak MB", "of which for it"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, found in outcome["steps"].items():
        figures = (found["records"], found["seconds"], found["peak_mb"], found["grown_mb"])
        table.add_row(step, *[f"{figure:,}" for figure in figures])
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for kind, cost in outcome["writers_percent"].items():
        console.print(f"writers, {kind}: {cost['median']:+.1f} % ({cost['all']})")


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(STEPS[task.pop("step")](Path(task.pop("folder")), **task)), flush=True)
    os._exit(0)
