"""From the text of options and files to values."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer

from agentmem import InvalidInputError

if TYPE_CHECKING:
    from agentmem.client import Item

_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


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


def zone(name: str | None) -> str | tzinfo:
    """The time zone by the option, else by the settings, else the machine's as it is today."""
    from agentmem import Settings

    return name or Settings().retrieval.time_zone or datetime.now().astimezone().tzinfo or UTC


def instant(text: str | None, option: str, zone: str | tzinfo | None = None) -> datetime | None:
    """An ISO 8601 date or time; without an offset that of a zone by its name (left naive), else local time."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
        return value if value.tzinfo or isinstance(zone, str) else value.astimezone()
    except (ValueError, OverflowError, OSError) as exc:
        raise typer.BadParameter(
            f"{option}={text!r} is not a time such as 2026-03-01 or 2026-03-01T09:30+01:00"
        ) from exc


def duration(text: str | None) -> timedelta | None:
    """A number with a unit: s, m, h, d or w; seconds without one."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw]?)", text)
    if match is None:
        raise typer.BadParameter(f"--ttl={text!r} is not a duration such as 90s, 30m, 24h or 7d")
    try:
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError as exc:
        raise typer.BadParameter(f"--ttl={text!r} is longer than any clock can count") from exc


@contextmanager
def items(file: Path | None) -> Generator[Iterable[Item]]:
    """What to add: the lines of a JSON Lines file, or (None) of standard input as plain text."""
    if file is None:
        yield _texts(_stdin())
    elif str(file) == "-":
        yield _objects(_stdin(), "standard input")
    else:
        with file.open(encoding="utf-8") as lines:
            yield _objects(lines, str(file))


def _stdin() -> TextIO:
    if hasattr(sys.stdin, "reconfigure"):
        cast("Any", sys.stdin).reconfigure(encoding="utf-8", errors="strict")
    return sys.stdin


def _lines(source: TextIO, name: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers."""
    try:
        for number, line in enumerate(source, 1):
            if line := line.strip():
                yield number, line
    except UnicodeDecodeError as exc:
        raise InvalidInputError(f"{name} is not UTF-8 text: {exc}") from exc


def _texts(source: TextIO) -> Iterator[Item]:
    return (line for _, line in _lines(source, "standard input"))


def _objects(source: TextIO, name: str) -> Iterator[Item]:
    for number, line in _lines(source, name):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise InvalidInputError(f"{name}, line {number}: not JSON: {exc}") from exc
        if not isinstance(value, (str, dict)):
            raise InvalidInputError(f"{name}, line {number}: neither a text nor an object")
        yield cast("str | Mapping[str, Any]", value)
