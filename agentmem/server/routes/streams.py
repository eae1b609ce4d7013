"""Any number of memories, in and out, as lines of JSON in memory that does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal, cast

from agentmem import AddResults, AgentMemError, InvalidInputError, MemoryRecord
from agentmem.server.answers import NDJSON, Answer, HttpError, dumps, problem_of
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area
from agentmem.server.reading import parsed, read_lines
from agentmem.server.routes.memories import filtered
from agentmem.server.routes.models import Listed, Streamed

area = Area("streams")


class Iterated(Listed):
    """Which records, and in which order."""

    order: Literal["newest", "oldest"] = "newest"
    by: Literal["added", "event", "updated"] = "added"
    data: bool = True
    touch: bool = True


@area("POST", "/v1/memories/stream", "write", query=Streamed, streams=True)
async def add_stream(call: Call) -> Answer:
    """Remember what the lines of the body say, each as POST /v1/memories takes it, or a text in quotes.

    Each line of the answer is about a chunk that is durable: how many were ``added`` and were there already, which were
    ``skipped``, and ``through`` which line. An error is the last line, as a problem; the chunks before it stay.
    """
    return Answer(200, headers=(NDJSON,), lines=_adding(call))


@area("GET", "/v1/memories/stream", "read", query=Iterated, streams=True)
async def iterate(call: Call) -> Answer:
    """Every record of a scope, one a line. An error is the last line, as a problem."""
    return Answer(200, headers=(NDJSON,), lines=_lines(call, filtered(call)))


async def _items(call: Call) -> AsyncIterator[Any]:
    number = 0
    async for line in read_lines(call.receive, limit=call.limit, seconds=call.seconds):
        item = parsed(line)
        if isinstance(item, dict) and "user_id" in item:
            raise InvalidInputError(
                "whose memories they are is said by the key, or by ?user_id=", field="user_id", index=number
            )
        yield item
        number += 1


async def _adding(call: Call) -> AsyncIterator[bytes]:
    said = call.asked("ids")
    through = 0
    try:
        async with aclosing(cast("AsyncGenerator[AddResults]", call.memory.add_stream(_items(call), **said))) as chunks:
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


async def _lines(call: Call, said: dict[str, Any]) -> AsyncIterator[bytes]:
    part, size = list[bytes](), 0
    reader = asyncio.create_task(_gone(call))
    try:
        async with aclosing(cast("AsyncGenerator[MemoryRecord]", call.memory.iterate(**said))) as records:
            async for record in records:
                part.append(dumps(record))
                size += len(part[-1])
                if reader.done():
                    return
                if size > 65_536:  # a message for each record takes longer than the record
                    yield b"\n".join(part) + b"\n"
                    part, size = [], 0
    except AgentMemError as exc:
        part.append(dumps({"error": problem_of(exc)}))
    finally:
        reader.cancel()
    if part:
        yield b"\n".join(part) + b"\n"


async def _gone(call: Call) -> None:
    """Ends when nobody reads any more what is being sent."""
    while (await call.receive())["type"] != "http.disconnect":
        pass
