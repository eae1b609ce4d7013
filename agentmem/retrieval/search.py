"""From a query to scored candidates, following the feed so that every committed change is seen.

Scopes up to ``arena_limit`` records are searched exactly in memory (``arena``). Larger ones get proposals from LanceDB,
from the keyword index and from whatever those have yet to receive; proposals are scored from the records themselves,
and where filters leave too few of them, the scope is scanned exactly.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agentmem.filters.sqlite import CompiledFilter
from agentmem.indexes import keywords
from agentmem.indexes.lance import went_back
from agentmem.retrieval.arena import NEVER, Arena, Candidate, Query
from agentmem.retrieval.matching import Statistics
from agentmem.retrieval.walls import Wall, wall_of, walls_of
from agentmem.settings import Settings
from agentmem.stores.connection import Value
from agentmem.stores.repository import UNEXPIRED, WINDOW, Repository
from agentmem.stores.rows import ScopeKey
from agentmem.text import similar
from agentmem.types.clock import Micros
from agentmem.types.errors import StoreCorruptError, StoreError
from agentmem.types.ports import Entry

if TYPE_CHECKING:
    from agentmem.indexes.lance import LanceIndex
    from agentmem.types.ports import Vector

READ = 500
"""Rows per read: a few milliseconds, during which libSQL lets no other thread run."""
BACKLOG = 20_000
"""Unseen events beyond which loading arenas afresh is cheaper than bringing them up to date."""
KEYWORD_PATIENCE = 0.5
"""Seconds for which a search helps the keyword index along. After a bulk load it may be further behind: what it has not
seen by then is scored from the records, and the trace says so."""
_ROUNDING = 1e-5
"""How far LanceDB's similarities may be from the ones that are computed here."""
BEST = 20
"""Proposals by words beside which others are proposed."""
FINALISTS = 100
"""Proposals that are scored with their neighbours: the best without them, 5 for each hit that is wanted if that is
more. Each costs reading and taking apart the texts around it."""
EXACT_ROWS = 100_000
"""Filtered rows up to which a large scope is scanned exactly at once."""


@dataclass(slots=True)
class _Hall:
    """A wall's arena with its lock and the rows that changed since it was last brought up to date."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    arena: Arena | None = None
    dirty: set[int] = field(default_factory=set[int])
    nbytes: int = 0
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates, best first, with the engines that proposed them and the number of records they were chosen from."""

    candidates: list[Candidate]
    engines: tuple[str, ...]
    considered: int
    valid_until: Micros = NEVER
    """The next instant at which a record expires that had a say in this."""


class _Proposed(NamedTuple):
    """Rows to score; ``complete`` if no other row of the scope could be a hit.

    ``spoken_for`` are those that were proposed for the words beside them.
    """

    rows: set[int]
    engines: tuple[str, ...]
    complete: bool
    spoken_for: set[int]


