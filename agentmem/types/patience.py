"""Waiting outside of the libraries underneath: attempts with growing pauses, and rests between background batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

_LONGEST_REST = 0.2
_GROWTH = 1.5


def attempts(seconds: float, *, first: float = 0.0002, longest: float = 0.01) -> Iterator[None]:
    """Turns of a loop that tries something until it succeeds: one at once, then more for as long as ``seconds``.

    Between two turns the thread sleeps, ``first`` seconds to begin with, half as long again each time, ``longest`` at
    most. The last turn comes after the time is up, so that whoever was held up for that long has tried once more.
    """
    deadline, pause = time.monotonic() + seconds, first
    while True:
        late = time.monotonic() >= deadline
        yield
        if late:
            return
        time.sleep(pause)
        pause = min(pause * _GROWTH, longest)


class Pace:
    """Called between two batches of background work: sleeps ``rest`` times as long as the batch took, 0.2 s at most.

    Only while others are active, that is when ``activity`` has changed since the last call.
    """

    def __init__(self, activity: Callable[[], object], rest: float) -> None:
        self._activity = activity
        self._rest = rest
        self._before = activity()
        self._at = time.perf_counter()

    def __call__(self) -> None:
        now = self._activity()
        if now != self._before:
            time.sleep(min(_LONGEST_REST, self._rest * (time.perf_counter() - self._at)))
        self._before, self._at = now, time.perf_counter()
