"""What a language says about time, and a question's words looked up in it.

The kinds of tokens that words become (``tokens`` has those of numbers and marks):

    D  a day: yesterday              F  a day's part with a name: tonight     P  a part of any day: morning
    H  tomorrow, or the morning      U  a unit: week                          R  a unit counted from now: 先週
    C  a count with its unit: half a year                c  a count: two, few h  and a half
    A  last, this, next before a noun                    Z  after it          X  on either side of it
    G  ago, after what it counts     V  ago, before it   B  from now, after   v  in, before it
    W  a weekday                     w  a short one      M  a month           m  one that is another word, too
    b  a short month, beside a day, a year, or after "in"     u  beside a day or a year      z  beside a year
    S  a season                      Q  a quarter: Q1    r  first, second
    e  early, mid, late              L  these, after their noun               g  the end, before "of"
    i  in, before a period           d  on, before a day k  since, before     K  since, before, after    &  and
    I  (made by the rules) a date    q  between, from    j  to, between dates f  of                      t  the
    E  every, and other habits       O  my, his          N  what looks like a date and is none
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentmem.text.dates.token import NUMERALS, Token, fold, numeral

Words = Mapping[str, Any]
"""Forms, separated by `` | ``, and what they say."""
_ANCHORS = frozenset("DFHPURCWwMmbuzSQ")
"""Kinds without which a question names no date, unless it has one in digits."""
_UNSPACED_ANCHORS = _ANCHORS.union("AGB")
_NUMERAL = re.compile(f"[{NUMERALS}]{{1,3}}")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})

_MONTHS = "Mmbu"


class Doubt(NamedTuple):
    """A word that says this only beside more words of its language than of those where it is another."""

    words: frozenset[str]
    others: frozenset[str]


@dataclass(frozen=True, slots=True)
class Language:
    """The words of a language by kind. A form may be several words, whatever stands between them."""

    code: str
    words: Mapping[str, Words]
    weekdays_alone: bool = False
    """Whether a weekday without article or preposition is a day: ``lundi``."""
    the_weekday: bool = False
    """Whether one with the article is a day rather than a habit: ``el lunes``."""
    dotted: bool = False
    """Whether ``3. Mai`` is written for the third."""
    month_first: bool = False
    """Whether the day may come after the month: ``May 5``."""
    article_matters: bool = False
    """Whether "last week" is a week by its name, and "the last week" perhaps another."""
    verbs: frozenset[str] = frozenset()
    """Months that are verbs, too."""
    bare_unit: bool = False
    """Whether a unit without a count is one of it: ``неделю назад``."""
    spaced: bool = True
    """Whether words are separated."""
    doubts: Mapping[str, Doubt] = field(default_factory=dict[str, Doubt])


class Lexicon:
    """A language, ready to be looked up in.

    ``anchors`` are the words without one of which a question names no date, ``words`` all that the language knows.
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self.anchors = set[str]()
        self.words = set[str]()
        self._by_first = dict[str, list[tuple[tuple[str, ...], str, Any]]]()
        self._by_text = dict[str, tuple[str, Any]]()
        for kind, words in language.words.items():
            for forms, value in words.items():
                for form in forms.split(" | "):
                    if language.spaced:
                        self._enter(form, kind, value)
                    else:
                        self._enter_unspaced(form, kind, value)
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))
        self._longest = max(map(len, self._by_text), default=0)

    def _enter(self, form: str, kind: str, value: Any) -> None:
        spellings = (form,) if form.isascii() else {fold(form), fold(form.translate(_UMLAUTS))}
        for spelling in spellings:
            words = tuple(spelling.split())
            self.words.update(words)
            self._by_first.setdefault(words[0], []).append((words, kind, value))
            if not _ANCHORS.isdisjoint(kind):
                self.anchors.add(words[-1])

    def _enter_unspaced(self, form: str, kind: str, value: Any) -> None:
        self._by_text[form] = kind, value
        if not _UNSPACED_ANCHORS.isdisjoint(kind):
            self.anchors.add(form)

    def looked_up(self, given: Sequence[Token]) -> list[Token]:
        """The tokens with the kinds that their words have in this language; ``x`` for the others."""
        found, at = list[Token](), 0
        while at < len(given):
            token = given[at]
            if token.kind == "J":
                found += self._cut(token)
                at += 1
                continue
            count, kind, value = self._longest_at(given, at)
            if not count:
                found.append(token)
                at += 1
                continue
            if token.hyphen and kind in _MONTHS and found and found[-1].kind in _MONTHS:  # March-May
                found.append(Token("-", None, token.start - 1, token.start))
            at += count
            found += _tokens(kind, value, token, given[at - 1].end)
        return found

    def _longest_at(self, given: Sequence[Token], at: int) -> tuple[int, str, Any]:
        """How many tokens the longest form takes that is here, and what it says."""
        token = given[at]
        for words, kind, value in self._by_first.get(token.word, ()):
            count = len(words)
            if count > 1 and tuple(each.word for each in given[at : at + count]) != words:
                continue
            if not (kind == "N" and token.capital):  # "in May I went"
                return count, kind, value
        return 0, "x", None

    def _cut(self, token: Token) -> Iterator[Token]:
        """The words of a text without spaces, longest first."""
        text, at = token.word, 0
        while at < len(text):
            length, kind, value = self._longest_in(text, at)
            start = token.start + at
            yield from _tokens(kind, value, Token(kind, None, start, start, text[at : at + length]), start + length)
            at += length

    def _longest_in(self, text: str, at: int) -> tuple[int, str, Any]:
        for length in range(min(self._longest, len(text) - at), 0, -1):
            found = self._by_text.get(text[at : at + length])
            if found is not None:
                return length, *found
        digits = _NUMERAL.match(text, at)
        if digits is None:
            return 1, "x", None
        number = numeral(digits[0])
        return len(digits[0]), "x" if number is None else "n", number


def _tokens(kind: str, value: Any, token: Token, end: int) -> list[Token]:
    """The token as what it is, or a token for each of the kinds that one word is: ``Montagabend``."""
    _, _, start, _, word, capital, hyphen = token
    if len(kind) == 1:
        return [Token(kind, value, start, end, word, capital, hyphen)]
    return [Token(each, one, start, end, word) for each, one in zip(kind, value, strict=True)]
