"""The conversation store and the toolset for Pydantic AI: what a comparison with its own store cannot see."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentmem import Memory

pytest.importorskip("pydantic_ai.conversation_store", reason="pydantic-ai-slim is not installed")

from pydantic_ai import Agent, RunContext
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import FunctionModel

from agentmem.adapters.pydantic_ai import NAMESPACE, AgentMemConversationStore, AgentMemToolset


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "store") as opened:
        yield opened


def asked(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def conversation(id: str, *texts: str) -> Conversation:
    return Conversation(conversation_id=id, messages=[asked(text) for text in texts])


async def texts(store: AgentMemConversationStore, id: str, **options: Any) -> list[Any]:
    found = await store.load(id, **options)
    return [] if found is None else [message.parts[0].content for message in found.messages]  # type: ignore[union-attr]


def says_again(messages: list[Any], _: Any) -> ModelResponse:
    said = [part.content for each in messages for part in each.parts if isinstance(part, UserPromptPart)]
    return ModelResponse(parts=[TextPart(" ".join(said))])


def test_the_second_session_knows_what_the_first_was_told(tmp_path: Path) -> None:
    agent = Agent(FunctionModel(says_again))

    async def ask(text: str) -> str:
        with Memory(tmp_path / "own") as memory:
            store = AgentMemConversationStore(memory, user_id="ana")
            known = await store.load("trip") or Conversation(conversation_id="trip")
            result = await agent.run(text, conversation=known)
            await store.save(result)
            return result.output

    asyncio.run(ask("We stay in Faro."))
    assert "Faro" in asyncio.run(ask("Where do we stay?"))


def test_an_agent_remembers_by_the_tools(memory: Memory) -> None:
    def model(messages: list[Any], _: Any) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse(parts=[TextPart(str(last.content))])
        call, text = last.content.split(": ", 1)
        arguments = {"remember": "text", "recall": "query", "forget": "id"}
        return ModelResponse(parts=[ToolCallPart(call, {arguments[call]: text})])

    def user(ctx: RunContext[str]) -> str:
        return ctx.deps

    agent = Agent(FunctionModel(model), deps_type=str, toolsets=[AgentMemToolset(memory, user_id=user)])

    def ask(text: str, user: str = "ana") -> str:
        return asyncio.run(agent.run(text, deps=user)).output

    assert ask("remember: Ana stays in Faro.") == "Remembered."
    assert ask("remember: Ana stays in Faro.") == "That was known already."
    assert "Faro" in ask("recall: Where does Ana stay?")
    assert ask("recall: Where does Ana stay?", "rui") == ask("recall:  ") == "[]"
    assert "Faro" in ask("recall: Where does Ana stay? " + "x" * 200_000)
    [record] = memory.page(user_id="ana").records
    assert ask(f"forget: {record.id}", "rui") == "There is nothing with that id."
    assert memory.count(user_id="ana") == 1
    assert ask(f"forget: {record.id}") == "Forgotten."
    state = memory.put("state", "secret", user_id="ana", namespace=("program",)).record
    assert ask(f"forget: {state.id}") == "There is nothing with that id."
    assert memory.count(user_id="ana", under=()) == 1


def test_of_a_hundred_creators_on_twenty_conversations_twenty_win(memory: Memory) -> None:
    store = AgentMemConversationStore(memory, user_id="ana")

    async def create(number: int) -> bool:
        try:
            await store.save(conversation(f"c{number % 20}", f"by {number}", "and more"))
        except ConversationConflict:
            return False
        return True

    async def race() -> list[bool]:
        return await asyncio.gather(*(create(number) for number in range(100)))

    assert sum(asyncio.run(race())) == 20
    assert memory.count(user_id="ana", namespace=(*NAMESPACE, "entries")) == 40
    assert len(asyncio.run(store.list_conversations())) == 20


def test_of_many_who_save_at_once_one_wins_and_loses_nothing(memory: Memory) -> None:
    store = AgentMemConversationStore(memory)

    async def extend(number: int) -> None:
        while True:
            known = await store.load("c")
            assert known is not None
            known.messages.append(asked(str(number)))
            try:
                return void(await store.save(known))
            except ConversationConflict:
                continue

    def void(_: Any) -> None: ...

    async def race() -> list[str]:
        await store.save(conversation("c"))
        await asyncio.gather(*(extend(number) for number in range(20)))
        return await texts(store, "c")

    assert sorted(map(int, asyncio.run(race()))) == list(range(20))


def test_a_fork_and_a_delete_at_once_leave_whole_histories(memory: Memory) -> None:
    store = AgentMemConversationStore(memory)

    async def race(number: int) -> bool:
        source, fork = f"s{number}", f"f{number}"
        await store.save(conversation(source, "a", "b"))
        done = await asyncio.gather(
            store.fork(source, new_conversation_id=fork), store.delete(source), return_exceptions=True
        )
        forked = not isinstance(done[0], BaseException)
        assert await texts(store, source) == []
        assert await texts(store, fork) == (["a", "b"] if forked else [])
        return forked

    async def races() -> list[bool]:
        return [await race(number) for number in range(30)]

    forked = asyncio.run(races())
    assert memory.count(namespace=(*NAMESPACE, "entries")) == 2 * sum(forked)


def test_a_conversation_is_deleted_and_made_again(memory: Memory) -> None:
    store = AgentMemConversationStore(memory)

    async def run() -> None:
        first = conversation("c", "a")
        await store.save(first)
        await store.delete("c")
        second = conversation("c", "b")
        await store.save(second)
        first.messages.append(asked("late"))
        with pytest.raises(ConversationConflict):
            await store.save(first)
        assert await texts(store, "c") == ["b"]

    asyncio.run(run())
    assert memory.count(namespace=(*NAMESPACE, "entries")) == 1


def test_of_a_history_that_was_cut_nothing_stays_when_it_is_deleted(memory: Memory) -> None:
    store, entries = AgentMemConversationStore(memory), (*NAMESPACE, "entries")

    async def run() -> None:
        await store.save(conversation("c", "a", "b", "c"))
        await store.fork("c", new_conversation_id="d")
        await store.save(conversation("e", "a", "b", "c"))
        for run in ("c", "e"):
            said = list(memory.iterate(run_id=run, namespace=entries))
            assert memory.erase(said[1].id).erased == 1  # beside the adapter
        await store.delete("e")
        assert memory.count(run_id="e", namespace=entries) == 0
        await store.delete("c")
        await store.delete("d")

    asyncio.run(run())
    assert memory.count(namespace=entries) == 0


def test_a_history_of_two_thousand_messages(memory: Memory) -> None:
    store = AgentMemConversationStore(memory)

    async def run() -> None:
        await store.save(conversation("long", *map(str, range(2_000))))
        assert await texts(store, "long") == list(map(str, range(2_000)))
        assert await texts(store, "long", limit=3) == ["1997", "1998", "1999"]
        forked = await store.fork("long", at=1_500, new_conversation_id="fork")
        forked.messages.append(asked("other"))
        await store.save(forked)
        with pytest.raises(ConversationConflict):
            await store.save(conversation("long", *map(str, range(1_000))))
        await store.delete("long")
        assert await texts(store, "fork") == [*map(str, range(1_500)), "other"]

    asyncio.run(run())
    assert memory.count(namespace=(*NAMESPACE, "entries")) == 1_501


def test_tenants_share_nothing_and_nothing_shows_among_memories(memory: Memory) -> None:
    stores = [
        AgentMemConversationStore(memory), AgentMemConversationStore(memory, user_id="ana"),
        AgentMemConversationStore(memory, user_id="ana", namespace=("other",)),
        AgentMemConversationStore(memory.scoped(user_id="eve")),
    ]  # fmt: skip
    memory.add("green tea", user_id="ana")

    async def run() -> list[list[Any]]:
        for number, store in enumerate(stores):
            await store.save(conversation("same", f"green tea {number}"))
        await stores[1].delete("same")
        return [await texts(store, "same") for store in stores]

    assert asyncio.run(run()) == [["green tea 0"], [], ["green tea 2"], ["green tea 3"]]
    assert len(memory.search("green tea", user_id="ana")) == memory.count(user_id="ana") == 1
    assert memory.context("green tea", user_id="ana", max_tokens=100).count("tea") == 1
    assert len(memory.search("tea", user_id="eve", under=NAMESPACE, mode="keyword")) == 1
    memory.erase_all(user_id="eve")
    assert asyncio.run(stores[3].list_conversations()) == []


def test_one_store_serves_loops_threads_and_a_running_loop(tmp_path: Path) -> None:
    store = AgentMemConversationStore(tmp_path / "own")
    for number in range(3):
        asyncio.run(store.save(conversation(str(number), "x")))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, store.save(conversation("3", "x"))).result()

    async def at_once() -> None:
        await asyncio.gather(*(store.save(conversation(str(n), "x")) for n in range(4, 20)))

    asyncio.run(at_once())
    store.close()
    assert len(asyncio.run(store.list_conversations())) == 20
    store.close()


MANY = """
import asyncio, sys
from agentmem import Memory
from agentmem.adapters.pydantic_ai import AgentMemConversationStore
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelRequest, UserPromptPart

