"""What was found as a text for a prompt: the one place that says how an entry looks, and which of them fit a budget.

A day is a line, ``2025-03-01:``, and an entry of it one below, ``- role: text``. Further lines of a text begin with
``  | ``, so that whatever a memory says lies within its own entry; a text without a role that has a colon in its first
line stands in quotation marks, so that it cannot pass for what somebody said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from agentmem.types.clock import local_date
from agentmem.types.records import MemoryRecord

PATIENCE = 50
"""Entries in a row that are too long for what is left of a budget, after which looking ends."""
PATIENCE_BEFORE_HALF = 1_000
"""The same while less than half of the budget is used."""

_SHORTEST = "\n- x"
_ROUNDING = 2
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_NOT_A_NAME = re.compile(r"[^\w @.+-]+")


def estimate_tokens(text: str) -> int:
    """An upper guess at the tokens of a text: one per three bytes of UTF-8, where English averages four to five."""
    return -(-len(text.encode()) // 3)


class Entry(NamedTuple):
    """A record as it is shown: its day, and the lines below."""

    day: str
    text: str


def entry(record: MemoryRecord, zone: tzinfo) -> Entry:
    """A record as one entry, with its day in the zone."""
    day = local_date(record.occurred_at or record.created_at, zone).isoformat()
    text = record.content.strip()
    first = text.splitlines()[0]
    if record.role is not None:
        text = f"{_NOT_A_NAME.sub('_', record.role)}: {text}"
    elif ":" in first or "\N{FULLWIDTH COLON}" in first:
        text = f'"{text}"'
    first, *more = (_CONTROL.sub(" ", line) for line in text.splitlines())
    return Entry(day, "\n".join([f"- {first}", *(f"  | {line}".rstrip() for line in more)]))


def below_days(entries: Iterable[Entry]) -> str:
    """The entries as one text, in their order: each day once, above those of its entries that follow each other."""
    return "\n".join(
        line
        for day, those in groupby(entries, key=attrgetter("day"))
        for line in (f"{day}:", *(each.text for each in those))
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Positions of the entries to show, by rank; ``complete`` unless more of them might change that."""

    chosen: list[int]
    complete: bool


class Budget:
    """Chooses entries for a text of at most ``max_tokens`` as ``count`` counts them; what it counted, it remembers."""

    def __init__(self, max_tokens: int, count: Callable[[str], int]) -> None:
        self._most = max_tokens
        self._count = count
        self._costs = dict[str, int]()
        self._least = count(_SHORTEST)

    def choose(self, entries: Sequence[Entry]) -> Selection:
        """As many of the entries (best first) as fit; what is too long for the rest of the budget is passed over.

        The costs of single entries and days are added up; where that says that the budget is used, the text is counted
        as a whole, so that a long one is counted a few times and not once for each entry.
        """
        chosen, days, used, exact, misses = list[int](), set[str](), 0, True, 0
        for position, (day, text) in enumerate(entries):
            cost = self._cost(f"\n{text}")
            if day not in days:
                cost += self._cost(f"\n{day}:" if chosen else f"{day}:")
            if used + cost > self._most and not exact:
                used, exact = self._whole(entries, chosen), True
            if used + cost <= self._most or (
                used + cost <= self._most + _ROUNDING and self._whole(entries, [*chosen, position]) <= self._most
            ):
                chosen.append(position)
                days.add(day)
                used, exact, misses = used + cost, False, 0
                continue
            misses += 1
            patience = PATIENCE if 2 * used > self._most else PATIENCE_BEFORE_HALF
            if misses >= patience or self._most - used < self._least:
                return Selection(self._within(entries, chosen), True)
        return Selection(self._within(entries, chosen), False)

    def fits(self, text: str) -> bool:
        """Whether the text is within the budget."""
        return self._count(text) <= self._most

    def _within(self, entries: Sequence[Entry], chosen: list[int]) -> list[int]:
        """The same without the last ones, where single costs add up to less than the whole."""
        while chosen and (used := self._whole(entries, chosen)) > self._most:
            too_many = len(chosen) * (used - self._most) // used
            chosen = chosen[: -max(1, too_many)]
        return chosen

    def _whole(self, entries: Sequence[Entry], chosen: Sequence[int]) -> int:
        return self._count(below_days(sorted((entries[position] for position in chosen), key=attrgetter("day"))))

    def _cost(self, line: str) -> int:
        cost = self._costs.get(line)
        if cost is None:
            cost = self._costs[line] = self._count(line)
        return cost
