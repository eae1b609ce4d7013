"""What records are embedded by: every way to say it, to change it, to take it along; against a dict."""

from __future__ import annotations

import asyncio
import json
import tempfile
from array import array
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from inspecting import files_with
from length import examples

from agentmem import AsyncMemory, InvalidInputError, Memory, NewMemory, NotFoundError, Settings

DIM = HashEmbedder.dim
AXES = np.eye(DIM)


def vectors_of(memory: Memory, id: str) -> np.ndarray:
    [found] = memory.vectors([id])
    assert found is not None
    return found.vectors


def expected(content: str, embed: Any = None, vector: Any = None) -> np.ndarray:
    if vector is not None:
        found = np.atleast_2d(np.asarray(vector, np.float64))
        return found / np.linalg.norm(found, axis=1, keepdims=True)
    texts = [content] if embed in (None, True) else embed or []
    return np.array([HashEmbedder().embed_query(text) for text in texts]).reshape(-1, DIM)


class Counting(HashEmbedder):
    """Remembers what it was asked to embed."""

    def __init__(self, name: str = HashEmbedder.name) -> None:
        self.name = name
        self.asked: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return super().embed_documents(texts)


# -- a dict ------------------------------------------------------------------------------------------------------------

texts = st.sampled_from(["harbour", "ferry", "lighthouse keeper", "a quiet evening", "Ünïcode 日本"])
forms = st.one_of(
    st.just({}),
    st.just({"embed": True}),
    st.just({"embed": False}),
    st.lists(texts, min_size=1, max_size=4).map(lambda found: {"embed": found}),
    st.lists(st.sampled_from(range(DIM)), min_size=1, max_size=3).map(lambda found: {"vector": AXES[found] * 2}),
    st.sampled_from(range(DIM)).map(lambda found: {"vector": AXES[found].tolist()}),
)


class Forms(RuleBasedStateMachine):
    """Records by key and by id, and what each is embedded by."""

    @initialize()
    def open(self) -> None:
        self.stack = ExitStack()
        self.path = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        self.clock = FakeClock()
        self.memory = self.reopened()
        self.rows: dict[str, tuple[str, dict[str, Any], int]] = {}
        self.past: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
        self.keys: dict[str, str] = {}
        self.added = 0

    def reopened(self) -> Memory:
        quiet = Settings(lifecycle={"sweep_interval_s": 0}, arena_limit=4)
        return Memory(self.path, clock=self.clock, embedder=HashEmbedder(), settings=quiet)

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.memory.close()
            self.stack.close()

    def note(self, id: str, content: str, form: dict[str, Any], version: int) -> None:
        self.rows[id] = (content, form, version)
        self.past[id, version] = (content, form)

    @rule(content=texts, form=forms)
    def add(self, content: str, form: dict[str, Any]) -> None:
        id = f"added {self.added}"
        self.added += 1
        assert self.memory.add(content, id=id, **form).status == "added"
        self.note(id, content, form, 1)

    @rule(found=st.lists(st.tuples(texts, forms), min_size=1, max_size=5))
    def add_many(self, found: list[tuple[str, dict[str, Any]]]) -> None:
        items = [{"content": text, "id": f"added {self.added + n}", **form} for n, (text, form) in enumerate(found)]
        self.memory.add_many(items)
        self.added += len(items)
        for item, (text, form) in zip(items, found, strict=True):
            self.note(item["id"], text, form, 1)

    @rule(key=st.sampled_from("abc"), content=texts, form=forms)
    def put(self, key: str, content: str, form: dict[str, Any]) -> None:
        record = self.memory.put(key, content, **form).record
        self.keys[key] = record.id
        self.note(record.id, content, form, record.version)

    @rule(at=st.integers(0), content=st.none() | texts, form=forms)
    def update(self, at: int, content: str | None, form: dict[str, Any]) -> None:
        if not self.rows or (content is None and not form):
            return
        id = sorted(self.rows)[at % len(self.rows)]
        before, had, version = self.rows[id]
        call = form if content is None else {"content": content, **form}
        record = self.memory.update(id, **call)
        stays = had if form == {} else form
        assert record.version in (version, version + 1)
        if record.version == version:
            assert content in (None, before)
        self.note(id, content or before, stays, record.version)

    @rule(at=st.integers(0), back=st.integers(1, 3))
    def go_back(self, at: int, back: int) -> None:
        if not self.rows:
            return
        id = sorted(self.rows)[at % len(self.rows)]
        _, had, version = self.rows[id]
        if (id, version - back) not in self.past:
            return
        content, form = self.past[id, version - back]
        record = self.memory.restore(id, version=version - back)
        # No vector of the caller's comes back; who has one of those keeps it.
        self.note(id, content, had if "vector" in form else form, record.version)

    @rule(at=st.integers(0))
    def hide_and_bring_back(self, at: int) -> None:
        if self.rows:
            id = sorted(self.rows)[at % len(self.rows)]
            content, form, _ = self.rows[id]
            self.memory.delete(id)
            assert self.memory.vectors([id]) == [None]
            self.note(id, content, form, self.memory.restore(id).version)

    @rule(at=st.integers(0))
    def erase(self, at: int) -> None:
        if self.rows:
            id = sorted(self.rows)[at % len(self.rows)]
            self.memory.erase(id)
            del self.rows[id]
            self.past = {place: said for place, said in self.past.items() if place[0] != id}

    @rule()
    def reopen(self) -> None:
        self.memory.close()
        self.memory = self.reopened()

    @invariant()
    def vectors_are_what_was_said(self) -> None:
        if not hasattr(self, "memory"):
            return
        ids = list(self.rows)
        for id, held in zip(ids, self.memory.vectors(ids), strict=True):
            content, form, version = self.rows[id]
            assert held is not None
            np.testing.assert_allclose(held.vectors, expected(content, **form), atol=1e-5)
            assert held.texts == (tuple(form["embed"]) if isinstance(form.get("embed"), list) else ())
            record = self.memory.get(id)
            assert record is not None
            assert (record.content, record.version, record.embedding) == (content, version, held.embedding)

    @invariant()
    def everything_agrees(self) -> None:
        if hasattr(self, "memory"):
            assert self.memory.verify().problems == []
            with_vector = [id for id, (content, form, _) in self.rows.items() if len(expected(content, **form))]
            found = self.memory.search("harbour", mode="vector", limit=100)
            assert sorted(hit.id for hit in found) == sorted(with_vector)


