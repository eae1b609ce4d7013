"""Changes of ``apply`` with data, texts to embed and given vectors; ends that slide of records that have such."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from inspecting import sql

from agentmem import (
    Add,
    AddResult,
    AgentMemError,
    AsyncMemory,
    ConflictError,
    Delete,
    InvalidInputError,
    Memory,
    MemoryRecord,
    NotFoundError,
    Put,
    Touch,
    Update,
)

AXES = np.eye(HashEmbedder.dim)
LARGE = {"rows": ["x" * 1_000] * 400}


class Counting(HashEmbedder):
    """Remembers what it was asked to embed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return super().embed_documents(texts)


def vectors_of(memory: Memory, id: str) -> np.ndarray:
    [found] = memory.vectors([id])
    assert found is not None
    return found.vectors


def got(memory: Memory, key: str) -> MemoryRecord:
    found = memory.get(key=key, touch=False)
    assert found is not None
    return found


def record_of(done: object) -> MemoryRecord:
    assert isinstance(done, AddResult | MemoryRecord)
    return done.record if isinstance(done, AddResult) else done


def all_is_well(memory: Memory) -> None:
    memory.flush()
    assert memory.verify().problems == []


def state(memory: Memory) -> list[tuple[object, ...]]:
    order = {"records": "row", "history": "seq", "bodies": "row, version, part", "embeddings_1": "row"}
    order["more_embeddings_1"] = "row, part"
    return [row for table, by in order.items() for row in sql(memory, f"SELECT * FROM {table} ORDER BY {by}")]


def test_forms_and_data_in_one_transaction(memory: Memory) -> None:
    old = memory.add("harbour", embed=["ferry", "pier"], data={"n": 0}).id
    done = memory.apply(
        [
            Put("texts", "a quiet evening", embed=["ferry", "lighthouse"], data=LARGE),
            Put("given", "words of no matter", vector=AXES[:2] * 3),
            Put("only data", data=[1, None, {"a": "b"}]),
            Add({"content": "said", "vector": AXES[5].tolist(), "data": {"said": True}}),
            Put("plain", "like most"),
            Update(old, embed=True, data=None),
        ]
    )
    texts, given, only, said, plain, changed = [record_of(one) for one in done]
    assert [one.embedding for one in (texts, given, only, said, plain, changed)] == [
        "texts", "given", "none", "given", "content", "content",
    ]  # fmt: skip
    assert (texts.data, given.data, only.data, said.data, changed.data) == (
        LARGE, None, [1, None, {"a": "b"}], {"said": True}, None,
    )  # fmt: skip
    embedder = HashEmbedder()
    assert np.allclose(vectors_of(memory, texts.id), embedder.embed_documents(["ferry", "lighthouse"]))
    assert np.allclose(vectors_of(memory, given.id), AXES[:2])
    assert np.allclose(vectors_of(memory, said.id), AXES[5:6])
    assert vectors_of(memory, only.id).shape == (0, HashEmbedder.dim)
    assert np.allclose(vectors_of(memory, old), embedder.embed_documents(["harbour"]))
    assert memory.search(vector=AXES[5], limit=1)[0].id == said.id
    assert got(memory, "only data") == only
    all_is_well(memory)


def test_only_what_is_needed_is_embedded(open_memory: Callable[..., Memory]) -> None:
    model = Counting()
    memory = open_memory(embedder=model)
    kept = memory.put("given", "first", vector=AXES[0]).record
    texts = memory.put("texts", "first", embed=["one", "two"]).record
    empty = memory.put("empty", data={}).record
    memory.put("plain", "first")
    model.asked.clear()
    memory.apply(
        [
            Update(key="given", content="second"),
            Update(texts.id, content="second", data={"n": 1}),
            Update(key="plain", metadata={"a": 1}),
            Update(key="plain", data={"b": 2}),
            Update(key="empty", content="has one now"),
            Delete(key="nothing"),
        ]
    )
    assert model.asked == ["has one now"]
    assert np.allclose(vectors_of(memory, kept.id), AXES[:1])
    assert got(memory, "texts").embedding == "texts"
    assert got(memory, "empty").embedding == "content"
    assert np.allclose(vectors_of(memory, empty.id), model.embed_query("has one now"))
    assert (got(memory, "plain").metadata, got(memory, "plain").data) == ({"a": 1}, {"b": 2})
    all_is_well(memory)


