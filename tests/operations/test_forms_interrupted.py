"""A change of what records are embedded by that fails, or is killed, at any statement: all of it or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, HashEmbedder

from agentmem import Memory, Settings, StoreError
from agentmem.stores.connection import Connection

DIM = HashEmbedder.dim
AXES = np.eye(DIM)
QUIET = Settings(lifecycle={"sweep_interval_s": 0}, follower_delay_s=3_600)

CHANGES: dict[str, Callable[[Memory], object]] = {
    "add": lambda memory: memory.add("new", id="new", embed=["a", "b", "c"]),
    "add given": lambda memory: memory.add_many([{"content": "new", "id": "new", "vector": AXES[:3]}, "plain"]),
    "again": lambda memory: memory.add("plain content", id="plain", embed=["a", "b"]),
    "put": lambda memory: memory.put("key", "other", vector=AXES[5]),
    "put plain": lambda memory: memory.put("key", "other"),
    "fewer": lambda memory: memory.update("texts", embed=["one"], content="other"),
    "none": lambda memory: memory.update("texts", embed=False),
    "content": lambda memory: memory.update("given", embed=True),
    "back": lambda memory: memory.restore("texts", version=1),
    "erase": lambda memory: memory.erase("texts"),
}


def fill(memory: Memory) -> None:
    memory.add("plain content", id="plain")
    memory.add("content", id="texts", embed=["one", "two", "three"])
    memory.update("texts", embed=["four", "five"])
    memory.add("given", id="given", vector=AXES[:2])
    memory.put("key", "by key", embed=["six", "seven"])


def state(memory: Memory) -> dict[str, Any]:
    """What the store says: records, and what they are embedded by."""
    records = list(memory.iterate(order="oldest"))
    held = memory.vectors([record.id for record in records])
    return {
        str(record.key or record.id if record.content != "plain" else "plain"): [
            record.content, record.version, len(memory.history(record.id)), one and one.to_dict() | {"id": ""},
        ]
        for record, one in zip(records, held, strict=True)
    }  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_statement_that_fails_undoes_all(
    change: str, open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, fail_at, step = open_memory(settings=QUIET), 0, 0
    run, run_many = Connection._execute, Connection.executemany  # pyright: ignore[reportPrivateUsage]

    def passes(sql: str) -> None:
        nonlocal step
        if threading.current_thread().name == "agentmem-commit" and not sql.startswith(("BEGIN", "ROLLBACK", "COMMIT")):
            step += 1
            if step == fail_at:
                raise StoreError("injected")

    def execute(self: Connection, sql: str, params: Any) -> Any:
        passes(sql)
        return run(self, sql, params)

    def executemany(self: Connection, sql: str, rows: Any) -> None:
        passes(sql)
        run_many(self, sql, rows)

    monkeypatch.setattr(Connection, "_execute", execute)
    monkeypatch.setattr(Connection, "executemany", executemany)
    fill(memory)
    before = state(memory)
    for point in range(1, 100):
        step, fail_at = 0, point
        try:
            CHANGES[change](memory)
        except StoreError:
            fail_at = 0
            assert memory.verify().problems == []
            if state(memory) != before:
                assert change == "erase"  # done by then, and in the middle of emptying the log
                break
        else:
            break
    fail_at = 0
    assert 4 < point < 99
    assert state(memory) != before
    assert memory.verify().problems == []


CHILD = """
import os, signal, sys
from agentmem import Memory
from agentmem.stores.connection import Connection
from conftest import HashEmbedder
from operations.test_forms_interrupted import CHANGES, QUIET
name, point, step = sys.argv[2], int(sys.argv[3]), 0
run, run_many = Connection._execute, Connection.executemany
memory = Memory(sys.argv[1], embedder=HashEmbedder(), settings=QUIET)
memory.stats()

def passes():
    global step
    step += 1
    if step == point:
        os.kill(os.getpid(), signal.SIGKILL)

def execute(self, sql, params):
    passes()
    return run(self, sql, params)

def executemany(self, sql, rows):
    passes()
    return run_many(self, sql, rows)

Connection._execute, Connection.executemany = execute, executemany
CHANGES[name](memory)
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_any_statement(change: str, store: Path) -> None:
    def opened() -> Memory:
        return Memory(store, embedder=HashEmbedder(), settings=QUIET)

    with opened() as memory:
        fill(memory)
        before = json.dumps(state(memory), sort_keys=True)
    for point in range(1, 100, 4):
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(store), change, str(point)],
            cwd=ROOT, text=True, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert child.returncode in (0, -signal.SIGKILL), child.stderr
        with opened() as memory:
            assert memory.verify().problems == []
            now = json.dumps(state(memory), sort_keys=True)
        if now != before:  # committed, whether it was said or not
            break
        assert child.returncode
    assert 4 < point < 97
