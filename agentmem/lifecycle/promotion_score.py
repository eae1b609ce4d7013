"""What a record is worth, from how it was used.

    score      = 0.4 relevance + 0.3 frequency + 0.2 recency + 0.1 importance
    relevance  = sum(weight * value) / sum(weight) over its observations, 0 without any
        found by a search    value = min(1, similarity / relevant_similarity) * (1 - (rank - 1) / 20), at least 0
                             weight = 1 / rank
        accepted, rejected   value = 1, 0;  weight = 3
    frequency  = min(1, ln(1 + accesses) / ln(1 + frequent_accesses))
    recency    = 2 ** (-(now - last access, else created) / recency_half_life)
    importance   as given, 0.5 where it was not

Each part lies in [0, 1], hence so does the score. Ranks count from 1; a search in keyword mode measures no similarity,
its observation is the share of the query's words (the keyword score). A hit far down the list says little, so it weighs
little: relevance is that of the places where the record came to the fore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentmem.lifecycle.rules import Rules
from agentmem.stores.rows import Subject
from agentmem.types.clock import Micros

RELEVANCE_SHARE = 0.4
FREQUENCY_SHARE = 0.3
RECENCY_SHARE = 0.2
IMPORTANCE_SHARE = 0.1
LAST_RANK = 20
"""From the rank after this one on, a hit says nothing for the record."""
FEEDBACK_WEIGHT = 3.0


@dataclass(frozen=True, slots=True)
class PromotionScore:
    """The parts of a record's score, each in [0, 1]."""

    relevance: float
    recency: float
    frequency: float
    importance: float

    @property
    def total(self) -> float:
        return (
            RELEVANCE_SHARE * self.relevance
            + FREQUENCY_SHARE * self.frequency
            + RECENCY_SHARE * self.recency
            + IMPORTANCE_SHARE * self.importance
        )

    def to_dict(self) -> dict[str, float]:
        parts = {"relevance": self.relevance, "recency": self.recency, "frequency": self.frequency}
        return {name: round(part, 6) for name, part in {**parts, "importance": self.importance}.items()}


def score(subject: Subject, now: Micros, rules: Rules) -> PromotionScore:
    """A record's score at an instant."""
    return PromotionScore(
        relevance=relevance(subject.value, subject.weight),
        recency=recency(subject.used_at, now, rules.half_life),
        frequency=frequency(subject.accesses, rules.frequent),
        importance=0.5 if subject.importance is None else subject.importance,
    )


def relevance(value: float, weight: float) -> float:
    """From the two sums over all observations."""
    return min(1.0, value / weight) if weight > 0 else 0.0


def frequency(accesses: int, frequent: int) -> float:
    return min(1.0, math.log1p(accesses) / math.log1p(frequent))


def recency(used_at: Micros, now: Micros, half_life: Micros) -> float:
    return 2.0 ** (-max(0, now - used_at) / half_life)


def observation(rank: int, similarity: float | None, keyword: float, similar: float) -> tuple[float, float]:
    """What being found at a rank says: ``(weight * value, weight)``; ``similarity`` is None in keyword mode."""
    closeness = keyword if similarity is None else similarity / similar
    value = min(1.0, max(0.0, closeness)) * max(0.0, 1 - (rank - 1) / LAST_RANK)
    return value / rank, 1 / rank


def feedback(accepted: bool) -> tuple[float, float]:
    """What a user's verdict says, in the same form."""
    return (FEEDBACK_WEIGHT if accepted else 0.0), FEEDBACK_WEIGHT
