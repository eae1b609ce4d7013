"""The calendar of a time zone: days, weeks, months and seasons around a present, as ranges of instants.

Inside of this package a time of the calendar is a number of hours, 24 for each day since 1 January of the year 1, as if
no day were longer or shorter than others; only ``Calendar.range`` asks the zone which instant that is.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, tzinfo
from typing import NamedTuple

from agentmem.types.clock import Micros, to_datetime, to_micros

Range = tuple[Micros, Micros]
"""Inclusive start, exclusive end, microseconds."""

_FIRST = to_micros(datetime.min.replace(tzinfo=UTC))
_LAST = to_micros(datetime.max.replace(tzinfo=UTC))
_DAYS_OF_ALL_TIME = date.max.toordinal()
_RECENT_YEARS = 10
PARTS = {"morning": (4, 12), "noon": (11, 14), "afternoon": (12, 18), "evening": (17, 24), "night": (18, 30)}
"""Hours of a day that its parts begin and end at; a night ends on the next day."""
SPRING, SUMMER, AUTUMN, WINTER, CHRISTMAS = range(5)
_SOUTHERN = (
    "Australia/", "Antarctica/", "America/Argentina/", "America/Buenos_Aires", "America/Santiago", "America/Montevideo",
    "America/Sao_Paulo", "America/Asuncion", "America/Punta_Arenas", "America/Coyhaique", "Atlantic/Stanley",
    "Brazil/East", "Chile/", "Africa/Johannesburg", "Africa/Maseru", "Africa/Mbabane", "Africa/Gaborone",
    "Africa/Windhoek", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Norfolk", "NZ",
)  # fmt: skip
"""Zones where summer begins in December."""


class Span(NamedTuple):
    """Hours of the calendar, the end excluded."""

    start: int
    end: int


def days(first: int, end: int) -> Span:
    """From the beginning of one day to that of another; days are numbers, as ``date.toordinal`` gives them."""
    return Span(first * 24, end * 24)


class Calendar:
    """What a phrase is counted from: an instant, and the day that it falls on in a zone."""

    def __init__(self, now: Micros, zone: tzinfo) -> None:
        self.now = now
        self.zone = zone
        local = to_datetime(now).astimezone(zone)
        self.today = local.toordinal()
        self.year, self.month = local.year, local.month
        name = getattr(zone, "key", None) or ""
        self._spring = 9 if name.startswith(_SOUTHERN) else 3

    def range(self, span: Span) -> Range | None:
        """The instants of a span, as far as they lie within the years 1 to 9999; None if that is nothing."""
        start, end = self._instant(span.start), self._instant(span.end)
        return (start, end) if start < end else None

    def _instant(self, hours: int) -> Micros:
        # An hour that the zone skips is the instant of the change, an hour that it has twice the first of the two.
        day, hour = divmod(hours, 24)
        if day < 1:
            return _FIRST
        if day > _DAYS_OF_ALL_TIME:
            return _LAST
        local = datetime.fromordinal(day).replace(hour=hour, tzinfo=self.zone)
        return min(max(to_micros(local), _FIRST), _LAST)

    # -- periods with a name -----------------------------------------------------------------------------------------

    def day(self, year: int, month: int, day: int) -> list[Span]:
        """That day; none if the month has no such day."""
        if not 1 <= month <= 12 or not 1 <= year <= 9999 or not 1 <= day <= monthrange(year, month)[1]:
            return []
        ordinal = date(year, month, day).toordinal()
        return [days(ordinal, ordinal + 1)]

    def months(self, first: int, count: int = 1) -> Span:
        """Whole months, the first one counted from January of the year 0."""
        return days(_first_day(first), _first_day(first + count))

    def month_of(self, year: int, month: int) -> list[Span]:
        return [self.months(year * 12 + month - 1)] if 1 <= month <= 12 else []

    def quarter_of(self, year: int, quarter: int) -> list[Span]:
        return [self.months(year * 12 + (quarter - 1) * 3, 3)] if 1 <= quarter <= 4 else []

    def year_of(self, year: int) -> Span:
        return self.months(year * 12, 12)

    def season_of(self, year: int, season: int) -> list[Span]:
        """The season of a year: three whole months. Of the one around New Year both that it may mean.

        Christmas is a short one, of three days.
        """
        if season == CHRISTMAS:
            first = _first_day(year * 12 + 11) + 23
            return [days(first, first + 3)]
        month = (self._spring - 1 + season * 3) % 12
        first = [self.months((year - 1) * 12 + month, 3)] if month == 11 else []
        return [*first, self.months(year * 12 + month, 3)]

    def recent_years(self) -> range:
        """The years that a day or a month without a year may be of, this one last."""
        return range(max(self.year - _RECENT_YEARS + 1, 1), self.year + 1)

    # -- periods counted from today ----------------------------------------------------------------------------------

    def unit(self, unit: str, shift: int) -> list[Span]:
        """The week, weekend, month, quarter or year that today is in, or one so many before or after it."""
        if unit in ("week", "weekend"):
            first = monday(self.today) + shift * 7
            return [days(first + 5 * (unit == "weekend"), first + 7)]
        month = self.year * 12 + self.month - 1
        if unit == "month":
            return [self.months(month + shift)]
        if unit == "quarter":
            return [self.months(month - month % 3 + shift * 3, 3)]
        return [self.year_of(self.year + shift)] if unit == "year" else []

    def away(self, count: float, unit: str) -> Span | None:
        """A period as long as the unit around the time that lies so many units from now; negative: before it.

        A day is that day, and so is a night or a weekend. Hours and minutes are not the calendar's: see ``moment``.
        """
        whole = int(count)
        if unit == "day":
            return days(self.today + whole, self.today + whole + 1)
        if unit == "weekend":
            return self.unit(unit, whole)[0]
        if unit == "night":
            return self.day_part(self.today + whole, unit)
        if unit == "week":
            return _around(self.today + int(count * 7), 3)
        months = _MONTHS_OF.get(unit)
        if months is None:
            return None
        middle = self.later(int(count * months))
        if unit == "month" and whole != count:
            middle += 15 if count > 0 else -15
        return _around(middle, 182 if unit in ("year", "decade") else 45 if unit in ("quarter", "half") else 15)

    def until(self, count: float, unit: str) -> Span | None:
        """From so many units ago to the end of today, or from today to the end of the day in so many units."""
        if unit in ("day", "week"):
            other = self.today + int(count * (7 if unit == "week" else 1))
        elif unit == "weekend":
            return None
        elif unit in _MONTHS_OF:
            other = self.later(int(count * _MONTHS_OF[unit]))
        else:
            return None
        return days(min(other, self.today), max(other, self.today) + 1)

    def moment(self, count: float, unit: str, *, whole: bool) -> Range | None:
        """So many hours or minutes from now, and half of one on either side, or the ``whole`` time until then."""
        length = {"hour": 3_600_000_000, "minute": 60_000_000}.get(unit)
        if length is None:
            return None
        middle, half = self.now + round(count * length), length // 2
        start, end = (min(middle, self.now), max(middle, self.now) + 1) if whole else (middle - half, middle + half)
        start, end = max(start, _FIRST), min(end, _LAST)
        return (start, end) if start < end else None

    def later(self, months: int) -> int:
        """The same day of another month, or its last day."""
        first = _first_day(self.year * 12 + self.month - 1 + months)
        length = _first_day(self.year * 12 + self.month + months) - first
        day = self.today - _first_day(self.year * 12 + self.month - 1)
        return first + max(min(day, length - 1), 0)

    def weekdays(self, weekday: int, which: str) -> list[Span]:
        """The days of that name (0 is Monday) which the word before it may mean."""
        ahead, of_week = next_weekday(self.today, weekday), monday(self.today) + weekday
        coming = next_weekday(self.today + 1, weekday)
        found = {
            "last": [ahead - 7],
            "second last": [ahead - 14],
            "second next": [coming + 7],
            "this": [of_week, ahead],
            "coming": [coming],
            "next": [coming, of_week + 7],
            "near": [ahead - 7, ahead, coming],
        }.get(which, [])
        return [days(day, day + 1) for day in sorted(set(found))]

    def weekends(self, which: str) -> list[Span]:
        """Saturday and Sunday; the next weekend is the coming one and, where that is another, the one of next week."""
        this, following = self.unit("weekend", 0)[0], self.unit("weekend", 1)[0]
        begun = this.start <= self.today * 24
        found = {
            "last": self.unit("weekend", -1),
            "this": [this],
            "coming": [following if begun else this],
            "next": [following] if begun else [this, following],
        }
        return found.get(which, [])

    def chosen(self, periods: list[Span], which: str) -> list[Span]:
        """Of periods in order: the last one that is over, the next to begin, or this one (else the two beside)."""
        today, tomorrow = self.today * 24, self.today * 24 + 24
        over = [span for span in periods if span.end <= today]
        ahead = [span for span in periods if span.start >= tomorrow]
        if which == "last":
            return over[-1:]
        if which in ("next", "coming"):
            return ahead[:1]
        present = [span for span in periods if span.start < tomorrow and today < span.end]
        return present or [*over[-1:], *ahead[:1]]

    def day_part(self, day: int, part: str) -> Span:
        """Part of a day, in hours that a clock shows."""
        start, end = PARTS[part]
        return Span(day * 24 + start, day * 24 + end)


_MONTHS_OF = {"month": 1, "quarter": 3, "half": 6, "year": 12, "decade": 120}


def monday(day: int) -> int:
    """The first day of the week that a day is in."""
    return day - (day - 1) % 7


def next_weekday(day: int, weekday: int) -> int:
    """The first day of that name, not before the given one."""
    return day + (weekday - (day - 1)) % 7


def _around(day: int, slack: int) -> Span:
    return days(day - slack, day + slack + 1)


def _first_day(month: int) -> int:
    """The ordinal of a month's first day, counted from January of the year 0; kept within all time."""
    if month < 12:
        return 1
    if month >= 120_000:
        return _DAYS_OF_ALL_TIME + 1
    return date(month // 12, month % 12 + 1, 1).toordinal()


_SHARES = {
    "early": (0, 1, 3),
    "middle": (1, 2, 3),
    "late": (2, 3, 3),
    "first half": (0, 1, 2),
    "second half": (1, 2, 2),
}


def share(span: Span, which: str) -> Span:
    """A third or a half, in whole days, rounded outward."""
    begin, end, of = _SHARES[which]
    first, count = span.start // 24, (span.end - span.start) // 24
    return days(first + count * begin // of, first - (-count * end // of))


def within(span: Span, unit: str, place: int) -> Span | None:
    """A day, week, weekend or month of a longer period by its place, from 1; -1 is the last."""
    first, end = span.start // 24, span.end // 24
    if unit == "day":
        start = first + place - 1 if place > 0 else end - 1
        found = (start, start + 1)
    elif unit == "week":
        start = first + 7 * (place - 1) if place > 0 else end - 7
        found = (start, start + 7)
    elif unit == "weekend":
        saturdays = [day for day in range(first, min(end - 1, first + 400)) if day % 7 == 6]
        if not -len(saturdays) <= place <= len(saturdays):
            return None
        start = saturdays[place - 1 if place > 0 else place]
        found = (start, start + 2)
    else:
        return None
    return days(*found) if first <= found[0] and found[1] <= end else None


def weekday_within(span: Span, weekday: int, place: int) -> list[Span]:
    """The day of that name by its place in a longer period, from 1; -1 is the last."""
    first, end = span.start // 24, span.end // 24
    day = next_weekday(first, weekday) + 7 * (place - 1) if place > 0 else next_weekday(end - 7, weekday)
    return [days(day, day + 1)] if first <= day < end else []
