"""Large scopes that are not in memory: LanceDB, the keyword index, and what those have yet to receive propose.

So are scopes searched that are being read into memory, that would take more of it than they may, and all large ones
where the settings say so. Proposals are scored from the records themselves, by the one function. Where filters leave
too few of them, the scope is scanned.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from agentmem.indexes.feed import follow
from agentmem.indexes.keywords import KeywordIndex, Statistics
from agentmem.indexes.nearest import nearest_records
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.corpus import Corpus
from agentmem.retrieval.query import Candidate, Found, Query, Search
from agentmem.retrieval.reading import READ
from agentmem.retrieval.walls import wall_of
from agentmem.stores.connection import Value
from agentmem.stores.records import UNEXPIRED, WINDOW, Records
from agentmem.stores.rows import ScopeKey
from agentmem.types.clock import Micros
from agentmem.types.errors import ReadOnlyError, StoreError
from agentmem.types.ports import Entry, Mask, VectorIndex

KEYWORD_PATIENCE = 0.5
"""Seconds for which a search helps the keyword index along. After a bulk load it may be further behind: what it has not
seen by then is scored from the records, and the trace says so."""
_ROUNDING = 1e-5
"""How far LanceDB's similarities may be from the ones that are computed here."""
BEST = 20
"""Proposals by words whose neighbours are proposed as well."""
FINALISTS = 100
"""Proposals that are scored with their neighbours: the best without them, 5 for each hit that is wanted if that is
more. Each costs reading and taking apart the texts around it."""
SCANNED = 5_000
"""Filtered rows up to which all are scored at once: half a second."""
MOST = 100_000
"""Proposals beyond which the scope is scanned instead."""

Near: TypeAlias = Callable[[Query, Statistics | None], list[Candidate] | None]

log = logging.getLogger("agentmem")


class _Proposed(NamedTuple):
    """Rows to score; ``complete`` if no other row of the scope could be a hit.

    ``for_neighbours`` are those that were proposed because of the words around them.
    """

    rows: set[int]
    engines: tuple[str, ...]
    complete: bool
    for_neighbours: set[int]


