"""Keyword matching of a whole arena at once: BM25F over the turns of a conversation; the formula is in ``scoring``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from typing_extensions import override

from agentmem.indexes.keywords import Statistics
from agentmem.retrieval import scoring
from agentmem.retrieval.conversation import Step
from agentmem.retrieval.corpus import Corpus
from agentmem.retrieval.postings import Postings, ranges
from agentmem.text.question import SPELLED_SHARE, TYPO_WEIGHT, Word, may_be_misspelled, respellings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

_CELLS = 400_000
"""Words times slots that are scored in one go: a few megabytes."""


class Occurrences(NamedTuple):
    """Occurrences: which of the query's words, in which slot, and what they count; whether as the word itself."""

    word: Ints
    slot: Ints
    frequency: Vector
    exact: Bools

    def take(self, chosen: Any) -> Occurrences:
        """Some of them, by a mask or by positions."""
        return Occurrences(self.word[chosen], self.slot[chosen], self.frequency[chosen], self.exact[chosen])

    def joined(self, more: Occurrences) -> Occurrences:
        return Occurrences(
            np.concatenate([self.word, more.word]),
            np.concatenate([self.slot, more.slot]),
            np.concatenate([self.frequency, more.frequency]),
            np.concatenate([self.exact, more.exact]),
        )


class Weighed(NamedTuple):
    """What is scored: occurrences, what each word counts, which words count for the neighbours too, and the mean length
    of a memory in words."""

    found: Occurrences
    weights: Vector
    echoed: Bools
    mean_length: float


class Matches:
    """How well each slot matches a query. ``keyword``: float32 in [0, 1]; ``has_word``: whether a word is in the memory
    itself, as it is or under another spelling."""

    def __init__(self, own_length: Vector, weights: Vector, mean_length: float, keyword: Vector) -> None:
        """``own_length``: of each slot in words, without its neighbours; ``keyword`` is what comes of it all."""
        self.keyword = keyword
        self.has_word: Bools = np.zeros(len(own_length), np.bool_)
        self.slack = 0.0
        """The most that ``keyword`` lacks for slots that were not completed."""
        self._own_length = own_length
        self._weights = weights
        self._mean_length = mean_length

    def complete(self, slots: NDArray[np.intp]) -> None:
        """Have ``keyword`` and ``has_word`` be whole for these slots."""

    def shares(self, slots: NDArray[np.intp]) -> list[tuple[float, float, float]]:
        """Of some slots' ``keyword``: what the words themselves contribute, similar ones, and the neighbours."""
        exact, both = (self._alone(counts, slots) for counts in self._counts(slots))
        parts = np.stack([exact, both - exact, self.keyword[slots] - both], axis=1)
        return [(float(words), float(similar), float(context)) for words, similar, context in parts]

    def _counts(self, slots: NDArray[np.intp]) -> tuple[Vector, Vector]:
        """How often these slots have each word, a row for each: itself, and similar ones too."""
        raise NotImplementedError

    def _alone(self, counts: Vector, slots: NDArray[np.intp]) -> Vector:
        """The keyword part of these slots from these occurrences, without neighbours."""
        matched = scoring.saturation(counts, self._own_length[slots], self._mean_length)
        return self._weights @ matched / np.float32(float(self._weights.sum()) or 1.0)


class DenseMatches(Matches):
    """Matches whose occurrences are at hand."""

    def __init__(self, own_length: Vector, weighed: Weighed, keyword: Vector) -> None:
        super().__init__(own_length, weighed.weights, weighed.mean_length, keyword)
        self._found = weighed.found
        self.has_word[self._found.slot[self._found.exact]] = True

    @override
    def _counts(self, slots: NDArray[np.intp]) -> tuple[Vector, Vector]:
        place_of = np.full(len(self._own_length), -1, np.int32)
        place_of[slots] = np.arange(len(slots))
        place = place_of[self._found.slot]
        inside = place >= 0
        own, place = self._found.take(inside), place[inside]

        def counted(chosen: Any) -> Vector:
            cells = own.word[chosen] * len(slots) + place[chosen]
            counts = np.bincount(cells, own.frequency[chosen], len(self._weights) * len(slots))
            return counts.astype(np.float32).reshape(len(self._weights), len(slots))

        return counted(own.exact), counted(slice(None))


