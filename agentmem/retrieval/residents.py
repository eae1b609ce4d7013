"""Scopes held in memory: one arena per wall, loaded when it is first searched, kept up to date by the feed.

Following the feed only notes which rows changed behind which wall; an arena takes them up when it is next searched.
Least recently used arenas make room for others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from typing_extensions import override

from agentmem.indexes.feed import follow
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.walls import Wall, walls_of
from agentmem.stores.records import Records
from agentmem.types.events import Event
from agentmem.types.ports import FeedCopy, FeedEvent

READ = 500
"""Rows per read: a few milliseconds, during which libSQL lets no other thread run."""
BACKLOG = 20_000
"""Unseen events beyond which loading arenas afresh is cheaper than bringing them up to date."""
MB = 1_048_576


@dataclass(slots=True)
class _Resident:
    """A wall's arena with its lock, and the rows that changed since it was last brought up to date."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    arena: Arena | None = None
    dirty: set[int] = field(default_factory=set[int])
    nbytes: int = 0
    too_large: bool = False


class Residents(FeedCopy):
    """The arenas of one store. Safe to call from many threads."""

    def __init__(self, records: Records, *, dim: int, limit: int, budget_mb: int) -> None:
        """``limit``: records behind a wall up to which it is held; ``budget_mb``: memory for all arenas together."""
        self.changed = Event[[frozenset[Wall] | None]]()
        """Records behind these walls have changed; None: anybody's. Told before a search can see it."""
        self._records = records
        self._dim = dim
        self._limit = limit
        self._budget = budget_mb * MB
        self._feed = threading.Lock()
        self._residents: OrderedDict[Wall, _Resident] = OrderedDict()
        self._held = 0
        self._seq = records.last_seq()

    # -- following ---------------------------------------------------------------------------------------------------

    @property
    @override
    def name(self) -> str:
        return "arena"

    @property
    @override
    def group(self) -> int:
        return READ

    @override
    def applied_seq(self) -> int:
        return self._seq

    def catch_up(self) -> int:
        """Take note of what was committed since, here or by another process; returns the last event's number.

        Raises ``ModelMismatchError`` if the store moved to another model.
        """
        seq = self._records.last_seq()
        if seq == self._seq:
            return seq
        with self._feed:
            if seq - self._seq > BACKLOG:
                self._records.check_generation()
                self._drop_all()
                self._seq = seq
            follow(self, self._records, seq)
        return seq

    @override
    def apply(self, events: Sequence[FeedEvent], after: int) -> None:
        if self._seq != after:
            return
        changed = set[Wall]()
        for _, row, user, agent, run in events:
            if not row:
                self._records.check_generation()
                continue
            for wall in walls_of(user, agent, run):
                changed.add(wall)
                resident = self._residents.get(wall)
                if resident is not None:
                    resident.dirty.add(row)
        self.changed(frozenset(changed))
        # Last: other threads take this number as proof that everything up to it has been noted.
        self._seq = events[-1].seq

    @override
    def check(self) -> list[str]:
        self.catch_up()
        with self._feed:
            residents = list(self._residents.items())
        problems = list[str]()
        for wall, resident in residents:
            with resident.lock:
                arena = None if resident.arena is None else self._current(wall, resident)
                fresh = None if arena is None else self._load(wall)
                same = arena is None or fresh is None or arena.versions() == fresh.versions()
                if not same and not resident.dirty:
                    problems.append(f"{self.name}: {wall} does not hold what the store holds")
        return problems

    @override
    def reset(self) -> None:
        """Drop every arena; they are loaded again when they are needed, as of then."""
        with self._feed:
            self._drop_all()

    def _drop_all(self) -> None:
        self._residents.clear()
        self._held = 0
        self.changed(None)

    # -- arenas ------------------------------------------------------------------------------------------------------

    @contextmanager
    def arena(self, wall: Wall) -> Generator[Arena | None]:
        """The wall's arena, up to date and held for the caller alone; None if it holds too many records for one."""
        resident = self._resident(wall)
        with resident.lock:
            yield None if resident.too_large else self._current(wall, resident)

    def usage(self) -> dict[str, int]:
        """Arenas in memory, the records in them and their bytes."""
        with self._feed:
            arenas = [resident.arena for resident in self._residents.values() if resident.arena is not None]
        return {
            "arenas": len(arenas),
            "records": sum(len(arena) for arena in arenas),
            "bytes": sum(arena.nbytes for arena in arenas),
        }

    def _resident(self, wall: Wall) -> _Resident:
        with self._feed:
            resident = self._residents.get(wall)
            if resident is None:
                resident = self._residents[wall] = _Resident()
            self._residents.move_to_end(wall)
            return resident

    def _current(self, wall: Wall, resident: _Resident) -> Arena | None:
        """The arena, loaded and up to date; None if the wall holds too many records."""
        if resident.arena is None or resident.arena.wasteful:
            # Changes noted while loading are applied again below: that is harmless, missing one would not be.
            resident.arena = self._load(wall)
        with self._feed:
            dirty, resident.dirty = resident.dirty, set[int]()
        if resident.arena is not None and dirty:
            entries = {entry.row: entry for entry in self._records.entries_of(dirty)}
            for row in dirty - entries.keys():
                resident.arena.remove(row)
            resident.arena.upsert(list(entries.values()))
        if resident.arena is None or len(resident.arena) > self._limit:
            resident.arena, resident.too_large = None, True
        self._keep_within_budget(wall, resident)
        return resident.arena

    def _load(self, wall: Wall) -> Arena | None:
        where, params = wall.key().where()
        if self._records.count(where, params, self._limit + 1) > self._limit:
            return None
        arena = Arena(self._dim)
        after = 0
        while entries := self._records.entries(where, params, after, READ):
            arena.upsert(entries)
            after = entries[-1].row
            if len(entries) < READ:
                break
        return arena

    def _keep_within_budget(self, wall: Wall, resident: _Resident) -> None:
        """Account for what this arena holds now; if all of them hold too much, drop the least recently used."""
        nbytes = 0 if resident.arena is None else resident.arena.nbytes
        with self._feed:
            if self._residents.get(wall) is not resident:
                return  # dropped meanwhile, and gone once this search is done
            self._held += nbytes - resident.nbytes
            resident.nbytes = nbytes
            while self._held > self._budget and len(self._residents) > 1:
                oldest = next(iter(self._residents))
                if oldest == wall:
                    self._residents.move_to_end(wall)
                    continue
                self._held -= self._residents.pop(oldest).nbytes
