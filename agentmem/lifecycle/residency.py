"""Which tier a record of a large scope belongs to: pure rules, of its score, its use, and where it was placed.

    hot    placed there; or used within ``hot.idle_hours`` and worth ``hot.score``, a tenth less where it is hot already
    warm   placed there; or used within ``warm.idle_hours``; or hot, where there is no room
    cold   the rest, and what was placed there

Where a tier has not the room for all of these, those go down that are worth least by importance * recency / size, what
was placed last of all; a record that is in the tier counts a quarter more, so that two of about the same worth do not
take each other's place at every look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.lifecycle.promotion_score import recency, score
from agentmem.lifecycle.rules import HOUR, Rules
from agentmem.stores.placements import Used
from agentmem.types.clock import Micros
from agentmem.types.enums import Tier
from agentmem.types.forms import count_of

if TYPE_CHECKING:
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
    return "hot" if idle < residency.hot_idle and score(used.subject, now, rules).total >= least else "warm"


def decide(
    found: Iterable[tuple[Used, int]], now: Micros, rules: Rules, residency: Residency, held: Mapping[int, Tier]
) -> dict[int, Tier]:
    """The tier of each record, by row, that is hot or warm, those first that score highest.

    ``found`` has each of them with the bytes that it takes, ``held`` where they are now.
    """
    by_tier: dict[Tier, list[tuple[Used, int]]] = {"hot": [], "warm": []}
    for used, size in found:
        tier = tier_of(used, now, rules, residency, held.get(used.subject.row))
        if tier != "cold" and count_of(used.vectors):
            by_tier[tier].append((used, size))
    chosen = dict[int, Tier]()
    tiers: tuple[Tier, ...] = ("hot", "warm")
    for tier in tiers:
        kept, left = _fitting(by_tier[tier], now, rules, residency.budget[tier], tier, held)
        if tier == "hot":
            by_tier["warm"] += left
        kept.sort(key=lambda one: -score(one[0].subject, now, rules).total)
        chosen.update((used.subject.row, tier) for used, _ in kept)
    return chosen


def _fitting(
    found: list[tuple[Used, int]], now: Micros, rules: Rules, budget: int, tier: Tier, held: Mapping[int, Tier]
) -> tuple[list[tuple[Used, int]], list[tuple[Used, int]]]:
    """Those that stay within a budget, and those that go."""
    if sum(size for _, size in found) <= budget:
        return list(found), []

    def worth(one: tuple[Used, int]) -> tuple[bool, float]:
        used, size = one
        subject = used.subject
        importance = 0.5 if subject.importance is None else subject.importance
        value = importance * recency(subject.used_at, now, rules.half_life) / size
        return used.placed is not None, value * (STAYING if held.get(subject.row) == tier else 1)

    kept, left, taken = list[tuple[Used, int]](), list[tuple[Used, int]](), 0
    for one in sorted(found, key=worth, reverse=True):
        fits = taken + one[1] <= budget
        taken += one[1] * fits
        (kept if fits else left).append(one)
    return kept, left
