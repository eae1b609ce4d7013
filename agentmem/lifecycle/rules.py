"""The settings of the lifecycle as plain numbers. Every rule is a pure function of (subject, now, these)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentmem.lifecycle.model import Scorer
from agentmem.types.clock import Micros
from agentmem.types.enums import Layer

if TYPE_CHECKING:
    from agentmem.settings import Insights, Interact, Settings

HOUR = 3_600_000_000
DAY = 24 * HOUR
MB = 1_048_576
NEXT = {Layer.INTERACT: Layer.INSIGHTS, Layer.INSIGHTS: Layer.ASSETS}
"""Where a record is promoted to."""
PREVIOUS = {after: before for before, after in NEXT.items()}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a promotion out of a layer needs; every value has to be exceeded."""

    score: float
    accesses: int
    span: Micros
    rating: float
    relevance: float


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the rules need. Times in microseconds, sizes in bytes; a time to live of 0 is none."""

    ttl: dict[str, Micros]
    limit: dict[str, int]
    policy: dict[str, str]
    thresholds: dict[str, Thresholds]
    gate: str
    grace: Micros
    half_life: Micros
    frequent: int
    similar: float
    archived: frozenset[str] = frozenset()
    """Layers whose records are archived instead of expiring."""
    scorer: Scorer = field(default_factory=Scorer, compare=False)
    """What scores now; it may change between two decisions, each of which says by which it was made."""

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        layers, lifecycle = settings.layers, settings.lifecycle
        return cls(
            ttl={
                Layer.INTERACT: round(layers.interact.ttl_hours * HOUR),
                Layer.INSIGHTS: round(layers.insights.ttl_days * DAY),
                Layer.ASSETS: round(layers.assets.ttl_days * DAY),
            },
            limit={layer: round(getattr(layers, layer).max_size_mb * MB) for layer in Layer},
            policy={layer: getattr(layers, layer).eviction_policy for layer in Layer},
            thresholds={
                Layer.INTERACT: _thresholds(layers.interact),
                Layer.INSIGHTS: _thresholds(layers.insights),
            },
            gate=lifecycle.promotion_gate,
            grace=round(lifecycle.grace_days * DAY),
            half_life=round(lifecycle.recency_half_life_days * DAY),
            frequent=lifecycle.frequent_accesses,
            similar=lifecycle.relevant_similarity,
            archived=frozenset(settings.glacier.layers),
        )


def _thresholds(layer: Interact | Insights) -> Thresholds:
    return Thresholds(
        layer.promotion_threshold,
        layer.promotion_accesses,
        round(layer.promotion_span_hours * HOUR),
        layer.promotion_rating,
        layer.promotion_relevance,
    )
