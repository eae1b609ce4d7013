"""Keeps LanceDB, and the keyword index where one is needed, in step with the feed, in the background.

Exactly one process drains at a time, under a file lock that dies with it. The copies read the *current* state of
whatever changed, write that, then move their watermark: a crash in between only means that the same changes are applied
again. Nobody waits for it but ``flush()``; a LanceDB that fails is retried with growing pauses, one that is damaged is
rebuilt from libSQL without embedding anything again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import get_ident

from tenacity import RetryCallState, Retrying, retry_if_not_exception_type, wait_chain, wait_fixed, wait_random

from agentmem.indexes.driver import TableCorruptError, TableForkedError, loaded, usable
from agentmem.indexes.feed import follow
from agentmem.indexes.keywords import KeywordIndex
from agentmem.indexes.vectors import LanceCopy
from agentmem.settings import Performance
from agentmem.stores import meta
from agentmem.stores.commit import GroupCommit
from agentmem.stores.locks import FileLock
from agentmem.stores.records import Records
from agentmem.stores.upkeep import give_space_back, remove_old_generations, shrink
from agentmem.types.errors import ModelMismatchError, StoreCorruptError, StoreError, StoreGoneError
from agentmem.types.patience import Pace
from agentmem.types.promise import Service

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
_OTHERS_S = 5.0
"""Seconds that ``flush`` waits for other processes, where this one may not use LanceDB."""

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


class Follower:
    """The drainer of one process."""

    def __init__(
        self,
        vectors: LanceCopy,
        keywords: KeywordIndex,
        commits: GroupCommit,
        lock: FileLock,
        settings: Performance,
        *,
        busy: Callable[[], bool],
    ) -> None:
        """``busy`` tells whether the calling thread is in the middle of a search."""
        self._vectors = vectors
        self._keywords = keywords
        self._commits = commits
        self._lock = lock
        self._settings = settings
        self._check_model: Callable[[], None] = lambda: None
        self._busy = busy
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung to have the thread look at once."""
        self._wanted = 0
        self._closing = False
        self._keywords_needed = False
        self._keywords_left = False
        self._keywords_awaited = False
        self._failing: BaseException | None = None
        self._hurry = False
        self._current_at = 0.0
        self._requests = 0
        self._load_at: float | None = None
        self._held_back = False
        self._inspection_wanted = False
        self.errors = 0
        self.rebuilds = 0
        self.last_error: str | None = None
        self._thread = Service(self._loop, "agentmem-follower")

    def start(self, check_model: Callable[[], None]) -> None:
        """Begin; ``check_model`` raises if another process moved the store to another model."""
        self._check_model = check_model
        self._thread.start()

    @property
    def _records(self) -> Records:
        return self._vectors.records

    def switch(self, vectors: LanceCopy) -> None:
        """Go on with another model's vectors; a group at hand for the old one is finished and then forgotten."""
        self._vectors = vectors

    def behind(self) -> int:
        """Changes that LanceDB has yet to receive."""
        return self._records.last_seq() - self._vectors.applied_seq()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all derived stores have what is committed now; False if that took longer than ``timeout``.

        Raises the error if that fails again and again, and ``StoreError`` where it would never end: on top of a search
        of the same thread, or of the store's own work; or where this process may not use LanceDB and no other does.
        """
        if self._busy() or get_ident() == self._thread.ident or self._commits.on_thread():
            raise StoreError(
                "flush() was called on top of a call that it may have to wait for, by a signal handler, a finalizer or "
                "a callback; call it where nothing else is going on"
            )
        target, errors = self._records.last_seq(), self.errors
        self._need_keywords()  # the thread may have yet to see that the store has become so large
        begun = time.monotonic()
        deadline = None if timeout is None else begun + timeout
        self._wanted = max(self._wanted, target)
        self._inspection_wanted = self._hurry = True
        self._bell.put(None)
        # The one that drains may be another process, so what counts is the watermark, not this thread's work.
        while self._unfinished(target) or self._vectors.uninspected:
            self._commits.check_files()
            self._check_model()
            if self._closing or (deadline is not None and time.monotonic() >= deadline):
                return False
            if self._failing is not None and self.errors - errors >= _PATIENCE:
                if isinstance(self._failing, StoreCorruptError) and not isinstance(self._failing, TableCorruptError):
                    raise self._failing
                raise StoreError(f"LanceDB cannot be brought up to date: {self._failing}") from self._failing
            if not usable() and self._lance_unfinished(target) and time.monotonic() - begun > _OTHERS_S:
                raise TableForkedError
            time.sleep(0.02)
        # Whoever did it, nothing is failing any more; this thread's own round may not have come to its end.
        self._failing, self.last_error = None, None
        return True

    def rebuild(self) -> None:
        """Have LanceDB rebuilt from libSQL in the background."""
        self._vectors.forget()
        self.poke()

    def index_keywords(self, patience: float = math.inf, rest: float = 0) -> bool:
        """Bring the keyword index up to what is committed now; False if that took longer than ``patience`` seconds.

        Goes a group at a time, so that writers get their turn, and rests in between while there are any (``Pace``).
        """
        deadline = time.monotonic() + patience
        pace = Pace(lambda: self._commits.requests, rest)

        def go_on() -> bool:
            pace()
            return not self._closing and time.monotonic() < deadline

        return follow(self._keywords, self._records, self._records.last_seq(), go_on)

    def poke(self) -> None:
        """Look for work now."""
        self._wanted = self._records.last_seq()
        self._bell.put(None)

    def wake(self) -> None:
        """Look after the vectors now: somebody found them damaged."""
        self._bell.put(None)

    def await_keywords(self) -> None:
        """Have the keyword index brought up to date, needed or not: something that was erased has to leave it."""
        self._keywords_awaited = True
        self._bell.put(None)

    def stop(self) -> None:
        """Ask the thread to stop after the group at hand, and ``flush`` to give up."""
        self._closing = True
        self._bell.put(None)

    def close(self) -> None:
        """Stop. What is left is drained by whoever opens the store next.

        LanceDB may be in the middle of merging a large table, or hang: then the thread keeps the lock between processes
        until that ends, and nobody waits for it.
        """
        self.stop()
        with suppress(TimeoutError):
            self._thread.ended.result(_LAST_WAIT)

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
        self._commits.check_files()
        self._held_back = False
        newest, started = self._records.last_seq(), time.monotonic()
        behind, seconds = newest - self._vectors.applied_seq(), started - self._current_at
        late = self._inspection_wanted or seconds >= self._settings.follower_delay_s
        inspect = self._vectors.uninspected and late
        wanted = self._vectors.damaged or inspect or self._purge_wanted() or (behind and self._due(behind, seconds))
        if wanted and usable():
            self._drain()
        if self._vectors.applied_seq() >= newest and not self._vectors.uninspected:
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
        if not isinstance(exc, StoreGoneError):  # that is no matter of LanceDB's, and is said once for all
            log.warning("LanceDB could not be brought up to date (attempt %d): %s", state.attempt_number, exc)

    def _pause(self, seconds: float) -> None:
        """Wait before a retry; not for long if the store is closed or ``flush`` waits."""
        until = time.monotonic() + seconds
        while not (self._closing or self._hurry) and (left := until - time.monotonic()) > 0:
            self._wait(left)

    def _rest(self) -> None:
        """Wait for the next round."""
        if self._closing or self._hurry or self._keywords_left:
            return
        if self._wanted_now() or (self._inspection_wanted and self._vectors.uninspected):
            self._wait(0.005)  # whoever holds the lock may be doing the work
        elif self._held_back:
            self._wait(_PAUSE)
        else:
            self._wait(min(1.0, max(0.02, self._settings.follower_delay_s)))

    def _wait(self, seconds: float) -> None:
        """Wait until the bell is rung, however often."""
        with suppress(Empty):
            self._bell.get(timeout=seconds)
            while True:
                self._bell.get_nowait()

    def _wanted_now(self) -> bool:
        return usable() and self._unfinished(self._wanted)

    def _purge_wanted(self) -> int | None:
        """Set by an erase: LanceDB's old versions must leave the disk."""
        return self._records.meta(meta.LANCE_PURGE)

    def _unfinished(self, target: int) -> bool:
        return self._lance_unfinished(target) or (self._keywords_needed and self._keywords.applied_seq() < target)

    def _lance_unfinished(self, target: int) -> bool:
        return self._vectors.damaged or self._vectors.applied_seq() < target or bool(self._purge_wanted())

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
        vectors = self._vectors
        with self._lock:
            self._commits.check_files()
            if not vectors.records.is_current():
                self._check_model()
                return
            try:
                vectors.table.remove_others()
                if vectors.records.old_embedding_tables():
                    remove_old_generations(self._commits)
                vectors.inspect()
                # Writers may be as fast as this thread: what they add meanwhile waits until fragments are merged.
                purge, goal = self._purge_wanted(), self._records.last_seq()
                follow(vectors, vectors.records, goal, lambda: not self._closing and vectors is self._vectors)
                if (purge or vectors.writes >= OPTIMIZE_EVERY) and not self._closing:
                    vectors.optimize(purge)
                    # The database gives back what it no longer uses, if that is much, a few milliseconds at a time.
                    give_space_back(self._commits, shrink, lambda: self._closing)
            except TableCorruptError:
                self.rebuilds += 1
                vectors.reset()
                raise

    def _need_keywords(self) -> bool:
        """Small stores are spared the index: their every scope fits into an arena."""
        limit = self._settings.arena_limit
        if not self._keywords_needed and self._records.last_seq() > limit:
            self._keywords_needed = self._keywords.needed(limit)
        return self._keywords_needed

    def _index_keywords_if_needed(self) -> None:
        if self._keywords_awaited:
            self._keywords.drop_outdated()
            if not self._keywords.applied_seq() or self.index_keywords(_TURN):
                self._keywords_awaited = False
        self._keywords_left = self._need_keywords() and not self.index_keywords(
            _TURN, 0 if self._wanted_now() else _REST
        )
