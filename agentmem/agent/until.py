"""Changing what others may change, too: read, then write by the version that was read, until nobody comes between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from agentmem.types.errors import ConflictError

T = TypeVar("T")
_ATTEMPTS = 200
_LONGEST = 0.05


def until_alone(attempt: Callable[[], T]) -> T:
    """Repeat what reads and then writes until nobody was faster. Raises the last ``ConflictError`` after many times."""
    for number in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except ConflictError as exc:
            if type(exc) is not ConflictError:
                raise  # one that repeating does not change
        # At random, so that those who met once do not meet again.
        time.sleep(random.random() * min(_LONGEST, 0.001 * 2 ** min(number, 6)))
    return attempt()
