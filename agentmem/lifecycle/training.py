"""Making a model of examples, in numpy: a logistic regression, and how well it tells what is used again.

By Newton's method with a small penalty on the weights; measured by cross-validation, so that no example is judged by a
model that was made of it. With as many examples of each kind the weights are those of all records, whatever share of
them is used again: only the bias would be another one (Prentice and Pyke, "Logistic disease incidence models and
case-control studies", 1979).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from agentmem.lifecycle.model import FEATURES, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FOLDS = 3
_PENALTY = 1.0
_STEPS = 25
_QUANTILES = 33


def train(used: Floats, formula: Floats, known: Floats) -> Model:
    """A model of examples: of each whether it was used again (1 or 0), its score by the formula, a row of features.

    ``auc`` and ``formula_auc`` are of all examples, each judged by a model of the two thirds that it is not in.
    """
    apart = np.empty(len(used), np.float64)
    fold = np.arange(len(used)) % FOLDS
    for number in range(FOLDS):
        held_out = fold == number
        apart[held_out] = log_odds(_fitted(known[~held_out], used[~held_out]), known[held_out])
    model = _fitted(known, used)
    shares = np.linspace(0, 1, _QUANTILES)
    odds, first = np.unique(np.quantile(log_odds(model, known), shares), return_index=True)
    last = np.append(first[1:], _QUANTILES) - 1  # of quantiles that are the same, the formula's highest
    scores = np.quantile(formula, shares)[last]
    return replace(
        model,
        odds=tuple(odds.tolist()),
        scores=tuple(np.clip(scores, 0, 1).tolist()),
        examples=len(used),
        auc=auc(apart, used),
        formula_auc=auc(formula, used),
    )


def log_odds(model: Model, known: Floats) -> Floats:
    """What a model says of many at once; rounded in another way than ``Model.judge``."""
    middle, spread = np.array(model.middle), np.array(model.spread)
    found: Floats = model.bias + ((known - middle) / spread) @ np.array(model.weights)
    return found


def auc(scores: Floats, used: Floats) -> float:
    """How often one that was used again scores more than one that was not; ties count half. 0.5 without both kinds."""
    _, which, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[which]
    again = used > 0
    many, few = int(np.count_nonzero(again)), int(np.count_nonzero(~again))
    if not many or not few:
        return 0.5
    return float((rank[again].sum() - many * (many + 1) / 2) / (many * few))


def _fitted(known: Floats, used: Floats) -> Model:
    middle, spread = known.mean(axis=0), known.std(axis=0)
    spread[spread < 1e-9] = 1.0
    inside: Floats = np.column_stack([np.ones(len(known)), (known - middle) / spread])
    weights: Floats = np.zeros(len(FEATURES) + 1)
    penalty: Floats = np.full(len(weights), _PENALTY)
    penalty[0] = 1e-6
    for _ in range(_STEPS):
        likely: Floats = 1 / (1 + np.exp(-np.clip(inside @ weights, -30, 30)))
        gradient: Floats = inside.T @ (likely - used) + penalty * weights
        curvature: Floats = (inside * (likely * (1 - likely))[:, None]).T @ inside + np.diag(penalty)
        step: Floats = np.linalg.solve(curvature, gradient).astype(np.float64)
        weights = weights - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return Model(
        bias=float(weights[0]),
        weights=tuple(weights[1:].tolist()),
        middle=tuple(middle.tolist()),
        spread=tuple(spread.tolist()),
        odds=(0.0,),
        scores=(0.5,),
    )
