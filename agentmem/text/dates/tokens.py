"""A question cut into words, numbers and marks, those of dates written in digits already recognised as such.

Each token has a kind, one letter, so that the rules (``rules``) are regular expressions over a string of kinds. The
letters of words come from the lexicon of a language (``language``); those of numbers and marks are given here:

    n  a number up to 999          Y  a year, 1900 to 2199        y  a year of two digits after an apostrophe
    o  an ordinal number: 3rd      p  a number with a dot that may be one: 3.
    c  a number with decimals      T  a date in digits            l  a day and a month in digits, if a word says so
    -  a dash, between things      ,  a comma                     /  a slash
    .  any other mark              x  anything else: most words   J  a run of Chinese or Japanese
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from agentmem.text.dates.token import CJK, NUMERALS, Day, Token, fold, numeral

_MOST_TOKENS = 400
_HYPHENS = "-\u2010\u2011"
_DASHES = "\u2013\u2014"
_APOSTROPHES = "'\u2019\u02bc\u00b4`"
_NUMERAL = f"[{NUMERALS}]"
_DAY_OR_MONTH = rf"\d\d?|{_NUMERAL}{{1,3}}"
_TOKEN = re.compile(
    rf"(?P<word>[^\W\d_{CJK}][^\W_{CJK}]*)"
    rf"|(?P<month>(?:(?P<year>\d{{4}}|{_NUMERAL}{{4}})\s?年の?\s?)?(?<!\d)(?P<m>{_DAY_OR_MONTH})\s?月"
    rf"(?:\s?(?P<d>{_DAY_OR_MONTH})\s?[日号號])?)"
    rf"|(?P<only>(?<!\d)(?:(?:19|20|21)\d\d|{_NUMERAL}{{4}}))\s?年(?![間间度級级生])"
    rf"|[{_APOSTROPHES}](?P<short>\d\d)(?!\w)"
    rf"|(?P<digits>\d(?:[\d.,:/{_DASHES}-]*\d)?)(?P<tail>[^\W\d_]*|[º°ª])"
    rf"|(?P<cjk>(?:(?!{_NUMERAL}{{1,3}}月|{_NUMERAL}{{4}}年)[{CJK}])+)"
    r"|(?P<mark>[^\w\s]|_)"
)
_YMD = re.compile(r"((?:19|20|21)\d\d)([-/.])(\d\d?)\2(\d\d?)")
_DMY = re.compile(r"(\d\d?)([-/.])(\d\d?)\2((?:19|20|21)\d\d|\d\d)")
_YEAR_MONTH = re.compile(r"((?:19|20|21)\d\d)(?:-(\d\d?)|/(0\d))")
_MONTH_YEAR = re.compile(r"(?:(0\d|1[0-2])/|(0\d)\.)((?:19|20|21)\d\d)")
_DECADE = re.compile(r"(?:19|20)\d0")
_TWO_NUMBERS = re.compile(rf"(\d{{1,4}})[{_DASHES}-](\d{{1,4}})")
_DECIMAL = re.compile(r"\d{1,3}[.,]\d\d?")
_DAY_DOT_MONTH = re.compile(r"(\d\d?)\.(\d\d?)")
_DAY_SLASH_MONTH = re.compile(r"(?!24/7)(\d\d?)/(\d\d?)")
_ORDINALS = frozenset("st nd rd th er ere re e ro o a º ° ª \u0433\u043e \u0435".split())
_DOT_AND_WORD = re.compile(r"\.\s?[^\W\d_]")
_NO_DATE_AFTER = "#$€£¥@_+=~/\\.:,*"
_NO_DATE_BEFORE = "%€$£¥°_*="


def tokens_of(text: str, this_year: int) -> list[Token]:
    """The tokens of a question, before its words are looked up in any language."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    loud = text.upper() == text
    found = list[Token]()
    begins = True
    for match in _TOKEN.finditer(text):
        group, (start, end) = match.lastgroup, match.span()
        if group == "word":
            word = match[0]
            capital = not loud and not begins and word[0].isupper()
            hyphen = start > 0 and text[start - 1] in _HYPHENS
            found.append(Token("x", None, start, end, fold(word), capital, hyphen))
        elif group == "mark":
            mark = _mark(text, start)
            if mark and not (mark == "." and found and found[-1].kind == "p"):
                found.append(Token(mark, None, start, end))
        elif group == "tail":
            found += _number(text, match, this_year)
        elif group == "cjk":
            found.append(Token("J", None, start, end, match[0]))
        elif group == "month":
            found.append(_cjk_date(match))
        elif group == "only":
            found.append(Token("Y", numeral(match["only"]), start, end, "年"))
        else:
            found.append(Token("y", _full_year(int(match["short"]), this_year), start, end))
        begins = bool(found) and found[-1].kind == "."
        if len(found) >= _MOST_TOKENS:
            break
    return found


def _cjk_date(match: re.Match[str]) -> Token:
    year, month, day = (numeral(match[group]) if match[group] else None for group in ("year", "m", "d"))
    if month is None or (match["d"] and day is None):
        return Token("x", None, match.start(), match.end())
    return Token("T", [(year, month, day)], match.start(), match.end())


