"""How near a memory's time is to the ranges that a question names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agentmem.text.dates.civil import Range

if TYPE_CHECKING:
    from agentmem.types.ports import Ints, Vector

DATE_HALF_LIFE = 7 * 86_400 * 1_000_000
"""Microseconds beside a range after which a memory counts half as dated by it."""


def closeness(when: Ints, ranges: tuple[Range, ...]) -> Vector:
    """1 for times in one of the ranges, halved for each ``DATE_HALF_LIFE`` beside the nearest; float32."""
    nearest = np.full(len(when), np.inf)
    for start, end in ranges:
        nearest = np.minimum(nearest, np.maximum(np.maximum(start - when, when - (end - 1)), 0))
    return np.exp2(-nearest / DATE_HALF_LIFE).astype(np.float32)
