"""Dates in a question, as ranges of time that memories may have occurred in.

Understood are ISO dates (2023-05, 2023-05-07), days with a month's name in English, German, French, Spanish, Italian,
Portuguese or Dutch ("7 May 2023", "May 7th", "im Mai 2023"), years, and in English what is counted from now: today,
yesterday, last week, two months ago, last Monday. A day or a month without a year means that of every recent year.
Days are UTC's.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from agentmem.types.clock import Micros, to_datetime, to_micros

if TYPE_CHECKING:
    from agentmem.types.ports import Ints, Vector

DATE_HALF_LIFE = 7 * 86_400 * 1_000_000
"""Microseconds beside a range after which a memory counts half as dated by it."""
_YEARS = 10
_MOST = 32
"""Ranges that are looked at, the first ones."""
_MONTHS = [
    "january januar janvier enero gennaio janeiro januari",
    "february februar février febrero febbraio fevereiro februari",
    "march märz mars marzo março maart",
    "april avril abril aprile",
    "may mai mayo maggio maio mei",
    "june juni juin junio giugno junho",
    "july juli juillet julio luglio julho",
    "august août agosto augustus",
    "september septembre septiembre settembre setembro",
    "october oktober octobre octubre ottobre outubro",
    "november novembre noviembre novembro",
    "december dezember décembre diciembre dicembre dezembro",
]
_MONTH = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
_PLAIN_WORDS = {"may", "march", "mars", "mei", "mai", "juni", "april", "august", "june"}
"""Names that are also other words, or people's: they count beside a day, a year, or such a word as "in"."""
_BEFORE = {"in", "im", "en", "em", "of", "de", "di", "during", "since", "until", "last", "this", "by", "around", "a"}
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_YEAR = r"(?:19|20|21)\d\d"
_ISO = re.compile(rf"\b({_YEAR})-(\d\d?)(?:-(\d\d?))?\b")
_NAMED = re.compile(
    rf"(?:\b(\w+)\s+)??(?:\b(\d\d?)(?:st|nd|rd|th|er|\.|º)?\s+(?:of\s+|de\s+)?)?\b({'|'.join(_MONTH)})\b"
    rf"(?:\s+(\d\d?)(?:st|nd|rd|th)?(?!\d))?(?:,?\s+(?:of\s+|de\s+|del\s+)?({_YEAR})\b)?"
)
_ONLY_YEAR = re.compile(rf"(?<![\d.,-])({_YEAR})(?![\d-]|[.,]\d)")
_AGO = re.compile(rf"\b(\d\d?|{'|'.join(_NUMBERS)})\s+(day|week|month|year)s?\s+ago\b")
_NEAR = re.compile(r"\b(last|past|this)\s+(week|month|year|" + "|".join(_WEEKDAYS) + r")\b")
_DAY = re.compile(r"\b(today|yesterday)\b")
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}

Range = tuple[Micros, Micros]


def ranges_of(question: str, now: Micros) -> tuple[Range, ...]:
    """Every range (inclusive start, exclusive end, microseconds) that the question names; none: it names no date."""
    text = question.casefold()
    if not any(char.isdigit() for char in text) and not any(
        name in text for name in (*_MONTH, "last", "past", "this", "ago", "day")
    ):
        return ()
    found = list[Range]()
    try:
        for start, end in [*_absolute(text, to_datetime(now)), *_relative(text, to_datetime(now))]:
            found.append((to_micros(start), to_micros(end)))
    except (ValueError, OverflowError):  # a clock at an end of time
        return ()
    return tuple(dict.fromkeys(found))[:_MOST]


def closeness(when: Ints, ranges: tuple[Range, ...]) -> Vector:
    """1 for times in one of the ranges, halved for each ``DATE_HALF_LIFE`` beside the nearest; float32."""
    nearest = np.full(len(when), np.inf)
    for start, end in ranges:
        nearest = np.minimum(nearest, np.maximum(np.maximum(start - when, when - (end - 1)), 0))
    return np.exp2(-nearest / DATE_HALF_LIFE).astype(np.float32)


def _absolute(text: str, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    rest = text
    for found in _ISO.finditer(text):
        rest = rest.replace(found[0], " ")
        yield from _span(int(found[1]), int(found[2]), found[3] and int(found[3]))
    text = rest
    for found in _NAMED.finditer(text):
        word, name, year = found[1], found[3], found[5]
        day = found[2] or found[4]
        if name in _PLAIN_WORDS and not day and not year and word not in _BEFORE:
            continue
        rest = rest.replace(found[0], " ")
        for each in [int(year)] if year else range(now.year - _YEARS + 1, now.year + 1):
            yield from _span(each, _MONTH[name], day and int(day))
    for found in _ONLY_YEAR.finditer(rest):
        yield datetime(int(found[1]), 1, 1, tzinfo=UTC), datetime(int(found[1]) + 1, 1, 1, tzinfo=UTC)


def _relative(text: str, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    for found in _DAY.finditer(text):
        start = today if found[1] == "today" else today - day
        yield start, start + day
    for found in _AGO.finditer(text):
        length = _DAYS[found[2]]
        count = _NUMBERS.get(found[1]) or int(found[1])
        middle = today - count * length * day
        yield middle - length // 2 * day, middle + (length // 2 + 1) * day
    for found in _NEAR.finditer(text):
        unit = found[2]
        if unit in _WEEKDAYS:
            back = (today.weekday() - _WEEKDAYS.index(unit)) % 7
            start = today - (back or 7) * day
            yield start, start + day
            continue
        start = {"week": today - today.weekday() * day, "month": today.replace(day=1)}.get(unit)
        start = start or today.replace(month=1, day=1)
        if found[1] == "this":
            yield start, today + day
        else:
            earlier = start - day
            first = {"week": start - 7 * day, "month": earlier.replace(day=1)}.get(unit)
            yield first or earlier.replace(month=1, day=1), start


def _span(year: int, month: int, day: int | str | None) -> Iterator[tuple[datetime, datetime]]:
    """The day or the month; nothing for 31 June."""
    try:
        start = datetime(year, month, int(day or 1), tzinfo=UTC)
    except ValueError:
        return
    yield start, start + timedelta(days=1 if day else monthrange(year, month)[1])
