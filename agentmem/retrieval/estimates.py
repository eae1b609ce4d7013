"""What scores of a large arena's slots are made of, and which of them may be among the best, before all is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agentmem.retrieval import scoring
from agentmem.retrieval.matching import Matches
from agentmem.retrieval.query import Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Vector


Score: TypeAlias = Callable[["NDArray[np.intp]", "Vector"], "Vector"]
"""The scores of slots that are so similar, as far as their matches are known."""

_SAMPLE = 32_768
"""Slots from which it is guessed what the best ones have."""
_ROUNDING = 1e-5

LEAST = (1 - scoring.ASKING - scoring.UNASKED) * (1 - scoring.BONUS)
"""What is left at least of what scores are made of when they are weighed; at most all of it."""


def base_of(query: Query, slots: NDArray[np.intp], similar: Vector, matches: Matches | None) -> Vector:
    """What the scores of slots are made of beside dates: their similarity, their words, or both."""
    if matches is None or query.search.mode == "vector":
        return np.maximum(similar, 0)
    words = matches.keyword[slots]
    if query.search.mode == "keyword":
        return words
    weight = query.tuning.vector_weight
    return (weight * np.maximum(similar, 0) + (1 - weight) * words).astype(np.float32)


def worth_of(
    query: Query, slots: NDArray[np.intp], similar: Vector, matches: Matches | None, wanted: int, score: Score
) -> NDArray[np.intp]:
    """Positions of whatever can be among the best ``wanted`` of some slots; their matches are completed."""
    slack = 0.0 if matches is None else matches.slack
    if query.search.mode == "hybrid":
        slack *= 1 - query.tuning.vector_weight
    if query.dates:
        worth = np.arange(len(slots))
    else:
        worth = above(base_of(query, slots, similar, matches), wanted, slack)
    if matches is not None and (slack or query.dates):
        # What is missing makes a score greater by no more than that.
        least = score(slots[worth], similar[worth])
        if len(least) > wanted:
            worth = worth[least >= last_of(least, wanted) - np.float32(slack + _ROUNDING)]
        matches.complete(slots[worth])
    return worth


def words_worth(query: Query, matches: Matches, allowed: Bools, similar: float, wanted: int, score: Score) -> float:
    """A keyword part below which no slot that is no more similar than that is among the best ``wanted``."""
    weight, near = query.tuning.vector_weight, max(similar, 0.0)
    best = _best_by_words(matches.keyword, allowed, wanted)
    if len(best) < wanted or weight == 1:
        return 0.0
    reached = last_of(score(best, np.full(len(best), near, np.float32)), wanted)
    if query.dates:  # it may have the best of dates
        reached = (reached - scoring.DATE_WEIGHT) / (1 - scoring.DATE_WEIGHT)
    return max(0.0, (reached - weight * near) / (1 - weight) - matches.slack - _ROUNDING)


def _best_by_words(keyword: Vector, allowed: Bools, wanted: int) -> NDArray[np.intp]:
    """The best ``wanted`` slots, and not many more: what they reach is guessed from a sample. None if too few have a
    word."""
    step = max(1, len(keyword) // _SAMPLE)
    sample = keyword[::step][allowed[::step]]
    rank = 2 * wanted // step + 2
    while rank < len(sample) and (reached := last_of(sample, rank)):
        best = np.flatnonzero(allowed & (keyword >= np.float32(reached)))
        if len(best) >= wanted:
            return best
        rank *= 2
    return np.empty(0, np.intp)


def above(base: Vector, wanted: int, slack: float = 0.0) -> NDArray[np.intp]:
    """The same by what scores are made of before they are weighed, of which up to ``slack`` is still missing."""
    if len(base) <= wanted:
        return np.arange(len(base))
    return np.flatnonzero(base + np.float32(slack) >= last_of(base, wanted) * np.float32(LEAST))


def last_of(base: Vector, wanted: int) -> float:
    """The least of the greatest ``wanted``."""
    return float(np.partition(base, len(base) - wanted)[len(base) - wanted])
