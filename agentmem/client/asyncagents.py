"""``AsyncMemory.session`` and its kin: the same operations for event loops; what they mean is said in ``agent``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from agentmem.agent.blocks import LIMIT, Block, Blocks, BlockVersion
from agentmem.agent.prompt import Prompt
from agentmem.agent.sessions import Session, SessionInfo, begin_append, begin_pop
from agentmem.agent.summaries import Summary
from agentmem.agent.tokens import Tokenizer
from agentmem.agent.turns import Turn
from agentmem.agent.working import WorkingMemory
from agentmem.types.enums import UNSET, Unset
from agentmem.types.inputs import Item

Wait = Callable[..., Awaitable[Any]]
"""Runs a blocking call on one of the engine's threads."""
Settle = Callable[..., Awaitable[Any]]
"""Makes a call that begins a change of a session, and waits on no thread for what becomes of it."""


class AsyncWorkingMemory:
    """``WorkingMemory`` for event loops."""

    def __init__(self, blocking: WorkingMemory, wait: Wait) -> None:
        self._blocking = blocking
        self._wait = wait

    async def get(self) -> dict[str, Any]:
        """See ``WorkingMemory.get``."""
        return await self._wait(self._blocking.get)

    async def version(self) -> int:
        """See ``WorkingMemory.version``."""
        return await self._wait(self._blocking.version)

    async def set(self, value: Mapping[str, Any], *, if_version: int | None = None) -> int:
        """See ``WorkingMemory.set``."""
        return await self._wait(self._blocking.set, value, if_version=if_version)

    async def merge(self, value: Mapping[str, Any], *, if_version: int | None = None) -> int:
        """See ``WorkingMemory.merge``."""
        return await self._wait(self._blocking.merge, value, if_version=if_version)

    async def delete(self, *keys: str, if_version: int | None = None) -> int:
        """See ``WorkingMemory.delete``."""
        return await self._wait(self._blocking.delete, *keys, if_version=if_version)


class AsyncBlocks:
    """``Blocks`` for event loops."""

    def __init__(self, blocking: Blocks, wait: Wait) -> None:
        self._blocking = blocking
        self._wait = wait

    async def create(
        self,
        label: str,
        value: str = "",
        *,
        description: str = "",
        limit: int = LIMIT,
        read_only: bool = False,
        reason: str | None = None,
    ) -> Block:
        """See ``Blocks.create``."""
        return await self._wait(
            self._blocking.create,
            label,
            value,
            description=description,
            limit=limit,
            read_only=read_only,
            reason=reason,
        )

    async def get(self, label: str) -> Block | None:
        """See ``Blocks.get``."""
        return await self._wait(self._blocking.get, label)

    async def append(self, label: str, text: str, *, reason: str | None = None, if_version: int | None = None) -> Block:
        """See ``Blocks.append``."""
        return await self._wait(self._blocking.append, label, text, reason=reason, if_version=if_version)

    async def replace(
        self, label: str, old: str, new: str, *, reason: str | None = None, if_version: int | None = None
    ) -> Block:
        """See ``Blocks.replace``."""
        return await self._wait(self._blocking.replace, label, old, new, reason=reason, if_version=if_version)

    async def insert(
        self, label: str, line: int, text: str, *, reason: str | None = None, if_version: int | None = None
    ) -> Block:
        """See ``Blocks.insert``."""
        return await self._wait(self._blocking.insert, label, line, text, reason=reason, if_version=if_version)

    async def rewrite(
        self, label: str, value: str, *, reason: str | None = None, if_version: int | None = None
    ) -> Block:
        """See ``Blocks.rewrite``."""
        return await self._wait(self._blocking.rewrite, label, value, reason=reason, if_version=if_version)

    async def configure(
        self,
        label: str,
        *,
        description: str | Unset = UNSET,
        limit: int | Unset = UNSET,
        read_only: bool | Unset = UNSET,
        if_version: int | None = None,
    ) -> Block:
        """See ``Blocks.configure``."""
        return await self._wait(
            self._blocking.configure,
            label,
            description=description,
            limit=limit,
            read_only=read_only,
            if_version=if_version,
        )

    async def history(self, label: str) -> Sequence[BlockVersion]:
        """See ``Blocks.history``."""
        return await self._wait(self._blocking.history, label)

    async def restore(self, label: str, version: int, *, if_version: int | None = None) -> Block:
        """See ``Blocks.restore``."""
        return await self._wait(self._blocking.restore, label, version, if_version=if_version)

    async def delete(self, label: str, *, if_version: int | None = None) -> bool:
        """See ``Blocks.delete``."""
        return await self._wait(self._blocking.delete, label, if_version=if_version)

    async def list(self) -> Sequence[Block]:
        """See ``Blocks.list``."""
        return await self._wait(self._blocking.list)


