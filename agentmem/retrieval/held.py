"""Vectors of a large scope that are held as they are, beside the codes of all: those of hot and warm records.

Codes may take a vector for less near than it is. What is held is compared exactly, and whatever of it may be among the
hits is scored, however its code looks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agentmem.indexes.exact import Exact
from agentmem.types.enums import Tier

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints, Vector

KEPT_TIMES = 500


class Held:
    """Held vectors by number, and the slots of an arena that they belong to. Not thread-safe."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._engine = Exact(dim)
        self._slots: Ints = np.empty(16, np.int64)
        self.tiers = dict[int, Tier]()
        """The tier of each record that is to be held, by row."""
        self._there = set[int]()
        """Rows that were asked for; what is put of them later replaces what they had."""
        self.spent: deque[float] = deque(maxlen=KEPT_TIMES)
        """Milliseconds that the last searches took here."""

    def __len__(self) -> int:
        return len(self.tiers)

    @property
    def nbytes(self) -> int:
        return self._engine.nbytes + self._slots.nbytes + 200 * len(self.tiers)

    @property
    def wasteful(self) -> bool:
        """Whether more than half of what is held is of no use any more."""
        return len(self._engine) > 1_000 and len(self._engine) > 2 * len(self._there)

    def missing(self, wanted: Mapping[int, Tier]) -> list[int]:
        """Rows that are to be held, and that were neither put nor seen."""
        return [row for row in wanted if row not in self._there]

    def want(self, wanted: Mapping[int, Tier]) -> None:
        """Hold these from now on, and no others; the vectors of new ones are ``put``."""
        self.tiers = dict(wanted)
        self._there &= wanted.keys()

    def seen(self, rows: Iterable[int]) -> None:
        """These were asked for, whether they have a vector or not."""
        self._there.update(rows)

    def put(self, rows: Sequence[int], slots: Ints, vectors: Vector) -> None:
        """Hold the vectors of slots, as far as their records are to be held; each replaces what its record had."""
        at = [n for n, row in enumerate(rows) if row in self.tiers]
        if not at:
            return
        self._there.update(row for row in rows if row in self.tiers)
        start, end = len(self._engine), len(self._engine) + len(at)
        if end > len(self._slots):
            grown = np.empty(max(end, 2 * len(self._slots)), np.int64)
            grown[:start] = self._slots[:start]
            self._slots = grown
        self._engine.append(vectors[at])
        self._slots[start:end] = slots[at]

    def nearest(self, vector: Vector, allowed: Bools) -> tuple[Ints, Vector]:
        """Slots of all vectors held that are ``allowed``, a mask of slots, and their cosines."""
        begun = time.perf_counter()
        slots = self._slots[: len(self._engine)]
        passing = allowed[slots]
        found = slots[passing], self._engine.similarities(vector)[passing]
        self.spent.append((time.perf_counter() - begun) * 1_000)
        return found

    def scrub(self, dead: Bools) -> None:
        """Overwrite the vectors of slots that are dead."""
        self._engine.blank(np.flatnonzero(dead[self._slots[: len(self._engine)]]))
