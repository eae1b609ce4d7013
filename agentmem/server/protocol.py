"""Connections, as uvicorn speaks HTTP on them, with the limits that it lacks: for heads that are slow or have no end,
and for how many there may be."""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentmem.server.endpoint import FOLLOWS

HEAD_S = 10.0
"""For which the head of a request may take, also the first one of a connection."""
HEAD_BYTES = 65_536
_MOST = 4_000
_RESERVED = 512
"""Files that the store opens, and the rest of the process."""


def most_connections() -> int:
    """How many connections this process has room for."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    except (ImportError, OSError, ValueError):
        return _MOST
    return 65_536 if soft == resource.RLIM_INFINITY else max(64, soft - _RESERVED)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _most = most_connections()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = self._named = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]
        if len(self.connections) > self._most:
            self.transport.abort()
        else:
            self._await_head()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self.transport.abort()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._await_head()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._named += len(name) + len(value) + 4
        if self._named > HEAD_BYTES:  # it came at once, before anybody could look
            raise ValueError("the head has no end")
        super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._no_more_waiting()
        super().on_headers_complete()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._no_more_waiting()
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
        super().shutdown()
        if self.scope is not None and self.scope.get(FOLLOWS):  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()  # it has no end to wait for, and whoever follows comes back

    def _await_head(self) -> None:
        self._head = self._named = 0
        self._deadline = self.loop.call_later(HEAD_S, self._too_late)

    def _no_more_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()
