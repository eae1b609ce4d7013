"""Changing, deleting, restoring and erasing memories."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentmem import EraseReport, Explanation, HistoryEvent, InvalidInputError, MemoryRecord, Page, Vectors
from agentmem.server.answers import Answer, answer, of_record
from agentmem.server.calls import Call, found
from agentmem.server.endpoint import Area, Body, Nothing
from agentmem.server.routes.memories import filtered
from agentmem.server.routes.models import Count, Done, Listed, OfUser, Patch, Rating, Time, Where

area = Area("changing")

Ids = Annotated[list[str], Field(max_length=10_000)]


class RecordIds(Body):
    """Records, by their ids."""

    ids: Ids


class Used(RecordIds):
    """Records that were used."""

    ttl: float | None = Field(
        None, description="Seconds after which they are over now; null: never; left out: as before."
    )


class DoneEach(Body):
    """Whether each was there."""

    done: list[bool]


class Doomed(Where):
    """Which records; at least one of these, unless the key or ?user_id= is for one user."""

    filters: str | None = Field(None, description="A filter as JSON, see docs/filters.md.")
    before: Time | None = None
    dry_run: bool = False


class Gone(Where):
    """Which of those that are gone; ``since`` and ``until`` say when they went."""

    filters: str | None = Field(None, description="A filter as JSON, see docs/filters.md.")
    since: Time | None = None
    until: Time | None = None
    why: Literal["deleted", "expired"] = "deleted"


class GonePaged(Gone):
    """And which part of the list."""

    limit: int = 100
    cursor: str | None = None


class GoneBack(Gone):
    """And whether only to say how many there are."""

    dry_run: bool = False


class Life(OfUser):
    """How much of a record's history."""

    last: int | None = Field(None, ge=1, description="Only so many of the last events.")


class BackTo(Body):
    """Which version to go back to; left out, a delete is undone."""

    version: int | None = None


@area("PATCH", "/v1/memories/{id}", "write", body=Patch, query=OfUser, gives=MemoryRecord, at_version=True)
async def update(call: Call) -> Answer:
    """Change a record; with ``If-Match`` only if it is at that version, else 409."""
    return of_record(await call.memory.update(call.id, **call.said(), if_version=call.if_version))


@area("DELETE", "/v1/memories/{id}", "write", query=OfUser, gives=Done, at_version=True)
async def delete(call: Call) -> Answer:
    """Hide a record; ``restore`` brings it back. With ``If-Match`` only if it is at that version, else 409."""
    return answer({"done": await call.memory.delete(call.id, if_version=call.if_version)})


@area("GET", "/v1/memories/{id}/history", "read", query=Life, gives=list[HistoryEvent])
async def history(call: Call) -> Answer:
    """Every change of a record, or the last ones, oldest first."""
    found, last = await call.memory.history(call.id), call.query.last
    return answer(found if last is None else found[-last:])


@area("GET", "/v1/memories/{id}/explain", "read", query=OfUser, gives=Explanation)
async def explain(call: Call) -> Answer:
    """Why a record is in its layer, what it lacks for promotion, when it is due."""
    return answer(await call.memory.lifecycle.explain(call.id))


@area("GET", "/v1/memories/{id}/vectors", "read", query=OfUser, gives=Vectors)
async def vectors(call: Call) -> Answer:
    """The vectors that a record is found by."""
    return answer(found((await call.memory.vectors([call.id]))[0], f"record {call.id!r}").to_dict())


@area("POST", "/v1/memories/{id}/restore", "write", body=BackTo, query=OfUser, gives=MemoryRecord)
async def restore(call: Call) -> Answer:
    """Undo a delete, or go back to a version."""
    return of_record(await call.memory.restore(call.id, version=call.body.version))


@area("POST", "/v1/memories/{id}/feedback", "write", body=Rating, query=OfUser, gives=Done)
async def feedback(call: Call) -> Answer:
    """Say how good a memory was."""
    await call.memory.feedback(call.id, **call.said())
    return answer({"done": True})


@area("POST", "/v1/memories/{id}/erase", "erase", body=Nothing, query=OfUser, gives=EraseReport)
async def erase(call: Call) -> Answer:
    """Remove a record for good, from its history too."""
    report = await call.memory.erase(call.id)
    await call.note("memory.erase", user_id=call.named)
    return answer(report)


@area("POST", "/v1/memories/erase", "erase", body=Nothing, query=Where, gives=EraseReport, slow=True)
async def erase_all(call: Call) -> Answer:
    """Remove for good what lies with an agent, in a conversation or in a namespace; at least one of these.

    ``DELETE /v1/users/{user_id}`` removes all of a user, and the user.
    """
    asked = call.asked()
    if not any(asked.get(name) for name in ("agent_id", "run_id", "under")) and asked.get("namespace") is None:
        raise InvalidInputError(
            "say which part: agent_id, run_id, namespace or under; DELETE /v1/users/{user_id} erases all of a user",
            field="run_id",
        )
    report = await call.memory.erase_all(**asked)
    await call.note("memory.erase_all", user_id=call.named)
    return answer(report)


@area("DELETE", "/v1/memories", "write", query=Doomed, gives=Count, slow=True)
async def delete_all(call: Call) -> Answer:
    """Delete every record of a scope that passes the filters; ``restore`` brings them back."""
    if not call.query.model_fields_set - {"dry_run"} and call.key.any_user:
        raise InvalidInputError(
            "say whose records: user_id, agent_id, run_id, namespace, under or filters", field="user_id"
        )
    return answer({"count": await call.memory.delete_all(**filtered(call))})


@area("POST", "/v1/memories/delete", "write", body=RecordIds, query=OfUser, gives=DoneEach)
async def delete_many(call: Call) -> Answer:
    """Delete up to 10,000 records in one transaction."""
    return answer({"done": await call.memory.delete_many(call.body.ids)})


@area("POST", "/v1/memories/touch", "write", body=Used, query=OfUser, gives=DoneEach)
async def touch(call: Call) -> Answer:
    """Say that records were used."""
    return answer({"done": await call.memory.touch(call.body.ids, **call.said("ids"))})


@area("GET", "/v1/memories/deleted", "read", query=GonePaged, gives=Page)
async def deleted(call: Call) -> Answer:
    """Records that can be brought back, the last one that went first."""
    return answer(await call.memory.deleted(**filtered(call)))


@area("POST", "/v1/memories/restore", "write", body=Nothing, query=GoneBack, gives=Count, slow=True)
async def restore_all(call: Call) -> Answer:
    """Bring back what a list of the deleted shows."""
    return answer({"count": await call.memory.restore_all(**filtered(call))})


@area("GET", "/v1/memories/distinct/{field}", "read", query=Listed, gives=list[object])
async def distinct(call: Call) -> Answer:
    """The different values of a field of the metadata, or of the record (``$run_id``)."""
    return answer(await call.memory.distinct(call.id, **filtered(call)))
