"""Dates made of dates: the end of last week, two days before 5 May, between March and June, since Monday."""

from __future__ import annotations

from agentmem.text.dates import civil
from agentmem.text.dates.civil import Span, days
from agentmem.text.dates.counted import count_of
from agentmem.text.dates.match import Item, Match, either, hull, singular
from agentmem.text.dates.named import named

_END_OF_TIME = 10_000 * 366 * 24


def of_that_year(match: Match) -> Item | None:
    """March last year, 去年の夏."""
    year, other = match.date, match["m"]
    if year.unit != "year" or year.year is None:
        return None
    item = other.value if other.kind == "I" else named(match.calendar, other)
    return item.in_year(year.year) if item.yearless else None


def share(match: Match) -> Item | None:
    """Early May, the end of last year, 5月上旬."""
    item, word = match.date, match["e"]
    if item.unit in ("day", "part"):
        return item if word.kind == "e" else None
    if item.unit not in ("week", "month", "quarter", "season", "year"):
        return None
    return item.mapped("span", lambda span: [civil.share(span, word.value)])


def within(match: Match) -> Item | None:
    """The first week of May, the last day of 2024, the second Monday in May."""
    item, place, weekday = match.date, match["o"].value, match.get("w")
    if match["o"].kind in "AX":
        if either(place, 0) not in ("last", "recent", "span", "some"):
            return None
        place = -1
    if item.unit not in ("month", "quarter", "season", "year"):
        return None
    if weekday is not None:
        return item.mapped("day", lambda span: civil.weekday_within(span, weekday.value, place))
    unit = singular(match["u"].value)
    if unit not in ("day", "week", "weekend"):
        return None
    return item.mapped(unit, lambda span: [found] if (found := civil.within(span, unit, place)) else [])


def week_of(match: Match) -> Item | None:
    """The week of 5 May."""
    item, unit = match.date, match["u"].value
    if item.unit != "day" or unit not in ("week", "weekend"):
        return None

    def week(span: Span) -> list[Span]:
        monday = civil.monday(span.start // 24)
        return [days(monday + 5 * (unit == "weekend"), monday + 7)]

    return item.mapped(unit, week)


def beside(match: Match) -> Item | None:
    """Two days before 5 May, the week after it."""
    item, back, unit = match.date, match["k"].value == "before", singular(match["u"].value)
    length = {"day": 1, "week": 7, "weekend": 2, "month": 30}.get(unit)
    counted = bool(match.all("n"))
    both = count_of(match) if counted else (1, 1)
    if not counted and unit != match["u"].value:  # "how many days after 5 May"
        return None
    if not _may_have_a_side(match) or length is None or both is None:
        return None
    low, high = (int(each * length) for each in both)

    def moved(span: Span) -> list[Span]:
        first, end = span.start // 24, -(-span.end // 24)
        if unit == "weekend":
            saturday = civil.next_weekday(first - 8, 5) if back else civil.next_weekday(end, 5)
            return [days(saturday, saturday + 2)]
        if not counted:
            return [days(first - length, first) if back else days(end, end + length)]
        near, far = (first - low, first - high) if back else (end - 1 + low, end - 1 + high)
        return [days(min(near, far) - length // 2, max(near, far) + length // 2 + 1)]

    return item.mapped("day" if unit == "day" and low == high else "span", moved)


def weekday_beside(match: Match) -> Item | None:
    """The Sunday before 5 May."""
    item, back, weekday = match.date, match["k"].value == "before", match["w"].value
    if not _may_have_a_side(match):
        return None

    def nearest(span: Span) -> list[Span]:
        first, end = span.start // 24, -(-span.end // 24)
        day = civil.next_weekday(first - 7, weekday) if back else civil.next_weekday(end, weekday)
        return [days(day, day + 1)]

    return item.mapped("day", nearest)


def _may_have_a_side(match: Match) -> bool:
    units = ("day", "part", "week", "weekend", "month")
    return match.date.unit in units and match["k"].value in ("before", "after")


def between(match: Match) -> Item | None:
    """Between March and May 2024, from Monday to Friday, 2019-2021."""
    opening, joint = match.get("q"), match["j"]
    first, last = match.date, match.second
    if joint.kind == "k" and (joint.value != "until" or opening is None):
        return None
    if joint.kind == "&" and (opening is None or opening.value != "between"):
        return None
    if opening is None and first.unit != last.unit:
        return None
    if opening is not None and opening.kind == "k" and opening.value != "since":
        return None
    start, end = first.yearless, last.yearless
    if start and end:

        def of_year(year: int) -> list[Span]:
            begins, ends = start(year), end(year)
            if begins and ends and ends[-1].end <= begins[0].start:
                ends = end(year + 1)
            return [hull([begins[0], ends[-1]])] if begins and ends else []

        return Item("range", of_year=of_year)
    if start and last.of_year and last.year is not None and last.spans:
        first = first.in_year(last.year)
        if first.spans and first.spans[0].start >= last.spans[-1].end:
            first = first.in_year(last.year - 1)
    if len(first.spans) != 1 or len(last.spans) != 1 or first.spans[0].start >= last.spans[0].end:
        return None
    return Item("range", [hull([first.spans[0], last.spans[0]])])


def both_of_a_year(match: Match) -> Item | None:
    """May and June 2024."""
    first, last = match.date, match.second
    if not first.yearless or last.year is None or not last.of_year:
        return None
    return Item("span", [*first.in_year(last.year).spans, *last.spans])


def bounded(match: Match) -> Item | None:
    """Since March, before 2023, 5月以来: of what recurs, the last time that it began."""
    word, item, calendar = match["k"], match.date, match.calendar
    which = {"G": "before", "B": "after"}.get(word.kind, word.value)
    if which is None or (word.kind in "GB" and match.language.spaced):
        return None
    spans, tomorrow = list(item.spans), calendar.today * 24 + 24
    if of_year := item.yearless:
        begun = (span for year in calendar.recent_years() for span in of_year(year) if span.start < tomorrow)
        spans = sorted(begun)[-1:]
    if not spans or (which == "since" and item.unit == "range"):  # dal 3 al 7 maggio
        return item
    whole = hull(spans)
    if which == "since":
        return Item("span", [Span(whole.start, tomorrow if whole.start < tomorrow else _END_OF_TIME)])
    if which == "after":
        return Item("span", [Span(whole.end, _END_OF_TIME)])
    return Item("span", [Span(0, whole.end if which == "until" else whole.start)])
