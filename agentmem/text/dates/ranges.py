"""From a question to the ranges of time that it names."""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from functools import cache

from agentmem.text.dates.civil import Calendar, Range, days
from agentmem.text.dates.language import Lexicon
from agentmem.text.dates.languages import LANGUAGES
from agentmem.text.dates.match import Context, Item
from agentmem.text.dates.rules import dates_among
from agentmem.text.dates.token import Token, fold
from agentmem.text.dates.tokens import tokens_of
from agentmem.types.clock import Micros

LONGEST = 4_000
"""Characters of a question that are looked at."""

_MOST = 32
"""Ranges that are looked at, the first ones."""
_DIGIT = re.compile(r"\d|[〇一二三四五六七八九十]{1,4}[月年]")
_DATE_IN_DIGITS = re.compile(r"(?:19|20|21)\d\d|\d[-/.,:]\d")
_ASCII_WORD = re.compile("[a-z][a-z0-9]*")
_WORD = re.compile(r"[^\W\d_]+")
_KANA = re.compile("[\u3040-\u30ff]")


class _Lexicons:
    """Every language, ready to be looked up in, and which words may name a date in which of them."""

    def __init__(self) -> None:
        every = [Lexicon(language) for language in LANGUAGES]
        self.spaced = [each for each in every if each.language.spaced]
        self.unspaced = [each for each in every if not each.language.spaced]
        self.by_word = dict[str, list[Lexicon]]()
        for lexicon in self.spaced:
            for word in lexicon.anchors:
                self.by_word.setdefault(word, []).append(lexicon)
        self.signs = re.compile("[" + "".join({word[0] for each in self.unspaced for word in each.anchors}) + "]")


_lexicons = cache(_Lexicons)


def ranges_of(question: str, now: Micros, zone: tzinfo = UTC) -> tuple[Range, ...]:
    """Every range (inclusive start, exclusive end, microseconds) that the question names; none: it names no date.

    Days are those of the ``zone``, and "yesterday" is the day before the one that ``now`` falls on there. Only the
    first 4,000 characters are read.
    """
    lexicons = _lexicons()
    question = question[:LONGEST]
    if _says_nothing(question, lexicons):
        return ()
    try:
        calendar = Calendar(now, zone)
    except (ValueError, OverflowError):  # a clock at an end of time
        return ()
    tokens = tokens_of(question, calendar.year)
    words = frozenset(token.word for token in tokens)
    found = list[Token]()
    for lexicon in _candidates(tokens, words, lexicons):
        found += dates_among(lexicon.looked_up(tokens), Context(calendar, lexicon.language, words))
    ranges = dict[Range, None]()
    for token in _apart(found):
        ranges.update(dict.fromkeys(_ranges(token.value, calendar)))
    return tuple(ranges)[:_MOST]


def end_of_day(now: Micros, zone: tzinfo) -> Micros:
    """When the zone's next day begins, until which relative dates mean the same days."""
    try:
        calendar = Calendar(now, zone)
    except (ValueError, OverflowError):
        return now
    today = calendar.range(days(calendar.today, calendar.today + 1))
    return now if today is None else today[1]


def _says_nothing(question: str, lexicons: _Lexicons) -> bool:
    """Whether it has neither a date in digits nor a word that names one in any language: so it is with most questions.

    Other numbers say when something was only beside such a word.
    """
    if question.isascii():
        if not lexicons.by_word.keys().isdisjoint(_ASCII_WORD.findall(question.lower())):
            return False
        return _DATE_IN_DIGITS.search(question) is None
    return (
        _DIGIT.search(question) is None
        and lexicons.by_word.keys().isdisjoint(map(fold, _WORD.findall(question)))
        and lexicons.signs.search(question) is None
    )


def _candidates(tokens: list[Token], words: frozenset[str], lexicons: _Lexicons) -> list[Lexicon]:
    """The languages in which these may name a date: of those that know the same word the ones that know most others."""
    chosen = set[Lexicon]()
    anchors = words & lexicons.by_word.keys()
    for word in anchors:
        known = {each: len(words & each.words) for each in lexicons.by_word[word]}
        chosen.update(each for each, count in known.items() if count == max(known.values()))
    kinds = {token.kind for token in tokens}
    if "J" in kinds:
        kana = any(_KANA.search(token.word) for token in tokens if token.kind == "J")
        chosen.update(each for each in lexicons.unspaced if not kana or each.language.code == "ja")
    if not chosen and not kinds.isdisjoint("YTl"):
        # The words before a date in digits say of which kind it is.
        known = {each: len(words & each.words) for each in lexicons.spaced}
        chosen.update(each for each, count in known.items() if count == max(known.values()))
    return [each for each in (*lexicons.spaced, *lexicons.unspaced) if each in chosen]


def _apart(found: list[Token]) -> list[Token]:
    """Of dates that share words the longest, the one that more words speak for, in the order of the question."""
    chosen = list[Token]()
    for token in sorted(found, key=lambda token: token.start - token.end):
        if all(token.end <= other.start or other.end <= token.start for other in chosen):
            chosen.append(token)
    return sorted(chosen, key=lambda token: token.start)


def _ranges(item: Item, calendar: Calendar) -> list[Range]:
    """The instants of a date; those of every recent year, if it names none."""
    spans = list(item.spans)
    if of_year := item.yearless:
        spans = [span for year in calendar.recent_years() for span in of_year(year)]
    return [*item.instants, *(each for span in spans if (each := calendar.range(span)) is not None)]
