"""Backups by themselves: while a store is open, an increment whenever something has changed, and one when it is closed.

One thread for each engine whose settings ask for it. Of several processes with the same store one backs up at a time;
the others see that nothing is left to do. What fails is tried again at every interval, and ``health`` says so.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from agentmem.archive.opening import open_objects
from agentmem.archive.retries import Retries
from agentmem.backup import lineage
from agentmem.backup.create import create, prune
from agentmem.backup.lineage import Head
from agentmem.backup.place import Place, open_place
from agentmem.backup.pruning import Retention
from agentmem.engine.engine import Engine
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.errors import AgentMemError, StoreGoneError, StoreLockedError
from agentmem.types.promise import Service
from agentmem.types.reports import BackupHealth

_ATTEMPTS = 3
"""Of a request, here: the next interval is another one, and closing must not take minutes."""
_LATE = 3
"""Intervals without a turn after which something is wrong."""
_SLACK_S = 60.0

log = logging.getLogger("agentmem")


class Continuous:
    """Backs an engine's store up until it is closed. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._chosen = engine.settings.backup
        self._interval = self._chosen.interval_s
        self._bell = threading.Event()
        self._closing = False
        self._place: Place | None = None
        self._url = open_objects(self._chosen.url or "").url
        self._turn_at = time.monotonic()
        self.errors = 0
        self.last_error: str | None = None
        self.last_at: Micros | None = None
        self._thread = Service(self._loop, "agentmem-backup")
        self._thread.start()

    def close(self, patience: float | None) -> None:
        """Back up what is left, unless that failed the last time, and end."""
        self._closing = True
        self._bell.set()
        with suppress(TimeoutError):
            self._thread.ended.result(patience)

    def health(self) -> BackupHealth:
        """How it is going. Asks nobody but the store."""
        head = self._head()
        behind = max(0, self._engine.repository.last_seq() - head.seq)
        at = self.last_at if head.at is None else head.at
        error = self.last_error
        waited = time.monotonic() - self._turn_at
        if error is None and (self._thread.ended.done() or waited > _LATE * self._interval + _SLACK_S):
            error = f"no backup was tried for {waited:.0f} s"
        age = None if at is None else max(0.0, (self._engine.now() - at) / 1_000_000)
        return BackupHealth(None if at is None else to_datetime(at), age, behind, self.errors, error)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            self._bell.wait(self._interval)
            closing = self._closing
            if not (closing and self.last_error is not None):
                self._take_turn()
            if closing:
                return

    def _take_turn(self) -> None:
        try:
            self._back_up()
        except StoreLockedError:
            pass  # another process, or ``create``, is at it
        except StoreGoneError:
            self._closing = True
            self._bell.set()
        except Exception as exc:
            # Whatever it is, it must not end the thread in silence.
            text = str(exc) if isinstance(exc, AgentMemError) else f"{type(exc).__name__}: {exc}"
            if text != self.last_error:
                log.warning("the store could not be backed up: %s", text)
            self.errors, self.last_error = self.errors + 1, text
        else:
            self.last_error = None
        self._turn_at = time.monotonic()

    def _back_up(self) -> None:
        head = self._head()
        if head.number and head.seq >= self._engine.repository.last_seq():
            return
        if self._place is None:
            chosen = self._chosen
            self._place = open_place(
                chosen.url, chosen.encryption, chosen.keyring, read_only=False, retries=Retries(_ATTEMPTS)
            )
        now, full = self._engine.now(), head.full_at
        is_due = full is None or now - full >= self._chosen.full_every_hours * 3_600_000_000
        # Whoever closes the store is not to wait for all of it.
        kind = "full" if is_due and not self._closing else "incremental"
        entry = create(self._engine, self._place.objects, self._place.keyring, kind=kind)
        self.last_at = entry.at
        if self._chosen.prune and entry.after is None and not self._closing:
            chosen = self._chosen
            prune(self._engine, self._place.objects, Retention(chosen.keep_hours, chosen.keep_days, chosen.keep_weeks))

    def _head(self) -> Head:
        return lineage.head(self._engine.repository.db, self._url)


def attend(engine: Engine) -> None:
    """Have an engine's store backed up from now on, if its settings say so and nobody has begun that."""
    if engine.settings.backup.interval_s and not engine.read_only:
        engine.accompany(lambda: Continuous(engine))
