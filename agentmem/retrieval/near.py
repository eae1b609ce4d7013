"""The hot and warm records of a large scope that has no arena: an exact arena of those alone.

The rest of the scope is on the disk, where proposals may miss what these do not.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from agentmem.indexes.keywords import Statistics
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.held import KEPT_TIMES
from agentmem.retrieval.query import Candidate, Query
from agentmem.retrieval.tiermap import TierMap

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints


class Near(Arena):
    """Has whatever of ``tiers`` it was given, and follows that."""

    _GROWTH = 1.1

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.tiers = TierMap()
        """The tier of each record that is to be here, by row."""
        self.spent: deque[float] = deque(maxlen=KEPT_TIMES)
        """Milliseconds that the last searches took here."""
        self._there: Bools = np.empty(0, np.bool_)

    def want(self, tiers: TierMap) -> Ints:
        """Have these from now on, and no others; returns the rows that are yet to come."""
        at = tiers.positions(self.tiers.rows)
        for row in self.tiers.rows[at < 0].tolist():
            self.remove(row)
        there = np.zeros(len(tiers), np.bool_)
        there[at[at >= 0]] = self._there[at >= 0]
        self.tiers, self._there = tiers, there
        self._reserve(len(tiers) + len(tiers) // 50)  # growing leaves holes behind that nobody else can use
        return tiers.rows[~there]

    def seen(self, rows: Ints) -> None:
        """These have come, as far as they are there."""
        at = self.tiers.positions(rows)
        self._there[at[at >= 0]] = True

    @override
    def search(self, query: Query, statistics: Statistics | None = None) -> list[Candidate]:
        begun = time.perf_counter()
        found = super().search(query, statistics)
        self.spent.append((time.perf_counter() - begun) * 1_000)
        return found
