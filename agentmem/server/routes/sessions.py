"""Conversations: their turns, working memory, and what is known of them."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from typing_extensions import TypedDict

from agentmem import SessionInfo, Summary, Turn
from agentmem.server.answers import Answer, answer, etag
from agentmem.server.calls import Call, found
from agentmem.server.endpoint import Area, Body, Nothing
from agentmem.server.routes.models import Count, Done, OfUser, Path

area = Area("sessions")


class Place(OfUser):
    """Which session of this run."""

    agent_id: str | None = None
    namespace: Path | None = None


class Many(Place):
    """Which sessions."""

    limit: int = 100
    offset: int = 0


class Turns(Place):
    """Which turns: the last ones, by number or by tokens (three bytes of UTF-8 are taken to be one)."""

    limit: int | None = None
    max_tokens: int | None = None
    before: str | None = None


class AppendTurns(Body):
    """Messages of a chat API, tool calls and results whole."""

    messages: list[dict[str, Any]]
    ttl: float | None = Field(
        None, description="Seconds after the last turn for which the session lives; null: for good."
    )
    embed: bool = True


class NewSession(Body):
    """A session."""

    title: str | None = None
    metadata: dict[str, Any] | None = None


class AboutSession(Body):
    """What is said of a session; metadata is merged, null removes."""

    title: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class LastTurns(Body):
    """How many."""

    n: int = 1


class SummaryWanted(Body):
    """What a summary is to stand for, and how long it may be."""

    keep: int = 20
    max_tokens: int = 400


class WorkingValue(Body):
    """A JSON object of up to 64 KiB."""

    value: dict[str, Any]


class TurnSaid(TypedDict):
    """A turn."""

    id: str
    role: str
    at: str
    agent_id: str | None
    message: dict[str, Any]


class WorkingMemoryState(TypedDict):
    """Working memory, and the version that ``If-Match`` takes."""

    value: dict[str, Any]
    version: int


class Version(TypedDict):
    """A version."""

    version: int


@area("GET", "/v1/sessions", "read", query=Many, gives=list[SessionInfo])
async def sessions(call: Call) -> Answer:
    """The sessions that are not over, the one begun last first."""
    return answer(await call.memory.sessions(**call.asked()))


@area("GET", "/v1/sessions/{run_id}", "read", query=Place, gives=SessionInfo)
async def info(call: Call) -> Answer:
    """What is known of a session."""
    return answer(found(await _session(call).info(), f"session {call.id!r}"))


@area("POST", "/v1/sessions/{run_id}", "write", body=NewSession, query=Place, gives=SessionInfo, status=201, again=info)
async def create(call: Call) -> Answer:
    """Begin a session, which must not be there; POST …/turns begins one, too."""
    return answer(await _session(call).create(**call.said()), 201)


@area("PATCH", "/v1/sessions/{run_id}", "write", body=AboutSession, query=Place, gives=SessionInfo, again=info)
async def describe(call: Call) -> Answer:
    """Say something else of a session."""
    session = _session(call)
    made = await session.describe(call.body.metadata)
    return answer(await session.rename(call.body.title) if "title" in call.body.model_fields_set else made)


@area("DELETE", "/v1/sessions/{run_id}", "write", query=Place, gives=Done)
async def delete(call: Call) -> Answer:
    """Delete a session with its turns and its working memory."""
    return answer({"done": await _session(call).delete()})


@area("POST", "/v1/sessions/{run_id}/close", "write", body=Nothing, query=Place, gives=SessionInfo, again=info)
async def close(call: Call) -> Answer:
    """End a session: nothing can be appended any more."""
    return answer(await _session(call).close())


@area("POST", "/v1/sessions/{run_id}/reopen", "write", body=Nothing, query=Place, gives=SessionInfo, again=info)
async def reopen(call: Call) -> Answer:
    """Let a closed session go on."""
    return answer(await _session(call).reopen())


@area(
    "POST",
    "/v1/sessions/{run_id}/turns",
    "write",
    body=AppendTurns,
    query=Place,
    gives=list[TurnSaid],
    status=201,
    once=False,
)
async def append(call: Call) -> Answer:
    """Append messages: all or none. One with an ``id`` can be appended again safely; it is there once."""
    turns = await _session(call, **call.said("messages")).append(call.body.messages)
    return answer([_turn(turn) for turn in turns], 201)


@area("GET", "/v1/sessions/{run_id}/turns", "read", query=Turns, gives=list[TurnSaid])
async def turns(call: Call) -> Answer:
    """The last turns, oldest first; ``before`` is the id of the turn that they are to end before."""
    said = call.asked("agent_id", "namespace")
    limit = said.pop("limit", None)
    return answer([_turn(turn) for turn in await _session(call).turns(limit, **said)])


@area("DELETE", "/v1/sessions/{run_id}/turns", "write", query=Place, gives=Count)
async def clear(call: Call) -> Answer:
    """Delete all turns; the session goes on."""
    return answer({"count": await _session(call).clear()})


@area("POST", "/v1/sessions/{run_id}/pop", "write", body=LastTurns, query=Place, gives=list[TurnSaid], once=False)
async def pop(call: Call) -> Answer:
    """Delete the last turns and return them."""
    return answer([_turn(turn) for turn in await _session(call).pop(call.body.n)])


@area("POST", "/v1/sessions/{run_id}/undo", "write", body=LastTurns, query=Place, gives=list[TurnSaid], once=False)
async def undo(call: Call) -> Answer:
    """Take back the last exchanges: what the user said last, and everything since."""
    return answer([_turn(turn) for turn in await _session(call).undo(call.body.n)])


@area(
    "POST", "/v1/sessions/{run_id}/summary", "write", body=SummaryWanted, query=Place, gives=Summary | None, once=False
)
async def summarize(call: Call) -> Answer:
    """Have a summary stand for all turns but the last ones, in prompts; null if those are all."""
    return answer(await _session(call).summarize(**call.said()))


@area("GET", "/v1/sessions/{run_id}/summary", "read", query=Place, gives=Summary)
async def summary(call: Call) -> Answer:
    """The last summary."""
    return answer(found(await _session(call).summary(), f"summary of {call.id!r}"))


@area("GET", "/v1/sessions/{run_id}/working", "read", query=Place, gives=WorkingMemoryState)
async def working(call: Call) -> Answer:
    """Working memory."""
    memory = _session(call).working
    version = await memory.version()  # first: a change in between is refused later, and not overwritten
    return answer({"value": await memory.get(), "version": version}, 200, etag(version))


@area("PUT", "/v1/sessions/{run_id}/working", "write", body=WorkingValue, query=Place, gives=Version, at_version=True)
async def set_working(call: Call) -> Answer:
    """Replace working memory; with ``If-Match`` only if it is at that version, else 409."""
    version = await _session(call).working.set(call.body.value, if_version=call.if_version)
    return answer({"version": version}, 200, etag(version))


@area("PATCH", "/v1/sessions/{run_id}/working", "write", body=WorkingValue, query=Place, gives=Version, at_version=True)
async def merge_working(call: Call) -> Answer:
    """Merge into working memory, as JSON Merge Patch does; null removes a key."""
    version = await _session(call).working.merge(call.body.value, if_version=call.if_version)
    return answer({"version": version}, 200, etag(version))


def _session(call: Call, **options: Any) -> Any:
    query = call.query
    return call.memory.session(call.id, agent_id=query.agent_id, namespace=query.namespace, **options)


def _turn(turn: Turn) -> dict[str, Any]:
    return {"id": turn.id, "role": turn.role, "at": turn.at, "agent_id": turn.agent_id, "message": turn.message}
