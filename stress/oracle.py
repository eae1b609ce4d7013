"""What a search must find, worked out the slow way from public records: the documented formulas, written once more.

For the made-up texts of ``stress.texts``: ASCII, outside of conversations, none of them a question, nothing misspelled.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
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
_STEMMER = SnowballStemmer("english")

Floats = NDArray[np.float64]


class Oracle:
    """Scores every record of one scope for a query. ASCII texts only."""

    def __init__(self, records: Iterable[MemoryRecord], embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows, vectors = dict[str, int](), list[NDArray[np.float32]]()
        moments, worth, words = array("d"), array("d"), _Words()
        for part in _batched(records):
            for record in part:
                self._rows[record.id] = len(self._rows)
                moments.append(_moment(record).timestamp())
                worth.append(_worth(record))
                words.add(record.content)
            made = embedder.embed_documents([record.content for record in part])
            vectors.append(made / np.linalg.norm(made, axis=1, keepdims=True))
        self._vectors = np.concatenate(vectors)
        self._postings, self._lengths = words.postings(), np.array(words.lengths)
        self._moments, self._worth = np.array(moments), np.array(worth)

    def recall(self, query: str, mode: str, found: SearchResults, limit: int, now: datetime) -> float:
        """The share of the best ``limit`` that was found; records whose scores are equal may stand for each other."""
        scores = self._scores(query, mode, now)
        if mode == "keyword":
            limit = min(limit, int(np.count_nonzero(scores)))
        best = np.sort(scores)[::-1][:limit]
        if not len(best):
            return 1.0
        rows = (self._rows.get(hit.id) for hit in found[:limit])
        good = sum(row is not None and scores[row] >= best[-1] - TOLERANCE for row in rows)
        return good / len(best)

    def _scores(self, query: str, mode: str, now: datetime) -> Floats:
        words = self._keyword(query)
        wanted = self._embedder.embed_query(query)
        cosine = np.maximum(self._vectors @ (wanted / np.linalg.norm(wanted)), 0).astype(np.float64)
        base = {"vector": cosine, "keyword": words}.get(mode, _VECTOR * cosine + _KEYWORD * words)
        if mode == "keyword":
            base = np.where(self._has_word(query), base, 0)
        if mode != "vector":
            years = [datetime(int(year), 1, 1, tzinfo=UTC) for year in re.findall(r"\((19\d\d|20\d\d|21\d\d)\)", query)]
            if years:
                [year] = years
                date = _closeness(self._moments, year)
                base = (1 - _DATE) * base + np.where(base > 0, _DATE * date, 0 if mode == "keyword" else _DATE * date)
            base = base * _TELLING
        ages = np.maximum(now.timestamp() - self._moments, 0)
        return base * (0.9 + 0.1 * (0.5 * 2 ** (-ages / _HALF_LIFE_S) + self._worth))

    def _has_word(self, query: str) -> NDArray[np.bool_]:
        has = np.zeros(len(self._rows), np.bool_)
        for term in set(_terms(query)):
            has[self._where(term)[0]] = True
        return has

    def _where(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The records that have a term, and how often."""
        return self._postings.get(term, (np.zeros(0, np.int32), np.zeros(0, np.int32)))

    def _keyword(self, query: str) -> Floats:
        total, bound = np.zeros(len(self._rows)), 0.0
        damping = _K1 * (1 - _B + _B * self._lengths / self._lengths.mean())
        for term in dict.fromkeys(_terms(query)):
            function_word = term in _function_terms()
            counts = {term: 1.0} | ({} if function_word else _similar().get(term, {}))
            frequency = np.zeros(len(self._rows))
            for other, factor in counts.items():
                rows, times = self._where(other)
                frequency[rows] += factor * times
            if not frequency.any():
                continue
            containing = len(self._where(term)[0])
            weight = math.log1p((len(self._rows) - containing + 0.5) / (containing + 0.5))
            weight *= _STOP if function_word else 1
            total += weight * frequency / (frequency + damping)
            bound += weight
        return total / bound if bound else total


def _batched(records: Iterable[MemoryRecord], size: int = 10_000) -> Iterator[list[MemoryRecord]]:
    source = iter(records)
    while part := list(islice(source, size)):
        yield part


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


class _Words:
    """By term the texts that have it and how often; and the number of terms of each text."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("i"), array("i")))
        self.lengths = array("d")

    def add(self, text: str) -> None:
        terms = _terms(text)
        for term, times in Counter(terms).items():
            self._found[term][0].append(len(self.lengths))
            self._found[term][1].append(times)
        self.lengths.append(len(terms))

    def postings(self) -> dict[str, tuple[NDArray[np.int32], NDArray[np.int32]]]:
        return {term: (np.array(rows), np.array(times)) for term, (rows, times) in self._found.items()}


def _closeness(moments: Floats, year: datetime) -> Floats:
    end = year.replace(year=year.year + 1) - timedelta(microseconds=1)
    beside = np.maximum(year.timestamp() - moments, moments - end.timestamp())
    return 2 ** (-np.maximum(beside, 0) / (7 * 86_400))


def _terms(text: str) -> list[str]:
    return [_stem(word) for word in re.findall(r"[a-z0-9]+", text.lower())]


@cache
def _stem(word: str) -> str:
    return _STEMMER.stem_word(word)


def _moment(record: MemoryRecord) -> datetime:
    return record.occurred_at or record.created_at


def _worth(record: MemoryRecord) -> float:
    """Of a record's bonus what does not depend on the time."""
    importance = 0.5 if record.importance is None else record.importance
    rating = 0.5 if record.rating is None else (record.rating - 1) / 4
    return 0.3 * importance + 0.2 * rating
