"""``AsyncMemory.session`` and its kin: the same operations for event loops; what they mean is said in ``agent``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from agentmem.agent.sessions import Session, SessionInfo
from agentmem.agent.tokens import Tokenizer
from agentmem.agent.turns import Turn
from agentmem.agent.working import WorkingMemory
from agentmem.types.inputs import Item

Wait = Callable[..., Awaitable[Any]]
"""Runs a blocking call on one of the engine's threads."""


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


class AsyncSession:
    """``Session`` for event loops."""

    def __init__(self, blocking: Session, wait: Wait) -> None:
        self._blocking = blocking
        self._wait = wait

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
        return await self._wait(self._blocking.append, messages)

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
        return await self._wait(self._blocking.pop, n)

    async def undo(self, n: int = 1) -> list[Turn]:
        """See ``Session.undo``."""
        return await self._wait(self._blocking.undo, n)

    async def clear(self) -> int:
        """See ``Session.clear``."""
        return await self._wait(self._blocking.clear)

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
