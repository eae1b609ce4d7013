"""Times are kept as whole microseconds since 1970 in UTC; a clock is a function that returns that number."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TypeAlias

Micros: TypeAlias = int
Clock: TypeAlias = Callable[[], datetime]
"""Returns the present as an aware datetime."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
BEGINNING: Micros = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The first instant that a datetime can be."""
END: Micros = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The last one."""


def now_micros() -> Micros:
    """The system's time."""
    return time.time_ns() // 1_000


def to_micros(value: datetime) -> Micros:
    """Microseconds since 1970 of an aware datetime."""
    return (value - _EPOCH) // _MICROSECOND


def to_datetime(value: Micros) -> datetime:
    """The aware UTC datetime of microseconds since 1970; what lies beyond an end of the calendar is that end."""
    try:
        return _EPOCH + value * _MICROSECOND  # less than half of the time that timedelta(microseconds=value) takes
    except OverflowError:  # an end that a clock has set which was near it itself
        return datetime.max.replace(tzinfo=UTC) if value > 0 else datetime.min.replace(tzinfo=UTC)


def local_date(value: datetime, zone: tzinfo) -> date:
    """The day that the zone's calendar shows; at the ends of time that of UTC."""
    try:
        return value.astimezone(zone).date()
    except OverflowError:
        return value.date()
