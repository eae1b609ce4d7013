"""Arenas of large scopes are built in the background: from what was kept on the disk, else from the records."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Literal

from agentmem.indexes.codes import bytes_of, new_codes
from agentmem.retrieval.fronting import Fronts
from agentmem.retrieval.largearena import LargeArena
from agentmem.retrieval.reading import READ, put, take_up
from agentmem.retrieval.snapshots import Snapshots
from agentmem.retrieval.walls import Wall
from agentmem.stores.records import Records
from agentmem.stores.rows import ScopeKey
from agentmem.types.errors import ClosedError, ModelMismatchError, StoreGoneError
from agentmem.types.patience import Pace
from agentmem.types.ports import Entry
from agentmem.types.promise import Promise, keep, promised

SAMPLE = 10_000
"""Records that are coded together first: how all are coded depends on them."""
_REST = 9.0
"""Beside writers a build gets a tenth of the time: it takes the interpreter's lock from them."""
_RECORD_S = 2.5e-5
"""About the seconds that a record takes to be read and coded."""
_HEAD_START = 2.0
"""Seconds that a search has on the disk before what it did not wait for is read: both want the interpreter's lock, and
the search would take several times as long beside it."""
_RECORD_BYTES = 250
"""About what a record takes beside its code: columns, links, the places of some twenty words."""
AGAIN = 60.0
"""Seconds after which what could not be built is tried again."""
_LONG = 3_600.0
"""The same where that took long to find out."""
_STEP = 0.05
"""Seconds between two looks at whether a build is still wanted."""
_LAST_WAIT = 0.8
"""Seconds that closing waits for the build at hand."""
MB = 1_048_576

log = logging.getLogger("agentmem")


class Building:
    """An arena on its way."""

    def __init__(self, patience: float) -> None:
        self._until = time.monotonic() + patience
        self._promise = Promise[LargeArena | None]()
        self._worth_it = Promise[bool]()
        self.stopped = False
        self.unclean = False
        """Whether something was erased since it began."""

    @property
    def done(self) -> bool:
        return self._promise.done()

    def wait(self) -> None:
        """Wait until it is done, or patience has come to its end: that is counted from the beginning.

        Or until it is known that it will come to its end.
        """
        with suppress(TimeoutError):
            if self._worth_it.result(max(0.0, self._until - time.monotonic())):
                self._promise.exception(max(0.0, self._until - time.monotonic()))

    def begins(self, seconds: float) -> None:
        """Say how long it is going to take; returns when it may begin: those who do not wait for it search first."""
        worth_it = time.monotonic() + seconds < self._until
        self._worth_it.set_result(worth_it)
        until = time.monotonic() + _HEAD_START
        while not worth_it and not self.stopped and time.monotonic() < until:
            time.sleep(_STEP)

    def result(self) -> LargeArena | None:
        """The arena; None where it was stopped. Raises what went wrong."""
        return self._promise.plain_result(0)

    def stop(self) -> None:
        """Nobody wants it any more."""
        self.stopped = True

    def run(self, build: Callable[[], LargeArena | None]) -> None:
        """Keep the promise."""
        keep(self._promise, build)
        if not self._worth_it.done():
            self._worth_it.set_result(True)

    def end(self) -> None:
        """Wait for its thread, but not for long."""
        with suppress(TimeoutError):
            self._promise.exception(_LAST_WAIT)


