"""Searching what lies in archives together with what is here: exactly, as if all of it were here.

Every record behind the wall is scored by the one function, archived ones as they were fetched.
Up to ``performance.arena_limit`` of them are one arena, as they are where nothing is archived. More are scored a part
at a time: first the words' statistics are counted, which are those of the whole wall; then each part is scored with the
turns around it. So memory is bounded whatever the number, and what a part finds depends on no other part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agentmem.engine.engine import Engine
from agentmem.glacier.bodies import fetch
from agentmem.glacier.returning import embeddings_of
from agentmem.indexes.keywords import Statistics
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.large import restrictions
from agentmem.retrieval.query import NEVER, Candidate, Found, Query, Search
from agentmem.retrieval.walls import wall_of
from agentmem.stores import archived, bodies
from agentmem.stores.archived import Body
from agentmem.stores.connection import Value
from agentmem.stores.records import LIVE_ONLY, OWNER, WINDOW, Records
from agentmem.stores.rows import ScopeKey
from agentmem.stores.schema import ARCHIVED, LIVE
from agentmem.text.terms import terms_and_length
from agentmem.types.clock import Micros
from agentmem.types.forms import OF_CONTENT
from agentmem.types.ports import Entry

if TYPE_CHECKING:
    from agentmem.types.ports import Ints

ENGINE = "archives"
_THERE = f"r.state IN ({LIVE}, {ARCHIVED})"
_TEXT = "r.content"
COUNTED = 10_000
"""Records that a search counts which it passes over: with no filters a fraction of a millisecond."""


class _Rows(NamedTuple):
    """Records behind a wall in an order in which the turns of a run follow one another: rows, and which run each is
    in (0: none)."""

    rows: Ints
    run: Ints


class Scan:
    """One search of what is behind a wall, archived or not."""

    def __init__(self, engine: Engine, records: Records, dim: int, query: Query, part: int) -> None:
        """``part``: records that are scored at once."""
        self._engine, self._records, self._dim, self._part = engine, records, dim, part
        self._query = query

    def run(self) -> Found:
        """The best candidates of the query's scope. Raises ``ArchiveError`` and below for what cannot be read."""
        query = self._query
        every = self._behind()
        if not len(every.rows):
            return Found([], (ENGINE,), 0)
        if query.search.condition is not None or not query.lexical:
            query = query.among(np.array(sorted(self._allowed()), np.int64))
            if not query.lexical:  # words have no say, so that whatever may not be found need not be read
                every = _among(every, query.rows)
        if len(every.rows) <= self._part:
            arena = self._arena(np.sort(every.rows))
            return Found(arena.search(query), (ENGINE,), len(arena), arena.next_expiry(query.now))
        return self._in_parts(query, every)

    def _in_parts(self, query: Query, every: _Rows) -> Found:
        statistics = self._statistics(every) if query.lexical else None
        most = max(query.neighbours, 1 if query.weigh_questions else 0) if query.lexical else 0
        best, until = list[Candidate](), NEVER
        edges = [*range(0, len(every.rows), self._part), len(every.rows)]
        for low, high in pairwise(edges):
            own = every.rows[low:high]
            arena = self._arena(np.sort(every.rows[slice(*_around(every, low, high, most))]))
            chosen = own if query.rows is None else np.intersect1d(own, query.rows)
            best = sorted(best + arena.search(query.among(chosen), statistics), key=lambda c: (-c.score, c.id))
            best, until = best[: query.limit], min(until, arena.next_expiry(query.now))
        return Found(best, (ENGINE,), len(every.rows), until)

    # -- which records -------------------------------------------------------------------------------------------------

    def _behind(self) -> _Rows:
        """All that is behind the wall."""
        key = wall_of(self._query.scope).key(self._records)
        if key is None:
            return _Rows(np.empty(0, np.int64), np.empty(0, np.int64))
        rows, owners = list[int](), list[tuple[int, int, int]]()
        for where, params in (key.where(), archived.condition(key)):
            sql = f"SELECT r.row, {OWNER}, r.agent, r.run FROM records r WHERE {where} AND r.row > ? AND r.row <= ?"
            for low, high in self._records.windows(where, params):
                for row, *owner in self._records.db.execute(sql, (*params, low, high)):
                    rows.append(row)
                    owners.append((owner[0], owner[1], owner[2]))
        of = np.array(owners, np.int64).reshape(-1, 3)
        order = np.lexsort((np.array(rows, np.int64), of[:, 2], of[:, 1], of[:, 0]))
        of = of[order]
        begins = np.concatenate([[True], np.any(of[1:] != of[:-1], axis=1)]) if len(of) else np.empty(0, np.bool_)
        run = np.where(of[:, 2] == 0, 0, np.cumsum(begins))
        return _Rows(np.array(rows, np.int64)[order], run)

    def _allowed(self) -> Iterator[int]:
        """Rows that the query's filters allow."""
        query, records = self._query, self._records
        where, params = restrictions(query.search, query.now)
        for scope, bound in (query.scope.where(), archived.condition(query.scope)):
            tests = " AND ".join([scope, *where])
            for low, high in records.windows(scope, bound):
                if _TEXT in tests and scope.startswith(f"r.state = {ARCHIVED}"):
                    some = records.rows_between(scope, bound, low, high)
                    yield from self._allowed_by_text(" AND ".join(where), params, some)
                else:
                    yield from records.rows_between(tests, (*bound, *params), low, high)

    def _allowed_by_text(self, where: str, params: Sequence[Value], rows: Sequence[int]) -> Iterator[int]:
        """The same of archived records where a filter looks at the text, which is not in their rows."""
        for found in self._fetched(rows):
            yield from self._records.passing_with({body.row: body.content for body in found}, where, params)

    # -- what they say -------------------------------------------------------------------------------------------------

    def _arena(self, rows: Ints) -> Arena:
        arena = Arena(self._dim)
        for entries in self._entries(rows):
            arena.upsert(entries)
        return arena

    def _entries(self, rows: Ints) -> Iterator[list[Entry]]:
        """The records as arenas take them, by row."""
        for start in range(0, len(rows), WINDOW):
            part = rows[start : start + WINDOW].tolist()
            away = archived.places(self._records.db, part)
            there = sorted(self._records.entries_of(part, _THERE))
            yield from self._whole(there, away)

    def _whole(self, entries: list[Entry], away: dict[int, str]) -> Iterator[list[Entry]]:
        fetched = {body.row: body for found in self._fetched(list(away)) for body in found}
        made = dict(zip(fetched, embeddings_of(self._engine, fetched.values()), strict=True))
        # What has come back since is here again.
        back = self._records.entries_of([row for row in away if row not in fetched], LIVE_ONLY)
        whole = self._records.whole([*(entry for entry in entries if entry.row not in away), *back])
        here = {entry.row: entry for some in whole for entry in some}
        yield [
            here[entry.row] if entry.row in here else _of_body(entry, fetched[entry.row], *made[entry.row])
            for entry in entries
            if entry.row in here or entry.row in fetched
        ]

    def _fetched(self, rows: Sequence[int]) -> Iterator[list[Body]]:
        """What lies in archives of these records, without the data that they have."""
        for start in range(0, len(rows), WINDOW):
            stubs = list(self._records.find_rows(rows[start : start + WINDOW]))
            found = fetch(self._engine, stubs).values()
            yield [body._replace(parts=tuple(each for each in body.parts if each[1] == bodies.TEXTS)) for body in found]

    # -- statistics ----------------------------------------------------------------------------------------------------

    def _statistics(self, every: _Rows) -> Statistics:
        """Those of the whole wall."""
        words = self._query.words
        containing, similar, documents, length = dict.fromkeys((word.term for word in words), 0), set[str](), 0, 0
        also = {word.term: {term for term, _ in (*word.variants, *word.similar)} for word in words}
        for entries in self._entries(np.sort(every.rows)):
            for entry in entries:
                found, count = terms_and_length(entry.words)
                present = set(found)
                documents, length = documents + 1, length + count
                for term, others in also.items():
                    containing[term] += term in present
                    if not others.isdisjoint(present):
                        similar.add(term)
        return Statistics(documents, length / documents if documents else 0.0, containing, frozenset(similar))