class Retriever:
    """Searches one store. Safe to call from many threads."""

    def __init__(
        self,
        repository: Repository,
        lance: LanceIndex,
        settings: Settings,
        dim: int,
        on_change: Callable[[Iterable[Wall] | None], None],
        index_keywords: Callable[[float], bool],
        on_damage: Callable[[], None],
    ) -> None:
        """``on_change`` hears whose records changed (None: anybody's); ``index_keywords`` tries to catch up."""
        self._repository = repository
        self._lance = lance
        self._settings = settings.performance
        self._dim = dim
        self._on_change = on_change
        self._on_damage = on_damage
        self._index_keywords = index_keywords
        self._feed = threading.Lock()
        self._halls: OrderedDict[Wall, _Hall] = OrderedDict()
        self._held = 0
        self._seq = repository.last_seq()
        self._lance_intact = False
        if settings.retrieval.similar_words or settings.retrieval.mend_typos:
            similar.load()

    def follow(self) -> int:
        """Take note of what was committed since, here or by another process; returns the last event's number."""
        seq = self._repository.last_seq()
        if seq == self._seq:
            return seq
        with self._feed:
            if seq - self._seq > BACKLOG:
                self._repository.check_generation()
                self._drop_all()
                self._seq = seq
            while self._seq < seq:
                self._note_changes()
        return seq

    def _note_changes(self) -> None:
        changed = set[Wall]()
        events = self._repository.events_after(self._seq, READ)
        for _, row, user, agent, run in events:
            if not row:
                self._repository.check_generation()
                continue
            for wall in walls_of(user, agent, run):
                changed.add(wall)
                hall = self._halls.get(wall)
                if hall is not None:
                    hall.dirty.add(row)
        self._on_change(changed)
        # Last: other threads take this number as proof that everything up to it has been noted.
        self._seq = events[-1][0]

    def search(self, scope: ScopeKey, query: Query, condition: CompiledFilter | None) -> Found:
        """The best candidates of a scope; call ``follow`` first. ``condition`` is the caller's metadata filter."""
        wall = wall_of(scope)
        query = replace(query, agent=scope.agent, run=scope.run)
        hall = self._hall(wall)
        with hall.lock:
            arena = None if hall.too_large else self._current(wall, hall)
            if arena is not None:
                if condition is not None:
                    matching = np.fromiter(self._matching(scope, query, condition), np.int64)
                    query = replace(query, rows=matching)
                return Found(arena.search(query), ("arena",), len(arena), arena.next_expiry(query.now))
        return self._search_large(scope, query, condition)

    def forget_all(self) -> None:
        """Drop every arena and cached result; they are loaded again when they are needed."""
        with self._feed:
            self._drop_all()

    def differences(self) -> list[str]:
        """What arenas in memory have that the store has not, or the other way round."""
        self.follow()
        with self._feed:
            halls = list(self._halls.items())
        problems = list[str]()
        for wall, hall in halls:
            with hall.lock:
                arena = None if hall.arena is None else self._current(wall, hall)
                fresh = None if arena is None else self._load(wall)
                if arena is not None and fresh is not None and arena.versions() != fresh.versions() and not hall.dirty:
                    problems.append(f"arena: {wall} does not hold what the store holds")
        return problems

    def usage(self) -> dict[str, int]:
        """Arenas in memory, the records in them and their bytes."""
        with self._feed:
            arenas = [hall.arena for hall in self._halls.values() if hall.arena is not None]
        return {
            "arenas": len(arenas),
            "records": sum(len(arena) for arena in arenas),
            "bytes": sum(arena.nbytes for arena in arenas),
        }

    # -- arenas ------------------------------------------------------------------------------------------------------

    def _hall(self, wall: Wall) -> _Hall:
        with self._feed:
            hall = self._halls.get(wall)
            if hall is None:
                hall = self._halls[wall] = _Hall()
            self._halls.move_to_end(wall)
            return hall

    def _current(self, wall: Wall, hall: _Hall) -> Arena | None:
        """The hall's arena, loaded and up to date; None if the wall holds too many records for one."""
        if hall.arena is None or hall.arena.wasteful:
            # Changes noted while loading are applied again below: that is harmless, missing one would not be.
            hall.arena = self._load(wall)
        with self._feed:
            dirty, hall.dirty = hall.dirty, set[int]()
        if hall.arena is not None and dirty:
            entries = {entry.row: entry for entry in self._repository.entries_of(dirty)}
            for row in dirty - entries.keys():
                hall.arena.remove(row)
            hall.arena.upsert(list(entries.values()))
        if hall.arena is None or len(hall.arena) > self._settings.arena_limit:
            hall.arena, hall.too_large = None, True
        self._keep_within_budget(wall, hall)
        return hall.arena

    def _load(self, wall: Wall) -> Arena | None:
        limit = self._settings.arena_limit
        where, params = wall.key().where()
        if self._repository.count(where, params, limit + 1) > limit:
            return None
        arena = Arena(self._dim)
        after = 0
        while entries := self._repository.entries(where, params, after, READ):
            arena.upsert(entries)
            after = entries[-1].row
            if len(entries) < READ:
                break
        return arena

    def _keep_within_budget(self, wall: Wall, hall: _Hall) -> None:
        """Account for what this arena holds now; if all of them hold too much, drop the least recently used."""
        nbytes = 0 if hall.arena is None else hall.arena.nbytes
        with self._feed:
            if self._halls.get(wall) is not hall:
                return  # dropped meanwhile, and gone once this search is done
            self._held += nbytes - hall.nbytes
            hall.nbytes = nbytes
            while self._held > self._settings.arena_budget_mb * 1_048_576 and len(self._halls) > 1:
                oldest = next(iter(self._halls))
                if oldest == wall:
                    self._halls.move_to_end(wall)
                    continue
                self._held -= self._halls.pop(oldest).nbytes

    def _drop_all(self) -> None:
        self._halls.clear()
        self._held = 0
        self._on_change(None)

    # -- large scopes ------------------------------------------------------------------------------------------------

    def _search_large(self, scope: ScopeKey, query: Query, condition: CompiledFilter | None) -> Found:
        if query.mode != "vector":
            # Where nothing can be written, because the disk is full, words propose from what is indexed so far.
            with suppress(StoreError):
                self._index_keywords(KEYWORD_PATIENCE)
        statistics = self._statistics(scope, query)
        restricted = condition is not None or _restricted(query)
        where, params = _where(scope, query, condition)
        if restricted:
            rows = list(islice(self._matching(scope, query, condition), EXACT_ROWS + 1))
            if len(rows) <= EXACT_ROWS:
                return self._scan_rows(rows, query, statistics)
        wanted = max(200, 10 * query.limit)
        for _ in range(2):
            proposed = self._propose(scope, query, statistics, wanted)
            if len(proposed.rows) > EXACT_ROWS:
                break  # derived stores are far behind
            scored = _Best(self._repository, query, statistics, self._dim)
            scored.add(self._repository.entries_of(proposed.rows, where, params), proposed.spoken_for)
            found = scored.found(proposed.engines, len(proposed.rows))
            if len(found.candidates) >= query.limit or (proposed.complete and not restricted):
                return found
            wanted *= 20
        return self._scan(scope, query, where, params, statistics)

    def _statistics(self, scope: ScopeKey, query: Query) -> Statistics | None:
        if query.mode == "vector":
            return None
        behind = keywords.applied_seq(self._repository) < self._seq
        found = keywords.statistics(self._repository, wall_of(scope).key(), query.words)
        if not behind:
            return found
        # A word that the index has not seen yet is taken for a rare one.
        containing = {word: count or 1 for word, count in found.containing.items()}
        return replace(found, documents=max(found.documents, *containing.values(), 1), containing=containing)

    def _propose(self, scope: ScopeKey, query: Query, statistics: Statistics | None, wanted: int) -> _Proposed:
        rows, engines, complete, spoken_for = set[int](), list[str](), True, set[int]()
        floor, beyond = query.min_similarity, False
        if query.vector is not None:
            near, similarity, applied = self._near(scope, query.vector, wanted)
            if applied:
                rows.update(near)
                engines.append("lance")
                beyond = len(near) == wanted and (floor is None or float(similarity[-1]) >= floor - _ROUNDING)
            tail = set(self._changed_after(applied, scope))
            rows |= tail
            engines += ["tail"] * bool(tail)
            # Proposals come in order of similarity: once they fall below a similarity floor, nothing else passes it.
            complete = floor is not None and not beyond
        if statistics is not None:
            indexed = keywords.applied_seq(self._repository)
            matched, every = keywords.propose(self._repository, scope, statistics.containing, wanted)
            rows.update(matched)
            # What an index that cannot keep up has not seen yet is scored as well.
            rows.update(self._changed_after(indexed, scope))
            if query.neighbours:
                # A turn may be the answer because of what was said before it.
                best = self._repository.entries_of(matched[:BEST])
                spoken_for = {row for entry in best if entry.run for row in self._repository.beside(entry, 1)}
                rows |= spoken_for
            current = indexed >= self._seq
            engines.append("keywords" if current else "keywords (catching up)")
            complete = complete and current and (every or query.vector is not None)
        return _Proposed(rows, tuple(engines), complete, spoken_for)

    def _near(self, scope: ScopeKey, vector: Vector, wanted: int) -> tuple[list[int], Vector, int]:
        """LanceDB's proposals with their similarities, and the change that it has come to.

        That is 0 if it cannot be relied on: nothing is lost then, all that it holds counts as not yet received.
        """
        nothing = list[int](), np.empty(0, np.float32), 0
        meta = self._repository.meta
        applied, noted, files = int(meta("lance_applied_seq") or 0), meta("lance_state"), meta("lance_files")
        if not applied:
            return nothing
        try:
            intact = self._lance_intact or not self._lance.damaged(json.loads(files or "{}"), noted or "")
            near, similarity = self._lance.search(vector, wanted, user=scope.user, agent=scope.agent, run=scope.run)
            went = noted is not None and went_back(noted, self._lance.state())
        except StoreError as exc:
            if isinstance(exc, StoreCorruptError):
                self._on_damage()
            return nothing
        if int(meta("lance_applied_seq") or 0) < applied:
            return nothing  # another process has begun to rebuild it under the search
        if went or (not intact and meta("lance_files") == files):
            self._on_damage()
        if went or not intact:
            return nothing
        self._lance_intact = True
        return near.tolist(), similarity, applied

    def _changed_after(self, seq: int, scope: ScopeKey) -> Iterator[int]:
        while events := self._repository.events_after(seq, READ):
            for event in events:
                if event[1] and scope.admits(*event[2:]):
                    yield event[1]
            seq = events[-1][0]

    def _scan(
        self, scope: ScopeKey, query: Query, where: str, params: tuple[Value, ...], statistics: Statistics | None
    ) -> Found:
        """Score every record of the scope, however many; the answer where proposals were not enough."""
        scored, considered = _Best(self._repository, query, statistics, self._dim), 0
        for low, high in self._repository.windows(*scope.where()):
            entries = self._repository.entries(f"{where} AND r.row <= ?", (*params, high), low, WINDOW)
            considered += len(entries)
            scored.add(entries)
        return scored.found(("scan",), considered)

    def _matching(self, scope: ScopeKey, query: Query, condition: CompiledFilter | None) -> Iterator[int]:
        """Rows that the caller's filters allow, in windows so that no single statement takes long."""
        where, params = _where(scope, query, condition)
        for low, high in self._repository.windows(*scope.where()):
            yield from self._repository.rows_between(where, params, low, high)

    def _scan_rows(self, rows: list[int], query: Query, statistics: Statistics | None) -> Found:
        scored = _Best(self._repository, query, statistics, self._dim)
        for start in range(0, len(rows), WINDOW):
            scored.add(self._repository.entries_of(rows[start : start + WINDOW]))
        return scored.found(("scan",), len(rows))


