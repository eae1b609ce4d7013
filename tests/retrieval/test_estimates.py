"""What is left out before it is scored could not have been among the best."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.retrieval import estimates
from agentmem.retrieval.matching import Matches
from agentmem.retrieval.query import Query, Search
from agentmem.settings import Retrieval
from agentmem.stores.rows import ScopeKey
from agentmem.types.inputs import Scope


def hybrid(weight: float) -> Query:
    nothing: dict[str, Any] = dict.fromkeys(("condition", "kinds", "layers", "since", "until", "as_of"))
    search = Search("q", Scope(), 10, mode="hybrid", min_similarity=None, zone=UTC, **nothing)
    return Query(
        search=search, scope=ScopeKey(None, None, None), tuning=Retrieval(vector_weight=weight), vector=None, words=(),
        dates=(), now=0, measured_from=0, limit=10,
    )  # fmt: skip


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 4_000),
    wanted=st.integers(1, 300),
    weight=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    slack=st.sampled_from([0.0, 0.05, 0.5]),
    shape=st.sampled_from(["even", "few", "steps", "none"]),
)
def test_words_that_are_worth_nothing(
    seed: int, count: int, wanted: int, weight: float, slack: float, shape: str
) -> None:
    random = np.random.default_rng(seed)
    keyword = random.random(count, np.float32)
    if shape == "few":
        keyword[random.random(count) < 0.98] = 0
    elif shape == "steps":
        keyword = (keyword * 3).astype(np.int8).astype(np.float32) / 3
    elif shape == "none":
        keyword[:] = 0
    allowed = random.random(count) < random.random()
    rest = float(random.uniform(-0.2, 0.5))
    similar = np.full(count, rest, np.float32)
    near = np.flatnonzero(allowed & (random.random(count) < 0.05))
    similar[near] += random.random(len(near), np.float32) * 0.4
    query, matches = hybrid(weight), Matches(np.ones(count, np.float32), np.ones(1, np.float32), 1.0, keyword)
    matches.slack = slack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "_SAMPLE", 100)
        least = estimates.words_worth(query, matches, allowed, rest, wanted)
    every = np.flatnonzero(allowed)
    chosen = allowed & (keyword >= np.float32(least))
    chosen[near] = True
    slots = np.flatnonzero(chosen)
    found, worth = (
        some[estimates.worth_of(query, some, similar[some], matches, wanted)].tolist() for some in (every, slots)
    )
    assert worth == found
