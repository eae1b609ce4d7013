"""`agentmem mcp` as its users start it: a process for each client, any number of them on one store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from shell import Shell
from talking import Talk, command, started

from agentmem import Memory


def test_a_client_starts_it_and_finds_it_all_again(tmp_path: Path) -> None:
    store, graph = tmp_path / "store", tmp_path / "memory.jsonl"
    graph.write_text(json.dumps({"type": "entity", "name": "Rui", "entityType": "person", "observations": ["sings"]}))
    options = ("--user", "ana", "--tools", "memory,graph", "--import", str(graph))

    async def run() -> None:
        with anyio.fail_after(60):
            async with started(store, *options) as client:
                say = Talk(client)
                assert len((await client.list_tools()).tools) == 15
                await say("remember", content="Ana plays the cello.")
                assert "sings" in await say("read_graph")

    anyio.run(run)
    with Memory(store) as memory:
        assert [hit.content for hit in memory.search("cello", user_id="ana")] == ["Ana plays the cello."]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_while_it_waits(tmp_path: Path, number: signal.Signals) -> None:
    given = command(tmp_path / "store")
    process = subprocess.Popen(
        [given.command, *given.args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    process.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode() + b"\n"
    )
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "agentmem"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in errors


def test_lines_that_are_no_messages_are_answered(tmp_path: Path) -> None:
    """So that nobody waits: half an emoji, as JavaScript cuts it, is kept as a question mark."""
    given = command(tmp_path / "store")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    remember = {"name": "remember", "arguments": {"content": "half a smile \ud83d"}}
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": remember},
    ]
    with subprocess.Popen([given.command, *given.args], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = list[dict[str, object]]()
        for line in (json.dumps(requests[0]), "[nonsense", *map(json.dumps, requests[1:])):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            if "notifications" not in line:
                answers.append(json.loads(process.stdout.readline()))
        process.stdin.close()
    assert answers[1]["error"]["code"] == -32_700  # pyright: ignore[reportIndexIssue]
    assert answers[2]["id"] == 2
    with Memory(tmp_path / "store") as memory:
        assert [record.content for record in memory.iterate()] == ["half a smile ?"]


def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "store")
    assert "there is no tool or set 'all'" in shell.error("mcp", "--tools", "all")
    assert "user_id" in shell.error("mcp", "--user", "")
    (tmp_path / "notes").write_text("milk")
    assert "is no file of a knowledge graph" in shell.error("mcp", "--import", str(tmp_path / "notes"))


@pytest.mark.slow
def test_eight_servers_write_to_one_store(tmp_path: Path) -> None:
    store = tmp_path / "store"

    async def write(number: int) -> None:
        async with started(store, "--user", "ana", "--tools", "memory,graph") as client:
            say = Talk(client)
            for count in range(100):
                await say("remember", content=f"Server {number} wrote {count}.")
                await say(
                    "create_entities",
                    entities=[{"name": f"{number}-{count}", "entityType": "thing", "observations": ["is there"]}],
                )

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(write, number)

    anyio.run(run)
    with Memory(store) as memory:
        assert memory.count(user_id="ana") == 800
        assert memory.count(user_id="ana", under=("knowledge", "entities")) == 800
        assert memory.count(user_id="ana", under=("knowledge", "observations")) == 800
        assert memory.verify().ok


@pytest.mark.slow
def test_what_a_killed_server_acknowledged_is_there(tmp_path: Path) -> None:
    store, acknowledged = tmp_path / "store", list[str]()

    async def run() -> None:
        for _ in range(3):
            with anyio.move_on_after(60):
                async with started(store, "--user", "ana") as client:
                    say = Talk(client)
                    pid = int(await _pid(store))
                    for count in range(50):
                        acknowledged.append((await say.data("remember", content=f"Of {pid}: {count}."))["id"])
                    os.kill(pid, signal.SIGKILL)

    async def _pid(store: Path) -> str:
        found = await anyio.run_process(["pgrep", "-n", "-f", f"agentmem mcp --path {store}"])
        return found.stdout.decode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}")
        anyio.run(run)
    with Memory(store) as memory:
        assert {record.id for record in memory.iterate(user_id="ana")} >= set(acknowledged)
        assert len(acknowledged) == 150
