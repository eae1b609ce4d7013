"""Blocks: every edit a version, none silently cut, none lost between two who edit at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import (
    AsyncMemory,
    BlockFullError,
    BlockReadOnlyError,
    Blocks,
    ConflictError,
    InvalidInputError,
    Memory,
    NotFoundError,
    ScopeError,
)
from agentmem.client.asyncagents import AsyncBlocks


@pytest.fixture
def blocks(memory: Memory) -> Blocks:
    return memory.blocks(user_id="ana")


def test_edits(blocks: Blocks) -> None:
    made = blocks.create("human", "Likes tea.", description="Who the user is", limit=40)
    assert (made.version, made.tokens, made.description, made.limit) == (1, 4, "Who the user is", 40)
    assert blocks.append("human", "Lives in Faro.").value == "Likes tea.\nLives in Faro."
    assert blocks.replace("human", "tea", "coffee").value == "Likes coffee.\nLives in Faro."
    assert blocks.insert("human", 1, "Is a nurse.").value == "Likes coffee.\nIs a nurse.\nLives in Faro."
    assert blocks.insert("human", 0, "Ana").value.startswith("Ana\nLikes")
    assert blocks.rewrite("human", "", reason="asked to forget").value == ""
    assert blocks.append("human", "New.").value == "New."
    assert blocks.rewrite("human", " \n").value == " \n"
    assert blocks.get("human") == blocks.list()[0]
    assert blocks.get("nothing") is None


def test_history_and_restore(blocks: Blocks, clock: FakeClock) -> None:
    blocks.create("human", "one")
    clock.advance(60)
    blocks.rewrite("human", "two", reason="because")
    blocks.configure("human", limit=500)
    blocks.rewrite("human", "")
    told = [(each.version, each.value, each.reason) for each in blocks.history("human")]
    assert told == [(1, "one", None), (2, "two", "because"), (3, "two", None), (4, "", None)]
    assert (blocks.history("human")[1].at - blocks.history("human")[0].at).total_seconds() == 60
    restored = blocks.restore("human", 2)
    assert (restored.value, restored.version, restored.limit) == ("two", 5, 500)
    with pytest.raises(NotFoundError):
        blocks.restore("human", 9)


def test_a_full_block_is_an_error_and_nothing_is_cut(blocks: Blocks) -> None:
    blocks.create("human", "x" * 27, limit=10)
    with pytest.raises(BlockFullError) as caught:
        blocks.append("human", "y" * 10)
    assert (caught.value.label, caught.value.tokens, caught.value.limit) == ("human", 13, 10)
    for too_much in (lambda: blocks.rewrite("human", "z" * 31), lambda: blocks.configure("human", limit=5)):
        with pytest.raises(BlockFullError):
            too_much()
    with pytest.raises(BlockFullError):
        blocks.create("other", "z" * 31, limit=10)
    assert [(block.label, block.value, block.version) for block in blocks.list()] == [("human", "x" * 27, 1)]


def test_a_tokenizer_of_ones_own(memory: Memory) -> None:
    blocks = memory.blocks(user_id="ana", tokenizer=lambda text: len(text.split()))
    blocks.create("human", "three words here", limit=3)
    with pytest.raises(BlockFullError):
        blocks.append("human", "four")


def test_read_only(blocks: Blocks) -> None:
    blocks.create("rules", "Be kind.", read_only=True)
    edits: list[Callable[[], object]] = [
        lambda: blocks.append("rules", "x"),
        lambda: blocks.replace("rules", "kind", "x"),
        lambda: blocks.insert("rules", 0, "x"),
        lambda: blocks.rewrite("rules", "x"),
        lambda: blocks.restore("rules", 1),
    ]
    for edit in edits:
        with pytest.raises(BlockReadOnlyError):
            edit()
    blocks.configure("rules", read_only=False)
    assert blocks.append("rules", "x").value == "Be kind.\nx"


@pytest.mark.parametrize(("old", "told"), [("absent", "is not in there"), ("a", "3 times"), ("", "is not in there")])
def test_what_is_replaced_is_there_once(blocks: Blocks, old: str, told: str) -> None:
    blocks.create("human", "banana")
    with pytest.raises(InvalidInputError, match=told):
        blocks.replace("human", old, "x")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda blocks: blocks.create(""),
        lambda blocks: blocks.create("x", limit=0),
        lambda blocks: blocks.create("x", "a\0"),
        lambda blocks: blocks.create("x", None),
        lambda blocks: blocks.insert("there", 7, "x"),
        lambda blocks: blocks.append("there", 3),
        lambda blocks: blocks.append("there", "x", reason="x" * 3_000),
    ],
    ids=["label", "limit", "nul", "none", "line", "number", "reason"],
)
def test_bad_values(blocks: Blocks, wrong: Callable[[Blocks], object]) -> None:
    blocks.create("there", "text")
    with pytest.raises(InvalidInputError):
        wrong(blocks)
    assert [block.value for block in blocks.list()] == ["text"]


def test_of_two_at_once_one_wins_and_the_other_is_told(blocks: Blocks) -> None:
    version = blocks.create("human", "start").version

    def edit(n: int) -> bool:
        try:
            blocks.append("human", f"line {n}", if_version=version)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(edit, range(8))) == 1
        # Without a version, each is made to what is there by then.
        list(threads.map(lambda n: blocks.append("human", f"more {n}"), range(8)))
    block = blocks.get("human")
    assert block is not None
    assert sorted(block.value.split("\n")[2:]) == [f"more {n}" for n in range(8)]
    with pytest.raises(ConflictError, match="a block 'human' already"):
        blocks.create("human")


def test_whose_blocks(memory: Memory) -> None:
    places: list[dict[str, Any]] = [
        {},
        {"agent_id": "bot"},
        {"user_id": "ana"},
        {"user_id": "ana", "agent_id": "bot"},
        {"user_id": "ben"},
        {"user_id": "ana", "namespace": ("work",)},
    ]
    for number, place in enumerate(places):
        memory.blocks(**place).create("human", str(number))
    for number, place in enumerate(places):
        assert [block.value for block in memory.blocks(**place).list()] == [str(number)]
    view = memory.scoped(user_id="ana")
    assert [block.value for block in view.blocks().list()] == ["2"]
    with pytest.raises(ScopeError):
        view.blocks(user_id="ben")
    memory.erase_all(user_id="ana")
    assert [len(memory.blocks(**place).list()) for place in places] == [1, 1, 0, 0, 1, 0]


def test_no_search_finds_them_and_a_year_later_they_are_there(memory: Memory, clock: FakeClock) -> None:
    memory.blocks(user_id="ana").create("human", "Likes tea.")
    assert memory.search("tea", user_id="ana", mode="keyword") == []
    clock.advance(366 * 86_400)
    memory.lifecycle.sweep()
    assert [block.value for block in memory.blocks(user_id="ana").list()] == ["Likes tea."]


def test_delete(blocks: Blocks) -> None:
    blocks.create("human", "x")
    with pytest.raises(ConflictError):
        blocks.delete("human", if_version=7)
    assert blocks.delete("human")
    assert not blocks.delete("human")
    with pytest.raises(NotFoundError):
        blocks.append("human", "x")
    assert blocks.create("human", "again").version > 1  # who knows an old version cannot win


def test_the_async_client_has_the_same(store: Path, embedder: HashEmbedder) -> None:
    names = {name for name in vars(Blocks) if not name.startswith("_")}
    assert {name for name in vars(AsyncBlocks) if not name.startswith("_")} == names
    for name in names:
        assert inspect.iscoroutinefunction(getattr(AsyncBlocks, name))
        ours, theirs = (inspect.signature(getattr(each, name)) for each in (Blocks, AsyncBlocks))
        assert ours.parameters == theirs.parameters, name

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            blocks = memory.blocks(user_id="ana")
            await blocks.create("human", "x")
            await asyncio.gather(*(blocks.append("human", str(n)) for n in range(5)))
            assert len(await blocks.history("human")) == 6

    asyncio.run(main())
