"""Every alert, raised and cleared by a cause of its own, and told once."""

from __future__ import annotations

import http.server
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import ROOT, FakeClock, HashEmbedder

from agentmem import InvalidInputError, Memory, Settings
from agentmem.observe.alerts import Alert, Level, Threshold, Thresholds
from agentmem.observe.monitor import HealthMonitor
from agentmem.observe.notify import Command, Webhook, to_log

Open = Callable[..., Memory]
AT_ONCE = {"raise_after": 1, "clear_after": 1}
ALERT = Alert("usage", Level.WARNING, 61.5, "It is 61.5 % full.", datetime(2025, 3, 1, tzinfo=UTC), "/srv/store")


def said(alerts: Sequence[Alert]) -> list[tuple[str, str]]:
    return [(alert.name, alert.level.value) for alert in alerts]


def test_all_is_well(memory: Memory) -> None:
    memory.add("a")
    memory.search("a")
    monitor = HealthMonitor(memory, **AT_ONCE)
    assert monitor.check() == []
    assert (monitor.alerts, monitor.level) == ({}, Level.OK)


def test_a_full_layer(open_memory: Open) -> None:
    memory = open_memory(settings=Settings(layers={"insights": {"max_size_mb": 1}}))
    monitor = HealthMonitor(memory, **AT_ONCE)
    ids = [one.id for one in memory.add_many(["a" * 7_000 for _ in range(100)], layer="insights", dedupe=False)]
    memory.lifecycle.sweep(dry_run=True)
    alert = monitor.check()[0]
    assert said([alert]) == [("usage", "warning")]
    assert alert.value is not None
    assert 60 < alert.value < 85
    assert "max_size_mb" in alert.message
    memory.add_many(["b" * 7_000 for _ in range(30)], layer="insights", dedupe=False)
    memory.lifecycle.sweep(dry_run=True)
    assert said(monitor.check()) == [("usage", "critical")]
    memory.delete_many(ids)
    memory.lifecycle.sweep(dry_run=True)
    assert said(monitor.check()) == [("usage", "ok")]


class Trying(HashEmbedder):
    """A model that is slow, or fails, when it is told to."""

    seconds = 0.0
    fails = False

    def embed_query(self, text: str) -> np.ndarray:
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("the model is gone")
        return super().embed_query(text)


def test_slow_searches(open_memory: Open) -> None:
    model = Trying()
    memory = open_memory(embedder=model)
    memory.add("a")
    monitor = HealthMonitor(memory, thresholds=Thresholds(search_ms=Threshold(50, 60_000)), **AT_ONCE)
    model.seconds = 0.06
    for number in range(20):
        memory.search(f"slow {number}")
    assert said(monitor.check()) == [("search", "warning")]
    memory.handle.engine().meter.now = lambda: time.monotonic() + 301  # five minutes later
    assert said(monitor.check()) == [("search", "ok")]


SLOWED = """
import time
from pathlib import Path
from agentmem import Memory
from agentmem.observe import HealthMonitor, Threshold, Thresholds
from stress.victim import HashedWords

def said():
    for _ in range(20):
        memory.add("a")
    return [(alert.name, str(alert.level)) for alert in monitor.check()]

with Memory("store", embedder=HashedWords()) as memory:
    monitor = HealthMonitor(
        memory, thresholds=Thresholds(commit_ms=Threshold(50, 60_000)), raise_after=1, clear_after=1
    )
    print(said())
    Path("slow").touch()
    print(said())
    Path("slow").unlink()
    memory.handle.engine().meter.now = lambda: time.monotonic() + 301  # five minutes later
    print([(alert.name, str(alert.level)) for alert in monitor.check()])
"""
SLOW_SYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static int synced(const char *name, int file) {
    if (access("slow", F_OK) == 0) usleep(60000);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}
