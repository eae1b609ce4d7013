"""One scope's records in memory, searched exactly.

An arena holds columns, not objects: a slot per record in numpy arrays that grow by doubling, and the terms of all
records as one flat array of (term, slot, frequency). A query scans both; for the sizes an arena is allowed to have that
is faster than any index, needs a few bytes per term, and has nothing to keep balanced when records change.

A changed record gets a new slot; the old one is only marked dead. Terms are kept as Python's 64-bit string hashes:
they never leave the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agentmem.clock import Micros
from agentmem.models import Mode
from agentmem.ports import Entry
from agentmem.retrieval import scoring
from agentmem.retrieval.text import terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.ports import Ints, Vector

NEVER = 2**63 - 1
_UNSORTED = 20_000
"""Terms that are scanned for each word of a query before they are sorted: 10 µs."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search as the engines see it: vectors, terms and numbers; the caller's filters are resolved to ``rows``.

    What expired before ``now`` is gone; recency is measured from ``measured_from``.
    """

    mode: Mode
    vector: Vector | None
    terms: tuple[str, ...]
    limit: int
    now: Micros
    measured_from: Micros
    agent: int | None = None
    run: int | None = None
    kinds: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    since: Micros | None = None
    until: Micros | None = None
    as_of: Micros | None = None
    min_similarity: float | None = None
    rows: Ints | None = None


class Candidate(NamedTuple):
    """A scored record. ``version`` is the one that was scored."""

    score: float
    id: str
    row: int
    version: int
    similarity: float | None
    vector: float
    keyword: float
    recency: float
    importance: float
    rating: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 must know of a scope: its records, their mean length in terms, and how many have each query term."""

    documents: int
    mean_length: float
    containing: dict[str, int]


_SLOT = np.dtype(
    [
        ("row", "i8"), ("agent", "i8"), ("run", "i8"), ("created", "i8"), ("when", "i8"), ("expires", "i8"),
        ("version", "i8"), ("kind", "i4"), ("layer", "i4"), ("importance", "f4"), ("rating", "f4"), ("length", "f4"),
        ("live", "?"),
    ]
)  # fmt: skip


