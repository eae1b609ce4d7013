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


def base_of(query: Query, slots: NDArray[np.intp], similar: Vector, matches: Matches | None) -> Vector:
    """What the scores of slots are made of, where the query names no date: their similarity, their words, or both."""
    if matches is None or query.search.mode == "vector":
        return np.maximum(similar, 0)
    words = matches.keyword[slots]
    if query.search.mode == "keyword":
        return words
    weight = query.tuning.vector_weight
    return (weight * np.maximum(similar, 0) + (1 - weight) * words).astype(np.float32)


def worth_of(base: Vector, wanted: int) -> NDArray[np.intp]:
    """Positions of whatever can be among the best ``wanted``, by what scores are made of before they are weighed.

    That leaves at least this part of it, and at most all of it.
    """
    if len(base) <= wanted:
        return np.arange(len(base))
    least = (1 - scoring.ASKING - scoring.UNASKED) * (1 - scoring.BONUS)
    return np.flatnonzero(base >= np.partition(base, len(base) - wanted)[len(base) - wanted] * np.float32(least))
