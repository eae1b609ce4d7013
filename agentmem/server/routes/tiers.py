"""Tiers of large scopes, and archives of old records."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentmem import ArchiveReport, Residence, TierStats
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body
from agentmem.server.routes.models import Count, OfUser

area = Area("tiers")


class TierPlacement(Body):
    """Where a memory is to be; null: where the rules put it."""

    tier: Literal["hot", "warm", "cold"] | None


class ArchiveIds(Body):
    """Which records are to leave the store for an archive."""

    ids: Annotated[list[str], Field(max_length=10_000)]
    dry_run: bool = False


class RehydrateIds(Body):
    """Records, by their ids."""

    ids: Annotated[list[str], Field(max_length=10_000)]


@area("GET", "/v1/admin/tiers", "admin", gives=dict[str, TierStats], whole=True)
async def stats(call: Call) -> Answer:
    """What the tiers hold."""
    return answer(await call.store.tiers.stats())


@area("GET", "/v1/memories/{id}/tier", "read", query=OfUser, gives=Residence)
async def explain(call: Call) -> Answer:
    """Which tier a memory of a large scope is in, and why."""
    return answer(await call.memory.tiers.explain(call.id))


@area("PUT", "/v1/memories/{id}/tier", "write", body=TierPlacement, query=OfUser, gives=Count)
async def place(call: Call) -> Answer:
    """Place a memory of a large scope in a tier."""
    return answer({"count": await call.memory.tiers.place(call.id, call.body.tier)})


@area(
    "POST", "/v1/memories/archive", "write", body=ArchiveIds, query=OfUser, gives=ArchiveReport, slow=True, once=False
)
async def archive(call: Call) -> Answer:
    """Move records to archives where ``[memory.glacier]`` says."""
    return answer(await call.memory.tiers.archive(call.body.ids, dry_run=call.body.dry_run))


@area("POST", "/v1/memories/rehydrate", "write", body=RehydrateIds, query=OfUser, gives=Count, slow=True, once=False)
async def rehydrate(call: Call) -> Answer:
    """Bring records back from archives."""
    return answer({"count": await call.memory.tiers.rehydrate(call.body.ids)})
