"""``pairs``: is this checkout slower than that one? The same fixed work by both, in turns, in the same minutes.

In each round, and for each measurement, three processes run directly one after the other, in an order that rotates: *A*
and *A'* with the base, *B* with this checkout. What is reported of a measurement, over the rounds:

* ``ratio``  the median of B / sqrt(A * A')
* ``spread``  how far A' / A lies from 1, the median of max(A' / A, A / A') - 1: what the machine makes of no change
* ``excess``  ratio - 1 - spread, at least 0; the checkout counts as slower where this is above the tolerance

The true A' / A is 1. The median distance from it is half of the interquartile range where only chance is at work, and
more where the repeats drift apart. With normal errors it is 1.5 standard errors of the ratio with five rounds, and more
with more: the variance of B / sqrt(A * A') is 3/4 of that of A' / A, and a median of five scatters half as much as each
of them. With the tolerance on top, false alarms are rare on a busy machine, too; a slowdown must be larger there to be
seen.
"""

from __future__ import annotations

import json as jsons
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from stress.options import Json, Seed
from stress.outcome import Outcome, console, plain
from stress.store import progress
from stress.texts import Profile, maker, question

CURRENT = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).resolve().parent / "pair_run.py"
TIMEOUT = 600
_IMPORT = """
import time
start = time.perf_counter()
import agentmem
seconds = time.perf_counter() - start
print(agentmem.__file__)
print(seconds)
"""


class Measurement(StrEnum):
    """What is measured."""

    BATCH = "batch"
    SINGLE = "single"
    CONCURRENT = "concurrent"
    SEARCH = "search"
    SEARCH_LARGE = "search-large"
    IMPORT = "import"


@dataclass(frozen=True)
class Amount:
    """How much work: records that are added, or lie in the searched scope, then queries or processes."""

    records: int
    repeats: int
    what: str

    def scaled(self, scale: float) -> Amount:
        return Amount(max(10, round(self.records * scale)), max(1, round(self.repeats * scale)), self.what)

    def __str__(self) -> str:
        return self.what.format(self=self)


AMOUNTS = {
    Measurement.BATCH: Amount(40_000, 0, "{self.records:,} adds in batches of 100"),
    Measurement.SINGLE: Amount(1_000, 0, "{self.records:,} adds one by one"),
    Measurement.CONCURRENT: Amount(10_000, 0, "{self.records:,} adds by 64 tasks"),
    Measurement.SEARCH: Amount(1_000, 2_000, "a search in {self.records:,}, p50 of {self.repeats:,}"),
    Measurement.SEARCH_LARGE: Amount(50_000, 200, "a search in {self.records:,}, p50 of {self.repeats:,}"),
    Measurement.IMPORT: Amount(0, 15, "import agentmem, median of {self.repeats:,}"),
}
"""Two to six seconds a run."""
SEARCHES = (Measurement.SEARCH, Measurement.SEARCH_LARGE)
SMALL = AMOUNTS[Measurement.SEARCH].scaled(0.01)


class Failed(Exception):
    """A run did not come to its end; the text says why."""


@dataclass
class Trio:
    """The seconds of one measurement, round by round."""

    amount: Amount
    base: list[float] = field(default_factory=list)
    current: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(b / sqrt(a * a2) for a, b, a2 in zip(self.base, self.current, self.again, strict=True))

    @property
    def spread(self) -> float:
        return median(max(a / a2, a2 / a) - 1 for a, a2 in zip(self.base, self.again, strict=True))

    @property
    def excess(self) -> float:
        return max(0.0, self.ratio - 1 - self.spread)

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": str(self.amount),
            "base_ms": _ms(median(self.base + self.again)),
            "current_ms": _ms(median(self.current)),
            "ratio": round(self.ratio, 4),
            "spread": round(self.spread, 4),
            "excess": round(self.excess, 4),
            "rounds_ms": {name: list(map(_ms, getattr(self, name))) for name in ("base", "current", "again")},
        }


def pairs(
    base: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of the checkout that this one is compared with.")
    ],
    only: Annotated[
        list[Measurement] | None, typer.Option(help="Measure this alone; repeatable. Left out, everything.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds; fewer than five say little.")] = 5,
    tolerance: Annotated[float, typer.Option(min=0, help="Excess from which on this checkout is slower.")] = 0.05,
    scale: Annotated[
        float, typer.Option(min=0.0001, max=100, help="Part of the usual work; scopes are that much smaller, too.")
    ] = 1,
    seed: Seed = 7,
    json: Json = None,
) -> None:
    """Compare this checkout with another one: the same work in turns; exit code 1 if this one is slower."""
    if not (base / "agentmem" / "__init__.py").is_file():
        raise typer.BadParameter(f"{base} is no checkout: it has no agentmem/__init__.py", param_hint="--base")
    only = [name for name in Measurement if name in (only or Measurement)]
    outcome = Outcome("pairs", plain(locals() | {"only": ", ".join(only)}))
    trios = {name: Trio(AMOUNTS[name].scaled(scale)) for name in only}
    with tempfile.TemporaryDirectory(prefix="agentmem-pairs-") as folder:
        sides = Side(Path(folder) / "base", seed), Side(Path(folder) / "current", seed)
        for side, checkout in zip(sides, (base, CURRENT), strict=True):
            side.copy(checkout)
        try:
            _measure(trios, sides, rounds)
        except Failed as exc:
            outcome.checks.problems.append(str(exc))
        else:
            _judge(outcome, trios, tolerance)
    outcome.finish(json)


