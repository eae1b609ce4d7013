"""One search from the caller's arguments to the caller's results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import TYPE_CHECKING

import numpy as np

from agentmem.embedding import windows_of
from agentmem.embedding.batcher import embed_query
from agentmem.engine.engine import Engine, Model
from agentmem.engine.metering import SEARCH, metered
from agentmem.retrieval.batch import SIZE, Batch
from agentmem.retrieval.corpus import Corpus
from agentmem.retrieval.query import Candidate, Found, Query, Search
from agentmem.retrieval.querycache import Cached
from agentmem.retrieval.walls import wall_of
from agentmem.stores import archived, documents, evidence
from agentmem.stores.archived import Body
from agentmem.stores.records import public
from agentmem.stores.rows import AwayError, ScopeKey, Stored, kept, not_found, visible
from agentmem.stores.schema import ARCHIVED
from agentmem.text.dates import end_of_day, ranges_of
from agentmem.text.question import Word, words_of
from agentmem.text.terms import terms
from agentmem.types.clock import Micros
from agentmem.types.errors import InvalidInputError, ModelMismatchError, NotFoundError, StoreError
from agentmem.types.once import once
from agentmem.types.records import HitDetails, SearchHit, SearchResults, SearchTrace

if TYPE_CHECKING:
    from agentmem.types.ports import Embedder, Vector

_ATTEMPTS = 3
TOGETHER = SIZE
"""Searches of one call whose vectors are compared together."""
_PART = 64
"""Records that are scored at once where archives are searched, however few may be held exactly."""

Choose = Callable[[SearchResults, Sequence[Stored]], list[int] | None]
"""Which of the hits are of use, as positions, given the hits and their rows; None if that cannot be told from them."""


class Together:
    """The queries of several searches of one scope, whose vectors are compared together."""

    def __init__(self, queries: Sequence[str]) -> None:
        self._queries = queries
        self._embedder: Embedder | None = None
        self._first = 0

    def take(self, embedder: Embedder, number: int) -> tuple[Vector, Batch]:
        """The vector of a query, by its place among them, and all that is compared with it: it is its turn."""
        if self._embedder is not embedder:
            vectors = np.array([embed_query(embedder, query) for query in self._queries[number:]], np.float32)
            self._embedder, self._first, self._vectors, self._batch = embedder, number, vectors, Batch(vectors)
        self._batch.at(number - self._first)
        return self._vectors[number - self._first], self._batch


@dataclass(slots=True)
class _Watch:
    """Milliseconds per stage."""

    spent: dict[str, float] = field(default_factory=dict[str, float])
    _at: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + (now - self._at) * 1_000
        self._at = now


@metered(SEARCH)
def search(
    engine: Engine,
    request: Search,
    *,
    explain: bool,
    touch: bool = True,
    choose: Choose | None = None,
    data: bool = True,
    together: tuple[Together, int] | None = None,
) -> SearchResults:
    """Search; see ``Memory.search``. With ``data``, hits have theirs.

    It may be one of several, ``together``: those, and its place among them.

    With ``choose``, only the hits at the positions that it returns count as found and come back; with None, none do.

    A search on top of another one of the same thread, in a signal handler say, finds the same, and shares with that
    neither arenas nor caches nor LanceDB, which may be in the middle of something.
    """
    engine.check_process()
    engine.lifecycle.check()
    searching, thread = engine.searching, get_ident()
    if thread in searching:
        return _search(engine, request, explain, choose, data, touch, None, apart=True)
    try:
        searching.add(thread)
        return _search(engine, request, explain, choose, data, touch, together, apart=False)
    finally:
        searching.discard(thread)


def _search(
    engine: Engine, request: Search, explain: bool, choose: Choose | None, data: bool, touch: bool,
    together: tuple[Together, int] | None, *, apart: bool,
) -> SearchResults:  # fmt: skip
    watch = _Watch()
    while True:
        model = engine.model.apart() if apart else engine.model
        try:
            results = _Searching(engine, model, request, watch, together).run(explain, choose, data, touch)
        except (ModelMismatchError, StoreError):
            if model.records.is_current():
                raise
        else:
            if results is not None:
                return results
        # The store may have moved to another model under this search, whose vectors may have been half removed.
        engine.check_model()


def corpus(engine: Engine, request: Search) -> Corpus:
    """What the words of a search weigh in its scope, for a search of several stores by the same weights."""
    engine.check_process()
    while True:
        model = engine.model.apart()
        try:
            return _corpus(engine, model, request)
        except (ModelMismatchError, StoreError):
            if model.records.is_current():
                raise
        engine.check_model()


def _corpus(engine: Engine, model: Model, request: Search) -> Corpus:
    model.retriever.residents.catch_up()
    key = model.records.scope_key(request.scope)
    if key is None or request.mode == "vector":
        return Corpus()
    return model.retriever.corpus(_Searching(engine, model, replace(request, vector=None), _Watch(), None).words(key))


def warm_up(engine: Engine) -> None:
    """Load the model. Raises ``EmbeddingError`` if that fails, as the first search would."""
    embed_query(engine.embedder, "warm up")


class _Searching:
    """One search with one model, at one reading of the clock."""

    def __init__(
        self, engine: Engine, model: Model, request: Search, watch: _Watch, together: tuple[Together, int] | None
    ) -> None:
        self._engine = engine
        self._model = model
        self._request = request
        self._watch = watch
        self._together = together
        self._now = engine.now()

    def run(self, explain: bool, choose: Choose | None, data: bool, touch: bool) -> SearchResults | None:
        """The results; None if it has to begin again."""
        engine, request, watch, cache = self._engine, self._request, self._watch, self._model.cache
        self._model.retriever.residents.catch_up()
        key = self._model.records.scope_key(request.scope)
        watch.lap("follow")
        if key is None:
            return SearchResults([], SearchTrace((), 0, False, watch.spent) if explain else None)
        # The wall belongs to it: a user who was erased and came back lies behind another one, under the same name.
        wall = wall_of(key)
        used = archived.is_used(self._model.records.db)
        deep = request.archived and used
        cached = None if cache is None or deep else cache.get((request, wall), self._now)
        if cached is not None and self._now < cached.found.valid_until:
            found, stored = cached.found, self._with_uses(cached)
        elif deep:
            found, stored = self._search(key, deep=True)
            if not self._model.records.is_current():
                return None
        else:
            cached = None
            drops, uses = 0 if cache is None else cache.drops, engine.lifecycle.accesses.written
            found, stored = self._search(key)
            if not self._model.records.is_current():
                return None
            if cache is not None:
                cache.put((request, wall), found, stored, wall=wall, drops=drops, now=self._now, uses=uses)
        try:
            stored, bodies = self._fetched(stored) if deep else (stored, {})
            texts = self._data(stored, bodies) if data else {}
            hits = self._hits(found.candidates, stored, texts, explain)
        except (NotFoundError, AwayError):  # something went under this search: erased, archived, or changed often
            if cache is not None:
                cache.drop(None)
            return None
        watch.lap("build")
        trace = SearchTrace(found.engines, found.considered, cached is not None, watch.spent) if explain else None
        skipped = 0
        if used and not request.archived:
            from agentmem.glacier import scanning

            skipped = scanning.skipped(self._model.records, request, key, self._now)
        results = SearchResults(hits, trace, skipped)
        chosen = None
        if choose is not None:
            chosen = choose(results, [stored[candidate.row] for candidate in found.candidates]) or []
        if touch:
            engine.lifecycle.accesses.found(self._now, found.candidates, chosen, request.offset)
            positions = range(len(results)) if chosen is None else chosen
            engine.lifecycle.put_off(self._now, [stored[found.candidates[at].row] for at in positions])
        return results if chosen is None else SearchResults([results[at] for at in chosen], trace, skipped)

    def _with_uses(self, cached: Cached) -> dict[int, Stored]:
        """The rows of a cached result, with their last accesses read again if any were written down since."""
        written = self._engine.lifecycle.accesses.written
        if cached.uses != written:
            for row, at in self._model.records.last_uses(cached.stored).items():
                cached.stored[row] = cached.stored[row]._replace(used_at=at)
            cached.uses = written
        return cached.stored

    @once
    def _words(self) -> tuple[Word, ...]:
        if self._request.mode == "vector":
            return ()
        tuning = self._engine.settings.retrieval
        return words_of(self._request.query, stop_words=tuning.stop_words, similar_words=tuning.similar_words)

    def words(self, key: ScopeKey) -> Query:
        """The query by its words alone."""
        self._request = replace(self._request, mode="keyword", min_similarity=None)
        return self._query(key)

    def _query(self, key: ScopeKey) -> Query:
        request, now, tuning = self._request, self._now, self._engine.settings.retrieval
        measured_from = now if request.as_of is None else min(now, request.as_of)
        dated = tuning.question_dates and request.mode != "vector"
        vector, batch = self._vector() if request.needs_vector else (None, None)
        return Query(
            search=request,
            scope=key,
            tuning=tuning,
            vector=vector,
            batch=batch,
            words=self._words,
            dates=ranges_of(request.query, measured_from, request.zone) if dated else (),
            now=now,
            measured_from=measured_from,
            limit=request.offset + request.limit,
            hidden=self._hidden(key),
        )

    def _hidden(self, key: ScopeKey) -> list[int]:
        valid_at, as_of = self._request.valid_at, self._request.as_of
        return evidence.not_holding(self._model.records.db, key, valid_at=valid_at, as_of=as_of)

    def _vector(self) -> tuple[Vector, Batch | None]:
        given, embedder = self._request.vector, self._model.embedder
        if self._together is not None:
            several, number = self._together
            return several.take(embedder, number)
        if given is None:
            return embed_query(embedder, self._request.query), None
        found = np.frombuffer(given, np.float32)
        if len(found) != embedder.dim:
            raise InvalidInputError(
                f"vector has {len(found):,} numbers; those of this store's model, {embedder.name!r}, have "
                f"{embedder.dim:,}",
                field="vector",
            )
        return found, None

    def _fetched(self, stored: dict[int, Stored]) -> tuple[dict[int, Stored], dict[int, Body]]:
        """The rows of hits with what they say where that lies in archives, and what lies there."""
        from agentmem.glacier import bodies

        found = bodies.fetch(self._engine, [one for one in stored.values() if one.state == ARCHIVED])
        for row, one in stored.items():
            if one.state == ARCHIVED and row not in found:  # it has come back since
                raise not_found(one.id)
        whole = {row: stored[row]._replace(content=body.content) for row, body in found.items()}
        return {**stored, **whole}, found

    def _data(self, stored: dict[int, Stored], bodies: dict[int, Body]) -> dict[int, str]:
        texts = self._model.records.data_of(one for row, one in stored.items() if row not in bodies)
        for row, body in bodies.items():
            parts = [(part, text) for version, part, text in body.parts if version == stored[row].body and part >= 0]
            if (text := documents.joined(parts)) is not None:
                texts[row] = text
        return texts

    def _deep(self, query: Query) -> Found:
        """What is found where archives are searched, too."""
        from agentmem.glacier import scanning

        model, part = self._model, max(_PART, self._engine.settings.performance.arena_limit)
        return scanning.Scan(self._engine, model.records, model.embedder.dim, query, part).run()

    def _search(self, key: ScopeKey, *, deep: bool = False) -> tuple[Found, dict[int, Stored]]:
        request, query, records, retriever = self._request, self._query(key), self._model.records, self._model.retriever
        if query.hidden:
            # What took the place of these is to be there, too. What is retired after this is seen below.
            retriever.residents.catch_up()
        self._watch.lap("embed")
        attempt = 1
        while True:
            found = self._deep(query) if deep else retriever.search(query)
            self._watch.lap("search")
            stored = {item.row: item for item in records.find_rows((c.row for c in found.candidates), used=True)}
            there = kept if deep else visible
            fresh = [
                c
                for c in found.candidates
                if _is_current(c, stored.get(c.row), key, self._now, there)
                and evidence.holds(stored[c.row], request.valid_at, request.as_of)
            ]
            self._watch.lap("hydrate")
            if len(fresh) == len(found.candidates) or attempt == _ATTEMPTS:
                # Records that keep changing under the search are left out rather than shown with another text's score.
                until = found.valid_until
                if query.dates and query.measured_from == self._now:  # "yesterday" is another day tomorrow
                    until = min(until, end_of_day(self._now, query.search.zone))
                wanted = fresh[request.offset :]
                return replace(found, candidates=wanted, valid_until=until), {c.row: stored[c.row] for c in wanted}
            query = replace(query, hidden=self._hidden(key))
            retriever.residents.catch_up()
            attempt += 1

    def _hits(
        self, candidates: Sequence[Candidate], stored: dict[int, Stored], data: dict[int, str], explain: bool
    ) -> list[SearchHit]:
        records, as_used = self._model.records, self._engine.as_used
        details: Sequence[HitDetails | None] = [None] * len(candidates)
        if explain:
            found = [stored[candidate.row] for candidate in candidates]
            texts = records.texts((one.row, one.vectors, one.body) for one in found)
            windows = {} if self._request.mode == "keyword" else self._windows(candidates, found, texts)
            said = ("\n".join([one.content, *texts.get(one.row, ())]) for one in found)
            details = [
                _details(candidate, text, self._words, windows.get(candidate.row))
                for candidate, text in zip(candidates, said, strict=True)
            ]
        owners = {scope: records.owner_of(*scope) for scope in {stored[c.row].scope for c in candidates}}
        return [
            SearchHit(
                candidate.score,
                candidate.similarity,
                public(as_used(one), owners[one.scope], data.get(one.row)),
                detail,
            )
            for candidate, detail in zip(candidates, details, strict=True)
            for one in (stored[candidate.row],)
        ]

    def _windows(
        self, candidates: Sequence[Candidate], found: Sequence[Stored], texts: dict[int, list[str]]
    ) -> dict[int, int]:
        """In how many parts the model read what a hit was found by, by row; of what it read itself."""
        read = {
            one.row: texts[one.row][candidate.part or 0] if one.row in texts else one.content
            for candidate, one in zip(candidates, found, strict=True)
            if one.vectors > 0
        }
        windows = windows_of(self._model.embedder, list(read.values()))
        return {} if windows is None else dict(zip(read, windows, strict=True))


def _is_current(
    candidate: Candidate, stored: Stored | None, key: ScopeKey, now: Micros, there: Callable[[Stored, Micros], bool]
) -> bool:
    """Whether the record is still what was scored. Its scope is checked once more, against the truth."""
    return (
        stored is not None and there(stored, now) and stored.version == candidate.version and key.admits(*stored.scope)
    )


def _details(candidate: Candidate, content: str, words: tuple[Word, ...], windows: int | None) -> HitDetails:
    present, parts = set(terms(content)), candidate.parts
    return HitDetails(
        candidate.vector,
        candidate.keyword,
        candidate.recency,
        candidate.importance,
        candidate.rating,
        tuple(dict.fromkeys(term for word in words for term in _spellings(word) if term in present)),
        windows,
        exact=parts.exact if parts else 0.0,
        similar=parts.similar if parts else 0.0,
        context=parts.context if parts else 0.0,
        date=parts.date if parts else None,
        telling=parts.telling if parts else 1.0,
        similar_terms=tuple(dict.fromkeys(term for word in words for term, _ in word.similar if term in present)),
        part=candidate.part,
    )


def _spellings(word: Word) -> tuple[str, ...]:
    """The terms of a word of the question: its own, and other spellings that only some memories have."""
    return () if word.of else (word.term, *(term for term, _ in word.variants))
