"""Records with one vector, several, or none: what searches find, compared with numpy, in memory and in large scopes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import HashEmbedder
from hypothesis import given
from hypothesis import strategies as st

from agentmem import InvalidInputError, Memory, Settings
from agentmem.retrieval.several import Several

WORDS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()
DIM = HashEmbedder.dim


def unit(values: Any) -> np.ndarray:
    found = np.asarray(values, np.float64)
    return found / np.linalg.norm(found)


class Oracle:
    """What each record is found by, kept beside the store."""

    def __init__(self) -> None:
        self.vectors: dict[str, list[np.ndarray]] = {}
        self.words: dict[str, set[str]] = {}

    def note(self, id: str, content: str, embed: Any, vector: Any = None) -> None:
        texts = [content] if embed in (None, True) else embed or []
        given = [] if vector is None else [unit(one) for one in np.atleast_2d(vector)]
        self.vectors[id] = given or [unit(HashEmbedder().embed_query(text)) for text in texts]
        said = " ".join([content, *(texts if vector is None else [])])
        self.words[id] = set(said.lower().split())

    def similar(self, query: np.ndarray) -> dict[str, tuple[float, int]]:
        """Of each record that has a vector the similarity of the nearest, and which one that is."""
        found = {id: [float(vector @ query) for vector in held] for id, held in self.vectors.items() if held}
        return {id: (max(each), each.index(max(each))) for id, each in found.items()}


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))


def fill(memory: Memory, rng: random.Random, count: int) -> Oracle:
    """A mixture of all forms, then changed, deleted, and brought back."""
    oracle, items, said = Oracle(), [], []
    for n in range(count):
        content, kind = f"{sentence(rng)} note{n}", rng.choice(["content", "content", "none", "texts", "given", "many"])
        item: dict[str, Any] = {"content": content, "id": f"r{n:03}"}
        if kind == "none":
            item["embed"] = False
        elif kind in ("texts", "many"):
            item["embed"] = [sentence(rng) for _ in range(rng.randint(1, 4) if kind == "texts" else 60)]
        elif kind == "given":
            item["vector"] = np.array([[rng.gauss(0, 1) for _ in range(DIM)] for _ in range(rng.randint(1, 3))])
        items.append(item)
        said.append((item["id"], content, item.get("embed"), item.get("vector")))
    memory.add_many(items, user_id="mia")
    for each in said:
        oracle.note(*each)
    for id, content, *_ in rng.sample(said, count // 4):
        embed = rng.choice([True, False, [sentence(rng) for _ in range(5)]])
        memory.update(id, embed=embed)
        oracle.note(id, content, embed)
    for id, *_ in rng.sample(said, count // 8):
        memory.delete(id)
        if rng.random() < 0.5:
            del oracle.vectors[id], oracle.words[id]
        else:
            memory.restore(id)
    return oracle


SCOPES = {
    "small": Settings(),
    "codes": Settings(arena_limit=6, large_engine="int8", large_wait_s=60),
    "disk": Settings(arena_limit=6, large_engine="lancedb"),
}


@pytest.fixture(params=SCOPES)
def filled(request: pytest.FixtureRequest, open_memory: Callable[..., Memory]) -> tuple[Memory, Oracle]:
    memory = open_memory(settings=SCOPES[request.param])
    oracle = fill(memory, random.Random(7), 80)
    memory.flush()
    memory.add_many(
        [f"{WORDS[n % 12]} tail{n}" for n in range(4)], user_id="mia", embed=False
    )  # LanceDB has none of it
    for record in memory.page(user_id="mia", limit=4).records:
        oracle.note(record.id, record.content, False)
    assert memory.verify().problems == []
    return memory, oracle


@pytest.mark.parametrize("limit", [1, 7, 30, 200])
def test_by_similarity(filled: tuple[Memory, Oracle], limit: int) -> None:
    memory, oracle = filled
    for text in ("copper river", "violin", "winter winter engine"):
        query = unit(HashEmbedder().embed_query(text))
        truth = oracle.similar(query)
        best = sorted((round(-similarity, 5), id) for id, (similarity, _) in truth.items())[:limit]
        for call in ({"query": text}, {"vector": 3 * query}):
            found = memory.search(user_id="mia", rank="similarity", limit=limit, explain=True, **call)
            assert [hit.similarity for hit in found] == pytest.approx([-one for one, _ in best], abs=1e-4)
            for hit in found:
                assert hit.similarity == pytest.approx(truth[hit.id][0], abs=1e-5)
                assert hit.details is not None
                if len(oracle.vectors[hit.id]) == 1:
                    assert hit.details.part is None
                elif hit.details.part != truth[hit.id][1]:  # the same text twice
                    part = oracle.vectors[hit.id][hit.details.part or 0]
                    assert float(part @ query) == pytest.approx(truth[hit.id][0], abs=1e-5)


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_as_many_as_there_are(filled: tuple[Memory, Oracle], mode: Any) -> None:
    memory, oracle = filled
    for text in ("copper river", "tail2", "violin garden"):
        words = set(text.split())
        with_word = {id for id, said in oracle.words.items() if words & said}
        with_vector = {id for id, held in oracle.vectors.items() if held}
        everything = {"hybrid": with_word | with_vector, "vector": with_vector, "keyword": with_word}[mode]
        for limit in (1, 9, 40, len(everything), 500):
            found = memory.search(text, user_id="mia", mode=mode, limit=limit)
            assert len(found) == min(limit, len(everything))
            assert len({hit.id for hit in found}) == len(found)
            assert {hit.id for hit in found} <= everything
            if mode != "keyword":
                assert all((hit.similarity is None) == (not oracle.vectors[hit.id]) for hit in found)


def test_a_floor_leaves_out_what_has_no_vector(filled: tuple[Memory, Oracle]) -> None:
    memory, oracle = filled
    query = unit(HashEmbedder().embed_query("copper river"))
    for floor in (-1, 0, 0.3, 0.7):
        passing = {id for id, (similarity, _) in oracle.similar(query).items() if similarity >= floor}
        found = memory.search("copper river", user_id="mia", min_similarity=floor, limit=500)
        assert {hit.id for hit in found} == passing


def test_small_and_large_scopes_agree(open_memory: Callable[..., Memory], tmp_path: Any) -> None:
    memories = [open_memory(tmp_path / name, settings=settings) for name, settings in SCOPES.items()]
    for memory in memories:
        fill(memory, random.Random(3), 60)
        memory.flush()
    for text in ("copper", "river market", "note7 lantern"):
        for mode in ("hybrid", "vector", "keyword"):
            one, *others = (
                memory.search(text, user_id="mia", mode=mode, limit=25, explain=True) for memory in memories
            )
            for other in others:
                assert [hit.id for hit in one] == [hit.id for hit in other]
                assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
                parts = [hit.details and hit.details.part for hit in other]
                assert [hit.details and hit.details.part for hit in one] == parts


@pytest.mark.parametrize("scope", ["codes", "disk"])
def test_one_record_with_many_vectors_crowds_out_no_other(open_memory: Callable[..., Memory], scope: str) -> None:
    memory = open_memory(settings=SCOPES[scope])
    memory.add_many([f"meadow {n}" for n in range(300)], user_id="mia")
    for n in range(5):
        memory.add(f"a book about copper {n}", user_id="mia", embed=[f"copper {n} {part}" for part in range(256)])
    memory.flush()
    for mode in ("vector", "hybrid"):
        for limit in (5, 50, 305, 400):
            assert len(memory.search("copper", user_id="mia", mode=mode, limit=limit)) == min(limit, 305)


def test_a_scope_is_large_when_its_vectors_are_many(open_memory: Callable[..., Memory]) -> None:
    settings = Settings(arena_limit=40, large_engine="int8", large_wait_s=60)
    memory = open_memory(settings=settings)
    memory.add_many([f"meadow {n}" for n in range(30)], user_id="mia")
    trace = memory.search("meadow", user_id="mia", explain=True).trace
    assert trace is not None
    assert trace.engines == ("arena",)
    memory.add("a book", user_id="mia", embed=[f"copper {n}" for n in range(20)])
    memory.close()
    trace = open_memory(settings=settings).search("meadow", user_id="mia", explain=True).trace
    assert trace is not None
    assert trace.engines == ("codes",)


def test_records_that_keep_changing_leave_no_vectors_behind(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    id = memory.add("a book", user_id="mia", embed=["copper"]).id
    memory.add_many([f"meadow {n}" for n in range(10)], user_id="mia")
    for n in range(12):
        memory.update(id, embed=[f"copper {n} {part}" for part in range(256)])
        assert memory.search(f"copper {n} 17", user_id="mia", limit=1)[0].id == id
    assert memory.stats().arenas["bytes"] < 2_000 * 4 * DIM


def test_plain_arenas_have_nothing_of_it(open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("made for a scope that has no use for it")

    monkeypatch.setattr(Several, "__init__", refuse)
    memory = open_memory()
    memory.add_many([f"meadow {n}" for n in range(10)], user_id="mia")
    assert len(memory.search("meadow", user_id="mia")) == 10


vectors = st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any)


@given(st.lists(st.lists(vectors, max_size=4), min_size=1, max_size=12), vectors)
def test_the_nearest_of_each(held: list[list[list[int]]], query: list[int]) -> None:
    several, wanted = Several(3), np.array(query, np.float32)
    first = np.zeros(len(held), np.float32)
    for slot, each in enumerate(held):
        found = np.array(each, np.float32).reshape(-1, 3)
        if len(found) != 1:
            several.add(slot, found)
        first[slot] = found[0] @ wanted if len(found) else 0
    nearest = several.nearest(wanted, len(held))
    for slot, each in enumerate(held):
        every = [float(np.array(one) @ wanted) for one in each]
        assert bool(nearest.bare[slot]) == (not every)
        assert nearest.extra[slot] == (max(every[1:]) if len(every) > 1 else -2)
        part = several.part(slot, first[slot], nearest)
        assert part == (every.index(max(every)) if len(every) > 1 else None)


@pytest.mark.parametrize("arena_limit", [50_000, 3])
def test_searching_with_a_vector(open_memory: Callable[..., Memory], arena_limit: int) -> None:
    class Unused(HashEmbedder):
        def embed_query(self, text: str) -> np.ndarray:
            if text == "north":
                raise AssertionError("the query is not to be embedded")
            return super().embed_query(text)

    memory = open_memory(embedder=Unused(), settings=Settings(arena_limit=arena_limit))
    axes = np.eye(DIM)
    for n in range(6):
        memory.add(f"axis {n} north" if n == 4 else f"axis {n}", user_id="mia", id=str(n), vector=axes[n] + axes[n + 1])
    found = memory.search(vector=(5 * axes[2]).tolist(), user_id="mia", limit=2)
    assert {hit.id for hit in found} == {"1", "2"}
    assert [hit.similarity for hit in found] == pytest.approx([0.5**0.5] * 2)
    both = memory.search("north", vector=axes[2], user_id="mia", limit=1)
    assert both[0].id == "4"  # words count beside it
    assert both[0].similarity == pytest.approx(0)
    assert memory.search(vector=axes[0], user_id="mia") != memory.search(vector=axes[5], user_id="mia")

    def refused(field: str, words: str, **options: Any) -> None:
        with pytest.raises(InvalidInputError, match=words) as caught:
            memory.search(user_id="mia", **options)
        assert caught.value.field == field

    refused("query", "a query, or a vector")
    refused("vector", "3 numbers.*have 32", vector=[1, 2, 3])
    refused("vector", "one vector, not 2", vector=axes[:2])
    refused("vector", "zero", vector=[0.0] * DIM)
    refused("vector", "finite", vector=[float("nan")] * DIM)
    refused("query", "words of a query", vector=axes[0], mode="keyword")
    refused("vector", "compares no embeddings", query="axis", vector=axes[0], mode="keyword")


def test_codes_follow_what_changes(open_memory: Callable[..., Memory]) -> None:
    """More records than are scored at once, so that codes and further vectors propose."""
    rng = random.Random(5)
    memory = open_memory(settings=Settings(arena_limit=100, large_engine="int8", large_wait_s=60))
    oracle = fill(memory, rng, 500)
    assert memory.search("copper", user_id="mia")
    for round in range(2):
        for id in rng.sample(sorted(oracle.vectors), 25):
            record, embed = memory.get(id), rng.choice([True, False, [sentence(rng) for _ in range(3)]])
            assert record is not None
            memory.update(id, embed=embed)
            oracle.note(id, record.content, embed)
        for text in ("copper river", "violin", f"note{round} paper"):
            query = unit(HashEmbedder().embed_query(text))
            truth = oracle.similar(query)
            for limit in (5, 60, len(truth)):
                found = memory.search(text, user_id="mia", rank="similarity", limit=limit, explain=True)
                assert found.trace is not None
                assert found.trace.engines == ("codes",)
                best = sorted((similarity for similarity, _ in truth.values()), reverse=True)[:limit]
                assert [hit.similarity for hit in found] == pytest.approx(best, abs=1e-4)
            everything = {id for id, said in oracle.words.items() if set(text.split()) & said} | truth.keys()
            assert {hit.id for hit in memory.search(text, user_id="mia", limit=2_000)} == everything
            floor = memory.search(text, user_id="mia", min_similarity=0.4, limit=2_000)
            assert {hit.id for hit in floor} == {id for id, (similarity, _) in truth.items() if similarity >= 0.4}
