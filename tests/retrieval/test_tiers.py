"""Residency: what is hot or warm is found exactly, whatever else is near; where it lies changes no answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import InvalidInputError, Memory, NotFoundError, ScopeError, Settings
from agentmem.indexes import codes, exact
from agentmem.retrieval import largearena
from agentmem.retrieval.held import BESIDE, Held
from agentmem.retrieval.tiermap import TierMap

Open = Callable[..., Memory]
SUBJECTS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()
DETAILS = "old new blue quiet heavy broken famous hidden narrow yellow distant simple".split()
HOUR = 3_600


def large(**more: Any) -> Settings:
    """Every scope of more than 50 records is large, and nothing looks by itself."""
    options = {"arena_limit": 50, "large_wait_s": 60, "query_cache_size": 0, "large_engine": "int8"}
    return Settings(**{**options, "lifecycle": {"sweep_interval_s": 0}, "tiers": {"interval_s": 0}, **more})


def look(memory: Memory) -> None:
    """As the thread does that looks from time to time."""
    engine = memory.handle.engine()
    engine.lifecycle.write_down()
    engine.tiering.look()


def items(count: int, user: str, seed: int = 0) -> list[dict[str, Any]]:
    random_ = random.Random(seed)
    return [
        {
            "content": f"the {random_.choice(DETAILS)} {random_.choice(SUBJECTS)} and a {random_.choice(SUBJECTS)} {n}",
            "id": f"{user}-{n:04}",
            "metadata": {"n": n},
            "run_id": random_.choice([None, "monday"]),
        }
        for n in range(count)
    ]


class Blind(codes.VectorEngine):
    """Codes of which nothing can be told: whatever they propose is chance. What is found in spite of them is held."""

    kind, nbytes, exact = "blind", 1, False

    def __init__(self, dim: int) -> None:
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, vectors: np.ndarray) -> None:
        self._count += len(vectors)

    def blank(self, numbers: np.ndarray) -> None:
        pass

    def nearest(self, vector: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.flatnonzero(allowed)[:k]
        return numbers, np.full(len(numbers), 0.01, np.float32)

    def saved(self) -> dict[str, np.ndarray]:
        return {"count": np.array([self._count])}

    def restore(self, arrays: Any) -> None:
        self._count = int(arrays["count"][0])

    def close(self) -> None:
        pass


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.retrieval.building.new_codes", lambda _, dim, pauses: Blind(dim))
    monkeypatch.setattr(largearena, "PROPOSED", 20)
    monkeypatch.setattr(largearena, "FINALISTS", 15)


ENGINES = ["int8", "lancedb"]


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_what_is_placed_is_found_however_its_code_looks(open_memory: Open, tmp_path: Path, mode: Any) -> None:
    memory = open_memory(settings=large())
    memory.add_many(items(400, "ana"), user_id="ana")
    exact = open_memory(tmp_path / "exact", settings=Settings(query_cache_size=0))
    exact.add_many(items(400, "ana"), user_id="ana")
    queries = [f"a {detail} {subject}" for detail, subject in zip(DETAILS, SUBJECTS, strict=True)]
    wanted = [[(hit.id, hit.score) for hit in exact.search(q, user_id="ana", mode=mode)] for q in queries]
    memory.search("anything", user_id="ana")
    before = [[(hit.id, hit.score) for hit in memory.search(q, user_id="ana", mode=mode)] for q in queries]
    assert before != wanted
    assert memory.tiers.place({"user_id": "ana"}, "warm") == 400
    for q, hits in zip(queries, wanted, strict=True):
        found = [(hit.id, hit.score) for hit in memory.search(q, user_id="ana", mode=mode)]
        assert [id for id, _ in found] == [id for id, _ in hits]
        assert [score for _, score in found] == pytest.approx([score for _, score in hits], abs=1e-6)
    assert memory.tiers.stats()["warm"].records == 400
    assert memory.tiers.stats()["warm"].hits == 10 * len(queries)


@pytest.mark.usefixtures("blind")
def test_what_is_held_follows_what_changes(open_memory: Open) -> None:
    memory = open_memory(settings=large())
    memory.add_many(items(300, "ana"), user_id="ana")
    memory.search("anything", user_id="ana")
    memory.tiers.place(["ana-0250", "ana-0251", "ana-0252"], "hot")
    here: dict[str, Any] = {"user_id": "ana", "mode": "vector", "limit": 3}
    memory.update("ana-0250", content="an unheard of lighthouse")
    assert memory.search("unheard lighthouse", **here)[0].id == "ana-0250"
    memory.delete("ana-0250")
    assert "ana-0250" not in {hit.id for hit in memory.search("unheard lighthouse", **here)}
    memory.restore("ana-0250")
    assert memory.search("unheard lighthouse", **here)[0].id == "ana-0250"
    memory.update("ana-0251", embed=["a comet over the alps", "zebras"])
    assert memory.search("zebras", **here)[0].id == "ana-0251"
    memory.update("ana-0251", embed=False)
    assert "ana-0251" not in {hit.id for hit in memory.search("zebras", **here)}
    memory.erase("ana-0250")
    assert memory.tiers.explain("ana-0252").tier == "hot"
    with pytest.raises(NotFoundError):
        memory.tiers.explain("ana-0250")
    db = memory.handle.engine().repository.db
    assert db.execute("SELECT count(*) FROM placements") == [(2,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_placements_survive_and_are_taken_back(open_memory: Open, engine: str) -> None:
    with open_memory(settings=large(large_engine=engine)) as memory:
        memory.add_many(items(120, "ana"), user_id="ana")
        memory.search("anything", user_id="ana", touch=False)
        assert memory.tiers.place("ana-0007", "hot") == 1
        assert memory.tiers.place(["ana-0008", "ana-0009"], "warm") == 2
        assert [memory.tiers.explain(f"ana-000{n}").tier for n in (6, 7, 8)] == ["cold", "hot", "warm"]
    with open_memory(settings=large(large_engine=engine)) as memory:
        assert memory.tiers.explain("ana-0007").tier is None  # not searched yet
        memory.search("anything", user_id="ana", touch=False)
        look(memory)
        found = memory.tiers.explain("ana-0007")
        assert (found.tier, found.belongs, found.placed) == ("hot", "hot", "hot")
        memory.tiers.place("ana-0007", None)
        assert memory.tiers.explain("ana-0007").tier == "cold"
        memory.tiers.place("ana-0008", "cold")
        assert memory.tiers.explain("ana-0008").placed == "cold"
        assert {tier: one.records for tier, one in memory.tiers.stats().items() if tier != "cold"} == {
            "hot": 0,
            "warm": 1,
        }


@pytest.mark.parametrize("engine", ENGINES)
def test_use_makes_warm_and_idleness_cold(open_memory: Open, clock: FakeClock, engine: str) -> None:
    memory = open_memory(settings=large(large_engine=engine))
    memory.add_many(items(120, "ana"), user_id="ana")
    query = {"query": "the old harbour", "user_id": "ana", "limit": 1}
    top = memory.search(**query)[0].id
    look(memory)
    assert memory.tiers.explain(top).tier == "warm"
    for _ in range(12):
        clock.advance(60)
        memory.search(**query)
    memory.feedback(top, accepted=True)
    look(memory)
    assert memory.tiers.explain(top).tier == "hot"
    assert memory.tiers.explain(top).because == "it was used lately, and is worth being hot"
    clock.advance(25 * HOUR)
    look(memory)
    assert memory.tiers.explain(top).tier == "warm"
    clock.advance(48 * HOUR)
    look(memory)
    assert memory.tiers.explain(top).tier == "cold"
    assert memory.search(**query, touch=False)[0].id == top


def test_budgets_are_kept(open_memory: Open) -> None:
    record = 4 * HashEmbedder.dim + BESIDE
    room = {"hot": {"size_gb": 5 * record / 1e9}, "warm": {"size_gb": 20 * record / 1e9}}
    memory = open_memory(settings=large(tiers={"interval_s": 0, **room}))
    memory.add_many(items(200, "ana"), user_id="ana")
    memory.search("anything", user_id="ana", touch=False)
    memory.tiers.place([f"ana-{n:04}" for n in range(10)], "hot")
    found = memory.tiers.stats()
    assert (found["hot"].records, found["warm"].records) == (5, 5)
    memory.tiers.place({"user_id": "ana"}, "hot")
    found = memory.tiers.stats()
    assert (found["hot"].records, found["warm"].records) == (5, 20)
    assert found["cold"].records == 175


def test_small_scopes_have_no_tiers(open_memory: Open) -> None:
    memory = open_memory(settings=large())
    memory.add_many(items(20, "ana"), user_id="ana")
    memory.search("anything", user_id="ana")
    memory.tiers.place("ana-0001", "hot")
    found = memory.tiers.explain("ana-0001")
    assert (found.tier, found.placed) == (None, "hot")
    assert memory.tiers.stats()["hot"].records == 0
    assert memory.handle.engine().tiering.looks == 0


def test_what_is_wrong_is_told(open_memory: Open) -> None:
    memory = open_memory(settings=large())
    memory.add_many(items(5, "ana"), user_id="ana")
    memory.add_many(items(5, "ben"), user_id="ben")
    with pytest.raises(InvalidInputError, match="hot, warm, cold or None, not 'tepid'"):
        memory.tiers.place("ana-0001", "tepid")  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotFoundError):
        memory.tiers.place("nobody", "hot")
    with pytest.raises(ScopeError, match="needs ids"):
        memory.tiers.place({}, "hot")
    with pytest.raises(InvalidInputError, match="'user' says nothing"):
        memory.tiers.place({"user": "ana"}, "hot")
    view = memory.scoped(user_id="ana")
    with pytest.raises(NotFoundError):
        view.tiers.place("ben-0001", "hot")
    with pytest.raises(NotFoundError):
        view.tiers.explain("ben-0001")
    with pytest.raises(ScopeError):
        view.tiers.place({"user_id": "ben"}, "hot")
    with pytest.raises(ScopeError, match="everybody's"):
        view.tiers.stats()
    assert view.tiers.place({}, "warm") == 5
    assert memory.tiers.place({"user_id": "nobody"}, "warm") == 0
    with pytest.raises(InvalidInputError, match="more than warm"):
        Settings(tiers={"hot": {"idle_hours": 100}})


def test_the_thread_looks_by_itself_once_a_scope_is_large(open_memory: Open) -> None:
    memory = open_memory(settings=large(tiers={"interval_s": 0.05}))
    memory.add_many(items(120, "ana"), user_id="ana")
    memory.search("the old harbour", user_id="ana")
    engine = memory.handle.engine()
    for _ in range(600):
        if memory.tiers.stats()["warm"].records:
            break
        engine.lifecycle.write_down()
        engine.tiering.wake()
        time.sleep(0.02)
    assert memory.tiers.stats()["warm"].records == 10


def test_held_vectors_are_scrubbed() -> None:
    held = Held(4)
    held.want(TierMap.of({7: "hot", 9: "warm"}))
    held.put(np.array([7, 8, 9]), np.array([0, 1, 2]), np.eye(3, 4, dtype=np.float32))
    slots, similar = held.nearest(np.eye(1, 4, dtype=np.float32)[0], np.ones(3, np.bool_))
    assert (slots.tolist(), similar.tolist()) == ([0, 2], [1.0, 0.0])
    held.scrub(np.array([True, False, False]))
    assert held.nearest(np.eye(1, 4, dtype=np.float32)[0], np.ones(3, np.bool_))[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_held_is_what_was_put_last_and_takes_no_more_than_it_needs(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a dict: records come, change, and go, again and again."""
    monkeypatch.setattr(exact, "BLOCK", 64)
    monkeypatch.setattr("agentmem.retrieval.held.STEP", 64)
    pick, held, there, slots = random.Random(seed), Held(8), dict[int, int](), 0
    vectors = np.random.default_rng(seed).standard_normal((4_000, 8)).astype(np.float32)
    most = 0
    for _ in range(60):
        wanted = pick.sample(range(600), pick.choice([20, 200, 400]))
        most = max(most, len(wanted))
        held.want(TierMap.of({row: pick.choice(["hot", "warm"]) for row in wanted}))
        there = {row: slot for row, slot in there.items() if row in set(wanted)}
        assert set(held.missing().tolist()) == set(wanted) - there.keys()
        some = sorted(pick.sample(range(600), 60))
        new = np.arange(slots, slots + 60)
        held.put(np.array(some), new, vectors[new % 4_000])
        slots += 60
        there |= {row: slot for row, slot in zip(some, new.tolist(), strict=True) if row in wanted}
        live = np.zeros(slots, np.bool_)
        live[list(there.values())] = True
        found, similar = held.nearest(vectors[7], live)
        assert sorted(found.tolist()) == sorted(there.values())
        assert similar == pytest.approx(vectors[found % 4_000] @ vectors[7], abs=1e-4)
        assert held.nbytes <= (most + 2 * 64) * (4 * 8 + BESIDE + 8)
