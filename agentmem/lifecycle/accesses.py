"""Counts of use without a write in the read path: searches and gets leave a line here, a thread writes them down.

What waits here is lost if the process is killed, at most a second's worth; closing the store writes it down. Among it
are the ends that reads put off (``stores.renewal``): a near one is written down by the read itself, and what the clock
passes before it is written down is written down before anything else is read or written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

from agentmem.lifecycle.promotion_score import observation
from agentmem.stores import accounting, renewal
from agentmem.stores.renewal import Renewal
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros

if TYPE_CHECKING:
    from agentmem.retrieval.query import Candidate

GROUP = 200
"""Records per transaction: one or two milliseconds."""
MOST = 200_000
"""Records whose use is kept while it cannot be written down, because the disk is full, say."""
NEAR = 5_000_000
"""What is over so soon cannot wait: another process would see its end before it hears that this was put off."""
_NEVER = 2**63 - 1


class Accesses:
    """What was used since it was last written down. Any thread may note; one at a time may write down."""

    def __init__(self, similar: float, learn: Callable[[Repository, Sequence[tuple[Any, ...]]], object]) -> None:
        """``learn`` is told of uses before they are written down, in the same transaction."""
        self._similar = similar
        self._learn = learn
        self._noted: deque[tuple[Micros, int | Sequence[Candidate], Sequence[int] | None, int]] = deque()
        self._sums: dict[int, list[Any]] = {}
        self._renewals: dict[int, Renewal] = {}
        self._renewing = RLock()
        self._end = _NEVER
        """Before this, nothing is over whose end was put off; it may be earlier than need be."""
        self.last: dict[int, Micros] = {}
        """When records were last used, where that is not written down yet."""
        self.written = 0
        """How often something was written down."""
        self.searches = 0

    def found(
        self, now: Micros, candidates: Sequence[Candidate], chosen: Sequence[int] | None = None, above: int = 0
    ) -> None:
        """A search returned these, in this order; or only those at the ``chosen`` positions were of use.

        ``above`` are better ones that it passed over.
        """
        self._noted.append((now, candidates, chosen, above))
        self.searches += 1
        self._note_last(now, (candidates[at].row for at in (range(len(candidates)) if chosen is None else chosen)))

    def read(self, now: Micros, row: int) -> None:
        """A record was asked for by its id."""
        self._noted.append((now, row, None, 0))
        self._note_last(now, (row,))

    def _note_last(self, now: Micros, rows: Iterable[int]) -> None:
        if len(self.last) < MOST:
            self.last.update((row, now) for row in rows)

    def put_off(self, now: Micros, found: Iterable[Stored]) -> list[int]:
        """Note that reads put off the end of those that slide; returns the rows that this cannot wait for."""
        near = list[int]()
        for one in found:
            span, end = one.sliding, one.expires_at
            if span is None or end is None or not renewal.is_due(span, end, now):
                continue
            with self._renewing:
                if len(self._renewals) < MOST:
                    self._renewals[one.row] = Renewal(span, now, end)
                    self._end = min(self._end, end)
            if end - now < NEAR:
                near.append(one.row)
        return near

    def overdue(self, now: Callable[[], Micros]) -> bool:
        """Whether the clock has passed an end that was put off, and that is not written down yet."""
        return bool(self._renewals) and self._end <= now()

    def renew(self, repository: Repository, rows: Iterable[int] | None = None) -> None:
        """Write ends down that were put off, of these rows or all; they stay noted until ``write_down``."""
        with self._renewing:
            noted = (
                list(self._renewals.items())
                if rows is None
                else [(row, self._renewals[row]) for row in rows if row in self._renewals]
            )
        renewal.renew(repository, noted)

    def write_down(
        self, write: Callable[[Callable[[Repository], object], int], object], pause: Callable[[], object]
    ) -> None:
        """Add what was noted to the store, through ``write(run, rows)``; what fails is kept for the next time.

        ``pause()`` comes between transactions.
        """
        self._sum_up()
        with self._renewing:
            renewals = dict(self._renewals)
        todo = sorted(self._sums.keys() | renewals)  # neighbours share pages: what changes fewer is faster committed
        for start in range(0, len(todo), GROUP):
            rows = todo[start : start + GROUP]
            uses = [(row, *self._sums[row]) for row in rows if row in self._sums]
            ends = [(row, renewals[row]) for row in rows if row in renewals]
            write(lambda repository, uses=uses, ends=ends: self._write(repository, uses, ends), len(rows))
            self.written += 1
            self._forget(uses, ends)
            pause()

    def _forget(self, uses: Sequence[tuple[Any, ...]], ends: Sequence[tuple[int, Renewal]]) -> None:
        for row, _, _, at, *_ in uses:
            del self._sums[row]
            if self.last.get(row, _NEVER) <= at:
                self.last.pop(row, None)
        if ends:
            with self._renewing:
                for row, noted in ends:
                    if self._renewals.get(row) is noted:
                        del self._renewals[row]
                self._end = min((left.end for left in self._renewals.values()), default=_NEVER)

    def _write(
        self, repository: Repository, uses: Sequence[tuple[Any, ...]], ends: Sequence[tuple[int, Renewal]]
    ) -> None:
        self._learn(repository, uses)
        accounting.note_accesses(repository.db, uses)
        renewal.renew(repository, ends)

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
