"""Searching, context for prompts, and looking around."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentmem import Group, MemoryRecord, NamespaceCount, SearchHit, SearchTrace
from agentmem.errors import AccessDeniedError
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area
from agentmem.server.routes.models import Context, OfUser, Path, Search, SearchMany, Text

area = Area("search")


class Found(TypedDict):
    """Hits, best first."""

    hits: list[SearchHit]
    trace: SearchTrace | None
    skipped_archived: int


class Recent(OfUser):
    """Which records of a conversation."""

    agent_id: str | None = None
    namespace: Path | None = None
    limit: int = 20
    by: Literal["event", "added"] = "event"
    data: bool = True
    touch: bool = True


class Around(OfUser):
    """Whose, and where."""

    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    under: Path | None = None


class Spaces(OfUser):
    """Which namespaces."""

    under: Path = Field(default_factory=list)
    depth: int | None = None
    limit: int = 100
    offset: int = 0


@area("POST", "/v1/search", "read", body=Search, query=OfUser, gives=Found, once=False)
async def search(call: Call) -> Answer:
    """The memories that answer a query best, best first."""
    hits = await call.memory.search(call.body.query, **call.said("query"))
    return answer({"hits": list(hits), "trace": hits.trace, "skipped_archived": hits.skipped_archived})


@area("POST", "/v1/search/batch", "read", body=SearchMany, query=OfUser, gives=list[Found], once=False)
async def search_many(call: Call) -> Answer:
    """The same search for up to 1,000 queries."""
    found = await call.memory.search_many(call.body.queries, **call.said("queries"))
    return answer(
        [{"hits": list(hits), "trace": hits.trace, "skipped_archived": hits.skipped_archived} for hits in found]
    )


@area("POST", "/v1/context", "read", body=Context, query=OfUser, gives=Text, once=False)
async def context(call: Call) -> Answer:
    """The best memories for a query as a text for a prompt, within a budget of tokens."""
    said = call.said("query")
    return answer({"text": await call.memory.context(call.body.query, **said)})


@area("GET", "/v1/runs/{run_id}/recent", "read", query=Recent, gives=list[MemoryRecord])
async def recent(call: Call) -> Answer:
    """The last records of a conversation, oldest first."""
    return answer(await call.memory.recent(run_id=call.id, **call.asked()))


@area("GET", "/v1/runs", "read", query=Around, gives=list[Group])
async def runs(call: Call) -> Answer:
    """The conversations of a scope."""
    return answer(await call.memory.runs(**call.asked("run_id")))


@area("GET", "/v1/agents", "read", query=Around, gives=list[Group])
async def agents(call: Call) -> Answer:
    """The agents of a scope."""
    return answer(await call.memory.agents(**call.asked("agent_id")))


@area("GET", "/v1/kinds", "read", query=Around, gives=list[Group])
async def kinds(call: Call) -> Answer:
    """The kinds of a scope's records."""
    return answer(await call.memory.kinds(**call.asked()))


@area("GET", "/v1/namespaces", "read", query=Spaces, gives=list[NamespaceCount])
async def namespaces(call: Call) -> Answer:
    """Namespaces, and how many records each has."""
    if call.key.agent_id is not None:  # they are counted for all agents together
        raise AccessDeniedError(f"the key {call.key.id} is for one agent, and namespaces are not any agent's")
    return answer(await call.memory.namespaces(**call.asked()))
