"""What a stream of adds does next, without waiting for anything: both clients drive it, each waits in its own way."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from agentmem import operations
from agentmem.types.inputs import Item
from agentmem.types.records import AddResults, Skipped

if TYPE_CHECKING:
    from agentmem.client.importing import Checked
    from agentmem.engine.engine import Engine
    from agentmem.stores.rows import Created

STREAM_DEPTH = 2
"""Chunks in flight: while one is embedded, the one before is committed."""


class AddStream:
    """Chunks on their way into the store, in order; used by one task at a time.

    Until it has ``ended``, fill it: ``push`` the next chunk, or say with ``end`` that there is none, or with ``fail``
    why; then wait for each future that ``due`` gives, and pass on what ``results`` makes of its result. In the end
    ``cancel``, whatever happened.
    """

    def __init__(self, engine: Engine) -> None:
        self.position = 0
        """Of the next item among all of the stream, from 0."""
        self.ended = False
        """Whether everything is submitted that ever will be."""
        self._engine = engine
        self._waiting: deque[tuple[Future[list[Created]], Sequence[Skipped], Sequence[int]]] = deque()
        self._skipped: Sequence[Skipped] = ()
        self._indexes: Sequence[int] = ()
        self._error: Exception | None = None

    def push(self, items: int, checked: Checked) -> None:
        """Submit the next chunk, of so many items, to be stored after the one before."""
        before = self._waiting[-1][0] if self._waiting else None
        future = operations.add.submit(self._engine, checked.drafts, self.position, before)
        self._waiting.append((future, checked.skipped, checked.indexes))
        self.position += items

    def end(self) -> None:
        """There are no more items."""
        self.ended = True

    def fail(self, error: Exception) -> None:
        """End the stream: a bad item, or the caller's iterator failed. What is on its way is acknowledged first."""
        self.ended, self._error = True, error

    def due(self) -> Future[list[Created]] | None:
        """What to wait for before the next chunk, oldest first; None if that can come, or nothing is left.

        Raises the error that ended the stream, once nothing is left.
        """
        if self._waiting and (self.ended or len(self._waiting) >= STREAM_DEPTH):
            future, self._skipped, self._indexes = self._waiting.popleft()
            return future
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the error and this frame, which is in its traceback, keep each other alive
        return None

    def results(self, created: Sequence[Created]) -> AddResults:
        """What became of the chunk that was due last."""
        return operations.add.results(self._engine, created, self._skipped, self._indexes)

    def cancel(self) -> None:
        """Drop what nobody has waited for and whose commit has not begun."""
        for future, _, _ in self._waiting:
            future.cancel()


class Unread:
    """Kept by a stream until it ends: warns if that is dropped before anything of it was asked for."""

    def __init__(self) -> None:
        self.started = False

    def __del__(self) -> None:
        if not self.started:
            # Like a coroutine that was never awaited; a ResourceWarning would be hidden unless asked for.
            warnings.warn(
                "what add_stream() returned was never iterated over, so that nothing was stored; "
                "loop over it: for results in memory.add_stream(...)",
                RuntimeWarning,
                stacklevel=2,
            )


async def batches(items: Iterable[Item] | AsyncIterable[Item], size: int) -> AsyncGenerator[list[Item]]:
    """The items in lists of ``size``, as they come; the last one may be shorter."""
    batch = list[Item]()
    if isinstance(items, AsyncIterable):
        async for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    else:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch
