"""Dates by their names: months and their days, seasons, quarters, years, and dates in digits."""

from __future__ import annotations

import re

from agentmem.text.dates.civil import Calendar, Span
from agentmem.text.dates.match import Item, Match
from agentmem.text.dates.token import Day, Token

_PLAUSIBLE_YEARS = 25
"""A number between others is a year if it is one of so many before this one."""
_COUNTED = frozenset(
    "people persons euros euro dollars dollar pounds words calories kcal steps km kilometers miles meters metres kg "
    "grams points pages items users followers guests times mal personen leute worte schritte kilometer meter gramm "
    "personnes pas mots personas pasos palabras metros persone passi parole metri pessoas passos palavras mensen "
    "stappen woorden".split()
)
"""What a number of four digits before it counts."""
_NUMBERED = frozenset(
    "room number nr nummer zimmer page seite gate flight suite apartment bus route highway model version code pin "
    "invoice ticket order windows office zip port chambre habitacion camera quarto kamer password phone".split()
)
"""What a number of four digits after it numbers."""
_NO_DAY = re.compile("[fU]")
_TO_A_DATE = re.compile("[-j]I")
_ENDS = ".,-&jkY"


def day_of_month(match: Match) -> Item | None:
    """5 May 2024, May 5th, 3-7 May, the first of May."""
    day, month, year, last = match.get("d") or match["r"], match["m"], match.get("y"), match.get("d2")
    first, until = day.value, day.value if last is None else last.value
    if (day.kind == "p" and not match.language.dotted) or not 1 <= first <= until <= 31:
        return None
    if year is None and (month.kind == "z" or not _belongs_to(match, day, month)):
        return None
    apart = last is not None and match["to"].kind == "&" and not match.follows("q")

    def of_year(year: int) -> list[Span]:
        starts, ends = (match.calendar.day(year, month.value, each) for each in (first, until))
        if apart:
            return [*starts, *ends]
        return [Span(starts[0].start, ends[0].end)] if starts and ends else []

    item = Item("day" if last is None else "range", of_year=of_year)
    return item if year is None else item.in_year(year.value)


def _belongs_to(match: Match, day: Token, month: Token) -> bool:
    """Whether a number beside a month is its day: "may 5" is, "may 5 people", "in June 12 kids" are not."""
    last = match.after is None or match.after.kind in _ENDS
    if month.start < day.start and (
        not match.language.month_first or (day.kind == "n" and match.follows("i") and not last)
    ):
        return False
    if month.kind != "m" or day.kind in "op":
        return True
    if match.after is not None and match.after.capital:  # 12 May Street
        return False
    return month.capital or match.follows("dkqtI") or last


def month_or_season(match: Match) -> Item | None:
    """May 2024, in May, Mai; last May, next summer, l'été 2023."""
    name, year, which = match["m"], match.get("y"), match.which
    item = named(match.calendar, name)
    if year is not None:
        return item.in_year(year.value)
    if which is not None:
        return _near(match, name, item, which)
    if name.kind == "b":
        return item if match.follows("i") else None
    if match.follows("EAX"):
        return None
    return item if name.kind == "M" or _is_month(match, name) else None


def _near(match: Match, name: Token, item: Item, which: str) -> Item | None:
    calendar, language = match.calendar, match.language
    if match.follows("O") or (language.article_matters and match.follows("t")):
        return None
    if name.word in language.verbs and which == "this" and not name.capital:
        return None
    if which == "this" and (name.kind != "S" or len(item.in_year(calendar.year).spans) == 1):
        return item.in_year(calendar.year)
    which = {"recent": "last", "past": "last"}.get(which, which)
    if which not in ("last", "this", "next", "coming"):
        return None
    years = range(calendar.year - 2, calendar.year + 3)
    periods = sorted({span for year in years for span in item.in_year(year).spans})
    return Item(item.unit, calendar.chosen(periods, which), item.of_year, calendar.year)


def _is_month(match: Match, name: Token) -> bool:
    """Whether a month's name that is another word, too, is one here, by what comes before it."""
    before = match.before
    if match.leads_to(_TO_A_DATE):
        return True
    if before is None:
        return False
    if (
        before.kind in "ie"
        or (before.kind == "U" and before.value == "month")
        or (before.kind == "k" and before.word in ("since", "until", "till"))
    ):
        return True
    if before.kind == "f":
        return match.follows("f", "egrU") if match.language.article_matters else not name.capital
    if before.kind == "q" or (match.comes_after("qI&")):
        return True
    if name.word in match.language.verbs and not name.capital:
        return False
    return match.follows("kvV") or match.follows("&j-", "I")


def named(calendar: Calendar, name: Token) -> Item:
    """A month, a season or a quarter of any year."""
    value = name.value
    if name.kind == "S":
        return Item("season", of_year=lambda year: calendar.season_of(year, value))
    if name.kind == "Q":
        return Item("quarter", of_year=lambda year: calendar.quarter_of(year, value))
    return Item("month", of_year=lambda year: calendar.month_of(year, value))


def quarter(match: Match) -> Item | None:
    """Q2 2024, the second quarter of 2024, 2024年第二季度."""
    number, unit, year = match["o"], match.get("u"), match.get("y")
    if unit is not None and (unit.value != "quarter" or (number.kind == "n" and match.language.spaced)):
        return None
    item = named(match.calendar, number._replace(kind="Q"))
    if year is not None:
        return item.in_year(year.value)
    return item if (unit is None and match.follows("ikqef")) or match.follows("If") else None


def year(match: Match) -> Item | None:
    """In 2023, since 2019; a number of four digits alone if it is a year that one may remember."""
    token, after, calendar = match["y"], match.after, match.calendar
    year: int = token.value
    counts = after is not None and (after.kind == "U" or after.word in _COUNTED)
    if counts and not match.language.bare_unit:  # 2000 words; but в 2023 году
        return None
    said = token.word == "年" or match.follows("U") or match.follows("ikqefvV") or match.follows("&j-", "IY")
    if not said and not (match.follows("d") and not match.language.article_matters):
        if not calendar.year - _PLAUSIBLE_YEARS <= year <= calendar.year + 1 or not year % 100:
            return None
        if match.follows("/cn") or not match.words_before(3).isdisjoint(_NUMBERED):
            return None
        if not year % 10 and after is not None and after.kind == "x" and after.word[-1:] == "s":
            return None
    return Item("year", [calendar.year_of(year)], year=year)


def in_digits(match: Match) -> Item | None:
    """14.03.2025, 3/14/2025, 2025-03; 14.3. and 3/14 after a word that says that it is a date."""
    token = match["T"]
    readings: list[Day] = token.value
    if token.kind == "l":
        if not match.follows("dkq" if match.language.article_matters else "dkqt") or match.leads_to(_NO_DAY):
            return None
    unit = "day" if any(day for _, _, day in readings) else "month"

    def of_year(year: int) -> list[Span]:
        return [span for reading in readings for span in _spans(match.calendar, reading, year)]

    years = {year for year, _, _ in readings}
    if None in years:
        return Item(unit, of_year=of_year)
    return Item(unit, of_year(0), year=max((year for year in years if year), default=0))


def _spans(calendar: Calendar, reading: Day, year: int) -> list[Span]:
    said, month, day = reading
    year = said or year
    if not month:
        return [calendar.months(year * 12, 120)]
    return calendar.month_of(year, month) if day is None else calendar.day(year, month, day)
