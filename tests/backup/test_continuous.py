"""Backups by themselves: what was acknowledged an interval ago comes back, and a failure is seen."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import FakeClock, HashEmbedder

import agentmem
from agentmem import InvalidInputError, Memory, Settings


def with_interval(tmp_path: Path, seconds: float = 0.05) -> Settings:
    return Settings(backup={"url": str(tmp_path / "backups"), "interval_s": seconds}, lifecycle={"sweep_interval_s": 0})


def until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_changes_is_backed_up(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=with_interval(tmp_path))
    memory.add("one", user_id="ana")
    until(lambda: memory.health().backup.behind == 0)  # pyright: ignore[reportOptionalMemberAccess]
    memory.add("two", user_id="ana")
    until(lambda: memory.health().backup.behind == 0)  # pyright: ignore[reportOptionalMemberAccess]
    health = memory.health()
    assert health.ok
    assert health.backup is not None
    assert (health.backup.age_s, health.backup.errors, health.backup.last_error) == (0, 0, None)
    made = memory.backup.list()
    assert [backup.kind for backup in made] == ["full", "incremental"]
    time.sleep(0.3)
    assert memory.backup.list() == made
    memory.add("three", user_id="ana")
    memory.close()
    assert agentmem.restore(tmp_path / "backups", tmp_path / "again").records == 3


def test_a_failure_is_seen_and_passes(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("in the way")
    memory = open_memory(settings=with_interval(tmp_path))
    memory.add("one", user_id="ana")
    until(lambda: not memory.health().ok)
    health = memory.health().backup
    assert health is not None
    assert health.behind == 1
    assert "backups" in str(health.last_error)
    assert health.errors >= 1
    (tmp_path / "backups").unlink()
    until(lambda: memory.health().ok)
    assert agentmem.restore(tmp_path / "backups", tmp_path / "again").records == 1


def test_a_copy_of_the_store_is_told(open_memory: Callable[..., Memory], tmp_path: Path, store: Path) -> None:
    with open_memory(settings=with_interval(tmp_path)) as memory:
        memory.add("one", user_id="ana")
    shutil.copytree(store, tmp_path / "copy")
    with open_memory(settings=with_interval(tmp_path)) as memory:
        memory.add("two", user_id="ana")
    copy = open_memory(tmp_path / "copy", settings=with_interval(tmp_path))
    copy.add("another two", user_id="ana")
    until(lambda: not copy.health().ok)
    assert "an older state of it" in str(copy.health().backup)
    copy.close()
    assert agentmem.restore(tmp_path / "backups", tmp_path / "again").records == 2


def test_a_thread_that_stopped_in_silence_is_seen(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=with_interval(tmp_path))
    memory.add("one", user_id="ana")
    memory.handle.engine().companion.close(None)  # pyright: ignore[reportOptionalMemberAccess]
    memory.add("two", user_id="ana")
    health = memory.health()
    assert not health.ok
    assert health.backup is not None
    assert health.backup.behind == 1
    assert "no backup was tried" in str(health.backup.last_error)


def test_many_changes_do_not_wait_for_the_interval(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    chosen = {"url": str(tmp_path / "backups"), "interval_s": 3_600, "after_changes": 50, "prove_every_hours": 0}
    memory = open_memory(settings=Settings(backup=chosen, lifecycle={"sweep_interval_s": 0}))
    memory.add_many([f"memory {n}" for n in range(49)], user_id="ana")
    time.sleep(1.2)
    assert memory.backup.list() == []
    memory.add("one more", user_id="ana")
    until(lambda: len(memory.backup.list()) == 1)


def test_a_layer_that_fills_up_does_not_wait_for_the_interval(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmem.backup.continuous._LOOK_S", 0.05)
    chosen = {"url": str(tmp_path / "backups"), "interval_s": 3_600, "prove_every_hours": 0}
    memory = open_memory(
        settings=Settings(
            backup=chosen, lifecycle={"sweep_interval_s": 0}, layers={"insights": {"max_size_mb": 0.0009}}
        )
    )
    memory.add("word " * 94, user_id="ana", layer="insights")
    time.sleep(0.3)
    assert memory.backup.list() == []
    memory.lifecycle.sweep()
    until(lambda: len(memory.backup.list()) == 1)


def test_closing_alone(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    settings = Settings(backup={"url": str(tmp_path / "backups"), "on_close": True}, lifecycle={"sweep_interval_s": 0})
    for count in (1, 2):
        memory = open_memory(settings=settings)
        memory.add(f"memory {count}", user_id="ana")
        memory.close()
        assert agentmem.restore(tmp_path / "backups", tmp_path / f"again {count}").records == count
    memory = open_memory(settings=settings)
    assert memory.health().ok
    memory.close()
    assert len(list((tmp_path / "backups").rglob("chain/*"))) == 2


CODE = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import FakeClock, HashEmbedder
from agentmem import Memory, Settings
memory = Memory({store!r}, settings=Settings(backup={{"url": {url!r}, "interval_s": 0.2}}), embedder=HashEmbedder())
while True:
    print(memory.add(f"memory {{time.time()}}", user_id="ana").id, time.time(), flush=True)
    time.sleep(0.01)
"""


