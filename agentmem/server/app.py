"""The server as an ASGI app: finds the endpoint, lets in who may enter, and sends what comes of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import Any, cast

import anyio

from agentmem import AgentMemError, AsyncMemory, InvalidInputError
from agentmem.server import entering, idempotency
from agentmem.server.answers import CLOSE, Answer, HttpError, Send, problem
from agentmem.server.calls import Call
from agentmem.server.clipping import clipped
from agentmem.server.endpoint import FOLLOWS, Endpoint, Router
from agentmem.server.keys import KeyStore
from agentmem.server.limits import Buckets, Limits
from agentmem.server.pages import page_of, pages
from agentmem.server.reading import Receive, checked, headers_of, parsed, queried, read_body, refuse_encoded
from agentmem.server.routes import ENDPOINTS
from agentmem.server.visit import Visit

_TIDY_S = 60.0
_PATH = "agentmem.path"
WRITING = "agentmem.writing"
"""Under this a mounted app finds in the scope of a request what to enter while it writes for the key's user, so that an
erasure waits for it: ``with scope[WRITING](): ...``."""
Observe = Callable[[str, str | None, int, float], object]
"""Takes the method of a request, the path of its endpoint with names in braces (None: there is none), the status of the
answer, and the seconds until it was sent."""

log = logging.getLogger("agentmem.server")


class App:
    """Serves ``memory`` as ``keys`` allow; whoever made them closes them, or this does in the end (``close_both``).

    ``mounts`` are ASGI apps by the path that they answer at and below; they let in whom they like by themselves, and
    those that have a ``lifespan_context`` live as long as this. With ``open`` no key is needed while there has never
    been one; ``visit`` lets somebody in without. ``observe`` is told of each request, once it was answered.
    """

    def __init__(
        self,
        memory: AsyncMemory,
        keys: KeyStore,
        *,
        limits: Limits | None = None,
        open: bool = False,
        mounts: Mapping[str, Any] | None = None,
        endpoints: Sequence[Endpoint] = ENDPOINTS,
        close_both: bool = False,
        observe: Observe | None = None,
        visit: Visit | None = None,
    ) -> None:
        self._memory = memory
        self._keys = keys
        self._limits = limits or Limits()
        visitor = None if visit is None else visit.who
        self._gate = entering.Gate(memory, keys, open=open, visitor=visitor)
        self._buckets = Buckets(self._limits)
        self._mounts = dict(mounts or {})
        self._close_both = close_both
        self._observe = observe
        self._router = Router([*endpoints, *([] if visit is None else [visit.endpoint()])])
        pages()  # read now, and not by the first who asks

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            path: str = scope["path"]
            for prefix, app in self._mounts.items():
                if path == prefix or path.startswith(f"{prefix}/"):
                    await self._mounted(app, scope, receive, send)
                    return
            began = time.perf_counter()
            answer = await self.answer(scope, receive)
            await answer.send(send, head=scope["method"] == "HEAD")
            if self._observe is not None:
                self._observe(scope["method"], scope.get(_PATH), answer.status, time.perf_counter() - began)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _mounted(self, app: Any, scope: Any, receive: Receive, send: Send) -> None:
        """What holds for all apps alike: how often a key may ask, and that it ends with its user. Who has no key, or a
        bad one, is told so by the app, in its own words."""
        try:
            key = await self._gate.glance(headers_of(scope["headers"]))
            if key is not None:
                self._buckets.take(key.id, key.per_minute)
        except (AgentMemError, HttpError) as exc:
            await problem(exc).send(send)
        else:
            if key is not None:
                scope = {**scope, WRITING: partial(self._gate.writing, key.user_id)}
            await app(scope, receive, send)

    async def answer(self, scope: Any, receive: Receive) -> Answer:
        """The answer to one request; errors are answers, too."""
        try:
            page = page_of(scope["path"], scope["headers"]) if scope["method"] in ("GET", "HEAD") else None
            if page is not None:
                return page
            endpoint, names = self._router.find(scope["method"], scope.get("raw_path") or scope["path"].encode())
            scope[_PATH] = endpoint.path
            scope[FOLLOWS] = endpoint.events
            if endpoint.slow or endpoint.streams:
                return await self._run(endpoint, names, scope, receive)
            async with asyncio.timeout(self._limits.request_s + self._limits.silence_s):
                return await self._run(endpoint, names, scope, receive)
        except (AgentMemError, HttpError) as exc:
            answer = problem(exc)
            if answer.status >= 500:
                log.warning("%s %s: %s: %s", scope["method"], scope["path"], type(exc).__name__, exc)
            return answer
        except TimeoutError:
            return problem(
                HttpError(
                    504, "Timeout", "this takes too long; it may happen all the same: repeat it with an Idempotency-Key"
                )
            )
        except Exception:
            id = secrets.token_hex(8)
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], id)
            return problem(HttpError(500, "InternalError", f"this failed; the server's log says why under {id}", CLOSE))

    async def _run(self, endpoint: Endpoint, names: list[str], scope: Any, receive: Receive) -> Answer:
        headers, limits = headers_of(scope["headers"]), self._limits
        if endpoint.scope is None:
            key = entering.LOCAL
        else:
            key = await self._gate.enter(headers)
            self._buckets.take(key.id, key.per_minute)
            key.require(endpoint.scope)
        if endpoint.whole:
            key.require("admin")
        query = queried(endpoint.query, scope["query_string"]) if endpoint.query else _no_query(scope["query_string"])
        named = getattr(query, "user_id", None)
        view = self._memory if endpoint.whole or endpoint.scope is None else self._gate.view(key, named)
        body, raw = None, b""
        if endpoint.streams:
            refuse_encoded(headers)
        else:
            raw = await read_body(receive, headers, limit=limits.body_bytes, seconds=limits.silence_s)
            if raw and key not in entering.KEYLESS:
                self._keys.still(key.id)  # a body may take its time, and its key end meanwhile
        if endpoint.body is not None and not endpoint.streams:
            _check_type(headers, raw)
            body = checked(endpoint.body, parsed(raw) if raw else {})
        elif raw:
            raise InvalidInputError("this takes no body", field="body")
        call = Call(
            memory=view, gate=self._gate, store=self._memory, keys=self._keys, key=key, headers=headers, path=names,
            query=query, body=body, receive=receive, limit=limits.body_bytes, seconds=limits.silence_s,
            actor=None if key in entering.KEYLESS else key.id, named=named if key.any_user else key.user_id, once=None,
        )  # fmt: skip
        if b"if-match" in headers and not endpoint.at_version and scope["method"] not in ("GET", "HEAD"):
            raise HttpError(400, "BadRequest", "this takes no If-Match: it would be done at any version")
        header = headers.get(b"idempotency-key")
        if header is not None and not endpoint.once:
            raise HttpError(400, "BadRequest", "this takes no Idempotency-Key")
        with self._gate.writing(call.named) if endpoint.scope == "write" else nullcontext():
            if header is None:
                return clipped(await endpoint.run(call), headers)
            return clipped(await self._once(endpoint, call, header, scope, raw), headers)

    async def _once(self, endpoint: Endpoint, call: Call, header: bytes, scope: Any, raw: bytes) -> Answer:
        parts = (
            scope["method"].encode(), scope.get("raw_path") or scope["path"].encode(), scope["query_string"], raw,
            call.headers.get(b"if-match", b""),
        )  # fmt: skip
        seconds = self._limits.request_s + self._limits.silence_s
        again = None if endpoint.again is None else partial(endpoint.again, call)
        call.once = once = idempotency.once(header, call.memory, call.key, call.named, seconds, again, *parts)
        before = await once.before()
        if before is not None:
            return before
        try:
            answer = await endpoint.run(call)
        except AgentMemError:
            await once.failed()
            raise
        with anyio.CancelScope(shield=True):
            await once.after(answer)
        return answer

    def forget_looks(self) -> None:
        """Look again whether the users of keys are still there; it is looked by itself every half minute."""
        self._gate.forget_looks()

    # -- as long as it lives -----------------------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        started = False
        try:
            # Opened now, so that a store that cannot be is said at the start and not to the first who asks; and before
            # the other apps live, whose task groups would say instead that there was one error.
            await self._memory.warm_up()
            async with AsyncExitStack() as stack:
                for app in self._mounts.values():
                    lifespan = getattr(getattr(app, "router", app), "lifespan_context", None)
                    if lifespan is not None:
                        await stack.enter_async_context(lifespan(app))
                started = True
                tidying = asyncio.create_task(self._tidy())
                await send({"type": "lifespan.startup.complete"})
                try:
                    await receive()
                except asyncio.CancelledError:
                    # Told to end a second time, a server cancels all that lives, and prints what that raises. What is
                    # open is closed when the process ends.
                    return
                finally:
                    tidying.cancel()
            await self._close()
        except Exception as exc:
            await self._close()
            what, why = ("shutdown", "end in order") if started else ("startup", "start")
            message = f"the server cannot {why}: {_innermost(exc)}"
            await send({"type": f"lifespan.{what}.failed", "message": message})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _close(self) -> None:
        if self._close_both:
            await self._memory.aclose()
            await asyncio.to_thread(self._keys.close)

    async def _tidy(self) -> None:
        """Note when keys were last used, once in a while."""
        while True:
            await asyncio.sleep(_TIDY_S)
            try:
                await asyncio.to_thread(self._keys.flush)
            except AgentMemError as exc:
                log.warning("when keys were last used could not be noted: %s", exc)


def _innermost(exc: BaseException) -> BaseException:
    """What went wrong, without the groups that tasks wrap it in."""
    while isinstance(exc, BaseExceptionGroup):
        exc = cast("BaseExceptionGroup[BaseException]", exc).exceptions[0]
    return exc


def _no_query(query: bytes) -> None:
    if query:
        raise InvalidInputError("this takes no query parameters", field="query")


def _check_type(headers: dict[bytes, bytes], raw: bytes) -> None:
    """A page of the web can send other types to anywhere without being asked."""
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if raw and kind != b"application/json" and not kind.endswith(b"+json"):
        raise HttpError(415, "UnsupportedMediaType", "the body must be JSON, with Content-Type: application/json")