class LargeScopes:
    """Searches one store's large scopes. Safe to call from many threads."""

    def __init__(self, records: Records, vectors: VectorIndex, keywords: KeywordIndex, dim: int) -> None:
        self._records = records
        self._vectors = vectors
        self._keywords = keywords
        self._dim = dim
        self._stuck = False

    def search(self, query: Query, seq: int, near: Near | None = None) -> Found:
        """The best candidates of the query's scope as of the event ``seq``.

        ``near`` searches what of the scope is at hand, and has a say whatever the others propose.
        """
        if query.lexical:
            self._help_keywords(seq)
        statistics = self._statistics(query, seq)
        restricted = query.search.restricted
        where, params = conditions(query)
        if restricted:
            rows = list(self.matching(query))
            if len(rows) <= SCANNED:
                return self._scan_rows(rows, query, statistics)
            query = query.among(np.array(rows, np.int64))
        wanted = max(200, 10 * query.limit)
        for _ in range(2):
            proposed = self._propose(query, statistics, wanted, seq)
            if len(proposed.rows) > MOST:
                break  # derived stores are far behind
            scored = _Best(self._records, query, statistics, self._dim)
            scored.add(self._records.entries_of(proposed.rows, where, params), proposed.for_neighbours)
            if near is not None:
                scored.add_best(near(scored.alone, statistics) or [])
            found = scored.found(proposed.engines, len(proposed.rows))
            if len(found.candidates) >= query.limit or (proposed.complete and not restricted):
                return found
            wanted *= 20
        return self._scan(query, where, params, statistics)

    def scan(self, query: Query, seq: int) -> Found:
        """The same as ``search``, without LanceDB and without writing anything: every record is scored."""
        return self._scan(query, *conditions(query), self._statistics(query, seq))

    def matching(self, query: Query) -> Iterator[int]:
        """Rows that the caller's filters allow, in windows so that no single statement takes long."""
        where, params = conditions(query)
        for low, high in self._records.windows(*query.scope.where()):
            yield from self._records.rows_between(where, params, low, high)

    def _help_keywords(self, seq: int) -> None:
        deadline = time.monotonic() + KEYWORD_PATIENCE
        try:
            follow(self._keywords, self._records, seq, lambda: time.monotonic() < deadline)
            self._stuck = False
        except ReadOnlyError:
            pass  # so is the index, and others bring it up to date
        except StoreError as exc:
            # Where nothing can be written, because the disk is full, words propose from what is indexed so far.
            if not self._stuck:  # said once: the next search meets the same
                log.warning("the keyword index could not be brought up to date by a search: %s", exc)
            self._stuck = True

    def _statistics(self, query: Query, seq: int) -> Statistics | None:
        if not query.lexical:
            return None
        return query.statistics or self._own_statistics(query, seq)

    def corpus(self, query: Query, seq: int) -> Corpus:
        """What the query's words weigh in its scope."""
        self._help_keywords(seq)
        found = self._own_statistics(query, seq)
        length = round(found.mean_length * found.documents)
        return Corpus(found.documents, length, tuple(sorted(found.containing.items())), found.similar)

    def _own_statistics(self, query: Query, seq: int) -> Statistics:
        behind = self._keywords.applied_seq() < seq
        key = wall_of(query.scope).key(self._records)
        found = self._keywords.statistics(query.scope if key is None else key, query.words)
        if not behind:
            return found
        # A word that the index has not seen yet is taken for a rare one.
        containing = {word: count or 1 for word, count in found.containing.items()}
        return replace(found, documents=max(found.documents, *containing.values(), 1), containing=containing)

    def _propose(self, query: Query, statistics: Statistics | None, wanted: int, seq: int) -> _Proposed:
        rows, engines, complete, for_neighbours = set[int](), list[str](), True, set[int]()
        scope, floor, beyond = query.scope, query.search.min_similarity, False
        if query.vector is not None:
            owners = scope.owners
            owner = owners[0] if owners is not None and len(owners) == 1 else owners
            mask = Mask(owner, scope.agent, scope.run, query.rows)
            near, exhausted = nearest_records(self._vectors, query.vector, wanted, mask)
            if near.applied:
                rows.update(near.rows.tolist())
                engines.append("lance")
                last = None if exhausted else float(near.similarities[-1])
                beyond = last is not None and (floor is None or last >= floor - _ROUNDING)
            tail = set(self._changed_after(near.applied, scope))
            rows |= tail
            engines += ["tail"] * bool(tail)
            # Proposals come in order of similarity: once they fall below a similarity floor, nothing else passes it.
            complete = exhausted or (floor is not None and not beyond)
        if statistics is not None:
            indexed = self._keywords.applied_seq()
            matched, every = self._keywords.propose(scope, statistics.containing, wanted)
            rows.update(matched)
            # What an index that cannot keep up has not seen yet is scored as well.
            rows.update(self._changed_after(indexed, scope))
            if query.neighbours:
                # A turn may be the answer because of what was said before it.
                best = self._records.entries_of(matched[:BEST])
                for_neighbours = {row for entry in best if entry.run for row in self._records.neighbours(entry, 1)}
                rows |= for_neighbours
            current = indexed >= seq
            engines.append("keywords" if current else "keywords (catching up)")
            # What has no vector is found by its words alone, and by no floor.
            complete = complete and current and (every or floor is not None)
        return _Proposed(rows, tuple(engines), complete, for_neighbours)

    def _changed_after(self, seq: int, scope: ScopeKey) -> Iterator[int]:
        while events := self._records.events_after(seq, READ):
            for event in events:
                numbers = event.user, event.agent, event.run, event.space
                if event.row and not event.touch and scope.admits(*numbers):
                    yield event.row
            seq = events[-1].seq

    def _scan(self, query: Query, where: str, params: tuple[Value, ...], statistics: Statistics | None) -> Found:
        """Score every record of the scope, however many; the answer where proposals were not enough."""
        scored, considered = _Best(self._records, query, statistics, self._dim), 0
        for low, high in self._records.windows(*query.scope.where()):
            entries = self._records.entries(f"{where} AND r.row <= ?", (*params, high), low, WINDOW)
            considered += len(entries)
            scored.add(entries)
        return scored.found(("scan",), considered)

    def _scan_rows(self, rows: list[int], query: Query, statistics: Statistics | None) -> Found:
        scored = _Best(self._records, query, statistics, self._dim)
        for start in range(0, len(rows), WINDOW):
            scored.add(self._records.entries_of(rows[start : start + WINDOW]))
        return scored.found(("scan",), len(rows))


