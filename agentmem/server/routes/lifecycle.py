"""Layers: where memories live, and moving them by hand."""

from __future__ import annotations

from agentmem import MemoryRecord, SweepReport
from agentmem.server.answers import Answer, answer, of_record
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body, Nothing
from agentmem.server.routes.models import OfUser

area = Area("lifecycle")


class Sweep(Body):
    """Whether only to say what would be done."""

    dry_run: bool = False


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
