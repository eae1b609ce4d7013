"""Our providers under the real ``Agent`` of Microsoft's Agent Framework, with a stub; processes, loops, walls."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip(
    "agent_framework", reason="agent-framework-core is not installed; pip install 'agentmem-db[agent-framework]'"
)

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    Content,
    InMemoryHistoryProvider,
    Message,
    SessionContext,
    _sessions,
)

from agentmem import AsyncMemory, InvalidInputError, Memory
from agentmem.adapters.agent_framework import AgentMemContextProvider, AgentMemHistoryProvider

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"
)


class Stub(BaseChatClient):
    """A model that answers with what it was shown."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Any:
        async def answer() -> ChatResponse:
            shown = " | ".join(message.text for message in messages)
            return ChatResponse(messages=[Message("assistant", [f"I was shown: {shown}"])])

        return answer()


@pytest.fixture
def memory() -> Any:
    with Memory(":memory:") as opened:
        yield opened


def said(text: str, role: str = "user", **fields: Any) -> Message:
    return Message(role, [text], **fields)


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def agent(memory: Any, user: str = "ana") -> Agent:
    return Agent(
        client=Stub(),
        context_providers=[
            AgentMemContextProvider(memory, user_id=user),
            AgentMemHistoryProvider(memory, user_id=user),
        ],
    )


def test_a_second_session_knows_what_the_first_said(tmp_path: Path) -> None:
    async def use(session_id: str, text: str, user: str = "ana") -> str:
        with Memory(tmp_path) as memory:
            return (await agent(memory, user).run(text, session=AgentSession(session_id=session_id))).text

    asyncio.run(use("monday", "My dog is called Bobby."))
    asyncio.run(use("monday", "Good night."))
    assert "My dog is called Bobby. | I was shown" in asyncio.run(use("monday", "Hello again."))
    answer = asyncio.run(use("tuesday", "What is my dog called?"))
    assert "user: My dog is called Bobby." in answer
    assert "Bobby" not in asyncio.run(use("tuesday", "What is my dog called?", user="rui"))
    with Memory(tmp_path) as memory:
        history = AgentMemHistoryProvider(memory, user_id="ana")
        kept = asyncio.run(history.get_messages("tuesday"))
        assert texts(kept) == ["What is my dog called?", answer]  # not what was recalled for it
        assert memory.count(user_id="ana", run_id="monday") == 6
        assert asyncio.run(agent(memory).run("No session: what is my dog called?")).text.count("Bobby") > 0


def test_messages_come_back_verbatim_and_pollute_nothing(memory: Memory) -> None:
    messages = [
        Message("user", ["nul \x00 half \ud800", Content.from_data(bytes(range(256)), media_type="image/png")]),
        Message("assistant", [Content.from_function_call("c1", "f", arguments={"x": None})], author_name="guide"),
        Message("tool", [Content.from_function_result("c1", result="18 degrees")], message_id="m1"),
        Message("assistant", [], additional_properties={"user_id": "eve", "n": None}),
        Message("user", ["tea " * 1_250_000]),
    ]

    async def use() -> None:
        for session in ("s", "", None, "x" * 3_000, "%none", " "):
            provider = AgentMemHistoryProvider(memory.aio, user_id="ana")
            await provider.save_messages(session, messages)
            kept = await provider.get_messages(session)
            assert [each.to_dict() for each in kept] == [each.to_dict() for each in messages]
        await provider.clear(None)
        assert await provider.get_messages(None) == []
        assert len(await provider.get_messages("%none")) == 5
        excluded = said("old", additional_properties={"_excluded": True})
        await provider.save_messages("e", [excluded, said("new")])
        assert texts(await provider.get_messages("e")) == ["old", "new"]
        short = AgentMemHistoryProvider(memory, user_id="ana", skip_excluded=True)
        assert texts(await short.get_messages("e")) == ["new"]

    asyncio.run(use())
    assert memory.search("tea", user_id="ana") == []
    assert memory.count(user_id="ana") == 0