store, name, count = sys.argv[1:]

async def run(conversations):
    for number in range(int(count)):
        while True:
            known = await conversations.load("c") or Conversation(conversation_id="c")
            known.messages.append(ModelRequest(parts=[UserPromptPart(f"{name} {number}")]))
            try:
                await conversations.save(known)
            except ConversationConflict:
                continue
            break
        print(number, flush=True)

with Memory(store) as memory:
    asyncio.run(run(AgentMemConversationStore(memory)))
"""


def start(store: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MANY, str(store), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_three_processes_lose_nothing(tmp_path: Path) -> None:
    running = [start(tmp_path / "store", name, 8) for name in "xyz"]
    assert [len(process.communicate(timeout=120)[0].split()) for process in running] == [8, 8, 8]
    with Memory(tmp_path / "store") as memory:
        held = [text.split() for text in asyncio.run(texts(AgentMemConversationStore(memory), "c"))]
    for name in "xyz":
        assert [int(number) for by, number in held if by == name] == list(range(8))


def test_what_was_saved_is_there_after_a_kill(tmp_path: Path) -> None:
    process = start(tmp_path / "store", "x", 10_000)
    assert process.stdout is not None
    last = [process.stdout.readline() for _ in range(12)][-1]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.communicate()
    acknowledged = int(rest[-1] if rest else last)
    with Memory(tmp_path / "store") as memory:
        held = asyncio.run(texts(AgentMemConversationStore(memory), "c"))
    assert len(held) in (acknowledged + 1, acknowledged + 2)
    assert held == [f"x {number}" for number in range(len(held))]
