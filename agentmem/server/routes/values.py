"""What is kept by key and is no sentence: what there is of it, not its bytes."""

from __future__ import annotations

from agentmem import ValueInfo, ValueUsage
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area
from agentmem.server.routes.models import OfUser, Path

area = Area("values")


class SomeValues(OfUser):
    """Which values: those whose keys begin so, after one."""

    prefix: str = ""
    namespace: Path | None = None
    limit: int = 100
    after: str | None = None


@area("GET", "/v1/values", "read", query=SomeValues, gives=list[ValueInfo])
async def values(call: Call) -> Answer:
    """What values there are, by key; `after` is the last key of the page before."""
    return answer(await call.memory.values.list(**call.asked()))


@area("GET", "/v1/admin/values", "admin", gives=ValueUsage, whole=True)
async def usage(call: Call) -> Answer:
    """What the values of the store take."""
    return answer(await call.store.values.usage())
