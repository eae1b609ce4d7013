"""``interrupts``: programs that use a store where others do not look: signal handlers, finalizers, the way out."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from agentmem import Memory
from stress.interrupted import Job
from stress.options import Json, Seed
from stress.outcome import console
from stress.store import progress
from stress.victim import HashedWords

WAYS = ("close", "add close", "add", "exit", "atexit", "default")
"""How programs end that are told to: what their handler does before it leaves, or that there is none."""
EACH = 200
"""Interrupts of one program; then the next one begins with a new process and a new store."""
PATIENCE = 10.0
"""Seconds within which a program is to end."""


class Program(StrEnum):
    """What is interrupted, and by what; see ``interrupted``."""

    SCRIPT = "script"
    RAISING = "raising"
    LOOP = "loop"
    THREADS = "threads"
    FINALIZERS = "finalizers"
    ENDING = "ending"


@dataclass
class Tally:
    """The runs of one program."""

    runs: int = 0
    interrupts: int = 0
    acknowledged: int = 0
    hangs: int = 0
    lost: int = 0
    ghosts: int = 0
    refused: int = 0
    unclean: int = 0
    slowest_end_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.hangs or self.lost or self.ghosts or self.refused or self.unclean or self.problems)

    def to_dict(self) -> dict[str, Any]:
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in vars(self).items()}


def interrupts(
    count: Annotated[int, typer.Option("--count", min=1, help="Interrupts of each kind of program.")] = 1_000,
    exits: Annotated[int, typer.Option(min=0, help="Programs that are told to end.")] = 60,
    only: Annotated[list[Program] | None, typer.Option(help="These programs alone; repeatable.")] = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Use a store in signal handlers, in finalizers and on the way out; nothing may hang, nothing acknowledged be lost.

    A script, an event loop and a program with threads are interrupted at random instants by a handler that adds,
    searches, reads, updates, closes and opens; a script by one that raises; programs with a keen garbage collector use
    the store in finalizers, on whichever thread those run; writing programs are sent SIGTERM. Then each store is
    compared with what was acknowledged. What a call refuses counts as a failure, too.
    """
    pick, tallies, started = random.Random(seed), dict[str, Tally](), time.perf_counter()
    plan = list[tuple[Program, int]]()
    for program in only or Program:
        ending = program is Program.ENDING
        plan += [(program, 0)] * exits if ending else [(program, min(EACH, count - at)) for at in range(0, count, EACH)]
    with progress("programs", len(plan)) as ticker:
        for number, (program, wanted) in enumerate(plan):
            tally = tallies.setdefault(program.value, Tally())
            with tempfile.TemporaryDirectory(prefix="agentmem-interrupts-") as folder:
                _run(_job(program, wanted, Path(folder) / "store", number, pick), pick, tally)
            ticker.at(number + 1, f"{sum(one.hangs for one in tallies.values())} hang")
    outcome = {
        "command": "interrupts",
        "ok": all(tally.ok for tally in tallies.values()),
        "seconds": round(time.perf_counter() - started, 1),
        "options": {"count": count, "exits": exits, "seed": seed},
        "programs": {name: tally.to_dict() for name, tally in tallies.items()},
    }
    if json_file is not None:
        json_file.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    _show(outcome)
    if not outcome["ok"]:
        raise typer.Exit(1)


def _job(program: Program, wanted: int, path: Path, number: int, pick: random.Random) -> Job:
    return Job(
        program=program.value,
        path=str(path),
        seed=pick.randrange(1_000_000),
        interrupts=wanted,
        way=WAYS[number % len(WAYS)],
        large=number % 2 == 1,
        model=number % 5 == 4,
    )


def _run(job: Job, pick: random.Random, tally: Tally) -> None:
    """Run a program to its end, and look at what it left."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "stress.interrupted"],
            stdin=subprocess.PIPE, stdout=out, stderr=err, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write((job.to_json() + "\n").encode())
        child.stdin.close()
        if job.program == Program.ENDING:
            _tell_to_end(child, out.fileno(), pick, tally)
        code = child.wait()
        out.seek(0)
        err.seek(0)
        said, errors = out.read().decode(), err.read().decode()
    tally.runs += 1
    known, begun = dict[str, str](), set[str]()
    ended = False
    for text in said.splitlines(keepends=True):
        if not text.endswith("\n"):
            break  # cut off by the end
        line = json.loads(text)
        if "added" in line:
            known[line["added"]] = line["text"]
        elif "begin" in line:
            begun.add(line["begin"])
        elif "refused" in line:
            tally.refused += 1
            _note(tally, job, f"refused: {line['refused']}")
        elif "problem" in line:
            _note(tally, job, line["problem"])
        elif "done" in line:
            ended = True
            tally.interrupts += line["done"]
    if "Timeout (" in errors:
        tally.hangs += 1
        _note(tally, job, "it hung:\n" + errors)
    elif job.program == Program.ENDING:
        tally.interrupts += 1
        if code != (-signal.SIGTERM if job.way == "default" else 0) and code != -signal.SIGKILL:
            _note(tally, job, f"it ended with {code}:\n{errors}")
    elif not ended:
        _note(tally, job, f"it ended with {code}:\n{errors}")
    _compare(job, known, begun, tally)


def _tell_to_end(child: subprocess.Popen[bytes], out: int, pick: random.Random, tally: Tally) -> None:
    """Send SIGTERM at a random instant from when the program says that it is ready."""
    while child.poll() is None and b'"ready"' not in Path(f"/proc/self/fd/{out}").read_bytes():
        time.sleep(0.005)
    time.sleep(pick.uniform(0, 1))
    sent = time.perf_counter()
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        tally.hangs += 1
        child.send_signal(signal.SIGABRT)  # says where it stands
        tally.problems.append("a program did not end")
    tally.slowest_end_s = max(tally.slowest_end_s, time.perf_counter() - sent)


def _compare(job: Job, known: dict[str, str], begun: set[str], tally: Tally) -> None:
    """Everything acknowledged is there and is found; nothing is there that was never begun."""
    tally.acknowledged += len(known)
    with Memory(job.path, embedder=None if job.model else HashedWords()) as memory:
        there = {record.id: record for user in ("ada", "bob", "eve") for record in memory.iterate(user_id=user)}
        lost = [id for id, text in known.items() if id not in there or there[id].content != text]
        ghosts = [record for record in there.values() if record.content not in begun]
        tally.lost += len(lost)
        tally.ghosts += len(ghosts)
        for id in list(known)[-20:]:
            if id not in lost and id not in [hit.id for hit in memory.search(known[id], user_id=there[id].user_id)]:
                _note(tally, job, f"{known[id]!r} is not found")
        report = memory.verify()
        tally.unclean += not report.ok
    for problem in (*lost, *report.problems):
        _note(tally, job, problem)


def _note(tally: Tally, job: Job, problem: str) -> None:
    tally.problems.append(problem)
    print(f"{job.to_json()}: {problem}", file=sys.stderr, flush=True)


def _show(outcome: dict[str, Any]) -> None:
    names = [name for name in Tally().to_dict() if name != "problems"]
    table = Table(title="interrupts", title_justify="left")
    table.add_column("program")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for program, row in outcome["programs"].items():
        table.add_row(program, *[f"{row[name]:,}" for name in names])
    console.print(table)
    found = Counter(
        problem.split("\n", 1)[0][:120] for row in outcome["programs"].values() for problem in row["problems"]
    )
    for problem, times in found.most_common(10):
        console.print(f"{times} x {problem}", style="red", markup=False)
