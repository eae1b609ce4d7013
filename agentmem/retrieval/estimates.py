"""What scores of a large arena's slots are made of, and which of them may be among the best, before all is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agentmem.retrieval import scoring
from agentmem.retrieval.matching import Matches
from agentmem.retrieval.query import Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Vector


LEAST = (1 - scoring.ASKING - scoring.UNASKED) * (1 - scoring.BONUS)
"""What is left at least of what scores are made of when they are weighed; at most all of it."""


def base_of(query: Query, slots: NDArray[np.intp], similar: Vector, matches: Matches | None) -> Vector:
    """What the scores of slots are made of, where the query names no date: their similarity, their words, or both."""
    if matches is None or query.search.mode == "vector":
        return np.maximum(similar, 0)
    words = matches.keyword[slots]
    if query.search.mode == "keyword":
        return words
    weight = query.tuning.vector_weight
    return (weight * np.maximum(similar, 0) + (1 - weight) * words).astype(np.float32)


def worth_of(
    query: Query, slots: NDArray[np.intp], similar: Vector, matches: Matches | None, wanted: int
) -> NDArray[np.intp]:
    """Positions of whatever can be among the best ``wanted`` of some slots; their matches are completed."""
    slack = 0.0 if matches is None else matches.slack
    if query.search.mode == "hybrid":
        slack *= 1 - query.tuning.vector_weight
    worth = above(base_of(query, slots, similar, matches), wanted, slack)
    if matches is not None:
        matches.complete(slots[worth])
    return worth


def above(base: Vector, wanted: int, slack: float = 0.0) -> NDArray[np.intp]:
    """The same by what scores are made of before they are weighed, of which up to ``slack`` is still missing."""
    if len(base) <= wanted:
        return np.arange(len(base))
    return np.flatnonzero(base + np.float32(slack) >= last_of(base, wanted) * np.float32(LEAST))


def last_of(base: Vector, wanted: int) -> float:
    """The least of the greatest ``wanted``."""
    return float(np.partition(base, len(base) - wanted)[len(base) - wanted])
