"""``compare``: agentmem beside what else people use, with one embedder, in one run, each in a process of its own."""

from __future__ import annotations

import json as jsons
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from stress.options import Embedder, Json, Seed, Texts, Users
from stress.outcome import Outcome, console, plain
from stress.peers import NAMES, OFFLINE
from stress.store import progress
from stress.texts import Profile


def compare(
    peers: Annotated[list[str] | None, typer.Option("--peer", help=f"One of {', '.join(NAMES)}; repeatable.")] = None,
    users: Users = 50,
    records: Annotated[int, typer.Option(min=1, max=100_000, help="Records per user.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, max=1_000, help="Texts per batch.")] = 100,
    singles: Annotated[int, typer.Option(min=1, max=100_000, help="Texts added one by one.")] = 300,
    queries: Annotated[int, typer.Option(min=1, max=100_000, help="Searches at most.")] = 500,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Hits asked for.")] = 10,
    load_seconds: Annotated[
        float, typer.Option(min=0.1, help="Stop loading a peer after this; its store is smaller.")
    ] = 120,
    search_seconds: Annotated[float, typer.Option(min=0.1, help="Stop searching a peer after this.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Repeat everything, and report medians.")] = 1,
    profile: Texts = Profile.DIALOGUE,
    embedder: Embedder = None,
    seed: Seed = 7,
    json: Json = None,
) -> None:
    """Fill, add and search with each library in turn; what is not installed or does not run is named, and why."""
    outcome = Outcome("compare", plain(locals()))
    names = [name for name in NAMES if name in (peers or NAMES)]
    if unknown := set(peers or ()) - set(NAMES):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with progress("compare", rounds * len(names)) as ticker:
        for done in range(rounds * len(names)):
            name = names[done % len(names)]
            ticker.at(done, name)
            found[name].append(_child(name, outcome.options, timeout=2 * load_seconds + 4 * search_seconds + 60))
    outcome.notes["peers"] = {name: _middle(results) for name, results in found.items()}
    _judge(outcome)
    _show(outcome.notes["peers"])
    outcome.finish(json)


def _child(name: str, options: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Measure one peer with telemetry and downloads switched off, its home directory a temporary one."""
    with tempfile.TemporaryDirectory(prefix="agentmem-compare-") as folder:
        environment = os.environ | OFFLINE | {"HOME": folder, "MEM0_DIR": f"{folder}/mem0"}
        given = options | {"peer": name, "folder": f"{folder}/store"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "stress.peers"],
                input=jsons.dumps(given),
                capture_output=True,
                text=True,
                env=environment,
                cwd=Path(__file__).parent.parent,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"peer": name, "unavailable": f"did not finish within {timeout:.0f} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"peer": name, "unavailable": f"failed: {lines[-1][:300]}"}
    return jsons.loads(done.stdout.strip().splitlines()[-1])


def _middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The first result with its figures replaced by medians over the rounds."""
    usable = [result for result in results if "figures" in result]
    if not usable:
        return results[0]
    result = dict(usable[0])
    result["figures"] = [
        {key: median(one[key] for one in same) if isinstance(value, float) else value for key, value in same[0].items()}
        for same in zip(*(one["figures"] for one in usable), strict=True)
    ]
    return result


def _judge(outcome: Outcome) -> None:
    """Only agentmem has to be right here; what the others lack is reported."""
    own = outcome.notes["peers"].get("agentmem")
    if own is None:
        return
    if "unavailable" in own:
        outcome.checks.problems.append(own["unavailable"])
        return
    checks = own["checks"]
    outcome.checks.cross_scope, outcome.checks.short = checks["cross_scope"], checks["short"]
    outcome.checks.lost = max(checks["missing"], checks["missing_after_reopening"])
    if checks["recall"] < 1:
        outcome.checks.problems.append(f"recall is {checks['recall']}")


def _show(peers: dict[str, dict[str, Any]]) -> None:
    table = Table(title="side by side", title_justify="left")
    columns = (
        "library", "single add/s", "p50 ms", "batch add/s", "search p50 ms", "p99 ms", "recall", "short",
        "lost", "RSS MB", "disk MB",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="left" if column == "library" else "right", no_wrap=True)
    for name, one in peers.items():
        if "unavailable" in one:
            console.print(f"{name}: {one['unavailable']}", markup=False)
            continue
        figures = {figure["name"]: figure for figure in one["figures"]}
        single, batch = figures["single add"], figures["batch add"]
        for kind in ("scoped search", "scoped search, hybrid"):
            if kind in figures:
                search, checks, resources = figures[kind], one["checks"], one["resources"]
                table.add_row(
                    f"{name} {one['version']}" if kind == "scoped search" else f"{name}, hybrid search",
                    f"{single['ops_per_second']:,.0f}", f"{single['p50_ms']:.2f}", f"{batch['ops_per_second']:,.0f}",
                    f"{search['p50_ms']:.2f}", f"{search['p99_ms']:.2f}",
                    f"{checks['recall']:.2f}" if kind == "scoped search" else "", str(checks["short"]),
                    str(checks["missing_after_reopening"]), f"{resources['peak_rss_mb']:.0f}",
                    f"{resources['disk_mb']:.1f}",
                )  # fmt: skip
    console.print(table)
