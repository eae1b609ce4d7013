"""Attempts at what may succeed a little later, and the pauses between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from agentmem.types.errors import ArchiveUnavailableError

T = TypeVar("T")


class Retries:
    """Tries again at once, then after 1, 2, 4, 8, ... seconds, ``attempts`` times in all (ten: four minutes).

    No pause is longer than ``longest`` seconds. Only ``ArchiveUnavailableError`` is tried again. ``sleep`` waits for
    that many seconds; it may raise, to give up.
    """

    def __init__(
        self, attempts: int = 10, *, longest: float = math.inf, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.attempts = attempts
        self._longest = longest
        self._sleep = sleep

    def call(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns. Raises the last attempt's error, saying how many there were."""
        retrying = Retrying(
            retry=retry_if_exception_type(ArchiveUnavailableError),
            stop=stop_after_attempt(self.attempts),
            wait=lambda state: min(_pause(state), self._longest),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except ArchiveUnavailableError as exc:
            raise ArchiveUnavailableError(f"{exc} (after {self.attempts} attempts)") from exc


def _pause(state: RetryCallState) -> float:
    return 0 if state.attempt_number == 1 else float(2 ** (state.attempt_number - 2))
