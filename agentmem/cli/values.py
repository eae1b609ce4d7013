"""From the text of options to values."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, cast

import typer

from agentmem import InvalidInputError, StoreError
from agentmem.client import resolve

_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
NONE = "none"
"""The text of an option that takes a value away."""


def store_folder(given: str | Path) -> Path:
    """The absolute path of a store's folder; what is none is refused, and so is what would be gone with the command."""
    try:
        folder = resolve(given)
    except (InvalidInputError, StoreError) as exc:
        raise typer.BadParameter(str(exc)) from exc
    if folder is None:
        raise typer.BadParameter(f"{given} would be gone when the command ends; name a folder")
    return folder


class Names(tuple[str, ...]):
    """A path of names."""

    __slots__ = ()


def namespace(text: str | Names) -> Names:
    """A path of names: with slashes between them, or as a JSON array where names have slashes; ``/`` is the root."""
    if not isinstance(text, str):
        return text
    if not text.startswith("["):
        return Names(text.strip("/").split("/") if text.strip("/") else ())
    try:
        names: object = json.loads(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is not a JSON array: {exc}") from exc
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[object]", names)):
        raise typer.BadParameter(f'{text!r} must be an array of names such as ["letters", "2026"]')
    return Names(cast("list[str]", names))


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """A JSON object, or None where the option was left out."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise typer.BadParameter(f"{option} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise typer.BadParameter(f'{option} must be a JSON object such as \'{{"topic": "travel"}}\'')
    return cast("dict[str, Any]", value)


def any_json(text: str | None, option: str) -> Any:
    """Any JSON, or None where the option was left out."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise typer.BadParameter(f"{option} is not JSON: {exc}") from exc


def zone(name: str | None = None) -> str | tzinfo:
    """The time zone by the option, else by the settings, else the machine's as it is today."""
    from agentmem import Settings

    return name or Settings().retrieval.time_zone or datetime.now().astimezone().tzinfo or UTC


def between(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The times of ``--since`` and ``--until`` of a list."""
    if since is None and until is None:
        return None, None
    here = zone()
    return instant(since, "--since", here), instant(until, "--until", here)


def instant(text: str | None, option: str, zone: str | tzinfo | None = None) -> datetime | None:
    """An ISO 8601 date or time; without an offset that of a zone by its name (left naive), else local time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.strip()) if isinstance(zone, str) else local(text)
    except (ValueError, OverflowError, OSError) as exc:
        raise typer.BadParameter(
            f"{option}={text!r} is not a time such as 2026-03-01 or 2026-03-01T09:30+01:00"
        ) from exc


def local(text: str) -> datetime:
    """The instant of an ISO 8601 text, local time where it has no offset. Raises ``ValueError`` and its kin."""
    value = datetime.fromisoformat(text.strip())
    return value if value.tzinfo else value.astimezone()


def duration(text: str | None) -> timedelta | None:
    """A number with a unit: s, m, h, d or w; seconds without one."""
    if text is None:
        return None
    try:
        return span(text)
    except ValueError as exc:
        raise typer.BadParameter(f"--ttl={text!r} is {exc}") from exc


def span(text: str) -> timedelta:
    """The same; raises ``ValueError`` with what the text is instead."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s?([smhdw]?)", text.strip())
    if match is None:
        raise ValueError("not a duration such as 90s, 30m, 24h or 7d")
    try:
        found = timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError as exc:
        raise ValueError("longer than any clock can count") from exc
    if not found:
        raise ValueError("no time at all; it takes at least a microsecond")
    return found
