"""The background side of the lifecycle in one process: writes accesses down, sweeps from time to time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import RLock
from typing import Any, TypeVar

from agentmem.lifecycle.accesses import Accesses
from agentmem.lifecycle.learning import Learner
from agentmem.lifecycle.pressure import HIGH
from agentmem.lifecycle.rules import MB, Rules
from agentmem.lifecycle.sweep import Sweep
from agentmem.stores import accounting, erasure, transitions, upkeep
from agentmem.stores.commit import GroupCommit, Task, Write
from agentmem.stores.locks import FileLock
from agentmem.stores.log import truncate_wal
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.errors import CapacityError, ClosedError, ModelMismatchError, StoreError, StoreGoneError
from agentmem.types.events import Event
from agentmem.types.patience import Pace
from agentmem.types.promise import Service
from agentmem.types.reentry import held_here
from agentmem.types.reports import SweepReport

T = TypeVar("T")
FLUSH_S = 0.7
"""Seconds for which accesses wait to be written down: with the writing itself, less than one."""
_REST = 4.0
"""Between two batches of a sweep, others get this many times the time that the batch took, if there are others."""
_SHORT_REST = 2.0
"""The same between two batches of accesses, which are not to wait for long."""

log = logging.getLogger("agentmem")


class Stopped(Exception):
    """A background sweep ends early, because the store is being closed; what it has done stays done."""


class LifecycleWorker:
    """One store's lifecycle in this process. Thread-safe."""

    def __init__(
        self,
        commits: GroupCommit,
        rules: Rules,
        *,
        interval: float,
        lock: FileLock,
        now: Callable[[], Micros],
        scorer: str = "formula",
    ) -> None:
        """``interval``: seconds between two sweeps in the background, 0: none; ``lock``: held during one of those;
        ``scorer``: the setting."""
        self.rules = rules
        self.learner = Learner(rules, scorer)
        self.accesses = Accesses(rules.similar, self.learner.used)
        self.errors = 0
        self.last_error: str | None = None
        self._commits = commits
        self._interval = interval
        self._lock = lock
        self._now = now
        self._writing = RLock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung to have the thread end at once."""
        self._crowded = False
        self._estimate = dict[str, int]()
        self.freeze: Callable[[Sequence[int], Callable[[], object]], int] | None = None
        """Called in each sweep with the rows that are to be archived instead of expiring, and what comes between two
        batches; how many were. Of a layer above, where there is a place for archives."""
        self.erased = Event[[]]()
        """A sweep has erased what can no longer be restored."""
        self.beat = Event[[]]()
        """A moment has passed, or a sweep begins."""
        self.held_up = Event[[]]()
        """Something that was erased has to leave the keyword index before the rest of it can go."""
        self._emptied = 0
        """How often names had been removed when the write-ahead log was last emptied here: until then it has the new
        pages, and the database file the old ones, whoever removed them, and even if he was killed right after."""
        self._closing = False
        self._thread = Service(self._loop, "agentmem-lifecycle")

    def switch(self, records: Records, dim: int) -> None:
        """Go on with another model; called once before ``start``."""
        self._records = records
        self.vector_bytes = 4 * dim
        self.learner.load(records)

    def start(self) -> None:
        """Begin the background work."""
        self._count(self._records)
        self._thread.start()

    def stop(self) -> None:
        """Ask a background sweep to end after the batch at hand."""
        self._closing = True
        self._bell.put(None)

    def close(self, patience: float | None = None) -> None:
        """Stop, and write down what was noted; wait no longer than ``patience`` seconds for whoever does that now."""
        self.stop()
        with suppress(TimeoutError):
            self._thread.ended.result(patience)
        try:
            self.write_down(patience=patience)
            self.learner.write_down(self._write, at_last=True)
        except StoreGoneError:
            pass  # there is nowhere to write it, and everybody has been told
        except Exception as exc:
            log.warning("the last accesses could not be written down: %s", exc)
        self._lock.close()

    def grown(self, repository: Repository, layer: str, count: int, size: int) -> None:
        """A layer has grown, inside a transaction: refuse that if the layer is full and evicts nothing.

        Goes by an estimate, which costs an add nothing, and counts only where that comes near the limit.
        """
        self._estimate[layer] = total = self._estimate.get(layer, 0) + size + count * self.vector_bytes
        limit = self.rules.limit[layer]
        if total <= HIGH * limit:
            return
        if self.rules.policy[layer] != "never":
            self._crowded = True
            return
        self._count(repository)
        total = self._estimate[layer]
        if total > limit:
            raise CapacityError(
                f"the layer {layer} is full: its limit is {limit / MB:g} MB, with this it would hold "
                f"{total / MB:.2f} MB; delete some of its memories, or raise layers.{layer}.max_size_mb"
            )

    def repeated(self, repository: Repository, found: Sequence[Stored], now: Micros) -> None:
        """Records were added again, inside a transaction: where their layer has a time to live, it begins anew."""
        reviewed = [one for one in found if self.rules.ttl[one.layer] and not one.pinned]
        transitions.renew_all(repository.db, reviewed, now)

    def put_off(self, now: Micros, found: Iterable[Stored]) -> None:
        """Records were read: the end of those that slide is put off, here and now where it is near."""
        if near := self.accesses.put_off(now, found):
            self._renew(near)

    def check(self) -> None:
        """Before anything is read: what the clock has passed before its new end was written down gets that."""
        if self.accesses.overdue(self._now):
            self._renew(None)

    def begun(self, repository: Repository) -> None:
        """The same before anything is written, inside the transaction."""
        if self.accesses.overdue(self._now):
            self.accesses.renew(repository)

    def _renew(self, rows: Iterable[int] | None) -> None:
        # A read does not fail for this: it stays noted, and the thread that writes down tells of what fails.
        with suppress(StoreError):
            self._write(lambda repository: self.accesses.renew(repository, rows), 1)

    def write_down(self, pause: Callable[[], object] = lambda: None, patience: float | None = None) -> None:
        """Write down what was used until now; not on top of this, where it is being done."""
        if held_here(self._writing):
            return
        try:
            if self._writing.acquire(timeout=-1 if patience is None else patience):
                self.accesses.write_down(self._write, pause)
        finally:
            if held_here(self._writing):
                self._writing.release()

    def _settle(self, pause: Callable[[], object]) -> None:
        """Count and queue what was added."""
        if accounting.settled(self._records.db) < self._records.last_row():
            while self._write(_settle, accounting.SETTLE):
                pause()
        self._count(self._records)

    def _count(self, records: Records) -> None:
        for layer, (count, used, _) in accounting.sizes(records.db).items():
            self._estimate[layer] = used + count * self.vector_bytes

    def _purge(self, pause: Callable[[], object]) -> None:
        """Remove what is left of erased records whose time is over."""
        if erasure.is_due(self._records.db, self._now()):
            purged = upkeep.purge(self._commits, self._now, pause, background=True)
            if purged.indexed:
                self.held_up()
            if purged.rows:
                upkeep.give_space_back(self._commits, upkeep.shrink, lambda: self._closing)
        removals = self._records.removals()
        if removals != self._emptied and self._commits.submit(Task(truncate_wal), background=True).result():
            self._emptied = removals

    def sweep(self, now: Micros | None = None, *, dry_run: bool = False) -> SweepReport:
        """Sweep at ``now``, by default the clock's; see ``Memory.lifecycle``."""
        pause = Pace(self._activity, _REST)
        self.write_down()
        self._settle(pause)
        return self._sweep(self._now() if now is None else now, dry_run, pause)

    def _sweep(self, now: Micros, dry_run: bool, pause: Callable[[], object]) -> SweepReport:
        freeze = self.freeze
        self.beat()
        self.learner.load(self._records)
        sweep = Sweep(
            self._records,
            self._write,
            self.rules,
            now=now,
            vector_bytes=self.vector_bytes,
            dry_run=dry_run,
            pause=pause,
            freeze=None if freeze is None else lambda rows: freeze(rows, pause),
            over=self.learner.expired,
        )
        report = sweep.run()
        if not dry_run:
            self.learner.write_down(self._write)
            self.learner.train(self._records, self._write, now)
        if report.erased and not dry_run:
            self.erased()
        return report

    # -- inside ------------------------------------------------------------------------------------------------------

    def _write(self, run: Callable[[Repository], T], rows: int) -> T:
        return self._commits.submit(Write(run, rows), background=True).result()

    def _activity(self) -> Any:
        """Changes whenever somebody else searches or writes."""
        return self.accesses.searches, self._commits.requests

    def _pausing(self, rest: float) -> Callable[[], None]:
        """What comes between two batches in the background."""
        pace = Pace(self._activity, rest)

        def pause() -> None:
            if self._closing:
                raise Stopped
            pace()

        return pause

    def _loop(self) -> None:
        swept_at = time.monotonic()
        while not self._closing:
            with suppress(Empty):
                self._bell.get(timeout=FLUSH_S)
            if self._closing:
                return
            try:
                self._commits.watch()
                self.write_down(self._pausing(_SHORT_REST))
                self.learner.write_down(self._write)
                self.beat()
                pause = self._pausing(_REST)
                self._settle(pause)
                self._purge(pause)
                late = self._interval and time.monotonic() - swept_at >= self._interval
                if (late or self._crowded) and self._lock.try_acquire():
                    with self._lock:
                        self._crowded = False
                        self._sweep(self._now(), False, pause)
                    swept_at = time.monotonic()
                self.last_error = None
            except (Stopped, ClosedError):
                return
            except ModelMismatchError as exc:
                self.last_error = f"{type(exc).__name__}: {exc}"
                return
            except StoreGoneError as exc:
                if self.last_error is None:
                    log.warning("%s", exc)
                self.last_error = f"{type(exc).__name__}: {exc}"
            except Exception as exc:
                # Whatever it is: without this thread nothing would be promoted or expire any more.
                self.errors += 1
                self.last_error = f"{type(exc).__name__}: {exc}"
                swept_at = time.monotonic()
                log.warning("the lifecycle's background work failed and will be tried again: %s", exc)


def _settle(repository: Repository) -> bool:
    return accounting.settle(repository.db, repository.last_row(), accounting.SETTLE)
