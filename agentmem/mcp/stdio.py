"""The server over standard input and output: one client, who started this process."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ObjectSendStream
from mcp import types
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from agentmem import Memory
from agentmem.mcp.access import access_to
from agentmem.mcp.importing import Imported, import_file
from agentmem.mcp.server import DEFAULT, MemoryServer
from agentmem.mcp.tools import sendable


def serve(
    memory: Memory,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    namespace: tuple[str, ...] = (),
    read_only: bool = False,
    tools: Sequence[str] = DEFAULT,
    graph_file: Path | None = None,
    imported: Callable[[Imported], object] = lambda done: None,
) -> None:
    """Serve one client until it closes standard input.

    SIGINT and SIGTERM end the process with the store closed. ``graph_file`` is taken in first, and told of by
    ``imported``. Raises ``ScopeError`` and ``InvalidInputError`` before anything is read.
    """
    access = access_to(
        memory.aio,
        user_id=user_id,
        agent_id=agent_id,
        namespace=namespace,
        write=not (read_only or memory.handle.read_only),
    )
    server = MemoryServer(memory.aio, lambda ctx: access, tools).lowlevel

    async def run() -> None:
        if graph_file is not None:
            imported(await import_file(access, graph_file))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_on_signals, memory)
            async with stdio_server() as (incoming, outgoing):
                sender, mended = anyio.create_memory_object_stream[SessionMessage | Exception](0)
                tasks.start_soon(_mend, incoming, sender, outgoing)
                await server.run(mended, outgoing, server.create_initialization_options())
            tasks.cancel_scope.cancel()

    anyio.run(run)


async def _mend(
    incoming: AsyncIterable[SessionMessage | Exception],
    mended: ObjectSendStream[SessionMessage | Exception],
    outgoing: Any,
) -> None:
    """Hand on what is read; a line that is no message is answered, where the package behind this says nothing, and its
    client would wait. Half characters, which JavaScript makes of an emoji that it cuts, become ``?``."""
    async with mended:
        async for item in incoming:
            if not isinstance(item, ValidationError):
                await mended.send(item)
                continue
            try:
                whole = sendable(json.dumps(json.loads(item.errors()[0]["input"]), ensure_ascii=False))
                message = types.jsonrpc_message_adapter.validate_json(whole, by_name=False)
            except (ValueError, TypeError, RecursionError):
                error = types.ErrorData(code=types.PARSE_ERROR, message="this line is no message of JSON-RPC 2.0")
                await outgoing.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=None, error=error)))
            else:
                await mended.send(SessionMessage(message))


async def _end_on_signals(memory: Memory) -> None:
    """The thread that reads standard input cannot be interrupted, so the process ends here."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            await anyio.to_thread.run_sync(memory.close)
            sys.stderr.flush()
            os._exit(128 + number)