def _mark(text: str, at: int) -> str:
    """The kind of a mark; none for what joins two parts of a word, as in ``week-end`` and ``l'an``."""
    mark, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if mark in _APOSTROPHES:
        return "" if after.isalpha() else "."
    if mark in _HYPHENS:
        joins = before.isalnum() and after.isalnum() and (before.isalpha() or after.isalpha())
        return "" if joins else "-"
    if mark in _DASHES:
        return "-"
    return mark if mark in ",/" else "."


def _number(text: str, match: re.Match[str], this_year: int) -> Iterator[Token]:
    """What a run of digits, with what stands between them and right after them, may be."""
    run, tail, (start, end) = match["digits"], fold(match["tail"]), match.span()
    before, after = text[start - 1 : start], text[end : end + 1]
    rest = tail if tail > "\u3000" else ""
    if rest:  # 3天前
        tail, end, after = "", match.end("digits"), rest[0]
    elif tail == "t" and after.isdigit():  # 2023-05-07T10:00
        tail = after = ""
    alone = not (before and (before in _NO_DATE_AFTER or (before.isalnum() and before.isascii())))
    alone = alone and not (after and (after in _NO_DATE_BEFORE or after.isdigit()))
    if tail:
        yield _with_tail(run, tail, alone, start, end)
    elif alone and (two := _TWO_NUMBERS.fullmatch(run)) and not _YEAR_MONTH.fullmatch(run):
        middle = start + len(two[1])
        yield Token(*_plain(two[1], ""), start, middle)
        yield Token("-", None, middle, middle + 1)
        yield Token(*_plain(two[2], ""), middle + 1, end)
    elif run.isdigit():
        slashed = before == "/" and len(run) == 4  # Q2/2024
        yield Token(*(_plain(run, text[end : end + 3]) if alone or slashed else ("x", None)), start, end)
    else:
        yield Token(*(_date(run, after, this_year) if alone else ("x", None)), start, end)
    if rest:
        yield Token("J", None, end, match.end(), match["tail"])


def _with_tail(run: str, tail: str, alone: bool, start: int, end: int) -> Token:
    """A number with letters: 3rd, 1990s."""
    if run.isdigit() and len(run) <= 2 and tail in _ORDINALS:
        return Token("o", int(run), start, end)
    if tail == "s" and alone and _DECADE.fullmatch(run):
        return Token("T", [(int(run), 0, None)], start, end)
    return Token("x", None, start, end)


def _plain(run: str, after: str) -> tuple[str, int | None]:
    """The kind and the value of digits without anything between them."""
    if len(run) == 4 and run[:2] in ("19", "20", "21"):
        return "Y", int(run)
    if len(run) > 3:
        return "x", None
    return "p" if len(run) <= 2 and _DOT_AND_WORD.match(after) else "n", int(run)


def _date(run: str, after: str, this_year: int) -> tuple[str, Any]:
    """The kind and every reading of a date in digits, or of what is none."""
    if match := _YMD.fullmatch(run):
        return "T", [(int(match[1]), int(match[3]), int(match[4]))]
    if match := _DMY.fullmatch(run):
        return _in_either_order(match, this_year)
    if match := _YEAR_MONTH.fullmatch(run):
        return "T", [(int(match[1]), int(match[2] or match[3]), None)]
    if match := _MONTH_YEAR.fullmatch(run):
        return "T", [(int(match[3]), int(match[1] or match[2]), None)]
    if after == "." and (match := _DAY_DOT_MONTH.fullmatch(run)):
        return "l", [(None, int(match[2]), int(match[1]))]
    if match := _DAY_SLASH_MONTH.fullmatch(run):
        return "l", [(None, month, day) for month, day in _orders(int(match[1]), int(match[2]))]
    if _DECIMAL.fullmatch(run):
        return "c", float(run.replace(",", "."))
    return "x", None


def _orders(one: int, other: int) -> list[tuple[int, int]]:
    """Month and day of two numbers, the second one the month if it can be, then the first."""
    return [(month, day) for month, day in dict.fromkeys([(other, one), (one, other)]) if 1 <= month <= 12]


def _in_either_order(match: re.Match[str], this_year: int) -> tuple[str, list[Day]]:
    """Day and month in either order, where both are possible; with dots the day comes first if it can.

    With dots and a short year it may be the number of a version, too: then a word has to say that it is a date.
    """
    one, other, mark, short = int(match[1]), int(match[3]), match[2], len(match[4]) == 2
    year = _full_year(int(match[4]), this_year) if short else int(match[4])
    found: list[Day] = [(year, month, day) for month, day in _orders(one, other)]
    if mark == ".":
        sure = not short or (len(match[1]) == len(match[3]) == 2 and abs(this_year - year) <= 10)
        return "T" if sure else "l", found[:1]
    if short and one > 12 and other <= 12 and abs(this_year - (first := _full_year(one, this_year))) <= 10:
        found.append((first, other, int(match[4])))  # 25/3/14
    return "T", found


def _full_year(short: int, this_year: int) -> int:
    """A year of two digits: the one within the 80 years before and the 19 years after this one."""
    return this_year - 80 + (short - this_year + 80) % 100
