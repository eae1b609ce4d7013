"""Checks of single values that every floor may need."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from enum import Enum
from typing import NoReturn
from uuid import UUID

from agentmem.types.clock import Micros, to_micros
from agentmem.types.enums import ALL
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.spelling import composed, described, is_blank, is_plain, trimmed
from agentmem.types.values import a_type, as_number, bare_text, text_fault, type_name

MAX_LABEL = 128
MAX_ID = 512


def check_text(value: object, field: str) -> str:
    """``value`` as a plain str, if the store can hold it unchanged."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{field} must be a str, not {type_name(value)}", field=field)
    fault = text_fault(value)
    if fault is not None:
        raise InvalidInputError(f"{field} {fault}", field=field)
    return bare_text(value)


def check_label(value: object, field: str, longest: int = MAX_LABEL) -> str:
    """A short name such as a role or a kind, as it is spelled: with something to be seen in it, and at its ends."""
    if type(value) is str and len(value) <= longest and is_plain(value):
        return value
    text = check_text(_member_value(value), field)
    if is_blank(text):
        only = ", it has only characters that nobody can see" if text else ""
        raise InvalidInputError(f"{field} is empty{only}; leave it out or give it a value", field=field)
    bare = trimmed(text)
    if bare != text:
        place, character = ("ends", text[-1]) if text.startswith(bare) else ("begins", text[0])
        raise InvalidInputError(
            f"{field}={shown(text)} {place} with {described(character)}, which nobody can see; write {shown(bare)}",
            field=field,
        )
    if len(text) > longest and (len(text) > 4 * longest or len(composed(text)) > longest):
        raise InvalidInputError(f"{field} has {len(text):,} characters, more than {longest}", field=field)
    return text


def check_name(value: object, field: str, longest: int = MAX_ID) -> str:
    """An id as it is spelled: text; an int or a UUID means its only spelling, ``str(...)``."""
    if type(value) is str:
        return check_label(value, field, longest)
    found = as_number(_member_value(value))
    if isinstance(found, int) and not isinstance(found, bool) and found.bit_length() < 3 * longest:
        return str(int(found))
    if isinstance(found, UUID):
        return str(found)
    if isinstance(found, str):
        return check_label(found, field, longest)
    _refuse_name(found, field, value)


def check_number(value: object, field: str, low: float, high: float) -> float:
    """A finite number within [low, high]."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not low <= number <= high:
        raise InvalidInputError(f"{field} must be a number from {low:g} to {high:g}, not {shown(value)}", field=field)
    return float(number)


def check_count(value: object, field: str, least: int) -> int:
    """A whole number that is not too small."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number < 2**53:
        raise InvalidInputError(f"{field} must be an int of at least {least}, not {shown(value)}", field=field)
    return number


def check_flag(value: object, field: str) -> bool:
    """True or False, and nothing that is like it."""
    if not isinstance(value, bool):
        raise InvalidInputError(f"{field} must be True or False, not {shown(value)}", field=field)
    return value


def check_instant(value: object, field: str) -> Micros:
    """An aware datetime, or ISO 8601 text with an offset, as microseconds; a date is its first instant in UTC."""
    if isinstance(value, str):
        found = _instant_of_text(value, field)
    elif isinstance(value, datetime):
        found = value
        if found != found:  # pandas' NaT
            raise InvalidInputError(f"{field} is {found}, which is no time; leave it out", field=field)
        if found.utcoffset() is None:
            raise InvalidInputError(
                f"{field}={value.isoformat()} has no time zone; write .astimezone() if it is local time, "
                ".replace(tzinfo=timezone.utc) if it is UTC",
                field=field,
            )
    elif isinstance(value, date):
        found = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        _refuse_instant(value, field)
    try:
        return to_micros(found.astimezone(UTC))
    except OverflowError as exc:
        raise InvalidInputError(
            f"{field}={found.isoformat()} is outside of the years 1 to 9999 in UTC", field=field
        ) from exc


def _instant_of_text(text: str, field: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInputError(
            f"{field}={shown(text)} is not an ISO 8601 date and time, such as 2025-03-01T12:00:00+00:00", field=field
        ) from exc
    if found.tzinfo is None:
        raise InvalidInputError(
            f"{field}={shown(text)} has no time zone; append its offset: {shown(text + '+00:00')} if it is UTC, "
            f"{shown(text + '+02:00')} for summer in Berlin",
            field=field,
        )
    return found


def _refuse_instant(value: object, field: str) -> NoReturn:
    number = as_number(value)
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        advice = f"{shown(value)}; for seconds since 1970 write datetime.fromtimestamp(..., timezone.utc)"
    elif type_name(value) == "numpy.datetime64":
        advice = f"{type_name(value)}; write .astype('datetime64[us]').item().replace(tzinfo=timezone.utc)"
    else:
        advice = type_name(value)
    raise InvalidInputError(
        f"{field} must be a datetime with a time zone, a date or ISO 8601 text, not {advice}", field=field
    )


def _member_value(value: object) -> object:
    """The value of a member of an enum."""
    return value.value if isinstance(value, Enum) and not isinstance(value, (str, int, type(ALL))) else value


def _refuse_name(found: object, field: str, value: object) -> NoReturn:
    if isinstance(found, int) and not isinstance(found, bool):
        raise InvalidInputError(f"{field} is an int of more than {found.bit_length() * 3 // 10} digits", field=field)
    if isinstance(found, float):
        advice = "leave it out if that is a missing value" if math.isnan(found) else "write str(int(...)) for a number"
    elif isinstance(found, (bytes, bytearray)):
        advice = "write .decode()"
    elif isinstance(found, (list, tuple, set, frozenset)):
        advice = "give one at a time, or write str(...) where all of it identifies one"
    elif isinstance(found, dict) and "id" in found:
        advice = "write ['id'] of it"
    elif isinstance(getattr(value, "id", None), (str, int, UUID)):
        advice = "write .id of it"
    else:
        advice = "write str(...) of what identifies it"
    given = shown(value)
    raise InvalidInputError(
        f"{field} must be text, an int or a UUID, not {a_type(value)}, {given}; {advice}", field=field
    )