def _among(every: _Rows, rows: Ints | None) -> _Rows:
    inside = np.isin(every.rows, () if rows is None else rows)
    return _Rows(every.rows[inside], every.run[inside])


def _around(every: _Rows, low: int, high: int, most: int) -> tuple[int, int]:
    """A part of the records with the turns before the first and after the last, as far as they are of the same run."""
    first, last = low, high
    while first > 0 and low - first < most and every.run[low] and every.run[first - 1] == every.run[low]:
        first -= 1
    end = every.run[high - 1]
    while last < len(every.rows) and last - high < most and end and every.run[last] == end:
        last += 1
    return first, last


def _of_body(entry: Entry, body: Body, code: int, vectors: bytes) -> Entry:
    texts = list[str]()
    if code > OF_CONTENT and (parts := [part for version, _, part in body.parts if version == entry.body]):
        texts = bodies.texts_in(parts[0])
    return entry._replace(content=body.content, vector=vectors, vectors=code, said=bodies.beside(body.content, texts))


def skipped(records: Records, search: Search, scope: ScopeKey, now: Micros) -> int:
    """How many archived records a search passes over that its scope and its filters allow, counting up to ``COUNTED``;
    filters on texts, which are not looked at, aside."""
    if search.condition is not None and _TEXT in search.condition.sql:
        search = replace(search, condition=None)
    where, params = restrictions(search, now)
    # The first is that it has not expired, which nothing archived does; without it the index alone is looked at.
    return archived.count(records.db, scope, where[1:], params[1:], COUNTED)
