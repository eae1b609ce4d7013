"""What the rules see of a question, and the dates that they make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from agentmem.text.dates.civil import Calendar, Range, Span
from agentmem.text.dates.language import Language
from agentmem.text.dates.token import Token

OfYear = Callable[[int], list[Span]]


@dataclass(frozen=True, slots=True)
class Item:
    """A date: the spans that it may mean, and, if it has a name that recurs, what that means in any year.

    ``unit`` is what it is as long as: ``part`` of a day, ``day``, ``week``, ``weekend``, ``month``, ``quarter``,
    ``season`` or ``year``; ``range`` is from one date to another, ``span`` anything else. ``year`` is the one that it
    lies in, if it is a year or was said to be of one.
    """

    unit: str
    spans: Sequence[Span] = ()
    of_year: OfYear | None = None
    year: int | None = None
    instants: Sequence[Range] = ()
    """Ranges that are no hours of the calendar: the last 24 hours."""

    @property
    def yearless(self) -> OfYear | None:
        """What a date without a year is in a given one; None for a date that has one."""
        return self.of_year if self.year is None else None

    def in_year(self, year: int) -> Item:
        """The one of this year."""
        return self if self.of_year is None else replace(self, spans=self.of_year(year), year=year)

    def mapped(self, unit: str, change: Callable[[Span], Sequence[Span]]) -> Item:
        """The same with each span changed."""
        of_year = self.of_year

        def changed(year: int) -> list[Span]:
            return [new for old in (of_year(year) if of_year else ()) for new in change(old)]

        spans = [new for old in self.spans for new in change(old)]
        return Item(unit, spans, changed if of_year else None, self.year, self.instants)


@dataclass(frozen=True, slots=True)
class Context:
    """What a question is read in: a present in a zone, a language, and all the words of the question."""

    calendar: Calendar
    language: Language
    words: frozenset[str]


class Match:
    """The tokens that a rule's expression has found, by the names of its groups, and those beside them."""

    def __init__(self, context: Context, tokens: Sequence[Token], kinds: str, match: re.Match[str]) -> None:
        self.calendar = context.calendar
        self.language = context.language
        self.words = context.words
        self._tokens = tokens
        self._kinds = kinds
        self._match = match

    def __getitem__(self, group: str) -> Token:
        return self._tokens[self._match.start(group)]

    def get(self, group: str) -> Token | None:
        """The first token of a group, None if the rule has no such group or found none."""
        found = self.all(group)
        return found[0] if found else None

    def all(self, group: str) -> Sequence[Token]:
        """The tokens of a group."""
        if group not in self._match.re.groupindex:
            return ()
        start, end = self._match.span(group)
        return self._tokens[start:end] if start >= 0 else ()

    @property
    def date(self) -> Item:
        """The date in group ``I``."""
        return self["I"].value

    @property
    def second(self) -> Item:
        """The date in group ``I2``."""
        return self["I2"].value

    @property
    def before(self) -> Token | None:
        """The token before the match."""
        at = self._match.start() - 1
        return self._tokens[at] if at >= 0 else None

    @property
    def after(self) -> Token | None:
        """The token after the match."""
        at = self._match.end()
        return self._tokens[at] if at < len(self._tokens) else None

    def words_before(self, count: int) -> frozenset[str]:
        """So many words before the match."""
        at = self._match.start()
        return frozenset(token.word for token in self._tokens[max(at - count, 0) : at])

    def follows(self, kinds: str, before: str = "") -> bool:
        """Whether the token before the match is of one of these kinds, and the one before that of one of the others."""
        at = self._match.start() - 1
        return at >= 0 and self._kinds[at] in kinds and (not before or (at > 0 and self._kinds[at - 1] in before))

    def comes_after(self, kinds: str) -> bool:
        """Whether exactly these kinds come before the match."""
        return self._kinds.endswith(kinds, 0, self._match.start())

    def leads_to(self, pattern: re.Pattern[str]) -> bool:
        """Whether the kinds after the match begin so."""
        return pattern.match(self._kinds, self._match.end()) is not None

    @property
    def which(self) -> str | None:
        """What the word for last, this or next says, before its noun (``a``) or after it (``z``)."""
        for group, place in (("a", 0), ("z", 1)):
            if (token := self.get(group)) is not None:
                return either(token.value, place)
        return None


def either(value: Any, place: int) -> Any:
    """What a word says that means one thing before its noun, another after it."""
    return cast("tuple[Any, ...]", value)[place] if isinstance(value, tuple) else value


def singular(unit: str) -> str:
    """A unit's name without the sign of the plural."""
    return unit.removesuffix("s")


def hull(spans: Sequence[Span]) -> Span:
    """From the first start to the last end."""
    return Span(min(span.start for span in spans), max(span.end for span in spans))
