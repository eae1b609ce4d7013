"""Whether the server is there, and whether it can do what it is for: for whoever restarts it, and sends it requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Literal, cast

from typing_extensions import TypedDict

from agentmem import AgentMemError, Health
from agentmem.server.answers import Answer, answer, dumps
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area

area = Area("health")
_PATIENCE_S = 5.0


class State(TypedDict):
    """How it is."""

    status: Literal["ok", "failing"]


_LIVE = dumps({"status": "ok"})


@area("GET", "/health/live", None, gives=State)
async def live(call: Call) -> Answer:
    """The process answers. Touches no disk, so that a slow one restarts nothing."""
    return Answer(200, _LIVE)


@area("GET", "/health/ready", None, gives=State)
async def ready(call: Call) -> Answer:
    """The store can be read; 503 where not, or where a shard of a cluster cannot be."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            found = cast("Health | Mapping[str, Health]", await call.store.health())
            shards = found.values() if isinstance(found, Mapping) else [found]
            failing = any(health.store_error is not None for health in shards)
            if not failing:
                await call.store.get("-", touch=False)
    except (AgentMemError, TimeoutError):
        failing = True
    return answer({"status": "failing" if failing else "ok"}, 503 if failing else 200)


@area("GET", "/openapi.json", None)
async def openapi(call: Call) -> Answer:
    """The description of all this."""
    # By its name, since it is made of the endpoints; and FastAPI comes with it, for those who ask.
    text: str = await asyncio.to_thread(lambda: import_module("agentmem.server.openapi").text())
    return Answer(200, text.encode())
