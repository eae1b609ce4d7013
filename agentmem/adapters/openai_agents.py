"""A session for the OpenAI Agents SDK: the items of a conversation, as turns of a session of the store.

A user's sessions lie in a namespace of their own, so that no item shows among the user's memories. An item comes back
as it went in, whatever is in it; its text is found by words in that namespace.
"""

# The framework is not installed where types are checked.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from agentmem import Settings
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import id_label, names_of
from agentmem.adapters.texts import embeddable, is_content
from agentmem.adapters.versions import require

require("openai-agents", at_least="0.20", below="1", extra="openai-agents")

from agents.memory.session_settings import SessionSettings  # noqa: E402

if TYPE_CHECKING:
    from agentmem import AsyncSession, Memory, Turn

__all__ = ["AgentMemSession"]

T = TypeVar("T")

NAMESPACE = ("openai_agents",)
"""Where sessions are kept unless another namespace is given."""
_ROLES = frozenset({"assistant", "developer", "system", "user"})
_SAID = frozenset({"input_text", "output_text", "text", None})
"""Types of the parts of a content whose text is searched."""


class AgentMemSession:
    """A ``session=`` for ``Runner.run`` and its kin, kept in an agentmem store.

    ``session_id`` is any text, an empty one, too, an int or a UUID. ``memory`` is an open client or a view of one,
    which stays yours to close, or the path of a store. ``user_id`` says whose conversation it is, and ``namespace``
    where it is kept: sessions that differ in either share nothing. It lives for ``ttl`` (seconds or a timedelta) after
    each time that items are added, and for good unless that is given. With ``embed`` the texts of items are found by
    meaning, too, in searches of the namespace.

    Works from any event loop, and from several at once; other processes may use the same session.
    """

    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str | int | UUID,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] = NAMESPACE,
        ttl: float | timedelta | None = None,
        embed: bool = False,
        session_settings: SessionSettings | Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.session_id = str(session_id)
        self.session_settings = _settings(session_settings)
        self._client = Client(memory, settings)
        self._place: dict[str, Any] = {
            "run_id": id_label(session_id), "user_id": user_id, "namespace": names_of(namespace), "ttl": ttl,
            "embed": embed,
        }  # fmt: skip
        self._held: tuple[Memory, AsyncSession] | None = None

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The items, oldest first: all, or the last ``limit``, else as many as ``session_settings`` say."""
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        return [_item(turn) for turn in await self._session.turns(None if limit is None or limit < 0 else limit)]

    async def add_items(self, items: list[Any]) -> None:
        """Add items at the end, all or none; they are durable when this returns.

        Raises ``InvalidInputError`` for what is no JSON, with the position as ``.index``.
        """
        if items:
            await _to_its_end(self._session.append([_message(item) for item in items]))

    async def pop_item(self) -> Any | None:
        """Remove the last item and return it; None if there is none. Whoever else pops gets another one."""
        popped = await _to_its_end(self._session.pop())
        return _item(popped[0]) if popped else None

    async def clear_session(self) -> None:
        """Remove all items that there are."""
        await _to_its_end(self._session.clear())

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    @property
    def _session(self) -> AsyncSession:
        memory, held = self._client.memory, self._held
        if held is None or held[0] is not memory:
            held = self._held = (memory, memory.aio.session(**self._place))
        return held[1]


def _settings(given: Any) -> SessionSettings:
    if not isinstance(given, Mapping):
        return SessionSettings() if given is None else given
    unknown = given.keys() - SessionSettings.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(f"Unknown session settings: {', '.join(sorted(map(str, unknown)))}")
    return SessionSettings(**given)


def _message(item: Any) -> dict[str, Any]:
    """What is appended for an item: itself, if it is a role and a text; else with the whole of it as data."""
    said = item if isinstance(item, Mapping) else {}
    role, content = said.get("role"), said.get("content")
    if role not in _ROLES:
        role = "tool" if str(said.get("type")).endswith("_output") else "assistant"
    elif len(said) == 2 and isinstance(content, str) and is_content(content):
        return {"role": role, "content": content}
    text = _text(said.get("output") if content is None else content)
    return {"role": role, "content": embeddable(text), "data": item}


def _item(turn: Turn) -> Any:
    return {"content": turn.content, "role": turn.role} if turn.data is None else json.loads(turn.data)


def _text(content: Any) -> str:
    """What is said in a content."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    said = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") in _SAID]
    return "\n".join(text for text in said if isinstance(text, str))


async def _to_its_end(change: Awaitable[T]) -> T:
    """What a change returns; a caller that is cancelled meanwhile learns of it when the change was made, or was not."""
    task = asyncio.ensure_future(change)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it has been seen, for the loop
        raise
