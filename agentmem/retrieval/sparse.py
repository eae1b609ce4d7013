"""Keyword matching where most slots have none of the words: only what the words reach is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from agentmem.retrieval import scoring
from agentmem.retrieval.conversation import NEIGHBOUR_AFTER, NEIGHBOUR_BEFORE, NEIGHBOUR_DECAY, Links
from agentmem.retrieval.matching import Matcher, Weighed
from agentmem.retrieval.postings import Postings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector


class SparseMatcher(Matcher):
    """Takes time by occurrences and their neighbours, not by slots: the same scores as ``DenseMatcher``."""

    def __init__(
        self, postings: Postings, live: Bools, present: Bools, length: Vector, links: Links, neighbours: int
    ) -> None:
        """``neighbours``: how many turns before and after a memory lend it their words."""
        super().__init__(postings, live, present, length)
        self._links = links
        self._neighbours = neighbours if links.any else 0

    @override
    def score(self, weighed: Weighed) -> Vector:
        found, weights, echoed, mean_length = weighed
        total = np.zeros(self.slots, np.float32)
        bound = float(weights.sum())
        if not bound:
            return total
        order = np.argsort(found.word.astype(np.int16), kind="stable")  # so that it counts instead of comparing
        ends = np.searchsorted(found.word[order], np.arange(len(weights)), "right").tolist()
        frequency, place = np.zeros(self.slots, np.float32), np.empty(self.slots, np.int32)
        for n, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if start == end or not weights[n]:
                continue
            own = order[start:end]
            slots, counts = found.slot[own], found.frequency[own]
            if echoed[n] and self._neighbours:
                slots, counts = self._spread(slots, counts)
            # The last of those that lead to the same slot stands for all of them.
            positions = np.arange(len(slots), dtype=np.int32)
            place[slots] = positions
            last = place[slots] == positions
            if not last.all():
                np.add.at(frequency, slots, counts)
                slots = slots[last]
                counts = frequency[slots]
                frequency[slots] = 0
            total[slots] += weights[n] * scoring.saturation(counts, self._length(slots), mean_length)
        return total / np.float32(bound)

    def _spread(self, slots: Ints, counts: Vector) -> tuple[Ints, Vector]:
        """Occurrences, and what those beside them hear of them."""
        places, values = [slots], [counts]
        # What a turn hears from the one before it is what that one says to the turn after it.
        for links, weight in ((self._links.after, NEIGHBOUR_BEFORE), (self._links.before, NEIGHBOUR_AFTER)):
            for there, origin, share in self._walk(slots, links, weight):
                places.append(there)
                values.append(counts[origin] * np.float32(share))
        return np.concatenate(places), np.concatenate(values)

    def _length(self, slots: Ints) -> Vector:
        """How long these are, with their share of what is beside them."""
        length = self.own_length[slots]
        for links, weight in ((self._links.before, NEIGHBOUR_BEFORE), (self._links.after, NEIGHBOUR_AFTER)):
            for there, origin, share in self._walk(slots, links, weight):
                length[origin] += np.float32(share) * self.own_length[there]
        return length

    def _walk(self, slots: Ints, links: NDArray[np.int32], weight: float) -> Iterator[tuple[Ints, Ints, float]]:
        """Step by step in one direction: where it leads, from which of the slots, and what the words there count."""
        there, origin = slots, np.arange(len(slots))
        for distance in range(self._neighbours):
            there = links[there].astype(np.int64)
            known = there >= 0
            there, origin = there[known], origin[known]
            if not len(there):
                return
            yield there, origin, weight * NEIGHBOUR_DECAY**distance