@pytest.mark.skipif(not hasattr(_sessions, "filter_new_messages"), reason="a framework that leaves out none")
@pytest.mark.parametrize("seed", range(3))
def test_repetitions_are_left_out_as_by_the_frameworks_own(seed: int, memory: Memory) -> None:
    """200 random saves of ours and of ``InMemoryHistoryProvider``: turns, and whole transcripts again."""
    rng = random.Random(seed)
    theirs, ours = InMemoryHistoryProvider(), AgentMemHistoryProvider(memory)

    async def use() -> None:
        for step in range(200):
            if step % 20 == 0:
                state: dict[str, Any] = {}
                await ours.clear("s")
            known = await theirs.get_messages("s", state=state)
            new = [
                said(
                    rng.choice(["yes", "no"]),
                    rng.choice(["user", "assistant"]),
                    message_id=rng.choice([None, None, "1", "2"]),
                )
                for _ in range(rng.randint(0, 3))
            ]
            head = rng.choice([[], [], known, known[-1:], known[-3:], [said("system", "system"), *known]])
            for provider in (theirs, ours):
                await provider.save_messages("s", [*head, *new], state=state)
            kept = await ours.get_messages("s")
            assert [each.to_dict() for each in kept] == [
                each.to_dict() for each in await theirs.get_messages("s", state=state)
            ]

    asyncio.run(use())


def test_nobody_reads_or_changes_what_is_anothers(memory: Memory) -> None:
    async def use() -> None:
        providers = {
            "ana": AgentMemHistoryProvider(memory, user_id="ana"),
            "rui": AgentMemHistoryProvider(memory, user_id="rui"),
            "nobody": AgentMemHistoryProvider(memory),
            "other": AgentMemHistoryProvider(memory, user_id="ana", source_id="other"),
            "view": AgentMemHistoryProvider(memory.scoped(user_id="eva")),
        }
        sessions = ["same", "", None, "%", "a/b", "a%2Fb"]
        for name, provider in providers.items():
            for session in sessions:
                await provider.save_messages(session, [said(f"{name} {session}")])
        for name, provider in providers.items():
            for session in sessions:
                assert texts(await provider.get_messages(session)) == [f"{name} {session}"]
        for session in sessions:
            await providers["ana"].clear(session)
        for name, provider in list(providers.items())[1:]:
            assert texts(await provider.get_messages("same")) == [f"{name} same"]

    asyncio.run(use())


def test_what_is_remembered_is_chosen(memory: Memory) -> None:
    async def use() -> None:
        provider = AgentMemContextProvider(memory, user_id="ana", agent_id="guide", prompt="Known:", max_tokens=30)
        narrow = {"filters": {"$role": "user"}}
        quiet = AgentMemContextProvider(
            memory, user_id="ana", source_id="quiet", prompt="Own:", own_session=True, store=False, search_kwargs=narrow
        )
        both = Agent(client=Stub(), context_providers=[provider, quiet])
        session = AgentSession(session_id=" odd ")
        await both.run([Message("system", ["Be kind."]), Message("user", ["I like tea.\x00"])], session=session)
        for _ in range(2):  # said again word for word
            await both.run("I like tea.\x00", session=session)
        records = list(memory.iterate(user_id="ana", order="oldest"))
        assert {record.run_id for record in records} == {"%20odd%20"}
        assert {record.agent_id for record in records} == {"guide"}
        assert {record.layer for record in records} == {"assets"}
        assert [record.content for record in records if record.role == "user"] == ["I like tea.\ufffd"]
        answer = (await both.run("What do I like?", session=session)).text
        assert "Own:\n" in answer
        assert "Known:" not in answer
        answer = (await both.run("What do I like?", session=AgentSession())).text
        assert "Known:\n" in answer
        other = AgentMemContextProvider(memory, user_id="ana", prompt="Other:", search_kwargs=narrow)
        context = SessionContext(session_id=session.session_id, input_messages=[said("What do I like?")])
        await other.before_run(agent=None, session=session, context=context, state={})
        assert "like tea" not in str(texts(context.get_messages()))
        assert await Agent(client=Stub(), context_providers=[provider]).run([], session=session)

    asyncio.run(use())