class Arena:
    """Not thread-safe: the owner holds a lock around each call."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._used = 0
        self._vectors: Vector = np.empty((16, dim), np.float32)
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(16, _SLOT[name]) for name in _SLOT.names or ()}
        self._ids: list[str] = []
        self._slot_of: dict[int, int] = {}
        self._codes: dict[str, int] = {}
        self._terms_used = 0
        self._terms_sorted = 0
        self._term: Ints = np.empty(256, np.int64)
        self._term_slot: NDArray[np.int32] = np.empty(256, np.int32)
        self._term_frequency: NDArray[np.uint16] = np.empty(256, np.uint16)

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def nbytes(self) -> int:
        """Memory held, approximately: ids and dictionary entries are counted at 200 bytes a record."""
        arrays = [self._vectors, *self._columns.values(), self._term, self._term_slot, self._term_frequency]
        return sum(array.nbytes for array in arrays) + 200 * self._used

    @property
    def wasteful(self) -> bool:
        """Whether so many slots are dead that loading afresh is better than going on."""
        return self._used > 1_000 and self._used > 2 * len(self._slot_of)

    def versions(self) -> dict[int, int]:
        """The version held of each record, by row number."""
        return {row: int(self._columns["version"][slot]) for row, slot in self._slot_of.items()}

    def remove(self, row: int) -> None:
        """Forget a record; unknown rows are ignored."""
        slot = self._slot_of.pop(row, None)
        if slot is not None:
            self._columns["live"][slot] = False

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Add records, or replace them by their current state."""
        if not entries:
            return
        for entry in entries:
            self.remove(entry.row)
        start, end = self._used, self._used + len(entries)
        self._reserve(end)
        vectors = np.frombuffer(b"".join(entry.vector for entry in entries), np.float32)
        self._vectors[start:end] = vectors.reshape(len(entries), self._dim)
        counts = [Counter(terms(entry.content)) for entry in entries]
        nan = float("nan")
        values = {
            "row": [e.row for e in entries],
            "agent": [e.agent for e in entries],
            "run": [e.run for e in entries],
            "created": [e.created_at for e in entries],
            "when": [e.created_at if e.occurred_at is None else e.occurred_at for e in entries],
            "expires": [NEVER if e.expires_at is None else e.expires_at for e in entries],
            "version": [e.version for e in entries],
            "kind": [self._code(e.kind) for e in entries],
            "layer": [self._code(e.layer) for e in entries],
            "importance": [nan if e.importance is None else e.importance for e in entries],
            "rating": [nan if e.rating is None else e.rating for e in entries],
            "length": [count.total() for count in counts],
            "live": True,
        }
        for name, column in values.items():
            self._columns[name][start:end] = column
        self._ids += [entry.id for entry in entries]
        self._slot_of.update((entry.row, slot) for slot, entry in enumerate(entries, start))
        self._append_terms(counts, start)
        self._used = end

    def search(self, query: Query, statistics: Statistics | None = None) -> list[Candidate]:
        """The best ``limit`` records that the query allows, best first, ties by id.

        ``statistics`` are those of the whole scope where the arena holds only a part of it.
        """
        allowed = self._allowed(query)
        similarity = None if query.vector is None else self._vectors[: self._used] @ query.vector
        keyword = None if query.mode == "vector" else self._bm25(query.terms, statistics)
        if keyword is not None and query.mode == "keyword":
            allowed &= keyword > 0
        if similarity is not None and query.min_similarity is not None:
            allowed &= similarity >= query.min_similarity
        slots = np.flatnonzero(allowed)
        parts = scoring.score(
            query.mode,
            None if similarity is None else similarity[slots],
            None if keyword is None else keyword[slots],
            self._column("when")[slots],
            self._column("importance")[slots],
            self._column("rating")[slots],
            query.measured_from,
        )
        chosen = _top(parts.score, query.limit)
        found = [
            self._candidate(
                int(slots[at]), int(at), parts, None if similarity is None else float(similarity[slots[at]])
            )
            for at in chosen
        ]
        return sorted(found, key=lambda c: (-c.score, c.id))[: query.limit]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns[name][: self._used]

    def _candidate(self, slot: int, at: int, parts: scoring.Scores, similarity: float | None) -> Candidate:
        return Candidate(
            float(parts.score[at]), self._ids[slot], int(self._columns["row"][slot]),
            int(self._columns["version"][slot]), similarity, float(parts.vector[at]), float(parts.keyword[at]),
            float(parts.recency[at]), float(parts.importance[at]), float(parts.rating[at]),
        )  # fmt: skip

    def _allowed(self, query: Query) -> NDArray[np.bool_]:
        column = self._column
        allowed = column("live") & (column("expires") > query.now)
        for name, value in (("agent", query.agent), ("run", query.run)):
            if value is not None:
                allowed &= column(name) == value
        for name, labels in (("kind", query.kinds), ("layer", query.layers)):
            if labels is not None:
                allowed &= np.isin(column(name), [self._codes.get(label, -1) for label in labels])
        if query.since is not None:
            allowed &= column("when") >= query.since
        if query.until is not None:
            allowed &= column("when") < query.until
        if query.as_of is not None:
            allowed &= column("created") <= query.as_of
        if query.rows is not None:
            allowed &= np.isin(column("row"), query.rows)
        return allowed

    def _bm25(self, words: Sequence[str], statistics: Statistics | None) -> Vector:
        """BM25 of every slot divided by its upper bound for these words."""
        total = np.zeros(self._used, np.float32)
        live, length = self._column("live"), self._column("length")
        if not self._slot_of:
            return total
        documents = statistics.documents if statistics else len(self._slot_of)
        mean_length = (statistics.mean_length if statistics else float(length[live].mean())) or 1.0
        self._sort_terms()
        bound = 0.0
        for word in words:
            at = self._postings(hash(word))
            slots = self._term_slot[at]
            alive = live[slots]
            slots = slots[alive]
            containing = statistics.containing.get(word, 0) if statistics else len(slots)
            if not containing:
                continue
            weight = scoring.idf(documents, containing)
            frequency = self._term_frequency[at][alive].astype(np.float32)
            total[slots] += weight * scoring.term_weight(frequency, length[slots], mean_length)
            bound += weight * (scoring.K1 + 1)
        return total / np.float32(bound) if bound else total

    def _code(self, label: str) -> int:
        return self._codes.setdefault(label, len(self._codes))

    def _append_terms(self, counts: list[Counter[str]], start: int) -> None:
        end = self._terms_used + sum(len(count) for count in counts)
        if end > len(self._term):
            size = max(end, 2 * len(self._term))
            self._term = _grown(self._term, size)
            self._term_slot = _grown(self._term_slot, size)
            self._term_frequency = _grown(self._term_frequency, size)
        span = slice(self._terms_used, end)
        self._term[span] = [hash(word) for count in counts for word in count]
        self._term_slot[span] = np.repeat(np.arange(start, start + len(counts)), [len(count) for count in counts])
        self._term_frequency[span] = [min(n, 65_535) for count in counts for n in count.values()]
        self._terms_used = end

    def _sort_terms(self) -> None:
        """Sort the terms once many are unsorted, so that a word is looked up instead of searched for in all of them."""
        if self._terms_used - self._terms_sorted <= max(_UNSORTED, self._terms_sorted // 8):
            return
        used = self._terms_used
        order = np.argsort(self._term[:used], kind="stable")
        for array in (self._term, self._term_slot, self._term_frequency):
            array[:used] = array[:used][order]
        self._terms_sorted = used

    def _postings(self, term: int) -> Ints:
        """Where in the flat arrays a term occurs."""
        done = self._terms_sorted
        tail = np.flatnonzero(self._term[done : self._terms_used] == term)
        if not done:
            return tail
        low, high = np.searchsorted(self._term[:done], term, "left"), np.searchsorted(self._term[:done], term, "right")
        return np.concatenate([np.arange(low, high), tail + done])

    def _reserve(self, slots: int) -> None:
        if slots <= len(self._vectors):
            return
        size = max(slots, 2 * len(self._vectors))
        self._vectors = _grown(self._vectors, size)
        self._columns = {name: _grown(column, size) for name, column in self._columns.items()}


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.empty((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _top(scores: Vector, limit: int) -> NDArray[np.intp]:
    """Positions of the best ``limit`` scores in no order, with everything that ties with the last of them."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    return np.flatnonzero(scores >= last)
