"""``AsyncMemory.values``: the same operations as ``Memory.values``, where it is said what they mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from agentmem.client.values import ValuesClient
from agentmem.types.enums import Id, Namespace, Ttl, ValueTierName

if TYPE_CHECKING:
    from agentmem.types.reports import EraseReport
    from agentmem.types.valueinfo import ValueHead, ValueInfo, ValueTier, ValueUsage, ValueVersion
else:
    from agentmem.types.named import EraseReport, ValueHead, ValueInfo, ValueTier, ValueUsage, ValueVersion


class AsyncValuesClient:
    """``ValuesClient`` for event loops: the same operations; what they mean is said there.

    Streams are read on another thread. What ``open`` gives is an ordinary file: read it on a thread, too.
    """

    def __init__(self, blocking: ValuesClient, wait: Callable[..., Awaitable[Any]]) -> None:
        self._blocking = blocking
        self._wait = wait

    async def put(
        self,
        key: str,
        value: object,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        if_version: int | None = None,
        tier: ValueTierName | None = None,
        hold: bool = False,
        pickle: bool = False,
    ) -> ValueInfo:
        """See ``ValuesClient.put``."""
        return await self._wait(
            self._blocking.put, key, value, user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace,
            metadata=metadata, importance=importance, ttl=ttl, if_version=if_version, tier=tier, hold=hold,
            pickle=pickle,
        )  # fmt: skip

    async def put_many(
        self,
        values: Mapping[str, object],
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        tier: ValueTierName | None = None,
        hold: bool = False,
        pickle: bool = False,
    ) -> list[ValueInfo]:
        """See ``ValuesClient.put_many``."""
        return await self._wait(
            self._blocking.put_many, values, user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace,
            metadata=metadata, importance=importance, ttl=ttl, tier=tier, hold=hold, pickle=pickle,
        )  # fmt: skip

    async def get(
        self,
        key: str,
        default: Any = None,
        *,
        start: int | None = None,
        end: int | None = None,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        device: bool = False,
        pickle: bool = False,
        touch: bool = True,
    ) -> Any:
        """See ``ValuesClient.get``."""
        return await self._wait(
            self._blocking.get, key, default, start=start, end=end, user_id=user_id, namespace=namespace, device=device,
            pickle=pickle, touch=touch,
        )  # fmt: skip

    async def get_many(
        self,
        keys: Iterable[str],
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        pickle: bool = False,
        touch: bool = True,
    ) -> dict[str, Any]:
        """See ``ValuesClient.get_many``."""
        return await self._wait(
            self._blocking.get_many, keys, user_id=user_id, namespace=namespace, pickle=pickle, touch=touch
        )

    async def open(
        self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None, touch: bool = True
    ) -> BinaryIO:
        """See ``ValuesClient.open``."""
        return await self._wait(self._blocking.open, key, user_id=user_id, namespace=namespace, touch=touch)

    async def head(
        self,
        key: str,
        limit: int = 20,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        touch: bool = True,
    ) -> ValueHead:
        """See ``ValuesClient.head``."""
        return await self._wait(self._blocking.head, key, limit, user_id=user_id, namespace=namespace, touch=touch)

    async def info(
        self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> ValueInfo | None:
        """See ``ValuesClient.info``."""
        return await self._wait(self._blocking.info, key, user_id=user_id, namespace=namespace)

    async def exists(self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None) -> bool:
        """See ``ValuesClient.exists``."""
        return await self._wait(self._blocking.exists, key, user_id=user_id, namespace=namespace)

    async def list(
        self,
        prefix: str = "",
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[ValueInfo]:
        """See ``ValuesClient.list``."""
        return await self._wait(
            self._blocking.list, prefix, user_id=user_id, namespace=namespace, limit=limit, after=after
        )

    async def query(
        self,
        metadata_filter: Mapping[str, object],
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[ValueInfo]:
        """See ``ValuesClient.query``."""
        return await self._wait(
            self._blocking.query, metadata_filter, user_id=user_id, namespace=namespace, limit=limit, offset=offset
        )

    async def delete(
        self,
        key: str,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        if_version: int | None = None,
    ) -> bool:
        """See ``ValuesClient.delete``."""
        return await self._wait(self._blocking.delete, key, user_id=user_id, namespace=namespace, if_version=if_version)

    async def erase(self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None) -> EraseReport:
        """See ``ValuesClient.erase``."""
        return await self._wait(self._blocking.erase, key, user_id=user_id, namespace=namespace)

    async def versions(
        self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> list[ValueVersion]:
        """See ``ValuesClient.versions``."""
        return await self._wait(self._blocking.versions, key, user_id=user_id, namespace=namespace)

    async def restore(
        self, key: str, version: int, *, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> ValueInfo:
        """See ``ValuesClient.restore``."""
        return await self._wait(self._blocking.restore, key, version, user_id=user_id, namespace=namespace)

    async def move(
        self,
        key: str,
        tier: ValueTierName | None,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        hold: bool = False,
    ) -> ValueInfo:
        """See ``ValuesClient.move``."""
        return await self._wait(self._blocking.move, key, tier, user_id=user_id, namespace=namespace, hold=hold)

    async def compress(
        self, key: str, *, level: int = 9, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> int:
        """See ``ValuesClient.compress``."""
        return await self._wait(self._blocking.compress, key, level=level, user_id=user_id, namespace=namespace)

    async def tiers(self) -> dict[str, ValueTier]:
        """See ``ValuesClient.tiers``."""
        return await self._wait(self._blocking.tiers)

    async def attach(self, id: Id, *keys: str) -> list[ValueInfo]:
        """See ``ValuesClient.attach``."""
        return await self._wait(self._blocking.attach, id, *keys)

    async def attachments(self, id: Id) -> list[ValueInfo]:
        """See ``ValuesClient.attachments``."""
        return await self._wait(self._blocking.attachments, id)

    async def usage(self) -> ValueUsage:
        """See ``ValuesClient.usage``."""
        return await self._wait(self._blocking.usage)