class AsyncSession:
    """``Session`` for event loops."""

    def __init__(self, blocking: Session, wait: Wait, settle: Settle) -> None:
        self._blocking = blocking
        self._wait = wait
        self._settle = settle

    def __repr__(self) -> str:
        return f"Async{self._blocking!r}"

    @property
    def run_id(self) -> str:
        return self._blocking.run_id

    @property
    def agent_id(self) -> str | None:
        return self._blocking.agent_id

    @property
    def working(self) -> AsyncWorkingMemory:
        """See ``Session.working``."""
        return AsyncWorkingMemory(self._blocking.working, self._wait)

    async def append(self, messages: Item | Sequence[Item]) -> list[Turn]:
        """See ``Session.append``."""
        return await self._settle(begin_append, self._blocking, messages)

    async def turns(
        self,
        limit: int | None = None,
        *,
        max_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
        before: str | None = None,
    ) -> list[Turn]:
        """See ``Session.turns``."""
        return await self._wait(self._blocking.turns, limit, max_tokens=max_tokens, tokenizer=tokenizer, before=before)

    async def messages(
        self,
        limit: int | None = None,
        *,
        max_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
        before: str | None = None,
    ) -> list[dict[str, Any]]:
        """See ``Session.messages``."""
        return await self._wait(
            self._blocking.messages, limit, max_tokens=max_tokens, tokenizer=tokenizer, before=before
        )

    async def count(self) -> int:
        """See ``Session.count``."""
        return await self._wait(self._blocking.count)

    async def pop(self, n: int = 1) -> list[Turn]:
        """See ``Session.pop``."""
        return await self._settle(begin_pop, self._blocking, n)

    async def undo(self, n: int = 1) -> list[Turn]:
        """See ``Session.undo``."""
        return await self._wait(self._blocking.undo, n)

    async def clear(self) -> int:
        """See ``Session.clear``."""
        return await self._wait(self._blocking.clear)

    async def summarize(
        self,
        *,
        keep: int = 20,
        max_tokens: int = 400,
        tokenizer: Tokenizer | None = None,
        model: object = None,
    ) -> Summary | None:
        """See ``Session.summarize``."""
        return await self._wait(
            self._blocking.summarize, keep=keep, max_tokens=max_tokens, tokenizer=tokenizer, model=model
        )

    async def summary(self) -> Summary | None:
        """See ``Session.summary``."""
        return await self._wait(self._blocking.summary)

    async def prompt(
        self,
        query: str | None = None,
        *,
        max_tokens: int,
        instructions: str = "",
        tokenizer: Tokenizer | None = None,
        blocks: Sequence[Blocks] | None = None,
        recall: int = 20,
        recall_share: float = 0.3,
        recalled_role: str = "user",
        **search: Any,
    ) -> Prompt:
        """See ``Session.prompt``; ``blocks`` are those of a blocking client (``AsyncMemory.blocking``)."""
        return await self._wait(
            self._blocking.prompt,
            query,
            max_tokens=max_tokens,
            instructions=instructions,
            tokenizer=tokenizer,
            blocks=blocks,
            recall=recall,
            recall_share=recall_share,
            recalled_role=recalled_role,
            **search,
        )

    async def create(self, *, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> SessionInfo:
        """See ``Session.create``."""
        return await self._wait(self._blocking.create, title=title, metadata=metadata)

    async def info(self) -> SessionInfo | None:
        """See ``Session.info``."""
        return await self._wait(self._blocking.info)

    async def rename(self, title: str | None) -> SessionInfo:
        """See ``Session.rename``."""
        return await self._wait(self._blocking.rename, title)

    async def describe(self, metadata: Mapping[str, Any]) -> SessionInfo:
        """See ``Session.describe``."""
        return await self._wait(self._blocking.describe, metadata)

    async def close(self) -> SessionInfo:
        """See ``Session.close``."""
        return await self._wait(self._blocking.close)

    async def reopen(self) -> SessionInfo:
        """See ``Session.reopen``."""
        return await self._wait(self._blocking.reopen)

    async def delete(self) -> bool:
        """See ``Session.delete``."""
        return await self._wait(self._blocking.delete)