class Builder:
    """Builds the arenas of one store and one model, one at a time. Safe to use from many threads."""

    def __init__(
        self,
        records: Records,
        coded: Literal["rabitq", "int8"],
        dim: int,
        *,
        budget_mb: float,
        wait_s: float,
        snapshots: Snapshots,
        activity: Callable[[], object],
        fronts: Fronts | None = None,
    ) -> None:
        """``wait_s``: how long a search waits; ``activity`` changes while others write; ``fronts`` makes what stands in
        front of codes."""
        self.fronts = fronts
        self.budget = round(budget_mb * MB)
        self._records = records
        self._coded: Literal["rabitq", "int8"] = coded
        self._dim = dim
        self._wait = wait_s
        self._snapshots = snapshots
        self._activity = activity
        self._turn = Lock()
        self._closing = False
        self._begun = list[Building]()
        self._refused = dict[Wall, float]()
        """Walls that are not built, and until when they are not tried again."""

    def begin(self, wall: Wall, key: ScopeKey) -> Building | None:
        """Build the arena of a wall; None if it would take more memory than it may, or could not be built just now."""
        if self._closing or self._refused.get(wall, 0) > time.monotonic():
            return None
        where, params = key.where()
        expected = self._records.count(where, params, self.budget // self._needed(1) + 1)
        if self._needed(expected) > self.budget:
            self._refuse(wall, expected - 1, AGAIN)
            return None
        building = Building(self._wait)
        self._begun.append(building)
        promised(lambda: self._run(wall, key, building, expected))
        return building

    def keep(self, wall: Wall, arena: LargeArena, seq: int) -> None:
        """Keep the arena for the next start if much has changed since; it has everything up to the event ``seq``.

        And have something made that stands in front of its codes, if there is to be.
        """
        if self.fronts is not None and not self._closing:
            self.fronts.see_to(arena.codes, len(arena), arena.rows)
        self._snapshots.keep(wall, arena, seq)

    def _needed(self, records: int, further: int = 0) -> int:
        """About the bytes that so many records take, and so many vectors that they have after their first."""
        return records * (_RECORD_BYTES + bytes_of(self._coded, self._dim)) + further * (4 * self._dim + 8)

    def _refuse(self, wall: Wall, records: int, seconds: float) -> None:
        log.warning(
            "a scope of more than %d records is searched on the disk: its codes would take more than "
            "performance.large_budget_mb = %d", records, self.budget // MB,
        )  # fmt: skip
        self._refused[wall] = time.monotonic() + seconds

    @property
    def refused(self) -> bool:
        """Whether a wall was too large for the budget."""
        return bool(self._refused)

    def stop(self) -> None:
        """Begin nothing more, and have what was begun stop."""
        self._closing = True
        if self.fronts is not None:
            self.fronts.stop()
        for building in list(self._begun):
            building.stop()

    def close(self) -> None:
        """The same, and wait for it, but not for long."""
        self.stop()
        for building in list(self._begun):
            building.end()

    # -- on a thread of its own --------------------------------------------------------------------------------------

    def _run(self, wall: Wall, key: ScopeKey, building: Building, expected: int) -> None:
        building.run(lambda: self._build(wall, key, building, expected))
        self._begun.remove(building)  # it has the arena

    def _build(self, wall: Wall, key: ScopeKey, building: Building, expected: int) -> LargeArena | None:
        try:
            with self._turn:
                arena = self._restored(wall, building)
            if arena is not None:
                return arena
            building.begins(expected * _RECORD_S)  # not in its turn: others that were kept are there at once
            with self._turn:
                return self._loaded(wall, key, building, expected)
        except (ClosedError, ModelMismatchError, StoreGoneError):
            return None
        except Exception:
            self._refused[wall] = time.monotonic() + AGAIN
            log.warning("the arena of a large scope could not be built; it is searched on the disk", exc_info=True)
            return None

    def _restored(self, wall: Wall, building: Building) -> LargeArena | None:
        """The arena as it was kept, with what has changed since."""
        arena = self._new(wall)
        found = self._snapshots.load(wall, arena)
        if found is None:
            return None
        rows = list(found)
        for start in range(0, len(rows), READ):
            if building.stopped:
                return None
            take_up(arena, self._records, rows[start : start + READ])
        if arena.wasteful:  # it would be restored again and again
            return None
        arena.settle()
        return arena

    def _loaded(self, wall: Wall, key: ScopeKey, building: Building, expected: int) -> LargeArena | None:
        arena, seq = self._new(wall, expected), self._records.last_seq()
        where, params = key.where()
        pace, after, sample = Pace(self._activity, _REST), 0, list[Entry]()
        while entries := self._records.entries(where, params, after, READ):
            if building.stopped:
                return None
            after = entries[-1].row
            sample += entries
            if arena.slots or len(sample) >= SAMPLE:
                put(arena, self._records, sample)
                sample = []
                arena.settle()
            if self._needed(len(arena), arena.size - len(arena)) > self.budget:
                self._refuse(wall, len(arena), _LONG)
                return None
            pace()
        put(arena, self._records, sample)
        arena.settle()
        self._snapshots.save(wall, arena, seq)
        return arena

    def _new(self, wall: Wall, expected: int = 0) -> LargeArena:
        codes = new_codes(self._coded, self._dim, self._pauses)
        if self.fronts is not None:
            codes = self.fronts.before(codes)
        return LargeArena(self._dim, codes, self._records, lambda: wall.key(self._records), expected)

    def _pauses(self) -> Callable[[], bool]:
        """For what is coded in the background, once the arena is there."""
        pace = Pace(self._activity, _REST)

        def go_on() -> bool:
            pace()
            return not self._closing

        return go_on