class Matcher:
    """What matching needs of an arena, for one query."""

    def __init__(self, postings: Postings, present: Bools, own_length: Vector) -> None:
        """``present`` are the slots that count; ``own_length`` is that of each in words, 0 for those that do not."""
        self._postings = postings
        self._present = present
        self.slots = len(present)
        self.own_length = own_length

    def _size(self) -> tuple[int, int]:
        """How many records there are, and how many words they have together."""
        raise NotImplementedError

    def statistics(self, words: Sequence[Word]) -> Statistics:
        """Those of the arena itself."""
        documents, length = self._size()
        return Statistics(documents, length / documents if documents else 0.0, {})

    def corpus(self, words: Sequence[Word], *, mend_typos: bool) -> Corpus:
        """The counts of the arena, for one of several. Nothing can be matched after that."""
        documents, alike = self._find(words)
        mended = self._mend(words, _unknown(words, documents, alike)) if mend_typos else set[int]()
        return Corpus(
            *self._size(),
            tuple(sorted({word.term: count for word, count in zip(words, documents, strict=True)}.items())),
            frozenset(word.term for word, there in zip(words, alike, strict=True) if there),
            frozenset(words[n].term for n in mended),
        )

    def match(self, words: Sequence[Word], given: Statistics, *, mend_typos: bool) -> Matches:
        """Match every slot; with ``mend_typos`` a word that no memory has is also looked for under other spellings."""
        own = not given.containing
        documents, alike = self._find(words)
        if not own:
            documents = [given.containing.get(word.term, 0) for word in words]
            alike = [word.term in given.similar for word in words]
            # Misspelled where nobody has the word, here or elsewhere; what it is taken for may be elsewhere alone.
            mended = [n for n, word in enumerate(words) if word.term in given.mended]
            self._mend(words, mended)
            for n in mended:
                alike[n] = True
        elif mend_typos:
            for n in self._mend(words, _unknown(words, documents, alike)):
                alike[n] = True
        weights = np.array(_weights(words, given.documents, documents, alike), np.float32)
        return self._matches(words, weights, given.mean_length or 1.0)

    def _find(self, words: Sequence[Word]) -> tuple[list[int], list[bool]]:
        """Look the words up, and similar ones: how many live slots have each word; which of the words are there in
        another spelling, or in a similar word."""
        raise NotImplementedError

    def _mend(self, words: Sequence[Word], mended: Sequence[int]) -> set[int]:
        """Look some words up as if they were misspelled; those that are there then."""
        raise NotImplementedError

    def _matches(self, words: Sequence[Word], weights: Vector, mean_length: float) -> Matches:
        """How all that was found matches."""
        raise NotImplementedError


