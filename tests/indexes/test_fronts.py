"""Engines in front of codes: as near as codes alone, under every mask; what fails costs no answer."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from conftest import HashEmbedder
from contracts.vector_engine import DIM, VectorEngineContract, vectors

from agentmem import InvalidInputError, Memory, MissingExtraError, Settings
from agentmem.indexes import gpu, hnsw
from agentmem.indexes.codes import coding
from agentmem.indexes.fronts import Front, Fronted
from agentmem.indexes.hnsw import Hnsw
from agentmem.indexes.int8 import Int8
from agentmem.retrieval import snapshots
from agentmem.types.ports import EngineError

NO_HNSW = "the extra hnsw is not installed: pip install 'agentmem-db[hnsw]'"
Open = Callable[..., Memory]


class FrontContract(VectorEngineContract):
    """The contract of all engines, with a front of most of what was appended."""

    CANDIDATES = 20
    ERROR = 0.02
    BYTES = 3.0

    def front(self, size: int, dim: int = DIM) -> Front:
        raise NotImplementedError

    def new(self, dim: int = DIM) -> Fronted:
        return Fronted(Int8(dim))

    def filled(self, count: int = 3_000) -> tuple[Fronted, np.ndarray]:
        codes, every = self.new(), vectors(count)
        most = count - count // 10
        front = self.front(most)
        front.append(every[: most // 2])
        front.append(every[most // 2 : most])
        codes.append(every[:most])
        codes.begin()
        codes.offer(front, np.arange(most), most)
        codes.append(every[most:])
        assert codes.front is front
        return codes, every

    def test_saved_ones_are_the_same_and_can_grow(self) -> None:
        """What stands in front is not saved: the codes are, and are all that is needed."""
        codes, every = self.filled(800)
        other, alone = self.new(), Int8(DIM)
        other.restore({name: np.array(array) for name, array in codes.saved().items()})
        alone.append(every)
        query, allowed = vectors(1, seed=4)[0], np.ones(800, np.bool_)
        assert other.nearest(query, 50, allowed)[0].tolist() == alone.nearest(query, 50, allowed)[0].tolist()
        assert len(set(codes.nearest(query, 50, allowed)[0]) & set(other.nearest(query, 50, allowed)[0])) >= 45
        other.append(every[:10])
        assert (len(other), len(codes)) == (810, 800)

    def test_it_tells_when_another_one_is_due(self) -> None:
        codes, every = self.filled(1_000)
        assert codes.due(1_000, 0.8)
        assert not Fronted(Int8(DIM)).due(0, 0.8)
        front = self.front(1_000)
        front.append(every)
        codes.begin()
        assert not codes.due(1_000, 0.8)
        codes.offer(front, np.arange(1_000), 1_000)
        assert not codes.due(1_000, 0.8)
        assert codes.due(799, 0.8)
        assert not codes.due(799, 0.7)
        codes.refused = True
        assert not codes.due(500, 0.8)
        assert codes.nbytes > front.nbytes

    def test_what_is_retired_leaves_it_in_front_and_what_is_erased_is_not_left_in_it(self) -> None:
        codes, every = self.filled(500)
        front = codes.front
        codes.retire(np.arange(100))
        assert codes.front is front
        assert not codes.saved()["codes"][:100].any()
        codes.blank(np.array([3, 499]))
        kept = codes.front
        assert kept is None or np.abs(self.inside(kept, 3)).max() == 0
        allowed = np.arange(500) >= 100
        allowed[499] = False
        for query in every[100:140]:
            found, _ = codes.nearest(query, 5, allowed)
            assert len(found) == 5
            assert allowed[found].all()

    def test_what_was_erased_while_it_was_made_is_not_in_it(self) -> None:
        codes, every = self.filled(500)
        front = self.front(500)
        codes.begin()
        front.append(every)
        codes.blank(np.array([3], np.int64))
        codes.offer(front, np.arange(500), 500)
        assert codes.front is None or (codes.front is front and np.abs(self.inside(front, 3)).max() == 0)

    def test_a_front_of_some_numbers_finds_those(self) -> None:
        codes, every = self.new(), vectors(600)
        numbers = np.flatnonzero(np.arange(600) % 3)
        front = self.front(len(numbers))
        front.append(every[numbers])
        codes.append(every)
        codes.begin()
        codes.offer(front, numbers, 600)
        allowed = np.arange(600) % 3 > 0
        for number in (1, 2, 400, 599):
            assert codes.nearest(every[number], 5, allowed)[0][0] == number
            assert codes.nearest_many(every[[number, 5]], 5, allowed)[0][0][0] == number

    def inside(self, front: Any, number: int) -> np.ndarray:
        """What it has as this vector."""
        raise NotImplementedError


class TestHnsw(FrontContract):
    @pytest.fixture(autouse=True)
    def hnswlib(self) -> None:
        pytest.importorskip("hnswlib", reason=NO_HNSW)

    def front(self, size: int, dim: int = DIM) -> Hnsw:
        return Hnsw(dim, size, m=16, ef_construction=200, ef=100)

    def inside(self, front: Any, number: int) -> np.ndarray:
        return np.array(front._graph.get_items([number]))

    def test_many_are_erased_by_another_graph(self) -> None:
        codes, _ = self.filled(500)
        codes.blank(np.arange(51))
        assert codes.front is None


class TestGpu(FrontContract):
    @pytest.fixture(autouse=True)
    def cards(self) -> None:
        if not gpu.cards():
            pytest.skip("there is no graphics card that FAISS can use")

    def front(self, size: int, dim: int = DIM) -> gpu.Gpu:
        return gpu.Gpu(dim, (0,), "float16")


class TestGpuOnProcessors(FrontContract):
    """The same with FAISS's flat indexes for processors in the place of those for cards, of which there are two."""

    @pytest.fixture(autouse=True)
    def processors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        faiss = pytest.importorskip("faiss", reason="the extra faiss is not installed")

        class Config:
            device, useFloat16 = 0, False

        for name, value in (
            ("StandardGpuResources", object),
            ("GpuIndexFlatConfig", Config),
            ("GpuIndexFlatIP", lambda resources, dim, config: faiss.IndexFlatIP(dim)),
        ):
            monkeypatch.setattr(faiss, name, value, raising=False)

    def front(self, size: int, dim: int = DIM) -> gpu.Gpu:
        return gpu.Gpu(dim, (0, 1), "float32")

    def test_all_vectors_are_found_by_their_own_numbers(self) -> None:
        front, every = self.front(1_000), vectors(1_000)
        for start in range(0, 1_000, 90):
            front.append(every[start : start + 90])
        query = vectors(1, seed=3)[0]
        found = front.nearest(query, 50, np.ones(1_000, np.bool_))
        assert found is not None
        assert found[0].tolist() == np.argsort(-(every @ query), kind="stable")[:50].tolist()
        assert front.nearest(query, 50, np.arange(1_000) < 60) is not None
        assert front.nearest(query, 50, np.arange(1_000) < 20) is None


