"""Keyword matching where most slots have none of the words: only what the words reach is looked at.

Function words reach most slots, and decide little: they are looked up once it is known which slots may be among the
best without them, in those alone. That is MaxScore's division of the words (Turtle and Flood, "Query Evaluation:
Strategies and Optimizations", 1995).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from typing_extensions import override

from agentmem.retrieval import scoring
from agentmem.retrieval.conversation import NEIGHBOUR_AFTER, NEIGHBOUR_BEFORE, Links, walk
from agentmem.retrieval.matching import Matcher, Matches
from agentmem.retrieval.postings import Postings
from agentmem.text.question import TYPO_WEIGHT, Word, respellings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector


FREQUENT = 50_000
"""Slots from which on a function word is put off."""
_MOST_ABSENT = 20_000
"""Slots that are not present up to which lengths are corrected around each; with more of them they are counted anew."""


class Term(NamedTuple):
    """A term that stands for a word, by its number; what it counts, and whether it is the word itself."""

    number: int
    factor: float = 1.0
    exact: bool = True


class SparseMatches(Matches):
    """Matches whose occurrences are looked up again for the few slots that are shown."""

    def __init__(
        self, matcher: SparseMatcher, terms: Sequence[Sequence[Term]], weights: Vector, mean_length: float
    ) -> None:
        """``terms`` are those of each word."""
        super().__init__(matcher.own_length, weights, mean_length, np.zeros(matcher.slots, np.float32))
        self._matcher = matcher
        self._terms = terms
        self._whole: Bools = np.zeros(matcher.slots, np.bool_)
        self.put_off: list[int] = []
        """The words that are not in it but where it was completed."""

    @override
    def complete(self, slots: NDArray[np.intp]) -> None:
        if not self.put_off:
            return
        # Sorted and distinct by way of a mask: of a million slots a tenth of the time of numpy's sets.
        wanted = np.zeros_like(self._whole)
        wanted[slots] = True
        wanted &= ~self._whole
        self._whole |= wanted
        slots = np.flatnonzero(wanted)
        length, bound = self._matcher.length_of(slots), np.float32(self._weights.sum())
        for word in self.put_off:
            counts = self._frequency(self._terms[word], slots)
            share = self._weights[word] / bound
            self.keyword[slots] += share * scoring.saturation(counts, length, self._mean_length)
            self.has_word[slots[counts > 0]] = True

    @override
    def _counts(self, slots: NDArray[np.intp]) -> tuple[Vector, Vector]:
        exact, both = np.zeros((2, len(self._terms), len(slots)), np.float32)
        for word, terms in enumerate(self._terms):
            exact[word] = self._frequency([one for one in terms if one.exact], slots)
            both[word] = self._frequency(terms, slots)
        return exact, both

    def _frequency(self, terms: Sequence[Term], slots: NDArray[np.intp]) -> Vector:
        found = np.zeros(len(slots), np.float32)
        for term in terms:
            found += np.float32(term.factor) * self._matcher.frequency(term.number, slots)
        return found


class SparseMatcher(Matcher):
    """Takes time by occurrences and their neighbours, not by slots: the same scores as ``DenseMatcher``."""

    def __init__(
        self,
        postings: Postings,
        present: Bools,
        length: Vector,
        size: tuple[int, int],
        dead: Ints,
        links: Links,
        neighbours: int,
        *,
        puts_off: bool = False,
    ) -> None:
        """``length``: that of each slot in words; ``size``: how many records there are and words they have together;
        ``dead``: the slots of none; ``neighbours``: how many turns before and after a memory lend it their words. With
        ``puts_off`` the matches are to be completed."""
        self._everything = bool(present.all())
        super().__init__(postings, present, length if self._everything else length * present)
        self._records = size
        self._dead = dead
        self._links = links
        self._neighbours = neighbours if links.any else 0
        self._puts_off = puts_off
        self._terms: list[list[Term]] = []
        self._frequent = set[int]()
        self._lengths: Vector | None = length
        if self._neighbours:
            self._lengths = self._lengths_without(length, len(present) - int(np.count_nonzero(present)) - len(dead))

    def _lengths_without(self, length: Vector, absent: int) -> Vector | None:
        """How long slots are in context where so many live ones are not present; None where that takes too long."""
        if absent > _MOST_ABSENT:
            return None
        lengths = self._links.lengths(length, self._neighbours)
        if absent:
            live = np.ones(self.slots, np.bool_)
            live[self._dead] = False
            there = np.flatnonzero(live & ~self._present)
            ways = [walk(there, links, 1, self._neighbours) for links in (self._links.before, self._links.after)]
            beside = np.unique(np.concatenate([there, *(slots for way in ways for slots, _, _ in way)]))
            lengths = lengths.copy()
            lengths[beside] = self._links.length_of(beside, self.own_length, self._neighbours)
        return lengths

    @override
    def _size(self) -> tuple[int, int]:
        return self._records

    def frequency(self, term: int, slots: NDArray[np.intp]) -> Vector:
        """How often each of some slots has a term."""
        return self._postings.look_up(term, slots)

    @override
    def _find(self, words: Sequence[Word]) -> tuple[list[int], list[bool]]:
        number = self._postings.number
        self._postings.tidy()
        self._terms = [
            [
                Term(number(word.term)),
                *(Term(number(term), factor) for term, factor in word.variants),
                *(Term(number(term), factor, exact=False) for term, factor in word.similar),
            ]
            for word in words
        ]
        counts = [[self._postings.count(term.number, self._dead) for term in terms] for terms in self._terms]
        self._frequent = {n for n, (own, *_) in enumerate(counts) if own >= FREQUENT}
        return [own for own, *_ in counts], [any(others) for _, *others in counts]

    @override
    def _mend(self, words: Sequence[Word], mended: Sequence[int]) -> set[int]:
        found = set[int]()
        for n in mended:
            numbers = self._postings.known([self._postings.number(term) for term in respellings(words[n].spelling)])
            terms = [Term(number, TYPO_WEIGHT) for number in numbers if self._postings.count(number, self._dead)]
            self._terms[n] += terms
            if terms:
                found.add(n)
        return found

    @override
    def _matches(self, words: Sequence[Word], weights: Vector, mean_length: float) -> Matches:
        """Words that are spelled with accents and the like share their weight, so that they stay together."""
        found, bound = SparseMatches(self, self._terms, weights, mean_length), np.float32(weights.sum())
        place = np.empty(self.slots, np.int32)
        spelled = {word.of for word in words}
        for n, word in enumerate(words):
            if not weights[n]:
                continue
            if self._puts_off and n in self._frequent and word.weight < 1 and not word.of and word.term not in spelled:
                found.put_off.append(n)
                continue
            slots, counts = self._occurrences(self._terms[n], found.has_word)
            if word.weight == 1 and self._neighbours:
                slots, counts = self._spread(slots, counts)
            elif len(self._terms[n]) == 1:
                share = weights[n] / bound
                found.keyword[slots] += share * scoring.saturation(counts, self.length_of(slots), mean_length)
                continue
            # The last of those that lead to the same slot stands for all of them.
            positions = np.arange(len(slots), dtype=np.int32)
            place[slots] = positions
            first = place[slots]
            last = first == positions
            if not last.all():
                counts = np.bincount(first, counts, len(slots)).astype(np.float32)[last]
                slots = slots[last]
            matched = scoring.saturation(counts, self.length_of(slots), mean_length)
            found.keyword[slots] += weights[n] / bound * matched
        found.slack = float(weights[found.put_off].sum() / bound) if found.put_off else 0.0
        return found

    def _occurrences(self, terms: Sequence[Term], has_word: Bools) -> tuple[Ints, Vector]:
        """Where terms are, and what they count there. Those that are the word itself are noted."""
        places: list[Ints] = []
        values: list[Vector] = []
        for term in terms:
            for held, frequency in self._postings.occurrences(term.number):
                slots = held.astype(np.int64)  # three times as quick to pick by
                if self._neighbours and not self._everything:
                    present = self._present[slots]
                    slots, frequency = slots[present], frequency[present]
                if term.exact:
                    has_word[slots] = True
                places.append(slots)
                values.append(frequency * np.float32(term.factor))
        if len(places) == 1:
            return places[0], values[0]
        return np.concatenate(places), np.concatenate(values)

    def _spread(self, slots: Ints, counts: Vector) -> tuple[Ints, Vector]:
        """Occurrences, and what those beside them hear of them."""
        places, values = [slots], [counts]
        # What a turn hears from the one before it is what that one says to the turn after it.
        for links, weight in ((self._links.after, NEIGHBOUR_BEFORE), (self._links.before, NEIGHBOUR_AFTER)):
            for there, origin, share in walk(slots, links, weight, self._neighbours):
                places.append(there)
                values.append(counts[origin] * np.float32(share))
        return np.concatenate(places), np.concatenate(values)

    def length_of(self, slots: Ints) -> Vector:
        """How long these are, with their share of what is beside them."""
        if self._lengths is None:
            return self._links.length_of(slots, self.own_length, self._neighbours)
        return self._lengths[slots]