@dataclass
class Side:
    """One of the two versions: a copy of its package, and the stores that it filled.

    A copy, because a checkout may be edited while it is measured, and may be read-only: with no place for its compiled
    files, each import would compile it again.
    """

    folder: Path
    seed: int

    def copy(self, checkout: Path) -> None:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout / "agentmem", self.folder / "agentmem", ignore=ignored)

    def fill(self, name: Measurement, amount: Amount) -> None:
        self._child("fill", self._filled(name), self._texts(amount.records))

    def seconds(self, name: Measurement, amount: Amount) -> float:
        """Run a measurement once; searches get a copy of the store, since they leave traces in it."""
        if name is Measurement.IMPORT:
            return median(self._import() for _ in range(amount.repeats))
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            store = Path(folder) / "store"
            if name in SEARCHES:
                shutil.copytree(self._filled(name), store)
                return self._child("search", store, queries=list(map(question(self.seed), range(amount.repeats + 1))))
            return self._child(name.value, store, self._texts(amount.records))

    def _filled(self, name: Measurement) -> Path:
        return self.folder / name.value

    def _texts(self, number: int) -> list[str]:
        text_of = maker(Profile.DIALOGUE, self.seed)
        return [text_of(n // 100, n % 100) for n in range(number)]

    def _child(self, work: str, store: Path, texts: Sequence[str] = (), queries: Sequence[str] = ()) -> float:
        job = {"work": work, "package": str(self.folder), "folder": str(store), "texts": texts, "queries": queries}
        return float(self._python([str(SCRIPT)], jsons.dumps(job), work)[-1])

    def _import(self) -> float:
        where, seconds = self._python(["-c", _IMPORT], "", "import")
        if not Path(where).is_relative_to(self.folder):
            raise Failed(f"import: agentmem comes from {where}, not from {self.folder}")
        return float(seconds)

    def _python(self, arguments: list[str], given: str, what: str) -> list[str]:
        """The lines that a new process prints; -P keeps the script's own folder from being searched for modules.

        Compiled files are kept, whatever is usual here: an import that compiles is not what users wait for.
        """
        try:
            done = subprocess.run(
                [sys.executable, "-P", *arguments],
                input=given, capture_output=True, text=True, cwd=self.folder, timeout=TIMEOUT, check=False,
                env=os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": ""},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"{what} with {self.folder.name}: did not finish within {TIMEOUT} s") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise Failed(f"{what} with {self.folder.name}: {lines[-1][:300]}")
        return done.stdout.split("\n")[:-1]


def _measure(trios: dict[Measurement, Trio], sides: tuple[Side, Side], rounds: int) -> None:
    with progress("pairs", len(trios) * rounds) as ticker:
        ticker.at(0, "filling stores")
        # Also what compiles the package before anything is timed: without a search, a small store will do for that.
        amounts = {name: trio.amount for name, trio in trios.items() if name in SEARCHES}
        for side in sides:
            for name, amount in (amounts or {Measurement.SEARCH: SMALL}).items():
                side.fill(name, amount)
        for number in range(rounds):
            for done, (name, trio) in enumerate(trios.items()):
                ticker.at(number * len(trios) + done, f"round {number + 1}: {name.value}")
                turns = [(sides[0], trio.base), (sides[1], trio.current), (sides[0], trio.again)]
                first = number % len(turns)
                for side, found in turns[first:] + turns[:first]:
                    found.append(side.seconds(name, trio.amount))


def _judge(outcome: Outcome, trios: dict[Measurement, Trio], tolerance: float) -> None:
    outcome.notes["pairs"] = {name.value: trio.to_dict() for name, trio in trios.items()}
    slower = {name: trio for name, trio in trios.items() if trio.excess > tolerance}
    for name, trio in slower.items():
        outcome.checks.problems.append(
            f"{name.value} takes {trio.ratio:.2f} of the base's time, {trio.excess:.0%} more than the spread explains"
        )
    verdict = f"slower in {', '.join(name.value for name in slower)}" if slower else "not slower"
    outcome.notes["verdict"] = verdict
    _show(outcome.notes["pairs"])


def _show(found: dict[str, dict[str, Any]]) -> None:
    table = Table(title="this checkout beside base", title_justify="left")
    for column in ("", "work", "base ms", "this ms", "ratio", "spread", "excess"):
        table.add_column(column, justify="right" if column not in ("", "work") else "left", no_wrap=True)
    for name, one in found.items():
        times = (f"{one[key]:,.2f}" for key in ("base_ms", "current_ms"))
        table.add_row(
            name, one["what"], *times, f"{one['ratio']:.3f}", *(f"{one[key]:.1%}" for key in ("spread", "excess"))
        )
    console.print(table)


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
