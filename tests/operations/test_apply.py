"""Several changes in one transaction: all or none, in their order, beside others of the same group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder
from inspecting import sql

from agentmem import (
    Add,
    AddResult,
    AgentMemError,
    AsyncMemory,
    CapacityError,
    ConflictError,
    Delete,
    InvalidInputError,
    Memory,
    MemoryRecord,
    NotFoundError,
    Put,
    ScopeError,
    Settings,
    Touch,
    Update,
)


def state(memory: Memory) -> list[tuple[object, ...]]:
    return sql(memory, "SELECT * FROM records ORDER BY row") + sql(memory, "SELECT * FROM history ORDER BY seq")


def test_results_come_in_order(memory: Memory, clock: FakeClock) -> None:
    old = memory.add("an old note", user_id="mia").id
    done = memory.apply(
        [
            Put("draft", "first words", user_id="mia", namespace=("desk",)),
            Update(old, content="a newer note", metadata={"n": 1}),
            Put("plan", "rest", user_id="mia", namespace=("desk",), ttl=60, sliding=True),
            Add({"content": "said in passing", "user_id": "mia", "run_id": "r"}),
            Touch(key="draft", user_id="mia", namespace=("desk",), ttl=30),
            Update(key="plan", user_id="mia", namespace=("desk",), importance=0.9),
            Delete(key="nothing", user_id="mia"),
            Delete(old),
            Touch(old),
        ]
    )
    draft, updated, plan, said, *rest = done
    assert isinstance(draft, AddResult)
    assert isinstance(plan, AddResult)
    assert isinstance(said, AddResult)
    assert isinstance(updated, MemoryRecord)
    assert (updated.content, updated.metadata, updated.version) == ("a newer note", {"n": 1}, 2)
    changed = rest.pop(1)
    assert isinstance(changed, MemoryRecord)
    assert (changed.id, changed.importance, changed.version, changed.sliding) == (plan.id, 0.9, 2, 60.0)
    assert rest == [True, False, True, False]
    assert memory.get(old) is None
    assert memory.get(draft.id).expires_at == clock.now + timedelta(seconds=30)  # pyright: ignore[reportOptionalMemberAccess]
    assert [hit.id for hit in memory.search("passing", user_id="mia")] == [said.id]
    assert [event.event for event in memory.events(limit=1_000)] == [
        "ADD", "ADD", "UPDATE", "ADD", "ADD", "TOUCH", "UPDATE", "DELETE",
    ]  # fmt: skip
    memory.flush()
    assert memory.verify().problems == []


def test_the_same_record_several_times(memory: Memory) -> None:
    done = memory.apply(
        [
            Put("k", "one"),
            Put("k", "two", if_version=1),
            Update(key="k", content="three", if_version=2),
            Delete(key="k", if_version=3),
            Put("k", "five", if_version=0),
            Put("other", "x"),
            Put("k", "six", if_version=5),
        ]
    )
    assert [
        one.record.version if isinstance(one, AddResult) else one for one in done if not isinstance(one, MemoryRecord)
    ] == [1, 2, True, 5, 1, 6]
    found = memory.get(key="k")
    assert found is not None
    assert (found.content, found.version) == ("six", 6)
    assert {hit.content for hit in memory.search("six x")} == {"six", "x"}
    memory.flush()
    assert memory.verify().problems == []


STALE: list[tuple[Any, type[AgentMemError]]] = [
    (Put("theme", "x", if_version=0), ConflictError),
    (Put("theme", "x", if_version=7), ConflictError),
    (Put("theme", "x", agent_id="somebody"), ConflictError),
    (Put("no such", "x", if_version=1), ConflictError),
    (Update("nobody", importance=1), NotFoundError),
    (Update(key="no such", importance=1), NotFoundError),
    (Update(key="theme", importance=1, if_version=9), ConflictError),
    (Update(key="theme", metadata={"x": "y" * 70_000}), InvalidInputError),
    (Delete(key="theme", if_version=9), ConflictError),
    (Delete("nobody", if_version=1), ConflictError),
    (Touch("nobody", if_version=1), ConflictError),
    (Touch(key="theme", if_version=9), ConflictError),
    (Add({"content": "x", "id": "mine"}), ConflictError),
    (Add({"content": ""}), InvalidInputError),
    (Add({"content": "x", "namespace": ("$own",)}), ScopeError),
    (Put("", "x"), InvalidInputError),
    (Put("k", "x", sliding=True), InvalidInputError),
    (Update("nobody"), InvalidInputError),
    (Delete(), InvalidInputError),
    (Delete("id", key="k"), InvalidInputError),
    (Touch("id", ttl=-1), InvalidInputError),
    (Delete(key="k", namespace=("$own",)), ScopeError),
    ({"put": "k"}, InvalidInputError),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "error"), STALE, ids=[str(n) for n in range(len(STALE))])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_one_that_cannot_be_made_undoes_all(memory: Memory, bad: Any, error: type[AgentMemError], place: int) -> None:
    memory.put("theme", "dark", agent_id="a")
    memory.add("mine already", id="mine")
    other = memory.add("another", user_id="lee").id
    before = state(memory)
    changes: list[Any] = [
        Put("new", "x", user_id="never-seen"),
        Put("theme", "light"),
        Delete(other),
        Add("something new"),
        Touch("mine", ttl=5),
    ]
    if isinstance(bad, Put | Update | Delete | Touch) and place > 1:
        changes[1] = Put("else", "y")
    changes.insert(place, bad)
    with pytest.raises(error) as caught:
        memory.apply(changes)
    assert caught.value.index == place  # pyright: ignore[reportAttributeAccessIssue]
    assert state(memory) == before
    assert memory.count(user_id="never-seen") == 0
    assert sql(memory, "SELECT count(*) FROM names WHERE value = 'never-seen'") == [(0,)]
    memory.put("new", "of the next one", user_id="next")  # which has the number now
    assert memory.get(key="new", user_id="never-seen") is None
    memory.flush()
    assert memory.verify().problems == []


def test_a_refused_one_costs_its_group_nothing(open_memory: Callable[..., Memory], embedder: HashEmbedder) -> None:
    """Adds, puts and applies of many threads, half of the applies refused: the others are all there, once."""
    memory = open_memory(embedder=embedder)
    memory.put("lock", "held")

    def one(n: int) -> int:
        if n % 3 == 0:
            memory.add(f"add {n}")
            return 1
        changes = [Put(f"k{n}", f"put {n}"), Put("lock", "mine", if_version=0 if n % 3 == 1 else None)]
        if n % 3 == 2:
            memory.apply(changes)
            return 1
        with pytest.raises(ConflictError) as caught:
            memory.apply(changes)
        return 1 - caught.value.index  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]

    with ThreadPoolExecutor(12) as pool:
        stored = sum(pool.map(one, range(90)))
    assert stored == 60
    assert memory.count() == 61
    assert memory.get(key="lock").version == 31  # pyright: ignore[reportOptionalMemberAccess]
    memory.flush()
    assert memory.verify().problems == []


def test_a_full_layer_refuses_all_of_it(open_memory: Callable[..., Memory]) -> None:
    quiet = Settings(
        layers={"assets": {"max_size_mb": 0.01, "eviction_policy": "never"}}, lifecycle={"sweep_interval_s": 0}
    )
    memory = open_memory(settings=quiet)
    memory.put("a", "small")
    with pytest.raises(CapacityError):
        memory.apply([Update(key="a", importance=1), Put("b", "x" * 20_000)])
    assert memory.get(key="a").version == 1  # pyright: ignore[reportOptionalMemberAccess]
    assert memory.apply([Put("c", "y")])


def test_texts_are_embedded_in_one_batch_before(open_memory: Callable[..., Memory]) -> None:
    calls = list[list[str]]()

    class Counting(HashEmbedder):
        def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
            calls.append(list(texts))
            return super().embed_documents(texts)

    memory = open_memory(embedder=Counting())
    memory.put("k", "zero")
    calls.clear()
    memory.apply(
        [Put("a", "one"), Update(key="k", content="two"), Touch(key="k"), Add("three"), Update(key="k", importance=1)]
    )
    assert calls == [["one", "two", "three"]]
    calls.clear()
    assert memory.apply([Delete(key="a"), Touch(key="k")]) == [True, True]
    assert memory.apply([]) == []
    assert calls == []
    assert [hit.content for hit in memory.search("two", mode="vector", limit=1)] == ["two"]


def test_too_long_a_text_is_told_with_its_position(open_memory: Callable[..., Memory]) -> None:
    class Short(HashEmbedder):
        window = 4

        def windows(self, texts: Sequence[str]) -> list[int]:
            return [1 + len(text.split()) // 4 for text in texts]

    memory = open_memory(embedder=Short(), settings=Settings(long_text="refuse"))
    with pytest.raises(InvalidInputError) as caught:
        memory.apply([Delete("x"), Put("a", "one"), Put("b", "one two three four five")])
    assert caught.value.index == 2
    assert memory.count() == 0


def test_views_apply_to_their_own(memory: Memory) -> None:
    id = memory.add("of lee", user_id="lee").id
    mine = memory.scoped(user_id="kim", under=("desk",))
    [made] = mine.apply([Put("pen", "blue")])
    assert isinstance(made, AddResult)
    assert (made.record.user_id, made.record.namespace) == ("kim", ("desk",))
    assert mine.apply([Touch(key="pen"), Delete(id), Delete(key="pen", namespace=("desk", "left"))]) == [
        True,
        False,
        False,
    ]
    for outside in (
        Put("pen", "x", user_id="lee"),
        Put("pen", "x", namespace=("desktop",)),
        Add({"content": "x", "user_id": "lee"}),
    ):
        with pytest.raises(ScopeError) as caught:
            mine.apply([Touch(key="pen"), outside])
        assert caught.value.index == 1
    with pytest.raises(NotFoundError):
        mine.apply([Update(id, importance=1)])
    assert memory.get(id).version == 1  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("changes", ["put", {"a": 1}, None, Put("k", "x"), [Put("k", "x")] * 1_001])
def test_what_is_no_list_of_changes(memory: Memory, changes: Any) -> None:
    with pytest.raises(InvalidInputError):
        memory.apply(changes)
    assert memory.count() == 0


def test_a_thousand_changes(memory: Memory) -> None:
    memory.apply([Put(f"k{n % 400}", f"text {n}") for n in range(1_000)])
    assert memory.count() == 400
    assert sum(record.version for record in memory.iterate()) == 1_000


def test_changes_are_frozen(memory: Memory) -> None:
    with pytest.raises(FrozenInstanceError):
        Put("k", "x").key = "other"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        Put("k", "x", ("desk",))  # pyright: ignore[reportCallIssue]


def test_one_spelling_of_a_user_or_another(memory: Memory) -> None:
    """The same name, once composed and once not, is one place."""
    with pytest.raises(InvalidInputError, match="twice"):
        memory.put_many(
            [{"key": "k", "content": "a", "user_id": "zo\u00eb"}, {"key": "k", "content": "b", "user_id": "zoe\u0308"}]
        )
    memory.apply([Put("k", "a", user_id="zo\u00eb"), Put("k", "b", user_id="zoe\u0308")])
    assert memory.get(key="k", user_id="zo\u00eb").version == 2  # pyright: ignore[reportOptionalMemberAccess]


def test_put_many_says_which_one_was_in_conflict(memory: Memory) -> None:
    memory.put("b", "x")
    with pytest.raises(ConflictError) as caught:
        memory.put_many([{"key": "a", "content": "1"}, {"key": "b", "content": "2", "if_version": 0}])
    assert caught.value.index == 1


async def applied(path: Path) -> list[Any]:
    async with AsyncMemory(path, embedder=HashEmbedder()) as memory:
        await memory.apply([Put("k", "one"), Update(key="k", content="two")])
        with pytest.raises(ConflictError):
            await memory.apply([Delete(key="k"), Put("k", "three", if_version=2)])
        found = await memory.get(key="k")
        return [found and found.content, await memory.apply([Delete(key="k")])]


def test_the_async_client_does_the_same(store: Path) -> None:
    assert asyncio.run(applied(store)) == ["two", [True]]
