"""``backup``: what backups take of time and memory, and what they cost those who write meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
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


def backup(
    records: Annotated[int, typer.Option(min=100, max=10_000_000, help="Records in the store.")] = 100_000,
    pairs: Annotated[int, typer.Option(min=0, max=100, help="Runs of a writer with and without increments.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long each of those writes.")] = 8,
    interval: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds between increments.")] = 2,
    path: Annotated[
        Path | None,
        typer.Option(help="Folder for the store and its backups; a store that is there is used, and kept."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Back a store up, restore it, verify it, and write while increments are made; each step is a process of its own.

    Writers run in pairs, with increments and without, in turns: one at 1,000 adds a second, whose cost is the time that
    its calls take, and one at full speed, whose cost is what it no longer adds. Vectors have 256 numbers.
    """
    with tempfile.TemporaryDirectory(prefix="agentmem-backup-") as name, progress("steps", 4 + 4 * pairs) as ticker:
        folder = Path(name) if path is None else path
        if not (folder / "store").exists():
            _step("fill", folder, records=records)
        ticker.at(1)
        steps = dict[str, dict[str, Any]]()
        for number, step in enumerate(("full", "restore", "verify")):
            steps[step] = _step(step, folder)
            ticker.at(2 + number)
        costs = dict[str, list[float]]()
        for number in range(pairs):
            for speed in ("paced", "full speed"):
                found = dict[float, float]()
                for chosen in (0.0, interval) if number % 2 else (interval, 0.0):
                    found[chosen] = _step("write", folder, speed=speed, seconds=seconds, interval=chosen)["cost"]
                costs.setdefault(speed, []).append(100 * (found[interval] / found[0.0] - 1))
                ticker.at(4 + 4 * number + 2)
    outcome = {
        "command": "backup",
        "steps": steps,
        "writers_percent": {
            speed: {"median": round(median(each), 1), "all": [round(one, 1) for one in each]}
            for speed, each in costs.items()
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


def write(folder: Path, speed: str, seconds: float, interval: float) -> dict[str, Any]:
    """Add to a store of its own; ``cost`` is the seconds that an add takes."""
    own = folder / "written"
    shutil.rmtree(own, ignore_errors=True)
    size, spent, added = (100, 0.0, 0) if speed == "paced" else (500, 0.0, 0)
    items = [[{"content": text_of(n, k), "user_id": f"user-{k % 20}"} for k in range(size)] for n in range(50)]
    with _opened(own, interval) as memory:
        memory.add_many(items[0])
        time.sleep(_WARM_S)
        while (health := memory.health().backup) is not None and health.behind:
            time.sleep(0.05)  # the first one is full
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


STEPS = {"fill": fill, "full": full, "restore": again, "verify": verify, "write": write}


def _show(outcome: dict[str, Any]) -> None:
    table = Table(title="backup", title_justify="left")
    for column in ("step", "records", "seconds", "peak MB", "of which for it"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, found in outcome["steps"].items():
        figures = (found["records"], found["seconds"], found["peak_mb"], found["grown_mb"])
        table.add_row(step, *[f"{figure:,}" for figure in figures])
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for speed, cost in outcome["writers_percent"].items():
        console.print(f"writers, {speed}: {cost['median']:+.1f} % (pairs: {cost['all']})")


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(STEPS[task.pop("step")](Path(task.pop("folder")), **task)), flush=True)
    os._exit(0)
