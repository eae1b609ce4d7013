"""Any number of memories, in and out, as lines of JSON in memory that does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal, cast

from pydantic import Field

from agentmem import ALL, AddResults, AgentMemError, AsyncMemory, InvalidInputError, MemoryRecord
from agentmem.client import embedded_by
from agentmem.server import idempotency
from agentmem.server.answers import NDJSON, Answer, HttpError, dumps, problem_of
from agentmem.server.calls import Call, of_its_user
from agentmem.server.endpoint import Area
from agentmem.server.reading import parsed, read_lines
from agentmem.server.routes.memories import filtered
from agentmem.server.routes.models import AllUsers, Imported, Listed

area = Area("streams")


class Iterated(Listed):
    """Which records, and in which order."""

    order: Literal["newest", "oldest"] = "newest"
    by: Literal["added", "event", "updated"] = "added"
    data: bool = True
    touch: bool = True
    vectors: bool = Field(False, description="With the texts or vectors of records that were embedded by such.")
    all_users: AllUsers = False


@area("POST", "/v1/memories/stream", "write", query=Imported, streams=True)
async def add_stream(call: Call) -> Answer:
    """Remember what the lines of the body say, each as POST /v1/memories takes it, or a text in quotes.

    A line may be a whole record, too, as GET /v1/memories/stream gives it: of the same user, unless ``all_users`` is
    asked for. Each line of the answer is about a chunk that is durable: how many were ``added`` and were there already,
    which were ``skipped``, and ``through`` which line. An error is the last line, as a problem; the chunks before it
    stay.
    """
    return Answer(200, headers=(NDJSON,), lines=_adding(call, _view(call)))


@area("GET", "/v1/memories/stream", "read", query=Iterated, streams=True)
async def iterate(call: Call) -> Answer:
    """Every record of a scope, one a line. An error is the last line, as a problem.

    With ``vectors`` these are lines that another store takes, with ids and dates as they were: an export.
    """
    said = {name: value for name, value in filtered(call).items() if name not in ("vectors", "all_users")}
    if call.query.all_users:
        said["user_id"] = ALL
    return Answer(200, headers=(NDJSON,), lines=_lines(call, _view(call), said))


def _view(call: Call) -> AsyncMemory:
    """Whose memories: those that the key leads to, or everybody's."""
    if not call.query.all_users:
        return call.memory
    call.key.require("admin")
    if call.query.user_id is not None:
        raise InvalidInputError("all_users and user_id exclude each other", field="all_users")
    return call.store


async def _items(call: Call) -> AsyncIterator[Any]:
    number = 0
    async for line in read_lines(call.receive, limit=call.limit, seconds=call.seconds):
        call.check()
        try:
            item = parsed(line)
        except InvalidInputError as exc:
            raise InvalidInputError(f"item {number}: {exc}", field="body", index=number) from exc
        if isinstance(item, dict) and not call.query.all_users:
            of_its_user(call, cast("dict[str, Any]", item), number)
        yield item
        number += 1


async def _adding(call: Call, view: AsyncMemory) -> AsyncIterator[bytes]:
    said = call.asked("ids", "all_users")
    through = 0
    try:
        with call.gate.writing(call.named):
            async with aclosing(cast("AsyncGenerator[AddResults]", view.add_stream(_items(call), **said))) as chunks:
                async for results in chunks:
                    through += len(results) + len(results.skipped)
                    yield _line(results, through, with_ids=call.query.ids)
    except (AgentMemError, HttpError) as exc:
        yield dumps({"error": problem_of(exc), "through": through}) + b"\n"


def _line(results: AddResults, through: int, *, with_ids: bool) -> bytes:
    there = sum(one.status != "added" for one in results)
    said: dict[str, Any] = {"added": len(results) - there, "present": there, "skipped": results.skipped}
    if with_ids:
        said["ids"] = [one.id for one in results]
    return dumps({**said, "through": through}) + b"\n"


async def _lines(call: Call, view: AsyncMemory, said: dict[str, Any]) -> AsyncIterator[bytes]:
    part, size = list[bytes](), 0
    reader = asyncio.create_task(_gone(call))
    try:
        async with aclosing(cast("AsyncGenerator[MemoryRecord]", view.iterate(**said))) as records:
            async for record in records:
                if record.namespace[:1] == idempotency.NAMESPACE[:1]:  # the server's own, of no use elsewhere
                    continue
                part.append(dumps(await _with_vectors(view, record) if call.query.vectors else record))
                size += len(part[-1])
                if reader.done():
                    return
                if size > 65_536:  # a message for each record takes longer than the record
                    call.check()
                    yield b"\n".join(part) + b"\n"
                    part, size = [], 0
    except AgentMemError as exc:
        part.append(dumps({"error": problem_of(exc)}))
    finally:
        reader.cancel()
    if part:
        yield b"\n".join(part) + b"\n"


async def _with_vectors(view: AsyncMemory, record: MemoryRecord) -> MemoryRecord | dict[str, Any]:
    if record.embedding not in ("texts", "given"):
        return record
    return {**record.to_dict(), **embedded_by((await view.vectors([record.id]))[0])}


async def _gone(call: Call) -> None:
    """Ends when nobody reads any more what is being sent."""
    while (await call.receive())["type"] != "http.disconnect":
        pass
