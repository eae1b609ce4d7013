"""The learned scorer: examples of a store's own past, models of them, and decisions that can be computed again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import AsyncMemory, Memory, ScopeError, Settings
from agentmem.lifecycle import learning
from agentmem.lifecycle.model import FEATURES, Model
from agentmem.lifecycle.training import auc, log_odds, train
from agentmem.stores import meta
from stress.habits import HABITS, Habit
from stress.victim import HashedWords
from stress.year import Clock

Open = Callable[..., Memory]
DAY = 86_400


def settings(mode: str = "learned", **more: Any) -> Settings:
    return Settings(lifecycle={"sweep_interval_s": 0, "scorer": mode}, arena_limit=10_000, **more)


def examples(count: int = 600, seed: int = 0) -> tuple[Any, Any, Any]:
    """Used again as ``late`` and ``importance`` have it; the formula knows nothing of it."""
    random_ = np.random.default_rng(seed)
    known = random_.random((count, len(FEATURES)))
    known[:, FEATURES.index("used")] = 1.0  # the same everywhere
    likely = 6 * (0.5 - known[:, FEATURES.index("late")]) + 3 * (known[:, FEATURES.index("importance")] - 0.5)
    used = (random_.random(count) < 1 / (1 + np.exp(-likely))).astype(np.float64)
    return used, random_.random(count), known


# -- models -----------------------------------------------------------------------------------------------------------


def test_a_model_finds_what_decides() -> None:
    used, formula, known = examples()
    model = train(used, formula, known)
    weight = dict(zip(FEATURES, model.weights, strict=True))
    assert weight["late"] < -1 < 0.4 < weight["importance"]
    assert max(abs(weight[name]) for name in FEATURES if name not in ("late", "importance")) < 0.3
    assert model.auc > 0.75
    assert 0.4 < model.formula_auc < 0.6
    apart = examples(2_000, seed=1)
    assert auc(log_odds(model, apart[2]), apart[0]) == pytest.approx(model.auc, abs=0.05)


def test_the_share_of_pairs_in_the_right_order() -> None:
    random_ = np.random.default_rng(2)
    for _ in range(20):
        scores, used = random_.integers(0, 6, 40).astype(np.float64), (random_.random(40) < 0.4).astype(np.float64)
        pairs = [(a > b) + (a == b) / 2 for a in scores[used > 0] for b in scores[used == 0]]
        assert auc(scores, used) == pytest.approx(np.mean(pairs))
    assert auc(np.arange(3.0), np.ones(3)) == 0.5


def test_scores_are_on_the_scale_of_the_formula() -> None:
    """As many exceed a threshold as did before; in the order of the model."""
    used, formula, known = examples()
    model = train(used, formula, known)
    said = [model.judge(dict(zip(FEATURES, map(float, row), strict=True))) for row in known]
    scores, odds = np.array([one.score for one in said]), np.array([one.odds for one in said])
    assert odds == pytest.approx(log_odds(model, known), abs=1e-9)
    assert (np.diff(scores[np.argsort(odds)]) >= 0).all()
    for threshold in (0.2, 0.5, 0.7, 0.9):
        assert np.mean(scores > threshold) == pytest.approx(np.mean(formula > threshold), abs=0.02)
    for edge in (-1e6, 1e6):
        assert 0 <= model.judge(dict.fromkeys(FEATURES, edge)).score <= 1
    one = said[0]
    assert one.odds == pytest.approx(model.bias + sum(one.parts.values()))


def test_a_model_says_the_same_after_it_was_written_down() -> None:
    used, formula, known = examples()
    model = train(used, formula, known)
    again = Model.from_json(model.to_json())
    assert again == model
    for row in known[:50]:
        said = model.judge(dict(zip(FEATURES, map(float, row), strict=True))).data()
        assert again.judge(json.loads(json.dumps(said))["features"]).data() == said
    for damaged in ("{}", "[]", "null", "3", "{", model.to_json().replace("bias", "base"), '{"weights": [1]}'):
        with pytest.raises(ValueError):  # noqa: PT011, the message is json's or ours
            Model.from_json(damaged)


def test_models_of_the_same_examples_are_the_same_and_others_have_another_version() -> None:
    assert train(*examples()) == train(*examples())
    assert train(*examples()).version != train(*examples(seed=5)).version


# -- a store ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few examples are enough."""
    monkeypatch.setattr(learning, "ENOUGH", 20)
    monkeypatch.setattr(learning, "TOGETHER", 1)