class _Best:
    """The best of records that are scored a part at a time: first each alone, then the best of them in context."""

    def __init__(self, records: Records, query: Query, statistics: Statistics | None, dim: int) -> None:
        self._records = records
        self._query = query
        self._statistics = statistics
        self._dim = dim
        self._entries = dict[int, Entry]()
        self._best = list[Candidate]()
        self._for_neighbours = set[int]()

    @property
    def alone(self) -> Query:
        """What is asked of each record by itself."""
        return self._query.each_alone(max(FINALISTS, 5 * self._query.limit))

    def add_best(self, candidates: list[Candidate]) -> None:
        """Consider what was found of ``alone``, the best of some records by somebody who has them at hand."""
        known = {candidate.row for candidate in self._best}
        new = {candidate.row for candidate in candidates} - known
        entries = self._records.entries_of(new)
        self.add(entries)

    def add(self, entries: list[Entry], for_neighbours: Iterable[int] = ()) -> None:
        """Consider records; those that are ``for_neighbours`` are scored in context whatever they are alone."""
        alone = self.alone
        for piece in self._records.whole(entries):
            arena = Arena(self._dim)
            arena.upsert(piece)
            best = sorted(self._best + arena.search(alone, self._statistics), key=lambda c: (-c.score, c.id))
            self._best = best[: alone.limit]
        self._for_neighbours.update(for_neighbours)
        kept = {candidate.row for candidate in self._best} | self._for_neighbours
        self._entries.update((entry.row, entry) for entry in entries)
        self._entries = {row: entry for row, entry in self._entries.items() if row in kept}

    def found(self, engines: tuple[str, ...], considered: int) -> Found:
        """The best of all that was considered."""
        query, entries = self._query, list(self._entries.values())
        most = max(query.neighbours, 1 if query.weigh_questions else 0)
        arena = Arena(self._dim)
        if query.lexical and most:
            around = {row for entry in entries if entry.run for row in self._records.neighbours(entry, most)}
            context = self._records.entries_of(around - self._entries.keys())
            query = query.among(np.array([entry.row for entry in entries], np.int64))
            entries = sorted([*entries, *context], key=lambda entry: entry.row)
        for piece in self._records.whole(entries):
            arena.upsert(piece)
        return Found(arena.search(query, self._statistics), engines, considered, arena.next_expiry(query.now))


def conditions(query: Query) -> tuple[str, tuple[Value, ...]]:
    """Everything that limits the records of a query, as a condition on ``records r``."""
    sql, scope_params = query.scope.where()
    terms, params = restrictions(query.search, query.now)
    return " AND ".join([sql, *terms]), (*scope_params, *params)


def restrictions(search: Search, now: Micros) -> tuple[list[str], list[Value]]:
    """The same without the scope: conditions that all have to hold, and what they bind."""
    terms, params = [UNEXPIRED], list[Value]([now])
    for column, labels in (("kind", search.kinds), ("layer", search.layers)):
        if labels is not None:
            terms.append(f"r.{column} IN ({','.join('?' * len(labels))})")
            params += labels
    for test, value in (
        ("coalesce(r.occurred_at, r.created_at) >= ?", search.since),
        ("coalesce(r.occurred_at, r.created_at) < ?", search.until),
        ("r.created_at <= ?", search.as_of),
    ):
        if value is not None:
            terms.append(test)
            params.append(value)
    if search.condition is not None:
        terms.append(f"({search.condition.sql})")
        params += search.condition.params
    return terms, params
