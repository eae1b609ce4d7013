"""Checks of single values that every floor may need."""

from __future__ import annotations

from datetime import UTC, datetime

from agentmem.types.clock import Micros, to_micros
from agentmem.types.errors import InvalidInputError, shown

MAX_LABEL = 128


def check_text(value: object, field: str) -> str:
    """``value`` as a plain str, if the store can hold it unchanged."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{field} must be a str, not {type(value).__name__}", field=field)
    if "\x00" in value:
        raise InvalidInputError(f"{field} contains a NUL character at {value.index(chr(0))}; remove it", field=field)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInputError(
                f"{field} contains a lone surrogate at {exc.start}; decode the text with errors='replace'", field=field
            ) from exc
    # Not str(value), which is "Role.USER" for a member of an enum whose text is "user".
    return value if type(value) is str else str.__str__(value)


def check_label(value: object, field: str, longest: int = MAX_LABEL) -> str:
    """A short, non-empty name such as a role, a kind or an id."""
    text = check_text(value, field)
    if not text or text.isspace():
        raise InvalidInputError(f"{field} is empty; leave it out or give it a value", field=field)
    if len(text) > longest:
        raise InvalidInputError(f"{field} has {len(text):,} characters, more than {longest}", field=field)
    return text


def check_number(value: object, field: str, low: float, high: float) -> float:
    """A finite number within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidInputError(f"{field} must be a number from {low:g} to {high:g}, not {shown(value)}", field=field)
    return float(value)


def check_instant(value: object, field: str) -> Micros:
    """An aware datetime, or ISO 8601 text with an offset, as microseconds."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise InvalidInputError(
                f"{field}={shown(value)} is not an ISO 8601 date and time, such as 2025-03-01T12:00:00+00:00",
                field=field,
            ) from exc
    if not isinstance(value, datetime):
        raise InvalidInputError(f"{field} must be a datetime or ISO 8601 text, not {type(value).__name__}", field=field)
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidInputError(
            f"{field}={value.isoformat()} has no time zone; add one, for example .replace(tzinfo=timezone.utc)",
            field=field,
        )
    try:
        return to_micros(value.astimezone(UTC))
    except OverflowError as exc:
        raise InvalidInputError(
            f"{field}={value.isoformat()} is outside of the years 1 to 9999 in UTC", field=field
        ) from exc
