"""Counts of use without a write in the read path: searches and gets leave a line here, a thread writes them down.

What waits here is lost if the process is killed, at most a second's worth; closing the store writes it down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.lifecycle.promotion_score import observation
from agentmem.stores import accounting
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros

if TYPE_CHECKING:
    from agentmem.retrieval.query import Candidate

GROUP = 200
"""Records per transaction: one or two milliseconds."""
MOST = 200_000
"""Records whose use is kept while it cannot be written down, because the disk is full, say."""


class Accesses:
    """What was used since it was last written down. Any thread may note; one at a time may write down."""

    def __init__(self, similar: float) -> None:
        self._similar = similar
        self._noted: deque[tuple[Micros, int | Sequence[Candidate], Sequence[int] | None, int]] = deque()
        self._sums: dict[int, list[Any]] = {}
        self.searches = 0

    def found(
        self, now: Micros, candidates: Sequence[Candidate], chosen: Sequence[int] | None = None, above: int = 0
    ) -> None:
        """A search returned these, in this order; or only those at the ``chosen`` positions were of use.

        ``above`` are better ones that it passed over.
        """
        self._noted.append((now, candidates, chosen, above))
        self.searches += 1

    def read(self, now: Micros, row: int) -> None:
        """A record was asked for by its id."""
        self._noted.append((now, row, None, 0))

    def write_down(
        self, write: Callable[[Callable[[Repository], object], int], object], pause: Callable[[], object]
    ) -> None:
        """Add what was noted to the store, through ``write(run, rows)``; what fails is kept for the next time.

        ``pause()`` comes between transactions.
        """
        self._sum_up()
        todo = sorted(self._sums)  # neighbours share pages, and what changes fewer pages is faster committed
        for start in range(0, len(todo), GROUP):
            rows = todo[start : start + GROUP]
            uses = [(row, *self._sums[row]) for row in rows]
            write(lambda repository, uses=uses: accounting.note_accesses(repository.db, uses), len(uses))
            for row in rows:
                del self._sums[row]
            pause()

    def _sum_up(self) -> None:
        while self._noted:
            now, what, chosen, above = self._noted.popleft()
            if isinstance(what, int):
                self._add(what, now, 0.0, 0.0)
                continue
            for at in range(len(what)) if chosen is None else chosen:
                hit = what[at]
                self._add(hit.row, now, *observation(above + at + 1, hit.similarity, hit.keyword, self._similar))

    def _add(self, row: int, now: Micros, value: float, weight: float) -> None:
        known = self._sums.get(row)
        if known is not None:
            known[0] += 1
            known[1], known[2] = min(known[1], now), max(known[2], now)
            known[3] += value
            known[4] += weight
        elif len(self._sums) < MOST:
            self._sums[row] = [1, now, now, value, weight]
