"""What a record is worth by the scorer in use, the formula or a model learned from the store's own past.

A model knows of a record what its row of use knows, and nothing else: no text, no id, no scope. Times are hours, as
logarithms of one more.

    relevance   as in the formula
    frequency   accesses, as a logarithm of one more
    idle        since the last access, else since it was added
    importance  as given, 0.5 where it was not
    rating      (rating - 1) / 4, 0.5 where it was never rated
    span        from the first access to the last
    late        idle, less the mean time between two accesses; 0 with fewer than two
    used        1 if it was ever accessed
    insights    1 beyond the lowest layer
"""

from __future__ import annotations

import math

from agentmem.lifecycle.model import Learned
from agentmem.lifecycle.promotion_score import relevance, score
from agentmem.lifecycle.rules import HOUR, Rules
from agentmem.stores.rows import Subject
from agentmem.types.clock import Micros
from agentmem.types.enums import Layer


def features(subject: Subject, now: Micros) -> dict[str, float]:
    """What a model knows of a record at an instant."""
    span = 0 if subject.first_at is None or subject.last_at is None else subject.last_at - subject.first_at
    idle = _hours(now - subject.used_at)
    gap = None if subject.accesses < 2 else _hours(span / (subject.accesses - 1))
    return {
        "relevance": relevance(subject.value, subject.weight),
        "frequency": math.log1p(subject.accesses),
        "idle": idle,
        "importance": 0.5 if subject.importance is None else subject.importance,
        "rating": 0.5 if subject.rating is None else (subject.rating - 1) / 4,
        "span": _hours(span),
        "late": 0.0 if gap is None else idle - gap,
        "used": 1.0 if subject.accesses else 0.0,
        "insights": 0.0 if subject.layer == Layer.INTERACT else 1.0,
    }


def learned(subject: Subject, now: Micros, rules: Rules) -> Learned | None:
    """What the model in use says of a record; None where the formula is in use."""
    model = rules.scorer.model
    return None if model is None else model.judge(features(subject, now))


def total(subject: Subject, now: Micros, rules: Rules) -> float:
    """A record's score by the scorer in use."""
    found = learned(subject, now, rules)
    return score(subject, now, rules).total if found is None else found.score


def _hours(span: float) -> float:
    return math.log1p(max(0.0, span) / HOUR)
