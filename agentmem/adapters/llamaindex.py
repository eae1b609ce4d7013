# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false, reportGeneralTypeIssues=false
"""LlamaIndex: a chat store for its ``Memory``, a memory block, and (in a file of its own) a vector store.

A message is a record of its own, by a key that nobody else has, in a namespace for each conversation: whole in its
data, its status in its metadata, never embedded. The order of adding is that of the conversation, for all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from pydantic import Field, PrivateAttr
from typing_extensions import override

from agentmem import Delete, Put, Settings, Update
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of, text_of
from agentmem.adapters.llamaindex_vectors import AgentMemEmbedding, AgentMemVectorStore
from agentmem.adapters.steps import Steps, arun
from agentmem.adapters.texts import embeddable, fitting
from agentmem.errors import ConflictError

__all__ = ["AgentMemBlock", "AgentMemChatStore", "AgentMemEmbedding", "AgentMemVectorStore"]

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

_ATOMIC = 1_000
"""Changes of one transaction of ``apply``."""
_BATCH = 10_000
"""Records that are put, deleted or read at once."""
_SPEAKERS = (MessageRole.USER, MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)


class AgentMemChatStore(AsyncDBChatStore):
    """Conversations by their keys, for ``Memory.from_defaults(chat_store=...)``: durable, shared by processes.

    ``memory`` is an open client or a view of one, which stays yours to close, or the path of a store. Conversations
    belong to ``user_id``, a wall, and lie in the namespace ``("llamaindex", "chat", name, key)``, where no search of
    memories sees them. They are kept until they are deleted. Works from any loop and thread, from several at once.
    """

    name: str = Field(default="default", description="What tells conversations of one program from those of another.")

    _client: Client = PrivateAttr()
    _user: str | None = PrivateAttr()

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        name: str = "default",
        settings: Settings | None = None,
    ) -> None:
        super().__init__(name=name)
        self._client = Client(memory, settings)
        self._user = user_id

    @classmethod
    @override
    def class_name(cls) -> str:
        return "AgentMemChatStore"

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    def _root(self) -> tuple[str, ...]:
        return ("llamaindex", "chat", label_of(self.name))

    def _of(self, key: str) -> dict[str, Any]:
        return {"user_id": self._user, "namespace": (*self._root(), label_of(key))}

    async def _run(self, steps: Steps[Any]) -> Any:
        return await arun(self._client.memory, steps)

    @override
    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """The messages of a conversation, oldest first."""
        return [_message(record) for record in await self._run(_listed(self._of(key), status, limit, offset or 0))]

    @override
    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        return await self._run(_one("count", {**self._of(key), "filters": _filters(status)}))

    @override
    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        await self.add_messages(key, [message], status)

    @override
    async def add_messages(
        self, key: str, messages: Sequence[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Add messages at the end, up to 10,000 in one transaction: durable when this returns."""
        await self._run(_added(self._of(key), [_item(key, message, status) for message in messages]))

    @override
    async def set_messages(
        self, key: str, messages: Sequence[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Put messages in the place of all that the conversation has.

        In one transaction where both together are at most 1,000; of larger ones the new ones come in before the old
        ones go. Of several who do this at once, all messages of one remain.
        """
        await self._run(_replaced(self._of(key), [_item(key, message, status) for message in messages]))

    @override
    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the message at a position, from 0, among all of the conversation, and return it; None without one."""
        return await self._run(_taken_at(self._of(key), idx))

    @override
    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        await self._run(_one("delete_all", {**self._of(key), "filters": _filters(status)}))

    @override
    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest ``n`` active messages and return them; who does so at the same time gets others."""
        return [_message(record) for record in await self._run(_taken(self._of(key), n))]

    @override
    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest ``n`` active messages and return them; who does so at the same time gets others."""
        return [_message(record) for record in await self._run(_archived(self._of(key), n))]

    @override
    async def get_keys(self) -> list[str]:
        """The keys of all conversations that have messages."""
        return await self._run(_keys(self._user, self._root()))


class AgentMemBlock(BaseMemoryBlock[str]):
    """What agentmem remembers of a user, as a block of LlamaIndex's ``Memory``.

    Reading it gives the memories that fit what the user said last, as text of at most ``max_tokens``. Messages that
    leave the short-term memory are added to the memories: what the user and the assistant said, once for each
    conversation, which is their ``run_id``. ``search_kwargs`` are further arguments of ``Memory.context``, such as
    ``filters``, ``kinds`` or ``since``; ``layer`` is where messages go, ``"assets"`` for good.
    """

    name: str = Field(default="Memories", description="The name of the memory block.")
    max_tokens: int = Field(default=1_000, description="How many tokens of memories are shown at most.")
    layer: str = Field(default="assets", description="The layer of agentmem that messages are kept in.")
    search_kwargs: dict[str, Any] = Field(default_factory=dict, description="Further arguments of Memory.context.")

    _client: Client = PrivateAttr()
    _scope: dict[str, Any] = PrivateAttr()

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        settings: Settings | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        self._client = Client(memory, settings)
        self._scope = {"user_id": user_id, "agent_id": agent_id}

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    @override
    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        said = [embeddable(each.content or "") for each in messages or () if each.role == MessageRole.USER]
        query = next((text for text in reversed(said) if text), "")
        if not query:
            return ""
        asked = {"query": query, "max_tokens": self.max_tokens, **self._scope, **self.search_kwargs}
        return await arun(self._client.memory, _one("context", asked))

    @override
    async def _aput(self, messages: list[ChatMessage]) -> None:
        await arun(self._client.memory, self._remembered(messages))

    def _remembered(self, messages: Sequence[ChatMessage]) -> Steps[None]:
        found = dict[tuple[Any, ...], dict[str, Any]]()  # said twice is remembered once, in one call as in two
        for message in messages:
            text = fitting(message.content or "") if message.role in _SPEAKERS else None
            if text is None:
                continue
            session = message.additional_kwargs.get("session_id")
            role = "user" if message.role == MessageRole.USER else "assistant"
            run = {} if session is None else {"run_id": label_of(str(session))}
            found[session, role, text] = {"role": role, "content": text, "layer": self.layer, **run}
        items = list(found.values())
        for start in range(0, len(items), _BATCH):
            some = items[start : start + _BATCH]
            yield "add_many", {"items": some, "source": "llamaindex", **self._scope}


# -- the calls of ``Memory`` -------------------------------------------------------------------------------------------


def _item(key: str, message: ChatMessage, status: MessageStatus) -> dict[str, Any]:
    data = {"key": key, "message": message.model_dump(mode="json")}
    return {"key": uuid4().hex, "data": data, "metadata": {"status": status.value}, "embed": False, "layer": "assets"}


def _message(record: Any) -> ChatMessage:
    return ChatMessage.model_validate(record.data["message"])


def _filters(status: MessageStatus | None) -> dict[str, Any] | None:
    return None if status is None else {"status": status.value}


def _one(name: str, arguments: dict[str, Any]) -> Steps[Any]:
    return (yield name, arguments)


def _listed(
    where: dict[str, Any], status: MessageStatus | None, limit: int | None, offset: int = 0, *, data: bool = True
) -> Steps[list[Any]]:
    """Records of a conversation, oldest first; a limit below 0 is none, as in SQL."""
    most = None if limit is None or limit < 0 else limit
    found, at = list[Any](), dict[str, Any](offset=max(0, offset))
    while most is None or len(found) < most:
        wanted = _BATCH if most is None else min(most - len(found), _BATCH)
        page = yield "page", {
            **where, "filters": _filters(status), "order": "oldest", "limit": wanted, "data": data, "touch": False,
            **at,
        }  # fmt: skip
        found += page.records
        if page.cursor is None:
            break
        at = {"cursor": page.cursor}
    return found


def _added(where: dict[str, Any], items: Sequence[dict[str, Any]]) -> Steps[None]:
    for start in range(0, len(items), _BATCH):
        yield "put_many", {"items": items[start : start + _BATCH], **where}


def _replaced(where: dict[str, Any], items: list[dict[str, Any]]) -> Steps[None]:
    old = yield from _listed(where, None, None, data=False)
    if len(old) + len(items) <= _ATOMIC:
        yield "apply", {"changes": [*(Delete(one.id) for one in old), *(Put(**item, **where) for item in items)]}
    else:
        yield from _added(where, items)
        yield from _deleted(old)
    # What others have put in between the two calls, before the first of these, is replaced as well; whoever has
    # replaced these by now has done that already.
    now = (yield from _listed(where, None, None, data=False)) if items else []
    first = next((at for at, one in enumerate(now) if one.key == items[0]["key"]), 0)
    yield from _deleted(now[:first])


def _deleted(records: Sequence[Any]) -> Steps[None]:
    for start in range(0, len(records), _BATCH):
        yield "delete_many", {"ids": [one.id for one in records[start : start + _BATCH]]}


def _taken_at(where: dict[str, Any], position: int) -> Steps[ChatMessage | None]:
    while position >= 0:
        found = yield from _listed(where, None, 1, position)
        if not found:
            break
        if (yield "delete", {"id": found[0].id}):
            return _message(found[0])
    return None


def _taken(where: dict[str, Any], n: int) -> Steps[list[Any]]:
    taken = list[Any]()
    while n < 0 or len(taken) < n:
        found = yield from _listed(where, MessageStatus.ACTIVE, _ATOMIC if n < 0 else min(n - len(taken), _ATOMIC))
        if not found:
            break
        gone = yield "apply", {"changes": [Delete(one.id) for one in found]}
        taken += [one for one, was_there in zip(found, gone, strict=True) if was_there]
    return taken


def _archived(where: dict[str, Any], n: int) -> Steps[list[Any]]:
    archived, metadata = list[Any](), {"status": MessageStatus.ARCHIVED.value}
    while n < 0 or len(archived) < n:
        left = _ATOMIC if n < 0 else min(n - len(archived), _ATOMIC)
        found = yield from _listed(where, MessageStatus.ACTIVE, left)
        if not found:
            break
        try:
            yield "apply", {"changes": [Update(one.id, metadata=metadata, if_version=one.version) for one in found]}
        except (ConflictError, LookupError):  # somebody was faster with one of them: look again
            continue
        archived += found
    return archived


def _keys(user: str | None, root: tuple[str, ...]) -> Steps[list[str]]:
    keys, offset = list[str](), 0
    while True:
        page = yield "namespaces", {"user_id": user, "under": root, "limit": _BATCH, "offset": offset}
        for each in page:
            key = text_of(each.namespace[-1])
            if key is None:  # too long for a name: its messages say it
                some = yield from _listed({"user_id": user, "namespace": each.namespace}, None, 1)
                key = some[0].data["key"] if some else None
            if key is not None:
                keys.append(key)
        if len(page) < _BATCH:
            return keys
        offset += _BATCH