class TestReplicasOnProcessors(TestGpuOnProcessors):
    """Each of the two has all vectors, and they take turns."""

    def front(self, size: int, dim: int = DIM) -> gpu.Gpu:
        return gpu.Gpu(dim, (0, 1), "float32", replicas=True)

    def test_both_have_all(self) -> None:
        front, every = self.front(300), vectors(300)
        front.append(every)
        assert front.nbytes == 2 * every.nbytes
        assert [int(index.ntotal) for index in front._indexes] == [300, 300]
        allowed = np.ones(300, np.bool_)
        one, other = front.nearest(every[7], 5, allowed), front.nearest(every[7], 5, allowed)
        assert one is not None
        assert other is not None
        assert one[0].tolist() == other[0].tolist()
        assert one[0][0] == 7


class Lost(Front):
    """One that answers nothing any more, as a card that the driver has lost."""

    name, nbytes = "lost", 7

    def __init__(self) -> None:
        self.closed = False

    def __len__(self) -> int:
        return 100

    def append(self, vectors: np.ndarray) -> None:
        raise EngineError("out of memory")

    def nearest(self, vector: np.ndarray, k: int, allowed: np.ndarray) -> Any:
        raise EngineError("the card fell off the bus")

    def close(self) -> None:
        self.closed = True


def test_codes_answer_for_what_fails() -> None:
    codes, every, alone = Fronted(Int8(DIM)), vectors(200), Int8(DIM)
    codes.append(every)
    alone.append(every)
    lost = Lost()
    codes.offer(lost, np.arange(100), 100)
    query, allowed = vectors(1, seed=4)[0], np.ones(200, np.bool_)
    for _ in range(2):
        found = codes.nearest(query, 10, allowed)
        assert found[0].tolist() == alone.nearest(query, 10, allowed)[0].tolist()
    assert (codes.fallbacks, codes.last_error) == (1, "EngineError: the card fell off the bus")
    assert lost.closed
    assert not codes.due(200, 0.8)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'agentmem-db\[hnsw\]'"):
        coding("hnsw")
    monkeypatch.setattr(gpu, "cards", lambda: 0)
    assert (gpu.chosen("auto"), gpu.chosen("none")) == ((), ())
    with pytest.raises(EngineError, match=r"sees 0 graphics cards; pip install 'agentmem-db\[gpu\]'"):
        gpu.chosen("cuda:0")
    monkeypatch.setattr(gpu, "cards", lambda: 2)
    monkeypatch.setattr(gpu, "worth_asking", lambda: True)
    assert (gpu.chosen("auto"), gpu.chosen("cuda"), gpu.chosen("cuda:1")) == ((0, 1), (0, 1), (1,))
    with pytest.raises(EngineError, match="there are cuda:0 to cuda:1"):
        gpu.chosen("cuda:2")
    with pytest.raises(InvalidInputError, match="device"):
        Settings(tiers={"hot": {"device": "tpu"}})


