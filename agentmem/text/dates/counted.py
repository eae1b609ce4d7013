"""Dates that are counted from now: three days ago, the last two weeks, next month."""

from __future__ import annotations

import re

from agentmem.text.dates.civil import Span
from agentmem.text.dates.match import Item, Match, hull, singular

_OF = re.compile("f")
_WITHIN = re.compile("it?[MmI]")
_BESIDE = re.compile("[kV][td]{0,2}I")
_FEW = 5
_SHIFTS = {"last": -1, "this": 0, "next": 1, "coming": 1, "second last": -2, "second next": 2}
_DIRECTIONS = {
    "last": -1, "past": -1, "recent": -1, "span": -1, "some": -1, "since": -1, "next": 1, "coming": 1, "span ahead": 1,
}  # fmt: skip


def ago(match: Match) -> Item | None:
    """Three days ago, vor einer Woche, half a year ago."""
    return _away(match, -1)


def ahead(match: Match) -> Item | None:
    """Two weeks from now, dans deux semaines."""
    return _away(match, 1)


def count_of(match: Match) -> tuple[float, float] | None:
    """How many, at least and at most; None where two numbers are beside each other that make none."""
    ends = list[tuple[float, float]]()
    for group in ("n", "n2"):
        values = [token.value for token in match.all(group)]
        if len(values) == 2:
            tens, ones = values
            if tens not in (20, 30, 40, 50, 60, 90) or not isinstance(ones, int) or not 0 < ones < 10:
                return None
            values = [tens + ones]
        ends += [value if isinstance(value, tuple) else (value, value) for value in values]
    half = 0.5 if match.all("h") else 0.0
    return min(low for low, _ in ends) + half, max(high for _, high in ends) + half


def _away(match: Match, sign: int) -> Item | None:
    calendar = match.calendar
    if (counted := match.get("C")) is not None:
        count, unit = counted.value
        both: tuple[float, float] | None = (count, count)
    else:
        unit = singular(match["u"].value)
        if match.all("n"):
            both = count_of(match)
        else:
            both = (1, 1) if match.language.bare_unit and unit == match["u"].value else None
    if both is None or _comes_back(match):
        return None
    low, high = (sign * each for each in both)
    moments = [calendar.moment(each, unit, whole=False) for each in (low, high)]
    instants = [instant for moment in moments if moment for instant in moment]
    if instants:
        return Item("part", instants=[(min(instants), max(instants))])
    spans = [span for each in (low, high) if (span := calendar.away(each, unit)) is not None]
    if not spans:
        return None
    exact = low == high and low == int(low)
    year = calendar.year + int(low) if unit == "year" and exact else None
    return Item(unit if exact and unit in ("day", "weekend", "year") else "span", [hull(spans)], year=year)


def _comes_back(match: Match) -> bool:
    """Two days back in Berlin, where two days back would be two days ago."""
    word = match.get("g")
    return word is not None and word.value == "back" and match.after is not None and match.after.kind not in ".,"


def rolling(match: Match) -> Item | None:
    """The last three days, the next two weeks, seit drei Tagen."""
    if (word := match.get("k")) is not None:
        which: str | None = word.value
    else:
        which = match.which
    if which not in _DIRECTIONS or match.leads_to(_OF):
        return None
    if (counted := match.get("C")) is not None:
        count, unit = counted.value
    elif (both := count_of(match)) is not None:
        count, unit = both[1], singular(match["u"].value)
        if "span" not in which and match.get("k") is None and not _is_plural(match):  # "I ate 3 last week"
            return None
    else:
        return None
    return _roll(match, _DIRECTIONS[which] * count, unit)


def _is_plural(match: Match) -> bool:
    return match["u"].value.endswith("s") or match["n"].start > match["a" if match.get("a") else "z"].start


def _roll(match: Match, count: float, unit: str) -> Item | None:
    if (moment := match.calendar.moment(count, unit, whole=True)) is not None:
        return Item("part", instants=[moment])
    span = match.calendar.until(count, unit)
    return None if span is None else Item("span", [span])


def unit_by_itself(match: Match) -> Item:
    """A word that is a period counted from now: 先週, 去年."""
    unit, *shifts = match["r"].value
    spans = [span for shift in shifts for span in match.calendar.unit(unit, shift)]
    return Item(unit, spans, year=match.calendar.year + shifts[0] if unit == "year" else None)


def unit_near(match: Match) -> Item | None:
    """Last week, this month, next year, la semana pasada."""
    unit, which = match["u"].value, match.which
    if which is None or _is_part_of_something(match, unit, which):
        return None
    if unit == "hour":
        return _roll(match, -1, unit) if which == "past" else None
    several = unit in ("days", "weeks", "months", "years") or which == "span"
    if several and match.language.spaced:
        return _roll(match, -_FEW, singular(unit)) if _DIRECTIONS.get(which) == -1 else None
    if unit not in ("week", "weekend", "month", "quarter", "year"):
        return None
    if match.language.article_matters and match.follows("t"):
        if which in ("next", "this"):
            return None
        which = "recent" if which == "last" else which
    if unit == "weekend":
        spans = match.calendar.weekends({"past": "last", "recent": "last"}.get(which, which))
        return Item(unit, spans or _shifted(match, unit, which)) if which in _SHIFTS or spans else None
    rolled = _roll(match, -1, unit) if which in ("past", "recent") else None
    if rolled is not None:
        named = _shifted(match, unit, "last") if which == "recent" else []
        return Item("span", [*named, *rolled.spans])
    if which not in _SHIFTS:
        return None
    year = match.calendar.year + _SHIFTS[which] if unit == "year" else None
    return Item(unit, _shifted(match, unit, which), year=year)


def _shifted(match: Match, unit: str, which: str) -> list[Span]:
    return match.calendar.unit(unit, _SHIFTS[which]) if which in _SHIFTS else []


def _is_part_of_something(match: Match, unit: str, which: str) -> bool:
    """The last week of school, my last year there; the last week in May and the one before 5 May have other rules."""
    if match.get("a") is not None and (match.leads_to(_OF) or (match.follows("O") and which != "this")):
        return True
    beside = match.get("a") is not None and which == "last" and match.leads_to(_BESIDE)
    return beside or (unit in ("week", "weekend") and match.leads_to(_WITHIN))
