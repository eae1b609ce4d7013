"""Time zones by their IANA names, and times that are a zone's because they name none themselves."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, time, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

from agentmem.types.checks import check_instant, check_text
from agentmem.types.clock import Micros
from agentmem.types.errors import InvalidInputError, shown

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from typing_extensions import TypeIs

_LONGEST = 100
_SHORT = 5
_SUGGESTED = 3


def is_zone(value: object) -> TypeIs[timezone | ZoneInfo]:
    """Whether this is a zone of the standard library's. Imports nothing: there is none before ``zoneinfo`` is there."""
    zoneinfo = sys.modules.get("zoneinfo")
    return isinstance(value, timezone) or (zoneinfo is not None and isinstance(value, zoneinfo.ZoneInfo))


def check_zone(value: object, field: str = "time_zone") -> tzinfo:
    """A zone by its name ("Europe/Berlin"), a ``ZoneInfo`` or a ``datetime.timezone``, as a tzinfo.

    Raises ``InvalidInputError`` for a name that the system's and the ``tzdata`` package's database do not have, and for
    other libraries' zones, which do not work as the tzinfo of a datetime.
    """
    if is_zone(value):
        return value
    if not isinstance(value, str):
        raise InvalidInputError(
            f"{field} must be the name of a time zone, such as 'Europe/Berlin', or a ZoneInfo, not {shown(value)}",
            field=field,
        )
    name = check_text(value, field)
    zone = _named(name) if name.strip() and len(name) <= _LONGEST else None
    if zone is None:
        raise InvalidInputError(f"{field}={shown(value)} is not the name of a time zone; {_advice(name)}", field=field)
    return zone


@lru_cache(maxsize=1_024)
def _named(name: str) -> tzinfo | None:
    """The zone, None if there is none. "UTC" needs no database, and none is read for it."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # none, a path, a folder
        return None


def _advice(name: str) -> str:
    """The names that may be meant."""
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    by_end = {known.lower(): known for known in sorted(available_timezones(), reverse=True)}
    by_end |= {known.rpartition("/")[2].lower(): known for known in by_end.values() if "/" in known}
    wanted = name[:_LONGEST].strip().lower().replace(" ", "_")
    short = name.isupper() and len(name) <= _SHORT  # CEST is none, CST is three, and none of them knows summer
    keys = [wanted] if wanted in by_end else [] if short else get_close_matches(wanted, by_end, _SUGGESTED, cutoff=0.7)
    if close := [by_end[key] for key in keys]:
        return f"is it {' or '.join(map(repr, dict.fromkeys(close)))}?"
    return "take one of zoneinfo.available_timezones(), such as 'Europe/Berlin' or 'UTC'"


def check_local_instant(value: object, field: str, zone: tzinfo) -> Micros:
    """As ``check_instant``; what has no offset is a time of the zone, and a day is its beginning there.

    A local time that the zone has twice, when its clocks go back, is the first of the two.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise InvalidInputError(
                f"{field}={shown(value)} is not an ISO 8601 date or time, such as 2025-03-01 or 2025-03-01T12:00",
                field=field,
            ) from exc
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=zone)
    return check_instant(value, field)
