"""Scopes that are held as codes: the answers of exact ones, whatever is added, changed, killed or damaged meanwhile."""

from __future__ import annotations

import gc
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock, HashEmbedder
from contracts.feed_copy import IDLE, FeedCopyContract
from inspecting import kept_arenas, wait_until, wait_until_kept

from agentmem import ALL, Memory, SearchResults, Settings
from agentmem.engine.engine import Engine
from agentmem.indexes import delta
from agentmem.retrieval import building, columns, estimates, largearena, masks, residents, snapshots, sparse
from agentmem.retrieval.postings import lasting
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.walls import EVERYBODY
from agentmem.stores import arrayfile
from agentmem.stores.folder import ARENAS
from agentmem.types.promise import Promise, keep

Open = Callable[..., Memory]
QUIET = {"lifecycle": {"sweep_interval_s": 0}, "query_cache_size": 0}
SUBJECTS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()
DETAILS = "old new blue quiet heavy broken famous hidden narrow yellow distant simple".split()

DAYS = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in range(1, 29)]
DATES = ["", " on 5 January 2026", "", " in March 2019"]


def coded(**more: Any) -> Settings:
    return Settings(**{"arena_limit": 100, "large_wait_s": 60, **QUIET, **more})


def texts(count: int, seed: int = 0) -> list[str]:
    random_ = random.Random(seed)
    return [
        f"the {random_.choice(DETAILS)} {random_.choice(SUBJECTS)} and a {random_.choice(SUBJECTS)} {n % 97}"
        for n in range(count)
    ]


