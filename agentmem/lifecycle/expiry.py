"""When a record's time is over, and what goes first where there is no room."""

from __future__ import annotations

from typing import NamedTuple

from agentmem.lifecycle.promotion_score import recency
from agentmem.lifecycle.rules import Rules
from agentmem.stores.rows import Subject
from agentmem.types.clock import Micros


class Due(NamedTuple):
    """An instant and the rule that sets it: a caller's ``ttl`` is a promise, a layer's ``layer ttl`` a review."""

    at: Micros
    rule: str


def promise(subject: Subject) -> Due | None:
    """When the caller wants the record gone; nothing rescues it, a pin neither."""
    return None if subject.expires_at is None else Due(subject.expires_at, "ttl")


def review(subject: Subject, rules: Rules) -> Due | None:
    """When the record is promoted or expires by its layer's time to live."""
    ttl = rules.ttl[subject.layer]
    return None if not ttl or subject.pinned else Due(subject.aged_from + ttl, "layer ttl")


def due(subject: Subject, rules: Rules) -> Due | None:
    """What comes first."""
    found = [each for each in (promise(subject), review(subject, rules)) if each is not None]
    return min(found, default=None)


def worth(subject: Subject, now: Micros, rules: Rules) -> float:
    """What keeping a record is worth per byte; a full layer evicts the least first.

    By the policy ``importance`` that is importance * recency / size; by ``lru`` when it was last used.
    """
    if rules.policy[subject.layer] == "lru":
        return float(subject.used_at)
    importance = 0.5 if subject.importance is None else subject.importance
    return importance * recency(subject.used_at, now, rules.half_life) / max(1, subject.size)
