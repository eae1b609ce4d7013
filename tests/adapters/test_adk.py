"""Our services under the real ``Runner`` of Google's ADK, with a stub model; processes, loops, walls, odd values."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="google-adk is not installed; pip install 'agentmem-db[adk]'")

from google.adk.agents import LlmAgent
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.tools import load_memory, preload_memory
from google.genai import types

from agentmem import AsyncMemory, ConflictError, InvalidInputError, Memory
from agentmem.adapters.adk import AgentMemMemoryService, AgentMemSessionService

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning")


class Stub(BaseLlm):
    """A model that answers with what it was shown, and asks the memory if it may and is asked to."""

    model: str = "stub"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = [part for content in llm_request.contents for part in content.parts or []]
        texts = [part.text or str(part.function_response.response) for part in parts if not part.function_call]
        shown = " | ".join([str(llm_request.config.system_instruction), *texts])  # memories are in either
        if shown.endswith("Look it up!"):
            call = types.Part.from_function_call(name="load_memory", args={"query": "the dog"})
            yield LlmResponse(content=types.Content(role="model", parts=[call]))
        else:
            yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=f"I was shown: {shown}")]))


@pytest.fixture
def memory() -> Any:
    with Memory(":memory:") as opened:
        yield opened


def content(text: str, role: str = "user") -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])


def event(text: str | None = None, author: str = "user", **fields: Any) -> Event:
    said = None if text is None else content(text)
    return Event(author=author, content=said, invocation_id="i", **fields)


def session(*events: Event, id: str = "s", user: str = "ana", app: str = "app") -> Session:
    return Session(id=id, app_name=app, user_id=user, events=list(events))


async def found(service: AgentMemMemoryService, query: str, user: str = "ana", app: str = "app") -> list[str]:
    response = await service.search_memory(app_name=app, user_id=user, query=query)
    return [" ".join(part.text or "" for part in entry.content.parts or []) for entry in response.memories]


async def say(runner: Runner, id: str, text: str, user: str = "ana") -> str:
    answers = runner.run_async(user_id=user, session_id=id, new_message=content(text))
    return [str(each.content.parts[0].text) async for each in answers if each.content and each.content.parts][-1]


def test_a_second_session_knows_what_the_first_said(tmp_path: Path) -> None:
    async def use(tools: list[Any], id: str, texts: list[str], user: str = "ana") -> list[str]:
        with Memory(tmp_path) as memory:
            agent = LlmAgent(name="guide", model=Stub(), tools=tools)
            runner = Runner(
                app_name="app",
                agent=agent,
                session_service=AgentMemSessionService(memory),
                memory_service=AgentMemMemoryService(memory),
            )
            if await runner.session_service.get_session(app_name="app", user_id=user, session_id=id) is None:
                await runner.session_service.create_session(app_name="app", user_id=user, session_id=id)
            answers = [await say(runner, id, text, user) for text in texts]
            of = await runner.session_service.get_session(app_name="app", user_id=user, session_id=id)
            assert of is not None
            assert runner.memory_service is not None
            await runner.memory_service.add_session_to_memory(of)
            return answers

    asyncio.run(use([], "monday", ["My dog is called Bobby."]))
    [again] = asyncio.run(use([], "monday", ["Good night."]))
    assert "Bobby" in again
    [preloaded] = asyncio.run(use([preload_memory], "tuesday", ["What is my dog called?"]))
    assert "Bobby" in preloaded
    [loaded] = asyncio.run(use([load_memory], "wednesday", ["Look it up!"]))
    assert "Bobby" in loaded
    [strange] = asyncio.run(use([preload_memory], "tuesday", ["What is my dog called?"], user="rui"))
    assert "Bobby" not in strange
    with Memory(tmp_path) as memory:
        assert memory.search("dog", user_id="ana") == []
        assert memory.count(user_id="ana") == 0


def test_sessions_are_added_again_and_again(memory: Memory) -> None:
    async def use() -> None:
        service = AgentMemMemoryService(memory.aio)
        events = [event("I like green tea.", id="1"), event("Noted.", author="guide", id="2"), event(id="3")]
        events.append(event("", id="4"))
        for _ in range(3):
            await service.add_session_to_memory(session(*events))
            events.append(event(f"More tea {len(events)}."))
        await service.add_session_to_memory(session(events[0], id="other"))
        await service.add_events_to_memory(app_name="app", user_id="ana", events=[events[0], events[0]])
        assert memory.count(user_id="ana", under=("adk",)) == 6
        assert "I like green tea." in await found(service, "What do I drink?")
        assert await found(service, " ") == []

        response = await service.search_memory(app_name="app", user_id="ana", query="Noted.")
        [noted] = [entry for entry in response.memories if entry.author == "guide"]
        await service.delete_memory(app_name="app", user_id="rui", memory_id=noted.id)
        await service.delete_memory(app_name="other", user_id="ana", memory_id=noted.id)
        assert "Noted." in await found(service, "Noted.")
        await service.delete_memory(app_name="app", user_id="ana", memory_id=noted.id)
        await service.delete_memory(app_name="app", user_id="ana")
        await service.add_session_to_memory(session(*events))
        assert "Noted." not in await found(service, "Noted.")
        assert memory.count(user_id="ana", under=("adk",)) == 6  # without that one, and with the last of the events

    asyncio.run(use())


def test_contents_come_back_verbatim(memory: Memory) -> None:
    async def use() -> None:
        service = AgentMemMemoryService(memory, limit=1)
        picture = types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="image/png"))
        thought = types.Part(text="They seem to mean tea.", thought=True)
        said = types.Content(role="model", parts=[thought, types.Part(text="A photo \x00 of tea"), picture])
        metadata = {"nested": {"x": None}, "user_id": "eve"}
        await service.add_events_to_memory(
            app_name="app",
            user_id="ana",
            session_id="",
            events=[Event(author="guide", content=said, timestamp=1_700_000_000.25)],
            custom_metadata=metadata,
        )
        [entry] = (await service.search_memory(app_name="app", user_id="ana", query="photo")).memories
        assert entry.content == said
        assert entry.custom_metadata == metadata
        assert entry.author == "guide"
        assert entry.timestamp == "2023-11-14T22:13:20.250000+00:00"

        one = MemoryEntry(content=content("Ana is from Faro."), author="user", timestamp="2026-01-02T03:04:05", id="1")
        for _ in range(2):
            await service.add_memory(app_name="app", user_id="ana", memories=[one], custom_metadata={"a": 1})
        assert memory.count(user_id="ana", under=("adk",)) == 2
        other = one.model_copy(update={"content": content("Ana is from Lagos.")})
        with pytest.raises(ConflictError):
            await service.add_memory(app_name="app", user_id="ana", memories=[other], custom_metadata={"a": 1})
        assert await found(service, "Where is Ana from?") == ["Ana is from Faro."]

    asyncio.run(use())


def test_nobody_reads_or_changes_what_is_anothers(memory: Memory) -> None:
    places = [("app", "ana"), ("app", "rui"), ("other", "ana"), ("", ""), ("a/b", " "), ("a%2Fb", "%20")]

    async def use() -> None:
        memories, sessions = AgentMemMemoryService(memory), AgentMemSessionService(memory)
        for app, user in places:
            one = await sessions.create_session(
                app_name=app, user_id=user, session_id="same", state={"user:x": f"{app} {user}", "app:y": app}
            )
            await sessions.append_event(one, event(f"secret {app} {user}", id="1"))
            await memories.add_session_to_memory(one)
        for app, user in places:
            assert await found(memories, "secret", user, app) == [f"secret {app} {user}"]
            one = await sessions.get_session(app_name=app, user_id=user, session_id="same")
            assert one is not None
            assert [each.content for each in one.events] == [content(f"secret {app} {user}")]
            assert one.state == {"user:x": f"{app} {user}", "app:y": app}
            assert await sessions.get_user_state(app_name=app, user_id=user) == {"x": f"{app} {user}"}
        listed = await sessions.list_sessions(app_name="app")
        assert sorted(each.user_id for each in listed.sessions) == ["ana", "rui"]
        await sessions.delete_session(app_name="app", user_id="ana", session_id="same")
        assert await sessions.get_session(app_name="app", user_id="ana", session_id="same") is None
        for app, user in places[1:]:
            assert await sessions.get_session(app_name=app, user_id=user, session_id="same") is not None
        again = await sessions.create_session(app_name="app", user_id="ana", session_id="same")
        assert (
            again.events == (await sessions.get_session(app_name="app", user_id="ana", session_id="same")).events == []
        )

    asyncio.run(use())


def random_event(rng: random.Random, number: int) -> Event:
    delta = {
        rng.choice(["a", "b", "app:a", "user:a", "user:b", "temp:a"]): rng.choice(
            [None, 1, 0.1 + 0.2, "x", [1], {"k": {}}]
        )
        for _ in range(rng.randint(0, 3))
    }
    parts = rng.choice([
        [types.Part(text=rng.choice(["hi", "", "nul \x00"]))],
        [types.Part(inline_data=types.Blob(data=rng.randbytes(30), mime_type="image/png"))],
        [types.Part.from_function_call(name="f", args={"x": None, "y": [1.5]})],
    ])  # fmt: skip
    return Event(
        id=f"e{number}", invocation_id="i", author=rng.choice(["user", "guide"]), timestamp=1_700_000_000.0 + number,
        content=rng.choice([None, types.Content(role="user", parts=parts)]),
        partial=rng.choice([None, None, None, True]),
        actions=EventActions(state_delta=delta),
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(InMemorySessionService, "get_user_state"), reason="an ADK of before this contract")
@pytest.mark.parametrize("seed", range(2))
def test_sessions_are_as_adks_own(seed: int, memory: Memory) -> None:
    """300 random calls of ours and of ``InMemorySessionService``: but for times of creation, the same answers."""
    rng, both = random.Random(seed), (InMemorySessionService(), AgentMemSessionService(memory))

    def plain(answer: Any) -> Any:
        if isinstance(answer, Session):
            said = answer.model_dump(mode="json", exclude={"last_update_time"})
            return {**said, "at": answer.last_update_time if answer.events else None}
        if isinstance(answer, Exception):
            return type(answer).__name__
        return answer

    async def one(service: Any, name: str, arguments: dict[str, Any]) -> Any:
        try:
            if name == "append_event":
                of = await service.get_session(**{key: arguments[key] for key in ("app_name", "user_id", "session_id")})
                of = of or Session(id=arguments["session_id"], app_name="app", user_id=arguments["user_id"])
                made = await service.append_event(of, arguments["event"].model_copy(deep=True))
                return [plain(of), made.model_dump(mode="json")]
            answer = await getattr(service, name)(**arguments)
            if name == "list_sessions":
                return sorted((each.id, repr(sorted(each.state.items()))) for each in answer.sessions)
            return plain(answer)
        except (AlreadyExistsError, SessionNotFoundError) as exc:
            return plain(exc)

    async def use() -> int:
        differing = 0
        for number in range(300):
            name = rng.choices(
                ["append_event", "get_session", "create_session", "list_sessions", "delete_session", "get_user_state"],
                [50, 25, 12, 4, 3, 6],
            )[0]
            arguments: dict[str, Any] = {"app_name": "app", "user_id": rng.choice(["ana", "rui"])}
            if name not in ("list_sessions", "get_user_state"):
                arguments["session_id"] = rng.choice(["one", "two", " padded "])
            if name == "create_session":
                arguments["state"] = rng.choice([None, {}, {"a": 1, "user:b": 2, "app:c": [None], "temp:d": 4}])
            if name == "get_session" and rng.random() < 0.6:
                since = rng.choice([None, 1_700_000_000.0 + number - 20])
                arguments["config"] = GetSessionConfig(
                    num_recent_events=rng.choice([None, 0, 1, 5]), after_timestamp=since
                )
            if name == "append_event":
                arguments["event"] = random_event(rng, number - rng.choice([0, 0, 0, 5]))
                arguments["session_id"] = arguments["session_id"].strip()
            theirs, ours = [await one(service, name, arguments) for service in both]
            assert theirs == ours, f"step {number}: {name} {arguments}"
            differing += 1
        return differing

    assert asyncio.run(use()) == 300


def test_one_service_serves_loops_and_threads(tmp_path: Path) -> None:
    memories, sessions = AgentMemMemoryService(tmp_path), AgentMemSessionService(tmp_path)

    async def use(name: str) -> None:
        one = await sessions.create_session(app_name="app", user_id=name)
        for n in range(5):
            await sessions.append_event(one, event(f"{name} {n}", actions=EventActions(state_delta={"n": n})))
        await asyncio.gather(*(memories.add_session_to_memory(one) for _ in range(5)))
        assert len(await found(memories, name, name)) == 5
        read = await sessions.get_session(app_name="app", user_id=name, session_id=one.id)
        assert read is not None
        assert (read.events, read.state) == (one.events, {"n": 4})

    for name in ("alpha", "beta", "gamma"):
        asyncio.run(use(name))
    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in ("delta", "epsilon")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asyncio.run(sessions.list_sessions(app_name="app")).sessions) == 5
    memories.close()
    sessions.close()


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    begin = (
        "import asyncio\n"
        "from google.adk.events import Event, EventActions\n"
        "from google.genai import types\n"
        "from google.adk.errors.already_exists_error import AlreadyExistsError\n"
        "from agentmem.adapters.adk import AgentMemMemoryService, AgentMemSessionService\n"
        f"service = AgentMemSessionService({str(folder)!r})\n"
    )
    return subprocess.Popen([sys.executable, "-c", begin + code], stdout=subprocess.PIPE, text=True, env=os.environ)


def test_processes_race_and_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    code = (
        "async def use():\n"
        "    for n in range(20):\n"
        "        try:\n"
        "            await service.create_session(app_name='app', user_id='ana', session_id=f'raced {n}')\n"
        "            print(f'won {n}', flush=True)\n"
        "        except AlreadyExistsError:\n"
        "            pass\n"
        "    for n in range(10**9):\n"
        "        while True:\n"
        "            one = await service.get_session(app_name='app', user_id='ana', session_id='raced 0')\n"
        "            delta = {'user:count': one.state.get('user:count', 0) + 1}\n"
        "            event = Event(author='user', invocation_id='i', actions=EventActions(state_delta=delta))\n"
        "            try:\n"
        "                await service.append_event(one, event)\n"
        "                break\n"
        "            except ValueError:\n"  # stale
        "                pass\n"
        "        print(n, flush=True)\n"
        "asyncio.run(use())"
    )
    children = [child(code, tmp_path) for _ in range(3)]
    lines = [[] for _ in children]
    for process, said in zip(children, lines, strict=True):
        assert process.stdout is not None
        while "4\n" not in said:
            line = process.stdout.readline()
            assert line, "the process has ended"
            said.append(line)
    for process, said in zip(children, lines, strict=True):
        process.send_signal(signal.SIGKILL)
        said += process.communicate()[0].splitlines(keepends=True)
    assert sorted(line for said in lines for line in said if "won" in line) == sorted(f"won {n}\n" for n in range(20))
    acknowledged = sum(line[0].isdigit() for said in lines for line in said)
    service = AgentMemSessionService(tmp_path)
    one = asyncio.run(service.get_session(app_name="app", user_id="ana", session_id="raced 0"))
    assert one is not None
    assert acknowledged <= len(one.events) <= acknowledged + 3
    assert one.state["user:count"] == len(one.events)  # no change of the state was lost
    service.close()


def test_a_state_is_kept_as_json(memory: Memory) -> None:
    async def use() -> None:
        service = AgentMemSessionService(memory)
        state = {"s": {1}, "b": b"\xff", "o": object, "inf": float("inf"), "user:none": None}
        one = await service.create_session(app_name="app", user_id="u" * 3_000, session_id="s" * 3_000, state=state)
        said = content("half \ud800 tea")
        await service.append_event(
            one, Event(author="user", content=said, actions=EventActions(state_delta={"b": b"\xfe", "temp:x": 1}))
        )
        assert one.state["temp:x"] == 1
        read = await service.get_session(app_name="app", user_id="u" * 3_000, session_id="s" * 3_000)
        assert read is not None
        assert read.state == {"s": [1], "b": "_g==", "o": str(object), "inf": float("inf"), "user:none": None}
        assert [each.content for each in read.events] == [said]

    asyncio.run(use())


def test_a_stale_session_is_refused(memory: Memory) -> None:
    async def use() -> None:
        service = AgentMemSessionService(memory)
        await service.create_session(app_name="app", user_id="ana", session_id="s")
        two = [await service.get_session(app_name="app", user_id="ana", session_id="s") for _ in range(2)]
        await service.append_event(two[0], event("first"))
        with pytest.raises(ValueError, match="read it again"):
            await service.append_event(two[1], event("second"))
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session(id="none"), event("x"))

    asyncio.run(use())


def test_any_client_will_do() -> None:
    async def use() -> None:
        async with AsyncMemory(":memory:") as memory:
            service = AgentMemMemoryService(memory, limit=1, search_kwargs={"min_similarity": 0.1})
            await service.add_session_to_memory(session(event("kept")))
            service.close()
            assert await found(service, "kept") == ["kept"]
            assert memory.blocking.erase_all(user_id="ana").erased == 1

    asyncio.run(use())
    with pytest.raises(InvalidInputError, match="a Memory, an AsyncMemory or a path"):
        AgentMemSessionService(5)  # type: ignore[arg-type]
