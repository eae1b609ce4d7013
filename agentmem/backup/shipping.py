"""Increments of a store that lives in a folder or bucket: shipped at once where somebody waits for it, else in time.

One thread of the owner's. Each increment counts once the fence names it; from then on whoever takes the store over has
it. A transaction begins with a look at the fence, so that an owner who was replaced commits nothing; and whoever
acknowledges something looks once more afterwards, since he may have been stopped in between.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.backup.create import create, prune
from agentmem.backup.fence import Fence
from agentmem.backup.pruning import Retention
from agentmem.engine.engine import Engine
from agentmem.types.clock import to_datetime
from agentmem.types.errors import AgentMemError, ConflictError, FencedError, StoreError, StoreLockedError
from agentmem.types.promise import Service
from agentmem.types.reports import BackupHealth

WHOLE_AFTER = 100
"""Increments after which a full one follows: a restore reads as many objects, and each ship lists them."""
_RETRY_S = 0.2

log = logging.getLogger("agentmem")


class Shipping:
    """Ships what an engine's store has, until it is closed. Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        objects: Objects,
        keyring: KeyRing | None,
        fence: Fence,
        interval_s: float,
        retention: Retention,
    ) -> None:
        self._engine, self._objects, self._keyring, self._fence = engine, objects, keyring, fence
        self._interval, self._retention = interval_s, retention
        self._condition = threading.Condition()
        self._wanted = 0
        self._since_whole = WHOLE_AFTER if fence.claim.lineage is None else 0
        self._only_increments = self._closing = False
        self._covered_at = time.monotonic()
        """What was committed before then is shipped."""
        self.errors = 0
        self.last_error: str | None = None
        self._fenced: FencedError | None = None
        engine.commits.begun.subscribe(lambda _: fence.check())
        self._thread = Service(self._loop, "agentmem-shipping")
        self._thread.start()

    @property
    def behind(self) -> int:
        """How many events nobody else would have if this process died now."""
        return max(0, self._engine.repository.last_seq() - self._fence.claim.seq)

    @property
    def is_late(self) -> bool:
        """Whether something has waited for longer than the interval to be shipped."""
        return time.monotonic() - self._covered_at > self._interval and self.behind > 0

    def wait(self, seq: int, timeout: float) -> None:
        """Wait until everything up to an event counts wherever the store goes next.

        Raises ``FencedError`` if it is somebody else's by now, and ``StoreError`` after ``timeout`` seconds: then it is
        in the store here, and may be lost with it.
        """
        deadline = time.monotonic() + timeout
        with self._condition:
            self._wanted = max(self._wanted, seq)
            self._condition.notify_all()
            while self._fence.claim.seq < seq:
                if self._fenced is not None:
                    raise FencedError(str(self._fenced))
                left = deadline - time.monotonic()
                if left <= 0 or self._thread.ended.done():
                    raise StoreError(
                        f"{self._objects.url} did not take in {timeout:g} s what was written "
                        f"({self.last_error or 'no answer yet'}); it is in the store, and lost if that is lost now"
                    )
                self._condition.wait(min(left, 1.0))

    def flush(self, timeout: float) -> None:
        """Wait for everything that there is now."""
        self.wait(self._engine.repository.last_seq(), timeout)

    def hold_back(self, on: bool) -> None:
        """Make no full backups for now, which whoever is about to take the store over would have to read anew."""
        self._only_increments = on

    def close(self, patience: float | None) -> None:
        """Ship what is left, and end."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        with suppress(TimeoutError):
            self._thread.ended.result(patience)

    def health(self) -> BackupHealth:
        """How it is going."""
        claim = self._fence.claim
        at = None if claim.at is None else to_datetime(claim.at)
        age = None if claim.at is None else max(0.0, (self._engine.now() - claim.at) / 1_000_000)
        return BackupHealth(at, age, self.behind, self.errors, self.last_error, None, None, None)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            with self._condition:
                claim = self._fence.claim
                if not self._closing and self._wanted <= claim.seq and claim.lineage is not None:
                    self._condition.wait(self._interval)
                closing = self._closing
            try:
                self._ship()
            except FencedError as exc:
                with self._condition:
                    self._fenced = exc
                    self._condition.notify_all()
                return
            except Exception as exc:
                # Whatever it is, it must not end the thread in silence; whoever waits is told when his time is over.
                self._note(exc)
                if closing:
                    return
                time.sleep(_RETRY_S)
                continue
            with self._condition:
                self._condition.notify_all()
            if closing:
                return

    def _note(self, exc: Exception) -> None:
        if isinstance(exc, StoreLockedError):
            return  # somebody makes a backup by hand
        text = str(exc) if isinstance(exc, AgentMemError) else f"{type(exc).__name__}: {exc}"
        if text != self.last_error:
            log.warning("the store could not be shipped: %s", text)
        self.errors, self.last_error = self.errors + 1, text

    def _ship(self) -> None:
        begun = time.monotonic()
        if not self.behind and self._fence.claim.lineage is not None:
            self._fence.check()
            self._covered_at = begun
            return
        whole = self._since_whole >= WHOLE_AFTER and not self._only_increments
        self._fence.check()
        try:
            entry = create(self._engine, self._objects, self._keyring, kind="full" if whole else "incremental")
        except ConflictError:
            # An owner before this one was stopped when his last increment was there and did not count yet. It never
            # will; this store goes on beside it.
            self._fence.check()
            entry = create(self._engine, self._objects, self._keyring, new_lineage=True)
        self._fence.advance(entry)
        self._covered_at, self.last_error = begun, None
        self._since_whole = 0 if entry.after is None else self._since_whole + 1
        if entry.after is None:
            prune(self._engine, self._objects, self._retention)
