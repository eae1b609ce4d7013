"""Servers for tests: in this process, its app and calls of it, each by a loop of its own; and in one of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import ROOT, HashEmbedder

from agentmem import AsyncMemory, Settings
from agentmem.server.app import App
from agentmem.server.keys import KeyStore

PROGRAM = """
import json, sys
from conftest import HashEmbedder
from agentmem.server import protocol, running
from agentmem.server.limits import Limits

if __name__ == "__main__":
    protocol.HEAD_S = 1.0
    options = json.loads(sys.argv[1])
    limits = Limits(silence_s=2.0)
    say = lambda text: print(text, flush=True)
    sys.exit(running.serve(running.Options(**options, port=0, embedder=HashEmbedder(), limits=limits), say))
"""
"""A server of its own process; its options as JSON in the arguments."""


@contextmanager
def running(folder: Path) -> Generator[str]:
    """The URL of a server in a process of its own, on ``store`` in a folder, with places for backups and archives."""
    (folder / "program.py").write_text(PROGRAM)
    places = {"AGENTMEM_MEMORY__BACKUP__URL": "backups", "AGENTMEM_MEMORY__GLACIER__URL": "glacier"}
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    env = os.environ | {name: str(folder / place) for name, place in places.items()} | paths
    command = [sys.executable, str(folder / "program.py"), json.dumps({"path": str(folder / "store")})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split(" at ")[1].split(",")[0]
        finally:
            server.terminate()


class Served:
    """A server. ``call`` takes for a key its token, or the name of a user whose key is made when it is first needed;
    that of ``boss`` is for any user, with all scopes."""

    def __init__(self, folder: Path, *, embedder: HashEmbedder | None = None, **options: Any) -> None:
        self.path = folder / "store"
        self.settings = Settings(backup={"url": str(folder / "backups")}, glacier={"url": str(folder / "glacier")})
        self.memory = AsyncMemory(self.path, embedder=embedder or HashEmbedder(), settings=self.settings)
        self.memory.blocking.warm_up()
        self.keys = KeyStore(self.path)
        self.app = App(self.memory, self.keys, **options)
        self._tokens = dict[str, str]()

    def close(self) -> None:
        self.keys.close()
        asyncio.run(self.memory.aclose())

    def key(self, **walls: Any) -> str:
        """The token of a new key, with all scopes that make sense, unless it says which."""
        everything = ["read", "write", "erase", *(["admin"] if walls.get("any_user") else [])]
        return self.keys.create(**{"scopes": everything, **walls}).token

    def token(self, name: str) -> str:
        """The token of a user's key."""
        if name not in self._tokens:
            self._tokens[name] = self.key(any_user=True) if name == "boss" else self.key(user_id=name)
        return self._tokens[name]

    def call(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        """One request."""
        headers = dict[str, str]()
        if key is not None:
            headers["authorization"] = f"Bearer {key if key.startswith('amk_') else self.token(key)}"
        headers |= options.pop("headers", {})

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(run())

    def add(self, content: str, key: str, **more: Any) -> str:
        """Add a memory; its id."""
        made = self.call("POST", "/v1/memories", key, json={"content": content, **more})
        assert made.status_code == 201, made.text
        return made.json()["id"]
