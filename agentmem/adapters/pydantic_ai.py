"""Pydantic AI: a conversation store, and a toolset by which an agent remembers.

A conversation is a record by key in ``(*namespace, "conversations")``, each of its entries one in ``(*namespace,
"entries")``; neither has a vector nor shows among a user's memories. The toolset works on the user's own memories.
"""

# The framework is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import anyio

from agentmem import AsyncMemory, ConflictError, Delete, InvalidInputError, MemoryRecord, Put, Settings
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of, names_of
from agentmem.adapters.texts import embeddable
from agentmem.adapters.versions import require

require("pydantic-ai-slim", at_least="2.66", below="3", extra="pydantic-ai")

from pydantic import ConfigDict, TypeAdapter  # noqa: E402
from pydantic_ai.conversation_store import (  # noqa: E402
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.exceptions import ModelRetry  # noqa: E402
from pydantic_ai.messages import ModelMessage  # noqa: E402
from pydantic_ai.tools import RunContext  # noqa: E402
from pydantic_ai.toolsets import FunctionToolset  # noqa: E402

__all__ = ["AgentMemConversationStore", "AgentMemToolset"]

NAMESPACE = ("pydantic_ai",)
"""Where conversations are kept unless another namespace is given."""
_RECORD = TypeAdapter(ConversationRecord)
_MESSAGES = TypeAdapter(
    list[ModelMessage],
    config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"),
)
_SHARED = "%shared"
"""The key of the record whose version counts what makes histories share entries, and what lets go of any; no name."""
_ATOMIC = 900
"""Entries of one transaction."""
_FEW = 20
"""Entries that are read one by one."""
_ATTEMPTS = 60
_PAUSE_S = 0.002


class AgentMemConversationStore(ConversationStore):
    """A ``ConversationStore`` in an agentmem store.

    ``memory`` is an open client or a view of one, which stays yours to close, or the path of a store. ``user_id`` is a
    wall, and ``namespace`` says where conversations are kept: stores that differ in either share nothing. ``scope`` of
    the calls is Pydantic AI's own, within those.

    A save is one transaction, conditional on the revision: of many who save at once, in whatever processes, one
    succeeds, and the others get ``ConversationConflict``. (Of more than 900 new messages, the first are stored before.)
    ``delete`` also deletes the entries that no other conversation's history reaches.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] = NAMESPACE,
        settings: Settings | None = None,
    ) -> None:
        self._client, root = Client(memory, settings), names_of(namespace)
        self._records: dict[str, Any] = {"user_id": user_id, "namespace": (*root, "conversations")}
        self._entries: dict[str, Any] = {"user_id": user_id, "namespace": (*root, "entries")}

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    @property
    def _memory(self) -> AsyncMemory:
        return self._client.memory.aio

    # -- reading -----------------------------------------------------------------------------------------------------

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """The record of a conversation; None if there is none."""
        stored = await self._stored(conversation_id)
        return None if stored is None else _record(stored)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """The records, or those of a scope, the one saved last first; ``limit`` of them at most."""
        filters = None if scope is None else {"$data.scope": scope}
        found = list[ConversationRecord]()
        if limit != 0:
            async for stored in self._memory.iterate(
                by="event", kinds=["conversation"], filters=filters, touch=False, **self._records
            ):
                found.append(_record(stored))
                if len(found) == limit:
                    break
        return found

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """The entry with an id. Raises ``KeyError`` if there is none."""
        return _entry(await self._entry(entry_id))

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """The entries up to ``head_id``, in order, or the last ``limit`` of them.

        Raises ``KeyError`` if one of them is not there.
        """
        held = dict[str, MemoryRecord]()
        history, id, most = list[ConversationEntry](), head_id, 2**53 if limit is None else limit
        while id is not None and len(history) < most:
            if label_of(id) not in held:
                stored = await self._entry(id)
                held[label_of(id)] = stored
                if most - len(history) > _FEW:  # it is likely the last of those that its conversation stored
                    before = self._memory.iterate(run_id=stored.run_id, touch=False, **self._entries)
                    held |= {str(each.key): each async for each in before}
            history.append(_entry(held[label_of(id)]))
            id = history[-1].parent_id
        return history[::-1]

    async def _stored(self, conversation_id: str) -> MemoryRecord | None:
        return await self._memory.get(key=label_of(conversation_id), touch=False, **self._records)

    async def _entry(self, id: str) -> MemoryRecord:
        stored = await self._memory.get(key=label_of(id), touch=False, **self._entries)
        if stored is None:
            raise KeyError(id)
        return stored

    # -- changing ----------------------------------------------------------------------------------------------------

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries. Raises ``ConversationConflict`` as the interface says."""
        new = {entry.id: entry for entry in new_entries}
        run = label_of(record.conversation_id)
        puts = [_put_entry(entry, run, self._entries) for entry in new.values()]

        async def attempt() -> None:
            stored = await self._at(record.conversation_id, expected_revision)
            own = () if stored is None else (stored.data["head_id"], *stored.data["branches"])
            base = new_entries[0].parent_id if new_entries else record.head_id
            changes = list[Any]()
            if base is not None and base not in own:  # it shares a history that others may let go
                changes = [await self._sharing()]
            if record.head_id is not None and record.head_id not in new and not await self._is_there(record.head_id):
                raise ConversationConflict(record.conversation_id)
            put = _put_record(record, 0 if stored is None else stored.version, self._records)
            await self._memory.apply([*changes, put, *puts[-_ATOMIC:]])

        for at in range(0, len(puts) - _ATOMIC, _ATOMIC):
            await self._memory.apply(puts[at : min(at + _ATOMIC, len(puts) - _ATOMIC)])
        try:
            await _until_alone(attempt, record.conversation_id)
        except ConversationConflict:
            await self._let_go([str(put.key) for put in puts[:-_ATOMIC]])
            raise

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a record, and the entries that no history reaches then.

        Raises ``ConversationConflict`` if it is not at that revision.
        """
        gone = list[str]()

        async def attempt() -> None:
            sharing = await self._sharing()
            stored = await self._at(conversation_id, expected_revision)
            if stored is None:
                raise ConversationConflict(conversation_id)
            run, parents, own = label_of(conversation_id), dict[str, str | None](), list[str]()
            async for each in self._memory.iterate(data=False, touch=False, **self._entries):
                parents[str(each.key)] = each.metadata.get("parent")
                if each.run_id == run:
                    own.append(str(each.key))
            kept = set[str]()
            async for other in self._memory.iterate(kinds=["conversation"], touch=False, **self._records):
                if other.key != stored.key:
                    deque(_reached(other, parents, kept), 0)
            gone[:] = _reached(stored, parents, kept)
            gone.extend(key for key in own if key not in kept)  # what lies before an entry that was erased by itself
            delete = Delete(key=stored.key, if_version=stored.version, **self._records)
            await self._memory.apply([sharing, delete, *(Delete(key=id, **self._entries) for id in gone[:_ATOMIC])])

        await _until_alone(attempt, conversation_id)
        await self._let_go(gone[_ATOMIC:])

    async def _at(self, conversation_id: str, revision: str | None) -> MemoryRecord | None:
        """The record at a revision; None if there is none and none is expected."""
        stored = await self._stored(conversation_id)
        if (None if stored is None else stored.data["revision"]) != revision:
            raise ConversationConflict(conversation_id)
        return stored

    async def _is_there(self, id: str) -> bool:
        return await self._memory.get(key=label_of(id), data=False, touch=False, **self._entries) is not None

    async def _sharing(self) -> Put:
        """A change by which one fails that was prepared at the same time, if it has one, too."""
        stored = await self._memory.get(key=_SHARED, data=False, touch=False, **self._records)
        version = 0 if stored is None else stored.version
        return Put(_SHARED, data=True, kind="sharing", layer="assets", if_version=version, **self._records)

    async def _let_go(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), _ATOMIC):
            await self._memory.apply([Delete(key=key, **self._entries) for key in keys[at : at + _ATOMIC]])


class AgentMemToolset(FunctionToolset[Any]):
    """Tools by which an agent remembers: ``remember``, ``recall`` and ``forget``, on the memories of a user.

    ``user_id`` is a user, or a function that says of a ``RunContext`` whose run it is. What the tools find and change
    is that user's, in ``namespace`` (left out: what the user's searches find anyway), whatever the model asks for.
    ``limit`` memories at most are recalled. Other arguments are those of ``FunctionToolset``.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | Callable[[RunContext[Any]], str | None] | None = None,
        agent_id: str | None = None,
        namespace: Sequence[str] | None = None,
        limit: int = 10,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        self._client = Client(memory, settings)
        self._user_id = user_id
        self._where: dict[str, Any] = {
            key: value for key, value in (("agent_id", agent_id), ("namespace", namespace)) if value is not None
        }
        self._limit = limit
        super().__init__([self.remember, self.recall, self.forget], **options)

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    async def remember(self, ctx: RunContext[Any], text: str) -> str:
        """Remember a fact for later conversations.

        Args:
            text: The fact, in a sentence that can be understood by itself.
        """
        added = await _told(self._memory(ctx).add(text, **self._where))
        return "Remembered." if added.status == "added" else "That was known already."

    async def recall(self, ctx: RunContext[Any], query: str) -> list[dict[str, str]]:
        """What is remembered that has to do with a question, the best first.

        Args:
            query: The question, or what to look for.
        """
        asked = embeddable(query)
        if not asked:
            return []
        hits = await _told(self._memory(ctx).search(asked, limit=self._limit, data=False, **self._where))
        return [
            {"id": hit.id, "date": f"{hit.occurred_at or hit.created_at:%Y-%m-%d}", "text": hit.content} for hit in hits
        ]

    async def forget(self, ctx: RunContext[Any], id: str) -> str:
        """Forget something, because it is wrong or no longer true.

        Args:
            id: The id that recall gave with it.
        """
        memory = self._memory(ctx)
        record = await _told(memory.get(id, data=False, touch=False))
        if record is None or record.namespace != tuple(self._where.get("namespace", ())):
            return "There is nothing with that id."
        return "Forgotten." if await memory.delete(id) else "There is nothing with that id."

    def _memory(self, ctx: RunContext[Any]) -> AsyncMemory:
        """The client of a user, to whom nothing of others is there."""
        user = self._user_id(ctx) if callable(self._user_id) else self._user_id
        memory = self._client.memory
        return (memory.userless() if user is None else memory.scoped(user_id=user)).aio


