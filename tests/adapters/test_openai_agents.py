"""The session for the OpenAI Agents SDK: what its own tests cannot see."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agentmem import InvalidInputError, Memory, ScopeError, SessionClosedError

pytest.importorskip("agents", reason="openai-agents is not installed")

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from agentmem.adapters.openai_agents import NAMESPACE, AgentMemSession

ITEMS: list[Any] = [
    {"role": "user", "content": "tea"},
    {"content": " e\u0301 and \u00e9 \r\n", "role": "user"},
    {"role": "user", "content": ""},
    {"role": "user", "content": "\u200b"},
    {"role": "user", "content": "a\x00b \ud800"},
    {"role": "user", "content": "x" * 400_000},
    {"role": "assistant", "content": None, "id": "m1", "metadata": {"a": None}, "namespace": ["x"], "ttl": 3},
    {"role": "narrator", "content": "text"},
    {"role": "", "content": "text"},
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64," + "A" * 300_000}]},
    {"role": "user", "content": 5, "key": "k", "embed": True, "vector": [1], "data": None},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}", "id": None},
    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "rain"}]},
    {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "gA" * 100},
    {"type": "item_reference", "id": "m1"},
    {"type": "a kind of tomorrow", "deep": [[[{"a": 10**40, "b": 1e300, "c": True}]]]},
    {},
    {"data": {"data": 1}},
]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "store") as opened:
        yield opened


def in_loop(call: Any) -> Any:
    async def run() -> Any:
        return await call

    return asyncio.run(run())


def test_any_item_comes_back_as_it_was(memory: Memory, tmp_path: Path) -> None:
    session = AgentMemSession("s", memory)
    in_loop(session.add_items(ITEMS))
    assert in_loop(session.get_items()) == ITEMS
    assert [in_loop(session.get_items(limit)) for limit in (0, 1, 3, -1)] == [[], ITEMS[-1:], ITEMS[-3:], ITEMS]
    with Memory(tmp_path / "store") as other:
        assert in_loop(AgentMemSession("s", other).get_items()) == ITEMS
    assert [in_loop(session.pop_item()) for _ in ITEMS] == ITEMS[::-1]
    assert in_loop(session.pop_item()) is None


def test_what_is_no_json_is_refused_with_its_place(memory: Memory) -> None:
    session = AgentMemSession("s", memory)
    for wrong in (b"bytes", {"role": "user", "content": object()}, {"a": {1, 2}}):
        with pytest.raises(InvalidInputError) as refused:
            in_loop(session.add_items([ITEMS[0], wrong]))
        assert refused.value.index == 1
    assert in_loop(session.get_items()) == []


IDS = [
    "", " ", "a", "a ", "%", "%61", "~", "$sessions", "\u00e9", "e\u0301", "\x00", "\ud800", "x" * 400, "x" * 3_000,
    "y" * 3_000, "%#", "A", "a/b", "\u3164", "%20",
]  # fmt: skip


def test_every_id_is_a_session_of_its_own(memory: Memory) -> None:
    for id in IDS:
        in_loop(AgentMemSession(id, memory).add_items([{"role": "user", "content": f"of {id!r}"}]))
    for id in IDS:
        assert in_loop(AgentMemSession(id, memory).get_items()) == [{"role": "user", "content": f"of {id!r}"}]


def test_tenants_and_namespaces_share_nothing(memory: Memory) -> None:
    sessions = [
        AgentMemSession("s", memory), AgentMemSession("s", memory, user_id="ana"),
        AgentMemSession("s", memory, user_id="rui"), AgentMemSession("s", memory, user_id="ana", namespace=("other",)),
        AgentMemSession("s", memory.scoped(user_id="eve")), AgentMemSession("t", memory, user_id="ana"),
    ]  # fmt: skip
    for number, session in enumerate(sessions):
        in_loop(session.add_items([{"role": "user", "content": str(number)}] * 2))
    in_loop(sessions[1].clear_session())
    in_loop(sessions[2].pop_item())
    held = [[item["content"] for item in in_loop(session.get_items())] for session in sessions]
    assert held == [["0", "0"], [], ["2"], ["3", "3"], ["4", "4"], ["5", "5"]]


def test_items_do_not_show_among_memories(memory: Memory) -> None:
    memory.add("green tea", user_id="ana")
    in_loop(AgentMemSession("s", memory, user_id="ana").add_items([{"role": "user", "content": "green tea, please"}]))
    assert len(memory.search("green tea", user_id="ana")) == memory.count(user_id="ana") == 1
    assert memory.context("green tea", user_id="ana", max_tokens=100).count("tea") == 1
    assert memory.sessions(user_id="ana") == []
    assert len(memory.search("please", user_id="ana", namespace=NAMESPACE, mode="keyword")) == 1
    assert memory.search("please", user_id="ana", namespace=NAMESPACE, mode="vector") == []
    memory.erase_all(user_id="ana")
    assert in_loop(AgentMemSession("s", memory, user_id="ana").get_items()) == []


def test_it_stays_unless_a_time_is_given(tmp_path: Path) -> None:
    now = [datetime(2025, 3, 1, tzinfo=UTC)]
    memory = Memory(tmp_path / "old", clock=lambda: now[0])
    kept, short = AgentMemSession("kept", memory), AgentMemSession("short", memory, ttl=3_600)
    for session in (kept, short):
        in_loop(session.add_items(ITEMS[:1]))
    now[0] += timedelta(days=400)
    memory.lifecycle.sweep()
    assert [len(in_loop(session.get_items())) for session in (kept, short)] == [1, 0]
    in_loop(short.add_items(ITEMS[1:2]))
    assert in_loop(short.get_items()) == ITEMS[1:2]
    memory.close()


def test_a_closed_session_takes_no_more(memory: Memory) -> None:
    session = AgentMemSession("s", memory)
    in_loop(session.add_items(ITEMS[:2]))
    memory.session("s", namespace=NAMESPACE).close()
    with pytest.raises(SessionClosedError):
        in_loop(session.add_items(ITEMS[:1]))
    assert in_loop(session.get_items()) == ITEMS[:2]


def test_one_object_serves_loops_threads_and_a_running_loop(memory: Memory) -> None:
    session = AgentMemSession("s", memory)
    for number in range(3):
        in_loop(session.add_items([{"role": "user", "content": str(number)}]))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_loop, session.add_items([{"role": "user", "content": "3"}])).result()

    async def inside() -> list[Any]:
        for number in range(4, 8):
            await session.add_items([{"role": "user", "content": str(number)}])
        await asyncio.gather(*(session.add_items([{"role": "user", "content": str(n)}] * 2) for n in range(8, 28)))
        return await asyncio.gather(*(session.pop_item() for _ in range(10)), session.get_items(1))

    assert all(item is not None for item in asyncio.run(inside()))
    held = [item["content"] for item in in_loop(session.get_items())]
    assert held[:8] == list("01234567")
    assert len(held) == 38
    assert held[8::2] == held[9::2]  # those of one call are together


def test_a_cancelled_change_is_made_or_not_made_when_it_is_known(memory: Memory) -> None:
    session = AgentMemSession("s", memory)

    async def inside() -> None:
        task = asyncio.ensure_future(session.add_items(ITEMS))
        await asyncio.sleep(0)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await session.get_items() == ITEMS

    asyncio.run(inside())


class SaysAgain(Model):
    """A model that says again what users said."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **options: Any) -> ModelResponse:
        said = [item["content"] for item in input if item.get("role") == "user"]
        text = ResponseOutputText(text=" ".join(said), type="output_text", annotations=[])
        output = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


