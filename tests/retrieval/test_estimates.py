"""What is left out before it is scored could not have been among the best."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import override

from agentmem.retrieval import estimates
from agentmem.retrieval.estimates import Score
from agentmem.retrieval.matching import Matches
from agentmem.retrieval.query import Query, Search
from agentmem.settings import Retrieval
from agentmem.stores.rows import ScopeKey
from agentmem.types.inputs import Scope


class Incomplete(Matches):
    """Matches that know what they lack."""

    def __init__(self, keyword: NDArray[np.float32], whole: NDArray[np.float32], slack: float) -> None:
        super().__init__(np.ones(len(keyword), np.float32), np.ones(1, np.float32), 1.0, keyword)
        self.slack = slack
        self._whole = whole

    @override
    def complete(self, slots: NDArray[np.intp]) -> None:
        self.keyword[slots] = self._whole[slots]


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
    missing = np.float32(slack) * random.random(count, np.float32)
    query, factor = hybrid(weight), random.uniform(estimates.LEAST, 1, count).astype(np.float32)

    def best(choose: Callable[[Query, Incomplete, Score], NDArray[np.intp]]) -> list[float]:
        matches = Incomplete(keyword.copy(), keyword + missing, slack)

        def score(slots: NDArray[np.intp], similar: NDArray[np.float32]) -> NDArray[np.float32]:
            return factor[slots] * estimates.base_of(query, slots, similar, matches)

        slots = choose(query, matches, score)
        slots = slots[estimates.worth_of(query, slots, similar[slots], matches, wanted, score)]
        return sorted(score(slots, similar[slots]).tolist(), reverse=True)[:wanted]

    def of_all(query: Query, matches: Incomplete, score: Score) -> NDArray[np.intp]:
        matches.complete(np.arange(count))
        return np.flatnonzero(allowed)

    def of_those_with_words(query: Query, matches: Incomplete, score: Score) -> NDArray[np.intp]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(estimates, "_SAMPLE", 100)
            least = estimates.words_worth(query, matches, allowed, rest, wanted, score)
        chosen = allowed & (keyword >= np.float32(least))
        chosen[near] = True
        return np.flatnonzero(chosen)

    assert best(of_those_with_words) == best(of_all)