@pytest.mark.long
def test_any_sequence_of_forms() -> None:
    steps = examples(12, 30)
    run_state_machine_as_test(Forms, settings=settings(max_examples=examples(8, 60), stateful_step_count=steps))


# -- ways to say it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector",
    [
        AXES[3] * 7,
        AXES[3].astype(np.float32),
        AXES[3].astype(np.float16),
        AXES[3].astype(int),
        AXES[3].tolist(),
        tuple(AXES[3].astype(int).tolist()),
        array("d", AXES[3]),
        AXES[3:4],
        [AXES[3].tolist()],
        [AXES[3]],
        AXES[3] * 1e300,
        AXES[3] * 1e-300,
        b64encode(AXES[3].astype("<f4").tobytes()).decode(),
        [b64encode(AXES[3].astype("<f4").tobytes()).decode()],
    ],
    ids=range(14),
)
def test_a_vector_in_any_form(memory: Memory, vector: Any) -> None:
    ids = [
        memory.add("one", vector=vector).id,
        memory.add(NewMemory(content="two", vector=vector)).id,
        memory.add_many([{"content": "three", "vector": vector}])[0].id,
        memory.put("k", "four", vector=vector).id,
        memory.put_many([{"key": "l", "content": "five", "vector": vector}])[0].id,
        memory.update(memory.add("six").id, vector=vector).id,
        next(iter(memory.add_stream([{"content": "seven", "vector": vector}])))[0].id,
    ]
    for held in memory.vectors(ids):
        assert held is not None
        assert held.embedding == "given"
        np.testing.assert_array_equal(held.vectors, AXES[3:4].astype(np.float32))
    assert len(memory.search(vector=vector, min_similarity=0.999)) == len(ids)


