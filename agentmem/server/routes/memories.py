"""Adding and reading memories."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

from agentmem import AddResult, InvalidInputError, MemoryRecord, Page
from agentmem.server.answers import Answer, answer, dumps, etag, of_record
from agentmem.server.calls import Call, found, of_its_user
from agentmem.server.endpoint import Area
from agentmem.server.idempotency import plain_fact
from agentmem.server.routes.models import Added, AddedMany, Batch, Count, Item, Listed, OfUser, Paged

area = Area("memories")


class Got(OfUser):
    """How to read one."""

    deleted: bool = False
    data: bool = True
    touch: bool = True


@area("POST", "/v1/memories", "write", body=Item, query=OfUser, gives=Added, status=201)
async def add(call: Call) -> Answer:
    """Remember one thing; it is durable, and found, when this answers."""
    said = call.said("content")
    if call.once is not None and plain_fact(said) is False and said.get("id") is None:
        said["id"] = call.once.id()
    content = call.body.content
    item: dict[str, Any] = {} if content is None else {"content": content}
    item |= {name: said.pop(name) for name in ("valid_from", "valid_to") if name in said}
    result = await call.memory.add(item, **said)
    return answer(_added(result), 201, etag(result.record.version))


@area("POST", "/v1/memories/batch", "write", body=Batch, query=OfUser, gives=AddedMany, status=201)
async def add_many(call: Call) -> Answer:
    """Remember up to 10,000 things in one transaction: all of them or none."""
    said = call.said("items")
    items: list[Any] = call.body.items
    for index, item in enumerate(items):
        if isinstance(item, dict):
            of_its_user(call, cast("dict[str, Any]", item), index)
        if call.once is not None and isinstance(item, dict) and not plain_fact({**said, **item}):
            items[index] = {"id": call.once.id(index), **item}
    results = await call.memory.add_many(items, **said)
    done = [_added(one) for one in results]
    made = answer({"results": done, "skipped": results.skipped}, 201)
    without = [{"index": one.index, "field": None, "reason": "it was not taken"} for one in results.skipped]
    return replace(made, kept=dumps({"results": done, "skipped": without}))


@area("GET", "/v1/memories", "read", query=Paged, gives=Page)
async def page(call: Call) -> Answer:
    """Records of a scope; the ``cursor`` of a page leads to the next one."""
    return answer(await call.memory.page(**filtered(call)))


@area("GET", "/v1/memories/count", "read", query=Listed, gives=Count)
async def count(call: Call) -> Answer:
    """How many records a list would have."""
    return answer({"count": await call.memory.count(**filtered(call))})


@area("GET", "/v1/memories/{id}", "read", query=Got, gives=MemoryRecord)
async def get(call: Call) -> Answer:
    """One record. Its ETag is its version, which ``If-None-Match`` and ``If-Match`` take."""
    record = found(await call.memory.get(call.id, **call.asked()), f"record {call.id!r}")
    if call.matches(record.version):
        return Answer(304, b"", (etag(record.version),))
    return of_record(record)


def filtered(call: Call) -> dict[str, Any]:
    """What the query says, with its filter as what the JSON says. Raises ``InvalidInputError``."""
    said = call.asked()
    if said.get("filters") is not None:
        try:
            said["filters"] = json.loads(said["filters"])
        except (ValueError, RecursionError) as exc:
            raise InvalidInputError(f"filters: this is no JSON: {exc}", field="filters") from exc
    return said


def _added(result: AddResult) -> dict[str, Any]:
    return {"id": result.id, "status": result.status, "version": result.record.version}
