"""Weekdays, days and their parts: on Monday, last night, tomorrow morning."""

from __future__ import annotations

import re

from agentmem.text.dates.civil import Span, days
from agentmem.text.dates.match import Item, Match
from agentmem.text.dates.token import Token

_OF = re.compile("f")
_HABIT = re.compile("E|to")


def weekday(match: Match) -> Item | None:
    """On Monday, last Friday, lundi, am Montagabend."""
    token, which, part = match["w"], match.which, match.get("p")
    if match.leads_to(_HABIT):
        return None
    if which is None:
        if not _is_said(match, token, part):
            return None
        which = "near"
    elif match.get("a") is not None:
        article = match.language.article_matters and match.follows("t") and which != "coming"
        if match.leads_to(_OF) or match.follows("O") or article:
            return None
    which = {"recent": "last", "past": "last"}.get(which, which)
    return _parts(match, match.calendar.weekdays(token.value, which), part)


def _is_said(match: Match, token: Token, part: Token | None) -> bool:
    """Whether a weekday without "last" or "next" is a day, not a habit or a part of a name."""
    if match.follows("EnOcrAX") or (match.follows("t") and not match.follows("t", "dkq")):
        return False
    ends = match.after is None or match.after.kind in ".,"
    if token.kind == "w":
        return match.follows("dk") and (ends or match.after is None or match.after.kind != "x")
    said = match.follows("dkqt") or match.follows("&j-", "I")
    said = said or (match.after is not None and match.after.word == "s" and part is None)  # Monday's meeting
    return said or match.language.weekdays_alone or (part is not None and ends)


def weekday_of_week(match: Match) -> Item | None:
    """Monday of last week, 先週の月曜日."""
    week, number = match.date, match["w"].value
    if week.unit != "week" or len(week.spans) != 1:
        return None
    day = week.spans[0].start // 24 + number
    return _parts(match, [days(day, day + 1)], match.get("p"))


def weekday_and_date(match: Match) -> Item | None:
    """Friday, 14 March: the date says it."""
    item = match.date
    return item if item.unit == "day" else None


def part_by_name(match: Match) -> Item:
    """Last night, tonight, hier soir where that is one word: gisteravond."""
    calendar = match.calendar
    return Item("part", [calendar.day_part(calendar.today + by, part) for by, part in match["F"].value])


def day(match: Match) -> Item | None:
    """Yesterday, ayer por la noche."""
    token, part = match["D"], match.get("p")
    doubt = match.language.doubts.get(token.word)
    if doubt is not None and part is None and len(doubt.words & match.words) <= len(doubt.others & match.words):
        return None
    today = match.calendar.today + token.value
    return _parts(match, [days(today, today + 1)], part)


def today_and_date(match: Match) -> Item | None:
    """A week ago today, heute vor einer Woche: the other one says it."""
    return match.date if match["D"].value == 0 else None


def tomorrow(match: Match) -> Item | None:
    """Mañana, morgen: tomorrow, where it is not the morning."""
    part = match.get("p")
    if part is None and (match.follows("tdAEcqO") or match["H"].capital):
        return None
    today = match.calendar.today + 1
    return _parts(match, [days(today, today + 1)], part)


def part_near(match: Match) -> Item | None:
    """This morning, ce soir, letzte Nacht."""
    which, name, article = match.which, _part(match["p"]), match.language.article_matters
    back = {"this": [0], "last": [-1], "recent": [-1], "past": [-1]}.get(which or "")
    if back is None or match.follows("O"):
        return None
    if which != "this" and article and (name not in ("evening", "night") or match.follows("t")):
        return None
    if which == "this" and name == "night":
        back = [-1, 0]
    return Item("part", [match.calendar.day_part(match.calendar.today + each, name) for each in back])


def part_of_day(match: Match) -> Item | None:
    """The morning of 5 May, 5月3日の夜."""
    item = match.date
    return _with_part(match, item, match["p"]) if item.unit == "day" else None


def _parts(match: Match, spans: list[Span], part: Token | None) -> Item:
    item = Item("day", spans)
    return item if part is None else _with_part(match, item, part)


def _with_part(match: Match, item: Item, part: Token) -> Item:
    name = _part(part)
    return item.mapped("part", lambda span: [match.calendar.day_part(span.start // 24, name)])


def _part(token: Token) -> str:
    return "morning" if token.kind == "H" else token.value
