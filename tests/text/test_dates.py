"""Dates in questions: every phrase of ``phrases.txt`` against a slow calendar that looks at each day, and more."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agentmem.text.dates.ranges as module
from agentmem.text.dates import closeness, ranges_of

HERE = Path(__file__).parent
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEDNESDAY = datetime(2025, 6, 18, 15, tzinfo=UTC)
NOWS = {
    "a Wednesday": WEDNESDAY,
    "a Monday, at its start": datetime(2025, 6, 16, tzinfo=UTC),
    "a Sunday, at its end": datetime(2025, 6, 22, 23, 59, 59, 999_999, tzinfo=UTC),
    "a Saturday": datetime(2024, 11, 2, 9, tzinfo=UTC),
    "a Friday": datetime(2026, 2, 13, 12, tzinfo=UTC),
    "a leap day": datetime(2024, 2, 29, 8, tzinfo=UTC),
    "the day after one": datetime(2028, 3, 1, 8, tzinfo=UTC),
    "the last of March": datetime(2025, 3, 31, 20, tzinfo=UTC),
    "the last of May": datetime(2024, 5, 31, 7, tzinfo=UTC),
    "New Year, a Sunday": datetime(2023, 1, 1, 0, 30, tzinfo=UTC),
    "New Year's Eve": datetime(2024, 12, 31, 23, 30, tzinfo=UTC),
    "week 53": datetime(2021, 1, 2, 10, tzinfo=UTC),
}
HOURS = {"morning": (4, 12), "afternoon": (12, 18), "evening": (17, 24), "night": (18, 30)}

Is = Callable[[date, date], bool]
"""Whether a day is meant, of a day and today."""


def micros(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1)


def ranges(question: str, now: datetime, zone: tzinfo = UTC) -> list[tuple[datetime, datetime]]:
    found = ranges_of(question, micros(now), zone)
    return [tuple(EPOCH + timedelta(microseconds=end) for end in each) for each in found]  # type: ignore[misc]


def table() -> Iterator[tuple[str, str, str]]:
    meaning = ""
    for line in (HERE / "phrases.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            meaning = line[1:-1]
        elif line and not line.startswith("#"):
            language, _, phrases = line.partition(": ")
            yield from ((meaning, language, phrase) for phrase in phrases.split(" | "))


# -- the calendar that looks at each day -----------------------------------------------------------------------------


def ago(low: int, high: int | None = None) -> Is:
    return lambda day, today: low <= (today - day).days <= (low if high is None else high)


def week(shift: int, *weekdays: int) -> Is:
    def same(day: date, today: date) -> bool:
        return day.isocalendar()[:2] == (today + 7 * shift * DAY).isocalendar()[:2]

    return lambda day, today: same(day, today) and (not weekdays or day.weekday() in weekdays)


def month(shift: int) -> Is:
    return lambda day, today: day.year * 12 + day.month == today.year * 12 + today.month + shift


def year(shift: int) -> Is:
    return lambda day, today: day.year == today.year + shift


def quarter(shift: int) -> Is:
    return lambda day, today: day.year * 4 + (day.month - 1) // 3 == today.year * 4 + (today.month - 1) // 3 + shift


def months_back(today: date, count: int) -> date:
    """The same day of an earlier month, or its last one, found by going back day by day."""
    day = today
    while (today.year * 12 + today.month) - (day.year * 12 + day.month) < count or day.day > today.day:
        day -= DAY
    return day


def around(count: int, slack: int) -> Is:
    return lambda day, today: abs((day - months_back(today, count)).days) <= slack


def since_months(count: int) -> Is:
    return lambda day, today: months_back(today, count) <= day <= today


def near(weekday: int) -> Is:
    return lambda day, today: day.weekday() == weekday and abs((day - today).days) <= 7


def recent(*wanted: int, days: tuple[int, ...] = ()) -> Is:
    """Months of the ten years up to this one, and days of them."""
    return lambda day, today: (
        day.month in wanted and today.year - 9 <= day.year <= today.year and (not days or day.day in days)
    )


def on(*dates: tuple[int, int, int]) -> Is:
    return lambda day, today: (day.year, day.month, day.day) in dates


def of(number: int, *wanted: int) -> Is:
    return lambda day, today: day.year == number and day.month in wanted


def season(months: tuple[int, ...], chosen: Callable[[list[list[date]], date], list[date]]) -> Is:
    """Of all runs of days in these months the one that is chosen."""

    @cache
    def runs(this_year: int) -> list[list[date]]:
        found = list[list[date]]()
        day = date(this_year - 3, 4, 1) if 1 in months else date(this_year - 3, 1, 1)
        while day.year <= this_year + 2:
            if day.month in months:
                if not found or found[-1][-1] + DAY != day:
                    found.append([])
                found[-1].append(day)
            day += DAY
        return found

    @cache
    def meant(today: date) -> frozenset[date]:
        return frozenset(chosen(runs(today.year), today))

    return lambda day, today: day in meant(today)


def over(runs: list[list[date]], today: date) -> list[date]:
    return [run for run in runs if run[-1] < today][-1]


def this_years(runs: list[list[date]], today: date) -> list[date]:
    return next(run for run in runs if run[0].year == today.year)


@cache
def christmas_before(today: date) -> list[date]:
    days = list[date]()
    last = today - DAY
    while len(days) < 3:
        if last.month == 12 and last.day in (24, 25, 26) and (days or last.day == 26):
            days.append(last)
        last -= DAY
    return days


def either(*parts: Is) -> Is:
    return lambda day, today: any(part(day, today) for part in parts)


COUNTED: dict[str, Is] = {
    "today": ago(0),
    "yesterday": ago(1),
    "day before yesterday": ago(2),
    "tomorrow": ago(-1),
    "day after tomorrow": ago(-2),
    "3 days ago": ago(3),
    "10 days ago": ago(10),
    "21 days ago": ago(21),
    "2 to 5 days ago": ago(2, 5),
    "2 to 3 days ago": ago(2, 3),
    "1 week ago": ago(4, 10),
    "2 weeks ago": ago(11, 17),
    "3 months ago": around(3, 15),
    "half a year ago": around(6, 45),
    "1 year ago": around(12, 182),
    "a year and a half ago": around(18, 182),
    "last 3 days": ago(0, 3),
    "last 7 days": ago(0, 7),
    "last 2 months": since_months(2),
    "last few weeks": ago(0, 35),
    "since 3 days": ago(0, 3),
    "next 3 days": ago(-3, 0),
    "2 weeks ahead": ago(-17, -11),
    "this week": week(0),
    "last week": week(-1),
    "last week, or the 7 days": either(week(-1), ago(0, 7)),
    "the week before last": week(-2),
    "next week": week(1),
    "this weekend": week(0, 5, 6),
    "last weekend": week(-1, 5, 6),
    "this month": month(0),
    "last month": month(-1),
    "next month": month(1),
    "last quarter": quarter(-1),
    "this year": year(0),
    "last year": year(-1),
    "on Monday": near(0),
    "last Friday": lambda day, today: day.weekday() == 4 and 1 <= (today - day).days <= 7,
    "this Sunday": lambda day, today: day.weekday() == 6 and 0 <= (day - today).days <= 6,
    "next Friday": lambda day, today: day.weekday() == 4 and (1 <= (day - today).days <= 7 or week(1)(day, today)),
    "Monday of last week": week(-1, 0),
    "last March": season((3,), over),
    "March last year": lambda day, today: day.month == 3 and day.year == today.year - 1,
    "at the end of last year": lambda day, today: (
        day.year == today.year - 1 and (day.month >= 9 or (day.month, day.day) >= (8, 32))
    ),
    "last summer": season((6, 7, 8), over),
    "this spring": season((3, 4, 5), this_years),
    "last winter": season((12, 1, 2), over),
    "last Christmas": lambda day, today: day in christmas_before(today),
    "since last week": either(week(-1), lambda day, today: week(0)(day, today) and day <= today),
}
"""What is counted from now, within a thousand days of it."""

RECURRING: dict[str, Is] = {
    "in May": recent(5),
    "5 March": recent(3, days=(5,)),
    "3 September": recent(9, days=(3,)),
    "in early May": recent(5, days=tuple(range(1, 12))),
    "in the middle of May": recent(5, days=tuple(range(11, 22))),
    "at the end of March": recent(3, days=tuple(range(21, 32))),
}
"""What is meant of every recent year."""

FIXED: dict[str, Is] = {
    "in May 2024": of(2024, 5),
    "in January 2025": of(2025, 1),
    "5 March 2024": on((2024, 3, 5)),
    "14 March 2025": on((2025, 3, 14)),
    "3 April or 4 March 2025": on((2025, 4, 3), (2025, 3, 4)),
    "14 March 2025 or 25 March 2014": on((2025, 3, 14), (2014, 3, 25)),
    "in the first half of 2024": lambda day, today: day.year == 2024 and day <= date(2024, 7, 1),
    "autumn 2023": of(2023, 9, 10, 11),
    "winter 2023": either(of(2022, 12), of(2023, 1, 2, 12), of(2024, 1, 2)),
    "second quarter of 2024": of(2024, 4, 5, 6),
    "in 2023": of(2023, *range(1, 13)),
    "in the 1990s": lambda day, today: 1990 <= day.year <= 1999,
    "before 2023": lambda day, today: day.year < 2023,
    "after 2023": lambda day, today: day.year > 2023,
    "between March and May 2024": of(2024, 3, 4, 5),
    "3 to 7 May 2024": on(*((2024, 5, day) for day in range(3, 8))),
    "2019 to 2021": lambda day, today: 2019 <= day.year <= 2021,
    "the first week of May 2024": on(*((2024, 5, day) for day in range(1, 8))),
    "the last week of May 2024": on(*((2024, 5, day) for day in range(25, 32))),
    "the week of 8 May 2024": on(*((2024, 5, day) for day in range(6, 13))),
    "2 days before 8 May 2024": on((2024, 5, 6)),
    "the Sunday before 8 May 2024": on((2024, 5, 5)),
    "the week after 8 May 2024": on(*((2024, 5, day) for day in range(9, 16))),
    "nothing": lambda day, today: False,
}
"""What is the same at any time."""

PARTS: dict[str, tuple[list[int], str]] = {
    "last night": ([-1], "night"),
    "yesterday evening": ([-1], "evening"),
    "yesterday afternoon": ([-1], "afternoon"),
    "this morning": ([0], "morning"),
    "tonight": ([0], "night"),
    "this evening": ([0], "evening"),
    "the last or the coming night": ([-1, 0], "night"),
    "tomorrow morning": ([1], "morning"),
}
"""Days from today, and the part of them that is meant."""


FIRST, LAST = date(1989, 1, 1), date(2039, 12, 31)


def runs_of(meant: Is, today: date, first: date = FIRST, last: date = LAST) -> list[tuple[date, date]]:
    """The first and the last day of each run of days that are meant."""
    found = list[tuple[date, date]]()
    day = first
    while day <= last:
        if meant(day, today):
            found = [*found[:-1], (found[-1][0], day)] if found and found[-1][1] + DAY == day else [*found, (day, day)]
        day += DAY
    return found


FIXED_RUNS = {meaning: runs_of(meant, FIRST) for meaning, meant in FIXED.items()}


def expected_days(meaning: str, today: date) -> list[tuple[date, date]]:
    if meaning in FIXED:
        return FIXED_RUNS[meaning]
    if meaning in RECURRING:
        return runs_of(RECURRING[meaning], today, date(today.year - 12, 1, 1), date(today.year + 2, 12, 31))
    return runs_of(COUNTED[meaning], today, today - 1_000 * DAY, today + 1_000 * DAY)


def days_of(found: list[tuple[datetime, datetime]]) -> list[tuple[date, date]]:
    """Ranges of whole days of UTC as runs of days, those beside or over each other together."""
    runs = list[tuple[date, date]]()
    for start, end in sorted(found):
        assert start.time() == time.min
        day = max(start.date(), FIRST)
        last = min((end - timedelta(microseconds=1)).date(), LAST)
        if runs and day <= runs[-1][1] + DAY:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((day, last))
    return runs


@pytest.mark.parametrize("now", NOWS.values(), ids=NOWS.keys())
def test_every_phrase_means_what_the_calendar_says(now: datetime) -> None:
    expected = {meaning: expected_days(meaning, now.date()) for meaning in (*COUNTED, *RECURRING, *FIXED)}
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    wrong = list[str]()
    for meaning, language, phrase in table():
        found = ranges(phrase, now)
        if meaning in PARTS:
            back, part = PARTS[meaning]
            first, end = (timedelta(hours=hour) for hour in HOURS[part])
            right = found == [(midnight + day * DAY + first, midnight + day * DAY + end) for day in back]
        elif meaning in expected:
            right = days_of(found) == expected[meaning]
        else:  # a weekday's part
            day = "on Monday" if meaning == "on Monday evening" else "last Friday"
            first, end = (timedelta(hours=hour) for hour in HOURS[meaning.split()[-1]])
            days = [each for run in expected[day] for each in run[:1]]
            starts = [datetime(each.year, each.month, each.day, tzinfo=UTC) for each in days]
            right = found == [(start + first, start + end) for start in starts]
        if not right:
            wrong.append(f"{language} {phrase!r} ({meaning}): {found}")
    assert not wrong, "\n".join(wrong)


def test_every_language_has_phrases_and_every_meaning_a_row() -> None:
    rows = list(table())
    assert {language for _, language, _ in rows} == {"en", "de", "fr", "es", "it", "pt", "nl", "ru", "zh", "ja"}
    assert {meaning for meaning, _, _ in rows} >= {*COUNTED, *RECURRING, *FIXED, *PARTS}


def day(text: str, count: float = 1) -> tuple[datetime, datetime]:
    start = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return start, start + timedelta(days=count)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who called the day before yesterday?", [day("2025-06-16")]),
        ("What did she plant half a year ago?", [day("2024-11-03", 91)]),
        ("the receipt of 9 Nov 2023", [day("2023-11-09")]),
        ("invoices from Feb 2024", [day("2024-02-01", 29)]),
        ("the order of 12/25/2024", [day("2024-12-25")]),
        ("the order of 25/12/2024", [day("2024-12-25")]),
        ("the order of 25.12.2024", [day("2024-12-25")]),
        ("the order of 7.8.2024", [day("2024-08-07")]),
        ("the order of 7/8/2024", [day("2024-08-07"), day("2024-07-08")]),
        ("the order of 7/7/2024", [day("2024-07-07")]),
        ("the order of 30/2/2024", []),
        ("What did we decide on Tuesday?", [day("2025-06-17"), day("2025-06-24")]),
        ("What did we decide on Wednesday?", [day("2025-06-11"), day("2025-06-18"), day("2025-06-25")]),
        ("What did we decide last Wednesday?", [day("2025-06-11")]),
        ("Who rang this morning?", [day("2025-06-18T04:00", 8 / 24)]),
        ("What did we watch the night before last?", []),
        ("the storm at the end of the month", []),
        ("an hour ago", [day("2025-06-18T13:30", 1 / 24)]),
        ("in the last 48 hours", [day("2025-06-16T15:00", 2 + 1 / 86_400_000_000)]),
        ("until Christmas", []),
        ("before yesterday", [(datetime(1, 1, 1, tzinfo=UTC), datetime(2025, 6, 17, tzinfo=UTC))]),
        ("since Tuesday", [day("2025-06-17", 2)]),
        ("in the summer or in autumn 2024", [day("2024-09-01", 91)]),
        ("What happened in May and June 2024?", [day("2024-05-01", 31), day("2024-06-01", 30)]),
        ("Did it rain on Friday, 13 June 2025?", [day("2025-06-13")]),
        ("Was war am Freitag, dem 13. Juni 2025?", [day("2025-06-13")]),
        ("on the evening of 13 June 2025", [day("2025-06-13T17:00", 7 / 24)]),
        ("29 February 2023", []),
        ("on 29 February 2024 at 5 pm", [day("2024-02-29")]),
        ("2024-02-30", []),
        ("last night at 23:15", [day("2025-06-17T18:00", 0.5)]),
        ("2 or 3 weeks ago", [day("2025-05-25", 14)]),
        ("LAST WEEK", [day("2025-06-09", 7)]),
        ("la semana pasada y ayer", [day("2025-06-09", 7), day("2025-06-17")]),
        ("Was geschah gestern, und was im März 2024?", [day("2025-06-17"), day("2024-03-01", 31)]),
        ("a decade ago", [day("2014-12-18", 365)]),
        ("Which year did they marry, 2019?", [day("2019-01-01", 365)]),
        ("Were there 2020 guests in room 2021?", []),
        ("in 2000 words", []),
        ("the trip of 1066", []),
        ("May 5 or May 6, 2024", [day("2024-05-05"), day("2024-05-06")]),
    ],
)
def test_a_question_means(question: str, expected: list[tuple[datetime, datetime]]) -> None:
    assert sorted(ranges(question, WEDNESDAY)) == sorted(expected)


UNDATED = (HERE / "undated.txt").read_text(encoding="utf-8").splitlines()


def test_ordinary_sentences_name_no_date() -> None:
    assert len(UNDATED) > 400
    dated = {line: ranges(line, now) for line in UNDATED for now in NOWS.values() if ranges(line, now)}
    assert not dated


def test_a_phrase_means_the_same_wherever_it_stands() -> None:
    wrong = list[str]()
    for _, _, phrase in table():
        alone = ranges(phrase, WEDNESDAY)
        for question in (f"{phrase}?", f"({phrase})", f"“{phrase}”", f"... {phrase}, ...", phrase.upper()):
            if ranges(question, WEDNESDAY) != alone:
                wrong.append(question)
    assert not wrong, wrong


ACCENTS = str.maketrans("áàâãéèêíìóôõúùçñ", "aaaaeeeiiooouucn")


def test_accents_may_be_left_out() -> None:
    plain = [
        (phrase, phrase.translate(ACCENTS)) for _, language, phrase in table() if language in ("fr", "es", "it", "pt")
    ]
    wrong = [without for phrase, without in plain if ranges(without, WEDNESDAY) != ranges(phrase, WEDNESDAY)]
    assert not wrong, wrong


# -- time zones ------------------------------------------------------------------------------------------------------

ZONES = (
    "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Kolkata", "Asia/Tokyo", "Pacific/Auckland",
    "Pacific/Kiritimati", "Pacific/Niue", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo",
)  # fmt: skip


@pytest.mark.parametrize("name", ZONES)
def test_days_are_those_of_the_zone(name: str) -> None:
    """What a question means in a zone is what it means in UTC to somebody whose clock shows the same."""
    zone = ZoneInfo(name)
    southern = name in ("Pacific/Auckland", "Australia/Lord_Howe")
    seasons = ("spring", "summer", "autumn", "winter")
    for now in (WEDNESDAY, NOWS["New Year's Eve"], NOWS["a leap day"]):
        local = now.astimezone(zone).replace(tzinfo=UTC)
        for meaning, _, phrase in table():
            if (southern and any(each in meaning for each in seasons)) or meaning in ("before 2023", "after 2023"):
                continue
            shown = [tuple(each.replace(tzinfo=zone) for each in one) for one in ranges(phrase, local)]
            expected = [tuple(each.astimezone(UTC) for each in one) for one in shown]
            assert ranges(phrase, now, zone) == expected, (phrase, now)


@pytest.mark.parametrize(
    ("name", "now", "hours"),
    [
        ("Europe/Berlin", datetime(2025, 3, 31, 12, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2025, 10, 27, 12, tzinfo=UTC), 25),
        ("America/New_York", datetime(2025, 3, 10, 12, tzinfo=UTC), 23),
        ("America/New_York", datetime(2025, 11, 3, 12, tzinfo=UTC), 25),
        ("Australia/Lord_Howe", datetime(2025, 4, 7, 3, tzinfo=UTC), 24.5),
        ("Africa/Cairo", datetime(2025, 4, 26, 9, tzinfo=UTC), 23),  # there is no midnight
        ("America/Havana", datetime(2024, 11, 4, 12, tzinfo=UTC), 25),  # midnight comes twice
        ("Asia/Kolkata", datetime(2025, 3, 31, 12, tzinfo=UTC), 24),
    ],
)
def test_days_on_which_the_clock_changes_are_shorter_or_longer(name: str, now: datetime, hours: float) -> None:
    zone = ZoneInfo(name)
    ((start, end),) = ranges("yesterday", now, zone)
    assert (end - start) / timedelta(hours=1) == hours
    ((today, _),) = ranges("today", now, zone)
    ((_, before),) = ranges("the day before yesterday", now, zone)
    assert (before, end) == (start, today)


def test_a_day_that_a_zone_skipped_is_none() -> None:
    apia = ZoneInfo("Pacific/Apia")  # went from the 29th to the 31st of December 2011
    assert ranges("30 December 2011", WEDNESDAY, apia) == []
    ((start, end),) = ranges("29-31 December 2011", WEDNESDAY, apia)
    assert end - start == 2 * DAY


def test_the_zone_says_which_day_it_is() -> None:
    evening = datetime(2025, 6, 17, 20, tzinfo=UTC)
    assert ranges("yesterday", evening) == [day("2025-06-16")]
    ((start, end),) = ranges("yesterday", evening, ZoneInfo("Pacific/Auckland"))
    assert (start, end) == (datetime(2025, 6, 16, 12, tzinfo=UTC), datetime(2025, 6, 17, 12, tzinfo=UTC))


@pytest.mark.parametrize("name", ["Australia/Sydney", "Pacific/Auckland", "America/Sao_Paulo", "Africa/Johannesburg"])
def test_seasons_south_of_the_equator(name: str) -> None:
    zone = ZoneInfo(name)
    for question, expected in (
        ("summer 2023", [(2022, 12, 2023, 3), (2023, 12, 2024, 3)]),
        ("last summer", [(2024, 12, 2025, 3)]),
        ("this winter", [(2025, 6, 2025, 9)]),
        ("next spring", [(2025, 9, 2025, 12)]),
    ):
        spans = [(datetime(y, m, 1, tzinfo=zone), datetime(z, n, 1, tzinfo=zone)) for y, m, z, n in expected]
        assert ranges(question, WEDNESDAY, zone) == spans


# -- anything --------------------------------------------------------------------------------------------------------

WORDS = sorted(
    {word for _, _, phrase in table() for word in phrase.split()} | set("0 1 31 99 366 2024 9999 - , . / 年 月".split())
)
CLOCKS = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), *NOWS.values()]),
)


@settings(max_examples=1_500)
@given(
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=12).map(" ".join),
    CLOCKS,
    st.sampled_from(["UTC", *ZONES]),
)
def test_ranges_are_never_empty_and_lie_within_all_time(question: str, now: datetime, name: str) -> None:
    found = ranges_of(question, micros(now), ZoneInfo(name))
    assert len(found) <= 32
    assert len(set(found)) == len(found)
    for start, end in found:
        assert micros(datetime.min.replace(tzinfo=UTC)) <= start < end <= micros(datetime.max.replace(tzinfo=UTC))


ENDS = [datetime.min, datetime.max, datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]  # noqa: DTZ901


@pytest.mark.parametrize("now", ENDS)
def test_every_phrase_at_the_ends_of_time(now: datetime) -> None:
    for _, _, phrase in table():
        for name in ("UTC", "Pacific/Kiritimati", "Pacific/Niue"):
            for start, end in ranges_of(phrase, micros(now.replace(tzinfo=UTC)), ZoneInfo(name)):
                assert start < end


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece",
    ["last ", "1/", "5 May ", "in the ", "'", "一月", "1990s, ", "a couple of ", "1,", "昨", "week of ", "the end of "],
)
def test_long_questions_take_no_longer(piece: str) -> None:
    assert len(ranges(piece * 20_000, WEDNESDAY)) <= 32


def test_closeness_is_one_inside_and_halves_every_seven_days() -> None:
    found = ranges_of("13 June 2025", micros(WEDNESDAY))
    when = ["2025-06-13T12:00+00:00", "2025-06-21T00:00+00:00", "2025-06-06T00:00+00:00", "2025-05-16T00:00+00:00"]
    near = closeness(np.array([micros(datetime.fromisoformat(each)) for each in when]), found)
    assert near == pytest.approx([1, 0.5, 0.5, 1 / 16], rel=1e-4)


def test_days_are_drawn_at_random_and_read_back() -> None:
    random_days = random.Random(7)
    formats = ["%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%Y-%m-%d", "%Y/%m/%d", "%d %b %Y", "%b %d, %Y", "%Y年%m月%d日"]
    for _ in range(500):
        drawn = date(1990, 1, 1) + timedelta(days=random_days.randrange(20_000))
        text = drawn.strftime(random_days.choice(formats))
        assert ranges(f"what happened on {text}?", WEDNESDAY) == [day(drawn.isoformat())], text


@given(
    st.lists(
        st.sampled_from(
            "the in on at of May may 5 12 31 1999 2024 2150 90s 1990s '05 3rd 24/7 3/14 3.5 1,000 12:30 2024-03 "
            "03.2024 05-06 4821 # $ % order room yesterday week 10 days ago am um le el a7 7a Q3 h1 5pm x2024 "
            "v1.2 .5 -".split()
        ),
        max_size=7,
    ),
    st.sampled_from([" ", "", ", "]),
)
def test_what_is_not_looked_at_names_no_date(words: list[str], between: str) -> None:
    """Most questions are put aside by a glance; it must not put one aside that names a date."""
    question = between.join(words)
    if module._says_nothing(question, module._lexicons()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_says_nothing", lambda *_: False)
            assert ranges_of(question, micros(WEDNESDAY)) == ()