def large(**more: Any) -> Settings:
    options = {"arena_limit": 50, "large_wait_s": 60, "query_cache_size": 0, "large_engine": "int8"}
    return Settings(**{**options, "lifecycle": {"sweep_interval_s": 0}, "tiers": {"interval_s": 0}, **more})


@pytest.mark.skipif(bool(gpu.cards()), reason="there is a graphics card")
def test_a_card_that_is_not_there_is_counted_and_costs_no_answer(open_memory: Open) -> None:
    memory = open_memory(settings=large(tiers={"interval_s": 0, "hot": {"device": "cuda:0"}}))
    memory.add_many([f"the {n}th lantern of {n % 7} harbours" for n in range(200)], user_id="ana")
    for n in range(100):
        assert len(memory.search(f"lantern {n}", user_id="ana")) == 10
        if memory.health().engine_fallbacks:
            break
        time.sleep(0.02)
    health = memory.health()
    assert health.ok
    assert health.engine_fallbacks == 1
    assert "graphics cards" in str(health.last_engine_error)
    memory.handle.engine().retriever.residents.reset()
    gc.collect()
    assert memory.health() == health


@pytest.mark.skipif(find_spec("hnswlib") is None, reason=NO_HNSW)
def test_a_graph_answers_for_a_large_scope_and_follows_it(open_memory: Open) -> None:
    memory = open_memory(settings=large(large_engine="hnsw"))
    memory.add_many([f"the {n}th lantern of {n % 7} harbours" for n in range(300)], user_id="ana")
    codes = None
    for n in range(200):
        memory.search(f"lantern {n}", user_id="ana")
        [resident] = memory.handle.engine().retriever.residents._every()
        codes = getattr(resident.arena, "codes", None)
        if isinstance(codes, Fronted) and codes.front is not None:
            break
        time.sleep(0.02)
    assert isinstance(codes, Fronted)
    assert codes.front is not None
    assert codes.front.name == "hnsw"
    codes, held = None, weakref.ref(codes.front)
    added = memory.add("an unheard of zeppelin", user_id="ana")
    assert memory.search("zeppelin", user_id="ana", mode="vector")[0].id == added.id
    memory.delete(added.id)
    assert added.id not in {hit.id for hit in memory.search("zeppelin", user_id="ana", mode="vector")}
    assert len(memory.search("harbours", user_id="ana", limit=250)) == 250
    assert memory.health().engine_fallbacks == 0
    resident = None
    memory.delete_all(user_id="ana")  # what is left is held exactly
    memory.search("harbours", user_id="ana")
    gc.collect()
    assert held() is None


@pytest.mark.skipif(find_spec("hnswlib") is None, reason=NO_HNSW)
def test_a_graph_stays_while_others_write_and_has_nothing_of_what_was_erased(
    open_memory: Open, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes are kept again after each few changes, for which all that is dead is overwritten in them."""
    monkeypatch.setattr(snapshots, "AGAIN_S", 0.0)
    monkeypatch.setattr(snapshots, "CHANGES", 0)
    memory = open_memory(settings=large(large_engine="int8", tiers={"interval_s": 0, "warm": {"engine": "hnsw"}}))
    texts = [f"the {n}th lantern of {n % 7} harbours" for n in range(400)]
    ids = [one.id for one in memory.add_many(texts, user_id="ana")]
    memory.search("lantern", user_id="ana")
    [resident] = memory.handle.engine().retriever.residents._every()
    codes: Any = getattr(resident.arena, "codes", None)
    for n in range(200):
        memory.search(f"lantern {n}", user_id="ana")
        if codes.front is not None:
            break
        time.sleep(0.02)
    front = codes.front
    assert front.name == "hnsw"
    for n in range(20):
        memory.delete(ids[n])
        memory.update(ids[n + 20], content=f"another one, {n}")
        memory.search(f"lantern {n}", user_id="ana")
    assert codes.front is front
    assert memory.erase(ids[300]).erased
    memory.search("lantern", user_id="ana")
    assert codes.front is front
    assert np.abs(np.array(front._graph.get_items([300]))).max() == 0
    kept = np.array(front._graph.get_items([301]))[0]
    assert kept == pytest.approx(embedder.embed_query(texts[301]), abs=1e-6)
    assert memory.search(texts[301], user_id="ana", mode="vector")[0].id == ids[301]
    assert ids[300] not in {hit.id for hit in memory.search(texts[300], user_id="ana", limit=400)}