@pytest.mark.parametrize(
    ("field", "words", "said"),
    [
        ("vector", "3 numbers.*32", {"vector": [1, 2, 3]}),
        ("vector", "finite", {"vector": [float("inf")] * DIM}),
        ("vector", "zero", {"vector": [0] * DIM}),
        ("vector", "zero", {"vector": [[1] * DIM, [0] * DIM]}),
        ("vector", "shape", {"vector": []}),
        ("vector", "shape", {"vector": [[]]}),
        ("vector", "shape", {"vector": AXES[None, :3]}),
        ("vector", "shape", {"vector": "not base64!"}),
        ("vector", "shape", {"vector": ""}),
        ("vector", "shape", {"vector": "AAAA"}),
        ("vector", "shape", {"vector": {"a": 1}}),
        ("vector", "shape", {"vector": True}),
        ("vector", "shape", {"vector": [True] * DIM}),
        ("vector", "shape", {"vector": ["x", 1]}),
        ("vector", "shape", {"vector": [1 + 2j] * DIM}),
        ("vector", "shape", {"vector": [[1] * DIM, [1]]}),
        ("vector", "8 numbers.*32", {"vector": [b64encode(b"\1" * 4 * n).decode() for n in (DIM, 8, 2 * DIM - 8)]}),
        ("vector", "257 vectors, more than 256", {"vector": np.ones((257, DIM))}),
        ("vector", "exclude", {"vector": [1] * DIM, "embed": False}),
        ("vector", "exclude", {"vector": [1] * DIM, "embed": ["a"]}),
        ("embed", "for one text", {"embed": "a text"}),
        ("embed", "True, False or a list", {"embed": 1}),
        ("embed", "True, False or a list", {"embed": {"a": 1}}),
        ("embed", "0 texts", {"embed": []}),
        ("embed", "257 texts", {"embed": ["a"] * 257}),
        ("embed", "empty", {"embed": ["a", " "]}),
        ("embed", "must be a str", {"embed": ["a", 7]}),
    ],
    ids=str,
)
def test_what_cannot_be(memory: Memory, field: str, words: str, said: dict[str, Any]) -> None:
    there = memory.add("there already").id
    calls: list[Callable[[], object]] = [
        lambda: memory.add("one", **said),
        lambda: memory.put("k", "two", **said),
        lambda: memory.update(there, **said),
        lambda: memory.add(NewMemory(content="three", **said)),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match=f"(?s){words}") as caught:
            call()
        assert caught.value.field == field
    for many in (memory.add_many, memory.put_many):
        items = [{"content": "fine", "key": "a"}, {"content": "bad", "key": "b", **said}]
        items = items if many == memory.put_many else [{"content": item["content"], **said} for item in items[1:] * 2]
        with pytest.raises(InvalidInputError, match=f"(?s){words}") as caught:
            many(items)
        assert caught.value.index == (1 if many == memory.put_many else 0)
    left = memory.add_many(["fine", {"content": "bad", **said}], on_error="skip")
    assert (len(left), [(one.index, one.field) for one in left.skipped]) == (1, [(1, field)])
    assert memory.count() == 2


def test_what_says_nothing(memory: Memory) -> None:
    id = memory.add("there").id
    for name in ("embed", "vector"):
        with pytest.raises(InvalidInputError, match="says nothing"):
            memory.update(id, **{name: None})
    assert memory.add("plain", embed=None, vector=None).record.embedding == "content"


def test_the_model_has_no_work_with_what_it_does_not_embed(open_memory: Callable[..., Memory]) -> None:
    model = Counting()
    memory = open_memory(embedder=model)
    hidden = memory.add("no vector", embed=False).id
    given = memory.add("a vector", vector=AXES[0]).id
    texts = memory.add("content", embed=["of", "these"]).id
    assert model.asked == ["of", "these"]
    for id in (hidden, given, texts):
        memory.update(id, content="changed", metadata={"a": 1})
    assert model.asked == ["of", "these"]
    memory.update(hidden, embed=True)
    assert model.asked == ["of", "these", "changed"]


def test_a_default_is_for_items_that_say_nothing(memory: Memory) -> None:
    items = ["one", {"content": "two"}, {"content": "three", "embed": True}, {"content": "four", "vector": AXES[0]}]
    found = [one.record.embedding for one in memory.add_many(items, embed=False)]
    assert found == ["none", "none", "content", "given"]
    assert memory.put_many([{"key": "a", "content": "x"}], embed=["y"])[0].record.embedding == "texts"


