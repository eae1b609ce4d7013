"""Who asks, how the server is doing, and what happens, as it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from pydantic import Field

from agentmem import AgentMemError, Kpis, LayerStats, StoreEvent
from agentmem.server.answers import Answer, Header, answer, dumps, problem_of
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body
from agentmem.server.key import composed
from agentmem.server.routes.keys import KeyInfo
from agentmem.server.routes.models import OfUser

area = Area("live")

EVENTS: Header = (b"content-type", b"text/event-stream")
_EVERY_S = 1.0
_QUIET_S = 15.0
"""After which something is sent all the same, so that whoever is between does not take the connection for dead."""
_AT_ONCE = 500
Seconds = Annotated[float, Field(gt=0, le=3_600, description="After which it ends; whoever follows comes back.")]


class Following(Body):
    """From where on, for how long, and whether figures are sent, too."""

    after: int | None = Field(None, ge=0, description="The last event that is known; left out, from now on.")
    seconds: Seconds = 3_600
    figures_s: Annotated[float, Field(ge=1, le=3_600)] | None = Field(
        None, description="Every how many seconds the key figures come, too; left out, never."
    )


class FollowingUser(OfUser):
    """From where on, and for how long."""

    after: int | None = Field(None, ge=0, description="The last event that is known; left out, from now on.")
    seconds: Seconds = 3_600


@area("GET", "/v1/me", "read", gives=KeyInfo)
async def me(call: Call) -> Answer:
    """The key that asks, and what it allows."""
    return answer(call.key.to_dict())


@area("GET", "/v1/kpis", "admin", gives=Kpis, whole=True)
async def kpis(call: Call) -> Answer:
    """Rates and latencies of this process, pressure and sizes of the store."""
    return answer(await call.store.kpis())


@area("GET", "/v1/layers", "admin", gives=dict[str, LayerStats], whole=True)
async def layers(call: Call) -> Answer:
    """How full each layer is; takes no time, however many records there are."""
    return answer(await call.store.lifecycle.layers())


@area("GET", "/v1/events/stream", "admin", query=Following, whole=True, streams=True, events=True)
async def follow(call: Call) -> Answer:
    """What happens in the store, as it happens: server-sent events `change` as GET /v1/events has them, and `figures`.

    Ends when the key does; whoever goes on sends the last event's id as `after` or `Last-Event-ID`.
    """
    return await _stream(call, lambda event: True, call.query.figures_s)


@area("GET", "/v1/memories/events", "read", query=FollowingUser, streams=True, events=True)
async def follow_user(call: Call) -> Answer:
    """What happens to one user's memories, as it happens, as GET /v1/events/stream has what happens to all."""
    key, user = call.key, None if call.named is None else composed(call.named)
    space = key.namespace or ()

    def mine(event: StoreEvent) -> bool:
        return (
            event.id is not None
            and event.user_id == user
            and key.agent_id in (None, event.agent_id)
            and event.namespace[: len(space)] == space
        )

    return await _stream(call, mine, None)


async def _stream(call: Call, admits: Callable[[StoreEvent], bool], figures_s: float | None) -> Answer:
    after: int | None = call.query.after
    last = call.headers.get(b"last-event-id", b"").strip()
    if last.isdigit() and len(last) < 16:
        after = int(last)
    if after is None:
        newest = await call.store.events(order="newest", limit=1)
        after = newest[0].seq if newest else 0
    return Answer(200, headers=(EVENTS,), lines=_lines(call, after, admits, figures_s))


async def _lines(
    call: Call, after: int, admits: Callable[[StoreEvent], bool], figures_s: float | None
) -> AsyncIterator[bytes]:
    reader = asyncio.create_task(_gone(call))
    began, said, shown = time.monotonic(), time.monotonic(), float("-inf")
    yield b"retry: 2000\nid: %d\n\n" % after
    try:
        while time.monotonic() - began < call.query.seconds:
            found = await call.store.events(after=after, limit=_AT_ONCE)
            parts = [_event(b"change", one, one.seq) for one in found if admits(one)]
            after = found[-1].seq if found else after
            if figures_s is not None and time.monotonic() - shown >= figures_s:
                shown = time.monotonic()
                parts.append(_event(b"figures", await call.store.kpis()))
            if not parts and time.monotonic() - said > _QUIET_S:
                parts.append(b": \n\n")
            if parts:
                said = time.monotonic()
                yield b"".join(parts)
            if len(found) < _AT_ONCE and (await asyncio.wait([reader], timeout=_EVERY_S))[0]:
                return
            await call.still()
    except AgentMemError as exc:
        yield _event(b"problem", problem_of(exc))
    finally:
        reader.cancel()


def _event(name: bytes, value: Any, id: int | None = None) -> bytes:
    number = b"" if id is None else b"id: %d\n" % id
    return b"%sevent: %s\ndata: %s\n\n" % (number, name, dumps(value))


async def _gone(call: Call) -> None:
    """Ends when nobody reads any more what is being sent."""
    while (await call.receive())["type"] != "http.disconnect":
        pass