async def _told(call: Awaitable[Any]) -> Any:
    """What a call returns; the model is told what it asked for wrongly."""
    try:
        return await call
    except InvalidInputError as exc:
        raise ModelRetry(str(exc)) from exc


def _put_record(record: ConversationRecord, version: int, place: dict[str, Any]) -> Put:
    data = {"scope": record.scope, **_RECORD.dump_python(record, mode="json")}  # filters see the beginning
    return Put(
        label_of(record.conversation_id), data=data, kind="conversation", layer="assets", embed=False,
        occurred_at=record.updated_at, if_version=version, **place,
    )  # fmt: skip


def _put_entry(entry: ConversationEntry, run_id: str, place: dict[str, Any]) -> Put:
    [message] = _MESSAGES.dump_python([entry.message], mode="json")
    data = {"id": entry.id, "parent_id": entry.parent_id, "kind": entry.kind, "message": message}
    return Put(
        label_of(entry.id), _text(entry.message) or None, data=data, kind="entry", layer="assets", embed=False,
        run_id=run_id, metadata=None if entry.parent_id is None else {"parent": label_of(entry.parent_id)}, **place,
    )  # fmt: skip


def _record(stored: MemoryRecord) -> ConversationRecord:
    return _RECORD.validate_python(stored.data)


