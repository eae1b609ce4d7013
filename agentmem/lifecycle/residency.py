"""Which tier a record of a large scope belongs to: pure rules, of its score, its use, and where it was placed.

    hot    placed there; or used within ``hot.idle_hours`` and worth ``hot.score``, a tenth less where it is hot already
    warm   placed there; or used within ``warm.idle_hours``; or hot, where there is no room
    cold   the rest, and what was placed there

Where a tier has not the room for all of these, those go down that are worth least by importance * recency / size, what
was placed last of all; a record that is in the tier counts a quarter more, so that two of about the same worth do not
take each other's place at every look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from agentmem.lifecycle.promotion_score import recency
from agentmem.lifecycle.rules import HOUR, Rules
from agentmem.lifecycle.scorer import total
from agentmem.retrieval.tiermap import TierMap
from agentmem.stores.placements import Used
from agentmem.types.clock import Micros
from agentmem.types.enums import Tier
from agentmem.types.forms import count_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.settings import Tiers

LESS = 0.9
"""Times the score that makes a record hot, it stays hot."""
STAYING = 1.25
"""Times what it is worth, a record counts where it is."""
GB = 10**9


@dataclass(frozen=True, slots=True)
class Residency:
    """The settings that the rules need: scores, microseconds, bytes."""

    hot_score: float
    hot_idle: Micros
    warm_idle: Micros
    budget: dict[Tier, int]

    @classmethod
    def of(cls, tiers: Tiers) -> Residency:
        return cls(
            tiers.hot.score,
            round(tiers.hot.idle_hours * HOUR),
            round(tiers.warm.idle_hours * HOUR),
            {"hot": round(tiers.hot.size_gb * GB), "warm": round(tiers.warm.size_gb * GB)},
        )


def tier_of(used: Used, now: Micros, rules: Rules, residency: Residency, held: Tier | None = None) -> Tier:
    """Where a record belongs, if there is room; ``held``: where it is."""
    if used.placed in ("hot", "warm", "cold"):
        return used.placed
    at = used.subject.last_at
    idle = residency.warm_idle if at is None else now - at
    if idle >= residency.warm_idle:
        return "cold"
    least = residency.hot_score * (LESS if held == "hot" else 1)
    return "hot" if idle < residency.hot_idle and total(used.subject, now, rules) >= least else "warm"


def decide(
    found: Iterable[tuple[Used, int]], now: Micros, rules: Rules, residency: Residency, held: Sequence[TierMap]
) -> TierMap:
    """The tier of each record, by row, that is hot or warm, those first that score highest.

    ``found`` has each of them once, with the bytes that it takes, ``held`` where they are now. Of ``found``, which may
    be millions, no more is kept at a time than about twice what there is room for.
    """
    hot, warm = _Pool("hot", residency.budget["hot"]), _Pool("warm", residency.budget["warm"])
    rest = iter(found)
    while part := list(islice(rest, _PART)):
        where = _tiers(np.array([used.subject.row for used, _ in part], np.int64), held)
        judged = [
            _judged(used, size, now, rules, residency, tier) for (used, size), tier in zip(part, where, strict=True)
        ]
        each = np.array(judged, _JUDGED)
        warm.add(hot.add(each[each["tier"] == _CODES["hot"]]))
        warm.add(each[each["tier"] == _CODES["warm"]])
    kept, left = hot.fitting()
    warm.add(left)
    below, _ = warm.fitting()
    return TierMap(np.concatenate([_by_score(kept), _by_score(below)]), len(kept))


_PART = 500
_SLACK = 1_000_000
"""Bytes beyond twice its budget that a tier may have before it is looked through."""
_CODES: dict[Tier | None, int] = {"hot": 2, "warm": 1, "cold": 0, None: 0}
_JUDGED = np.dtype(
    [("row", "i8"), ("size", "i8"), ("worth", "f8"), ("score", "f4"), ("tier", "i1"), ("held", "i1"), ("placed", "?")]
)


def _tiers(rows: NDArray[np.int64], held: Sequence[TierMap]) -> list[Tier | None]:
    """Where each of these records is held: all at once, since looking each one up is half of what deciding takes."""
    found: list[Tier | None] = [None] * len(rows)
    for tiers in held:
        at = tiers.positions(rows)
        for number in np.flatnonzero(at >= 0).tolist():
            found[number] = found[number] or ("hot" if at[number] < tiers.hot else "warm")
    return found


def _judged(
    used: Used, size: int, now: Micros, rules: Rules, residency: Residency, where: Tier | None
) -> tuple[int, int, float, float, int, int, bool]:
    """A record as ``_JUDGED`` has it; ``where`` it is held."""
    subject = used.subject
    tier = tier_of(used, now, rules, residency, where) if count_of(used.vectors) else "cold"
    if tier == "cold":
        return subject.row, size, 0, 0, 0, 0, False
    importance = 0.5 if subject.importance is None else subject.importance
    worth = importance * recency(subject.used_at, now, rules.half_life) / size
    reached = total(subject, now, rules)
    return subject.row, size, worth, reached, _CODES[tier], _CODES[where], used.placed is not None


class _Pool:
    """What may be in a tier: as much as fits, and about as much again."""

    def __init__(self, tier: Tier, budget: int) -> None:
        self._code, self._budget = _CODES[tier], budget
        self._parts: list[NDArray[Any]] = []
        self._size = 0

    def add(self, part: NDArray[Any]) -> NDArray[Any]:
        """Take these, too; returns what is certain to have no room."""
        self._parts.append(part)
        self._size += int(part["size"].sum())
        if self._size <= 2 * self._budget + _SLACK:
            return part[:0]
        every = self._in_order()
        fits = int(np.searchsorted(np.cumsum(every["size"]), self._budget + _SLACK // 2, "right"))
        self._parts, self._size = [every[:fits].copy()], int(every["size"][:fits].sum())
        return every[fits:]

    def fitting(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Those that stay within the budget, and those that go."""
        every = self._in_order()
        if self._size <= self._budget:
            return every, every[:0]
        fits, left, least = np.zeros(len(every), np.bool_), self._budget, int(every["size"].min())
        for at, size in enumerate(every["size"].tolist()):
            if size <= left:
                fits[at], left = True, left - size
            elif left < least:
                break
        return every[fits], every[~fits]

    def _in_order(self) -> NDArray[Any]:
        """All of them, those that are worth most first."""
        every = np.concatenate([np.empty(0, _JUDGED), *self._parts])
        worth = every["worth"] * np.where(every["held"] == self._code, STAYING, 1)
        return every[np.lexsort((-worth, ~every["placed"]))]


def _by_score(judged: NDArray[Any]) -> NDArray[np.int64]:
    return judged["row"][np.argsort(-judged["score"], kind="stable")]
