"""What an arena has beside one vector a record: the further vectors of those with several, and who has none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agentmem.indexes.exact import cosines
from agentmem.indexes.growing import grown

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints, Vector

_NONE = np.float32(-2)
"""Less than any cosine."""


class Nearest(NamedTuple):
    """What a query finds there: for each slot the similarity of its nearest further vector (-2 where it has none), and
    whether it has no vector at all; and ``further``, the similarities of all further vectors."""

    extra: Vector
    bare: Bools
    further: Vector


class Several:
    """Vectors by the slot that owns them. Made when the first record comes that is not like most."""

    def __init__(self, dim: int) -> None:
        self._used = 0
        self._vectors: Vector = np.empty((16, dim), np.float32)
        self._owners: Ints = np.empty(16, np.int64)  # ascending, since slots only grow
        self._bare = list[int]()
        self.dead = 0
        """Vectors of slots that were given up."""

    def __len__(self) -> int:
        return self._used

    @property
    def nbytes(self) -> int:
        return self._vectors.nbytes + self._owners.nbytes + 8 * len(self._bare)

    @property
    def slots(self) -> Ints:
        """Slots, dead ones included, that have several vectors, or none."""
        return np.unique(np.append(self._owners[: self._used], np.array(self._bare, np.int64)))

    def add(self, slot: int, vectors: Vector) -> None:
        """Take the vectors of a new slot: all but the first; of one that has none, that it has none."""
        if not len(vectors):
            self._bare.append(slot)
            return
        end = self._used + len(vectors) - 1
        if end > len(self._vectors):
            size = max(end, 2 * len(self._vectors))
            self._vectors, self._owners = grown(self._vectors, size), grown(self._owners, size)
        self._vectors[self._used : end] = vectors[1:]
        self._owners[self._used : end] = slot
        self._used = end

    def remove(self, slot: int) -> None:
        """Take note of a slot that was given up."""
        start, end = self._span(slot)
        self.dead += end - start

    def scrub(self, dead: Bools) -> None:
        """Overwrite the vectors of dead slots."""
        self._vectors[: self._used][dead[self._owners[: self._used]]] = 0

    def nearest(self, query: Vector, slots: int) -> Nearest:
        """What a query finds for the first so many slots."""
        extra, bare = np.full(slots, _NONE, np.float32), np.zeros(slots, np.bool_)
        bare[self._bare] = True
        further: Vector = cosines(self._vectors[: self._used], query)
        if self._used:
            owners = self._owners[: self._used]
            starts = np.flatnonzero(np.diff(owners, prepend=-1))
            extra[owners[starts]] = np.maximum.reduceat(further, starts)
        return Nearest(extra, bare, further)

    def part(self, slot: int, first: float, found: Nearest) -> int | None:
        """Which of its vectors is the nearest, from 0; ``first`` is the similarity of its first one.

        None for a slot that has no choice.
        """
        start, end = self._span(slot)
        return None if start == end else int(np.append(np.float32(first), found.further[start:end]).argmax())

    def _span(self, slot: int) -> tuple[int, int]:
        start, end = np.searchsorted(self._owners[: self._used], [slot, slot + 1])
        return int(start), int(end)
