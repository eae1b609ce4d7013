"""The protocol's own conformance scenarios and its inspector, against `agentmem mcp --http`.

Slow: they are installed by npm, with a Node that is young enough for them. By hand, in a folder of its own:
``npm install node@22 @modelcontextprotocol/conformance@0.1.16``, then with ``node_modules/.bin`` on the path
``conformance server --url http://127.0.0.1:8378/mcp --scenario tools-list``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
    pytest.mark.timeout(900),
]
PACKAGES = ("node@22", "@modelcontextprotocol/conformance@0.1.16", "@modelcontextprotocol/inspector@2.12.0")
SCENARIOS = (
    "server-initialize", "ping", "tools-list", "tools-call-error", "server-sse-multiple-streams", "resources-list",
    "prompts-list", "dns-rebinding-protection",
)  # fmt: skip
"""Those that need no tools and resources of a server made for the suite."""


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the official programs run."""
    folder = tmp_path_factory.mktemp("official")
    subprocess.run(["npm", "install", "--silent", *PACKAGES[:1]], cwd=folder, check=True, capture_output=True)
    path = os.pathsep.join([str(folder / "node_modules" / ".bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "HOME": str(folder)}
    subprocess.run(
        ["npm", "install", "--silent", *PACKAGES[1:]], cwd=folder, check=True, capture_output=True, env=environment
    )
    return environment


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "agentmem", "mcp", "--http", "--port", str(port), "--user", "ana"]
    store = str(tmp_path_factory.mktemp("served") / "store")
    process = subprocess.Popen([*command, "--tools", "memory,graph", "--path", store])
    for _ in range(400):
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/mcp"
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_conformance(official: dict[str, str], url: str, scenario: str) -> None:
    command = ["conformance", "server", "--url", url, "--scenario", scenario]
    done = subprocess.run(command, env=official, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed, 0 warnings" in done.stdout


def test_the_inspector_lists_and_calls_each_tool(official: dict[str, str], url: str) -> None:
    def inspect(*arguments: str) -> Any:
        command = ["mcp-inspector", "--cli", url, "--transport", "http", *arguments]
        done = subprocess.run(command, env=official, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def call(tool: str, **arguments: Any) -> Any:
        given = [f"{name}={one if isinstance(one, str) else json.dumps(one)}" for name, one in arguments.items()]
        found = inspect("--method", "tools/call", "--tool-name", tool, *(["--tool-arg", *given] if given else []))
        assert not found.get("isError"), found
        called.add(tool)
        return found.get("structuredContent")

    called = set[str]()
    listed = {tool["name"] for tool in inspect("--method", "tools/list")["tools"]}
    id = call("remember", content="Ana plays the cello.")["id"]
    assert [one["id"] for one in call("recall", query="instrument", limit=1)["memories"]] == [id]
    call("context", query="instrument")
    call("update", id=id, content="Ana plays the harp.")
    assert len(call("history", id=id)["events"]) == 2
    call("forget", id=id)
    call("create_entities", entities=[{"name": name, "entityType": "person", "observations": []} for name in "ab"])
    relations = [{"from": "a", "to": "b", "relationType": "knows"}]
    call("create_relations", relations=relations)
    call("add_observations", observations=[{"entityName": "a", "contents": ["sings", "swims"]}])
    call("delete_observations", deletions=[{"entityName": "a", "observations": ["swims"]}])
    assert len(call("search_nodes", query="sings")["entities"]) == 1
    assert call("open_nodes", names=["b"])["relations"] == relations
    call("delete_relations", relations=relations)
    call("delete_entities", entityNames=["b"])
    assert [one["name"] for one in call("read_graph")["entities"]] == ["a"]
    assert called == listed
