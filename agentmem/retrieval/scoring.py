"""The one function that scores every candidate, whichever engine proposed it.

    vector  = max(0, cosine(query, memory))
    keyword = sum over the query's words of weight * matched, divided by the sum of their weights
    base    = vector | keyword | vector_weight * vector + (1 - vector_weight) * keyword      by mode
    dated   = base, or (1 - DATE_WEIGHT) * base + DATE_WEIGHT * date where the query names a date
    telling = 1 - ASKING * (share of the memory that are questions) - UNASKED * (1 - that of the turn before)
    bonus   = RECENCY_SHARE * recency + IMPORTANCE_SHARE * importance + RATING_SHARE * rating
    score   = dated * telling * (1 - BONUS + BONUS * bonus)

In vector mode ``dated`` is the vector part and ``telling`` is 1. Every part lies in [0, 1], hence so does the score,
and the bonus moves it by at most 10 %. By ``rank="similarity"`` nothing of this counts: the score is the cosine itself,
in [-1, 1]. The parts:

* ``matched``  BM25's saturation f / (f + K1 * (1 - B + B * length / mean length)) of a word's weighted frequency f: how
  often the memory has it, a similar word counting up to 0.6, and the neighbouring turns of its run up to 0.6 (before)
  or 0.4 (after), 0.6 times that for each step further; ``length`` is summed over the neighbours in the same way
* ``weight``  the word's inverse document frequency in the searched scope; a tenth of that for function words, which
  neighbours do not pass on; 0 for a word that the scope has neither itself nor in a similar one. A word that the query
  spells with accents, points or signs has 0.7 of its weight without them, and 0.3 of that of its own spelling, if any
* ``date``  1 in the range that the query names, halved for each 7 days beside it
* ``recency``  2 ** (-age / 30 days); the age is counted from ``occurred_at``, else from ``created_at``
* ``importance``  as given, 0.5 where it was not
* ``rating``  (rating - 1) / 4, 0.5 where the memory was never rated

``matched`` is BM25F (Robertson, Zaragoza and Taylor, "Simple BM25 Extension to Multiple Weighted Fields", 2004) with
the turns around a memory as its fields, and Lucene's idf, which is never negative. Its statistics are those of the
searched scope alone, so that nobody's vocabulary shows in another's ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agentmem.types.clock import Micros
from agentmem.types.enums import Mode, Rank

if TYPE_CHECKING:
    from agentmem.types.ports import Ints, Vector

K1, B = 0.6, 0.5
"""BM25's parameters; docs/retrieval.md has how little they matter."""
VECTOR_WEIGHT = 0.3
DATE_WEIGHT = 0.15
ASKING, UNASKED = 0.2, 0.05
BONUS = 0.1
RECENCY_SHARE, IMPORTANCE_SHARE, RATING_SHARE = 0.5, 0.3, 0.2
HALF_LIFE = 30 * 86_400 * 1_000_000
"""Microseconds after which recency has halved."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of n candidates and what they are made of; each a float32 array of length n."""

    score: Vector
    vector: Vector
    keyword: Vector
    recency: Vector
    importance: Vector
    rating: Vector


def idf(documents: int, containing: int) -> float:
    """Inverse document frequency of a term that ``containing`` of ``documents`` have."""
    return float(np.log1p((documents - containing + 0.5) / (containing + 0.5)))


def saturation(frequency: Vector, length: Vector, mean_length: float) -> Vector:
    """BM25's part of one word before its weight, in [0, 1): grows slower and slower, less in long texts."""
    damping = np.float32(K1 * (1 - B)) + np.float32(K1 * B / mean_length) * length
    return np.divide(frequency, frequency + damping, dtype=np.float32)


def telling(asks: Vector, asked: Vector) -> Vector:
    """What is left of a score: less for questions, a little less for what answers none."""
    return (1 - ASKING * asks - UNASKED * (1 - asked)).astype(np.float32)


def score(
    mode: Mode,
    *,
    similarity: Vector | None,
    keyword: Vector | None,
    date: Vector | None,
    telling: Vector | None,
    when: Ints,
    importance: Vector,
    rating: Vector,
    now: Micros,
    vector_weight: float = VECTOR_WEIGHT,
    rank: Rank = "score",
) -> Scores:
    """Score n candidates.

    ``similarity`` holds cosines, ``keyword`` the keyword part (None where the mode needs none), ``date`` and
    ``telling`` theirs (None: they do not count), ``when`` microseconds; ``importance`` and ``rating`` are NaN where
    there is none. By the rank ``"similarity"`` the score is the similarity as it is, whatever its sign.
    """
    zeros = np.zeros(len(when), np.float32)
    vector = zeros if similarity is None else np.clip(similarity, 0, 1)
    words = zeros if keyword is None else keyword
    base = {"vector": vector, "keyword": words}.get(mode)
    if base is None:
        base = vector_weight * vector + (1 - vector_weight) * words
    if date is not None:
        base = (1 - DATE_WEIGHT) * base + DATE_WEIGHT * date
    if telling is not None:
        base = base * telling
    age = np.maximum(now - when, 0).astype(np.float32)
    recency = np.exp2(-age / HALF_LIFE)
    weight = np.where(np.isnan(importance), np.float32(0.5), importance)
    rated = np.where(np.isnan(rating), np.float32(0.5), (rating - 1) / 4)
    bonus = RECENCY_SHARE * recency + IMPORTANCE_SHARE * weight + RATING_SHARE * rated
    total = base * (1 - BONUS + BONUS * bonus) if rank == "score" or similarity is None else similarity
    return Scores(total.astype(np.float32), vector, words, recency, weight, rated)
