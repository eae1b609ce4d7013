"""A model that was learned from how a store's records were used: plain numbers, and what they make of others.

Everything here is sums, products and comparisons of floats in a fixed order, so that the same numbers give the same
score to the bit, also years later, from what the event of a decision has kept.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FEATURES = (
    "relevance", "frequency", "idle", "importance", "rating", "span", "late", "used", "insights",
)  # fmt: skip
"""What a model knows of a record, in this order; see ``scorer``."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a model says of a record, and why."""

    version: str
    features: Mapping[str, float]
    parts: Mapping[str, float]
    """What each feature adds to the log-odds."""
    odds: float
    """Log-odds that it is used again soon enough (``learning``), among as many that are as that are not."""
    score: float
    """The same on the formula's scale, in [0, 1]."""

    def data(self) -> dict[str, Any]:
        """What an event keeps of it: every digit."""
        return {
            "version": self.version,
            "features": dict(self.features),
            "parts": dict(self.parts),
            "odds": self.odds,
            "score": self.score,
        }


@dataclass(frozen=True, slots=True)
class Model:
    """A logistic model of standardised features, and the scale that its log-odds are put on.

    ``odds`` and ``scores`` are the same quantiles, of the log-odds and of the formula's scores of the same examples: so
    that as many exceed a threshold as exceed it by the formula, and a threshold means the same with both.
    """

    bias: float
    weights: tuple[float, ...]
    middle: tuple[float, ...]
    spread: tuple[float, ...]
    odds: tuple[float, ...]
    scores: tuple[float, ...]
    number: int = 0
    """How many there were before it."""
    made: int = 0
    """When it was made, in microseconds."""
    examples: int = 0
    auc: float = 0.5
    """How often one that was used again scores more than one that was not, among examples that it was not made of."""
    formula_auc: float = 0.5
    """The same by the formula."""

    @property
    def version(self) -> str:
        """Its number, and a hash of what it says: two models of one store never share it, nor those of two stores."""
        said = (self.bias, self.weights, self.middle, self.spread, self.odds, self.scores)
        return f"{self.number}.{hashlib.sha256(repr(said).encode()).hexdigest()[:8]}"

    def judge(self, features: Mapping[str, float]) -> Learned:
        """What it says of these features."""
        parts, odds = dict[str, float](), self.bias
        for at, name in enumerate(FEATURES):
            parts[name] = self.weights[at] * ((features[name] - self.middle[at]) / self.spread[at])
            odds += parts[name]
        return Learned(self.version, features, parts, odds, self._scaled(odds))

    def _scaled(self, odds: float) -> float:
        if odds < self.odds[0]:
            return self.scores[0]
        at = bisect_right(self.odds, odds)
        if at == len(self.odds):
            return self.scores[-1]
        low, high = self.odds[at - 1], self.odds[at]
        share = (odds - low) / (high - low)
        return min(1.0, max(0.0, self.scores[at - 1] + share * (self.scores[at] - self.scores[at - 1])))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Model:
        """Raises ``ValueError`` for what is none, or one of other features."""
        try:
            held: dict[str, Any] = json.loads(text)
            model = cls(
                bias=float(held["bias"]),
                weights=_floats(held["weights"]),
                middle=_floats(held["middle"]),
                spread=_floats(held["spread"]),
                odds=_floats(held["odds"]),
                scores=_floats(held["scores"]),
                number=int(held["number"]),
                made=int(held["made"]),
                examples=int(held["examples"]),
                auc=float(held["auc"]),
                formula_auc=float(held["formula_auc"]),
            )
            lengths = {len(model.weights), len(model.middle), len(model.spread)}
            numbers = (model.bias, *model.weights, *model.middle, *model.spread, *model.odds, *model.scores)
            sound = lengths == {len(FEATURES)} and len(model.odds) == len(model.scores) > 0
            if not sound or not all(map(math.isfinite, numbers)) or 0.0 in model.spread:
                raise ValueError("it has not as many numbers as it should")
        except (TypeError, AttributeError, KeyError) as exc:
            raise ValueError(f"it has other fields: {exc}") from exc
        return model


def _floats(values: list[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))


class Scorer:
    """Which model scores now, for all that ask; None: the formula does."""

    def __init__(self) -> None:
        self.model: Model | None = None
