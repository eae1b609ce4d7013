"""``AsyncMemory.consolidation``: the same operations for event loops; what they mean is said in ``knowledge``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from agentmem.knowledge.consolidation import Consolidation
from agentmem.knowledge.reports import ConsolidationReport, ConsolidationState, DaySpend, Proposal
from agentmem.types.changes import Evidence


class AsyncConsolidation:
    """``Consolidation`` for event loops."""

    def __init__(self, blocking: Consolidation, wait: Callable[..., Awaitable[Any]]) -> None:
        self._blocking = blocking
        self._wait = wait

    @property
    def model(self) -> str | None:
        """See ``Consolidation.model``."""
        return self._blocking.model

    async def run(self, *, dry_run: bool = False, batches: int | None = None) -> ConsolidationReport:
        """See ``Consolidation.run``."""
        return await self._wait(self._blocking.run, dry_run=dry_run, batches=batches)

    async def propose(self, *, facts: int = 1_000) -> list[Proposal]:
        """See ``Consolidation.propose``."""
        return await self._wait(self._blocking.propose, facts=facts)

    async def proposals(self, *, run_id: str | None = None) -> list[Proposal]:
        """See ``Consolidation.proposals``."""
        return await self._wait(self._blocking.proposals, run_id=run_id)

    async def approve(self, ids: Collection[str] | None = None, *, run_id: str | None = None) -> ConsolidationReport:
        """See ``Consolidation.approve``."""
        return await self._wait(self._blocking.approve, ids, run_id=run_id)

    async def reject(self, ids: Collection[str] | None = None, *, run_id: str | None = None) -> int:
        """See ``Consolidation.reject``."""
        return await self._wait(self._blocking.reject, ids, run_id=run_id)

    async def revert(self, run_id: str) -> ConsolidationReport:
        """See ``Consolidation.revert``."""
        return await self._wait(self._blocking.revert, run_id)

    async def state(self) -> ConsolidationState:
        """See ``Consolidation.state``."""
        return await self._wait(self._blocking.state)

    async def evidence(self, id: str) -> list[Evidence]:
        """See ``Consolidation.evidence``."""
        return await self._wait(self._blocking.evidence, id)

    async def spend(self, *, everybody: bool = False) -> list[DaySpend]:
        """See ``Consolidation.spend``."""
        return await self._wait(self._blocking.spend, everybody=everybody)

    async def retry(self) -> int:
        """See ``Consolidation.retry``."""
        return await self._wait(self._blocking.retry)