int fsync(int file) { return synced("fsync", file); }
int fdatasync(int file) { return synced("fdatasync", file); }
"""
"""What a disk that takes its time is to a process: calls of the system that return late."""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_a_disk_that_is_slow(tmp_path: Path) -> None:
    (tmp_path / "slow.c").write_text(SLOW_SYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "slow.so", "slow.c", "-ldl"], cwd=tmp_path, check=True)
    environment = {**os.environ, "LD_PRELOAD": str(tmp_path / "slow.so"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SLOWED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["[]", "[('commit', 'warning')]", "[('commit', 'ok')]"]


def test_failing_calls(open_memory: Open) -> None:
    model = Trying()
    memory = open_memory(embedder=model)
    memory.add("a")
    monitor = HealthMonitor(memory, **AT_ONCE)
    model.fails = True
    with pytest.raises(Exception, match="the model is gone"):
        memory.search("one")
    assert said(monitor.check()) == [("errors", "critical")]
    model.fails = False
    for number in range(150):
        memory.search(f"well {number}")
    assert said(monitor.check()) == [("errors", "ok")]


def test_a_lancedb_that_fails_and_falls_behind(open_memory: Open, store: Path) -> None:
    memory = open_memory(settings=Settings(performance={"follower_delay_s": 0.05}))
    memory.add("a")
    memory.flush()
    monitor = HealthMonitor(memory, thresholds=Thresholds(vectors_behind=Threshold(5, 5_000)), **AT_ONCE)
    assert monitor.check() == []
    shutil.rmtree(store / "lance")
    (store / "lance").symlink_to("/proc/self/nothing")
    memory.add_many([f"b {number}" for number in range(10)])
    deadline = time.monotonic() + 20
    while memory.health().last_vector_error is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(said(monitor.check())) == [("follower_lag", "warning"), ("vectors", "warning")]
    (store / "lance").unlink()
    memory.flush()
    deadline = time.monotonic() + 20
    while memory.health().last_vector_error is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(said(monitor.check())) == [("follower_lag", "ok"), ("vectors", "ok")]


def test_fragmentation(memory: Memory) -> None:
    thresholds = Thresholds(fragmentation_percent=Threshold(8, 90))
    monitor = HealthMonitor(memory, thresholds=thresholds, **AT_ONCE)
    ids = [memory.add(f"{number}", data={"large": "a" * 20_000}).id for number in range(20)]
    for id in ids[:10]:
        for count in range(12):
            memory.update(id, data={"count": count})
    assert said(monitor.check()) == [("fragmentation", "warning")]
    memory.compact()
    assert said(monitor.check()) == [("fragmentation", "ok")]


def test_an_old_backup_and_one_that_fails(open_memory: Open, tmp_path: Path, clock: FakeClock) -> None:
    place = tmp_path / "backups"
    settings = Settings(backup={"url": str(place), "interval_s": 3_000, "prove_every_hours": 0})
    memory = open_memory(settings=settings)
    memory.add("a")
    memory.backup.create()
    monitor = HealthMonitor(memory, clock=clock, **AT_ONCE)
    assert monitor.check() == []
    memory.add("b")
    clock.advance(2 * 3_600)
    assert said(monitor.check()) == [("backup_age", "warning")]
    clock.advance(24 * 3_600)
    assert said(monitor.check()) == [("backup_age", "critical")]
    memory.backup.create()
    assert said(monitor.check()) == [("backup_age", "ok")]


def test_a_store_that_is_gone(open_memory: Open, store: Path) -> None:
    memory = open_memory()
    memory.add("a")
    monitor = HealthMonitor(memory, **AT_ONCE)
    moved = store.parent / "moved"
    store.rename(moved)
    told = dict(said(monitor.check()))
    assert told == {"store": "critical", "figures": "critical"}
    assert monitor.level is Level.CRITICAL
    moved.rename(store)
    assert dict(said(monitor.check())) == {"store": "ok", "figures": "ok"}


def until(monitor: HealthMonitor, *wanted: tuple[str, str]) -> None:
    """Look until this was told, in this order; and nothing else."""
    told, deadline = list[tuple[str, str]](), time.monotonic() + 30
    while len(told) < len(wanted):
        assert time.monotonic() < deadline, told
        told += said(monitor.check())
        time.sleep(0.02)
    assert told == list(wanted)


def test_sweeps_that_cannot_archive(open_memory: Open, tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "ice").write_text("no folder")
    glacier = {"url": str(tmp_path / "ice"), "cold_to_glacier": True}
    memory = open_memory(settings=Settings(glacier=glacier, lifecycle={"sweep_interval_s": 0.05}))
    monitor = HealthMonitor(memory, clock=clock, **AT_ONCE)
    memory.add({"role": "user", "content": "good morning"})
    assert monitor.check() == []
    clock.advance(2 * 86_400)
    until(monitor, ("lifecycle", "warning"))
    (tmp_path / "ice").unlink()
    until(monitor, ("lifecycle", "ok"))


def test_backups_that_fail(open_memory: Open, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    memory = open_memory(settings=Settings(backup={"url": str(place), "interval_s": 0.1, "prove_every_hours": 0}))
    memory.add("a")
    monitor = HealthMonitor(memory, **AT_ONCE)
    while memory.health().backup.behind:  # pyright: ignore[reportOptionalMemberAccess]
        time.sleep(0.02)
    place.rename(tmp_path / "away")
    place.write_text("in the way")
    memory.add("b")
    until(monitor, ("backup", "warning"))
    place.unlink()
    (tmp_path / "away").rename(place)
    until(monitor, ("backup", "ok"))


def test_a_backup_that_does_not_come_back(open_memory: Open, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    memory = open_memory(settings=Settings(backup={"url": str(place), "interval_s": 3_000}))
    memory.add("a")
    memory.backup.create()
    monitor = HealthMonitor(memory, **AT_ONCE)
    assert memory.backup.verify().ok
    assert monitor.check() == []
    parts = [one for one in place.rglob("*") if one.is_file()]
    largest = max(parts, key=lambda one: one.stat().st_size)
    whole = largest.read_bytes()
    largest.write_bytes(whole[: len(whole) // 2])
    assert not memory.backup.verify().ok
    assert said(monitor.check()) == [("proof", "critical")]
    largest.write_bytes(whole)
    assert memory.backup.verify().ok
    assert said(monitor.check()) == [("proof", "ok")]


def test_searches_that_fall_back(open_memory: Open) -> None:
    from agentmem.indexes import gpu

    if gpu.cards():
        pytest.skip("there is a graphics card")
    options = {"arena_limit": 50, "large_wait_s": 60, "query_cache_size": 0, "large_engine": "int8"}
    tiers = {"interval_s": 0, "hot": {"device": "cuda:0"}}
    memory = open_memory(settings=Settings(**options, lifecycle={"sweep_interval_s": 0}, tiers=tiers))
    memory.add_many([f"the {n}th lantern of {n % 7} harbours" for n in range(100)])
    monitor = HealthMonitor(memory, thresholds=Thresholds(search_ms=Threshold(None, None)), **AT_ONCE)
    deadline = time.monotonic() + 20
    while not memory.health().engine_fallbacks and time.monotonic() < deadline:
        memory.search("lantern")
        time.sleep(0.02)
    assert [name for name, _ in said(monitor.check())] == ["fallbacks"]
    for n in range(60):
        memory.search(f"lantern {n}")
    assert said(monitor.check()) == [("fallbacks", "ok")]


def test_it_is_told_once_and_not_for_every_twitch(open_memory: Open, clock: FakeClock) -> None:
    class Stub:
        """A store whose figures are set by hand; the rest is a real one's."""

        def __init__(self, memory: Memory) -> None:
            self.memory, self.usage = memory, 0.0

        def health(self) -> Any:
            return self.memory.health()

        def kpis(self) -> Any:
            from dataclasses import replace

            return replace(self.memory.kpis(), usage_percent=self.usage)

    stub, heard = Stub(open_memory()), list[Alert]()
    monitor = HealthMonitor(stub, notify=[heard.append], clock=clock, repeat_s=600)

    def look(*values: float) -> list[str]:
        heard.clear()
        for value in values:
            stub.usage = value
            monitor.check()
            clock.advance(30)
        return [alert.level.value for alert in heard]

    assert look(61, 50, 61, 50) == []  # once is no alert
    assert look(61, 61, 61, 61) == ["warning"]
    assert look(59, 61, 58, 62, 59, 59, 59, 59) == []  # not clearly below
    assert look(50, 50, 61, 50, 50) == []  # nor for long
    assert look(50, 50, 50) == ["ok"]
    assert look(90, 90) == ["critical"]
    assert look(*[90] * 25) == ["critical"]  # a reminder after ten minutes
    clock.advance(365 * 86_400)
    assert look(90) == ["critical"]
    clock.advance(-365 * 86_400)
    assert look(90, 90) == ["critical"]  # reminders go on when the clock is right again
    assert look(70, 70, 70) == ["warning"]
    assert look(10, 10, 10, 10) == ["ok"]


