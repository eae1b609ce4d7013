"""Latencies, and what a run costs the machine."""

from __future__ import annotations

import random
import resource
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

KEPT = 2_000_000
_QUANTILES = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "p999_ms": 99.9}


@dataclass
class Figure:
    """Operations of one kind: how many, in what time, and how long each call took, in seconds.

    Of more than ``KEPT`` calls a random sample is kept (Vitter's algorithm R).
    """

    name: str
    operations: int = 0
    calls: int = 0
    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    more: dict[str, Any] = field(default_factory=dict)

    def record(self, seconds: float, operations: int = 1) -> None:
        self.calls += 1
        self.operations += operations
        if len(self.latencies) < KEPT:
            self.latencies.append(seconds)
        elif (place := random.randrange(self.calls)) < KEPT:
            self.latencies[place] = seconds

    @contextmanager
    def timed(self, operations: int = 1) -> Iterator[None]:
        """Record what happens inside, unless it raises."""
        start = time.perf_counter()
        yield
        self.record(time.perf_counter() - start, operations)

    @property
    def ops_per_second(self) -> float:
        return self.operations / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the percentiles are those of single calls, which may carry several operations."""
        calls = np.array(self.latencies) * 1_000
        quantiles = dict.fromkeys((*_QUANTILES, "max_ms"), 0.0)
        if len(calls):
            quantiles = {name: float(np.percentile(calls, q)) for name, q in _QUANTILES.items()}
            quantiles["max_ms"] = float(calls.max())
        return {
            "name": self.name,
            "operations": self.operations,
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "ops_per_second": round(self.ops_per_second, 1),
            **{name: round(value, 3) for name, value in quantiles.items()},
            **self.more,
        }


class Usage:
    """CPU time since it was made, and the peak of resident memory since the process began."""

    def __init__(self) -> None:
        self._cpu = time.process_time()

    def to_dict(self) -> dict[str, float]:
        return {"cpu_seconds": round(time.process_time() - self._cpu, 2), "peak_rss_mb": round(peak_rss_mb(), 1)}


def peak_rss_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1_048_576


def rss_mb() -> float:
    return psutil.Process().memory_info().rss / 1_048_576


def anonymous_mb() -> float:
    """Resident memory of this process that is no file's; where the system does not tell, all of it."""
    if sys.platform != "linux":
        return rss_mb()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1_024
    return rss_mb()


def files_and_bytes(folder: Path) -> tuple[int, int]:
    """Files under a folder and their size; files that vanish meanwhile do not count."""
    count = size = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                count, size = count + 1, size + path.stat().st_size
        except FileNotFoundError:
            continue
    return count, size
