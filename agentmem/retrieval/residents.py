"""Scopes held in memory: one arena per wall, loaded when it is first searched, kept up to date by the feed.

Following the feed only notes which rows changed behind which wall; an arena takes them up when it is next searched.
Least recently used arenas make room for others.

A signal handler may raise anywhere in here, and what it calls may come by here on top of a search: an arena that was
left in the middle of a change is dropped, and a search on top of another one has ``Residents`` of its own (``apart``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TypeVar

from typing_extensions import override

from agentmem.indexes.feed import follow
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.walls import Wall, walls_of
from agentmem.stores.records import Records
from agentmem.types.errors import NotFoundError
from agentmem.types.events import Event
from agentmem.types.ports import FeedCopy, FeedEvent
from agentmem.types.reentry import Lock, held_here

T = TypeVar("T")
READ = 500
"""Rows per read: a few milliseconds, during which libSQL lets no other thread run."""
BACKLOG = 20_000
"""Unseen events beyond which loading arenas afresh is cheaper than bringing them up to date."""
MB = 1_048_576


@dataclass(slots=True)
class _Resident:
    """A wall's arena with its lock, and the rows that changed since it was last brought up to date."""

    lock: Lock = field(default_factory=RLock)
    arena: Arena | None = None
    dirty: set[int] = field(default_factory=set[int])
    nbytes: int = 0
    too_large: bool = False


@dataclass(slots=True)
class _Held:
    """Every resident, least recently used first, and the bytes of all arenas together."""

    by_wall: OrderedDict[Wall, _Resident] = field(default_factory=OrderedDict[Wall, _Resident])
    nbytes: int = 0


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
        self._budget_mb = budget_mb
        self._feed = RLock()
        self._held = _Held()
        self._seq: int | None = None
        self._several = False
        """Whether anybody has searched several namespaces at once, so that there may be walls around those."""

    def apart(self) -> Residents:
        """The same scopes, with nothing in memory yet, and nothing to do with these."""
        return Residents(self._records, dim=self._dim, limit=self._limit, budget_mb=self._budget_mb)

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
        if self._seq is None:
            # What came before concerns nobody: there are no arenas yet.
            self._seq = self._records.last_seq()
        return self._seq

    def catch_up(self) -> int:
        """Take note of what was committed since, here or by another process; returns the last event's number.

        Raises ``ModelMismatchError`` if the store moved to another model.
        """
        seq = self._records.newest()
        if seq == self._seq:
            return seq
        with self._feed:
            before = self.applied_seq()
            if seq - before > BACKLOG:
                self._records.check_generation()
                self._drop_all()
                self._seq = seq
            follow(self, self._records, seq)
            if self._records.purged_seq() > before:
                # Events that had yet to be read may be among those that were removed, with what they were about.
                self._drop_all()
        return seq

    @override
    def apply(self, events: Sequence[FeedEvent], after: int) -> None:
        if self._seq != after:
            return
        changed = set[Wall]()
        for _, row, user, agent, run, space in events:
            if not row:
                self._records.check_generation()
                continue
            try:
                path = self._records.names.path(self._records.db, space) if space or self._several else None
            except NotFoundError:  # it was erased since, with all that lay in it
                self._drop_all()
                continue
            for wall in walls_of(user, agent, run, space, path):
                changed.add(wall)
                resident = self._held.by_wall.get(wall)
                if resident is not None:
                    resident.dirty.add(row)
        self.changed(frozenset(changed))
        # Last: other threads take this number as proof that everything up to it has been noted.
        self._seq = events[-1].seq

    @override
    def check(self) -> list[str]:
        self.catch_up()
        with self._feed:
            residents = list(self._held.by_wall.items())
        problems = list[str]()
        for wall, resident in residents:
            if held_here(resident.lock):
                continue  # this thread is in the middle of using it
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
        # New ones, so that whoever is in the middle of the old ones goes on with those.
        self._held = _Held()
        self.changed(None)

    # -- arenas ------------------------------------------------------------------------------------------------------

    def use(self, wall: Wall, call: Callable[[Arena], T]) -> T | None:
        """What ``call`` returns for the wall's arena, which is up to date, and the caller's alone for as long.

        None, without a call, if the wall holds too many records for one.
        """
        if wall.path is not None and not self._several:
            self._several = True
            self._drop_all()  # what was noted by now was not noted for such walls
        resident = self._resident(wall)
        # Not in a context manager of ours: a signal handler that raises on the way into one would leave the lock taken.
        with resident.lock:
            arena = None if resident.too_large else self._current(wall, resident)
            try:
                return None if arena is None else call(arena)
            except BaseException:
                resident.arena = None  # it may have been putting itself in order
                raise

    def usage(self) -> dict[str, int]:
        """Arenas in memory, the records in them and their bytes."""
        with self._feed:
            arenas = [resident.arena for resident in self._held.by_wall.values() if resident.arena is not None]
        return {
            "arenas": len(arenas),
            "records": sum(len(arena) for arena in arenas),
            "bytes": sum(arena.nbytes for arena in arenas),
        }

    def _resident(self, wall: Wall) -> _Resident:
        with self._feed:
            by_wall = self._held.by_wall
            resident = by_wall.get(wall)
            if resident is None:
                resident = by_wall[wall] = _Resident()
            by_wall.move_to_end(wall)
            return resident

    def _current(self, wall: Wall, resident: _Resident) -> Arena | None:
        """The arena, loaded and up to date; None if the wall holds too many records."""
        try:
            if resident.arena is None or resident.arena.wasteful:
                # Changes noted while loading are applied again below: that is harmless, missing one would not be.
                resident.arena = self._load(wall)
            with self._feed:
                dirty, resident.dirty = resident.dirty, set[int]()
            if resident.arena is not None and dirty:
                entries = {entry.row: entry for entry in self._records.entries_of(dirty)}
                for row in dirty - entries.keys():
                    resident.arena.remove(row)
                for piece in self._records.whole(list(entries.values())):
                    resident.arena.upsert(piece)
        except BaseException:
            resident.arena = None  # changes are missing, or half made
            raise
        if resident.arena is None or resident.arena.size > self._limit:
            resident.arena, resident.too_large = None, True
        self._keep_within_budget(wall, resident)
        return resident.arena

    def _load(self, wall: Wall) -> Arena | None:
        key = wall.key(self._records)
        if key is None:
            return Arena(self._dim)
        where, params = key.where()
        if self._records.count(where, params, self._limit + 1) > self._limit:
            return None
        arena = Arena(self._dim)
        after = 0
        while entries := self._records.entries(where, params, after, READ):
            for piece in self._records.whole(entries):
                arena.upsert(piece)
                if arena.size > self._limit:
                    return None
            after = entries[-1].row
            if len(entries) < READ:
                break
        return arena

    def _keep_within_budget(self, wall: Wall, resident: _Resident) -> None:
        """Account for what this arena holds now; if all of them hold too much, drop the least recently used."""
        nbytes = 0 if resident.arena is None else resident.arena.nbytes
        with self._feed:
            held = self._held
            if held.by_wall.get(wall) is not resident:
                return  # dropped meanwhile, and gone once this search is done
            held.nbytes += nbytes - resident.nbytes
            resident.nbytes = nbytes
            while held.nbytes > self._budget and len(held.by_wall) > 1:
                oldest = next(iter(held.by_wall))
                if oldest == wall:
                    held.by_wall.move_to_end(wall)
                    continue
                held.nbytes -= held.by_wall.pop(oldest).nbytes
