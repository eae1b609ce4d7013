"""What is asked and what is found, as the parts of a search see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import TYPE_CHECKING, NamedTuple

from agentmem.filters.sqlite import CompiledFilter
from agentmem.indexes.keywords import Statistics
from agentmem.retrieval.corpus import Corpus
from agentmem.stores.rows import ScopeKey
from agentmem.text.dates import Range
from agentmem.text.question import Word
from agentmem.types.clock import Micros
from agentmem.types.enums import Mode, Rank
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.retrieval.batch import Batch
    from agentmem.settings import Retrieval
    from agentmem.types.ports import Ints, Vector

NEVER = 2**63 - 1
"""An instant that does not come."""


@dataclass(frozen=True, slots=True)
class Search:
    """A checked search. Hashable, so that it is its own key in the query cache."""

    query: str
    scope: Scope
    limit: int
    condition: CompiledFilter | None
    kinds: tuple[str, ...] | None
    layers: tuple[str, ...] | None
    since: Micros | None
    until: Micros | None
    as_of: Micros | None
    mode: Mode
    min_similarity: float | None
    zone: tzinfo
    """Whose days are meant by a date in the query."""
    rank: Rank = "score"
    offset: int = 0
    """How many of the best hits are passed over."""
    vector: bytes | None = None
    """The caller's, to search with instead of the query's embedding: normalised float32."""
    archived: bool = False
    """Whether what lies in archives is searched, too."""
    valid_at: Micros | None = None
    """In the world's time: only what held then."""
    corpus: Corpus | None = None
    """What the words weigh where this store has but a part of the records; None: what they weigh here."""

    @property
    def needs_vector(self) -> bool:
        """Whether the query has to be embedded."""
        return self.mode != "keyword" or self.min_similarity is not None

    @property
    def restricted(self) -> bool:
        """Whether more than the scope limits the records; such searches are resolved in SQL first in large scopes."""
        parts = (self.condition, self.kinds, self.layers, self.since, self.until, self.as_of)
        return any(part is not None for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search with what it takes to answer it: vector, words, the scope in numbers, one reading of the clock.

    What expired before ``now`` is gone; recency is measured from ``measured_from``. The caller's filters are resolved
    to ``rows``, where they have been. ``hidden`` are rows of facts that do not hold, whatever else is allowed.
    ``limit`` is the search's, or more where a part is scored that is cut later;
    without ``in_context`` each record is scored by itself, without the turns around it. ``batch``: others whose vectors
    are compared together with this one's.
    """

    search: Search
    scope: ScopeKey
    tuning: Retrieval
    vector: Vector | None
    words: tuple[Word, ...]
    dates: tuple[Range, ...]
    now: Micros
    measured_from: Micros
    limit: int
    rows: Ints | None = None
    hidden: Sequence[int] = ()
    in_context: bool = True
    batch: Batch | None = None

    @property
    def lexical(self) -> bool:
        """Whether words count."""
        return self.search.mode != "vector"

    @property
    def neighbours(self) -> int:
        """How many turns before and after a memory lend it their words."""
        return self.tuning.neighbours if self.in_context else 0

    @property
    def weigh_questions(self) -> bool:
        """Whether memories that ask count less."""
        return self.tuning.weigh_questions and self.in_context

    @property
    def statistics(self) -> Statistics | None:
        """Those that were given; None: the scope's own."""
        return None if self.search.corpus is None else self.search.corpus.statistics()

    def among(self, rows: Ints) -> Query:
        """The same with these rows only."""
        return replace(self, rows=rows)

    def each_alone(self, limit: int) -> Query:
        """The same, more of it, and without the turns around each record."""
        return replace(self, in_context=False, limit=limit)


class Parts(NamedTuple):
    """What a hit's keyword part is made of, and what moved its score besides.

    ``exact``, ``similar`` and ``context`` (which may be negative) add up to the keyword part; ``date`` is None where
    the query named none.
    """

    exact: float
    similar: float
    context: float
    date: float | None
    telling: float


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
    parts: Parts | None = None
    part: int | None = None
    """Which of the record's vectors is the nearest, from 0; None where it has one or none."""


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates, best first, with the engines that proposed them and the number of records they were chosen from."""

    candidates: list[Candidate]
    engines: tuple[str, ...]
    considered: int
    valid_until: Micros = NEVER
    """The next instant at which a record expires that had a say in this."""