def test_thresholds_and_numbers_that_cannot_be(memory: Memory) -> None:
    for warning, critical in ((0, 1), (5, 1), (-1, None), (float("nan"), None)):
        with pytest.raises(InvalidInputError, match="threshold"):
            Threshold(warning, critical)
    assert Threshold(None, 5).level(7) is Level.CRITICAL
    with pytest.raises(InvalidInputError, match="interval_s=0"):
        HealthMonitor(memory, interval_s=0)
    with pytest.raises(InvalidInputError, match="usage_percent"):
        HealthMonitor(memory, thresholds=Thresholds(usage_percent=60))  # type: ignore[arg-type]


def test_in_the_background(open_memory: Open) -> None:
    model, heard = Trying(), threading.Event()
    memory = open_memory(embedder=model)
    model.fails = True
    with pytest.raises(Exception, match="gone"):
        memory.search("x")
    with HealthMonitor(memory, notify=[lambda alert: heard.set()], interval_s=0.02):
        assert heard.wait(10)


# -- who is told -------------------------------------------------------------------------------------------------------


class Receiver(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[list[int]] = []
    got: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.got.append((self.path, self.headers["X-Token"], json.loads(body)))
        status = Receiver.answers.pop(0) if Receiver.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook(receiver: str) -> None:
    Receiver.got.clear()
    Webhook(f"{receiver}/hook?a=1", headers={"X-Token": "t"}, private=True)(ALERT)
    assert Receiver.got == [("/hook?a=1", "t", ALERT.to_dict())]
    for status in (302, 500):
        Receiver.answers[:] = [status]
        with pytest.raises(OSError, match=f"answered {status}"):
            Webhook(receiver, private=True)(ALERT)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1",
        "192.168.1.1", "172.16.0.1", "100.64.0.1", "2130706433", "0x7f.1", "127.1", "[fd00::1]", "[fe80::1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1",
    ],
)  # fmt: skip
def test_a_webhook_does_not_reach_into_the_own_network(receiver: str, host: str) -> None:
    Receiver.got.clear()
    port = receiver.rpartition(":")[2]
    with pytest.raises(OSError, match=r"no public address|not known|not supported|service"):
        Webhook(f"http://{host}:{port}/")(ALERT)
    assert Receiver.got == []


