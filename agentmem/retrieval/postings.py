"""The terms of an arena's records as one flat array of (term, slot, frequency).

For the sizes an arena is allowed to have, scanning it is faster than any index, it needs a few bytes per term, and has
nothing to keep balanced when records change. Terms are Python's 64-bit string hashes: they never leave the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Ints

_UNSORTED = 1_000
"""Terms that are scanned for each query before they are sorted in: some 20 µs."""


class Postings:
    """Grows at the end; entries of dead slots stay until the arena is loaded afresh."""

    def __init__(self) -> None:
        self._used = 0
        self._sorted = 0
        self._term: Ints = np.empty(256, np.int64)
        self._slot: NDArray[np.int32] = np.empty(256, np.int32)
        self._frequency: NDArray[np.uint16] = np.empty(256, np.uint16)

    @property
    def nbytes(self) -> int:
        return self._term.nbytes + self._slot.nbytes + self._frequency.nbytes

    def append(self, counts: Sequence[Counter[str]], start: int) -> None:
        """Add the terms of the slots ``start``, ``start + 1`` and so on."""
        end = self._used + sum(len(count) for count in counts)
        if end > len(self._term):
            size = max(end, 2 * len(self._term))
            self._term = grown(self._term, size)
            self._slot = grown(self._slot, size)
            self._frequency = grown(self._frequency, size)
        span = slice(self._used, end)
        self._term[span] = [hash(word) for count in counts for word in count]
        self._slot[span] = np.repeat(np.arange(start, start + len(counts)), [len(count) for count in counts])
        self._frequency[span] = [min(n, 65_535) for count in counts for n in count.values()]
        self._used = end

    def find(self, wanted: Ints) -> tuple[Ints, Ints, Ints]:
        """Where ``wanted`` terms (ascending, all different) occur: which of them it is, slots, frequencies."""
        self._sort()
        done = self._sorted
        tail = self._term[done : self._used]
        at = np.searchsorted(wanted, tail)
        at[at == len(wanted)] = 0
        hit = np.flatnonzero(wanted[at] == tail)
        which, positions = at[hit], hit + done
        if done:
            low = np.searchsorted(self._term[:done], wanted, "left")
            count = np.searchsorted(self._term[:done], wanted, "right") - low
            positions = np.concatenate([ranges(low, count), positions])
            which = np.concatenate([np.repeat(np.arange(len(wanted)), count), which])
        return which, self._slot[positions].astype(np.int64), self._frequency[positions].astype(np.int64)

    def _sort(self) -> None:
        """Sort once many are unsorted, so that a term is looked up instead of searched for in all of them."""
        if self._used - self._sorted <= max(_UNSORTED, self._sorted // 8):
            return
        used = self._used
        order = np.argsort(self._term[:used], kind="stable")
        for array in (self._term, self._slot, self._frequency):
            array[:used] = array[:used][order]
        self._sorted = used


def ranges(low: Ints, count: Ints) -> Ints:
    """``low[0], low[0] + 1, ...`` for ``count[0]`` numbers, then the same for the next, as one array."""
    ends = np.cumsum(count)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(low - (ends - count), count)


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """A copy with room for ``size`` rows."""
    bigger = np.empty((size, *array.shape[1:]), array.dtype)
    bigger[: len(array)] = array
    return bigger
