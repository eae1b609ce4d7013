"""The server over streamable HTTP, for any number of clients, each with a key of the store's server.

What a key is for is all that its client sees: its user's memories, of one agent or in one namespace where the key says
so, to read or to write. Each request is checked anew, and a session belongs to the key that began it.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, Protocol

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import Message, Receive, Scope, Send

from agentmem import AgentMemError, AsyncMemory
from agentmem.errors import InvalidKeyError
from agentmem.mcp.access import Access, access_to
from agentmem.mcp.server import DEFAULT, MemoryServer

PATH = "/mcp"
_ACCESS = "agentmem.access"
_WRITING = "agentmem.writing"
"""Where an app that mounts this puts what is entered while something is written (``agentmem.server.app.WRITING``)."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_PACED = 10_000

_log = logging.getLogger(__name__)


class KeyLike(Protocol):
    """What is asked of a key; see ``agentmem.server.key.Key``."""

    @property
    def id(self) -> str: ...
    @property
    def scopes(self) -> frozenset[str]: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def any_user(self) -> bool: ...
    @property
    def agent_id(self) -> str | None: ...
    @property
    def namespace(self) -> tuple[str, ...] | None: ...
    @property
    def per_minute(self) -> int | None: ...


class Keys(Protocol):
    """What knows the keys; see ``agentmem.server.keys.KeyStore``."""

    @property
    def required(self) -> bool:
        """Whether there has ever been a key."""
        ...

    def check(self, token: str) -> KeyLike:
        """The key of a token; raises ``InvalidKeyError``."""
        ...


class _Refused(Exception):
    """The request goes no further: its status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class McpApp:
    """An ASGI app that serves ``/mcp``: by itself, or mounted by an app that enters its ``lifespan_context``.

    While there has never been a key, who reaches it by a name of this machine has the memories of ``user_id``.
    ``look`` is awaited with each key that is good, and may find that it has ended all the same (``InvalidKeyError``).
    ``sessions`` are for clients of protocols before 2026 that subscribe to resources; they live in one process, so
    without them any worker of several can answer.
    """

    def __init__(
        self,
        memory: AsyncMemory,
        keys: Keys,
        *,
        tools: Sequence[str] = DEFAULT,
        user_id: str | None = None,
        sessions: bool = False,
        read_only: bool = False,
        look: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._memory = memory
        self._keys = keys
        self._look = look
        self._may_write = not read_only
        self._open = access_to(memory, user_id=user_id, write=self._may_write)
        self._pace = _Pace()
        hosts = [*_LOOPBACK, *(f"{host}:*" for host in _LOOPBACK)]
        self._server = MemoryServer(memory, _access_of, tools).lowlevel
        self._security = TransportSecuritySettings(
            enable_dns_rebinding_protection=not keys.required,
            allowed_hosts=hosts,
            allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts],
        )
        self._sessions = sessions
        self._manager: StreamableHTTPSessionManager | None = None

    @asynccontextmanager
    async def lifespan_context(self, app: object = None) -> AsyncGenerator[None]:
        """What it needs as long as it serves; requests before and after it are answered with 503."""
        manager = StreamableHTTPSessionManager(
            self._server, stateless=not self._sessions, security_settings=self._security
        )
        async with manager.run():
            self._manager = manager
            try:
                yield
            finally:
                self._manager = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                await self._serve(scope, receive, send)
            except _Refused as exc:
                await _answer(send, exc.status, str(exc))
            except AgentMemError as exc:
                _log.warning("a request was not served: %s", exc)
                await _answer(send, 503, "the store cannot do this now; the server's log says why")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].removesuffix("/") not in (PATH, ""):
            raise _Refused(404, f"nothing is served here; the protocol is at {PATH}")
        manager = self._manager
        if manager is None:
            raise _Refused(503, "the server is not started, or ends")
        scope = {**scope, _ACCESS: self._open}
        if self._keys.required:
            token = _token(scope)
            key = await self._checked(token)
            self._pace.take(key)
            scope[_ACCESS] = self._access(key, token, scope.get(_WRITING, nullcontext))
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=key.id, scopes=sorted(key.scopes)))
        await manager.handle_request(scope, receive, send)

    async def _checked(self, token: str) -> KeyLike:
        try:
            key = self._keys.check(token)
            if self._look is not None:
                await self._look(key)
        except InvalidKeyError as exc:
            raise _Refused(401, str(exc)) from exc
        if key.any_user:
            raise _Refused(
                403,
                "this key is for everybody's memories, and no tool may choose: make one with `--user`, or with none",
            )
        if not key.scopes & {"read", "write"}:
            raise _Refused(403, f"the key {key.id} may neither read nor write")
        return key

    def _access(self, key: KeyLike, token: str, writing: Callable[[], AbstractContextManager[None]]) -> Access:
        def holds() -> bool:
            try:
                self._keys.check(token)
            except AgentMemError:
                return False
            return True

        return access_to(
            self._memory,
            user_id=key.user_id,
            agent_id=key.agent_id,
            namespace=key.namespace or (),
            read="read" in key.scopes,
            write=self._may_write and "write" in key.scopes,
            holds=holds,
            writing=writing,
        )

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.lifespan_context():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def build_app(memory: AsyncMemory, keys: Keys) -> McpApp:
    """The app as the store's server mounts it: any of several processes may answer a request."""
    return McpApp(memory, keys)


def _access_of(ctx: ServerRequestContext[Any, Any]) -> Access:
    assert ctx.request is not None  # over HTTP there is one
    return ctx.request.scope[_ACCESS]


def _token(scope: Scope) -> str:
    given = [(name, value.decode("latin-1").strip()) for name, value in scope["headers"]]
    tokens = [value for name, value in given if name == b"x-api-key"]
    for name, value in given:
        if name == b"authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() != "bearer":
                raise _Refused(401, "send the key as `Authorization: Bearer amk_…`")
            tokens.append(token.strip())
    if not tokens:
        raise _Refused(
            401, "this needs a key: send it as `Authorization: Bearer amk_…`; `agentmem key create` makes one"
        )
    if len(set(tokens)) > 1:
        raise _Refused(401, "the request names more than one key; send one")
    return tokens[0]


class _Pace:
    """Keeps keys to the number of requests that they may make in a minute: a bucket of so many, refilled evenly."""

    def __init__(self) -> None:
        self._left = OrderedDict[str, tuple[float, float]]()

    def take(self, key: KeyLike) -> None:
        if key.per_minute is None:
            return
        now = time.monotonic()
        left, at = self._left.pop(key.id, (float(key.per_minute), now))
        left = min(float(key.per_minute), left + (now - at) * key.per_minute / 60)
        self._left[key.id] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._left) > _PACED:
            self._left.popitem(last=False)
        if left < 1:
            raise _Refused(429, f"the key {key.id} may make {key.per_minute} requests a minute; wait a little")


async def _answer(send: Send, status: int, why: str) -> None:
    """A refusal, as the protocol's clients read it."""
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": why}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