class DenseMatcher(Matcher):
    """Scores every slot for every word: the quickest way up to some ten thousand slots."""

    def __init__(self, postings: Postings, live: Bools, present: Bools, length: Vector, steps: list[Step]) -> None:
        """``steps``: the neighbours of each slot as ``Links.steps`` gives them."""
        super().__init__(postings, present, np.where(present, length, np.float32(0)).astype(np.float32))
        self._live = live
        self._raw_length = length
        self._steps = steps
        padded = np.append(self.own_length, np.float32(0))
        self._length = self.own_length.copy()
        for step in steps:
            self._length += np.float32(step.weight) * padded[step.slots[:-1]]

    @override
    def _size(self) -> tuple[int, int]:
        lengths = self._raw_length[self._live]
        return len(lengths), int(lengths.sum(dtype=np.float64))

    @override
    def _find(self, words: Sequence[Word]) -> tuple[list[int], list[bool]]:
        number = self._postings.number
        pairs = [(number(word.term), n, 1.0) for n, word in enumerate(words)]
        pairs += [(number(term), n, factor) for n, word in enumerate(words) for term, factor in word.variants]
        exact = len(pairs)
        pairs += [(number(term), n, factor) for n, word in enumerate(words) for term, factor in word.similar]
        self._found, which = self._look_up(pairs, exact)
        counts = np.bincount(which, minlength=len(pairs))
        alike = np.zeros(len(words), np.int64)
        owner = np.array([pair[1] for pair in pairs], np.int64)
        np.add.at(alike, owner[len(words) :], counts[len(words) :])
        return counts[: len(words)].tolist(), (alike > 0).tolist()

    @override
    def _mend(self, words: Sequence[Word], mended: Sequence[int]) -> set[int]:
        number = self._postings.number
        pairs = [(number(term), n, TYPO_WEIGHT) for n in mended for term in respellings(words[n].spelling)]
        if not pairs:
            return set()
        more, _ = self._look_up(pairs, len(pairs))
        self._found = self._found.joined(more)
        return set(more.word.tolist())

    @override
    def _matches(self, words: Sequence[Word], weights: Vector, mean_length: float) -> Matches:
        found, present = self._found, self._present[self._found.slot]
        echoed = np.array([word.weight == 1 for word in words], np.bool_)
        weighed = Weighed(found if present.all() else found.take(present), weights, echoed, mean_length)
        return DenseMatches(self.own_length, weighed, self._score(weighed))

    def _look_up(self, pairs: list[tuple[int, int, float]], exact: int) -> tuple[Occurrences, Ints]:
        """Live occurrences of (hash, word, factor) pairs, and of which pair each is; the first ``exact`` are exact."""
        if not pairs:
            nothing = np.empty(0, np.int64)
            return Occurrences(nothing, nothing, np.empty(0, np.float32), np.empty(0, np.bool_)), nothing
        hashes = np.array([pair[0] for pair in pairs], np.int64)
        wanted, group = np.unique(hashes, return_inverse=True)
        which, slot, frequency = self._postings.find(wanted)
        alive = self._live[slot]
        if not alive.all():
            which, slot, frequency = which[alive], slot[alive], frequency[alive]
        if len(wanted) < len(pairs):  # a term stands for several words
            order = np.argsort(group, kind="stable")
            sharing = np.bincount(group, minlength=len(wanted))
            first = np.cumsum(sharing) - sharing
            repeats = sharing[which]
            which = order[ranges(first[which], repeats)]
            slot, frequency = np.repeat(slot, repeats), np.repeat(frequency, repeats)
        else:
            which = np.argsort(group, kind="stable")[which]
        owner = np.array([pair[1] for pair in pairs], np.int64)
        factor = np.array([pair[2] for pair in pairs], np.float32)
        return Occurrences(owner[which], slot, frequency * factor[which], which < exact), which

    def _score(self, weighed: Weighed) -> Vector:
        """The keyword part of each slot, its neighbours' words included."""
        found, weights, spread, mean_length = weighed
        total = np.zeros(self.slots, np.float32)
        bound = float(weights.sum())
        if not bound:
            return total
        step = max(1, _CELLS // (self.slots + 1))
        for first in range(0, len(weights), step):
            count = min(step, len(weights) - first)
            if count == 1 and not weights[first]:
                continue
            part = found
            if count < len(weights):
                part = found.take((found.word >= first) & (found.word < first + count))
            echoed = part.take(spread[part.word])
            heard, echo = self._spread(echoed.word - first, echoed.slot, echoed.frequency)
            cells = np.concatenate([(part.word - first) * (self.slots + 1) + part.slot, heard])
            values = np.concatenate([part.frequency, echo])
            frequency = np.bincount(cells, values, count * (self.slots + 1)).astype(np.float32)
            frequency = frequency.reshape(count, self.slots + 1)[:, : self.slots]
            matched = scoring.saturation(frequency, self._length, mean_length)
            total += weights[first : first + count] @ matched
        return total / np.float32(bound)

    def _spread(self, word: Ints, slot: Ints, frequency: Vector) -> tuple[Ints, Vector]:
        """Cells ``word * (slots + 1) + slot`` and what is added to each by the occurrences beside them.

        The last cell of each word takes what would go to neighbours that do not exist.
        """
        row = word * (self.slots + 1)
        half = len(self._steps) // 2
        # What a turn hears from the one before it is what that one says to the turn after it.
        towards = [*self._steps[half:], *self._steps[:half]]
        cells = [row[:0], *(row + to.slots[slot] for to in towards)]
        values = [frequency[:0], *(frequency * np.float32(step.weight) for step in self._steps)]
        return np.concatenate(cells), np.concatenate(values)


def _unknown(words: Sequence[Word], documents: Sequence[int], alike: Sequence[bool]) -> list[int]:
    """Words that may be misspelled: no memory has them, nor a similar one."""
    return [n for n, word in enumerate(words) if not documents[n] and not alike[n] and may_be_misspelled(word)]


def _weights(words: Sequence[Word], total: int, documents: Sequence[int], alike: Sequence[bool]) -> list[float]:
    """What each word counts: its rarity among ``total`` records; 0 where none has it, nor another in its place.

    A word as it was spelled, and the same without its accents, share the weight.
    """
    weights = [
        word.weight * scoring.idf(total, count) if count or similar else 0.0
        for word, count, similar in zip(words, documents, alike, strict=True)
    ]
    there = {word.of for word, count in zip(words, documents, strict=True) if word.of and count}
    for n, word in enumerate(words):
        if word.of:
            weights[n] *= SPELLED_SHARE
        elif word.term in there:
            weights[n] *= 1 - SPELLED_SHARE
    return weights
