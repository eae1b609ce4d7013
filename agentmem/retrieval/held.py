"""Vectors of a large scope that are held as they are, beside the codes of all: those of hot and warm records.

Codes may take a vector for less near than it is. What is held is compared exactly, and whatever of it may be among the
hits is scored, however its code looks.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from agentmem.indexes.exact import Exact, cosines
from agentmem.indexes.growing import grown
from agentmem.retrieval.tiermap import TierMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

KEPT_TIMES = 500
BESIDE = 40
"""Bytes that a record takes here beside its vector: its row, tier, number and slot, and room around them."""
STEP = 4_096
"""Places that are made at once, and from how many that nobody uses memory is given back."""
_UNKNOWN, _NONE = -2, -1
_FREE = -1


class Held:
    """Held vectors by number, and the slots of an arena that they belong to. Not thread-safe.

    Each record has at most one of them: where a vector is replaced, another one takes its place, and where a record
    goes, its place is given to the next one that comes. So it never takes more memory than it is to hold.
    """

    def __init__(self, dim: int) -> None:
        self._engine = Exact(dim)
        self._slots: Ints = np.empty(0, np.int64)
        """The slot of each number, ``_FREE`` for one that nobody has."""
        self._free = list[int]()
        self.tiers = TierMap()
        """The tier of each record that is to be held, by row."""
        self._number: NDArray[np.int32] = np.empty(0, np.int32)
        """Of each of these, its number; ``_NONE``: it has no vector, ``_UNKNOWN``: that was not looked at."""
        self.spent: deque[float] = deque(maxlen=KEPT_TIMES)
        """Milliseconds that the last searches took here."""

    def __len__(self) -> int:
        return len(self.tiers)

    @property
    def nbytes(self) -> int:
        return self._engine.nbytes + self._slots.nbytes + self._number.nbytes + self.tiers.nbytes

    def missing(self) -> Ints:
        """Rows that are to be held, and that were neither put nor seen; those first that come first."""
        return self.tiers.rows[self._number == _UNKNOWN]

    def want(self, wanted: TierMap) -> None:
        """Hold these from now on, and no others; the vectors of new ones are ``put``."""
        at = wanted.positions(self.tiers.rows)
        stays = at >= 0
        number = np.full(len(wanted), _UNKNOWN, np.int32)
        number[at[stays]] = self._number[stays]
        gone = self._number[~stays]
        gone = gone[gone >= 0].astype(np.int64)
        self._engine.blank(gone)
        self._slots[gone] = _FREE
        self._free += gone.tolist()
        self.tiers, self._number = wanted, number
        if len(self._free) > STEP and 2 * len(self._free) > len(self._engine):
            self._close_ranks()

    def seen(self, rows: Ints) -> None:
        """These were asked for, whether they have a vector or not."""
        at = self.tiers.positions(rows)
        at = at[at >= 0]
        self._number[at] = np.maximum(self._number[at], _NONE)

    def put(self, rows: Ints, slots: Ints, vectors: Vector) -> None:
        """Hold the vectors of slots, as far as their records are to be held; each replaces what its record had."""
        at = self.tiers.positions(rows)
        wanted = np.flatnonzero(at >= 0)
        if not len(wanted):
            return
        at = at[wanted]
        new = np.flatnonzero(self._number[at] < 0)
        freed = [self._free.pop() for _ in range(min(len(new), len(self._free)))]
        first = len(self._engine)
        more = np.arange(first, first + len(new) - len(freed))
        self._number[at[new]] = np.concatenate([np.array(freed, np.int64), more])
        if len(more):
            self._engine.append(vectors[wanted[new[len(freed) :]]])
        if len(self._engine) > len(self._slots):
            self._slots = grown(self._slots, max(len(self._engine), len(self._slots) + STEP))
        numbers = self._number[at].astype(np.int64)
        self._engine.replace(numbers, vectors[wanted])
        self._slots[numbers] = slots[wanted]

    def nearest(self, vector: Vector, allowed: Bools) -> tuple[Ints, Vector]:
        """Slots of all vectors held that are ``allowed``, a mask of slots, and their cosines."""
        begun = time.perf_counter()
        slots = self._slots[: len(self._engine)]
        passing = np.flatnonzero(allowed[slots] & (slots != _FREE))
        few = 4 * len(passing) < len(slots)
        engine = self._engine
        similar = cosines(engine.vectors(passing), vector) if few else engine.similarities(vector)[passing]
        found = slots[passing], similar
        self.spent.append((time.perf_counter() - begun) * 1_000)
        return found

    def scrub(self, dead: Bools) -> None:
        """Overwrite the vectors of slots that are dead."""
        slots = self._slots[: len(self._engine)]
        self._engine.blank(np.flatnonzero(dead[slots] & (slots != _FREE)))

    def _close_ranks(self) -> None:
        """Give the memory back that nobody uses."""
        used = np.flatnonzero(self._slots[: len(self._engine)] != _FREE)
        self._engine.keep(used)
        self._slots, self._free = self._slots[used], []
        there = self._number >= 0
        self._number[there] = np.searchsorted(used, self._number[there])
