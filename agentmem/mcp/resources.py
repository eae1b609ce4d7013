"""Resources: what a client shows its user, or attaches to a conversation, and hears about when it changes.

``memory://recent`` lists what was remembered last, ``memory://record/ID`` is one memory; sets of tools may bring more.
Who subscribes to one is told when it changed, whichever process changed it: the store's events are followed, once a
second, while somebody listens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import anyio
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent

from agentmem import AgentMemError, AsyncMemory, InvalidInputError, StoreEvent
from agentmem.mcp.access import Access
from agentmem.mcp.memories import line
from agentmem.mcp.tools import sendable

RECENT = "memory://recent"
RECORD = "memory://record/"
LISTED = 20
"""Memories that ``memory://recent`` shows."""
EVERY_S = 1.0
"""How long it takes at most until a change is noticed."""
_AT_ONCE = 500
_AGAIN_S = 5.0

_log = logging.getLogger(__name__)
Read = Callable[[Access], Awaitable[str]]
Who = Callable[[ServerRequestContext[Any, Any]], Access]
"""Whose request it is."""


@dataclass(frozen=True)
class Resource:
    """One resource: what it is called, how it is read, and which events of its owner change it."""

    uri: str
    name: str
    description: str
    mime_type: str
    read: Read
    changed_by: Callable[[Access, StoreEvent], bool]


async def _recent(access: Access) -> str:
    page = await access.view.page(limit=LISTED, data=False, touch=False)
    return "\n".join(map(line, page.records)) or "Nothing is remembered yet."


RECENT_MEMORIES = Resource(
    RECENT,
    "recent",
    "What was remembered last.",
    "text/plain",
    _recent,
    lambda access, event: event.namespace == access.namespace,
)


@dataclass
class _Subscriber:
    """One connection that hears about resources: whose it is, what it wants to hear of, and how it is told."""

    access: Access
    uris: set[str]
    tell: Callable[[str], Awaitable[None]]


@dataclass
class Resources:
    """The resources of a server, and who has subscribed to them."""

    memory: AsyncMemory
    """The whole store, whose events are followed."""
    who: Who
    resources: tuple[Resource, ...] = (RECENT_MEMORIES,)
    every_s: float = EVERY_S
    _subscribers: dict[object, _Subscriber] = field(default_factory=dict[object, _Subscriber])
    _awake: anyio.Event = field(default_factory=anyio.Event)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def list(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri=one.uri, name=one.name, description=one.description, mime_type=one.mime_type)
                for one in self.resources
            ]
        )

    async def list_templates(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=RECORD + "{id}",
                    name="record",
                    description="One memory, with all that the store has of it.",
                    mime_type="application/json",
                )
            ]
        )

    async def read(
        self, ctx: ServerRequestContext[Any, Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        access = self.who(ctx)
        if not access.read:
            raise MCPError(types.INVALID_PARAMS, "memories may be added here and not read", {"uri": params.uri})
        for one in self.resources:
            if one.uri == params.uri:
                return _contents(one.uri, one.mime_type, await one.read(access))
        if params.uri.startswith(RECORD):
            try:
                record = await access.view.get(unquote(params.uri.removeprefix(RECORD)), touch=False)
            except InvalidInputError as exc:
                raise MCPError(types.INVALID_PARAMS, str(exc), {"uri": params.uri[:200]}) from exc
            if record is not None:
                return _contents(params.uri, "application/json", json.dumps(record.to_dict(), ensure_ascii=False))
        raise MCPError(types.INVALID_PARAMS, f"there is no resource {params.uri!r} here", {"uri": params.uri})

    # -- telling -----------------------------------------------------------------------------------------------------

    async def subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        connection = _connection(ctx)
        subscriber = self._subscribers.get(connection)
        if subscriber is None:
            session = ctx.session
            subscriber = _Subscriber(self.who(ctx), set(), session.send_resource_updated)
            self._add(connection, subscriber)
            connection.exit_stack.callback(self._subscribers.pop, connection, None)
        subscriber.uris.add(params.uri)
        return types.EmptyResult()

    async def unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        subscriber = self._subscribers.get(_connection(ctx))
        if subscriber is not None:
            subscriber.uris.discard(params.uri)
        return types.EmptyResult()

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """The stream of a client of the protocol of 2026: a bus of its own, so that nobody hears of others' changes."""
        from mcp.server.subscriptions import ListenHandler

        bus, key = InMemorySubscriptionBus(), object()

        async def tell(uri: str) -> None:
            event: ServerEvent = ResourceUpdated(uri)
            await bus.publish(event)

        uris = set(params.notifications.resource_subscriptions or ())
        self._add(key, _Subscriber(self.who(ctx), uris, tell))
        try:
            return await ListenHandler(bus)(ctx, params)
        finally:
            self._subscribers.pop(key, None)

    def _add(self, key: object, subscriber: _Subscriber) -> None:
        self._subscribers[key] = subscriber
        self._awake.set()

    async def follow(self) -> None:
        """Tell subscribers of what changes, until cancelled."""
        seq: int | None = None
        while True:
            await self._awake.wait()
            try:
                if seq is None:
                    seq = (await self.memory.stats()).events
                while self._subscribers:
                    await anyio.sleep(self.every_s)
                    events = await self.memory.events(after=seq, limit=_AT_ONCE)
                    if events:
                        seq = events[-1].seq
                        await self._tell(events)
                self._awake, seq = anyio.Event(), None
            except AgentMemError as exc:  # or the whole server would end by it
                _log.warning("changes cannot be followed, and are tried again: %s", exc)
                await anyio.sleep(_AGAIN_S)

    async def _tell(self, events: Iterable[StoreEvent]) -> None:
        seen = list(events)
        for key, subscriber in list(self._subscribers.items()):
            access = subscriber.access
            if not (access.read and access.holds()):
                self._subscribers.pop(key, None)
                continue
            own = [one for one in seen if access.concerns(one.user_id, one.agent_id, one.namespace)]
            for uri in sorted(_changed(access, own, self.resources) & subscriber.uris):
                await subscriber.tell(uri)


def _changed(access: Access, events: Iterable[StoreEvent], resources: tuple[Resource, ...]) -> set[str]:
    """The resources that events have changed."""
    found = set[str]()
    for event in events:
        if event.id is not None:
            found.add(RECORD + quote(event.id, safe=""))
        found.update(one.uri for one in resources if one.changed_by(access, event))
    return found


def _contents(uri: str, mime_type: str, text: str) -> types.ReadResourceResult:
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=sendable(text))]
    )


def _connection(ctx: ServerRequestContext[Any, Any]) -> Any:
    """What a client keeps from request to request; the session that a handler is given is made for each of them."""
    return getattr(ctx.session, "_connection")  # noqa: B009