@pytest.mark.slow
def test_killed_and_the_disk_lost(tmp_path: Path) -> None:
    url, store = str(tmp_path / "backups"), str(tmp_path / "store")
    code = CODE.format(tests=str(Path(__file__).parent.parent), store=store, url=url)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines, began = [process.stdout.readline()], time.monotonic()
    while time.monotonic() - began < 4:
        lines.append(process.stdout.readline())
    process.kill()
    killed = time.time()
    process.wait()
    lines += [line for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    shutil.rmtree(store)
    agentmem.restore(url, tmp_path / "again")
    with Memory(tmp_path / "again", embedder=HashEmbedder()) as again:
        added = [line.split() for line in lines]
        lost = [float(at) for id, at in added if again.get(id) is None]
        assert again.verify().problems == []
    assert len(lost) < len(added)
    assert all(killed - at <= 0.2 + 2 for at in lost)


def test_somewhere_to_go() -> None:
    with pytest.raises(InvalidInputError, match=r"backup\.url is not"):
        Settings(backup={"interval_s": 10})


@pytest.mark.parametrize("days", [365, 36_500], ids=["year", "century"])
def test_a_clock_that_was_ahead_puts_off_neither_full_backups_nor_proofs(
    open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path, days: int
) -> None:
    right, clock.now = clock(), clock() + timedelta(days=days)
    backup = {"url": str(tmp_path / "backups"), "interval_s": 0.05, "full_every_hours": 1}
    memory = open_memory(settings=Settings(backup=backup, lifecycle={"sweep_interval_s": 0}))
    memory.add("one", user_id="ana")
    until(lambda: memory.health().backup.proved_at == clock())  # pyright: ignore[reportOptionalMemberAccess]
    memory.close()
    clock.now = right
    memory = open_memory(settings=Settings(backup=backup, lifecycle={"sweep_interval_s": 0}))
    for hours in (0, 0.5, 1):
        clock.now = right + timedelta(hours=hours)
        memory.add(f"after {hours}", user_id="ana")
        until(lambda: memory.health().backup.behind == 0)  # pyright: ignore[reportOptionalMemberAccess]
    assert [one.kind for one in memory.backup.list()] == ["full", "full", "incremental", "full"]
    until(lambda: memory.health().backup.proved_at < right + timedelta(days=1))  # pyright: ignore[reportOptionalMemberAccess]


def test_a_clock_that_is_set_back_a_little_asks_for_no_full_backup(
    open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path
) -> None:
    memory = open_memory(settings=with_interval(tmp_path))
    for n in range(3):
        memory.add(f"number {n}", user_id="ana")
        until(lambda: memory.health().backup.behind == 0)  # pyright: ignore[reportOptionalMemberAccess]
        clock.advance(-3_600)
    assert [one.kind for one in memory.backup.list()] == ["full", "incremental", "incremental"]
