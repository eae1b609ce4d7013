"""Scopes held in memory: one arena per wall, loaded when it is first searched, kept up to date by the feed.

Following the feed only notes which rows changed behind which wall; an arena takes them up when it is next searched.
Least recently used arenas make room for others.

A wall that holds too many records for an exact arena gets one of codes (``largearena``), which is built in the
background: until then whoever searches is told that there is none, or goes on with the exact one that has grown.

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
from agentmem.retrieval.building import Builder, Building
from agentmem.retrieval.largearena import LargeArena
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
_LONG_BACKLOG = 200_000
"""The same where an arena of codes is held."""
MB = 1_048_576


@dataclass(slots=True)
class _Resident:
    """A wall's arena with its lock, and the rows that changed since it was last brought up to date.

    ``too_large``: no exact arena can hold the wall. ``building`` is that of an arena of codes, ``missed`` the rows that
    changed since it began, None where none is being built. ``unclean``: something that is in the arena was erased.
    """

    lock: Lock = field(default_factory=RLock)
    arena: Arena | None = None
    dirty: set[int] = field(default_factory=set[int])
    nbytes: int = 0
    large: bool = False
    too_large: bool = False
    building: Building | None = None
    missed: set[int] | None = None
    unclean: bool = False


@dataclass(slots=True)
class _Held:
    """Every resident, least recently used first, and the bytes of exact arenas and of those of codes."""

    by_wall: OrderedDict[Wall, _Resident] = field(default_factory=OrderedDict[Wall, _Resident])
    exact: int = 0
    large: int = 0

    def account(self, resident: _Resident, nbytes: int, large: bool) -> None:
        """Take note of what an arena holds."""
        self.exact += (0 if large else nbytes) - (0 if resident.large else resident.nbytes)
        self.large += (nbytes if large else 0) - (resident.nbytes if resident.large else 0)
        resident.nbytes, resident.large = nbytes, large

    def drop_oldest(self, large: bool, budget: int, used: Wall) -> None:
        """Drop the least recently used arenas of a kind, but not the one in use, until they fit into a budget."""
        if (self.large if large else self.exact) <= budget:
            return
        for wall in list(self.by_wall):
            resident = self.by_wall[wall]
            if wall != used and resident.large == large and resident.building is None:
                self.account(self.by_wall.pop(wall), 0, large)
            if (self.large if large else self.exact) <= budget:
                return


class Residents(FeedCopy):
    """The arenas of one store. Safe to call from many threads."""

    def __init__(
        self, records: Records, *, dim: int, limit: int, budget_mb: int, builder: Builder | None = None
    ) -> None:
        """``limit``: records behind a wall up to which it is held exactly; ``budget_mb``: memory for such arenas
        together. Larger walls are held as codes by a ``builder``, else not at all."""
        self.changed = Event[[frozenset[Wall] | None]]()
        """Records behind these walls have changed; None: anybody's. Told before a search can see it."""
        self._records = records
        self._dim = dim
        self._limit = limit
        self._budget = budget_mb * MB
        self._budget_mb = budget_mb
        self._builder = builder
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
            if seq - before > (_LONG_BACKLOG if self._held.large else BACKLOG):
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
        for _, row, user, agent, run, space, _ in events:
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
                    if resident.missed is not None:
                        resident.missed.add(row)
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
                if arena is not None and arena.versions() != self._versions(wall) and not resident.dirty:
                    problems.append(f"{self.name}: {wall} does not hold what the store holds")
        return problems

    @override
    def reset(self) -> None:
        """Drop every arena; they are loaded again when they are needed, as of then."""
        with self._feed:
            self._drop_all()

    def forget(self) -> None:
        """Have what was erased leave the memory."""
        self.catch_up()
        with self._feed:
            held = list(self._held.by_wall.items())
            self.changed(None)
        for wall, resident in held:
            resident.unclean = True
            if held_here(resident.lock):
                continue  # this thread is in the middle of using it, and whoever uses it next sees to it
            with resident.lock:
                if isinstance(resident.arena, LargeArena):
                    self._current(wall, resident)
                else:
                    resident.arena = None

    def remove_files(self) -> None:
        """Remove what was kept for the next start, since it is from before something was erased."""
        if self._builder is not None:
            self._builder.forget()
        for resident in self._every():
            resident.unclean = True

    def close(self) -> None:
        """Begin nothing more in the background, and stop what was begun."""
        if self._builder is not None:
            self._builder.close()

    def abandon(self) -> None:
        """The same, and wait for nothing: nobody begins another search here."""
        if self._builder is not None:
            self._builder.stop()

    def _versions(self, wall: Wall) -> dict[int, int]:
        """The version of each live record behind a wall, by row number."""
        found, after = dict[int, int](), 0
        key = wall.key(self._records)
        if key is None:
            return found
        while rows := self._records.versions(key, after, READ):
            found.update(rows)
            after = rows[-1][0]
        return found

    def _drop_all(self) -> None:
        # New ones, so that whoever is in the middle of the old ones goes on with those.
        old, self._held = self._held, _Held()
        for resident in old.by_wall.values():
            if resident.building is not None:
                resident.building.stop()
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
            arena = self._current(wall, resident)
            try:
                return None if arena is None else call(arena)
            except BaseException:
                resident.arena = None  # it may have been putting itself in order
                raise

    def usage(self) -> dict[str, int]:
        """Exact arenas in memory, the records in them and their bytes."""
        return self._usage(large=False)

    def usage_of_large(self) -> dict[str, int]:
        """The same of arenas of codes, the bytes that they may take, and how many are being built."""
        building = [resident.building for resident in self._every()]
        return {
            **self._usage(large=True),
            "budget": 0 if self._builder is None else self._builder.budget,
            "building": sum(one is not None and not one.done for one in building),
        }

    def _usage(self, *, large: bool) -> dict[str, int]:
        arenas = [
            resident.arena
            for resident in self._every()
            if resident.arena is not None and isinstance(resident.arena, LargeArena) == large
        ]
        return {
            "arenas": len(arenas),
            "records": sum(len(arena) for arena in arenas),
            "bytes": sum(arena.nbytes for arena in arenas),
        }

    def _every(self) -> list[_Resident]:
        with self._feed:
            return list(self._held.by_wall.values())

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
            self._take_built(resident)
            if not resident.too_large and (resident.arena is None or resident.arena.wasteful):
                # Changes noted while loading are applied again below: that is harmless, missing one would not be.
                resident.arena = self._load(wall)
                resident.too_large = resident.arena is None
            if resident.too_large and resident.arena is None:
                self._build(wall, resident)
                self._take_built(resident)
            seq, dirty = self._changes(resident)
            if resident.arena is not None:
                self._apply(resident.arena, dirty)
                self._keep_in_shape(wall, resident, resident.arena, seq)
        except BaseException:
            resident.arena = None  # changes are missing, or half made
            raise
        self._keep_within_budget(wall, resident)
        return resident.arena

    def _changes(self, resident: _Resident) -> tuple[int, set[int]]:
        """The rows that are known to have changed by now, and the event up to which that is so."""
        with self._feed:
            dirty, resident.dirty = resident.dirty, set[int]()
            return self.applied_seq(), dirty

    def _apply(self, arena: Arena, dirty: set[int]) -> None:
        if dirty:
            entries = {entry.row: entry for entry in self._records.entries_of(dirty)}
            for row in dirty - entries.keys():
                arena.remove(row)
            for piece in self._records.whole(sorted(entries.values())):
                arena.upsert(piece)

    def _keep_in_shape(self, wall: Wall, resident: _Resident, arena: Arena, seq: int) -> None:
        """See to it that the arena is one of the kind that the wall should have."""
        unclean, resident.unclean = resident.unclean, False
        if not isinstance(arena, LargeArena):
            if arena.size > self._limit:
                resident.too_large = True
                if self._builder is None or not self._build(wall, resident):
                    resident.arena = None
        elif self._builder is not None:
            if unclean:
                arena.scrub()
            if arena.size <= self._limit // 2:
                resident.arena, resident.too_large = self._load(wall), False
            elif arena.wasteful:
                self._build(wall, resident)
            else:
                self._builder.keep(wall, arena, seq)

    def _build(self, wall: Wall, resident: _Resident) -> bool:
        """Have an arena of codes built, if that is not under way; False if there can be none."""
        if resident.building is None:
            key = None if self._builder is None else wall.key(self._records)
            if self._builder is None or key is None:
                return False
            with self._feed:
                resident.missed = set[int]()  # from here on changes are noted for it
            resident.building = self._builder.begin(wall, key)
            if resident.building is None:
                resident.missed = None
                return False
        if resident.arena is None:
            resident.building.wait()
        return True

    def _take_built(self, resident: _Resident) -> None:
        """Go on with the arena of codes that was being built, if it is done."""
        building = resident.building
        if building is None or not building.done:
            return
        resident.building, arena = None, building.result()
        with self._feed:
            missed, resident.missed = resident.missed, None
            if arena is not None:
                resident.dirty |= missed or set()
        if arena is not None:
            resident.arena, resident.too_large = arena, True

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
        """Account for what this arena holds now; if all of its kind hold too much, drop the least recently used."""
        nbytes, large = 0 if resident.arena is None else resident.arena.nbytes, isinstance(resident.arena, LargeArena)
        with self._feed:
            held = self._held
            if held.by_wall.get(wall) is not resident:
                return  # dropped meanwhile, and gone once this search is done
            held.account(resident, nbytes, large)
            budgets = ((False, self._budget), (True, 0 if self._builder is None else self._builder.budget))
            for kind, budget in budgets:
                held.drop_oldest(kind, budget, wall)
