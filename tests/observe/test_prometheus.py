"""What Prometheus is told: all that was asked, of all workers, and of no single user."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder
from prometheus_client.parser import text_string_to_metric_families

from agentmem import AsyncMemory, InvalidInputError, Memory
from agentmem.observe.http import MetricsApp, build_app
from agentmem.observe.prometheus import Metrics, names
from agentmem.server.keys import KeyStore


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("metrics") / "store", embedder=HashEmbedder()) as memory:
        yield memory


def read(text: bytes) -> dict[tuple[str, str], float]:
    """Values by name and operation."""
    found = dict[tuple[str, str], float]()
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            assert set(sample.labels) <= {"operation", "le"}
            assert not sample.name.startswith("agentmem_") or sample.name.endswith("_created") or sample.name in names()
            if "le" not in sample.labels:
                found[sample.name, sample.labels.get("operation", "")] = sample.value
    return found


def test_calls_and_figures(memory: Memory) -> None:
    metrics = Metrics()
    memory.add("Ana plays the cello.", user_id="ana")
    for _ in range(4):
        memory.search("cello", user_id="ana")
    with pytest.raises(InvalidInputError):
        memory.search("x", vector=[1.0])
    found = read(asyncio.run(metrics.text(memory.aio)))
    metrics.close()
    memory.search("not counted any more", user_id="ana")
    assert found["agentmem_calls_total", "search"] == found["agentmem_call_seconds_count", "search"] == 5
    assert found["agentmem_calls_total", "add"] == 1
    assert found["agentmem_refused_total", "search"] == 1
    assert ("agentmem_failures_total", "search") not in found
    assert (found["agentmem_records", ""], found["agentmem_healthy", ""]) == (1, 1)
    assert found["agentmem_cache_hit_ratio", ""] == 0.6
    assert found["agentmem_uptime_percent", ""] == 100
    assert found["agentmem_size_bytes", ""] == memory.kpis().total_size
    absent = {"agentmem_call_seconds_bucket", "agentmem_recovery_seconds", "agentmem_failures_total"}
    absent |= {"agentmem_backup_age_seconds", "agentmem_backup_behind"}
    assert {name for name, _ in found} >= set(names()) - absent


WORKER = """
import asyncio, sys
from agentmem import Memory
from agentmem.observe.prometheus import Metrics
metrics = Metrics()
with Memory(sys.argv[1]) as memory:
    for number in range(int(sys.argv[2])):
        memory.count(user_id="ana")
        memory.add(f"{sys.argv[2]} {number}", embed=False)
    if sys.argv[3] == "tell":
        sys.stdout.buffer.write(asyncio.run(metrics.text(memory.aio)))
"""


def test_several_workers_are_added_up(tmp_path: Path) -> None:
    folder = tmp_path / "counted"
    folder.mkdir()
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}

    def work(count: int, tell: str) -> bytes:
        command = [sys.executable, "-c", WORKER, str(tmp_path / "store"), str(count), tell]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    work(3, "work")
    found = read(work(4, "tell"))
    assert found["agentmem_calls_total", "add"] == found["agentmem_call_seconds_count", "add"] == 7
    assert (found["agentmem_records", ""], found["agentmem_uptime_percent", ""]) == (7, 100)


def ask(app: MetricsApp, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    sent = list[Any]()
    scope = {
        "type": "http", "method": method, "path": "/metrics",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        async with app.lifespan_context():
            await app(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], sent[1]["body"]


def test_the_app_and_who_may_read_it(memory: Memory, tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    app = build_app(memory.aio, keys)
    status, body = ask(app)
    assert status == 200
    assert b"agentmem_records" in body
    assert ask(app, "HEAD") == (200, b"")
    assert ask(app, "POST")[0] == 405
    admin = keys.create(scopes=["admin"], any_user=True).token
    reader = keys.create(scopes=["read"], user_id="ana").token
    assert ask(app)[0] == 401
    assert ask(app, authorization="Bearer amk_a_b")[0] == 401
    assert ask(app, authorization=f"Bearer {reader}")[0] == 403
    assert ask(app, authorization=f"Bearer {admin}")[0] == 200
    assert ask(app, x_api_key=admin)[0] == 200
    keys.close()


def test_a_store_that_is_gone_is_told_of(tmp_path: Path) -> None:
    store = tmp_path / "store"

    async def run() -> bytes:
        async with AsyncMemory(store, embedder=HashEmbedder()) as memory:
            await memory.add("a")
            metrics = Metrics()
            store.rename(tmp_path / "moved")
            text = await metrics.text(memory)
            metrics.close()
            return text

    found = read(asyncio.run(run()))
    assert found["agentmem_healthy", ""] == 0
    assert ("agentmem_records", "") not in found
