"""Backups by themselves: while a store is open, an increment whenever something has changed, and one when it is closed.

One thread for each engine whose settings ask for it. Of several processes with the same store one backs up at a time;
the others see that nothing is left to do. What fails is tried again at every interval, and ``health`` says so. Another
thread proves now and then that what is backed up can be restored.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from agentmem.archive.home import Place, open_place
from agentmem.archive.opening import open_objects
from agentmem.archive.retries import Retries
from agentmem.backup import lineage, look, proof
from agentmem.backup.create import create, prune
from agentmem.backup.lineage import Head
from agentmem.backup.pruning import Retention
from agentmem.engine.engine import Engine
from agentmem.stores import accounting
from agentmem.stores.alone import remove_copies
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import Pressure
from agentmem.types.errors import AgentMemError, StoreGoneError, StoreLockedError
from agentmem.types.promise import Service
from agentmem.types.reports import BackupHealth

_ATTEMPTS = 3
"""Of a request, here: the next interval is another one, and closing must not take minutes."""
_LATE = 3
"""Intervals without a turn after which something is wrong."""
_SLACK_S = 60.0
_AGAIN_S = 600.0
"""After which a proof that could not be made, or went wrong, is tried again."""
_LOOK_S, _OFTEN_S = 5.0, 0.5
"""Between two looks whether something is due; where changes are counted, more often."""

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
        self._looked_at = time.monotonic()
        self._full_layers = set[str]()
        self.errors = 0
        self.last_error: str | None = None
        self.last_at: Micros | None = None
        self._prover = Prover(engine, self._url)
        self._thread = Service(self._loop, "agentmem-backup")
        self._thread.start()

    def close(self, patience: float | None) -> None:
        """Back up what is left, unless that failed the last time, and end."""
        self._closing = True
        self._prover.stop()
        self._bell.set()
        with suppress(TimeoutError):
            self._thread.ended.result(patience)
            self._prover.ended.result(patience)

    def health(self) -> BackupHealth:
        """How it is going. Asks nobody but the store."""
        head = self._head()
        behind = max(0, self._engine.repository.last_seq() - head.seq)
        at = self.last_at if head.at is None else head.at
        error = self.last_error
        waited = time.monotonic() - self._looked_at
        if error is None and (self._thread.ended.done() or waited > _LATE * self._interval + _SLACK_S):
            error = f"no backup was tried for {waited:.0f} s"
        age = None if at is None else max(0.0, (self._engine.now() - at) / 1_000_000)
        proved, problem = self._prover.state()
        proof_age = None if proved is None else max(0.0, (self._engine.now() - proved) / 1_000_000)
        return BackupHealth(
            None if at is None else to_datetime(at), age, behind, self.errors, error,
            None if proved is None else to_datetime(proved), proof_age, problem,
        )  # fmt: skip

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        interval, often = self._interval, _OFTEN_S if self._chosen.after_changes else _LOOK_S
        look, begun = min(interval, often) if interval else often, time.monotonic()
        while True:
            self._bell.wait(look)
            closing, now = self._closing, time.monotonic()
            due = bool(interval) and now - begun >= interval
            if (closing and self.last_error is None) or (not closing and (due or self._is_urgent())):
                begun = now
                self._take_turn()
            self._looked_at = time.monotonic()
            if closing:
                return

    def _is_urgent(self) -> bool:
        """Whether so much has changed, or a layer has become so full, that the interval is not waited for: soon records
        may be evicted."""
        try:
            repository = self._engine.repository
            levels = {layer for layer, level in accounting.noted_pressure(repository.db) if level != Pressure.LOW}
            risen, self._full_layers = levels - self._full_layers, levels
            most = self._chosen.after_changes
            return bool(risen) or bool(most and repository.last_seq() - self._head().seq >= most)
        except Exception:
            return True  # the turn will say so

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
        is_due = _is_over(full, now, self._chosen.full_every_hours * 3_600_000_000)
        # Whoever closes the store is not to wait for all of it.
        kind = "full" if is_due and not self._closing else "incremental"
        entry = create(self._engine, self._place.objects, self._place.keyring, kind=kind)
        self.last_at = entry.at
        if self._chosen.prune and entry.after is None and not self._closing:
            chosen = self._chosen
            prune(self._engine, self._place.objects, Retention(chosen.keep_hours, chosen.keep_days, chosen.keep_weeks))

    def _head(self) -> Head:
        return lineage.head(self._engine.repository.db, self._url)


class _EndingError(Exception):
    pass


class Prover:
    """Restores the newest backup every so often, and compares it with the store; for the first time at once."""

    def __init__(self, engine: Engine, url: str) -> None:
        self._engine, self._url = engine, url
        self._chosen = engine.settings.backup
        self._every = int(self._chosen.prove_every_hours * 3_600_000_000)
        self._bell = threading.Event()
        self._error: str | None = None
        self._not_before = 0.0
        self._thread = Service(self._loop, "agentmem-proof")
        self.ended = self._thread.ended
        self._thread.start()

    def stop(self) -> None:
        """Break off."""
        self._bell.set()

    def state(self) -> tuple[Micros | None, str | None]:
        """When a proof was last made, and what was wrong then, or keeps it from being made."""
        last = proof.last(self._engine, self._url)
        return (None, self._error) if last is None else (last.at, self._error or last.problem)

    def _loop(self) -> None:
        remove_copies(self._engine.path)
        while self._every and not self._bell.wait(_LOOK_S if self._not_before else min(_LOOK_S, self._first())):
            if time.monotonic() >= self._not_before and self._is_due():
                self._try()

    def _first(self) -> float:
        return max(0.02, (self._chosen.interval_s or _LOOK_S) / 2)

    def _is_due(self) -> bool:
        last = proof.last(self._engine, self._url)
        if not lineage.head(self._engine.repository.db, self._url).number:
            return False
        problem = last is not None and last.problem is not None
        return problem or _is_over(None if last is None else last.at, self._engine.now(), self._every)

    def _try(self) -> None:
        self._not_before = time.monotonic() + _AGAIN_S
        chosen = self._chosen
        try:
            place = open_place(
                chosen.url, chosen.encryption, chosen.keyring, read_only=True, retries=Retries(_ATTEMPTS)
            )
            newest = lineage.head(self._engine.repository.db, self._url).id
            report = look.prove(self._engine, place.objects, newest, place.keyring, progress=self._go_on)
        except (_EndingError, StoreLockedError, StoreGoneError):
            return
        except Exception as exc:
            # Whatever it is, it must not end the thread in silence.
            self._error = f"no backup could be restored: {exc}"
            log.warning("%s", self._error)
        else:
            self._error = None
            if not report.ok:
                log.warning("the newest backup cannot be relied on: %s", report.problems[0])

    def _go_on(self, *_: int) -> None:
        if self._bell.is_set():
            raise _EndingError


def _is_over(begun: Micros | None, now: Micros, span: float) -> bool:
    """Whether it is as long ago that something was done; so it is where the clock was ahead then by more than that."""
    return begun is None or abs(now - begun) >= span


def attend(engine: Engine) -> None:
    """Have an engine's store backed up from now on, if its settings say so and nobody has begun that."""
    if engine.settings.backup.by_itself and not engine.read_only:
        engine.accompany(lambda: Continuous(engine))