def test_a_form_that_an_earlier_change_brings(memory: Memory) -> None:
    """What is to be embedded shows only once the changes before are made."""
    memory.put("was given", "first", vector=AXES[0])
    memory.put("was plain", "first")
    done = memory.apply(
        [
            Put("new", "words", embed=["ferry"]),
            Update(key="new", content="other words"),
            Update(key="new", embed=True),
            Put("was given", "second"),
            Update(key="was given", content="third"),
            Put("was plain", "second", vector=AXES[3]),
            Update(key="was plain", content="third"),
            Update(key="was plain", content="fourth", embed=True),
        ]
    )
    assert [record_of(one).embedding for one in done] == [
        "texts", "texts", "content", "content", "content", "given", "given", "content",
    ]  # fmt: skip
    for key in ("new", "was given", "was plain"):
        found = got(memory, key)
        assert np.allclose(vectors_of(memory, found.id), HashEmbedder().embed_query(found.content))
    all_is_well(memory)


def test_each_result_has_its_own_data(memory: Memory) -> None:
    """Also where more versions follow than the store keeps data of."""
    changes: list[Any] = [Put("k", "x", data={"n": 0}), Update(key="k", importance=0.5)]
    changes += [Update(key="k", data={"n": n}, if_version=n + 1) for n in range(1, 31)]
    done = memory.apply(changes)
    assert [record_of(one).data for one in done] == [{"n": 0}, {"n": 0}, *({"n": n} for n in range(1, 31))]
    assert [record_of(one).version for one in done] == [*range(1, 33)]
    assert got(memory, "k").data == {"n": 30}
    all_is_well(memory)


REFUSED: list[tuple[Any, type[AgentMemError]]] = [
    (Update("nobody", data={"a": 1}), NotFoundError),
    (Update(key="mine", data={"a": 1}, if_version=9), ConflictError),
    (Put("mine", data={"a": 1}, if_version=0), ConflictError),
    (Put("mine", "x", vector=[1.0, 2.0]), InvalidInputError),
    (Update(key="mine", vector=[1.0, 2.0]), InvalidInputError),
    (Update(key="mine", embed=[]), InvalidInputError),
    (Put("mine", "x", embed=["a"], vector=AXES[0]), InvalidInputError),
    (Put("mine"), InvalidInputError),
    (Put("mine", data={1, 2}), InvalidInputError),
    (Update(key="bare", content=None), InvalidInputError),
    (Update(key="mine", content="", data=None), InvalidInputError),
]


@pytest.mark.parametrize(("bad", "error"), REFUSED, ids=[f"refused{n}" for n in range(len(REFUSED))])
def test_all_or_nothing_with_bodies(memory: Memory, bad: Any, error: type[AgentMemError]) -> None:
    memory.put("mine", "here", data={"kept": True}, embed=["one", "two"])
    memory.put("bare", "here")
    before = state(memory)
    changes = [
        Put("new", "x", data=LARGE),
        Update(key="mine", data=LARGE),
        Update(key="mine", embed=["another"]),
        Put("bare", "y", vector=AXES[:3]),
        bad,
        Put("more", data=1),
    ]
    if bad == REFUSED[-2][0]:
        del changes[3]
    with pytest.raises(error) as caught:
        memory.apply(changes)
    assert caught.value.index == changes.index(bad)  # pyright: ignore[reportAttributeAccessIssue]
    assert state(memory) == before
    assert got(memory, "mine").data == {"kept": True}
    after = memory.add("the next one", data={"n": 1}).record
    assert memory.get(after.id) == after
    all_is_well(memory)


KEYS = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["harbour", "ferry", "lighthouse keeper", "a quiet evening"])
DATA = st.sampled_from([{"n": 1}, {"n": 2}, [1, 2], LARGE])
FORMS = st.one_of(
    st.just({}),
    st.just({"embed": True}),
    st.just({"embed": False}),
    st.lists(TEXTS, min_size=1, max_size=3).map(lambda texts: {"embed": texts}),
    st.lists(st.sampled_from(range(4)), min_size=1, max_size=2).map(lambda found: {"vector": AXES[found].tolist()}),
)
PUTS = st.builds(
    lambda key, content, form, data: Put(key, content, **form, **({} if data is None else {"data": data})),
    KEYS, TEXTS, FORMS, st.none() | DATA,
)  # fmt: skip
UPDATES = st.builds(
    lambda key, content, form, data: Update(key=key, importance=0.5, **content, **form, **data),
    KEYS,
    st.just({}) | TEXTS.map(lambda text: {"content": text}),
    FORMS,
    st.just({}) | st.none().map(lambda _: {"data": None}) | DATA.map(lambda data: {"data": data}),
)
CHANGES = st.lists(
    PUTS | UPDATES | KEYS.map(lambda key: Delete(key=key)) | KEYS.map(lambda key: Touch(key=key, ttl=60)),
    min_size=1,
    max_size=8,
)  # fmt: skip


