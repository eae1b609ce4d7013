"""Records by key."""

from __future__ import annotations

from agentmem import InvalidInputError, MemoryRecord
from agentmem.server.answers import Answer, answer, etag, of_record
from agentmem.server.calls import Call, found
from agentmem.server.endpoint import Area
from agentmem.server.routes.models import Added, Done, KeyedItem, OfUser, Path

area = Area("keyed")


class Keyed(OfUser):
    """A key of a namespace."""

    namespace: Path | None = None


class Read(Keyed):
    """How to read it."""

    data: bool = True
    touch: bool = True


@area("PUT", "/v1/keyed/{key}", "write", body=KeyedItem, query=OfUser, gives=Added, at_version=True)
async def put(call: Call) -> Answer:
    """Store one thing under a key; what has the key already is replaced as a whole, and keeps its id.

    With ``If-Match`` only if it is at that version, with ``If-None-Match: *`` only if there is none; else 409.
    """
    wanted = call.if_version
    if call.headers.get(b"if-none-match", b"").strip() == b"*":
        if wanted is not None:
            raise InvalidInputError("If-Match and If-None-Match exclude each other here", field="if-match")
        wanted = 0
    result = await call.memory.put(call.id, call.body.content, **call.said("content"), if_version=wanted)
    said = {"id": result.id, "status": result.status, "version": result.record.version}
    return answer(said, 200, etag(result.record.version))


@area("GET", "/v1/keyed/{key}", "read", query=Read, gives=MemoryRecord)
async def get(call: Call) -> Answer:
    """The record with this key."""
    record = found(await call.memory.get(key=call.id, **call.asked()), f"record with the key {call.id!r}")
    if call.matches(record.version):
        return Answer(304, b"", (etag(record.version),))
    return of_record(record)


@area("DELETE", "/v1/keyed/{key}", "write", query=Keyed, gives=Done, at_version=True)
async def delete(call: Call) -> Answer:
    """Delete the record with this key."""
    return answer({"done": await call.memory.delete(key=call.id, **call.asked(), if_version=call.if_version)})
