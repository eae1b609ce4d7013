"""Who follows whom: the records of one run, of one agent and user, in the order in which they were added.

Each slot of an arena knows the slot before and the one after it, -1 where there is none. Records without a ``run_id``
have no neighbours. Only live records are linked: one that is deleted leaves no gap and no trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agentmem.indexes.growing import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Ints

NEIGHBOUR_BEFORE, NEIGHBOUR_AFTER, NEIGHBOUR_DECAY = 0.6, 0.4, 0.6
"""What the words of the turn before and of the turn after count, and what each further step leaves of that."""


class Step(NamedTuple):
    """Where one step leads from each slot, and what the words there count."""

    slots: NDArray[np.int32]
    weight: float


class Links:
    """Doubly linked lists in two arrays."""

    def __init__(self) -> None:
        self.before: NDArray[np.int32] = np.full(16, -1, np.int32)
        self.after: NDArray[np.int32] = np.full(16, -1, np.int32)
        self._last: dict[tuple[int, int, int], int] = {}
        self._steps: tuple[tuple[int, int], list[Step]] | None = None

    @property
    def nbytes(self) -> int:
        """Approximately: an entry of the dictionary is counted at 200 bytes."""
        steps = 0 if self._steps is None else sum(step.slots.nbytes for step in self._steps[1])
        return self.before.nbytes + self.after.nbytes + steps + 200 * len(self._last)

    @property
    def any(self) -> bool:
        """Whether there are runs at all."""
        return bool(self._last)

    def reserve(self, slots: int) -> None:
        taken = len(self.before)
        self.before, self.after = grown(self.before, slots), grown(self.after, slots)
        self.before[taken:] = self.after[taken:] = -1

    def add(self, slot: int, run: tuple[int, int, int], rows: Ints) -> None:
        """Put a slot where its row number belongs in its run; ``rows`` are the row numbers of all slots."""
        self._steps = None
        last = self._last.get(run, -1)
        row, follower, leader = rows[slot], -1, last
        while leader >= 0 and rows[leader] > row:
            follower, leader = leader, int(self.before[leader])
        self.before[slot], self.after[slot] = leader, follower
        if leader >= 0:
            self.after[leader] = slot
        if follower >= 0:
            self.before[follower] = slot
        else:
            self._last[run] = slot

    def remove(self, slot: int, run: tuple[int, int, int]) -> None:
        """Take a slot out; those beside it become neighbours."""
        self._steps = None
        leader, follower = int(self.before[slot]), int(self.after[slot])
        if leader >= 0:
            self.after[leader] = follower
        if follower >= 0:
            self.before[follower] = leader
        elif leader >= 0:
            self._last[run] = leader
        else:
            self._last.pop(run, None)
        self.before[slot] = self.after[slot] = -1

    def restore(
        self, before: NDArray[np.int32], after: NDArray[np.int32], last: dict[tuple[int, int, int], int]
    ) -> None:
        """Take over the links of another one, and the last slot of each run."""
        self.before, self.after, self._last, self._steps = before, after, last, None

    def steps(self, used: int, most: int) -> list[Step]:
        """The neighbours of each of the first ``used`` slots, up to ``most`` steps before it, then up to as many after.

        Where there is no neighbour, ``used`` stands for it; the arrays have one more element, which leads there too.
        """
        if self._steps is None or self._steps[0] != (used, most):
            found = list[Step]()
            for link, weight in ((self.before, NEIGHBOUR_BEFORE), (self.after, NEIGHBOUR_AFTER)):
                first = np.append(np.where(link[:used] < 0, np.int32(used), link[:used]), np.int32(used))
                step = first
                for distance in range(most):
                    found.append(Step(step, weight * NEIGHBOUR_DECAY**distance))
                    step = first[step]
            self._steps = (used, most), found
        return self._steps[1]
