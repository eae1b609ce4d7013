"""Whichever engines are switched on, and wherever vectors are held: the same ids, the same scores, nobody else's."""

from __future__ import annotations

import random
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import ALL, Memory, Settings
from agentmem.indexes.fronts import Fronted
from agentmem.retrieval import largearena

SUBJECTS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()
DETAILS = "old new blue quiet heavy broken famous hidden narrow yellow distant simple".split()
USERS = {"ana": 70, "ben": 30}
LIMIT = 7
QUIET: dict[str, Any] = {"query_cache_size": 0, "lifecycle": {"sweep_interval_s": 0}}
NO_ROOM = {"interval_s": 0, "hot": {"size_gb": 0}, "warm": {"size_gb": 0}}


def large(engine: str, tiers: dict[str, Any] | None = None) -> Settings:
    """Every scope of more than 20 records is large, and nothing looks by itself."""
    return Settings(
        arena_limit=20, large_wait_s=60, large_engine=engine, tiers=tiers or {"interval_s": 0}, **QUIET
    )  # fmt: skip


KINDS = {
    "int8": large("int8"),
    "int8, nothing held": large("int8", NO_ROOM),
    "disk": large("lancedb"),
    "disk, nothing held": large("lancedb", NO_ROOM),
    # Two bits tell less than is needed here: all is held, so that nothing depends on them.
    "rabitq, all held": large("rabitq"),
    "hnsw": large("hnsw"),
}
MISSING = {"rabitq, all held": "faiss", "hnsw": "hnswlib"}
THERE = sorted(kind for kind in KINDS if kind not in MISSING or find_spec(MISSING[kind]) is not None)
STEP = st.one_of(
    st.tuples(st.just("place"), st.integers(0, 99), st.sampled_from(["hot", "warm", "cold", None])),
    st.tuples(st.just("place all"), st.sampled_from([*USERS]), st.sampled_from(["hot", "warm", None])),
    st.tuples(st.just("delete"), st.integers(0, 99), st.none()),
    st.tuples(st.just("restore"), st.integers(0, 99), st.none()),
    st.tuples(st.just("erase"), st.integers(0, 99), st.none()),
    st.tuples(st.just("update"), st.integers(0, 99), st.sampled_from(SUBJECTS)),
    st.tuples(st.just("add"), st.sampled_from([*USERS]), st.sampled_from(SUBJECTS)),
    st.tuples(st.just("restart"), st.none(), st.none()),
)
IDS = [f"{user}-{n:04}" for user, count in USERS.items() for n in range(count)]
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("hybrid", {}),
    ("vector", {"run_id": "monday"}),
    ("vector", {"filters": {"n": {"$lt": 9}}}),
    ("hybrid", {"filters": {"n": {"$gte": 20}}}),
]


class Truth:
    """What there is, by id: whose it is, its run, its number."""

    def __init__(self) -> None:
        self.live = dict[str, tuple[str, str | None, int]]()
        self.deleted = dict[str, tuple[str, str | None, int]]()

    def of(self, user: Any, more: dict[str, Any]) -> set[str]:
        tests = {"$lt": lambda n, than: n < than, "$gte": lambda n, than: n >= than}
        [(name, than)] = more.get("filters", {}).get("n", {"$gte": 0}).items()
        return {
            id
            for id, (owner, run, n) in self.live.items()
            if user in (owner, ALL) and ("run_id" not in more or run == more["run_id"]) and tests[name](n, than)
        }

    def step(self, what: str, one: Any, at: int) -> bool:
        """Whether the step can be done, which is taken note of."""
        id = IDS[one] if isinstance(one, int) else ""
        if what == "add":
            self.live[f"more-{at}"] = (one, None, at)
        elif what == "delete" and id in self.live:
            self.deleted[id] = self.live.pop(id)
        elif what == "restore" and id in self.deleted:
            self.live[id] = self.deleted.pop(id)
        elif what == "erase" and (id in self.live or id in self.deleted):
            self.live.pop(id, None)
            self.deleted.pop(id, None)
        else:
            return what in ("place all", "restart", "begin") or (what in ("place", "update") and id in self.live)
        return True


def items(user: str, seed: int) -> list[dict[str, Any]]:
    pick = random.Random(seed)
    return [
        {
            "content": f"the {pick.choice(DETAILS)} {pick.choice(SUBJECTS)} and a {pick.choice(SUBJECTS)} {n}",
            "id": f"{user}-{n:04}",
            "metadata": {"n": n},
            "run_id": pick.choice([None, "monday"]),
        }
        for n in range(USERS[user])
    ]