def filled(memory: Memory, count: int = 1_500) -> None:
    """One user's records beside those of two others, some in conversations, some that expire."""
    random_ = random.Random(1)
    for user in ("ana", "ben", None):
        items = [
            {
                "content": text,
                "id": f"{user}-{n:05}",
                "metadata": {"share": random_.randrange(100), "n": n},
                "importance": random_.choice([None, 0.1, 1.0]),
                "run_id": random_.choice([None, "monday", "tuesday"]),
                "agent_id": random_.choice([None, "cook"]),
                "kind": random_.choice(["fact", "pattern"]),
                "ttl": random_.choice([None, None, None, 60]),
                "occurred_at": DAYS[n % 28] if n % 3 else None,
            }
            for n, text in enumerate(texts(count if user == "ana" else count // 5, seed=len(user or "")))
        ]
        memory.add_many(items, user_id=user, dedupe=False)


def engines(hits: SearchResults) -> tuple[str, ...]:
    assert hits.trace is not None
    return hits.trace.engines


@pytest.fixture(params=["int8", "rabitq"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "rabitq":
        pytest.importorskip("faiss", reason="the extra faiss is not installed")
    return request.param


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few are proposed and read that what is found depends on the codes, even in a small test; and function words
    are put off."""
    monkeypatch.setattr(estimates, "_SAMPLE", 100)
    monkeypatch.setattr(sparse, "FREQUENT", 10)
    monkeypatch.setattr(largearena, "PROPOSED", 60)
    monkeypatch.setattr(largearena, "FINALISTS", 40)


RESTRICTIONS: list[dict[str, Any]] = [
    {},
    {"filters": {"share": 1}},
    {"filters": {"share": {"$lt": 5}}},
    {"filters": {"share": {"$lt": 30}}},
    {"filters": {"n": {"$gte": 700}, "$kind": "fact"}},
    {"agent_id": "cook"},
    {"run_id": "monday", "kinds": ["pattern"]},
    {"min_similarity": 0.3},
    {"rank": "similarity"},
    {"limit": 150},
]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_the_hits_are_those_of_an_exact_arena(
    tmp_path: Path, clock: FakeClock, embedder: HashEmbedder, engine: str, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_MOST_ABSENT", 10_000 if engine == "int8" else 0)
    settings = (Settings(**QUIET), coded(large_engine=engine))
    stores = [Memory(tmp_path / str(n), settings=one, clock=clock, embedder=embedder) for n, one in enumerate(settings)]
    for memory in stores:
        filled(memory)
    clock.advance(61)
    wanted = near = 0
    for n, restrictions in enumerate(RESTRICTIONS * 2):
        if mode == "keyword" and "rank" in restrictions:
            continue
        query = f"a {DETAILS[n % 12]} {SUBJECTS[(5 * n) % 12]} near the {SUBJECTS[n % 12]}"
        query += DATES[n % len(DATES)] if mode != "vector" else ""
        exact, found = (
            memory.search(query, user_id="ana", mode=mode, explain=True, **restrictions) for memory in stores
        )
        assert (engines(exact), engines(found)) == (("arena",), ("codes",))
        assert len(found) == len(exact), restrictions
        assert all(hit.record.user_id == "ana" for hit in found)
        by_id = {hit.id: hit for hit in exact}
        for hit in found:
            if hit.id in by_id:  # the score of what is found is exact
                assert hit.score == pytest.approx(by_id[hit.id].score, abs=1e-5)
        wanted += len(exact)
        near += sum(one.score >= other.score - 1e-5 for one, other in zip(found, exact, strict=True))
    assert near >= 0.99 * wanted
    for memory in stores:
        memory.close()


@pytest.mark.usefixtures("few")
def test_as_many_hits_as_there_are_under_every_filter(open_memory: Open, engine: str) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    filled(memory, 600)
    random_ = random.Random(3)
    for _ in range(40):
        low, high = sorted((random_.randrange(600), random_.randrange(600)))
        there = set(range(low, high))
        user, limit = random_.choice(["ana", ALL]), random_.choice([1, 10, 100, 300])
        hits = memory.search(
            random_.choice(SUBJECTS), user_id=user, mode=random_.choice(["hybrid", "vector"]),
            filters={"n": {"$gte": low, "$lt": high}}, limit=limit,
        )  # fmt: skip
        assert {hit.record.metadata["n"] for hit in hits} <= there
        if user == "ana":
            assert {hit.record.user_id for hit in hits} <= {"ana"}
        wanted = memory.page(user_id=user, filters={"n": {"$gte": low, "$lt": high}}, limit=1_000).records
        assert len(hits) == min(limit, len(wanted))


def at_once(call: Callable[[], Any]) -> Promise[Any]:
    promise = Promise[Any]()
    keep(promise, call)
    return promise


@pytest.mark.parametrize("classes", [20_000, 12])
@pytest.mark.parametrize("dense", [True, False])
def test_filters_are_the_same_however_they_are_tested(
    tmp_path: Path,
    clock: FakeClock,
    embedder: HashEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    classes: int,
    dense: bool,
) -> None:
    """On each record, on a part of the table, on classes of values, on what was added since."""
    monkeypatch.setattr(masks, "_FEW", 20)
    monkeypatch.setattr(columns, "MOST_CLASSES", classes)
    monkeypatch.setattr(masks, "promised", at_once)
    monkeypatch.setattr(masks, "_DENSE", 4 if dense else 0.5)
    monkeypatch.setattr(masks, "WINDOW", 37)
    stores = [
        Memory(tmp_path / str(n), settings=one, clock=clock, embedder=embedder)
        for n, one in enumerate((Settings(**QUIET), coded(large_engine="int8")))
    ]
    random_, values = random.Random(5), [None, {}, {"a": 1}, {"a": "x'\"é"}, {"a": [1, {"b": 2}]}, {"b": None}]
    conditions = [
        {"a": 1}, {"a": {"$exists": False}}, {"a.b": 2}, {"b": None}, {"a": {"$in": ["x'\"é", 1]}},
        {"c": {"$lt": 40}},
        {"$or": [{"a": 1}, {"$kind": "pattern"}]}, {"$not": {"c": {"$gt": 3}}}, {"$user_id": "ana", "a": {"$ne": 1}},
        {"c": {"$in": list(range(0, 90, 3))}}, {"$content": {"$contains": "harbour"}},
    ]  # fmt: skip
    count = 0
    for _ in range(4):
        items = [
            {
                "content": text,
                "id": f"{count + n:05}",
                "metadata": random_.choice([*values, {"c": random_.randrange(90)}]),
                "kind": random_.choice(["fact", "pattern"]),
            }
            for n, text in enumerate(texts(150, count))
        ]
        gone = random_.sample(range(count), min(count, 9))
        count += len(items)
        changed = [(n, random_.choice([{"a": 1}, {"c": 7}, None])) for n in random_.sample(range(count), 30)]
        for memory in stores:
            for n in range(0, len(items), 10):
                memory.add_many(items[n : n + 10], user_id="ana" if n % 3 else "ben", dedupe=False)
            for n in gone:
                memory.delete(f"{n:05}")
            memory.search("a lantern", user_id="ana")
            for n, metadata in changed:
                if memory.get(f"{n:05}") is not None:
                    memory.update(f"{n:05}", metadata=metadata, importance=0.7)
        random_.shuffle(conditions)
        for condition in conditions:
            for user in ("ana", ALL):
                exact, found = (
                    {hit.id for hit in memory.search("a lantern", user_id=user, filters=condition, limit=1_000)}
                    for memory in stores
                )
                assert exact == found, condition
    for memory in stores:
        memory.close()


def test_what_changes_is_seen_by_the_very_next_search(open_memory: Open, engine: str) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    filled(memory, 300)
    here = {"user_id": "ana", "limit": 3, "explain": True}
    assert engines(memory.search("lighthouse", **here)) == ("codes",)
    for mode in ("hybrid", "vector", "keyword"):
        for n in range(3):
            id = memory.add(f"a lighthouse {mode} {n}", user_id="ana", metadata={"late": n}).id
            query = f"lighthouse {mode} {n}"
            assert memory.search(query, mode=mode, **here)[0].id == id
            late = {**here, "filters": {"late": n, "$content": {"$contains": mode}}}
            assert [hit.id for hit in memory.search(query, mode=mode, **late)] == [id]
            memory.update(id, metadata={"late": 9})
            assert not memory.search(query, mode=mode, **late)
            memory.update(id, content=f"a windmill {n}")
            assert memory.search(f"windmill {n}", mode=mode, **here)[0].id == id
            memory.delete(id)
            assert id not in [hit.id for hit in memory.search(f"windmill {n}", mode=mode, **here)]
            assert memory.restore(id).content == f"a windmill {n}"
            assert memory.search(f"windmill {n}", mode=mode, **here)[0].id == id
            memory.delete(id)
    assert memory.verify().ok


@pytest.mark.parametrize("most", [0, 3_000, 10**9])
def test_words_are_found_of_what_was_only_asked_for_by_vectors(
    open_memory: Open, monkeypatch: pytest.MonkeyPatch, engine: str, most: int
) -> None:
    """Nobody needed them until then; what is gone by then has none."""
    monkeypatch.setattr(largearena, "MOST_UNREAD", most)
    monkeypatch.setattr(delta, "LEAST", 7)
    memory = open_memory(settings=coded(large_engine=engine))
    filled(memory, 200)
    here = {"user_id": "ana", "explain": True}
    assert engines(memory.search("a zeppelin", mode="vector", **here)) == ("codes",)
    ids = dict[int, str]()
    for n in range(40):
        ids[n] = memory.add(f"zeppelin {SUBJECTS[n % 12]} hangar{n}", user_id="ana").id
        if not n % 4:
            found = memory.search(f"zeppelin {SUBJECTS[n % 12]} hangar{n}", mode="vector", limit=1, **here)
            assert found[0].id == ids[n]
    memory.update(ids[3], content="a balloon over hangar41")
    memory.update(ids[3], content="a balloon over hangar42")
    memory.delete(ids[5])
    memory.erase(ids[6])
    memory.search("a zeppelin", mode="vector", **here)
    residents = memory.handle.engine().retriever.residents
    [arena] = [one.arena for one in residents._every() if isinstance(one.arena, largearena.LargeArena)]
    assert arena._unread.nbytes <= max(most, 500)
    there = set(ids.values()) - {ids[3], ids[5], ids[6]}
    assert {hit.id for hit in memory.search("zeppelin", mode="keyword", limit=100, **here)} == there
    for word, id in (("hangar42", ids[3]), ("hangar39", ids[39])):
        assert [hit.id for hit in memory.search(word, mode="keyword", **here)] == [id]
    for gone in ("hangar3", "hangar41", "hangar5", "hangar6"):
        assert not {hit.id for hit in memory.search(gone, mode="keyword", **here)} & {ids[3], ids[5], ids[6]}
    assert arena._unread.nbytes == 0
    assert memory.verify().ok


def test_misspelled_and_similar_words_are_found(open_memory: Open, engine: str) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    filled(memory, 300)
    zeppelin = memory.add("A zeppelin over Friedrichshafen", user_id="ana").id
    wedding = memory.add("They got married in spring", user_id="ana").id
    for query, id in (("zepelin", zeppelin), ("their wedding", wedding)):
        hits = memory.search(query, user_id="ana", explain=True)
        assert engines(hits) == ("codes",)
        assert hits[0].id == id, query


def test_a_scope_that_grows_goes_on_being_exact_until_its_codes_are_there(
    open_memory: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=coded(large_wait_s=0))
    memory.add_many(texts(90), user_id="ana", dedupe=False)
    assert engines(memory.search("harbour", user_id="ana", explain=True)) == ("arena",)
    memory.add_many(texts(90, 2), user_id="ana", dedupe=False)
    seen = list[tuple[str, ...]]()
    deadline = time.monotonic() + 60
    while ("codes",) not in seen and time.monotonic() < deadline:
        late = memory.add(f"a lighthouse {len(seen)}", user_id="ana").id
        hits = memory.search(f"lighthouse {len(seen)}", user_id="ana", limit=1, explain=True)
        assert hits[0].id == late
        seen.append(engines(hits))
    assert set(seen) == {("arena",), ("codes",)}
    usage = memory.stats().large
    assert (usage["arenas"], usage["building"]) == (1, 0)
    assert usage["bytes"] <= usage["budget"] == Settings().performance.large_budget_mb * 1_048_576
    assert usage["records"] == 180 + len(seen)
    for record in list(memory.iterate(user_id="ana"))[:-20]:
        memory.delete(record.id)
    hits = memory.search("harbour", user_id="ana", limit=1_000, explain=True)
    assert (engines(hits), len(hits)) == (("arena",), 20)


def test_while_it_is_built_the_disk_answers(open_memory: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = [], []

    def held(*arguments: Any) -> None:
        began.append(arguments)
        while not go_on:
            time.sleep(0.005)

    monkeypatch.setattr(building.Builder, "_restored", held)
    memory = open_memory(settings=coded(large_wait_s=0.01))
    filled(memory, 300)
    for n in range(3):
        late = memory.add(f"a lighthouse {n}", user_id="ana").id
        hits = memory.search(f"lighthouse {n}", user_id="ana", limit=2, explain=True)
        assert hits[0].id == late
        assert "codes" not in engines(hits)
    assert len(began) == 1
    assert memory.stats().large["building"] == 1
    go_on.append(True)
    deadline = time.monotonic() + 60
    while "codes" not in engines(memory.search("lighthouse 2", user_id="ana", limit=1, explain=True)):
        assert time.monotonic() < deadline
    assert memory.search("lighthouse 2", user_id="ana", limit=1)[0].id == late


def test_what_would_take_too_much_memory_stays_on_the_disk(
    open_memory: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "MB", 10_000)
    memory = open_memory(settings=coded(large_budget_mb=1))
    filled(memory, 300)
    for _ in range(3):
        assert "codes" not in engines(memory.search("harbour", user_id="ana", explain=True))
    assert sum("large_budget_mb = 1" in record.message for record in caplog.records) == 1


def test_memories_of_many_vectors_that_would_take_too_much_stay_on_the_disk(
    open_memory: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "MB", 200_000)
    monkeypatch.setattr(building, "SAMPLE", 50)
    memory = open_memory(settings=coded(large_engine="int8", large_budget_mb=1))
    memory.add_many(texts(250), user_id="ana", dedupe=False)
    assert engines(memory.search("harbour", user_id="ana", explain=True)) == ("codes",)
    for n in range(5):
        memory.add(f"a story {n}", user_id="ben", embed=[f"a zeppelin {n} {part}" for part in range(250)])
    memory.add_many(texts(200), user_id="ben", dedupe=False)
    for _ in range(2):
        hits = memory.search("zeppelin 3", user_id="ben", explain=True)
        assert hits[0].content == "a story 3"
        assert "codes" not in engines(hits)
    assert sum("large_budget_mb = 1" in record.message for record in caplog.records) == 1


def test_a_second_large_scope_makes_room_for_itself(open_memory: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MB", 100_000)
    memory = open_memory(settings=coded(large_budget_mb=1))
    for user in ("ana", "ben"):
        memory.add_many(texts(250), user_id=user, dedupe=False)
    for user in ("ana", "ben", "ana"):
        assert engines(memory.search("harbour", user_id=user, explain=True)) == ("codes",)
        assert memory.stats().large["arenas"] == 1


def test_of_an_arena_that_is_dropped_nothing_stays_in_memory(open_memory: Open, engine: str) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    memory.add_many(texts(150), user_id="ana", dedupe=False)
    assert engines(memory.search("harbour", user_id="ana", explain=True)) == ("codes",)
    [held] = [weakref.ref(one.arena) for one in memory.handle.engine().retriever.residents._every() if one.arena]
    memory.erase_all(user_id="ana")
    memory.search("harbour", user_id="ana")
    gc.collect()
    assert held() is None


# -- kept for the next start -----------------------------------------------------------------------------------------


@pytest.fixture
def built(open_memory: Open, store: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose large scope was kept; from now on a build from the records fails the test, unless it is allowed."""
    with open_memory(settings=coded(large_engine=engine)) as memory:
        filled(memory, 300)
        memory.search("harbour", user_id="ana")
        return wait_until_kept(store)


def search_all(memory: Memory) -> list[tuple[str, float]]:
    found = list[tuple[str, float]]()
    for query in ("old harbour", "a famous violin and a lantern", "zepelin", "rivers 12"):
        for mode in ("hybrid", "vector", "keyword"):
            hits = memory.search(query, user_id="ana", mode=mode, explain=True)
            assert engines(hits) == ("codes",)
            found += [(hit.id, round(hit.score, 5)) for hit in hits]
    return found


def from_scratch(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each build from now on was from the records."""
    seen, original = list[bool](), building.Builder._restored

    def told(*arguments: Any) -> Any:
        arena = original(*arguments)
        seen.append(arena is None)
        return arena

    monkeypatch.setattr(building.Builder, "_restored", told)
    return seen


def test_the_next_process_goes_on_with_what_was_kept(
    built: Path, open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = from_scratch(monkeypatch)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        memory.update("ana-00007", content="an unheard of lighthouse")
        memory.delete("ana-00008")
        memory.add("another lighthouse", id="late", user_id="ana", run_id="monday")
        found = search_all(memory)
        assert seen == [False]
        assert {hit.id for hit in memory.search("lighthouse", user_id="ana", mode="keyword")} == {"ana-00007", "late"}
        assert memory.verify().ok
    shutil.rmtree(built.parent)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        assert search_all(memory) == found
    assert seen == [False, True]


def test_words_that_nobody_asked_for_are_taken_by_the_next_process(
    open_memory: Open, store: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept beside searches by vectors alone is kept without them."""
    monkeypatch.setattr(snapshots, "CHANGES", 5)
    monkeypatch.setattr(snapshots, "AGAIN_S", -1.0)
    seen = from_scratch(monkeypatch)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        filled(memory, 200)
        assert engines(memory.search("a boat", user_id="ana", mode="vector", explain=True)) == ("codes",)
        ids = [memory.add(f"zeppelin in hangar{n}", user_id="ana").id for n in range(40)]
        memory.update(ids[3], content="a balloon in hangar41")
        memory.erase(ids[4])
        forms: list[Any] = [["a windmill"], ["a windmill", "a kite"], False]
        stories = [memory.add(f"a story {n}", user_id="ana", embed=embed).id for n, embed in enumerate(forms)]
        memory.search("a boat", user_id="ana", mode="vector")
        residents = memory.handle.engine().retriever.residents
        [arena] = [one.arena for one in residents._every() if isinstance(one.arena, largearena.LargeArena)]
        assert arena._unread.nbytes > 0
    with open_memory(settings=coded(large_engine=engine)) as memory:
        memory.update(ids[5], content="a balloon in hangar42")
        memory.search("a boat", user_id="ana", mode="vector")
        found = search_all(memory)
        there = set(ids) - {ids[3], ids[4], ids[5]}
        assert {hit.id for hit in memory.search("zeppelin", user_id="ana", mode="keyword", limit=100)} == there
        for word, id in (("hangar41", ids[3]), ("hangar42", ids[5]), ("hangar39", ids[39])):
            assert [hit.id for hit in memory.search(word, user_id="ana", mode="keyword")] == [id]
        for word, some in (("windmill", stories[:2]), ("kite", stories[1:2]), ("story", stories)):
            assert {hit.id for hit in memory.search(word, user_id="ana", mode="keyword")} == set(some)
        assert memory.verify().ok
    assert seen == [True, False]
    shutil.rmtree(store / ARENAS)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        assert search_all(memory) == found


def test_what_has_several_vectors_or_none_is_read_again_by_the_next_process(
    open_memory: Open, store: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_memory(settings=coded(large_engine=engine)) as memory:
        filled(memory, 300)
        for n in range(12):
            embed = [f"a zeppelin {n}", f"a windmill {n}"] if n % 2 else False
            memory.add(f"a story {n}", id=f"story-{n:02}", user_id="ana", run_id="monday", embed=embed)
        memory.delete("story-09")
        memory.update("story-07", embed=True)
        found = search_all(memory)
        wait_until_kept(store)
    seen = from_scratch(monkeypatch)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        assert search_all(memory) == found
        assert memory.search("a windmill 5", user_id="ana", mode="vector")[0].id == "story-05"
        bare = memory.search("story", user_id="ana", mode="vector", limit=1_000)
        assert {hit.id for hit in bare if hit.id.startswith("story")} == {f"story-{n:02}" for n in (1, 3, 5, 7, 11)}
        assert memory.search("story 4", user_id="ana", mode="keyword")[0].id == "story-04"
        assert memory.verify().ok
    assert seen == [False]


def test_what_lies_in_a_namespace_does_not_come_out_of_it_with_what_was_kept(
    built: Path, open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.unlink()
    with open_memory(settings=coded(large_engine=engine)) as memory:
        memory.search("harbour", user_id=ALL)
        wait_until_kept(built.parent.parent)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        memory.add("a zeppelin", user_id="ana", namespace=("notes",))
        assert not memory.search("zeppelin", user_id=ALL, mode="keyword")
        assert memory.stats().large["records"] == 420
        assert memory.verify().ok


@pytest.mark.parametrize("damage", ["cut", "one byte", "beginning", "emptied", "a folder", "another format"])
def test_damaged_files_are_made_anew(
    built: Path, open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    data, changed = built.read_bytes(), None
    built.unlink()
    if damage == "a folder":
        built.mkdir()
    else:
        changed = {
            "cut": data[: len(data) // 2],
            "one byte": data[: -len(data) // 3] + bytes([data[-len(data) // 3] ^ 1]) + data[-len(data) // 3 + 1 :],
            "beginning": data[:30] + b"\xff" * 20 + data[50:],
            "emptied": b"",
            "another format": data.replace(b'"format": 4', b'"format": 3'),
        }[damage]
        built.write_bytes(changed)
    seen = from_scratch(monkeypatch)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        assert memory.search("harbour", user_id="ana")[0].record.user_id == "ana"
        assert seen == [True]
        search_all(memory)
        if damage != "a folder":
            assert wait_until_kept(built.parent.parent, changed)


def test_what_is_of_other_rules_is_made_anew(
    built: Path, open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = from_scratch(monkeypatch)
    other = "int8" if engine == "rabitq" else "rabitq"
    if other == "int8":
        with open_memory(settings=coded(large_engine=other)) as memory:
            search_all(memory)
        assert seen == [True]
    monkeypatch.setattr("agentmem.retrieval.snapshots.VERSION", 99)
    with open_memory(settings=coded(large_engine=engine)) as memory:
        search_all(memory)
    assert seen[-1] is True


def test_what_is_of_another_model_is_made_anew(
    built: Path, open_memory: Open, embedder: HashEmbedder, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reversed(HashEmbedder):
        name = "reversed-words-32"

        def embed_query(self, text: str) -> Any:
            return super().embed_query(text)[::-1].copy()

    with open_memory() as memory:
        memory.reembed(Reversed())
    before, seen = built.read_bytes() if built.exists() else None, from_scratch(monkeypatch)
    with open_memory(settings=coded(large_engine=engine), embedder=Reversed()) as memory:
        search_all(memory)
        assert memory.search("old harbour", user_id="ana", mode="vector")[0].similarity > 0.5
        assert seen == [True]
        assert memory.verify().ok
        wait_until_kept(built.parent.parent, before)


def test_what_is_of_another_history_is_made_anew(
    open_memory: Open, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was put back, and has gone another way since."""
    with open_memory(settings=coded()) as memory:
        memory.add_many(texts(150), user_id="ana", dedupe=False)
    shutil.copy(store / "agentmem.db", tmp_path / "before.db")
    with open_memory(settings=coded()) as memory:
        memory.add_many([f"a windmill {n}" for n in range(50)], user_id="ana", dedupe=False)
        memory.search("windmill", user_id="ana")
        wait_until_kept(store)
    shutil.copy(tmp_path / "before.db", store / "agentmem.db")
    seen = from_scratch(monkeypatch)
    with open_memory(settings=coded()) as memory:
        memory.add_many([f"a lighthouse {n}" for n in range(50)], user_id="ana", dedupe=False)
        assert not memory.search("windmill", user_id="ana", mode="keyword")
        assert len(memory.search("lighthouse", user_id="ana", mode="keyword", limit=100)) == 50
        assert seen == [True]
        assert memory.verify().ok


def test_what_was_kept_with_many_dead_slots_is_made_anew_once(
    open_memory: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "AGAIN_S", -1.0)
    monkeypatch.setattr(snapshots, "CHANGES", 0)
    memory = open_memory(settings=coded(large_engine="int8"))
    for turn in range(4):
        for start in range(0, 520, 65):
            items = [{"key": f"k{n}", "content": f"a kite {n} of turn {turn}"} for n in range(start, start + 65)]
            memory.put_many(items, user_id="ana")
            memory.search("kite", user_id="ana")
        wait_until_kept(store)
    seen = from_scratch(monkeypatch)
    for _ in range(5):
        assert len(memory.search("kite", user_id="ana", limit=1_000)) == 520
        time.sleep(0.05)
    assert seen in ([], [True])
    [arena] = (one.arena for one in memory.handle.engine().retriever.residents._every())
    assert isinstance(arena, largearena.LargeArena)
    assert arena.slots <= 1_040


def test_nothing_is_kept_of_what_was_erased(open_memory: Open, store: Path, engine: str) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    filled(memory, 300)
    memory.search("harbour", user_id="ana")
    before = wait_until_kept(store).read_bytes()
    memory.erase("ana-00005")
    assert not kept_arenas(store) or kept_arenas(store)[0].read_bytes() != before
    assert "ana-00005" not in [hit.id for hit in memory.search("harbour", user_id="ana", limit=1_000)]
    residents = memory.handle.engine().retriever.residents
    resident = next(one for one in residents._every() if isinstance(one.arena, largearena.LargeArena))
    arena = resident.arena
    assert isinstance(arena, largearena.LargeArena)
    dead = ~arena._column("live")
    assert dead.any()
    assert not dead[arena._postings.saved()["slots"]].any()
    memory.close()
    reopened = open_memory(settings=coded(large_engine=engine))
    assert len(reopened.search("harbour", user_id="ana", limit=1_000)) == 299
    assert reopened.verify().ok


def erase_elsewhere(store: Path, id: str) -> None:
    """Another process erases a record."""
    script = """
import sys
sys.path.insert(0, sys.argv[2])
from conftest import FakeClock, HashEmbedder
from agentmem import Memory
with Memory(sys.argv[1], clock=FakeClock(), embedder=HashEmbedder()) as memory:
    memory.erase(sys.argv[3])
"""
    command = [sys.executable, "-c", script, str(store), str(ROOT / "tests"), id]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)


def test_what_another_process_erased_is_not_kept_by_this_one(
    open_memory: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "AGAIN_S", -1.0)
    monkeypatch.setattr(snapshots, "CHANGES", 0)
    memory = open_memory(settings=coded(large_engine="int8"))
    memory.add_many([f"a lantern {n}" for n in range(150)], user_id="ana", dedupe=False)
    unheard = memory.add("an unheard of zeppelin", user_id="ana").id
    memory.search("lantern", user_id="ana")
    wait_until_kept(store)
    erase_elsewhere(store, unheard)
    assert not kept_arenas(store)
    memory.add_many([f"a harbour {n}" for n in range(20)], user_id="ana", dedupe=False)
    assert len(memory.search("zeppelin lantern", user_id="ana", limit=1_000)) == 170
    _, arrays = arrayfile.read(wait_until_kept(store))
    dead = ~arrays["column live"]
    assert int(dead.sum()) == 1
    assert not arrays["codes codes"][dead].any()
    assert lasting("zeppelin") not in arrays["words terms"]
    assert lasting("lantern") in arrays["words terms"]


def test_what_a_sweep_erased_is_not_kept(open_memory: Open, store: Path, clock: FakeClock) -> None:
    memory = open_memory(settings=coded(large_engine="int8"))
    memory.add_many([f"a lantern {n}" for n in range(150)], user_id="ana", dedupe=False)
    memory.add("an unheard of zeppelin", user_id="ana", ttl=60)
    memory.search("lantern", user_id="ana")
    wait_until_kept(store)
    clock.advance(61)
    assert memory.lifecycle.sweep().expired == 1
    clock.advance(31 * 86_400)
    assert memory.lifecycle.sweep().erased == 1
    assert not kept_arenas(store)


def test_a_process_that_is_killed_while_it_keeps_leaves_nothing_wrong(open_memory: Open, store: Path) -> None:
    script = """
import os, sys, signal
sys.path.insert(0, sys.argv[2])
from conftest import FakeClock, HashEmbedder
from agentmem import Memory, Settings
from agentmem.stores import arrayfile
original = arrayfile._bytes
calls = []
def killed(array):
    calls.append(array)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(array)
arrayfile._bytes = killed
settings = Settings(arena_limit=100, large_wait_s=60, large_engine="int8", lifecycle={"sweep_interval_s": 0})
memory = Memory(sys.argv[1], settings=settings, clock=FakeClock(), embedder=HashEmbedder())
memory.add_many([f"a lantern {n}" for n in range(150)], user_id="ana", dedupe=False)
memory.search("lantern", user_id="ana")
import time; time.sleep(60)
"""
    for at in (10, 40):  # in the middle of the checksums, and of writing
        command = [sys.executable, "-c", script, str(store), str(ROOT / "tests"), str(at)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == -9, done.stderr
    assert not kept_arenas(store)
    with open_memory(settings=coded(large_engine="int8")) as memory:
        assert len(memory.search("lantern 7", user_id="ana", limit=1_000)) == 300
        assert memory.verify().ok
        wait_until_kept(store)
        memory.erase(memory.search("lantern 7", user_id="ana", limit=1)[0].id)
        assert not [file for file in (store / ARENAS).iterdir() if file.name.endswith(".new")]


def test_a_store_that_is_only_read_uses_what_was_kept_and_writes_nothing(
    built: Path, open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, before = from_scratch(monkeypatch), sorted(file.name for file in built.parent.iterdir())
    with open_memory(settings=coded(large_engine=engine), read_only=True) as memory:
        search_all(memory)
    assert seen == [False]
    built.write_bytes(b"damaged")
    with open_memory(settings=coded(large_engine=engine), read_only=True) as memory:
        search_all(memory)
    assert seen == [False, True]
    assert built.read_bytes() == b"damaged"
    assert sorted(file.name for file in built.parent.iterdir()) == before


def test_a_second_process_sees_what_the_first_one_wrote(open_memory: Open, store: Path) -> None:
    script = """
import sys
sys.path.insert(0, sys.argv[2])
from conftest import FakeClock, HashEmbedder
from agentmem import Memory, Settings
settings = Settings(arena_limit=100, large_wait_s=60, query_cache_size=0, lifecycle={"sweep_interval_s": 0})
memory = Memory(sys.argv[1], settings=settings, clock=FakeClock(), embedder=HashEmbedder())
for line in sys.stdin:
    hits = memory.search(line.strip(), user_id="ana", limit=1, explain=True)
    print(hits[0].id, *hits.trace.engines, flush=True)
"""
    memory = open_memory(settings=coded())
    filled(memory, 300)
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(store), str(ROOT / "tests")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdin is not None
    assert other.stdout is not None
    with other:
        for n in range(5):
            id = memory.add(f"a lighthouse of number {n}", user_id="ana").id
            other.stdin.write(f"lighthouse number {n}\n")
            other.stdin.flush()
            assert other.stdout.readline().split() == [id, "codes"]
            memory.delete(id)
        other.stdin.close()


class TestLargeArenas(FeedCopyContract):
    """Arenas of codes as copies that follow the records."""

    SETTINGS = Settings(arena_limit=0, large_wait_s=60, **IDLE)

    def copy_of(self, engine: Engine) -> Residents:
        return engine.retriever.residents

    def rows_of(self, engine: Engine) -> set[int]:
        rows = engine.retriever.residents.use(EVERYBODY, lambda arena: set(arena.versions()))
        assert rows is not None
        return rows

    def spoil(self, engine: Engine, row: int) -> None:
        engine.retriever.residents.use(EVERYBODY, lambda arena: arena.remove(row))


# -- files of arrays -------------------------------------------------------------------------------------------------


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    import numpy as np

    arrays = {
        "many": np.arange(1_000, dtype=np.int32).reshape(10, 100),
        "none": np.empty((0, 7), np.float32),
        "flags": np.array([True, False]),
        "every other": np.arange(10)[::2],
    }
    path = tmp_path / "x.arena"
    arrayfile.write(path, {"a": [1, "é"]}, arrays)
    header, found = arrayfile.read(path)
    assert header == arrayfile.read_header(path) == json.loads('{"a": [1, "é"]}')
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert (found[name] == array).all()
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        try:
            _, found = arrayfile.read(path)
        except arrayfile.DamagedFileError:
            continue
        assert all((found[name] == array).all() for name, array in arrays.items()), at  # it hit what lies between


@pytest.mark.parametrize("filters", [{"user.id": 1}, {"$data.list": 1}, {"$data.list": [1, "x"]}], ids=str)
def test_what_is_added_is_found_by_a_filter_that_was_used_before(
    tmp_path: Path, embedder: Any, filters: dict[str, Any]
) -> None:
    def items(first: int) -> list[dict[str, Any]]:
        numbers = [(n, n % 3) for n in range(first, first + 30)]
        return [
            {"content": f"tea {n}", "metadata": {"user": {"id": k}}, "data": {"list": [k, "x"]}} for n, k in numbers
        ]

    with Memory(tmp_path / "s", embedder=embedder, settings=Settings(performance={"arena_limit": 5})) as memory:
        for round in range(3):
            memory.add_many(items(30 * round), user_id="ana")
            assert len(memory.search("tea", user_id="ana", filters=filters, limit=100)) == 10 * (round + 1)


def test_a_search_that_would_wait_in_vain_does_not_wait_and_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_HEAD_START", 60)
    one = building.Building(patience=30)
    begun = threading.Event()

    def build() -> None:
        one.begins(3_600)
        begun.set()

    builder = threading.Thread(target=one.run, args=(build,))
    builder.start()
    started = time.monotonic()
    one.wait()
    assert time.monotonic() - started < 20
    assert not one.done
    assert not begun.is_set()
    one.stop()
    builder.join(20)
    assert begun.is_set()
    assert one.done


def test_a_search_waits_for_what_it_can_wait_for() -> None:
    one = building.Building(patience=60)

    def build() -> None:
        one.begins(0.01)
        time.sleep(0.2)

    builder = threading.Thread(target=one.run, args=(build,))
    builder.start()
    one.wait()
    assert one.done
    builder.join()


@pytest.mark.usefixtures("built")
def test_what_was_kept_does_not_wait_for_what_lets_searches_go_first(
    open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_memory(settings=coded(large_engine=engine, large_wait_s=20)) as memory:
        memory.add_many(texts(150), user_id="cem", dedupe=False)
        monkeypatch.setattr(building, "_HEAD_START", 60)
        monkeypatch.setattr(building, "_RECORD_S", 3_600)
        assert "codes" not in engines(memory.search("harbour", user_id="cem", explain=True))
        assert engines(memory.search("harbour", user_id="ana", explain=True)) == ("codes",)


@pytest.mark.parametrize("large", [True, False])
def test_what_others_dropped_meanwhile_is_not_kept_as_if_it_had_everything(
    open_memory: Open, store: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """A search waits for its scope while others come so far behind the feed that they drop all scopes."""
    monkeypatch.setattr(snapshots, "AGAIN_S", -1.0)
    monkeypatch.setattr(snapshots, "CHANGES", 5)
    monkeypatch.setattr(residents, "KEPT_FROM", 100)
    settings = coded() if large else Settings(**QUIET)
    with open_memory(settings=settings) as memory:
        memory.add_many(texts(200), user_id="ana", dedupe=False)
        memory.search("harbour", user_id="ana")
        wait_until_kept(store)
        memory.add_many([f"a late lantern {n}" for n in range(20)], user_id="ana", dedupe=False)
        held = memory.handle.engine().retriever.residents
        [resident] = held._every()
        original, waits = Residents._resident, threading.Event()

        def found(self: Residents, wall: Any) -> Any:
            one = original(self, wall)
            waits.set()
            return one

        monkeypatch.setattr(Residents, "_resident", found)
        with resident.lock:
            searching = threading.Thread(target=lambda: memory.search("lantern", user_id="ana"))
            searching.start()
            assert waits.wait(20)
            memory.add_many([f"a later zeppelin {n}" for n in range(20)], user_id="ana", dedupe=False)
            for name in ("BACKLOG", "_LONG_BACKLOG"):
                monkeypatch.setattr(residents, name, 10)
            held.catch_up()
            assert not held._every()
        searching.join(20)
    with open_memory(settings=settings) as memory:
        hits = memory.search("zeppelin", user_id="ana", mode="keyword", limit=100)
        assert len(hits) == 20


def test_of_what_is_erased_while_its_scope_is_built_anew_nothing_stays_in_memory(
    open_memory: Open, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    held = memory.handle.engine().retriever.residents
    items = [{"key": f"k{n}", "content": text} for n, text in enumerate(texts(600))]
    unheard = memory.add("an unheard of zeppelin", user_id="ana").id
    original, built, go_on = building.Builder._build, threading.Event(), threading.Event()

    def late(*arguments: Any) -> Any:
        arena = original(*arguments)
        built.set()
        assert go_on.wait(60)
        return arena

    for turn in range(3):
        memory.put_many(items, user_id="ana")
        if turn == 2:
            monkeypatch.setattr(building.Builder, "_build", late)
        memory.search("lantern", user_id="ana")
    assert built.wait(60)
    [resident] = held._every()
    old = resident.arena
    assert memory.erase(unheard).erased
    memory.search("lantern", user_id="ana")
    assert resident.arena is old
    go_on.set()
    wait_until(lambda: memory.search("lantern", user_id="ana") and resident.arena is not old)
    assert isinstance(resident.arena, largearena.LargeArena)
    assert not resident.arena._postings.known([lasting("unheard")])
    assert resident.arena._postings.known([lasting("lantern")])


def test_what_another_process_erases_under_a_search_is_left_out(
    open_memory: Open, store: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=coded(large_engine=engine))
    ids = [one.id for one in memory.add_many(["a lantern"] * 150, user_id="ana", dedupe=False)]
    memory.search("lantern", user_id="ana")
    original, erased = largearena.LargeArena._ids_of, list[str]()

    def late(*arguments: Any) -> list[str]:
        if not erased:
            erased.append(ids[7])
            erase_elsewhere(store, ids[7])
        return original(*arguments)

    monkeypatch.setattr(largearena.LargeArena, "_ids_of", late)
    assert {hit.id for hit in memory.search("lantern", user_id="ana", limit=200)} == {*ids} - {ids[7]}
    assert erased
