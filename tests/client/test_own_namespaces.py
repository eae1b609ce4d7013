"""Namespaces at the border: the package's own, and lists of what is in one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import Memory, NewMemory, ScopeError
from agentmem.client.memory import client_on


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.add("x", namespace=("$blocks",)),
        lambda m: m.add({"content": "x", "namespace": ["$blocks", "a"]}),
        lambda m: m.add(NewMemory(content="x", namespace=("$",))),
        lambda m: m.add_many([{"content": "x", "namespace": ("$blocks",)}]),
        lambda m: m.put("k", "x", namespace=("$blocks",)),
        lambda m: m.put_many([{"key": "k", "content": "x", "namespace": ("$blocks",)}]),
        lambda m: m.get(key="k", namespace=("$blocks",)),
        lambda m: m.delete(key="k", namespace=("$blocks",)),
        lambda m: m.search("x", namespace=("$blocks",)),
        lambda m: m.delete_all(under=("$blocks",)),
        lambda m: m.namespaces(under=("$blocks",)),
        lambda m: m.kinds(namespace=("$blocks",)),
        lambda m: m.scoped(namespace=("$blocks",)),
        lambda m: m.scoped(under=("$blocks", "a")),
    ],
)  # fmt: skip
def test_the_packages_own_are_refused(memory: Memory, call: Callable[[Memory], object]) -> None:
    with pytest.raises(ScopeError, match="package's own"):
        call(memory)
    assert memory.count(under=()) == 0


def test_a_later_name_may_be_spelled_so(memory: Memory) -> None:
    memory.put("k", "x", namespace=("shop", "$prices"))
    assert memory.count(namespace=("shop", "$prices")) == 1


def package_view(memory: Memory) -> Memory:
    """As the package makes one of a namespace of its own."""
    border = memory._border.scoped("mia", None, None, ("seat",))  # pyright: ignore[reportPrivateUsage]
    return client_on(type(border)(memory.handle, type(border.bound)("mia", under=("$blocks",))))  # pyright: ignore[reportOptionalCall]


def test_the_package_writes_to_its_own(
    open_memory: Callable[..., Memory], tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory = open_memory()
    own = package_view(memory)
    own.put("persona", "a calm voice", namespace=("$blocks", "a"))
    own.add({"content": "a note of a block", "namespace": ("$blocks", "b")})
    assert own.get(key="persona", namespace=("$blocks", "a")) is not None
    assert {hit.content for hit in own.search("note voice")} == {"a calm voice", "a note of a block"}
    assert memory.count(user_id="mia") == 0
    assert memory.count(user_id="mia", under=()) == 2
    # What an export has of it comes back where it was.
    other = Memory(tmp_path_factory.mktemp("other"), clock=FakeClock(), embedder=HashEmbedder())
    with other:
        other.add_many(list(memory.iterate(user_id="mia", under=())))
        assert [one.namespace for one in other.namespaces(user_id="mia")] == [("$blocks", "a"), ("$blocks", "b")]


def test_lists_of_what_is_in_one(memory: Memory) -> None:
    memory.add("in the root", user_id="mia", run_id="r0", agent_id="a0", kind="fact")
    memory.add(
        "a draft", user_id="mia", run_id="r1", agent_id="a1", kind="draft", namespace=("desk",), metadata={"n": 1}
    )
    memory.add("a note", user_id="mia", run_id="r2", agent_id="a2", kind="note", namespace=("desk", "left"))

    def names(**where: object) -> list[list[str | None]]:
        calls = (memory.runs, memory.agents, memory.kinds)
        return [sorted(str(one.name) for one in call(user_id="mia", **where)) for call in calls]  # pyright: ignore[reportArgumentType]

    assert names() == [["r0"], ["a0"], ["fact"]]
    assert names(namespace=("desk",)) == [["r1"], ["a1"], ["draft"]]
    assert names(under=("desk",)) == [["r1", "r2"], ["a1", "a2"], ["draft", "note"]]
    assert names(under=()) == [["r0", "r1", "r2"], ["a0", "a1", "a2"], ["draft", "fact", "note"]]
    assert memory.distinct("$kind", user_id="mia", under=("desk",)) == ["draft", "note"]
    assert memory.distinct("n", user_id="mia", namespace=("desk",)) == [1]
    assert [one.content for one in memory.pop(user_id="mia", run_id="r2", namespace=("desk", "left"))] == ["a note"]
    assert memory.pop(user_id="mia", run_id="r1") == []