def change(memory: Memory, what: str, one: Any, other: Any, at: int) -> None:
    id = IDS[one] if isinstance(one, int) else ""
    if what == "place":
        memory.tiers.place(id, other)
    elif what == "place all":
        memory.tiers.place({"user_id": one}, other)
    elif what == "update":
        memory.update(id, content=f"a {other} of its own {at}")
    elif what == "add":
        memory.add(f"one more {other} {at}", id=f"more-{at}", user_id=one, metadata={"n": at})
    elif what in ("delete", "restore", "erase"):
        getattr(memory, what)(id)


def settle(memory: Memory, kind: str) -> None:
    """Have what is to be held so, and made what is to stand in front."""
    engine = memory.handle.engine()
    for user in (*USERS, ALL):
        memory.search("anything", user_id=user, touch=False)
    if "all held" in kind:
        for user in USERS:
            memory.tiers.place({"user_id": user}, "warm")
    engine.lifecycle.write_down()
    engine.tiering.look()
    residents = engine.retriever.residents
    for _ in range(200 if kind == "hnsw" else 0):
        codes = [getattr(resident.arena, "codes", None) for resident in residents._every()]
        if sum(isinstance(one, Fronted) and one.front is not None for one in codes) == 3:
            return
        memory.search("anything", user_id=ALL, touch=False)
        time.sleep(0.005)


def run(folder: Path, kinds: list[str], steps: list[tuple[str, Any, Any]], seed: int) -> None:
    """The same changes in stores with other engines, which answer alike."""
    clock, embedder, truth = FakeClock(), HashEmbedder(), Truth()
    chosen = {"exact": Settings(**QUIET), **{kind: KINDS[kind] for kind in kinds}}

    def opened(name: str) -> Memory:
        return Memory(folder / name, settings=chosen[name], clock=clock, embedder=embedder)

    stores = {name: opened(name) for name in chosen}
    try:
        for number, user in enumerate(USERS):
            some = items(user, seed + number)
            truth.live |= {item["id"]: (user, item["run_id"], item["metadata"]["n"]) for item in some}
            for memory in stores.values():
                memory.add_many(some, user_id=user)
        for at, (what, one, other) in enumerate([("begin", None, None), *steps]):
            if not truth.step(what, one, at):
                continue
            for name in stores:
                if what == "restart":
                    stores[name].close()
                    stores[name] = opened(name)
                change(stores[name], what, one, other, at)
                if name != "exact":
                    settle(stores[name], name)
            compare(stores, truth, at)
    finally:
        for memory in stores.values():
            memory.close()


def compare(stores: dict[str, Memory], truth: Truth, at: int) -> None:
    mode, more = WAYS[at % len(WAYS)]
    queries = [f"a {DETAILS[(at + n) % 12]} {SUBJECTS[(5 * at + n) % 12]}" for n in range(2)]
    for user in (*USERS, ALL):
        options: dict[str, Any] = {"user_id": user, "mode": mode, "limit": LIMIT, "touch": False, **more}
        there = truth.of(user, more)
        wanted = [stores["exact"].search(query, **options) for query in queries]
        for name, memory in stores.items():
            for query, exact, found in zip(queries, wanted, memory.search_many(queries, **options), strict=True):
                assert {hit.id for hit in found} <= there, (name, query, options)
                assert len(found) == min(LIMIT, len(there)), (name, query, options)
                assert [hit.id for hit in found] == [hit.id for hit in exact], (name, query, options)
                assert [hit.score for hit in found] == pytest.approx([hit.score for hit in exact], abs=2e-6)


@pytest.fixture(autouse=True)
def cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines have a say in scopes of a hundred, too."""
    monkeypatch.setattr(largearena, "PROPOSED", 40)
    monkeypatch.setattr(largearena, "FINALISTS", 20)


@given(
    kinds=st.lists(st.sampled_from(THERE), min_size=1, max_size=2, unique=True),
    steps=st.lists(STEP, min_size=2, max_size=4),
    seed=st.integers(0, 5),
)
@settings(max_examples=4, suppress_health_check=list(HealthCheck), deadline=None)
def test_the_engines_change_no_answer(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], steps: list[tuple[str, Any, Any]], seed: int
) -> None:
    run(tmp_path_factory.mktemp("engines"), kinds, steps, seed)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@given(steps=st.lists(STEP, max_size=12), seed=st.integers(0, 100))
@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
def test_the_engines_change_no_answer_for_long(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]], seed: int
) -> None:
    run(tmp_path_factory.mktemp("engines"), THERE, steps, seed)