def test_what_is_no_webhook() -> None:
    for url in ("ftp://a.example", "file:///etc/passwd", "a.example", "http://", "http://a:b@c.example", "http://a:x"):
        with pytest.raises(InvalidInputError):
            Webhook(url)
    with pytest.raises(InvalidInputError, match="header"):
        Webhook("https://a.example", headers={"X": "a\r\nHost: b"})


def test_a_command(tmp_path: Path) -> None:
    into = tmp_path / "alert.json"
    script = f"import sys, pathlib; pathlib.Path({os.fspath(into)!r}).write_text(sys.stdin.read())"
    Command([sys.executable, "-c", script])(ALERT)
    assert json.loads(into.read_text()) == ALERT.to_dict()
    with pytest.raises(OSError, match="failed with 1: ValueError: no"):
        Command([sys.executable, "-c", "raise ValueError('no')"])(ALERT)
    with pytest.raises(OSError, match="longer than"):
        Command([sys.executable, "-c", "import time; time.sleep(5)"], timeout_s=0.2)(ALERT)
    with pytest.raises(InvalidInputError, match="a command is a list"):
        Command("mail admin")


def test_the_log_and_one_that_fails(memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    def broken(alert: Alert) -> None:
        raise OSError("no route")

    caplog.set_level(logging.INFO, "agentmem.health")
    thresholds = Thresholds(error_percent=Threshold(0.001, None))
    monitor = HealthMonitor(memory, notify=[broken, to_log], thresholds=thresholds, **AT_ONCE)
    running = memory.handle.engine().meter.begin("search")
    running.end(RuntimeError("x"))
    assert said(monitor.check()) == [("errors", "warning")]
    assert "an alert (errors) could not be told: OSError: no route" in caplog.text
    assert "warning errors:" in caplog.text