@settings(max_examples=25)
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_together_they_come_to_the_same_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[Any]]
) -> None:
    path, options = tmp_path_factory.mktemp("both"), {"clock": FakeClock(), "embedder": HashEmbedder()}
    with Memory(path / "together", **options) as together, Memory(path / "alone", **options) as alone:
        for changes in rounds:
            shown = list[Any]()
            try:
                for change in changes:
                    shown += map(_shown, alone.apply([change]))
            except NotFoundError:
                with pytest.raises(NotFoundError):
                    together.apply(changes)
                return
            assert list(map(_shown, together.apply(changes))) == shown
        for key in "abc":
            one, other = together.get(key=key), alone.get(key=key)
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert _shown(one) == _shown(other)
                assert np.array_equal(vectors_of(together, one.id), vectors_of(alone, other.id))
        all_is_well(together)


def _shown(done: Any) -> Any:
    if isinstance(done, bool):
        return done
    record = record_of(done).to_dict()
    return {name: value for name, value in record.items() if name not in ("id", "last_accessed")}


def test_the_async_client_does_the_same(store: Path) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=HashEmbedder()) as memory:
            put, changed = await memory.apply(
                [Put("k", "x", vector=AXES[0], data={"n": 1}), Update(key="k", embed=True, data={"n": 2})]
            )
            assert (record_of(put).embedding, record_of(put).data) == ("given", {"n": 1})
            assert (record_of(changed).embedding, record_of(changed).data) == ("content", {"n": 2})
            with pytest.raises(InvalidInputError) as caught:
                await memory.apply([Put("k", "y"), Put("l", "z", vector=[1.0])])
            assert caught.value.index == 1

    asyncio.run(main())


# -- reads, ends and data ----------------------------------------------------------------------------------------------


def test_a_touch_leaves_data_and_vectors_alone(memory: Memory, clock: FakeClock) -> None:
    put = memory.put("k", "x", data=LARGE, embed=["ferry", "pier"], ttl=60, sliding=True).record
    before = vectors_of(memory, put.id)
    clock.advance(30)
    assert memory.touch([put.id]) == [True]
    assert memory.touch([put.id], ttl=120) == [True]
    memory.apply([Touch(put.id), Touch(key="k", ttl=90)])
    found = got(memory, "k")
    assert (found.data, found.embedding, found.version, found.sliding) == (LARGE, "texts", 1, 90.0)
    assert np.array_equal(vectors_of(memory, put.id), before)
    all_is_well(memory)


@pytest.mark.parametrize("data", [True, False], ids=["with data", "without"])
def test_reads_put_off_the_end_of_what_has_data(memory: Memory, clock: FakeClock, data: bool) -> None:
    expected = {"n": 1} if data else None
    put = memory.put("k", "a ferry", data={"n": 1}, ttl=100, sliding=True).record
    reads: list[Callable[[], list[MemoryRecord | None]]] = [
        lambda: [memory.get(put.id, data=data)],
        lambda: [memory.get(key="k", data=data)],
        lambda: [hit.record for hit in memory.search("ferry", data=data)],
        lambda: [*memory.page(data=data).records],
        lambda: [*memory.iterate(data=data)],
    ]
    for read in reads:
        clock.advance(80)
        [found] = read()
        assert found is not None
        assert (found.id, found.data) == (put.id, expected)
    clock.advance(80)
    last = got(memory, "k")
    assert last.last_accessed is not None
    all_is_well(memory)
    clock.advance(100)
    assert memory.get(key="k") is None


def test_data_and_sliding_come_back_together(memory: Memory, clock: FakeClock) -> None:
    put = memory.put("k", "first", data={"n": 1}, vector=AXES[0], ttl=100, sliding=True).record
    memory.apply([Update(key="k", content="second", data={"n": 2}, embed=True, ttl=None)])
    changed = got(memory, "k")
    assert (changed.sliding, changed.expires_at, changed.data) == (None, None, {"n": 2})
    clock.advance(50)
    back = memory.restore(put.id, version=1)
    assert (back.content, back.data, back.sliding) == ("first", {"n": 1}, 100.0)
    assert back.expires_at is not None
    assert (back.expires_at - clock.now).total_seconds() == 100
    exported = [record.to_dict() for record in memory.iterate(touch=False)]
    memory.erase(put.id)
    [again] = memory.add_many(exported)
    assert (again.record.data, again.record.sliding) == ({"n": 1}, 100.0)
    all_is_well(memory)
