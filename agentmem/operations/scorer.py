"""What the learned scorer knows, and its decisions computed once more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentmem.lifecycle import learning
from agentmem.lifecycle.learning import models_of
from agentmem.lifecycle.model import FEATURES, Model
from agentmem.stores import transitions
from agentmem.types.clock import to_datetime
from agentmem.types.reports import ScorerReplay, ScorerReport

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

_PAGE = 500


def report(engine: Engine) -> ScorerReport:
    """See ``Memory.lifecycle.scorer``."""
    engine.check()
    learner, records = engine.lifecycle.learner, engine.repository
    learner.load(records)
    models, examples, used_again = models_of(records)
    model, using = (models[-1] if models else None), engine.lifecycle.rules.scorer.model
    return ScorerReport(
        mode=learner.mode,
        in_use="formula" if using is None else using.version,
        examples=examples,
        used_again=used_again,
        needed=learning.ENOUGH,
        model=None if model is None else model.version,
        made=None if model is None else to_datetime(model.made),
        auc=None if model is None else round(model.auc, 4),
        formula_auc=None if model is None else round(model.formula_auc, 4),
        weights={} if model is None else dict(zip(FEATURES, (round(w, 4) for w in model.weights), strict=True)),
    )


def replay(engine: Engine) -> ScorerReplay:
    """See ``Memory.lifecycle.replay``."""
    engine.check()
    records = engine.repository
    models = {model.version: model for model in models_of(records)[0]}
    counts, after = {"same": 0, "different": 0, "unknown": 0}, 0
    while page := transitions.scored(records.db, after, _PAGE):
        for _, decided in page:
            counts[_compared(json.loads(decided), models)] += 1
        after = page[-1][0]
    return ScorerReplay(decisions=sum(counts.values()), **counts)


def _compared(decided: dict[str, Any], models: dict[str, Model]) -> str:
    model = models.get(str(decided.get("version")))
    if model is None:
        return "unknown"
    features = decided.get("features", {})
    if set(features) != set(FEATURES):
        return "different"
    return "same" if model.judge(features).data() == decided else "different"
