"""The session repository and the memory store for Strands: what its own tests cannot see."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentmem import Memory

pytest.importorskip("strands", reason="strands-agents is not installed")

from strands import Agent
from strands.memory import MemoryManager
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from agentmem.adapters.strands import NAMESPACE, AgentMemSessionRepository, AgentMemStore


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "store") as opened:
        yield opened


class SaysAgain(Model):
    """A model that says again all that users said, and what stands before it for them."""

    def update_config(self, **_: Any) -> None: ...

    def get_config(self) -> Any:
        return {}

    async def structured_output(self, *_: Any, **__: Any) -> Any:
        yield {}

    async def stream(self, messages: Any, *_: Any, **__: Any) -> Any:
        said = [
            part["text"] for each in messages if each["role"] == "user" for part in each["content"] if "text" in part
        ]
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": " ".join(said)}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def said(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def begin(repository: AgentMemSessionRepository, session: str = "s", agent: str = "a") -> None:
    repository.create_session(Session(session, SessionType.AGENT))
    repository.create_agent(session, SessionAgent(agent, {}, {}))


MESSAGES: list[Any] = [
    said("tea"),
    said(""),
    said("a\x00b \ud800"),
    {"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": b"\x00\xff" * 100_000}}}]},
    {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "x", "input": {"a": None, "b": 10**20}}}]},
    {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "y"}]}}]},
    {"role": "user", "content": []},
]


def test_any_message_comes_back_as_it_was(memory: Memory) -> None:
    repository = AgentMemSessionRepository(memory)
    begin(repository)
    for number, message in enumerate(MESSAGES):
        repository.create_message("s", "a", SessionMessage(message, number))
    assert [each.message for each in repository.list_messages("s", "a")] == MESSAGES
    assert [repository.read_message("s", "a", n).message for n in range(len(MESSAGES))] == MESSAGES  # type: ignore[union-attr]
    assert [each.message_id for each in repository.list_messages("s", "a", limit=2, offset=3)] == [3, 4]


def test_messages_come_by_their_numbers(memory: Memory) -> None:
    repository = AgentMemSessionRepository(memory)
    begin(repository)
    for number in (10, 2, 0, 33):
        repository.create_message("s", "a", SessionMessage(said(str(number)), number))
    assert [each.message_id for each in repository.list_messages("s", "a")] == [0, 2, 10, 33]
    first = repository.read_message("s", "a", 2)
    assert first is not None
    changed = SessionMessage(first.message, 2, redact_message=said("[redacted]"), created_at="later")
    repository.update_message("s", "a", changed)
    held = repository.read_message("s", "a", 2)
    assert held is not None
    assert held.to_message() == said("[redacted]")
    assert held.created_at == first.created_at


def test_state_of_an_agent_comes_back(memory: Memory) -> None:
    repository = AgentMemSessionRepository(memory)
    begin(repository)
    first = repository.read_agent("s", "a")
    assert first is not None
    repository.update_agent("s", SessionAgent("a", {"k": [None, 1.5]}, {"n": 1}, {"x": {}}, created_at="later"))
    held = repository.read_agent("s", "a")
    assert held is not None
    assert (held.state, held.conversation_manager_state, held._internal_state) == (
        {"k": [None, 1.5]},
        {"n": 1},
        {"x": {}},
    )
    assert held.created_at == first.created_at


def test_what_is_not_there_or_is_there_already_says_so(memory: Memory) -> None:
    repository = AgentMemSessionRepository(memory)
    calls: list[Callable[[], Any]] = [
        lambda: repository.create_agent("s", SessionAgent("a", {}, {})),
        lambda: repository.update_agent("s", SessionAgent("a", {}, {})),
        lambda: repository.create_message("s", "a", SessionMessage(said("x"), 0)),
        lambda: repository.update_message("s", "a", SessionMessage(said("x"), 0)),
        lambda: repository.delete_session("s"),
    ]
    for call in calls:
        with pytest.raises(SessionException, match="does not exist"):
            call()
    assert (
        repository.read_session("s") is repository.read_agent("s", "a") is repository.read_message("s", "a", 0) is None
    )
    assert repository.list_messages("s", "a") == []
    begin(repository)
    repository.create_message("s", "a", SessionMessage(said("x"), 0))
    for call in (lambda: repository.create_session(Session("s", SessionType.AGENT)), calls[0], calls[2]):
        with pytest.raises(SessionException, match="already exists"):
            call()


IDS = ["", " ", "a", "a/b", "%", "agent/a", "session", "\u00e9", "e\u0301", "\x00", "x" * 3_000, "$s", ".."]


def test_every_id_is_its_own_and_a_deleted_session_begins_anew(memory: Memory) -> None:
    repository = AgentMemSessionRepository(memory)
    for id in IDS:
        begin(repository, id, id)
        repository.create_message(id, id, SessionMessage(said(repr(id)), 0))
    for id in IDS:
        assert repository.list_messages(id, id)[0].message == said(repr(id))
        assert repository.read_session(id).session_id == id  # type: ignore[union-attr]
    repository.delete_session("a")
    assert repository.list_messages("a", "a") == []
    assert len([id for id in IDS if repository.read_session(id)]) == len(IDS) - 1
    begin(repository)
    begin(repository, "a", "b")
    assert repository.read_agent("a", "a") is None


def test_tenants_share_nothing_and_nothing_shows_among_memories(memory: Memory) -> None:
    repositories = [
        AgentMemSessionRepository(memory), AgentMemSessionRepository(memory, user_id="ana"),
        AgentMemSessionRepository(memory, user_id="ana", namespace=("other",)),
        AgentMemSessionRepository(memory.scoped(user_id="eve")),
    ]  # fmt: skip
    memory.add("green tea", user_id="ana")
    for number, repository in enumerate(repositories):
        begin(repository)
        repository.create_message("s", "a", SessionMessage(said(f"green tea {number}"), 0))
    repositories[1].delete_session("s")
    held = [[each.message for each in repository.list_messages("s", "a")] for repository in repositories]
    assert held == [[said("green tea 0")], [], [said("green tea 2")], [said("green tea 3")]]
    assert len(memory.search("green tea", user_id="ana")) == memory.count(user_id="ana") == 1
    assert memory.context("green tea", user_id="ana", max_tokens=100).count("tea") == 1
    assert len(memory.search("tea", user_id="eve", under=NAMESPACE, mode="keyword")) == 1
    memory.erase_all(user_id="eve")
    assert repositories[3].read_session("s") is None


def test_of_many_creators_one_wins(memory: Memory) -> None:
    repository = AgentMemSessionRepository(memory)
    begin(repository)

    def create(number: int) -> bool:
        try:
            repository.create_message("s", "a", SessionMessage(said(str(number)), number % 20))
        except SessionException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(100))) == 20
    assert len(repository.list_messages("s", "a")) == 20


def test_the_second_session_knows_what_the_first_was_told(tmp_path: Path) -> None:
    def ask(text: str) -> str:
        with Memory(tmp_path / "own") as memory:
            manager = RepositorySessionManager("trip", AgentMemSessionRepository(memory, user_id="ana"))
            return str(Agent(model=SaysAgain(), session_manager=manager, agent_id="guide", callback_handler=None)(text))

    ask("We stay in Faro.")
    assert "Faro" in ask("Where do we stay?")


def test_an_agent_remembers_by_the_store(memory: Memory) -> None:
    store = AgentMemStore(memory, user_id="ana")
    asyncio.run(store.add("Ana stays in Faro.", {"source": "chat", "deep": {"a": [None]}}))
    asyncio.run(store.add("Ana stays in Faro.", {"source": "chat", "deep": {"a": [None]}}))
    memory.add("Rui stays in Porto.", user_id="rui")
    [entry] = asyncio.run(store.search("Where does Ana stay?"))
    assert entry.content == "Ana stays in Faro."
    assert entry.metadata is not None
    assert entry.metadata["source"] == "chat"
    assert asyncio.run(store.search("  ")) == asyncio.run(store.search("x", {"max_search_results": 0})) == []
    agent = Agent(model=SaysAgain(), memory_manager=MemoryManager(stores=[store]), callback_handler=None)
    assert "Faro" in str(agent("Where do I stay?"))

    async def at_once() -> list[Any]:
        return await asyncio.gather(*(store.add(f"fact {n}") for n in range(20)), store.search("fact"))

    assert len(asyncio.run(at_once())) == 21
    assert memory.count(user_id="ana") == 21


def test_a_repository_works_inside_a_running_loop_and_opens_again(tmp_path: Path) -> None:
    repository = AgentMemSessionRepository(tmp_path / "own")

    async def inside() -> None:
        begin(repository)
        await asyncio.to_thread(repository.create_message, "s", "a", SessionMessage(said("x"), 0))

    asyncio.run(inside())
    repository.close()
    assert len(repository.list_messages("s", "a")) == 1
    repository.close()


MANY = """
import sys
from agentmem import Memory
from agentmem.adapters.strands import AgentMemSessionRepository
from strands.types.session import SessionMessage

