# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false, reportGeneralTypeIssues=false
"""Google's Agent Development Kit: a memory service, and (in a file of its own) a session service.

An event is a memory of its own, under an id made of app, user, session and event: sessions are added again and again,
and an event that is there already is passed over. Its text is embedded; its content is in its data, whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

from typing_extensions import override

from agentmem import Settings
from agentmem.adapters.adk_sessions import AgentMemSessionService, read_as
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of
from agentmem.adapters.steps import Steps, arun
from agentmem.adapters.texts import embeddable, fitting

__all__ = ["AgentMemMemoryService", "AgentMemSessionService"]

from google.adk.events import Event
from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions import Session
from google.genai import types

_IDS = UUID("6f6e1c7e-5ad3-4f0c-9a35-0d2d9a2ad1b4")
_BATCH = 10_000
"""Memories that are added in one transaction."""


class AgentMemMemoryService(BaseMemoryService):
    """What the sessions of a user said, for ``Runner(memory_service=...)``: found by meaning and by words.

    ``memory`` is an open client, which stays yours to close, or the path of a store. ADK's user is agentmem's, a wall;
    the memories of an app lie in its namespace ``("adk", app_name, "memory")``, where no other search sees them. A
    search returns at most ``limit`` memories; ``search_kwargs`` are further arguments of ``Memory.search``, such as
    ``min_similarity`` or ``since``. Works from any loop and thread, from several at once.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        limit: int = 10,
        search_kwargs: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._client = Client(memory, settings)
        self._asked = {"limit": limit, **(search_kwargs or {})}

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    @override
    async def add_session_to_memory(self, session: Session) -> None:
        """Add the events of a session that are not there yet; durable when this returns."""
        await self.add_events_to_memory(
            app_name=session.app_name, user_id=session.user_id, events=session.events, session_id=session.id
        )

    @override
    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Add events that are not there yet. Those without a text are left out: nothing could find them.

        ``custom_metadata``, any JSON, comes back with each. What was deleted is not added again.
        """
        place = _place(app_name, user_id)
        said = {} if session_id is None else {"run_id": label_of(session_id)}
        items = dict[str, dict[str, Any]]()
        for event in events:
            if event.content is None or event.partial:
                continue
            item = _item(event.content, event.author, event.timestamp, custom_metadata)
            if item is not None:
                id = _id(place, "event", session_id, event.id)
                items.setdefault(id, {**item, **said, "id": id})
        await arun(self._client.memory, _added(list(items.values()), place))

    @override
    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Add memories as they are. One with an id is there once; another one under that id is a ``ConflictError``."""
        place = _place(app_name, user_id)
        items = list[dict[str, Any]]()
        for entry in memories:
            at = None if entry.timestamp is None else datetime.fromisoformat(entry.timestamp).timestamp()
            metadata = {**entry.custom_metadata, **(custom_metadata or {})}
            item = _item(entry.content, entry.author, at, metadata)
            if item is not None:
                id = str(uuid4()) if entry.id is None else _id(place, "entry", None, entry.id)
                items.append({**item, "id": id})
        await arun(self._client.memory, _added(items, place, on_conflict="raise"))

    @override
    async def search_memory(self, *, app_name: str, user_id: str, query: str) -> SearchMemoryResponse:
        """The memories that fit best, best first; none for a query that says nothing."""
        asked = embeddable(query)
        if not asked:
            return SearchMemoryResponse()
        hits = await self._client.memory.aio.search(asked, **self._asked, **_place(app_name, user_id))
        return SearchMemoryResponse(memories=[_entry(hit.record) for hit in hits])

    @override
    async def delete_memory(self, *, app_name: str, user_id: str, memory_id: str | None = None) -> None:
        """Delete the memory with the id that a search gave it."""
        if memory_id:
            await self._client.memory.scoped(**_place(app_name, user_id)).aio.delete(memory_id)


def _place(app_name: str, user_id: str) -> dict[str, Any]:
    return {"user_id": label_of(user_id), "namespace": ("adk", label_of(app_name), "memory")}


def _id(place: dict[str, Any], kind: str, session_id: str | None, id: str) -> str:
    return str(uuid5(_IDS, json.dumps([place["user_id"], place["namespace"], kind, session_id, id])))


def _item(
    content: types.Content, author: str | None, timestamp: float | None, metadata: Mapping[str, object] | None
) -> dict[str, Any] | None:
    """A content as an item of ``add_many``; None if it says nothing. What a model only thought is not searched."""
    said = " ".join(part.text for part in content.parts or () if part.text and not part.thought)
    text = fitting(said)
    if text is None:
        return None
    return {
        "role": "user" if author == "user" else "assistant",
        "content": text,
        "layer": "assets",
        "occurred_at": None if timestamp is None else datetime.fromtimestamp(timestamp, UTC),
        "data": {
            "author": author,
            "content": content.model_dump(mode="json", exclude_none=True),
            "custom_metadata": dict(metadata or {}),
        },
    }


def _entry(record: Any) -> MemoryEntry:
    return MemoryEntry(
        id=record.id,
        content=read_as(types.Content, record.data["content"]),
        author=record.data["author"],
        timestamp=(record.occurred_at or record.created_at).isoformat(),
        custom_metadata=record.data["custom_metadata"],
    )


def _added(items: Sequence[dict[str, Any]], place: dict[str, Any], on_conflict: str = "skip") -> Steps[None]:
    for start in range(0, len(items), _BATCH):
        yield "add_many", {"items": items[start : start + _BATCH], "on_conflict": on_conflict, **place}