def test_the_second_run_knows_what_the_first_was_told(tmp_path: Path) -> None:
    agent = Agent(name="guide", model=SaysAgain())

    def ask(text: str) -> str:
        with Memory(tmp_path / "own") as memory:
            session = AgentMemSession("trip", memory, user_id="ana")
            run = Runner.run(agent, text, session=session, run_config=RunConfig(tracing_disabled=True))
            return in_loop(run).final_output

    ask("We stay in Faro.")
    assert "Faro" in ask("Where do we stay?")


def test_a_path_is_closed_and_opened_again(tmp_path: Path) -> None:
    session = AgentMemSession("s", tmp_path / "own")
    in_loop(session.add_items(ITEMS[:1]))
    session.close()
    with Memory(tmp_path / "own") as memory:
        assert in_loop(AgentMemSession("s", memory).get_items()) == ITEMS[:1]
    assert in_loop(session.get_items()) == ITEMS[:1]
    session.close()


MANY = """
import asyncio, sys
from agentmem import Memory
from agentmem.adapters.openai_agents import AgentMemSession

store, name, count = sys.argv[1:]
with Memory(store) as memory:
    session = AgentMemSession("s", memory)
    print("ready", flush=True)
    sys.stdin.readline()

    async def run():
        for number in range(int(count)):
            await session.add_items([{"role": "user", "content": f"{name} {number} {part}"} for part in "ab"])
            print(number, flush=True)

    asyncio.run(run())
"""


def start(store: Path, name: str, count: int) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-c", MANY, str(store), name, str(count)], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def test_three_processes_add_in_one_order(tmp_path: Path) -> None:
    store = tmp_path / "store"
    running = [start(store, name, 20) for name in "xyz"]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    for process in running:
        process.communicate()
    with Memory(store) as memory:
        held = [item["content"].split() for item in in_loop(AgentMemSession("s", memory).get_items())]
        assert len(held) == 120
        assert [each[:2] for each in held[::2]] == [each[:2] for each in held[1::2]]
        for name in "xyz":
            assert [int(number) for by, number, part in held if by == name and part == "a"] == list(range(20))


def test_what_was_added_is_there_after_a_kill(tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start(store, "x", 10_000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    acknowledged = [process.stdout.readline() for _ in range(12)][-1]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.communicate()
    last = int(rest[-1] if rest else acknowledged)
    with Memory(store) as memory:
        held = [item["content"].split() for item in in_loop(AgentMemSession("s", memory).get_items())]
    assert len(held) in (2 * last + 2, 2 * last + 4)  # the one that was on its way is there as a whole, or is not
    assert [int(number) for _, number, part in held if part == "b"] == list(range(len(held) // 2))


def test_ids_of_a_database_are_ids_of_sessions(memory: Memory) -> None:
    for id in (42, UUID(int=42)):
        in_loop(AgentMemSession(id, memory, user_id="ana").add_items(ITEMS[:1]))
        assert in_loop(AgentMemSession(str(id), memory, user_id="ana").get_items()) == ITEMS[:1]
        assert len(memory.session(id, user_id="ana", namespace=NAMESPACE).turns()) == 1
    with pytest.raises(InvalidInputError, match="not None"):
        AgentMemSession(None, memory)  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match=r"write \('chats',\)"):
        AgentMemSession("a", memory, namespace="chats")
