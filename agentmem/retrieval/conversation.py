"""Who follows whom: the records of one run, of one agent and user, in the order in which they were added.

Each slot of an arena knows the slot before and the one after it, -1 where there is none. Records without a ``run_id``
have no neighbours. Only live records are linked: one that is deleted leaves no gap and no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agentmem.indexes.growing import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Ints, Vector

NEIGHBOUR_BEFORE, NEIGHBOUR_AFTER, NEIGHBOUR_DECAY = 0.6, 0.4, 0.6
"""What the words of the turn before and of the turn after count, and what each further step leaves of that."""
_MOST_NOTED = 50_000
"""Changes that are noted; with more of them lengths are all computed again: a quarter of a second for 3,000,000."""


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
        self._lengths: Vector = np.empty(0, np.float32)
        """How long slots are in context: the first ``_known`` of them, ``_counted`` turns before and after each."""
        self._known = self._counted = 0
        self._beside: set[int] | None = None
        """Slots that were linked to others since; None: too many."""
        self._steps: tuple[tuple[int, int], list[Step]] | None = None

    @property
    def nbytes(self) -> int:
        """Approximately: an entry of the dictionary is counted at 200 bytes."""
        steps = 0 if self._steps is None else sum(step.slots.nbytes for step in self._steps[1])
        return self.before.nbytes + self.after.nbytes + self._lengths.nbytes + steps + 200 * len(self._last)

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
        self._note(slot)
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
        self._note(leader, follower)
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
        self._beside = None

    def length_of(self, slots: Ints, own: Vector, steps: int) -> Vector:
        """How long some slots are, with their share of what is beside them; ``own`` are all lengths without."""
        length = own[slots]
        for links, weight in ((self.before, NEIGHBOUR_BEFORE), (self.after, NEIGHBOUR_AFTER)):
            for there, origin, share in walk(slots, links, weight, steps):
                length[origin] += np.float32(share) * own[there]
        return length

    def lengths(self, own: Vector, steps: int) -> Vector:
        """The same of all slots, kept from one query to the next: only what has come and gone is computed again.

        ``own`` of a slot must not change once it was given.
        """
        if self._beside is None or steps != self._counted:
            self._known, self._counted = 0, steps
        changed = np.array(sorted(self._beside or ()), np.int64)
        for _ in range(steps):
            around = np.concatenate([changed, self.before[changed], self.after[changed]]).astype(np.int64)
            changed = np.unique(around[around >= 0])
        slots = np.concatenate([changed[changed < self._known], np.arange(self._known, len(own), dtype=np.int64)])
        if len(own) > len(self._lengths):
            self._lengths = grown(self._lengths, len(self.before))
        if len(slots):
            self._lengths[slots] = self.length_of(slots, own, steps)
        self._known, self._beside = len(own), set()
        return self._lengths[: len(own)]

    def _note(self, *slots: int) -> None:
        if self._beside is not None:
            self._beside.update(slot for slot in slots if slot >= 0)
            if len(self._beside) > _MOST_NOTED:
                self._beside = None

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


def walk(slots: Ints, links: NDArray[np.int32], weight: float, steps: int) -> Iterator[tuple[Ints, Ints, float]]:
    """Step by step in one direction: where it leads, from which of the slots, and what the words there count."""
    there, origin = slots, np.arange(len(slots))
    for distance in range(steps):
        there = links[there].astype(np.int64)
        known = there >= 0
        there, origin = there[known], origin[known]
        if not len(there):
            return
        yield there, origin, weight * NEIGHBOUR_DECAY**distance
