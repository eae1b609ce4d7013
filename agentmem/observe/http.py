"""``/metrics`` as an ASGI app: mounted by the store's server, or by an app of one's own."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from agentmem.observe.prometheus import TYPE, Metrics, Store
from agentmem.types.errors import AgentMemError, InvalidKeyError

_log = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _KeyLike(Protocol):
    @property
    def scopes(self) -> frozenset[str]: ...


class Keys(Protocol):
    """What knows the keys; see ``agentmem.server.keys.KeyStore``."""

    @property
    def required(self) -> bool:
        """Whether there has ever been a key."""
        ...

    def check(self, token: str) -> _KeyLike:
        """The key of a token; raises ``InvalidKeyError``."""
        ...


class MetricsApp:
    """Answers GET with the figures. Where there are keys, to one with the scope ``admin``: they are of the whole store,
    and the way to them is ``Authorization: Bearer``, as Prometheus sends it (``authorization.credentials_file``)."""

    def __init__(self, memory: Store, keys: Keys | None = None) -> None:
        self._memory = memory
        self._keys = keys
        self._metrics: Metrics | None = None

    @asynccontextmanager
    async def lifespan_context(self, app: object = None) -> AsyncGenerator[None]:
        """Counts as long as it lasts; without it, from the first request on."""
        metrics = self._started()
        try:
            yield
        finally:
            self._metrics = None
            metrics.close()

    def _started(self) -> Metrics:
        if self._metrics is None:
            self._metrics = Metrics()
        return self._metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await receive()
            async with self.lifespan_context():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            return
        status, body = await self._answer(scope)
        headers = [
            (b"content-type", (TYPE if status == 200 else "text/plain; charset=utf-8").encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope) -> tuple[int, bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, b"GET it\n"
        try:
            if self._keys is not None and self._keys.required:
                key = self._keys.check(_token(scope))
                if "admin" not in key.scopes:
                    return 403, b"metrics are of the whole store: this needs a key with the scope admin\n"
            return 200, await self._started().text(self._memory)
        except InvalidKeyError as exc:
            return 401, f"{exc}\n".encode()
        except AgentMemError as exc:
            _log.warning("metrics were not given: %s", exc)
            return 503, b"the store cannot say this now; the log says why\n"


def build_app(memory: Store, keys: Keys | None = None) -> MetricsApp:
    """The app as the store's server mounts it."""
    return MetricsApp(memory, keys)


def _token(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return token.strip()
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
    return ""
