"""The server over streamable HTTP: each client has its key's memories, and nobody else's."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from conftest import HashEmbedder
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from talking import Talk

from agentmem import Memory
from agentmem.mcp.http import McpApp
from agentmem.server.keys import KeyStore

HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
ACCEPT = {"accept": "application/json, text/event-stream"}


class Served:
    """A store served by this process, at a port of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.memory = Memory(folder, embedder=HashEmbedder())
        self.memory.stats()
        self.keys = KeyStore(folder)
        self.first = (
            self.keys.create(scopes=["read", "write"], user_id="ana").token if options.pop("keys", True) else ""
        )
        self.app = McpApp(self.memory.aio, self.keys, sessions=True, **options)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, lifespan="on", log_level="error", timeout_graceful_shutdown=2)
        )
        self.thread = threading.Thread(target=self.server.run, args=([listening],))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.keys.close()
        self.memory.close()

    def post(self, message: Any = INITIALIZE, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx2.post(self.url, json=message, headers={**ACCEPT, **named})

    def talk(self, body: Any, token: str | None = None, mode: Any = "auto") -> Any:
        """Run a conversation with the key."""

        async def run() -> Any:
            headers = {"authorization": f"Bearer {token or self.first}"}
            with anyio.fail_after(60):
                async with (
                    httpx2.AsyncClient(headers=headers) as http,
                    Client(streamable_http_client(self.url, http_client=http), mode=mode) as client,
                ):
                    return await body(Talk(client))

        return anyio.run(run)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("http") / "store")
    yield served
    served.close()


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("open") / "store", keys=False, user_id="ana")
    yield served
    served.close()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_key_has_its_users_memories(served: Served, mode: str) -> None:
    ben = served.keys.create(scopes=["read", "write"], user_id="ben").token

    async def tell(say: Talk) -> None:
        await say("remember", content=f"Ben's word is heron ({mode}).")

    async def ask(say: Talk) -> None:
        await say("remember", content="Ana's word is stork.")
        found = await say.data("recall", query="whose word", limit=50)
        assert [one["text"] for one in found["memories"]] == ["Ana's word is stork."]
        assert "has no argument 'user_id'" in await say.error("recall", query="word", user_id="ben")

    served.talk(tell, ben, mode)
    served.talk(ask, mode=mode)


def test_scopes_agents_and_namespaces_of_keys(served: Served) -> None:
    reading = served.keys.create(scopes=["read"], user_id="ida").token
    writing = served.keys.create(scopes=["write"], user_id="ida").token
    letters = served.keys.create(scopes=["read", "write"], user_id="ida", namespace=["letters"], agent_id="a").token

    async def write(say: Talk) -> None:
        assert [tool.name for tool in (await say.client.list_tools()).tools] == ["remember", "update", "forget"]
        await say("remember", content="Ida sings.")
        assert "add and not read" in await say.error("recall", query="sings")
        with pytest.raises(Exception, match="not read"):
            await say.client.read_resource("memory://recent")

    async def read(say: Talk) -> None:
        assert "Ida sings." in await say("recall", query="sings")
        assert "read and not change" in await say.error("remember", content="x")

    async def letter(say: Talk) -> None:
        assert await say("recall", query="sings") == "Nothing is known about that."
        await say("remember", content="Dear Rui,")

    served.talk(write, writing)
    served.talk(read, reading)
    served.talk(letter, letters)
    record = served.memory.page(user_id="ida", under=("letters",)).records[0]
    assert (record.content, record.agent_id, record.namespace) == ("Dear Rui,", "a", ("letters",))


