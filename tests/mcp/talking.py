"""A client of the protocol that talks to a server in this process, and one that starts `agentmem mcp`."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
from mcp import Client, StdioServerParameters, stdio_client

from agentmem import Memory
from agentmem.mcp.access import access_to
from agentmem.mcp.server import MemoryServer

T = TypeVar("T")


class Talk:
    """Calls tools and keeps to what a model sees of the results."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, **arguments: Any) -> str:
        """The text of a call that must succeed."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        return result.content[0].text

    async def data(self, tool: str, **arguments: Any) -> Any:
        """The data of a call that must succeed."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def error(self, tool: str, **arguments: Any) -> str:
        """The text of a call that must fail, visibly to the model."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.content
        assert result.structured_content is None
        return result.content[0].text


def talk(
    memory: Memory,
    body: Callable[[Talk], Awaitable[T]],
    *,
    user: str | None = "ana",
    tools: tuple[str, ...] = ("memory",),
    namespace: tuple[str, ...] = (),
    write: bool = True,
    mode: Any = "auto",
) -> T:
    """Run a conversation with a server in this process."""

    async def run() -> T:
        access = access_to(memory.aio, user_id=user, namespace=namespace, write=write)
        server = MemoryServer(memory.aio, lambda ctx: access, tools)
        server.resources.every_s = 0.05
        with anyio.fail_after(60):
            async with Client(server.lowlevel, mode=mode) as client:
                return await body(Talk(client))

    return anyio.run(run)


def command(store: Path, *options: str) -> StdioServerParameters:
    """What starts `agentmem mcp` on a store."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "agentmem", "mcp", "--path", str(store), *options],
        env={name: value for name, value in os.environ.items() if name != "AGENTMEM_PATH"},
    )


def started(store: Path, *options: str) -> Client:
    """A client that starts `agentmem mcp` on a store when it is entered."""
    return Client(stdio_client(command(store, *options)))
