"""The set of tools ``memory``: six verbs about what is known of somebody."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agentmem import EventType, HistoryEvent, MemoryRecord
from agentmem.mcp.access import Access
from agentmem.mcp.tools import Answer, Arguments, JSONObject, ObjectArgument, Tool, ToolError

SHOWN = 400
"""Characters of a memory that a line shows; ``history`` shows all of it."""

_ID: JSONObject = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}


class Remember(Arguments):
    content: str
    metadata: ObjectArgument = None


class Recall(Arguments):
    query: str
    limit: Annotated[int, Field(ge=1, le=50)] = 8
    filters: Annotated[ObjectArgument, Field(description='on metadata, like {"topic":{"$in":["a"]}}')] = None


class Context(Arguments):
    query: str
    max_tokens: Annotated[int, Field(ge=50, le=20_000)] = 500


class Update(Arguments):
    id: str
    content: str


class One(Arguments):
    id: str


async def _remember(access: Access, given: Remember) -> Answer:
    done = await access.view.add(given.content, metadata=given.metadata)
    text = f"Remembered as {done.id}." if done.status == "added" else f"Known already, as {done.id}."
    return Answer(text, {"id": done.id, "status": done.status})


async def _recall(access: Access, given: Recall) -> Answer:
    hits = await access.view.search(given.query, limit=given.limit, filters=given.filters, data=False)
    records = [hit.record for hit in hits]
    if not records:
        return Answer("Nothing is known about that.", {"memories": []})
    data = [{"id": record.id, "on": day(record), "text": shown(record)} for record in records]
    return Answer("\n".join(map(line, records)), {"memories": data})


async def _context(access: Access, given: Context) -> Answer:
    found = await access.view.context(given.query, max_tokens=given.max_tokens)
    return Answer(found or "Nothing is known about that.")


async def _update(access: Access, given: Update) -> Answer:
    record = await access.view.update(given.id, content=given.content)
    return Answer(f"Changed; {record.id} is at version {record.version}.", {"id": record.id, "version": record.version})


async def _forget(access: Access, given: One) -> Answer:
    if not await access.view.delete(given.id):
        raise ToolError("There is no such memory here. Use an id as recall shows it; it may be forgotten already.")
    return Answer("Forgotten.", {"id": given.id})


async def _history(access: Access, given: One) -> Answer:
    events = await access.view.history(given.id)
    record = await access.view.get(given.id, data=False, touch=False)
    now = "It is forgotten." if record is None else f"Now: {record.content}"
    data = [{"event": event.event.value, "at": event.at.isoformat(), "before": _before(event)} for event in events]
    lines = [f"{event.at:%Y-%m-%d %H:%M} {_event(event)}" for event in events]
    return Answer("\n".join([*lines, now]), {"content": None if record is None else record.content, "events": data})


def _before(event: HistoryEvent) -> str | None:
    """The text that an event replaced."""
    before = event.data.get("content")
    return before if isinstance(before, str) else None


def _event(event: HistoryEvent) -> str:
    name, before = event.event.value, _before(event)
    if before is not None and event.event in (EventType.UPDATE, EventType.RESTORE):
        return f"{name}, before: {_cut(before)}"
    return name


def day(record: MemoryRecord) -> str:
    """The day on which it happened, or was said."""
    return f"{record.occurred_at or record.created_at:%Y-%m-%d}"


def shown(record: MemoryRecord) -> str:
    """What a memory says, on one line, and who said it."""
    text = _cut(record.content)
    return text if record.role is None else f"{record.role}: {text}"


def line(record: MemoryRecord) -> str:
    """A memory in a list of them."""
    return f"[{record.id}] {day(record)} {shown(record)}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}… ({len(text):,} characters; history shows all)"


MEMORY = (
    Tool(
        "remember",
        "Keep a fact, preference or decision for later: a sentence that stands by itself, with names and dates.",
        Remember,
        _remember,
        writes=True,
        output=_ID,
    ),
    Tool(
        "recall",
        "Find memories by meaning and words, best first: [id] date text.",
        Recall,
        _recall,
        output={"type": "object", "properties": {"memories": {"type": "array"}}, "required": ["memories"]},
    ),
    Tool("context", "What is known about something, by day, within a budget of tokens.", Context, _context),
    Tool("update", "Replace what a memory says.", Update, _update, writes=True, destroys=True, output=_ID),
    Tool("forget", "Delete a memory that is wrong or unwanted.", One, _forget, writes=True, destroys=True, output=_ID),
    Tool(
        "history",
        "All that a memory says, and every change of it.",
        One,
        _history,
        output={"type": "object", "properties": {"events": {"type": "array"}}, "required": ["events"]},
    ),
)
"""In the order in which they are listed."""
