"""How much one server takes, and how fast a key may ask."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from agentmem.errors import RateLimitError

_REMEMBERED = 10_000
"""Keys whose last requests are remembered; one that was forgotten begins with a full bucket."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server process."""

    body_bytes: int = 20 * 1_048_576
    """Of a body; of a line of one that is streamed."""
    silence_s: float = 20.0
    """For which a request may keep silent while it is being sent."""
    request_s: float = 60.0
    """For which an endpoint may take; backups and upkeep take as long as they take."""
    per_minute: int = 0
    """Requests that a key may make in a minute, where it says nothing itself; 0: any number."""
    workers: int = 1
    """Processes that share them."""


class Buckets:
    """A token bucket for each key: a minute's worth may come at once, and it fills evenly."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets = OrderedDict[str, tuple[float, float]]()

    def take(self, id: str, per_minute: int | None) -> None:
        """Count one request. Raises ``RateLimitError``."""
        allowed = self._limits.per_minute if per_minute is None else per_minute
        if not allowed:
            return
        rate = allowed / 60 / self._limits.workers
        most = max(1.0, rate * 60)
        now = self._clock()
        left, at = self._buckets.pop(id, (most, now))
        left = min(most, left + (now - at) * rate)
        if left < 1:
            self._buckets[id] = left, now
            wait = (1 - left) / rate
            raise RateLimitError(
                f"the key {id} may make {allowed} requests in a minute; try again in {math.ceil(wait)} s",
                retry_after=wait,
            )
        self._buckets[id] = left - 1, now
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
