"""``Memory.lifecycle``, the place where its operations are documented, and ``AsyncMemory.lifecycle``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agentmem import operations
from agentmem.client.checks import check_flag, check_id
from agentmem.types.checks import check_instant
from agentmem.types.enums import Id, Instant
from agentmem.types.errors import ScopeError
from agentmem.types.inputs import Scope
from agentmem.types.records import MemoryRecord

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.types.reports import Explanation, LayerStats, ScorerReplay, ScorerReport, SweepReport
else:
    from agentmem.types.named import Explanation, LayerStats, ScorerReplay, ScorerReport, SweepReport


class LifecycleClient:
    """Layers, and what moves records between them: see docs/lifecycle.md."""

    def __init__(self, handle: Handle, bound: Scope | None) -> None:
        self._handle = handle
        self._bound = bound

    def sweep(self, now: Instant | None = None, dry_run: bool = False) -> SweepReport:
        """Promote what is eligible, expire what is due, make room in layers that are too full.

        Happens in the background every ``lifecycle.sweep_interval_s`` seconds; this does it at once. ``now`` is the
        instant to go by, default the present: a later one does what would be done then. With ``dry_run`` nothing is
        changed, and the report's ``moves`` say what would be. Sweeps of several processes may overlap.

        Raises ``ScopeError`` on a scoped view, since a sweep concerns everybody's records.
        """
        check_flag(dry_run, "dry_run")
        at = None if now is None else check_instant(now, "now")
        engine = self._handle.engine()
        if self._bound is not None:
            raise ScopeError("a sweep concerns everybody's records; call it on the memory, not on a scoped view")
        engine.check_process()
        return engine.lifecycle.sweep(at, dry_run=dry_run)

    def explain(self, id: Id) -> Explanation:
        """Why a record is in its layer, its score, what it lacks for promotion, and when it is due.

        Also of a record that has expired or was deleted. Raises ``NotFoundError``.
        """
        return operations.lifecycle.explain(self._handle.engine(), check_id(id), self._bound)

    def layers(self) -> dict[str, LayerStats]:
        """How full each layer is, as ``stats`` has it; takes no time, however many records there are.

        Raises ``ScopeError`` on a scoped view, since layers are everybody's.
        """
        engine = self._handle.engine()
        if self._bound is not None:
            raise ScopeError("layers are everybody's; ask the memory for them, not a scoped view")
        engine.check()
        return operations.stats.layer_stats(engine)

    def scorer(self) -> ScorerReport:
        """What scores memories (``lifecycle.scorer``), of how many examples its model is made, and how good it is.

        Raises ``ScopeError`` on a scoped view, since a model is everybody's.
        """
        engine = self._handle.engine()
        if self._bound is not None:
            raise ScopeError("a scorer is everybody's; ask the memory for it, not a scoped view")
        return operations.scorer.report(engine)

    def replay(self) -> ScorerReplay:
        """Compute each decision of the learned scorer that the history has once more, and compare it to the last bit.

        Raises ``ScopeError`` on a scoped view.
        """
        engine = self._handle.engine()
        if self._bound is not None:
            raise ScopeError("decisions concern everybody's records; ask the memory for it, not a scoped view")
        return operations.scorer.replay(engine)

    def promote(self, id: Id) -> MemoryRecord:
        """Move a record to the next layer, whatever its score; its time there begins now.

        Raises ``NotFoundError``, ``InvalidInputError`` for an asset, ``CapacityError`` if the assets are full.
        """
        return operations.lifecycle.promote(self._handle.engine(), check_id(id), self._bound)

    def demote(self, id: Id) -> MemoryRecord:
        """Move a record to the layer before; its time there begins now.

        Raises ``NotFoundError``, and ``InvalidInputError`` for a record in the lowest layer.
        """
        return operations.lifecycle.demote(self._handle.engine(), check_id(id), self._bound)

    def pin(self, id: Id) -> MemoryRecord:
        """Keep a record: no rule promotes, expires or evicts it. A ``ttl`` that its caller set is kept all the same.

        Raises ``NotFoundError``.
        """
        return operations.lifecycle.pin(self._handle.engine(), check_id(id), self._bound)

    def unpin(self, id: Id) -> MemoryRecord:
        """Undo ``pin``; the record's time in its layer begins now. Raises ``NotFoundError``."""
        return operations.lifecycle.unpin(self._handle.engine(), check_id(id), self._bound)


class AsyncLifecycleClient:
    """``LifecycleClient`` for event loops: the same operations; what they mean is said there."""

    def __init__(self, blocking: LifecycleClient, wait: Callable[..., Awaitable[Any]]) -> None:
        self._blocking = blocking
        self._wait = wait

    async def sweep(self, now: Instant | None = None, dry_run: bool = False) -> SweepReport:
        """See ``LifecycleClient.sweep``."""
        return await self._wait(self._blocking.sweep, now, dry_run)

    async def explain(self, id: Id) -> Explanation:
        """See ``LifecycleClient.explain``."""
        return await self._wait(self._blocking.explain, id)

    async def layers(self) -> dict[str, LayerStats]:
        """See ``LifecycleClient.layers``."""
        return await self._wait(self._blocking.layers)

    async def scorer(self) -> ScorerReport:
        """See ``LifecycleClient.scorer``."""
        return await self._wait(self._blocking.scorer)

    async def replay(self) -> ScorerReplay:
        """See ``LifecycleClient.replay``."""
        return await self._wait(self._blocking.replay)

    async def promote(self, id: Id) -> MemoryRecord:
        """See ``LifecycleClient.promote``."""
        return await self._wait(self._blocking.promote, id)

    async def demote(self, id: Id) -> MemoryRecord:
        """See ``LifecycleClient.demote``."""
        return await self._wait(self._blocking.demote, id)

    async def pin(self, id: Id) -> MemoryRecord:
        """See ``LifecycleClient.pin``."""
        return await self._wait(self._blocking.pin, id)

    async def unpin(self, id: Id) -> MemoryRecord:
        """See ``LifecycleClient.unpin``."""
        return await self._wait(self._blocking.unpin, id)
