"""``AsyncCluster``: the calls of ``Cluster`` for event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from agentmem.distributed.cluster import Cluster
from agentmem.distributed.clusterfaces import Face

T = TypeVar("T")
AT_ONCE = 64
"""Calls that wait at the same time; each has a thread, and more take turns."""
_FACES = ("lifecycle", "tiers", "values", "backup")
_OPENERS = ("session", "blocks", "consolidation")


class AsyncCluster:
    """A cluster for code that awaits: every call of ``Cluster`` by its name, as a coroutine. What each means is said
    there.

    Takes what ``Cluster`` takes, or one that there is, which then is not closed with this.
    """

    def __init__(self, url: Any, **options: Any) -> None:
        self._owned = not isinstance(url, Cluster)
        self._make: Callable[[], Cluster] = partial(Cluster, url, **options) if self._owned else lambda: url
        self._cluster: Cluster | None = None
        self._limit = anyio.CapacityLimiter(AT_ONCE)
        self._opening = anyio.Lock()

    async def __aenter__(self) -> AsyncCluster:
        await self._opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the shards, which go on."""
        if self._cluster is not None and self._owned:
            self._cluster.close()

    def scoped(self, **scope: Any) -> AsyncCluster:
        """A view with the scope bound; the cluster was entered, or called, before."""
        return self._view(lambda cluster: cluster.scoped(**scope))

    def userless(self) -> AsyncCluster:
        """A view of what was stored without a user; the same."""
        return self._view(Cluster.userless)

    def _view(self, made: Callable[[Cluster], Cluster]) -> AsyncCluster:
        if self._cluster is None:
            raise RuntimeError("enter the cluster first: async with AsyncCluster(...) as cluster")
        view = AsyncCluster(made(self._cluster))
        view._limit = self._limit
        return view

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Cluster, name):
            raise AttributeError(f"a cluster has no {name!r}")
        if name in ("iterate", "add_stream"):
            return partial(self._stream, name)
        if name in _FACES:
            return _AsyncFace(self, lambda cluster: getattr(cluster, name))
        if name in _OPENERS:
            return partial(self._opener, name)
        return partial(self._call, name)

    def _opener(self, name: str, *given: Any, **named: Any) -> _AsyncFace:
        return _AsyncFace(self, lambda cluster: getattr(cluster, name)(*given, **named))

    async def _opened(self) -> Cluster:
        async with self._opening:
            if self._cluster is None:
                self._cluster = await self._in_thread(self._make)
            return self._cluster

    async def _call(self, name: str, *given: Any, **named: Any) -> Any:
        cluster = await self._opened()
        return await self._in_thread(partial(getattr(cluster, name), *given, **named))

    async def _stream(self, name: str, *given: Any, **named: Any) -> AsyncIterator[Any]:
        cluster, end = await self._opened(), object()
        going: Iterator[Any] = getattr(cluster, name)(*given, **named)
        while (found := await self._in_thread(partial(next, going, end))) is not end:
            yield found

    async def _in_thread(self, call: Callable[[], T]) -> T:
        # What is cancelled goes on in its thread: a write that is under way may count.
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limit)


class _AsyncFace:
    def __init__(self, cluster: AsyncCluster, open_face: Callable[[Cluster], Face]) -> None:
        self._cluster, self._open = cluster, open_face

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._call, name)

    async def _call(self, name: str, *given: Sequence[Any], **named: Any) -> Any:
        there = await self._cluster._opened()  # pyright: ignore[reportPrivateUsage]
        face = self._open(there)
        return await self._cluster._in_thread(  # pyright: ignore[reportPrivateUsage]
            partial(getattr(face, name), *given, **named)
        )
