"""One search from the caller's arguments to the caller's results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agentmem.embedding import windows_of
from agentmem.embedding.batcher import embed_query
from agentmem.engine.engine import Engine, Model
from agentmem.filters.sqlite import CompiledFilter
from agentmem.retrieval.arena import Candidate, Query
from agentmem.retrieval.search import Found
from agentmem.retrieval.walls import wall_of
from agentmem.stores.rows import ScopeKey, Stored, visible
from agentmem.text.dates import ranges_of
from agentmem.text.question import Word, words_of
from agentmem.text.terms import terms
from agentmem.types.clock import Micros
from agentmem.types.enums import Mode
from agentmem.types.errors import ModelMismatchError, StoreError
from agentmem.types.inputs import Scope
from agentmem.types.records import HitDetails, SearchHit, SearchResults, SearchTrace

_ATTEMPTS = 3


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


@dataclass(slots=True)
class _Watch:
    """Milliseconds per stage."""

    spent: dict[str, float] = field(default_factory=dict[str, float])
    _at: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + (now - self._at) * 1_000
        self._at = now


def run(
    engine: Engine, search: Search, *, explain: bool, choose: Callable[[SearchResults], list[int]] | None = None
) -> SearchResults:
    """Search; see ``Memory.search``. With ``choose``, only the hits at these positions count as found and come back."""
    engine.check_process()
    watch = _Watch()
    while True:
        model = engine.model
        try:
            results = _run(engine, model, search, watch, explain, choose)
        except (ModelMismatchError, StoreError):
            if model.repository.is_current():
                raise
        else:
            if results is not None:
                return results
        # The store moved to another model under this search, whose vectors may have been half removed.
        engine.check_model()


def _run(
    engine: Engine,
    model: Model,
    search: Search,
    watch: _Watch,
    explain: bool,
    choose: Callable[[SearchResults], list[int]] | None,
) -> SearchResults | None:
    """Search with this model; None if the store has moved to another one meanwhile."""
    now = engine.now()
    model.retriever.follow()
    key = engine.key(search.scope)
    watch.lap("follow")
    if key is None:
        return SearchResults([], SearchTrace((), 0, False, watch.spent) if explain else None)
    cached = engine.cache.get(search, now)
    if cached is not None and now < cached.found.valid_until:
        found, stored = cached.found, cached.stored
    else:
        cached = None
        drops = engine.cache.drops
        found, stored = _search(engine, model, search, key, now, watch)
        if not model.repository.is_current():
            return None
        engine.cache.put(search, found, stored, wall_of(key), drops, now)
    words = _words(engine, search) if explain else ()
    windows = None
    if explain and search.mode != "keyword":
        windows = windows_of(model.embedder, [stored[candidate.row].content for candidate in found.candidates])
    hits = [
        _hit(engine, candidate, stored[candidate.row], words, explain, None if windows is None else windows[n])
        for n, candidate in enumerate(found.candidates)
    ]
    watch.lap("build")
    trace = SearchTrace(found.engines, found.considered, cached is not None, watch.spent) if explain else None
    results = SearchResults(hits, trace)
    chosen = None if choose is None else choose(results)
    engine.lifecycle.accesses.found(now, found.candidates, chosen)
    return results if chosen is None else SearchResults([results[at] for at in chosen], trace)


def _search(
    engine: Engine, model: Model, search: Search, key: ScopeKey, now: Micros, watch: _Watch
) -> tuple[Found, dict[int, Stored]]:
    needs_vector = search.mode != "keyword" or search.min_similarity is not None
    measured_from = now if search.as_of is None else min(now, search.as_of)
    settings = engine.settings.retrieval
    query = Query(
        mode=search.mode,
        vector=embed_query(model.embedder, search.query) if needs_vector else None,
        words=_words(engine, search),
        limit=search.limit,
        now=now,
        measured_from=measured_from,
        kinds=search.kinds,
        layers=search.layers,
        since=search.since,
        until=search.until,
        as_of=search.as_of,
        min_similarity=search.min_similarity,
        dates=ranges_of(search.query, measured_from) if settings.question_dates and search.mode != "vector" else (),
        vector_weight=settings.vector_weight,
        neighbours=settings.neighbours,
        weigh_questions=settings.weigh_questions,
        mend_typos=settings.mend_typos,
    )
    watch.lap("embed")
    attempt = 1
    while True:
        found = model.retriever.search(key, query, search.condition)
        watch.lap("search")
        stored = {item.row: item for item in engine.repository.find_rows(c.row for c in found.candidates)}
        fresh = [c for c in found.candidates if _is_current(c, stored.get(c.row), key, now)]
        watch.lap("hydrate")
        if len(fresh) == len(found.candidates) or attempt == _ATTEMPTS:
            # Records that keep changing under the search are left out rather than shown with another text's score.
            return replace(found, candidates=fresh), {c.row: stored[c.row] for c in fresh}
        model.retriever.follow()
        attempt += 1


def _is_current(candidate: Candidate, stored: Stored | None, key: ScopeKey, now: Micros) -> bool:
    """Whether the record is still what was scored. Its scope is checked once more, against the truth."""
    return (
        stored is not None
        and visible(stored, now)
        and stored.version == candidate.version
        and key.admits(stored.user, stored.agent, stored.run)
    )


def _words(engine: Engine, search: Search) -> tuple[Word, ...]:
    if search.mode == "vector":
        return ()
    settings = engine.settings.retrieval
    return words_of(search.query, stop_words=settings.stop_words, similar_words=settings.similar_words)


def _hit(
    engine: Engine, candidate: Candidate, stored: Stored, words: tuple[Word, ...], explain: bool, windows: int | None
) -> SearchHit:
    details = None
    if explain:
        present = set(terms(stored.content))
        parts = candidate.parts
        details = HitDetails(
            candidate.vector,
            candidate.keyword,
            candidate.recency,
            candidate.importance,
            candidate.rating,
            tuple(word.term for word in words if word.term in present),
            windows,
            exact=parts.exact if parts else 0.0,
            similar=parts.similar if parts else 0.0,
            context=parts.context if parts else 0.0,
            date=parts.date if parts else None,
            telling=parts.telling if parts else 1.0,
            similar_terms=tuple(dict.fromkeys(term for word in words for term, _ in word.similar if term in present)),
        )
    return SearchHit(candidate.score, candidate.similarity, engine.record(stored), details)