def test_a_fact_again_in_another_form(memory: Memory) -> None:
    id = memory.add("the harbour is closed").id
    again = memory.add("the harbour is closed", embed=["no ships today"])
    assert (again.id, again.status, again.record.embedding) == (id, "refreshed", "texts")
    assert memory.add("the harbour is closed", embed=["no ships today"]).status == "duplicate"
    assert memory.add("the harbour is closed").status == "duplicate"
    assert memory.search("no ships today", limit=1, min_similarity=0.99)[0].id == id
    assert memory.add("the harbour is closed", vector=AXES[1]).status == "refreshed"
    assert memory.add("the harbour is closed", vector=AXES[1] * 2).status == "duplicate"
    both = memory.add_many(["a new fact", {"content": "a new fact", "embed": ["a", "b"]}])
    assert [one.status for one in both] == ["added", "refreshed"]
    assert len(vectors_of(memory, both[0].id)) == 2
    assert memory.verify().problems == []


def test_words_of_texts_find_it_in_every_size_of_scope(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    for limit in (50_000, 2):
        memory = open_memory(tmp_path / str(limit), settings=Settings(arena_limit=limit))
        memory.add_many(["filler one", "filler two", "filler three"], user_id="mia")
        id = memory.add("invoice 4711", user_id="mia", embed=["zephyr heating", "quokka plumbing"]).id
        hit = memory.search("quokka", user_id="mia", mode="keyword", explain=True)[0]
        assert hit.id == id
        assert hit.details is not None
        assert hit.details.matched_terms
        memory.update(id, embed=["nothing of it"])
        assert memory.search("quokka", user_id="mia", mode="keyword") == []
        memory.update(id, embed=False)
        assert [hit.id for hit in memory.search("invoice", user_id="mia", mode="keyword")] == [id]


def test_texts_count_for_the_size_and_leave_with_an_erase(memory: Memory, store: Path) -> None:
    def size() -> int:
        return memory.stats().layers["assets"].bytes

    empty = size()
    id = memory.add("four", layer="assets").id
    before = size()
    memory.put("k", "four", layer="assets", embed=["b"])
    assert size() - before == before - empty + len('["b"]')
    memory.delete(key="k")
    memory.update(id, embed=["secret-zephyr", "b"])
    assert size() - before == len('["secret-zephyr", "b"]')
    memory.update(id, embed=["secret-quokka"])
    assert size() - before == len('["secret-quokka"]')
    memory.update(id, embed=True)
    assert size() == before
    memory.restore(id, version=1)
    assert size() == before
    memory.restore(id, version=2)
    assert vectors_of(memory, id).shape == (2, DIM)
    memory.erase(id)
    assert size() == empty
    memory.compact()
    assert memory.verify().problems == []
    memory.close()
    assert files_with(store, "secret-") == {}


def test_the_history_says_how_it_was_embedded(memory: Memory) -> None:
    id = memory.put("k", "one", embed=["a"]).id
    memory.put("k", "two")
    memory.update(id, embed=False)
    memory.update(id, vector=AXES[2])
    memory.update(id, content="three", embed=True)
    assert [event.data.get("embedding") for event in memory.history(id)] == [None, "texts", "content", "none", "given"]
    assert all("body" not in event.data and "vectors" not in event.data for event in memory.history(id))
    assert memory.restore(id, version=1).embedding == "texts"
    assert memory.restore(id, version=4).embedding == "texts"  # no vector of before comes back
    for n in range(12):
        memory.update(id, embed=[f"text {n}"])
    assert memory.restore(id, version=memory.get(id).version - 3).embedding == "texts"  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(NotFoundError, match="version 1 no more"):
        memory.restore(id, version=1)
    assert memory.verify().problems == []


def test_a_view_reads_its_own_vectors(memory: Memory) -> None:
    mine, other = memory.add("mine", user_id="mia").id, memory.add("other", user_id="ben").id
    found = memory.scoped(user_id="mia").vectors([other, mine, "nobody's"])
    assert [one is None for one in found] == [True, False, True]
    assert found[1].to_dict()["vectors"][0] == vectors_of(memory, mine)[0].tolist()  # pyright: ignore[reportOptionalMemberAccess]
    assert {found[1]} == {memory.vectors([mine])[0]}
    with pytest.raises(InvalidInputError, match="vectors takes a list"):
        memory.vectors("id")  # pyright: ignore[reportArgumentType]


def test_the_async_client_says_the_same(store: Path, embedder: HashEmbedder) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            one = await memory.add("one", vector=AXES[0])
            two = await memory.put("k", "two", embed=["a", "b"])
            await memory.update(one.id, embed=["c"])
            found = await memory.vectors([one.id, two.id])
            assert [held and held.texts for held in found] == [("c",), ("a", "b")]
            assert (await memory.search(vector=HashEmbedder().embed_query("b"), limit=1))[0].id == two.id

    asyncio.run(main())


# -- to another model, to another store --------------------------------------------------------------------------------


class Other(HashEmbedder):
    """Another model, of any dimension, whose vectors differ."""

    def __init__(self, name: str = "other", dim: int = DIM) -> None:
        self.name, self.dim = name, dim

    def embed_query(self, text: str) -> np.ndarray:
        return np.roll(super().embed_query(text), 1)


def test_moving_to_another_model(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    plain, none = memory.add("plain").id, memory.add("none", embed=False).id
    texts = memory.add("content", embed=["one", "two", "three"]).id
    gone = memory.add("content of a deleted one", embed=["four", "five"]).id
    memory.delete(gone)
    report = memory.reembed(Other())
    assert report.records == 4
    memory.restore(gone)
    other = Other()
    for id, said in ((plain, ["plain"]), (none, []), (texts, ["one", "two", "three"]), (gone, ["four", "five"])):
        wanted = np.array([other.embed_query(text) for text in said]).reshape(-1, DIM)
        np.testing.assert_allclose(vectors_of(memory, id), wanted, atol=1e-6)
    assert memory.verify().problems == []


def test_vectors_that_were_given_move_as_their_caller_says(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    id, gone = memory.add("the content", vector=AXES[:2]).id, memory.add("gone", vector=AXES[5]).id
    memory.add("plain")
    memory.delete(gone)
    with pytest.raises(InvalidInputError, match=r'2 records.*given="keep".*given="embed"') as caught:
        memory.reembed(Other())
    assert caught.value.field == "given"
    with pytest.raises(InvalidInputError, match="32 numbers, not the 16"):
        memory.reembed(Other("small", 16), given="keep")
    with pytest.raises(InvalidInputError, match="refuse, keep, embed"):
        memory.reembed(Other(), given="drop")  # pyright: ignore[reportArgumentType]
    memory.reembed(Other(), given="keep")
    np.testing.assert_array_equal(vectors_of(memory, id), AXES[:2].astype(np.float32))
    assert memory.verify().problems == []
    memory.reembed(Other("third"), given="embed")
    np.testing.assert_allclose(vectors_of(memory, id), [Other().embed_query("the content")], atol=1e-6)
    assert memory.get(id).embedding == memory.restore(gone).embedding == "content"  # pyright: ignore[reportOptionalMemberAccess]
    assert memory.verify().problems == []
    memory.reembed(Other("fourth"))


def test_a_vector_given_while_the_store_moves(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    ids = [one.id for one in memory.add_many([f"text {n}" for n in range(5)])]

    class Slow(Other):
        def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
            if not added:
                added.append(memory.add("late", embed=["a", "b"]).id)
                memory.update(ids[0], embed=["c", "d"])
                memory.update(ids[1], embed=False)
            return super().embed_documents(texts)

    added: list[str] = []
    memory.reembed(Slow("slow"))
    assert [len(vectors_of(memory, id)) for id in (*added, *ids[:3])] == [2, 2, 0, 1]
    assert memory.verify().problems == []


def test_an_export_takes_everything_along(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    from agentmem.cli.exporting import lines

    memory, other = open_memory(), open_memory(tmp_path / "other")
    ids = [
        memory.add("plain", user_id="mia").id,
        memory.add("none", user_id="mia", embed=False).id,
        memory.add("texts", user_id="mia", embed=["a", "b"]).id,
        memory.add("one", user_id="mia", vector=[3.0] * DIM).id,
        memory.add("several", user_id="mia", vector=np.random.default_rng(1).normal(size=(3, DIM))).id,
    ]
    items = [json.loads(line) for line in lines(memory, memory.iterate(user_id="mia", order="oldest"))]
    other.add_many(items)
    for one, two in zip(memory.vectors(ids), other.vectors(ids), strict=True):
        assert one is not None
        assert two is not None
        assert (one.embedding, one.texts) == (two.embedding, two.texts)
        np.testing.assert_array_equal(one.vectors, two.vectors)  # to the byte
    assert [one.status for one in other.add_many(items)] == ["duplicate"] * 5
    small = open_memory(tmp_path / "small", embedder=Other("small", 16))
    left = small.add_many(items, on_error="skip")
    assert [one.index for one in left.skipped] == [3, 4]
    record = memory.get(ids[1])
    assert record is not None
    assert small.add(record).record.embedding == "none"
