"""Running the server over HTTP by itself, where nothing else of the store is to be served."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from typing_extensions import override

from agentmem import InvalidInputError
from agentmem.mcp.http import PATH, Keys, McpApp

GRACE_S = 10
"""For which requests that are under way may go on after SIGTERM."""


def serve(app: McpApp, keys: Keys, *, host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT.

    While there has never been a key, only this machine may reach it: ``InvalidInputError`` for another host.
    """
    if not keys.required and not is_local(host):
        raise InvalidInputError(
            f"there is no key yet, and {host} lets other machines in; make a key first "
            "(agentmem key create --user NAME --scopes read,write), or serve on 127.0.0.1",
            field="host",
        )
    entering = "to those with a key" if keys.required else "without keys, to this machine only"
    shown = f"[{host}]" if ":" in host else host
    say(f"serving at http://{shown}:{port}{PATH}, {entering}")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="on",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    """Comes back after a signal that asked it to end, so that the store is closed: uvicorn's own raises it again."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def is_local(host: str) -> bool:
    """Whether only this machine reaches it there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