class _Best:
    """The best of records that are scored a part at a time: first each alone, then the best of them in context."""

    def __init__(self, repository: Repository, query: Query, statistics: Statistics | None, dim: int) -> None:
        self._repository = repository
        self._query = query
        self._statistics = statistics
        self._dim = dim
        self._entries = dict[int, Entry]()
        self._best = list[Candidate]()
        self._spoken_for = set[int]()

    def add(self, entries: list[Entry], spoken_for: Iterable[int] = ()) -> None:
        """Consider records; those that are ``spoken_for`` are scored in context whatever they are alone."""
        arena = Arena(self._dim)
        arena.upsert(entries)
        alone = replace(self._query, neighbours=0, weigh_questions=False, limit=max(FINALISTS, 5 * self._query.limit))
        best = sorted(self._best + arena.search(alone, self._statistics), key=lambda c: (-c.score, c.id))
        self._best = best[: alone.limit]
        self._spoken_for.update(spoken_for)
        kept = {candidate.row for candidate in self._best} | self._spoken_for
        self._entries.update((entry.row, entry) for entry in entries)
        self._entries = {row: entry for row, entry in self._entries.items() if row in kept}

    def found(self, engines: tuple[str, ...], considered: int) -> Found:
        """The best of all that was considered."""
        query, entries = self._query, list(self._entries.values())
        most = max(query.neighbours, 1 if query.weigh_questions else 0)
        arena = Arena(self._dim)
        if query.mode != "vector" and most:
            beside = {row for entry in entries if entry.run for row in self._repository.beside(entry, most)}
            context = self._repository.entries_of(beside - self._entries.keys())
            query = replace(query, rows=np.array([entry.row for entry in entries], np.int64))
            entries = sorted([*entries, *context], key=lambda entry: entry.row)
        arena.upsert(entries)
        return Found(arena.search(query, self._statistics), engines, considered, arena.next_expiry(query.now))


def _restricted(query: Query) -> bool:
    """Whether more than the scope limits the records; such searches are resolved in SQL first."""
    return any(part is not None for part in (query.kinds, query.layers, query.since, query.until, query.as_of))


def _where(scope: ScopeKey, query: Query, condition: CompiledFilter | None) -> tuple[str, tuple[Value, ...]]:
    """Everything that limits the records, as a condition on ``records r``."""
    sql, scope_params = scope.where()
    terms, params = [sql, UNEXPIRED], list[Value]([*scope_params, query.now])
    for column, labels in (("kind", query.kinds), ("layer", query.layers)):
        if labels is not None:
            terms.append(f"r.{column} IN ({','.join('?' * len(labels))})")
            params += labels
    for test, value in (
        ("coalesce(r.occurred_at, r.created_at) >= ?", query.since),
        ("coalesce(r.occurred_at, r.created_at) < ?", query.until),
        ("r.created_at <= ?", query.as_of),
    ):
        if value is not None:
            terms.append(test)
            params.append(value)
    if condition is not None:
        terms.append(f"({condition.sql})")
        params += condition.params
    return " AND ".join(terms), tuple(params)
