"""Layers: where memories live, and moving them by hand."""

from __future__ import annotations

from asyncio import gather
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from agentmem import MemoryRecord, SweepReport
from agentmem.server.answers import Answer, answer, of_record
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body, Nothing
from agentmem.server.routes.models import OfUser

area = Area("lifecycle")


class Sweep(Body):
    """Whether only to say what would be done."""

    dry_run: bool = False


class Ahead(Body):
    """How far ahead, and how many memories are named."""

    seconds: Annotated[float, Field(ge=0, le=31_622_400)] = 604_800
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    going: bool = Field(False, description="Name those alone that go, and not those that move to another layer.")


class Coming(TypedDict):
    """What a sweep would do then, and the memories that its first moves are about."""

    report: SweepReport
    records: list[MemoryRecord]


@area("POST", "/v1/memories/{id}/pin", "write", body=Nothing, query=OfUser, gives=MemoryRecord)
async def pin(call: Call) -> Answer:
    """Have the rules of the lifecycle leave a memory where it is."""
    return of_record(await call.memory.lifecycle.pin(call.id))


@area("POST", "/v1/memories/{id}/unpin", "write", body=Nothing, query=OfUser, gives=MemoryRecord)
async def unpin(call: Call) -> Answer:
    """Let the rules have it again."""
    return of_record(await call.memory.lifecycle.unpin(call.id))


@area("POST", "/v1/memories/{id}/promote", "write", body=Nothing, query=OfUser, gives=MemoryRecord)
async def promote(call: Call) -> Answer:
    """Move a memory to the next layer."""
    return of_record(await call.memory.lifecycle.promote(call.id))


@area("POST", "/v1/memories/{id}/demote", "write", body=Nothing, query=OfUser, gives=MemoryRecord)
async def demote(call: Call) -> Answer:
    """Move a memory to the layer before."""
    return of_record(await call.memory.lifecycle.demote(call.id))


@area("POST", "/v1/admin/sweep", "admin", body=Sweep, gives=SweepReport, whole=True, slow=True)
async def sweep(call: Call) -> Answer:
    """Promote what is eligible, expire what is due, make room in layers that are too full."""
    report = await call.store.lifecycle.sweep(dry_run=call.body.dry_run)
    await call.note("sweep")
    return answer(report)


@area("GET", "/v1/admin/coming", "admin", query=Ahead, gives=Coming, whole=True, slow=True)
async def coming(call: Call) -> Answer:
    """What a sweep would do so many seconds from now, if no memory is used until then; nothing is changed."""
    asked = call.query
    report = await call.store.lifecycle.sweep(datetime.now(UTC) + timedelta(seconds=asked.seconds), dry_run=True)
    named = [one for one in report.moves if not asked.going or one.to_layer is None][: asked.limit]
    found = await gather(*(call.store.get(one.id, deleted=True, touch=False, data=False) for one in named))
    report = replace(report, moves=tuple(named))
    return answer({"report": report, "records": [one for one in found if one is not None]})
