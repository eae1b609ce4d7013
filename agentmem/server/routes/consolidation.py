"""From what was said to what is known: proposals, and what models cost."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agentmem import ConsolidationReport, ConsolidationState, DaySpend, Evidence, Proposal
from agentmem.errors import AccessDeniedError
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body, Nothing
from agentmem.server.routes.models import Count, OfUser, Path

area = Area("consolidation")


class Consolidated(OfUser):
    """Whose consolidation, in which namespace."""

    namespace: Path | None = None


class OfRun(Consolidated):
    """And of which run, left out of all; so many of them."""

    run_id: str | None = None
    limit: int = Field(100, ge=0, le=10_000)
    offset: int = Field(0, ge=0)


class ConsolidationRun(Body):
    """How much of it, and whether what the model says is only proposed."""

    dry_run: bool = False
    batches: Annotated[int, Field(ge=1)] | None = None


class Chosen(Body):
    """Which proposals: these, those of a run, or all."""

    ids: Annotated[list[str], Field(max_length=10_000)] | None = None
    run_id: str | None = None


class RunBack(Body):
    """Which run, or approval, is to be taken back."""

    run_id: str


@area("GET", "/v1/consolidation", "read", query=Consolidated, gives=ConsolidationState)
async def state(call: Call) -> Answer:
    """What is waiting, what could not be made sense of, and what today came to."""
    return answer(await _consolidation(call).state())


@area(
    "POST",
    "/v1/consolidation/run",
    "write",
    body=ConsolidationRun,
    query=Consolidated,
    gives=ConsolidationReport,
    slow=True,
    once=False,
)
async def run(call: Call) -> Answer:
    """Ask the model of the settings about what was said since the last run, and store what it says."""
    return answer(await _consolidation(call).run(**call.said()))


@area(
    "POST",
    "/v1/consolidation/propose",
    "write",
    body=Nothing,
    query=Consolidated,
    gives=list[Proposal],
    slow=True,
    once=False,
)
async def propose(call: Call) -> Answer:
    """Find, without a model, which facts may be retired, and propose it."""
    return answer(await _consolidation(call).propose())


@area("GET", "/v1/consolidation/proposals", "read", query=OfRun, gives=list[Proposal])
async def proposals(call: Call) -> Answer:
    """What waits to be approved, the oldest first."""
    first = call.query.offset
    found = await _consolidation(call).proposals(run_id=call.query.run_id)
    return answer(found[first : first + call.query.limit])


@area(
    "POST", "/v1/consolidation/approve", "write", body=Chosen, query=Consolidated, gives=ConsolidationReport, once=False
)
async def approve(call: Call) -> Answer:
    """Do what was proposed, in one transaction; what goes on from a fact that was changed since is refused."""
    return answer(await _consolidation(call).approve(**call.said()))


@area("POST", "/v1/consolidation/reject", "write", body=Chosen, query=Consolidated, gives=Count, once=False)
async def reject(call: Call) -> Answer:
    """Delete what was proposed."""
    return answer({"count": await _consolidation(call).reject(**call.said())})


@area(
    "POST", "/v1/consolidation/revert", "write", body=RunBack, query=Consolidated, gives=ConsolidationReport, once=False
)
async def revert(call: Call) -> Answer:
    """Take back all that a run, or an approval, has done."""
    return answer(await _consolidation(call).revert(call.body.run_id))


@area("POST", "/v1/consolidation/retry", "write", body=Nothing, query=Consolidated, gives=Count, once=False)
async def retry(call: Call) -> Answer:
    """Put dead letters back into the queue."""
    return answer({"count": await _consolidation(call).retry()})


@area("GET", "/v1/consolidation/spend", "read", query=Consolidated, gives=list[DaySpend])
async def spend(call: Call) -> Answer:
    """What each day came to, of one user, oldest first."""
    return answer(await _consolidation(call).spend())


@area("GET", "/v1/admin/spend", "admin", gives=list[DaySpend], whole=True)
async def spend_of_all(call: Call) -> Answer:
    """What each day of the whole store came to, oldest first."""
    return answer(await call.store.userless().consolidation().spend(everybody=True))


@area("GET", "/v1/memories/{id}/evidence", "read", query=Consolidated, gives=list[Evidence])
async def evidence(call: Call) -> Answer:
    """What a fact was drawn from, and what became of each."""
    return answer(await _consolidation(call).evidence(call.id))


def _consolidation(call: Call) -> Any:
    if call.key.agent_id is not None:  # facts are drawn from what a user said to all agents
        raise AccessDeniedError(f"the key {call.key.id} is for one agent, and facts are drawn from what all heard")
    return call.memory.consolidation(namespace=call.query.namespace)