def _entry(stored: MemoryRecord) -> ConversationEntry:
    data: dict[str, Any] = stored.data
    [message] = _MESSAGES.validate_python([data["message"]])
    return ConversationEntry(**{**data, "message": message})


def _text(message: Any) -> str:
    """What words find a message by: what was said, and no instructions, thoughts and calls."""
    said = [part.content for part in message.parts if part.part_kind in ("user-prompt", "text")]
    texts = [text for each in said for text in ([each] if isinstance(each, str) else each) if isinstance(text, str)]
    return embeddable("\n".join(texts))


def _reached(stored: MemoryRecord, parents: dict[str, str | None], known: set[str]) -> Iterator[str]:
    """The keys of a conversation's entries, but those that are known, and what comes before them."""
    for tip in (stored.data["head_id"], *stored.data["branches"]):
        key = None if tip is None else label_of(tip)
        while key is not None and key in parents and key not in known:
            known.add(key)
            yield key
            key = parents[key]


async def _until_alone(attempt: Callable[[], Awaitable[None]], conversation_id: str) -> None:
    """Try a change again while others change what it was made from."""
    for number in range(_ATTEMPTS):
        try:
            return await attempt()
        except ConflictError:
            await anyio.sleep(random.random() * _PAUSE_S * (number + 1))
    raise ConversationConflict(conversation_id)
