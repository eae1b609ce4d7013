"""Waiting without a clock of one's own: rests between batches of background work."""

from __future__ import annotations

import time
from collections.abc import Callable

_LONGEST_REST = 0.2


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
