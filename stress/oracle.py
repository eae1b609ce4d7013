"""What a search must find, worked out the slow way from public records: the documented formulas, written once more.

For the made-up texts of ``stress.texts``: ASCII, outside of conversations, none of them a question, nothing misspelled.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from py_rust_stemmers import SnowballStemmer

from agentmem import Embedder, MemoryRecord, SearchResults

TOLERANCE = 1e-4
"""Scores that differ by less are equal: the oracle reads the clock a little later than the search did."""
_K1, _B = 0.6, 0.5
_VECTOR, _KEYWORD = 0.3, 0.7
_SIMILAR, _STOP, _TELLING, _DATE = 0.6, 0.1, 0.95, 0.15
_FUNCTION_WORDS = frozenset(
    "what happened to who told me about where did i hear of is there any do you how much was why so by when are we "
    "the at in on a an her his up over from with and for s not has wants".split()
) - {"happened", "told", "hear", "wants"}
_TABLE = Path(__file__).parent.parent / "agentmem" / "text" / "similar_words.npz"
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
        if mode == "keyword":
            base = np.where(self._has_word(query), base, 0)
        if mode != "vector":
            years = [datetime(int(year), 1, 1, tzinfo=UTC) for year in re.findall(r"\((19\d\d|20\d\d|21\d\d)\)", query)]
            if years:
                [year] = years
                date = np.array([_closeness(record, year) for record in self._records])
                base = (1 - _DATE) * base + np.where(base > 0, _DATE * date, 0 if mode == "keyword" else _DATE * date)
            base = base * _TELLING
        return base * np.array([0.9 + 0.1 * _bonus(record, now) for record in self._records])

    def _has_word(self, query: str) -> NDArray[np.bool_]:
        wanted = set(_terms(query))
        return np.array([not wanted.isdisjoint(terms) for terms in self._terms])

    def _keyword(self, query: str) -> NDArray[np.float64]:
        total, bound = np.zeros(len(self._records)), 0.0
        damping = _K1 * (1 - _B + _B * self._lengths / self._lengths.mean())
        for term in dict.fromkeys(_terms(query)):
            function_word = term in _function_terms()
            counts = {term: 1.0} | ({} if function_word else _similar().get(term, {}))
            if not any(self._containing[other] for other in counts):
                continue
            containing = self._containing[term]
            weight = math.log1p((len(self._records) - containing + 0.5) / (containing + 0.5))
            weight *= _STOP if function_word else 1
            frequency = np.array(
                [sum(terms[other] * factor for other, factor in counts.items()) for terms in self._terms], np.float64
            )
            total += weight * frequency / (frequency + damping)
            bound += weight
        return total / bound if bound else total


@cache
def _function_terms() -> frozenset[str]:
    return frozenset(term for word in _FUNCTION_WORDS for term in _terms(word))


@cache
def _similar() -> dict[str, dict[str, float]]:
    with np.load(_TABLE) as file:
        words = bytes(file["words"]).decode().split("\n")
        start, other, cosine = (file[name].tolist() for name in ("start", "other", "cosine"))
    table: dict[str, dict[str, float]] = {}
    for n, word in enumerate(words):
        span = slice(start[n], start[n + 1])
        pairs = zip(other[span], cosine[span], strict=True)
        table[word] = {words[o]: _SIMILAR * (c / 255 - 0.5) / 0.5 for o, c in pairs if c / 255 > 0.5}
    return table


def _closeness(record: MemoryRecord, year: datetime) -> float:
    when = record.occurred_at or record.created_at
    end = year.replace(year=year.year + 1) - timedelta(microseconds=1)
    beside = max((year - when).total_seconds(), (when - end).total_seconds(), 0.0)
    return 2 ** (-beside / (7 * 86_400))


def _terms(text: str) -> list[str]:
    return [_STEM(word) for word in re.findall(r"[a-z0-9]+", text.lower())]


def _bonus(record: MemoryRecord, now: datetime) -> float:
    age = max(0.0, (now - (record.occurred_at or record.created_at)).total_seconds())
    importance = 0.5 if record.importance is None else record.importance
    rating = 0.5 if record.rating is None else (record.rating - 1) / 4
    return 0.5 * 2 ** (-age / _HALF_LIFE_S) + 0.3 * importance + 0.2 * rating
