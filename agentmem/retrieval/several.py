"""What an arena has beside one vector a record: the further vectors of those with several, and who has none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agentmem.retrieval.postings import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Ints, Vector


class Nearest(NamedTuple):
    """What a query finds in the vectors of all slots: the similarity of each one's nearest, 0 where there is none, and
    who has none. ``first`` are those of the first vectors, ``further`` those of the others."""

    similarity: Vector
    bare: NDArray[np.bool_]
    first: Vector
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
        start, end = np.searchsorted(self._owners[: self._used], [slot, slot + 1])
        self.dead += int(end - start)

    def nearest(self, query: Vector, first: Vector) -> Nearest:
        """Of each slot the vector that is nearest to the query; ``first`` are the similarities of the first ones."""
        best, bare = first.copy(), np.zeros(len(first), np.bool_)
        bare[self._bare] = True
        best[bare] = 0
        further: Vector = self._vectors[: self._used] @ query
        if self._used:
            owners = self._owners[: self._used]
            starts = np.flatnonzero(np.diff(owners, prepend=-1))
            slots = owners[starts]
            best[slots] = np.maximum(best[slots], np.maximum.reduceat(further, starts))
        return Nearest(best, bare, first, further)

    def part(self, slot: int, found: Nearest) -> int | None:
        """Which of its vectors is the nearest, from 0; None for a slot that has no choice."""
        start, end = np.searchsorted(self._owners[: self._used], [slot, slot + 1])
        if start == end:
            return None
        every: NDArray[Any] = np.append(found.first[slot], found.further[start:end])
        return int(every.argmax())
