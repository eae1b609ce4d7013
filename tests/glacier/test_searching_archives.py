"""Searches that include archives answer what a store answers in which nothing is archived."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder
from glacier.test_archiving import settings_of

from agentmem import ALL, Memory, SearchResults, Settings
from agentmem.errors import ArchiveError

WORDS = "tea harbour green lamp where does ana live winter café paper violin garden river".split()


def fill(memory: Memory, clock: FakeClock, seed: int, count: int) -> list[str]:
    pick, ids = random.Random(seed), list[str]()
    for n in range(count):
        clock.advance(pick.randint(0, 40_000))
        fields: dict[str, Any] = {"user_id": pick.choice(["ana", "ana", "ana", "ben", None])}
        if pick.random() < 0.6:
            fields["run_id"] = pick.choice(["r", "s"])
        if pick.random() < 0.3:
            fields["agent_id"] = pick.choice(["a", "b"])
        if pick.random() < 0.2:
            fields["namespace"] = ("notes",)
        text = " ".join(pick.choices(WORDS, k=pick.randint(1, 9))) + pick.choice(["", "?", "."])
        form = pick.random()
        if form < 0.1:
            fields["embed"] = [text, " ".join(pick.choices(WORDS, k=3))]
        elif form < 0.2:
            fields["vector"] = HashEmbedder().embed_query(pick.choice(WORDS))
        elif form < 0.25:
            fields["embed"] = False
        if pick.random() < 0.3:
            fields["data"] = {"deep": {"n": n % 4}}
        if pick.random() < 0.3:
            fields["occurred_at"] = clock() - timedelta(days=pick.randint(0, 60))
        if pick.random() < 0.2:
            fields["importance"] = pick.random()
        text = text if pick.random() < 0.7 else {"role": "user", "content": text}  # pyright: ignore[reportAssignmentType]
        ids.append(memory.add(text, metadata={"n": n % 5}, id=f"id {n}", layer="assets", dedupe=False, **fields).id)
    for id in pick.sample(ids, count // 10):
        memory.feedback(id, rating=pick.randint(1, 5))
    for id in pick.sample(ids, count // 10):
        memory.delete(id)
    return [id for id in ids if memory.get(id, touch=False)]


def asked(seed: int) -> list[tuple[str, dict[str, Any]]]:
    pick, found = random.Random(seed), list[tuple[str, dict[str, Any]]]()
    for _ in range(25):
        scope = pick.choice(
            [{"user_id": "ana"}, {"user_id": "ben"}, {}, {"user_id": ALL}, {"user_id": "ana", "run_id": "r"},
             {"user_id": "ana", "agent_id": "a"}, {"user_id": "ana", "namespace": ("notes",)},
             {"user_id": "ana", "under": ()}, {"user_id": "nobody"}]
        )  # fmt: skip
        more = pick.choice(
            [{}, {}, {"filters": {"n": {"$lt": 3}}}, {"filters": {"$content": {"$contains": "tea"}}},
             {"filters": {"$data.deep.n": 1}}, {"kinds": ["message"]}, {"since": "2025-02-20"}, {"min_similarity": 0.2},
             {"filters": {"$rating": {"$gte": 2}}}]
        )  # fmt: skip
        query = " ".join(pick.choices([*WORDS, "harbor", "gren", "in march 2025"], k=pick.randint(1, 4)))
        mode = pick.choice(["hybrid", "vector", "keyword"])
        if mode == "keyword" and "min_similarity" in more:
            more = {}
        found.append((query, {**scope, **more, "mode": mode, "limit": pick.choice([1, 5, 30]), "touch": False}))
    return found


def told(found: SearchResults) -> list[Any]:
    return [(hit.id, round(hit.score, 5), hit.content, hit.record.data, hit.record.rating) for hit in found]


def same(one: SearchResults, other: SearchResults) -> None:
    assert sorted(told(one), key=_rank) == sorted(told(other), key=_rank)


def _rank(hit: Any) -> Any:
    return -hit[1], hit[0]


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.4, 1.0])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_the_answer_is_that_of_a_store_without_archives(tmp_path: Path, share: float, seed: int) -> None:
    clocks, settings = (FakeClock(), FakeClock()), settings_of(tmp_path)
    with (
        Memory(tmp_path / "all", settings=settings, clock=clocks[0], embedder=HashEmbedder()) as whole,
        Memory(tmp_path / "part", settings=settings, clock=clocks[1], embedder=HashEmbedder()) as memory,
    ):
        ids = fill(whole, clocks[0], seed, 120)
        assert fill(memory, clocks[1], seed, 120) == ids
        away = random.Random(seed).sample(ids, round(share * len(ids)))
        assert memory.tiers.archive(away).archived == len(away)
        for query, arguments in asked(seed):
            expected = whole.search(query, **arguments)
            found = memory.search(query, **arguments, include_glacier=True)
            same(found, expected)
            assert found.skipped_archived == 0
            if not arguments.get("filters", {}).get("$content"):
                left = memory.search(query, **arguments | {"limit": 100})
                here = [one for one in told(whole.search(query, **arguments | {"limit": 100})) if one[0] in away]
                assert left.skipped_archived >= len(here)
                assert not {hit.id for hit in left} & set(away)


def test_more_than_fits_is_scored_in_parts(tmp_path: Path) -> None:
    clocks = (FakeClock(), FakeClock())
    few = Settings(arena_limit=64, retrieval={"mend_typos": False}, glacier={"url": str(tmp_path / "ice")})
    many = Settings(retrieval={"mend_typos": False})
    with (
        Memory(tmp_path / "all", settings=many, clock=clocks[0], embedder=HashEmbedder()) as whole,
        Memory(tmp_path / "part", settings=few, clock=clocks[1], embedder=HashEmbedder()) as memory,
    ):
        ids = fill(whole, clocks[0], 7, 300)
        assert fill(memory, clocks[1], 7, 300) == ids
        memory.tiers.archive(ids[::2])
        for query, arguments in asked(7):
            same(memory.search(query, **arguments, include_glacier=True), whole.search(query, **arguments))


def test_what_was_skipped_is_counted(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    ids = [memory.add(f"tea {n}", user_id="ana", kind="drink" if n % 2 else "fact").id for n in range(6)]
    assert memory.search("tea", user_id="ana").skipped_archived == 0
    memory.tiers.archive(ids[:3])
    found = memory.search("tea", user_id="ana")
    assert (len(found), found.skipped_archived, found.to_dict()["skipped_archived"]) == (3, 3, 3)
    assert memory.search("tea", user_id="ana").skipped_archived == 3  # from the cache, too
    assert memory.search("tea", user_id="ana", kinds=["drink"]).skipped_archived == 1
    assert memory.search("tea", user_id="ben").skipped_archived == 0
    hits = memory.search("tea", user_id="ana", include_glacier=True, explain=True)
    assert (len(hits), hits.skipped_archived, sum(hit.record.archived for hit in hits)) == (6, 0, 3)
    assert [len(found) for found in memory.search_many(["tea"], user_id="ana", include_glacier=True)] == [6]
    (tmp_path / "ice").rename(tmp_path / "away")
    memory.close()
    again = open_memory(settings=settings_of(tmp_path))
    with pytest.raises(ArchiveError):
        again.search("tea", user_id="ana", include_glacier=True)
    assert len(again.search("tea", user_id="ana")) == 3


def test_what_is_not_there_opens_nothing(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    memory.add_many([f"tea {n}" for n in range(50)], user_id="ana", kind="drink")
    memory.tiers.archive(user_id="ana")
    before = memory.tiers.stats()["glacier"].requests
    assert memory.get("nobody's id") is None
    assert memory.get(key="no key", user_id="ana") is None
    assert memory.search("tea", user_id="ben", include_glacier=True) == []
    assert memory.search("tea", user_id="ana", include_glacier=True, mode="vector", kinds=["food"]) == []
    assert memory.search("tea", user_id="ana", mode="vector", filters={"n": 1}, include_glacier=True) == []
    assert memory.page(user_id="ana", archived=True, kinds=["food"]).records == []
    assert memory.tiers.stats()["glacier"].requests == before
