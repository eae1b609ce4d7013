"""Scopes held in memory: one arena per wall, loaded when it is first searched, kept up to date by the feed.

Following the feed only notes which rows changed behind which wall; an arena takes them up when it is next searched.
Least recently used arenas make room for others.

A wall that holds too many records for an exact arena gets one of codes (``largearena``), which is built in the
background: until then whoever searches is told that there is none, or goes on with the exact one that has grown.

A signal handler may raise anywhere in here, and what it calls may come by here on top of a search: an arena that was
left in the middle of a change is dropped, and a search on top of another one has ``Residents`` of its own (``apart``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TypeVar

from typing_extensions import override

from agentmem.indexes.feed import follow
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.building import Builder
from agentmem.retrieval.fronting import Fronts
from agentmem.retrieval.largearena import LargeArena
from agentmem.retrieval.near import Near
from agentmem.retrieval.postings import lasting
from agentmem.retrieval.reading import READ, put, take_up
from agentmem.retrieval.resident import Held, Resident
from agentmem.retrieval.snapshots import Snapshots
from agentmem.retrieval.tiermap import TierMap
from agentmem.retrieval.walls import Wall, walls_of
from agentmem.stores.fresh import Fresh
from agentmem.stores.records import Records
from agentmem.stores.rows import Numbers
from agentmem.types.errors import ModelMismatchError, NotFoundError
from agentmem.types.events import Event
from agentmem.types.ports import FeedCopy, FeedEvent
from agentmem.types.reentry import held_here

T = TypeVar("T")
BACKLOG = 20_000
"""Unseen events beyond which loading arenas afresh is cheaper than bringing them up to date."""
KEPT_FROM = 5_000
"""Records from which an exact arena is kept on the disk: it takes a tenth of a second to be loaded, or more."""
_EVENTS = 2
"""For each record of an arena: with more of them since it was kept, loading it afresh is as quick."""
HOLD = 2_000
"""Vectors that are read at once to be held."""
_LONG_BACKLOG = 200_000
"""The same where an arena of codes is held."""
MB = 1_048_576


class Residents(FeedCopy):
    """The arenas of one store. Safe to call from many threads."""

    def __init__(
        self,
        records: Records,
        *,
        dim: int,
        limit: int,
        budget_mb: int,
        builder: Builder | None = None,
        snapshots: Snapshots | None = None,
        fresh: Fresh | None = None,
    ) -> None:
        """``limit``: records behind a wall up to which it is held exactly; ``budget_mb``: memory for such arenas
        together. Larger walls are held as codes by a ``builder``, else not at all. ``snapshots`` keep them on the
        disk. ``fresh`` is what this process added last."""
        self.changed = Event[[frozenset[Wall] | None]]()
        """Records behind these walls have changed; None: anybody's. Told before a search can see it."""
        self.enlarged = Event[[]]()
        """A wall is too large for an exact arena: what of it is hot or warm is to be held."""
        self._records = records
        self._dim = dim
        self._limit = limit
        self._budget = budget_mb * MB
        self._budget_mb = budget_mb
        self._builder = builder
        self._snapshots = snapshots
        self._fresh = fresh or Fresh()
        self._feed = RLock()
        self._held = Held()
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
        # Most of what comes together is of few owners.
        by_owner, altered = defaultdict[Numbers, set[int]](set[int]), set[int]()
        for _, row, user, agent, run, space, event in events:
            if row:
                by_owner[user, agent, run, space].add(row)
                if event != "ADD":
                    altered.add(row)
                if event == "ERASE":  # by another process, or the sweep
                    self._fresh.forget()
            else:
                self._records.check_generation()
        changed = set[Wall]()
        for (user, agent, run, space), rows in by_owner.items():
            try:
                path = self._records.names.path(self._records.db, space) if space or self._several else None
            except NotFoundError:  # it was erased since, with all that lay in it
                self._drop_all()
                continue
            for wall in walls_of(user, agent, run, space, path):
                changed.add(wall)
                resident = self._held.by_wall.get(wall)
                if resident is not None:
                    resident.dirty |= rows
                    resident.altered |= rows & altered
                    if resident.missed is not None:
                        resident.missed |= rows
        self._drop_outrun(changed)
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
                if resident.arena is not None and self._differs(wall, resident):
                    problems.append(f"{self.name}: {wall} does not hold what the store holds")
        return problems

    def _differs(self, wall: Wall, resident: Resident) -> bool:
        arena = self._current(wall, resident)
        if arena is None or arena.versions() == self._versions(wall):
            return False
        self.catch_up()
        # What was committed meanwhile is noted by now, or had everything dropped.
        return not resident.dirty and self._held.by_wall.get(wall) is resident

    @override
    def reset(self) -> None:
        """Drop every arena; they are loaded again when they are needed, as of then."""
        with self._feed:
            self._drop_all()

    def forget(self) -> None:
        """Have what was erased leave the memory."""
        try:
            self.catch_up()
        except ModelMismatchError:  # the store moved to another model just now: nothing of these is used again
            self.reset()
            return
        with self._feed:
            held = list(self._held.by_wall.items())
            self._fresh.forget()
            self.changed(None)
        for wall, resident in held:
            resident.unclean = True
            if held_here(resident.lock):
                continue  # this thread is in the middle of using it, and whoever uses it next sees to it
            with resident.lock:
                resident.near = None
                if isinstance(resident.arena, LargeArena):
                    self._current(wall, resident)
                else:
                    resident.arena = None

    def remove_files(self) -> bool:
        """Remove what was kept for the next start, since something was erased since; False if some of it stays."""
        gone = self._snapshots is None or self._snapshots.remove()
        for resident in self._every():
            resident.unclean = True
        return gone

    def close(self) -> None:
        """Begin nothing more in the background, and stop what was begun."""
        if self._builder is not None:
            self._builder.close()
        if self._snapshots is not None:
            self._snapshots.close()

    def abandon(self) -> None:
        """The same, and wait for nothing: nobody begins another search here."""
        if self._snapshots is not None:
            self._snapshots.stop()
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

    def _drop_outrun(self, changed: set[Wall]) -> None:
        """Drop what nobody has searched while so much changed that loading it afresh is cheaper."""
        for wall in changed:
            resident = self._held.by_wall.get(wall)
            if resident is None or len(resident.dirty) <= (_LONG_BACKLOG if resident.large else BACKLOG):
                continue
            if resident.building is None or resident.building.done:
                self._held.drop(wall)

    def _drop_all(self) -> None:
        # New ones, so that whoever is in the middle of the old ones goes on with those.
        old, self._held = self._held, Held()
        self._fresh.forget()
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

    def use_near(self, wall: Wall, call: Callable[[Arena], T]) -> T | None:
        """What ``call`` returns for the hot and warm records behind a wall without an arena; None if there are none."""
        resident = self._resident(wall)
        with resident.lock:
            near = resident.near
            try:
                return None if near is None or not len(near) else call(near)
            except BaseException:
                resident.near = None
                raise

    def walls(self) -> list[Wall]:
        """Those in use that are too large for an exact arena."""
        with self._feed:
            return [wall for wall, resident in self._held.by_wall.items() if resident.too_large]

    @property
    def fronts(self) -> Fronts | None:
        """What makes engines in front of codes."""
        return None if self._builder is None else self._builder.fronts

    def has_codes(self, wall: Wall) -> bool:
        """Whether the wall has an arena of codes, so that of what is hot or warm only a vector is held."""
        with self._feed:
            resident = self._held.by_wall.get(wall)
        return resident is not None and isinstance(resident.arena, LargeArena)

    def tiers(self, wall: Wall) -> TierMap:
        """The tier of what is hot or warm behind a wall, by row."""
        with self._feed:
            resident = self._held.by_wall.get(wall)
        arena = None if resident is None else resident.arena
        if isinstance(arena, LargeArena):
            return TierMap() if arena.held is None else arena.held.tiers
        near = None if resident is None else resident.near
        return TierMap() if near is None else near.tiers

    def hold(self, wall: Wall, tiers: TierMap) -> bool:
        """Search these records exactly, by row, and no others behind the wall; False if some are yet to come."""
        with self._feed:
            resident = self._held.by_wall.get(wall)
        if resident is None or not resident.too_large or held_here(resident.lock):
            return True
        with resident.lock:
            arena = resident.arena
            if isinstance(arena, LargeArena):
                resident.near = None
                return arena.hold(tiers, HOLD)
            if not tiers or arena is not None:
                resident.near = None
                return True
            if resident.near is None or resident.near.wasteful:
                resident.near = Near(self._dim)
            missing = resident.near.want(tiers)
            take_up(resident.near, self._records, missing[:READ].tolist())
            resident.near.seen(missing[:READ])
            return len(missing) <= READ

    def held(self) -> list[tuple[TierMap, int, list[float]]]:
        """For each wall with hot or warm records: their tiers by row, the bytes that they take, and the milliseconds
        that the last searches took there."""
        found = list[tuple[TierMap, int, list[float]]]()
        for resident in self._every():
            arena = resident.arena
            one = arena.held if isinstance(arena, LargeArena) else resident.near
            if one is not None and one.tiers:
                found.append((one.tiers, one.nbytes, list(one.spent)))
        return found

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

    def _every(self) -> list[Resident]:
        with self._feed:
            return list(self._held.by_wall.values())

    def _resident(self, wall: Wall) -> Resident:
        with self._feed:
            by_wall = self._held.by_wall
            resident = by_wall.get(wall)
            if resident is None:
                resident = by_wall[wall] = Resident()
                self._fresh.wanted = True
            by_wall.move_to_end(wall)
            return resident

    def _current(self, wall: Wall, resident: Resident) -> Arena | None:
        """The arena, loaded and up to date; None if the wall holds too many records."""
        try:
            self._take_built(resident)
            if not resident.too_large and (resident.arena is None or resident.arena.wasteful):
                # Changes noted while loading are applied again below: that is harmless, missing one would not be.
                resident.arena = self._load(wall)
                resident.too_large = resident.arena is None
                if resident.too_large:
                    self.enlarged()
            if resident.too_large and resident.arena is None:
                self._build(wall, resident)
                self._take_built(resident)
            seq, dirty, altered = self._changes(wall, resident)
            if resident.arena is not None:
                self._take_fresh(resident.arena, dirty, altered)
                take_up(resident.arena, self._records, dirty)
                self._keep_in_shape(wall, resident, resident.arena, seq)
            elif resident.near is not None:
                take_up(resident.near, self._records, dirty & resident.near.tiers.keys())
        except BaseException:
            resident.arena = resident.near = None  # changes are missing, or half made
            raise
        self._keep_within_budget(wall, resident)
        return resident.arena

    def _take_fresh(self, arena: Arena, dirty: set[int], altered: set[int]) -> None:
        """Take up what is new and need not be read; the others are left in ``dirty``."""
        new = sorted(dirty - altered)
        for start in range(0, len(new), READ):
            entries = self._fresh.take(new[start : start + READ], self._records.generation)
            put(arena, self._records, entries)
            dirty.difference_update([entry.row for entry in entries])

    def _changes(self, wall: Wall, resident: Resident) -> tuple[int | None, set[int], set[int]]:
        """The event up to which all is known, the rows that have changed by then, and which of them are not new.

        None, if the wall's arena was dropped while it was waited for: what came since was not noted for it.
        """
        with self._feed:
            dirty, resident.dirty = resident.dirty, set[int]()
            altered, resident.altered = resident.altered, set[int]()
            noted = self._held.by_wall.get(wall) is resident
            return self.applied_seq() if noted else None, dirty, altered

    def _keep_in_shape(self, wall: Wall, resident: Resident, arena: Arena, seq: int | None) -> None:
        """See to it that the arena is one of the kind that the wall should have, and that it is kept on the disk."""
        unclean, resident.unclean = resident.unclean, False
        if unclean and resident.building is not None:
            resident.building.unclean = True  # it may have been read before
        if not isinstance(arena, LargeArena):
            if arena.size > self._limit:
                resident.too_large = True
                if self._builder is None or not self._build(wall, resident):
                    resident.arena = None
            elif self._snapshots is not None and len(arena) >= KEPT_FROM and seq is not None:
                self._snapshots.keep(wall, arena, seq)
        elif self._builder is not None:
            if unclean:
                arena.scrub()
            if arena.size <= self._limit // 2:
                resident.arena, resident.too_large = self._load(wall), False
            elif arena.wasteful:
                self._build(wall, resident)
            elif seq is not None:
                self._builder.keep(wall, arena, seq)

    def _build(self, wall: Wall, resident: Resident) -> bool:
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

    def _take_built(self, resident: Resident) -> None:
        """Go on with the arena of codes that was being built, if it is done."""
        building = resident.building
        if building is None or not building.done:
            return
        resident.building, arena = None, building.result()
        with self._feed:
            missed, resident.missed = resident.missed, None
            if arena is not None:
                resident.dirty |= missed or set()
                resident.altered |= missed or set()
        if arena is not None:
            resident.arena, resident.too_large, resident.near = arena, True, None
            resident.unclean |= building.unclean
            self.enlarged()

    def _load(self, wall: Wall) -> Arena | None:
        key = wall.key(self._records)
        if key is None:
            return Arena(self._dim)
        where, params = key.where()
        expected = self._records.count(where, params, self._limit + 1)
        if expected > self._limit:
            return None
        kept = self._snapshots if expected >= KEPT_FROM else None
        if kept is not None and (arena := self._restored(wall, kept, expected)) is not None:
            return arena
        arena, seq = Arena(self._dim, hash if kept is None else lasting, expected), self._records.last_seq()
        after = 0
        while entries := self._records.entries(where, params, after, READ):
            for piece in self._records.whole(entries):
                arena.upsert(piece)
                if arena.size > self._limit:
                    return None
            after = entries[-1].row
            if len(entries) < READ:
                break
        if kept is not None:
            kept.save(wall, arena, seq)
        return arena

    def _restored(self, wall: Wall, kept: Snapshots, expected: int) -> Arena | None:
        """The arena as it was kept, with what has changed since."""
        arena = Arena(self._dim, lasting)
        found = kept.load(wall, arena, _EVENTS * expected)
        if found is None:
            return None
        rows = list(found | arena.fill(self._records.vectors_of))
        for row in rows:
            arena.remove(row)  # it may be there in the same version, which is taken for the same
        take_up(arena, self._records, rows)
        return None if arena.wasteful else arena  # else it would be restored for each search

    def _keep_within_budget(self, wall: Wall, resident: Resident) -> None:
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
