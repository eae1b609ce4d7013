"""The terms of an arena's records: for each term where it occurs and how often, as compressed rows, and a short tail.

Terms are numbers of 64 bits. What was added last is scanned for each query until there is enough of it to be sorted in
among the rest, so that adding costs little and nothing has to be kept balanced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from agentmem.indexes.growing import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

_UNSORTED = 1_000
"""Occurrences that are scanned for each query before they are sorted in: some 20 µs."""
_MOST_UNSORTED = 20_000
"""However many there are: 0.2 ms. Sorting them in among 5,000,000 takes some 20 ms."""
_KEPT = 200_000
"""Terms whose lasting numbers are kept: some 20 MB."""


class _Numbers(dict[str, int]):
    """The numbers of terms met before."""

    def __missing__(self, term: str) -> int:
        number = int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "little", signed=True)
        if len(self) >= _KEPT:
            self.clear()
        self[term] = number
        return number


lasting: Callable[[str], int] = _Numbers().__getitem__
"""The number of a term in any process; ``hash`` is quicker, and another one in each."""


class Postings:
    """Grows at the end; entries of dead slots stay until they are dropped or the arena is loaded afresh."""

    def __init__(self, number: Callable[[str], int] = hash) -> None:
        """``number`` tells terms apart; what is saved needs one that is the same in every process (``lasting``)."""
        self.number = number
        self._terms: Ints = np.empty(0, np.int64)
        self._starts: Ints = np.zeros(1, np.int64)
        self._slot: NDArray[np.int32] = np.empty(0, np.int32)
        self._frequency: NDArray[np.uint16] = np.empty(0, np.uint16)
        self._unsorted = 0
        self._tail: tuple[Ints, NDArray[np.int32], NDArray[np.uint16]] = _tail(256)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self._terms, self._starts, self._slot, self._frequency, *self._tail))

    @property
    def size(self) -> int:
        """Occurrences that are sorted."""
        return len(self._slot)

    def append(self, counts: Sequence[Counter[str]], start: int) -> None:
        """Add the terms of the slots ``start``, ``start + 1`` and so on."""
        end = self._unsorted + sum(len(count) for count in counts)
        if end > len(self._tail[0]):
            size = max(end, 2 * len(self._tail[0]))
            term, slot, frequency = self._tail
            self._tail = grown(term, size), grown(slot, size), grown(frequency, size)
        term, slot, frequency = self._tail
        span, number = slice(self._unsorted, end), self.number
        term[span] = [number(word) for count in counts for word in count]
        slot[span] = np.repeat(np.arange(start, start + len(counts)), [len(count) for count in counts])
        frequency[span] = [min(n, 65_535) for count in counts for n in count.values()]
        self._unsorted = end

    def find(self, wanted: Ints) -> tuple[Ints, Ints, Vector]:
        """Where ``wanted`` terms (ascending, all different) occur: which of them it is, slots, frequencies."""
        self.tidy()
        term, slot, frequency = (array[: self._unsorted] for array in self._tail)
        at = np.searchsorted(wanted, term)
        at[at == len(wanted)] = 0
        hit = np.flatnonzero(wanted[at] == term)
        which, slots, frequencies = at[hit], slot[hit], frequency[hit]
        if len(self._terms):
            place = np.searchsorted(self._terms, wanted)
            place[place == len(self._terms)] = 0
            there = np.flatnonzero(self._terms[place] == wanted)
            low, high = self._starts[place[there]], self._starts[place[there] + 1]
            # Slices next to each other: several times as quick as picking positions.
            spans = [slice(start, end) for start, end in zip(low.tolist(), high.tolist(), strict=True)]
            which = np.concatenate([np.repeat(there, high - low), which])
            slots = np.concatenate([*(self._slot[span] for span in spans), slots])
            frequencies = np.concatenate([*(self._frequency[span] for span in spans), frequencies])
        return which, slots.astype(np.int64), frequencies.astype(np.float32)

    def known(self, terms: Sequence[int]) -> list[int]:
        """Those of the terms that ever occurred."""
        wanted = np.array(terms, np.int64)
        there = np.isin(wanted, self._tail[0][: self._unsorted])
        if len(self._terms):
            at = np.searchsorted(self._terms, wanted)
            at[at == len(self._terms)] = 0
            there |= self._terms[at] == wanted
        return wanted[there].tolist()

    def count(self, term: int, dead: NDArray[np.intp]) -> int:
        """How many slots have a term, without ``dead`` ones."""
        parts = self.occurrences(term)
        count = sum(len(slots) for slots, _ in parts)
        return count - int(np.count_nonzero(_often(parts, dead))) if count and len(dead) else count

    def look_up(self, term: int, slots: NDArray[np.intp]) -> Vector:
        """How often each of some slots has a term, by binary search, since a term's slots ascend."""
        return _often(self.occurrences(term), slots)

    def occurrences(self, term: int) -> tuple[tuple[NDArray[np.int32], NDArray[np.uint16]], ...]:
        """The slots of a term, ascending, and how often each has it: the sorted ones, which are a view, and then those
        of the tail."""
        span, late = self._span(term), np.flatnonzero(self._tail[0][: self._unsorted] == term)
        return (self._slot[span], self._frequency[span]), (self._tail[1][late], self._tail[2][late])

    def _span(self, term: int) -> slice:
        """Where a term lies among what is sorted."""
        at = int(np.searchsorted(self._terms, term))
        if at == len(self._terms) or self._terms[at] != term:
            return slice(0, 0)
        return slice(int(self._starts[at]), int(self._starts[at + 1]))

    def tidy(self) -> None:
        """Sort the tail in among the rest where scanning it for every term takes longer."""
        self.sort(min(_MOST_UNSORTED, max(_UNSORTED, len(self._slot) // 8)))

    def sort(self, longest: int = 0) -> None:
        """Sort the tail in among the rest if it has become longer than that."""
        if self._unsorted <= longest:
            return
        term, slot, frequency = (array[: self._unsorted] for array in self._tail)
        order = np.argsort(term, kind="stable")
        term, slot, frequency = term[order], slot[order], frequency[order]
        # Each goes behind what its term has already.
        place = self._starts[np.searchsorted(self._terms, term, "right")]
        place = place + np.arange(len(term))
        kept = np.ones(len(self._slot) + len(term), np.bool_)
        kept[place] = False
        self._slot = _merged(self._slot, slot, kept, place)
        self._frequency = _merged(self._frequency, frequency, kept, place)
        first = np.flatnonzero(np.diff(term, prepend=term[:1] - 1))
        new, added = term[first], np.diff(np.append(first, len(term)))
        terms = np.union1d(self._terms, new)
        counts = np.zeros(len(terms), np.int64)
        counts[np.searchsorted(terms, self._terms)] = np.diff(self._starts)
        counts[np.searchsorted(terms, new)] += added
        self._terms, self._starts = terms, np.concatenate([[0], np.cumsum(counts)])
        self._unsorted = 0
        if len(self._tail[0]) > 2 * _MOST_UNSORTED:
            self._tail = _tail(256)

    def drop(self, dead: Bools) -> None:
        """Leave nothing of the terms of these slots."""
        self.sort()
        keep = ~dead[self._slot]
        before = np.concatenate([[0], np.cumsum(keep)])
        self._slot, self._frequency, starts = self._slot[keep], self._frequency[keep], before[self._starts]
        there = np.diff(starts) > 0
        self._terms, self._starts = self._terms[there], np.concatenate([[0], starts[1:][there]])
        self._tail = _tail(256)

    def saved(self) -> dict[str, NDArray[Any]]:
        """The arrays that ``restore`` needs."""
        self.sort()
        return {"terms": self._terms, "starts": self._starts, "slots": self._slot, "frequencies": self._frequency}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what ``saved`` returned."""
        self._terms, self._starts = np.asarray(arrays["terms"], np.int64), np.asarray(arrays["starts"], np.int64)
        self._slot = np.asarray(arrays["slots"], np.int32)
        self._frequency = np.asarray(arrays["frequencies"], np.uint16)
        self._unsorted, self._tail = 0, _tail(256)


def _often(parts: Sequence[tuple[NDArray[np.int32], NDArray[np.uint16]]], slots: NDArray[np.intp]) -> Vector:
    frequencies, wanted = np.zeros(len(slots), np.float32), slots.astype(np.int32)
    for there, often in parts:
        if not len(there) or not len(wanted):
            continue
        if len(wanted) > (2 * len(there) + int(there[-1])) // _SPREAD:
            table = np.zeros(1 + max(int(there[-1]), int(wanted.max())), np.uint16)
            table[there] = often
            found = table[wanted]
            np.copyto(frequencies, found, where=found > 0)
        else:
            at = np.searchsorted(there, wanted)
            at[at == len(there)] = 0
            hit = np.flatnonzero(there[at] == wanted)
            frequencies[hit] = often[at[hit]]
    return frequencies


_SPREAD = 32
"""Looking one slot up by binary search takes about as long as spreading so many occurrences out over a table."""


def _tail(size: int) -> tuple[Ints, NDArray[np.int32], NDArray[np.uint16]]:
    return np.empty(size, np.int64), np.empty(size, np.int32), np.empty(size, np.uint16)


def _merged(old: NDArray[Any], new: NDArray[Any], kept: Bools, place: Ints) -> NDArray[Any]:
    both = np.empty(len(kept), old.dtype)
    both[kept] = old
    both[place] = new
    return both


def ranges(low: Ints, count: Ints) -> Ints:
    """``low[0], low[0] + 1, ...`` for ``count[0]`` numbers, then the same for the next, as one array."""
    ends = np.cumsum(count)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(low - (ends - count), count)
