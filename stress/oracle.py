"""What a search must find, worked out the slow way from public records: the documented formulas, written once more."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from py_rust_stemmers import SnowballStemmer

from agentmem import Embedder, MemoryRecord, SearchResults

TOLERANCE = 1e-4
"""Scores that differ by less are equal: the oracle reads the clock a little later than the search did."""
_K1, _B = 0.9, 0.4
_VECTOR, _KEYWORD = 0.7, 0.3
_HALF_LIFE_S = 30 * 86_400
_STEM = SnowballStemmer("english").stem_word


class Oracle:
    """Scores every record of one scope for a query. ASCII texts only."""

    def __init__(self, records: Sequence[MemoryRecord], embedder: Embedder) -> None:
        self._records = records
        self._embedder = embedder
        vectors = embedder.embed_documents([record.content for record in records]).astype(np.float64)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._terms = [Counter(_terms(record.content)) for record in records]
        self._lengths = np.array([sum(terms.values()) for terms in self._terms], np.float64)
        self._containing = Counter(term for terms in self._terms for term in terms)

    def recall(self, query: str, mode: str, found: SearchResults, limit: int, now: datetime) -> float:
        """The share of the best ``limit`` that was found; records whose scores are equal may stand for each other."""
        scores = self._scores(query, mode, now)
        if mode == "keyword":
            limit = min(limit, int(np.count_nonzero(scores)))
        best = np.sort(scores)[::-1][:limit]
        if not len(best):
            return 1.0
        by_id = dict(zip((record.id for record in self._records), scores.tolist(), strict=True))
        good = sum(by_id.get(hit.id, -1.0) >= best[-1] - TOLERANCE for hit in found[:limit])
        return good / len(best)

    def _scores(self, query: str, mode: str, now: datetime) -> NDArray[np.float64]:
        words = self._keyword(query)
        wanted = self._embedder.embed_query(query).astype(np.float64)
        cosine = np.maximum(self._vectors @ (wanted / np.linalg.norm(wanted)), 0)
        base = {"vector": cosine, "keyword": words}.get(mode, _VECTOR * cosine + _KEYWORD * words)
        return base * np.array([0.9 + 0.1 * _bonus(record, now) for record in self._records])

    def _keyword(self, query: str) -> NDArray[np.float64]:
        known = [term for term in dict.fromkeys(_terms(query)) if term in self._containing]
        total, bound = np.zeros(len(self._records)), 0.0
        mean = self._lengths.mean()
        for term in known:
            containing = self._containing[term]
            idf = math.log1p((len(self._records) - containing + 0.5) / (containing + 0.5))
            frequency = np.array([terms[term] for terms in self._terms], np.float64)
            total += idf * frequency * (_K1 + 1) / (frequency + _K1 * (1 - _B + _B * self._lengths / mean))
            bound += idf * (_K1 + 1)
        return total / bound if bound else total


def _terms(text: str) -> list[str]:
    return [_STEM(word) for word in re.findall(r"[a-z0-9]+", text.lower())]


def _bonus(record: MemoryRecord, now: datetime) -> float:
    age = max(0.0, (now - (record.occurred_at or record.created_at)).total_seconds())
    importance = 0.5 if record.importance is None else record.importance
    rating = 0.5 if record.rating is None else (record.rating - 1) / 4
    return 0.5 * 2 ** (-age / _HALF_LIFE_S) + 0.3 * importance + 0.2 * rating