def test_one_provider_serves_loops_and_threads(tmp_path: Path) -> None:
    history, recalled = AgentMemHistoryProvider(tmp_path), AgentMemContextProvider(tmp_path, user_id="ana")
    one = Agent(client=Stub(), context_providers=[recalled, history])

    async def use(name: str) -> None:
        await asyncio.gather(
            *(one.run(f"{name} {n}", session=AgentSession(session_id=f"{name} {n}")) for n in range(5))
        )
        for n in range(5):
            assert texts(await history.get_messages(f"{name} {n}"))[0] == f"{name} {n}"
        assert name in (await one.run(name)).text

    for name in ("alpha", "beta", "gamma"):
        asyncio.run(use(name))
    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in ("delta", "epsilon")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history.close()
    assert len(asyncio.run(history.get_messages("alpha 0"))) == 2  # opened again
    history.close()
    recalled.close()


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    begin = (
        "import asyncio\n"
        "from agent_framework import Message\n"
        "from agentmem.adapters.agent_framework import AgentMemHistoryProvider\n"
        f"history = AgentMemHistoryProvider({str(folder)!r})\n"
    )
    return subprocess.Popen([sys.executable, "-c", begin + code], stdout=subprocess.PIPE, text=True, env=os.environ)


def test_processes_race_and_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    code = (
        "async def use():\n"
        "    for n in range(10**9):\n"
        "        turn = [Message('user', [f'NAME-{n}-0']), Message('assistant', [f'NAME-{n}-1'])]\n"
        "        await history.save_messages('s', turn)\n"
        "        print(n, flush=True)\n"
        "asyncio.run(use())"
    )
    children = {name: child(code.replace("NAME", name), tmp_path) for name in "abc"}
    acknowledged = dict[str, int]()
    for name, process in children.items():
        assert process.stdout is not None
        acknowledged[name] = [int(process.stdout.readline()) for _ in range(10)][-1]
    for name, process in children.items():
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        acknowledged[name] = int(rest[-1]) if rest else acknowledged[name]
    history = AgentMemHistoryProvider(tmp_path)
    kept = texts(asyncio.run(history.get_messages("s")))
    for name, last in acknowledged.items():
        of_one = [text for text in kept if text.startswith(name)]
        assert of_one == [f"{name}-{n}-{part}" for n in range(len(of_one) // 2) for part in (0, 1)]
        assert len(of_one) >= 2 * (last + 1)
    pairs = zip(kept[::2], kept[1::2], strict=True)
    assert all(one[:-1] == other[:-1] for one, other in pairs)  # what was added together stays together
    history.close()


def test_any_client_will_do() -> None:
    async def use() -> None:
        async with AsyncMemory(":memory:") as memory:
            history = AgentMemHistoryProvider(memory)
            await history.save_messages(None, [said("kept")])
            history.close()
            assert texts(await history.get_messages(None)) == ["kept"]

    asyncio.run(use())
    with pytest.raises(InvalidInputError, match="a Memory, an AsyncMemory or a path"):
        AgentMemContextProvider(5)  # type: ignore[arg-type]


def test_ids_of_a_database_are_ids_of_sessions(memory: Memory) -> None:
    history = AgentMemHistoryProvider(memory, user_id="ana")
    agent = Agent(client=Stub(), context_providers=[AgentMemContextProvider(memory, user_id="ana"), history])
    for id in (42, UUID(int=42)):
        asyncio.run(agent.run("I like tea.", session=AgentSession(session_id=id)))  # type: ignore[arg-type]
        assert asyncio.run(history.get_messages(str(id)))[0].text == "I like tea."
