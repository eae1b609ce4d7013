"""A store of before becomes one of now: all of it or nothing, while nobody else has it open."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock

from agentmem import ALL, Memory, Settings, StoreLockedError
from agentmem.stores.connection import Connection

DATA = ROOT / "tests" / "data"
QUIET = Settings(lifecycle={"sweep_interval_s": 0})
OPEN = """
import os, signal, sys
from agentmem import Memory, Settings
from agentmem.stores import connection, schema
point, step = int(sys.argv[2]), 0
real, migrate = connection.Connection.execute, schema.migrate

def counted(self, sql, params=(), *rest, **more):
    global step
    step += 1
    if step == point:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, sql, params, *rest, **more)

def counting(db, path):
    connection.Connection.execute = counted
    migrate(db, path)
    connection.Connection.execute = real
    print(step, flush=True)

import agentmem.engine.opening as opening
opening.migrate = counting
Memory(sys.argv[1], settings=Settings(lifecycle={"sweep_interval_s": 0})).stats()
"""


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store of version 0.1, and what is in it."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(DATA / "store-0.1.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "store", json.loads((DATA / "store-0.1.json").read_text(encoding="utf-8"))


def opened_by_another(path: Path, point: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", OPEN, str(path), str(point)]
    return subprocess.Popen(arguments, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def check(path: Path, answers: dict[str, Any]) -> None:
    clock = FakeClock(datetime.fromisoformat(answers["now"]))
    with Memory(path, settings=QUIET, clock=clock) as memory:
        assert {record.id for record in memory.iterate(user_id=ALL, under=())} == answers["records"].keys()
        assert memory.verify().problems == []
        assert memory.put("a key", "of today").record.version == 1


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_statement_it_is_the_old_store_or_the_new_one(
    old: tuple[Path, dict[str, Any]], tmp_path: Path, every: int
) -> None:
    path, answers = old
    shutil.copytree(path, tmp_path / "whole")
    whole = opened_by_another(tmp_path / "whole", 0)
    steps = int(whole.communicate(timeout=60)[0])
    assert steps > 20
    for point in range(1, steps + 1, every):
        copy = tmp_path / f"killed {point}"
        shutil.copytree(path, copy)
        killed = opened_by_another(copy, point)
        said = killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL, said
        check(copy, answers)
        shutil.rmtree(copy)
    check(tmp_path / "whole", answers)


def test_it_waits_for_nobody_who_has_it_open(old: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, answers = old
    copy = tmp_path / "store"
    shutil.copytree(path, copy)
    lock = os.open(copy / "open.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)  # as every client holds it
    with pytest.raises(StoreLockedError, match="older version"):
        Memory(copy, settings=QUIET).stats()
    os.close(lock)
    check(copy, answers)


def test_who_opens_it_meanwhile_waits(old: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, answers = old
    copy = tmp_path / "store"
    shutil.copytree(path, copy)
    slow = OPEN.replace("    connection.Connection.execute = counted\n", "    import time; time.sleep(2)\n")
    arguments = [sys.executable, "-c", slow, str(copy), "0"]
    others = [subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(4)]
    time.sleep(0.5)
    check(copy, answers)
    assert [other.wait(60) for other in others] == [0] * 4


PARTS: dict[str, Callable[[Connection], object]] = {
    "0004_checksums": lambda db: [
        db.execute("ALTER TABLE records ADD COLUMN checksum BLOB"),
        db.execute("INSERT INTO meta SELECT 'first_keys_row', coalesce(max(row), 0) FROM records"),
    ],
    "0005_dated": lambda db: db.execute(
        "CREATE INDEX records_dated_by_user ON records (user, occurred_at, row) "
        "WHERE state = 0 AND occurred_at IS NOT NULL"
    ),
    "0006_gone": lambda db: db.execute(
        "CREATE INDEX records_gone ON records (user, state, updated_at, row) WHERE state IN (1, 3)"
    ),
}


@pytest.mark.parametrize("parts", range(1, len(PARTS) + 1))
def test_a_store_of_a_development_version_gets_the_rest(
    old: tuple[Path, dict[str, Any]], tmp_path: Path, parts: int
) -> None:
    path, answers = old
    copy = tmp_path / "store"
    shutil.copytree(path, copy)
    with closing(Connection(copy / "agentmem.db")) as db:
        for name, step in list(PARTS.items())[:parts]:
            step(db)
            db.execute("INSERT INTO migrations VALUES (?, 0)", (name,))
    check(copy, answers)
    with closing(Connection(copy / "agentmem.db")) as db:
        names = [name for (name,) in db.execute("SELECT name FROM migrations ORDER BY name")]
    assert names == ["0001_first", "0002_lifecycle", "0003_facts_by_user", "0004_keys", "0005_placements"]
