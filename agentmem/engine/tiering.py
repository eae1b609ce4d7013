"""Keeps hot and warm what was of use: looks at it from time to time, and has it held as the rules say.

Nothing of this is stored but what callers placed, and nothing is lost with it: a process that opens the store fills its
tiers anew, those first that score highest.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import RLock

import numpy as np

from agentmem.lifecycle.residency import Residency, decide
from agentmem.lifecycle.rules import Rules
from agentmem.retrieval.held import BESIDE
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.walls import Wall, walls_of
from agentmem.stores import placements
from agentmem.stores.placements import Used
from agentmem.stores.records import Records
from agentmem.types.clock import Micros
from agentmem.types.errors import AgentMemError, ClosedError, ModelMismatchError, NotFoundError, StoreGoneError
from agentmem.types.forms import count_of
from agentmem.types.patience import Pace
from agentmem.types.promise import Promise, promised

_REST = 9.0
"""Beside others a look gets a tenth of the time, and so do looks that take long."""
_LAST_WAIT = 0.8
"""Seconds that closing waits for the look at hand."""
BESIDE_WORDS = 1_000
"""Bytes that a record takes beside its vectors where its whole scope has no arena."""

log = logging.getLogger("agentmem")


class Tiering:
    """The residency of one store's large scopes in this process. Thread-safe."""

    def __init__(
        self,
        rules: Rules,
        residency: Residency,
        *,
        interval: float,
        now: Callable[[], Micros],
        activity: Callable[[], object],
    ) -> None:
        """``interval``: seconds between two looks, 0: none; ``activity`` changes while others are at work."""
        self.residency = residency
        self.looks = 0
        """How often it looked, and everything was held after that as it is to be."""
        self._rules = rules
        self._interval = interval
        self._now = now
        self._activity = activity
        self._turn = RLock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung to have the thread look at once."""
        self._closing = False
        self._starting = RLock()
        self._ended: Promise[None] | None = None
        """Kept when the thread has ended; it begins when there is something to do."""

    def switch(self, records: Records, residents: Residents, dim: int) -> None:
        """Go on with another model's vectors."""
        self._records, self._residents, self._dim = records, residents, dim
        residents.enlarged.subscribe(self.wake)

    def wake(self) -> None:
        """Look soon: a large scope is there."""
        with self._starting:
            if self._ended is None and self._interval and not self._closing:
                with suppress(RuntimeError):  # the interpreter is about to end
                    self._ended = promised(self._loop)
        self._bell.put(None)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._closing = True
        self._bell.put(None)

    def close(self) -> None:
        """The same, and wait for it, but not for long."""
        self.stop()
        if self._ended is not None:
            with suppress(TimeoutError):
                self._ended.exception(_LAST_WAIT)

    def look(self) -> None:
        """Have everything held that is to be, by the use and the placements of now."""
        with self._turn:
            residents, records = self._residents, self._records
            walls = residents.walls()
            if not walls:
                return
            pace = Pace(self._activity, _REST)
            held = [residents.tiers(wall) for wall in walls]
            behind = {wall: array("q") for wall in walls} if len(walls) > 1 else {}
            found = self._found(records, walls, behind, pace)
            chosen = decide(found, self._now(), self._rules, self.residency, held)
            for wall in walls:
                tiers = chosen.only(np.array(behind[wall], np.int64)) if behind else chosen
                while not self._closing and not residents.hold(wall, tiers):
                    pace()
            self.looks += 1

    # -- inside ------------------------------------------------------------------------------------------------------

    def _found(
        self, records: Records, walls: list[Wall], rows: dict[Wall, array[int]], pace: Callable[[], object]
    ) -> Iterator[tuple[Used, int]]:
        """What may be hot or warm, with the bytes that it takes; ``rows`` learns what of it lies behind which wall."""
        large, several = set(walls), any(wall.path is not None for wall in walls)
        for part in placements.used(records.db, self._now() - self.residency.warm_idle):
            for used in part:
                path = None
                if used.space or several:
                    with suppress(NotFoundError):  # erased since, with all that lay in it
                        path = records.names.path(records.db, used.space)
                behind = [wall for wall in walls_of(used.user, used.agent, used.run, used.space, path) if wall in large]
                if behind:
                    for wall in behind if rows else ():
                        rows[wall].append(used.subject.row)
                    yield used, sum(self._size(wall, used) for wall in behind)
            pace()
            if self._closing:
                break

    def _size(self, wall: Wall, used: Used) -> int:
        """About the bytes that a record takes where it is held."""
        if self._residents.has_codes(wall):
            return 4 * self._dim + BESIDE
        return 4 * self._dim * count_of(used.vectors) + BESIDE_WORDS + used.subject.size

    def _loop(self) -> None:
        took = 0.0
        while not self._closing:
            with suppress(Empty):
                self._bell.get(timeout=max(self._interval, _REST * took))
                time.sleep(0.01)  # whoever rang is about to search
                while True:
                    self._bell.get_nowait()
            if self._closing:
                return
            begun = time.monotonic()
            try:
                self.look()
            except (ClosedError, ModelMismatchError, StoreGoneError):
                pass
            except AgentMemError as exc:
                log.warning("what is hot and what is warm could not be looked at, and will be again: %s", exc)
            except Exception:
                log.warning("what is hot and what is warm could not be looked at, and will be again", exc_info=True)
            took = time.monotonic() - begun
