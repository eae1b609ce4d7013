"""Keeps LanceDB, and the keyword index where one is needed, in step with the feed, in the background.

Exactly one process drains at a time, under a file lock that dies with it. It reads the *current* state of whatever
changed after the watermark, writes that to LanceDB, then moves the watermark: a crash in between only means that the
same changes are applied again. Nobody waits for it but ``flush()``; a LanceDB that fails is retried with growing
pauses, one that is damaged is rebuilt from libSQL without embedding anything again.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_not_exception_type, wait_chain, wait_fixed, wait_random

from agentmem.indexes import keywords
from agentmem.indexes.lance import TableCorruptError, loaded, went_back
from agentmem.settings import Settings
from agentmem.stores.commit import GroupCommit, Write
from agentmem.stores.locks import FileLock
from agentmem.stores.repository import Repository
from agentmem.stores.upkeep import give_space_back, remove_old_generations, shrink
from agentmem.types.errors import ModelMismatchError, StoreCorruptError, StoreError
from agentmem.types.patience import Pace

if TYPE_CHECKING:
    from agentmem.indexes.lance import LanceIndex

WATERMARK = "lance_applied_seq"
PURGE = "lance_purge"
"""Set in the transaction of an erase: LanceDB's old versions must leave the disk."""
STATE = "lance_state"
"""The table's version and row count after the last write, ``version,count``."""
FILES = "lance_files"
"""Checksums of the table's files after the last write, as JSON."""
GROUP = 2_000
"""Changes per write to LanceDB."""
OPTIMIZE_EVERY = 64
"""Writes to LanceDB after which its fragments are merged; each leaves a fragment and a version behind."""
_PAUSE = 0.05
"""Seconds without an add after which LanceDB is loaded: that takes a second or more, and single adds are up to 20 ms
slower meanwhile, since each has to wait for the interpreter's lock several times."""
_LOAD_WITHIN = 10.0
"""Seconds after which LanceDB is loaded, pause or no pause."""
_TURN = 0.2
"""Seconds that the keyword index gets before LanceDB has its turn again."""
_REST = 9.0
"""The keyword index costs about as much as the adds themselves: beside writers it gets a tenth of the time, falls
behind, and catches up when they pause. Searches that need it index a part themselves and read what is still missing."""
_PAUSES = wait_chain(wait_fixed(0), *(wait_fixed(s) + wait_random(0, s / 4) for s in (1, 2, 4, 8, 16, 32)))
"""Before each retry, in seconds; the last for all that follow. Chance keeps processes from trying in step."""
_LAST_WAIT = 0.8
"""Seconds that closing waits for the group at hand."""
_PATIENCE = 3
"""Failures after which ``flush`` no longer waits for the next attempt."""

log = logging.getLogger("agentmem")


def retrying(
    sleep: Callable[[float], None], failed: Callable[[RetryCallState], None], given_up: Callable[[], bool]
) -> Retrying:
    """Calls something until it succeeds: at once, then after 1, 2, 4, 8, 16 and again and again 32 seconds.

    What is called must stand being called again after any failure. ``failed`` hears of each; ``given_up`` ends it, and
    the last error is raised, as is a change of model, which no retry can mend.
    """
    return Retrying(
        retry=retry_if_not_exception_type((ModelMismatchError, KeyboardInterrupt, SystemExit)),
        wait=_PAUSES,
        sleep=sleep,
        after=failed,
        stop=lambda _: given_up(),
        reraise=True,
    )


class Target(NamedTuple):
    """Where vectors come from and go to; another one when the store moves to another model."""

    repository: Repository
    lance: LanceIndex
    dim: int