def live(memory: Memory, clock: FakeClock, days: int, seed: int = 3) -> None:
    """Messages of which some are asked for, the others expire; what is asked for twice is asked for again."""
    pick = random.Random(seed)
    for day in range(days):
        texts = [f"n{day}-{n} {'often' if n < 2 else 'never'}" for n in range(5)]
        memory.add_many([{"role": "user", "content": text} for text in texts], user_id="ada")
        for _ in range(4):
            for text in texts[:2]:
                memory.search(text, user_id="ada", limit=1)
            memory.lifecycle.sweep()
            clock.advance(6 * 3_600 + pick.randrange(60))


@pytest.mark.usefixtures("few")
def test_the_formula_scores_until_there_are_enough_examples(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=settings())
    live(memory, clock, 1)
    report = memory.lifecycle.scorer()
    assert (report.mode, report.in_use, report.model, report.weights) == ("learned", "formula", None, {})
    assert 0 < report.used_again <= report.examples < report.needed == 20
    live(memory, clock, 6)
    report = memory.lifecycle.scorer()
    assert report.in_use == report.model != "formula"
    assert report.auc is not None
    assert report.auc > 0.7
    assert set(report.weights) == set(FEATURES)
    id = memory.add({"role": "user", "content": "green tea"}, user_id="ada").id
    found = memory.lifecycle.explain(id)
    assert found.scorer == report.model
    assert 0 <= found.score <= 1
    assert set(found.components) == {"relevance", "recency", "frequency", "importance"}


@pytest.mark.usefixtures("few")
def test_decisions_have_their_parts_and_come_out_the_same_again(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=settings())
    live(memory, clock, 7)
    ids = [memory.add({"role": "user", "content": f"{n} tea"}, user_id="ada").id for n in range(3)]
    memory.lifecycle.promote(ids[0])
    clock.advance(DAY + 1)
    memory.lifecycle.sweep()
    for id, kind in ((ids[0], "PROMOTE"), (ids[1], "EXPIRE")):
        [event] = [event for event in memory.history(id) if event.event == kind]
        said = event.data["scorer"]
        assert event.data["score"] == round(said["score"], 6)
        assert list(said["features"]) == list(said["parts"]) == list(FEATURES)
        assert not {"content", "user_id", id} & set(json.dumps(said).split('"'))
    replayed = memory.lifecycle.replay()
    assert replayed.decisions == replayed.same > 3
    clock.advance(60)
    memory.close()
    again = open_memory(settings=settings("formula"))
    assert again.lifecycle.replay() == replayed
    assert again.lifecycle.scorer().in_use == "formula"
    engine = again.handle.engine()
    state = json.loads(engine.repository.meta(meta.SCORER))
    models = [json.loads(text) for text in state["models"]]
    for model in models:  # one that says something else is another version
        model["bias"] += 1e-9
    changed = json.dumps(state | {"models": [json.dumps(model) for model in models]})
    engine.write(lambda repository: repository.set_meta(meta.SCORER, changed))
    assert again.lifecycle.replay().unknown == replayed.decisions


