"""What was asked of a store in this process, how long it took and what failed, for those who watch over it.

Nothing here takes a lock: a signal handler may search on top of a search. Calls are appended to a queue of bounded
length, and everything else is computed when somebody asks. ``watch`` has others hear of each call as it begins and
ends: metrics and traces, which this knows nothing of.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, cast

from agentmem.types.errors import (
    ClosedError,
    ConflictError,
    InvalidInputError,
    MissingExtraError,
    NotFoundError,
    ReadOnlyError,
    ScopeError,
)

P = ParamSpec("P")
T = TypeVar("T")

WINDOW_S = 300.0
"""What rates and latencies are of: the last five minutes."""
KEPT = 8_192
"""Calls that are remembered; beyond that many in a window it is shorter."""
SEARCH = "search"
WRITES = frozenset({"add", "put", "apply", "update", "delete", "erase"})
_ASKED_WRONGLY = (
    InvalidInputError, ScopeError, NotFoundError, ConflictError, ClosedError, ReadOnlyError, MissingExtraError,
    CancelledError,
)  # fmt: skip
"""What is no failure of the store's: whoever asked can mend it."""


class Call(NamedTuple):
    """One call that has ended."""

    operation: str
    began: float
    """By ``time.monotonic``."""
    ended: float
    error: str | None
    """The name of what it raised."""
    failed: bool
    """Whether it was the store that failed, and not whoever asked for what cannot be."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Watcher(Protocol):
    """What hears of calls. What it raises is lost: no call fails for it."""

    def began(self, operation: str, store: str) -> Any:
        """A call of a store in this folder begins; the answer comes back at its end."""
        ...

    def ended(self, token: Any, call: Call) -> None:
        """It has ended. May be another thread than the one that it began in."""
        ...


_watchers: tuple[Watcher, ...] = ()


def watch(watcher: Watcher) -> Callable[[], None]:
    """Have something hear of the calls of all stores of this process; the answer ends that."""
    global _watchers
    _watchers = (*_watchers, watcher)

    def unwatch() -> None:
        global _watchers
        _watchers = tuple(one for one in _watchers if one is not watcher)

    return unwatch


class Outage(NamedTuple):
    """From the first call that failed until the next of its kind that succeeded."""

    since: float
    until: float


class Meter:
    """The calls of one store."""

    def __init__(self, store: str, now: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.now = now
        self.opened_at = now()
        self.calls = deque[Call](maxlen=KEPT)
        self.outages = deque[Outage](maxlen=KEPT)
        self.failing = dict[str, float]()
        """Since when: ``reading`` and ``writing``."""

    def begin(self, operation: str) -> Running:
        """A call begins."""
        watchers = _watchers
        tokens: Sequence[tuple[Watcher, Any]] = ()
        if watchers:
            tokens = [(one, _safely(one.began, operation, self.store)) for one in watchers]
        return Running(self, operation, self.now(), tokens)

    @contextmanager
    def measuring(self, operation: str) -> Generator[None]:
        """What is inside is a call."""
        running = self.begin(operation)
        try:
            yield
        except BaseException as exc:
            running.end(exc)
            raise
        running.end(None)

    def note(self, call: Call) -> None:
        """A call has ended."""
        self.calls.append(call)
        kind = "writing" if call.operation in WRITES else "reading"
        if call.failed:
            self.failing.setdefault(kind, call.began)
        elif self.failing and call.error is None:
            since = self.failing.pop(kind, None)
            if since is not None:
                self.outages.append(Outage(since, call.ended))

    def recent(self) -> tuple[list[Call], float]:
        """The calls of the last minutes, and of how many seconds these are all."""
        now = self.now()
        calls = list(self.calls)
        window = min(WINDOW_S, now - self.opened_at)
        if len(calls) == KEPT:
            window = min(window, now - calls[0].ended)
        return [call for call in calls if call.ended >= now - window], max(window, 1e-3)


class Running:
    """A call that has begun."""

    __slots__ = ("_began", "_meter", "_operation", "_tokens")

    def __init__(self, meter: Meter, operation: str, began: float, tokens: Sequence[tuple[Watcher, Any]]) -> None:
        self._meter = meter
        self._operation = operation
        self._began = began
        self._tokens = tokens

    def end(self, error: BaseException | None) -> None:
        """It has ended, with this error or well."""
        name = None if error is None else type(error).__qualname__
        call = Call(self._operation, self._began, self._meter.now(), name, _is_failure(error))
        self._meter.note(call)
        for watcher, token in self._tokens:
            _safely(watcher.ended, token, call)

    def until(self, future: Future[Any]) -> None:
        """It ends with the future."""
        future.add_done_callback(lambda done: self.end(_error_of(done)))


def _is_failure(error: BaseException | None) -> bool:
    return isinstance(error, Exception) and not isinstance(error, _ASKED_WRONGLY)


def _error_of(done: Future[Any]) -> BaseException | None:
    try:
        return done.exception()
    except CancelledError as exc:
        return exc


def _safely(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception:
        return None


class _Metered(Protocol):
    @property
    def meter(self) -> Meter: ...


E = TypeVar("E", bound=_Metered)


def metered(operation: str) -> Callable[[Callable[Concatenate[E, P], T]], Callable[Concatenate[E, P], T]]:
    """A function of an engine that is a call of its store."""

    def decorate(function: Callable[Concatenate[E, P], T]) -> Callable[Concatenate[E, P], T]:
        @wraps(function)
        def measured(engine: E, /, *args: P.args, **kwargs: P.kwargs) -> T:
            running = engine.meter.begin(operation)
            try:
                result = function(engine, *args, **kwargs)
            except BaseException as exc:
                running.end(exc)
                raise
            if isinstance(result, Future):
                running.until(cast("Future[Any]", result))
            else:
                running.end(None)
            return cast("T", result)

        return measured

    return decorate
