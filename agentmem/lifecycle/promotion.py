"""Which records move up a layer: the criteria, the gate, and the edges between kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from agentmem.lifecycle.model import Learned
from agentmem.lifecycle.promotion_score import PromotionScore, score
from agentmem.lifecycle.rules import HOUR, NEXT, Rules
from agentmem.lifecycle.scorer import learned
from agentmem.stores.rows import Subject
from agentmem.types.clock import Micros
from agentmem.types.enums import Layer


class Edge(NamedTuple):
    """What a kind becomes when it moves up a layer, and what that needs on top of the layer's criteria."""

    kind: str
    score: float | None = None
    accesses: int | None = None


EDGES: dict[tuple[str, str], Edge] = {
    (Layer.INTERACT, "session_data"): Edge("pattern"),
    (Layer.INTERACT, "recent_query"): Edge("learned_context", score=0.8),
    (Layer.INTERACT, "temporary_context"): Edge("snippet", accesses=5),
    (Layer.INTERACT, "interaction"): Edge("solution"),
    (Layer.INSIGHTS, "pattern"): Edge("code_documentation"),
    (Layer.INSIGHTS, "learned_context"): Edge("system_knowledge"),
    (Layer.INSIGHTS, "snippet"): Edge("best_practice"),
    (Layer.INSIGHTS, "solution"): Edge("core_concept"),
}


class Criterion(NamedTuple):
    """One condition of a promotion. ``value`` has to exceed ``threshold``; spans are in hours."""

    name: str
    value: float
    threshold: float

    @property
    def met(self) -> bool:
        return self.value > self.threshold


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a record may move up, and why. ``target`` is None in the highest layer."""

    eligible: bool
    target: Layer | None
    kind: str
    score: PromotionScore
    """By the formula, with its parts."""
    learned: Learned | None
    """By the model in use, if one is: then that counts."""
    criteria: tuple[Criterion, ...]
    required: tuple[Criterion, ...]
    """What the record's kind needs on top, whatever the gate."""

    @property
    def total(self) -> float:
        """The score by the scorer in use."""
        return self.score.total if self.learned is None else self.learned.score

    def data(self) -> dict[str, Any]:
        """What an event keeps of it."""
        met = [c for c in (*self.criteria, *self.required) if c.met]
        return {
            "score": round(self.total, 6),
            "components": self.score.to_dict(),
            "met": {c.name: {"value": round(c.value, 6), "threshold": c.threshold} for c in met},
            **({} if self.learned is None else {"scorer": self.learned.data()}),
        }


def judge(subject: Subject, now: Micros, rules: Rules) -> Verdict:
    """Weigh a record against the criteria of its layer. A pinned record stays where it is."""
    value, said = score(subject, now, rules), learned(subject, now, rules)
    total = value.total if said is None else said.score
    target = NEXT.get(Layer(subject.layer))
    if target is None:
        return Verdict(False, None, subject.kind, value, said, (), ())
    need = rules.thresholds[subject.layer]
    span = 0 if subject.first_at is None or subject.last_at is None else subject.last_at - subject.first_at
    criteria = [
        Criterion("score", total, need.score),
        Criterion("accesses", subject.accesses, need.accesses),
        Criterion("span_hours", span / HOUR, need.span / HOUR),
        Criterion("relevance", value.relevance, need.relevance),
    ]
    if subject.rating is not None:
        criteria.append(Criterion("rating", subject.rating, need.rating))
    edge = EDGES.get((subject.layer, subject.kind), Edge(subject.kind))
    required = list[Criterion]()
    if edge.score is not None:
        required.append(Criterion("score", total, edge.score))
    if edge.accesses is not None:
        required.append(Criterion("accesses", subject.accesses, edge.accesses))
    enough = all(c.met for c in criteria) if rules.gate == "all" else any(c.met for c in criteria)
    eligible = not subject.pinned and enough and all(c.met for c in required)
    return Verdict(eligible, target, edge.kind, value, said, tuple(criteria), tuple(required))
