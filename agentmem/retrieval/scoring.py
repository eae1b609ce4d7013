"""The one function that scores every candidate, whichever engine proposed it.

    vector  = max(0, cosine(query, memory))
    keyword = BM25(query, memory) / (BM25's upper bound for this query)
    base    = vector | keyword | VECTOR_WEIGHT * vector + KEYWORD_WEIGHT * keyword       by mode
    bonus   = RECENCY_SHARE * recency + IMPORTANCE_SHARE * importance + RATING_SHARE * rating
    score   = base * (1 - BONUS + BONUS * bonus)

Every part lies in [0, 1], hence so does the score, and the bonus moves it by at most 10 %:

* ``recency``  2 ** (-age / 30 days); the age is counted from ``occurred_at``, else from ``created_at``
* ``importance``  as given, 0.5 where it was not
* ``rating``  (rating - 1) / 4, 0.5 where the memory was never rated

BM25 is Robertson and Zaragoza's (The Probabilistic Relevance Framework, 2009) with Lucene's idf, which is never
negative; its statistics are those of the searched scope alone, so that nobody's vocabulary shows in another's ranking.
A query term counts once; terms unknown to the scope do not count, neither in the sum nor in the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agentmem.clock import Micros
from agentmem.models import Mode

if TYPE_CHECKING:
    from agentmem.ports import Ints, Vector

K1, B = 0.9, 0.4
"""BM25's parameters for short passages (Anserini's defaults)."""
VECTOR_WEIGHT, KEYWORD_WEIGHT = 0.7, 0.3
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


def term_weight(frequency: Vector, length: Vector, mean_length: float) -> Vector:
    """BM25's part of one term before its idf, in [0, K1 + 1): saturates with its frequency, damped for long texts."""
    damping = K1 * (1 - B + B * length / np.float32(mean_length))
    return (frequency * (K1 + 1) / (frequency + damping)).astype(np.float32)


def score(
    mode: Mode,
    similarity: Vector | None,
    keyword: Vector | None,
    when: Ints,
    importance: Vector,
    rating: Vector,
    now: Micros,
) -> Scores:
    """Score n candidates.

    ``similarity`` holds cosines, ``keyword`` BM25 already divided by its bound (None where the mode needs none),
    ``when`` microseconds; ``importance`` and ``rating`` are NaN where there is none.
    """
    zeros = np.zeros(len(when), np.float32)
    vector = zeros if similarity is None else np.clip(similarity, 0, 1)
    words = zeros if keyword is None else keyword
    base = {"vector": vector, "keyword": words}.get(mode)
    if base is None:
        base = VECTOR_WEIGHT * vector + KEYWORD_WEIGHT * words
    age = np.maximum(now - when, 0).astype(np.float32)
    recency = np.exp2(-age / HALF_LIFE)
    weight = np.where(np.isnan(importance), np.float32(0.5), importance)
    rated = np.where(np.isnan(rating), np.float32(0.5), (rating - 1) / 4)
    bonus = RECENCY_SHARE * recency + IMPORTANCE_SHARE * weight + RATING_SHARE * rated
    total = base * (1 - BONUS + BONUS * bonus)
    return Scores(total.astype(np.float32), vector, words, recency, weight, rated)
