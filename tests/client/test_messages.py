"""Messages lead the reader on: what was meant, what to do instead, and a warning where nothing would be stored."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import subprocess
import sys
import warnings
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import ROOT, HashEmbedder

from agentmem import AsyncMemory, ClosedError, InvalidInputError, Memory, NewMemory
from agentmem.client.hints import did_you_mean


@pytest.mark.parametrize("send", [pickle.dumps, copy.deepcopy], ids=lambda f: f.__qualname__)
def test_a_client_says_why_it_cannot_be_sent(memory: Memory, store: Path, send: Any) -> None:
    waiting = AsyncMemory(store)
    clients = [memory, memory.scoped(user_id="lou"), memory.lifecycle, waiting, waiting.lifecycle]
    for client in clients:
        with pytest.raises(TypeError, match="another process opens the store for itself") as caught:
            send(client)
        assert str(store) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("timestamp", "occurred_at"), ("created_at", "occurred_at"), ("text", "content"), ("userId", "user_id"),
        ("user-id", "user_id"), ("session_id", "run_id"), ("Thread ID", "run_id"), ("author", "role"),
        ("ocurred_at", "occurred_at"), ("metdata", "metadata"), ("expires_in", "ttl"), ("Importance", "importance"),
    ],
)  # fmt: skip
def test_a_field_by_another_name(memory: Memory, given: str, meant: str) -> None:
    for call in (lambda item: memory.add(item), lambda item: memory.add_many([item])):
        with pytest.raises(
            InvalidInputError, match=f"no field {given!r}; did you mean {meant!r}\\? It may have"
        ) as caught:
            call({"role": "user", "content": "hi", given: "x"} if meant != "content" else {given: "x"})
        assert caught.value.field == given


@pytest.mark.parametrize("given", ["colour", "z", "", "x" * 500, 5, None, "ünïcode"])
def test_a_field_that_resembles_nothing(memory: Memory, given: Any) -> None:
    with pytest.raises(InvalidInputError, match="It may have agent_id") as caught:
        memory.add({"content": "hi", given: "x"})
    assert "did you mean" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert did_you_mean(given, ["content"]) == "."


def test_a_result_is_not_an_item_but_has_one(memory: Memory) -> None:
    added = memory.add("tea")
    for result in (added, memory.search("tea")[0]):
        with pytest.raises(InvalidInputError, match="pass the 'record' of a result alone"):
            memory.add(result.to_dict())


@pytest.mark.parametrize(
    "several",
    [["a", "b"], ("a",), {"a"}, iter(["a"]), [{"role": "user", "content": "hi"}], [NewMemory(content="x")], range(3)],
    ids=lambda value: type(value).__name__,
)
def test_several_items_for_add(memory: Memory, several: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"several at once are for add_many\(\) or add_stream\(\)"):
        memory.add(several)
    with pytest.raises(InvalidInputError, match="an item must be text") as caught:
        memory.add(3)  # type: ignore[arg-type]
    assert "several" not in str(caught.value)


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_that_nobody_reads_warns(memory: Memory, store: Path, embedder: HashEmbedder, clock: Any) -> None:
    waiting = AsyncMemory(store, embedder=embedder, clock=clock)
    for client in (memory, memory.scoped(user_id="lou"), waiting):
        with pytest.warns(RuntimeWarning, match="nothing was stored; loop over it") as caught:
            client.add_stream(["one", "two"])
        gc.collect()
        assert len(caught) == 1
        assert caught[0].filename == __file__
    assert list(memory.iterate()) == []


def test_a_stream_that_is_read_does_not_warn(memory: Memory, store: Path, embedder: HashEmbedder, clock: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(len(results) for results in memory.add_stream(["one", "two", "three"], chunk=2)) == 3
        stream = memory.add_stream(["four", "five"], chunk=1)
        next(stream)
        del stream
        list(memory.add_stream([]))
        with pytest.raises(InvalidInputError):
            list(memory.add_stream([7]))  # type: ignore[list-item]
        for wrong in ("text", 5):
            with pytest.raises(InvalidInputError):
                memory.add_stream(wrong)  # type: ignore[arg-type]

        async def main() -> None:
            async with AsyncMemory(store, embedder=embedder, clock=clock) as waiting:
                stream = waiting.add_stream(["six", "seven"], chunk=1, dedupe=False)
                assert isinstance(stream, AsyncIterable)
                async for results in stream:
                    assert results[0].status == "added"
                with pytest.raises(InvalidInputError):  # at once, as the other client does
                    waiting.add_stream("text")

        asyncio.run(main())
        trio.run(main)
        gc.collect()


def test_a_stream_that_is_left_at_the_end_of_the_program(tmp_path: Path) -> None:
    code = "from agentmem import Memory\nm = Memory('s')\nstream = m.add_stream(['x'])\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_waiting_client_closes_under_either_name(store: Path, embedder: HashEmbedder) -> None:
    async def main(name: str) -> None:
        memory = AsyncMemory(store, embedder=embedder)
        await memory.add("x")
        await getattr(memory, name)()
        await getattr(memory, name)()
        with pytest.raises(ClosedError):
            await memory.add("y")

    for name in ("close", "aclose"):
        asyncio.run(main(name))
    assert inspect.iscoroutinefunction(AsyncMemory.close)
