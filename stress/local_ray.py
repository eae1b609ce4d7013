"""A Ray of one's own on loopback, who its workers are, what memory they take, and killing them."""

from __future__ import annotations

import os
import random
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from stress import loopback

_NOT_WORKING = ("ray::IDLE", "ray::RuntimeEnv", "ray::Dashboard", "ray::_", "ray::Autoscaling")
_ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
MB = 1_048_576


@contextmanager
def local_ray(cpus: int, *, memory_mb: int = 1_024, log: bool = False, apart: bool = True) -> Iterator[Any]:
    """A Ray that nobody else can reach: a network of its own where that is possible, unless the caller has one
    (``apart=False``), a token in any case.

    Ray listens on all interfaces, whatever address it is given.
    """
    for name, value in (_ENVIRONMENT | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}).items():
        os.environ.setdefault(name, value)
    import ray  # it looks at the environment now, and never again

    with ExitStack() as stack:
        if apart and loopback.possible():
            stack.enter_context(loopback.alone())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        ray.init(
            address="local", num_cpus=cpus, object_store_memory=memory_mb * MB, include_dashboard=False,
            _temp_dir=folder, _node_ip_address="127.0.0.1", log_to_driver=log, logging_level="warning",
        )  # fmt: skip
        try:
            yield ray
        finally:
            ray.shutdown()


def workers() -> Iterator[tuple[psutil.Process, str]]:
    """The processes of this Ray that run something, and what."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, IndexError):
            name = process.cmdline()[0]
            if name.startswith("ray::") and not name.startswith(_NOT_WORKING):
                yield process, name


@dataclass
class Watch:
    """The most memory that one worker had, looked at every 50 ms: in all, and what it shares with no other."""

    rss_mb: float = 0
    """With what all workers share: Ray's object store."""
    own_mb: float = 0
    by_task: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        tasks = {name: round(size) for name, size in self.by_task.items()}
        return {"worker_rss_mb": round(self.rss_mb), "worker_own_mb": round(self.own_mb), "own_mb_by_task": tasks}


@contextmanager
def watched() -> Iterator[Watch]:
    watch, done = Watch(), threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for process, name in workers():
                with suppress(psutil.Error):
                    memory = process.memory_info()
                    own = (memory.rss - memory.shared) / MB
                    watch.rss_mb = max(watch.rss_mb, memory.rss / MB)
                    watch.own_mb = max(watch.own_mb, own)
                    watch.by_task[name] = max(watch.by_task.get(name, 0), own)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


@dataclass
class Killer:
    """Sends SIGKILL to a random worker at random instants, ``count`` times, some ``gap`` seconds apart."""

    count: int
    gap: float
    seed: int = 0
    killed: list[str] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        done, pick = threading.Event(), random.Random(self.seed + len(self.killed))

        def kill() -> None:
            while len(self.killed) < self.count and not done.wait(pick.uniform(0.2, 1.8) * self.gap):
                while not (running := list(workers())):
                    if done.wait(0.02):
                        return
                process, name = pick.choice(running)
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
                    self.killed.append(name)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start