with Memory(sys.argv[1]) as memory:
    repository = AgentMemSessionRepository(memory)
    for number in range(10_000):
        message = {"role": "user", "content": [{"text": str(number)}]}
        repository.create_message("s", "a", SessionMessage(message, number))
        print(number, flush=True)
"""


def test_what_was_created_is_there_after_a_kill(tmp_path: Path) -> None:
    with Memory(tmp_path / "store") as memory:
        begin(AgentMemSessionRepository(memory))
    process = subprocess.Popen([sys.executable, "-c", MANY, tmp_path / "store"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = [process.stdout.readline() for _ in range(12)][-1]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.communicate()
    acknowledged = int(rest[-1] if rest else last)
    with Memory(tmp_path / "store") as memory:
        held = AgentMemSessionRepository(memory).list_messages("s", "a")
    assert len(held) in (acknowledged + 1, acknowledged + 2)
    assert [each.message for each in held] == [said(str(number)) for number in range(len(held))]


def test_what_a_user_pastes_is_searched_by_its_beginning(memory: Memory) -> None:
    memory.add("Ana drinks green tea.", user_id="ana")
    store = AgentMemStore(memory, user_id="ana")
    for query in ("Which tea does she drink? " + "x" * 200_000, "tea \ud800", "tea\x00"):
        assert [each.content for each in asyncio.run(store.search(query))] == ["Ana drinks green tea."]