class Follower:
    """The drainer of one process. ``check_model`` raises if another process moved the store to another model."""

    def __init__(
        self,
        target: Target,
        commits: GroupCommit,
        lock: FileLock,
        settings: Settings,
        check_model: Callable[[], None],
    ) -> None:
        self._target = target
        self._commits = commits
        self._lock = lock
        self._settings = settings.performance
        self._check_model = check_model
        self._wake = threading.Condition()
        self._wanted = 0
        self._closing = False
        self._keywords_needed = False
        self._keywords_left = False
        self._groups = 0
        self._failing: BaseException | None = None
        self._hurry = False
        self._current_at = 0.0
        self._requests = 0
        self._load_at: float | None = None
        self._held_back = False
        self._checked = False
        self._check_wanted = False
        self._damaged = False
        self.errors = 0
        self.rebuilds = 0
        self.last_error: str | None = None
        self._thread = threading.Thread(target=self._loop, name="agentmem-follower", daemon=True)
        self._thread.start()

    @property
    def _repository(self) -> Repository:
        return self._target.repository

    def switch(self, target: Target) -> None:
        """Go on with another model's vectors; a group at hand for the old one is finished and then forgotten."""
        self._target = target

    def behind(self) -> int:
        """Changes that LanceDB has yet to receive."""
        return self._repository.last_seq() - self.applied_seq()

    def applied_seq(self) -> int:
        """The last change that LanceDB has received."""
        return int(self._repository.meta(WATERMARK) or 0)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all derived stores have what is committed now; False if that took longer than ``timeout``.

        Raises the error if that fails again and again.
        """
        target, errors = self._repository.last_seq(), self.errors
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._wake:
            self._wanted = max(self._wanted, target)
            self._check_wanted = self._hurry = True
            self._wake.notify_all()
        # The one that drains may be another process, so what counts is the watermark, not this thread's work.
        while self._unfinished(target) or self._unchecked():
            self._check_model()
            if self._closing or (deadline is not None and time.monotonic() >= deadline):
                return False
            if self._failing is not None and self.errors - errors >= _PATIENCE:
                if isinstance(self._failing, StoreCorruptError) and not isinstance(self._failing, TableCorruptError):
                    raise self._failing
                raise StoreError(f"LanceDB cannot be brought up to date: {self._failing}") from self._failing
            with self._wake:
                self._wake.wait(0.02)
        return True

    def rebuild(self) -> None:
        """Have LanceDB rebuilt from libSQL in the background."""
        self._forget()
        self.poke()

    def suspect(self) -> None:
        """Have LanceDB rebuilt: a reader found it damaged."""
        with self._wake:
            self._damaged = True
            self._wake.notify_all()

    def index_keywords(self, patience: float = math.inf, rest: float = 0) -> bool:
        """Bring the keyword index up to what is committed now; False if that took longer than ``patience`` seconds.

        Goes a group at a time, so that writers get their turn, and rests in between while there are any (``Pace``).
        """
        target = self._repository.last_seq()
        deadline = time.monotonic() + patience
        pace = Pace(lambda: self._commits.requests, rest)
        while keywords.applied_seq(self._repository) < target:
            if self._closing or time.monotonic() >= deadline:
                return False
            self._commits.submit(Write(keywords.apply_next, rows=keywords.GROUP), background=True).result()
            pace()
        return True

    def poke(self) -> None:
        """Look for work now."""
        with self._wake:
            self._wanted = self._repository.last_seq()
            self._wake.notify_all()

    def stop(self) -> None:
        """Ask the thread to stop after the group at hand, and ``flush`` to give up."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()

    def close(self) -> None:
        """Stop. What is left is drained by whoever opens the store next.

        LanceDB may be in the middle of merging a large table, or hang: then the thread keeps the lock between processes
        until that ends, and nobody waits for it.
        """
        self.stop()
        self._thread.join(_LAST_WAIT)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        self._current_at = time.monotonic()
        again = retrying(self._pause, self._failed, lambda: self._closing or self._hurry)
        try:
            while not self._closing:
                self._rest()
                self._hurry = False
                try:
                    again(self._round)
                except ModelMismatchError:
                    return
                except Exception:
                    continue  # the store is closing, or ``flush`` wants the next attempt now
                self._failing, self.last_error = None, None
        finally:
            self._lock.close()

    def _round(self) -> None:
        """Do what is due. May be repeated from the start after a failure at any point."""
        if self._closing:
            return
        self._held_back = False
        newest, started = self._repository.last_seq(), time.monotonic()
        behind, seconds = newest - self.applied_seq(), started - self._current_at
        unchecked = self._unchecked() and (self._check_wanted or seconds >= self._settings.follower_delay_s)
        if self._damaged or unchecked or self._repository.meta(PURGE) or (behind and self._due(behind, seconds)):
            self._drain()
        if self.applied_seq() >= newest and not self._unchecked():
            self._current_at = started
        self._index_keywords_if_needed()

    def _failed(self, state: RetryCallState) -> None:
        """Take note of a failure, whatever it is: without this thread nothing would follow until the next opening."""
        exc = state.outcome.exception() if state.outcome else None
        if self._closing:
            return
        self._failing = exc
        self.errors += 1
        self.last_error = f"{type(exc).__name__}: {exc}"
        log.warning("LanceDB could not be brought up to date (attempt %d): %s", state.attempt_number, exc)

    def _pause(self, seconds: float) -> None:
        """Wait before a retry; not for long if the store is closed or ``flush`` waits."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing or self._hurry, seconds)

    def _rest(self) -> None:
        """Wait for the next round."""
        with self._wake:
            if self._closing or self._hurry or self._keywords_left:
                return
            if self._wanted_now() or (self._check_wanted and self._unchecked()):
                self._wake.wait(0.005)  # whoever holds the lock may be doing the work
            elif self._held_back:
                self._wake.wait(_PAUSE)
            else:
                self._wake.wait(min(1.0, max(0.02, self._settings.follower_delay_s)))

    def _wanted_now(self) -> bool:
        return self._unfinished(self._wanted)

    def _unchecked(self) -> bool:
        """Whether there are vectors that nobody has compared with what was noted of them."""
        return not self._checked and self.applied_seq() > 0

    def _unfinished(self, target: int) -> bool:
        return (
            self._damaged
            or self.applied_seq() < target
            or bool(self._repository.meta(PURGE))
            or (self._keywords_needed and keywords.applied_seq(self._repository) < target)
        )

    def _due(self, behind: int, seconds: float) -> bool:
        if self._wanted_now():
            return True
        due = behind >= self._settings.follower_group or seconds >= self._settings.follower_delay_s
        self._held_back = due and not loaded() and self._others_add()
        return due and not self._held_back

    def _others_add(self) -> bool:
        """Whether anything was added since the last look; that is ignored in the end, or LanceDB might never load."""
        now, requests = time.monotonic(), self._commits.requests
        if self._load_at is None:
            self._load_at = now + _LOAD_WITHIN
        busy, self._requests = requests != self._requests, requests
        return busy and now < self._load_at

    def _drain(self) -> None:
        if not self._lock.try_acquire():
            return
        target = self._target
        with self._lock:
            if not target.repository.is_current():
                self._check_model()
                return
            try:
                target.lance.remove_others()
                if target.repository.old_embedding_tables():
                    remove_old_generations(self._commits)
                self._check_state(target)
                # Writers may be as fast as this thread: what they add meanwhile waits until fragments are merged.
                purge, goal = self._repository.meta(PURGE), self._repository.last_seq()
                while not self._closing and target is self._target and self.applied_seq() < goal:
                    self._drain_group(target)
                if (purge or self._groups >= OPTIMIZE_EVERY) and not self._closing:
                    self._optimize(target, purge)
            except TableCorruptError:
                self._start_afresh(target)
                raise

    def _optimize(self, target: Target, purge: int | None) -> None:
        """Merge fragments and remove old versions from the disk; with ``purge``, every trace of removed rows too.

        The database gives back what it no longer uses, if that is much, a few milliseconds at a time.
        """
        target.lance.optimize(purge=bool(purge))
        self._groups = 0

        def purged(repository: Repository) -> None:
            # An erase that came in between has set it anew.
            if purge and repository.meta(PURGE) == purge:
                repository.set_meta(PURGE, None)

        self._note(target, purged)
        give_space_back(self._commits, shrink, lambda: self._closing)

    def _check_state(self, target: Target) -> None:
        """Compare the table with what it was after the last write: a power cut can take its newest files away."""
        if self._damaged:
            raise TableCorruptError("a search could not read the vectors")
        noted = self._repository.meta(STATE)
        if not self.applied_seq():
            target.lance.reset()
        elif noted is not None and (self._checked or not self._unchanged(target)):
            found = target.lance.state()
            # A larger version belongs to a drainer that died before it noted so; its changes are applied again.
            if went_back(noted, found):
                raise TableCorruptError(f"the vectors are at {found}, not ({noted})")
            damaged = [] if self._checked else self._damaged_files(target, noted)
            if damaged:
                raise TableCorruptError(f"{len(damaged)} files of the vectors have changed, {damaged[0]} for one")
        self._checked = True

    def _unchanged(self, target: Target) -> bool:
        """Whether the table's files are those of the last write, to the byte: seen without loading LanceDB."""
        files = self._repository.meta(FILES)
        return files is not None and target.lance.checksums() == json.loads(files)

    def _damaged_files(self, target: Target, noted: str) -> list[str]:
        return target.lance.damaged(json.loads(self._repository.meta(FILES) or "{}"), noted)

    def _forget(self) -> None:
        """Have everything applied again."""
        self._commits.submit(Write(lambda repository: repository.set_meta(WATERMARK, 0)), background=True).result()

    def _start_afresh(self, target: Target) -> None:
        self.rebuilds += 1
        # In this order: a reader must not take an emptied table for a complete one.
        self._forget()
        target.lance.reset()
        self._checked, self._damaged = True, False

    def _drain_group(self, target: Target) -> None:
        """Bring one group of changes to LanceDB."""
        events = target.repository.events_after(self.applied_seq(), GROUP)
        if not events:
            raise StoreCorruptError("the newest events of the history cannot be found: the database is damaged")
        numbers = {row: (user, agent, run) for _, row, user, agent, run in events if row}
        found = target.repository.live_vectors(numbers)
        order = sorted(found)
        rows = np.array(order, np.int64)
        scopes = np.array([numbers[row] for row in order], np.int64).reshape(-1, 3)
        vectors = np.frombuffer(b"".join(found[row] for row in order), np.float32).reshape(-1, target.dim)
        gone = [row for row in numbers if row not in found]
        target.lance.apply(gone, rows, scopes[:, 0], scopes[:, 1], scopes[:, 2], vectors)
        self._groups += 1
        seq = events[-1][0]
        self._note(target, lambda repository: repository.set_meta(WATERMARK, seq))

    def _note(self, target: Target, change: Callable[[Repository], object]) -> None:
        """Record what was done to LanceDB, unless the store has moved to another model meanwhile."""
        state = ",".join(map(str, target.lance.state()))
        files = json.dumps(target.lance.checksums())

        def run(repository: Repository) -> None:
            if repository.generation == target.repository.generation:
                repository.set_meta(STATE, state)
                repository.set_meta(FILES, files)
                change(repository)

        self._commits.submit(Write(run), background=True).result()

    def _index_keywords_if_needed(self) -> None:
        """Small stores are spared the index: their every scope fits into an arena."""
        limit = self._settings.arena_limit
        if self._keywords_needed or self._repository.last_seq() > limit:
            self._keywords_needed = self._keywords_needed or keywords.needed(self._repository, limit)
            self._keywords_left = self._keywords_needed and not self.index_keywords(
                _TURN, 0 if self._wanted_now() else _REST
            )