@pytest.mark.usefixtures("few")
def test_the_better_scorer_is_taken(open_memory: Open, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MARGIN", 2.0)
    memory = open_memory(settings=settings("auto"))
    live(memory, clock, 6)
    report = memory.lifecycle.scorer()
    assert report.model is not None
    assert report.in_use == "formula"
    assert memory.lifecycle.replay().decisions == 0
    memory.close()
    monkeypatch.setattr(learning, "MARGIN", -1.0)
    memory = open_memory(settings=settings("auto"))
    assert memory.lifecycle.scorer().in_use == report.model


@pytest.mark.usefixtures("few")
def test_another_process_goes_on_with_it(open_memory: Open, clock: FakeClock) -> None:
    """Examples are added up; whoever reads only asks the same model."""
    memory = open_memory(settings=settings())
    live(memory, clock, 2)
    before = memory.lifecycle.scorer().examples
    memory.close()
    memory = open_memory(settings=settings())
    assert memory.lifecycle.scorer().examples >= before > 0
    live(memory, clock, 6, seed=4)
    id = memory.add({"role": "user", "content": "green tea"}, user_id="ada").id
    version = memory.lifecycle.scorer().in_use
    assert version != "formula"
    reader = open_memory(settings=settings(), read_only=True)
    assert reader.lifecycle.explain(id).scorer == reader.lifecycle.scorer().in_use == version


@pytest.mark.usefixtures("few")
def test_examples_are_bounded_and_have_no_ids(
    open_memory: Open, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "MOST", 8)
    memory = open_memory(settings=settings())
    live(memory, clock, 6)
    report = memory.lifecycle.scorer()
    assert (report.examples, report.used_again) == (16, 8)
    held = memory.handle.engine().repository.meta(meta.SCORER_EXAMPLES)
    assert len(held) == 16 * 2 * (2 + len(FEATURES))
    rows = np.frombuffer(held, np.float16).reshape(16, -1)
    assert set(rows[:, 0].tolist()) == {0.0, 1.0}
    assert ((rows[:, 1] >= 0) & (rows[:, 1] <= 1)).all()
    assert np.abs(rows).max() < 100


@pytest.mark.parametrize("damaged", ["nonsense", "{}", '{"models": ["{}"], "seen": 1, "trained": 1, "made": 1}'])
@pytest.mark.usefixtures("few")
def test_what_cannot_be_read_is_made_anew(
    open_memory: Open, clock: FakeClock, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    memory = open_memory(settings=settings())

    def damage(repository: Any) -> None:
        repository.set_meta(meta.SCORER, damaged)
        repository.set_meta(meta.SCORER_EXAMPLES, b"123")

    memory.handle.engine().write(damage)
    assert memory.lifecycle.scorer().in_use == "formula"
    assert "made anew" in caplog.text
    live(memory, clock, 6)
    assert memory.lifecycle.scorer().in_use != "formula"


def test_nothing_is_learned_where_nobody_wants_it(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=settings("formula"))
    live(memory, clock, 1)
    repository = memory.handle.engine().repository
    assert (repository.meta(meta.SCORER), repository.meta(meta.SCORER_EXAMPLES)) == (None, None)
    view = memory.scoped(user_id="ada")
    for call in (view.lifecycle.scorer, view.lifecycle.replay):
        with pytest.raises(ScopeError, match="everybody's"):
            call()


def test_async_clients_tell_the_same(open_memory: Open, store: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    memory = open_memory(settings=settings())

    async def ask() -> None:
        async with AsyncMemory(store, settings=settings(), clock=clock, embedder=embedder) as other:
            assert await other.lifecycle.scorer() == memory.lifecycle.scorer()
            assert await other.lifecycle.replay() == memory.lifecycle.replay()

    asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("name", HABITS)
def test_in_a_year_it_tells_better_what_is_used_again(open_memory: Open, name: str) -> None:
    clock, (plan, least) = Clock(), HABITS[name]
    memory = open_memory(settings=settings("auto"), clock=clock, embedder=HashedWords())
    found = Habit(memory, clock, plan, 1_000, 7).run()
    assert found["auc"] - found["formula_auc"] >= least
    assert found["decisions"]["different"] == found["decisions"]["unknown"] == 0
