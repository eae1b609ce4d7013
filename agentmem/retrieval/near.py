"""The hot and warm records of a large scope that has no arena: an exact arena of those alone.

The rest of the scope is on the disk, where proposals may miss what these do not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping

from typing_extensions import override

from agentmem.indexes.keywords import Statistics
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.held import KEPT_TIMES
from agentmem.retrieval.query import Candidate, Query
from agentmem.types.enums import Tier


class Near(Arena):
    """Has whatever of ``tiers`` it was given, and follows that."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.tiers = dict[int, Tier]()
        """The tier of each record that is to be here, by row."""
        self.spent: deque[float] = deque(maxlen=KEPT_TIMES)
        """Milliseconds that the last searches took here."""
        self._there = set[int]()

    def want(self, tiers: Mapping[int, Tier]) -> list[int]:
        """Have these from now on, and no others; returns the rows that are yet to come."""
        for row in self.tiers.keys() - tiers.keys():
            self.remove(row)
        self.tiers = dict(tiers)
        self._there &= tiers.keys()
        return [row for row in tiers if row not in self._there]

    def seen(self, rows: Iterable[int]) -> None:
        """These have come, as far as they are there."""
        self._there.update(rows)

    @override
    def search(self, query: Query, statistics: Statistics | None = None) -> list[Candidate]:
        begun = time.perf_counter()
        found = super().search(query, statistics)
        self.spent.append((time.perf_counter() - begun) * 1_000)
        return found
