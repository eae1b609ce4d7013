"""``HealthMonitor``: looks at a store from time to time and tells whoever is to know of what changes for the worse.

It does not tell twice. A level has to be there for some looks before it is told, and it is left only when the value is
clearly below the threshold for some looks; who wants to be reminded of what lasts says after how long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol

from agentmem.observe.alerts import Alert, Level, Reading, Thresholds, check_thresholds, read
from agentmem.types.errors import AgentMemError, InvalidInputError
from agentmem.types.reports import Health, Kpis

SLACK = 0.1
"""The share of a threshold that a value has to be below it for a level to end."""

Notify = Callable[[Alert], object]
"""What is done with an alert; what it raises is logged, and the others are told all the same."""

log = logging.getLogger("agentmem.health")


class Watched(Protocol):
    """What is asked of a store: a ``Memory``."""

    def health(self) -> Health: ...
    def kpis(self) -> Kpis: ...


@dataclass
class _State:
    """What is told of one thing, and what may be next."""

    told: Level = Level.OK
    next: Level = Level.OK
    looks: int = 0
    """How often in a row ``next`` was there."""
    told_at: datetime | None = None


class HealthMonitor:
    """Watches over ``memory`` with ``start``, every ``interval_s`` seconds, or when ``check`` is called.

    ``notify`` are functions that take an ``Alert``: see ``agentmem.observe.notify`` for the log, a webhook and a
    command. An alert is told when it was there for ``raise_after`` looks in a row, and ``ok`` when it was gone for
    ``clear_after``; while it lasts, again every ``repeat_s`` seconds (None: never). ``clock`` is for tests.

    Raises ``InvalidInputError`` for thresholds and numbers that cannot be.
    """

    def __init__(
        self,
        memory: Watched,
        *,
        notify: Sequence[Notify] = (),
        thresholds: Thresholds | None = None,
        interval_s: float = 30.0,
        raise_after: int = 2,
        clear_after: int = 3,
        repeat_s: float | None = 3_600.0,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.thresholds = thresholds or Thresholds()
        check_thresholds(self.thresholds)
        for name, value in (("interval_s", interval_s), ("raise_after", raise_after), ("clear_after", clear_after)):
            if not value > 0:
                raise InvalidInputError(f"{name}={value!r} must be more than 0", field=name)
        self._memory = memory
        self._store = _folder_of(memory)
        self._notify = list(notify)
        self._interval = interval_s
        self._raise_after, self._clear_after, self._repeat = raise_after, clear_after, repeat_s
        self._clock = clock or (lambda: datetime.now(UTC))
        self._states = dict[str, _State]()
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def alerts(self) -> dict[str, Level]:
        """What is told of now, by name."""
        return {name: state.told for name, state in self._states.items() if state.told is not Level.OK}

    @property
    def level(self) -> Level:
        """The worst of it."""
        return max(self.alerts.values(), key=list(Level).index, default=Level.OK)

    def check(self) -> list[Alert]:
        """Look once; returns what was told."""
        with self._looking:
            told = [alert for reading in self._read() if (alert := self._weigh(reading)) is not None]
        for alert in told:
            for notify in self._notify:
                try:
                    notify(alert)
                except Exception as exc:
                    log.warning("an alert (%s) could not be told: %s: %s", alert.name, type(exc).__name__, exc)
        return told

    def start(self) -> HealthMonitor:
        """Look in the background until ``stop``; also as a context manager."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="agentmem-health", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Look no more; returns when the last look is over."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> HealthMonitor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                self.check()
            except Exception as exc:  # whatever it is: without this thread nobody would hear of anything
                log.warning("the store's health could not be looked at: %s: %s", type(exc).__name__, exc)

    def _read(self) -> list[Reading]:
        health = self._memory.health()
        try:
            kpis = self._memory.kpis()
        except AgentMemError as exc:
            reading = Reading("figures", Level.CRITICAL, None, f"The store cannot be read: {exc}")
            return [*read(None, health, self.thresholds, self._told, SLACK), reading]
        return [
            *read(kpis, health, self.thresholds, self._told, SLACK),
            Reading("figures", Level.OK, None, "works"),
        ]

    def _told(self, name: str) -> Level:
        state = self._states.get(name)
        return Level.OK if state is None else state.told

    def _weigh(self, reading: Reading) -> Alert | None:
        """Take note of a level; an alert, if it is to be told now."""
        state, now = self._states.setdefault(reading.name, _State()), self._clock()
        if reading.level is not state.next:
            state.next, state.looks = reading.level, 0
        state.looks += 1
        worse = list(Level).index(state.next) > list(Level).index(state.told)
        if state.next is not state.told and state.looks >= (self._raise_after if worse else self._clear_after):
            state.told = state.next
        elif not (
            self._repeat is not None
            and state.told is not Level.OK
            and state.next is state.told
            and state.told_at is not None
            and abs((now - state.told_at).total_seconds()) >= self._repeat  # told in the future: the clock was ahead
        ):
            return None
        state.told_at = now
        message = reading.message if state.told is not Level.OK else f"{reading.name} is as it should be again."
        return Alert(reading.name, state.told, reading.value, message, now, self._store)


def _folder_of(memory: object) -> str:
    return str(getattr(getattr(memory, "handle", None), "path", ""))