def test_without_a_valid_key_nobody_enters(served: Served) -> None:
    gone, admin = served.keys.create(scopes=["read"], user_id="ana"), served.keys.create(scopes=["read"], any_user=True)
    erase = served.keys.create(scopes=["erase"], user_id="ana").token
    assert served.post(authorization=f"Bearer {gone.token}").status_code == 200
    served.keys.revoke(gone.key.id)
    for headers, status, why in (
        ({}, 401, "this needs a key"),
        ({"authorization": "Bearer amk_x_y"}, 401, "not a valid key"),
        ({"authorization": "Basic YTpi"}, 401, "send the key as"),
        ({"authorization": f"Bearer {gone.token}"}, 401, "was revoked"),
        ({"authorization": f"Bearer {served.first}", "x_api_key": gone.token}, 401, "more than one key"),
        ({"authorization": f"Bearer {admin.token}"}, 403, "for everybody's memories"),
        ({"x_api_key": erase}, 403, "neither read nor write"),
    ):
        found = served.post(**headers)
        assert (found.status_code, why in found.json()["error"]["message"]) == (status, True), found.text
        assert ("www-authenticate" in found.headers) == (status == 401)
    assert served.post(x_api_key=served.first).status_code == 200
    assert httpx2.get(served.url + "/../v1/memories").status_code == 404


def test_a_session_belongs_to_its_key(served: Served) -> None:
    other = served.keys.create(scopes=["read", "write"], user_id="ana").token
    begun = served.post(authorization=f"Bearer {served.first}")
    session = {"mcp_session_id": begun.headers["mcp-session-id"], "mcp_protocol_version": "2025-06-18"}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    assert served.post(listing, authorization=f"Bearer {other}", **session).status_code == 404
    assert served.post(listing, authorization=f"Bearer {served.first}", **session).status_code == 200


def test_a_key_keeps_to_its_pace(served: Served) -> None:
    token = served.keys.create(scopes=["read"], user_id="ana", per_minute=2).token
    found = [served.post(x_api_key=token).status_code for _ in range(3)]
    assert found == [200, 200, 429]


def test_a_key_that_ends_hears_no_more(served: Served) -> None:
    made = served.keys.create(scopes=["read"], user_id="lea")

    async def body(say: Talk) -> None:
        with anyio.move_on_after(1.5) as waiting:
            async with say.client.listen(resource_subscriptions=["memory://recent"]) as events:
                await anyio.sleep(0.2)
                served.keys.revoke(made.key.id)
                served.memory.add("Lea left.", user_id="lea")
                async for _ in events:
                    raise AssertionError("it was told")
        assert waiting.cancelled_caught

    served.talk(body, made.token)


def test_without_keys_this_machine_only(open_: Served) -> None:
    assert open_.post().status_code == 200
    for headers, status in (
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:80"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ):
        assert open_.post(**headers).status_code == status

    async def body(say: Talk) -> None:
        await say("remember", content="Ana is at home.")

    open_.talk(body, "none")
    assert open_.memory.count(user_id="ana") == 1


def test_large_and_broken_bodies(open_: Served) -> None:
    headers = {**ACCEPT, "content-type": "application/json"}
    for body, status in (
        (b"x" * 5_000_000, 413),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call"}', 400),
    ):
        assert httpx2.post(open_.url, content=body, headers=headers).status_code == status
    assert open_.post().status_code == 200


def test_the_command_serves_and_ends_in_order(tmp_path: Path) -> None:
    arguments = ["-m", "agentmem", "mcp", "--http", "--path", str(tmp_path / "store"), "--user", "ana", "--port"]
    refused = subprocess.run(
        [sys.executable, *arguments, "1", "--host", "0.0.0.0"], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, "there is no key yet" in refused.stderr) == (1, True), refused.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, *arguments, str(port)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert re.search(r"serving at http://127\.0\.0\.1:\d+/mcp, without keys", process.stderr.readline())
        for _ in range(400):
            try:
                found = httpx2.post(f"http://127.0.0.1:{port}/mcp", json=INITIALIZE, headers=ACCEPT)
                break
            except httpx2.ConnectError:
                time.sleep(0.05)
        assert '"agentmem"' in found.text
        keys = KeyStore(tmp_path / "store")
        made = [keys.create(scopes=["read"], user_id=user).token for user in ("ben", "eva")]
        keys.close()
        with Memory(tmp_path / "store") as memory:
            memory.add("Eva was here", user_id="eva")
            memory.erase_all(user_id="eva")  # by somebody who knows of no keys
        for token, status in zip(made, (200, 401), strict=True):
            headers = {**ACCEPT, "authorization": f"Bearer {token}"}
            assert httpx2.post(f"http://127.0.0.1:{port}/mcp", json=INITIALIZE, headers=headers).status_code == status
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
