"""What a run found: a table for people, JSON for programs and for ``report``, and the exit code."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from agentmem import Memory
from stress.ledger import Checks
from stress.measure import Figure, Usage, files_and_bytes

console = Console(width=None if sys.stdout.isatty() else 140)
MB = 1_048_576


@dataclass
class Limit:
    """What one part of the pipeline reaches alone, on the same texts."""

    name: str
    per_second: float
    of: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "per_second": round(self.per_second, 1), "ratios": self.of}


@dataclass
class Outcome:
    """A run. The keys of ``to_dict`` are documented in docs/performance.md."""

    command: str
    options: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    checks: Checks = field(default_factory=Checks)
    errors: Counter[str] = field(default_factory=Counter)
    resources: dict[str, Any] = field(default_factory=dict)
    limits: list[Limit] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    usage: Usage = field(default_factory=Usage)

    @property
    def ok(self) -> bool:
        return self.checks.ok and not self.errors

    def figure(self, name: str) -> Figure:
        self.figures.append(Figure(name))
        return self.figures[-1]

    def measure_store(self, memory: Memory, path: Path, text_bytes: int = 0) -> None:
        """Note what the store costs; call it after the run and before the checks, which read everything."""
        memory.flush()
        stats = memory.stats()
        self.resources = {
            **self.usage.to_dict(),
            "records": stats.records,
            "disk_bytes": stats.bytes,
            "lancedb_files": files_and_bytes(path / "lance")[0],
            "query_cache_hit_rate": _rate(stats.query_cache),
            "embedding_cache_hit_rate": _rate(stats.embedding_cache),
        }
        if text_bytes:
            payload = text_bytes + stats.records * stats.dim * 4
            self.resources["disk_to_payload"] = round(sum(stats.bytes.values()) / payload, 2)

    def to_dict(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "ok": self.ok,
            "started": self.started.isoformat(timespec="seconds"),
            "machine": _machine(),
            "options": self.options,
            "figures": [figure.to_dict() for figure in self.figures],
            "limits": [limit.to_dict() for limit in self.limits],
            "resources": self.resources,
            "checks": self.checks.to_dict(),
            "errors": dict(self.errors),
            "samples": self.samples,
            "notes": self.notes,
        }

    def finish(self, file: Path | None) -> None:
        """Print, write the JSON file, and leave with 1 if anything was wrong."""
        found = self.to_dict()
        if file is not None:
            file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        show(found)
        if not self.ok:
            raise typer.Exit(1)


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """A command's arguments as JSON-ready values."""
    kept = (int, float, str, type(None))
    return {name: value if isinstance(value, kept) else str(value) for name, value in options.items()}


def _rate(usage: dict[str, int]) -> float:
    looked_up = usage.get("hits", 0) + usage.get("misses", 0)
    return round(usage.get("hits", 0) / looked_up, 4) if looked_up else 0.0


def _machine() -> dict[str, Any]:
    packages = {}
    for name in ("agentmem-db", "lancedb", "libsql-experimental", "numpy", "onnxruntime"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "packages": packages,
    }


def show(found: dict[str, Any]) -> None:
    """Print an outcome as tables."""
    if found["figures"]:
        console.print(_figures(found))
    if found["limits"]:
        names = sorted({name for limit in found["limits"] for name in limit["ratios"]})
        table = _table("beside their limits", ["alone", "per second", *[f"{name} ÷" for name in names]])
        for limit in found["limits"]:
            ratios = [f"{limit['ratios'].get(name, 0):.2f}" for name in names]
            table.add_row(limit["name"], f"{limit['per_second']:,.0f}", *ratios)
        console.print(table)
    more = _table("", ["", "value"])
    for name, value in {**found["resources"], **found["notes"]}.items():
        if name == "disk_bytes":
            for part, size in value.items():
                more.add_row(f"disk: {part}", f"{size / MB:,.1f} MB")
        elif isinstance(value, (int, float, str)):
            more.add_row(name.replace("_", " "), f"{value:,}" if not isinstance(value, str) else value)
    for name, value in found["checks"].items():
        if name not in ("ok", "problems"):
            more.add_row(f"check: {name.replace('_', ' ')}", f"{value:,}")
    for name, count in found["errors"].items():
        more.add_row(f"error: {name}", f"{count:,}")
    console.print(more)
    for problem in found["checks"]["problems"]:
        console.print(f"problem: {problem}", style="red", markup=False)
    console.print("ok" if found["ok"] else "FAILED", style="green" if found["ok"] else "bold red")


def _figures(found: dict[str, Any]) -> Table:
    table = _table(found["command"], ["operation", "ops", "ops/s", "p50 ms", "p95 ms", "p99 ms", "p999 ms"])
    for one in found["figures"]:
        times = [f"{one[name]:,.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "p999_ms")]
        table.add_row(one["name"], f"{one['operations']:,}", f"{one['ops_per_second']:,.0f}", *times)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title or None, title_justify="left", show_header=bool(title))
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
    return table
