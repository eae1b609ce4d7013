"""Sessions: what is appended comes back whole and in order, however it was appended, and by whom."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, START, FakeClock, HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import (
    AsyncMemory,
    ConflictError,
    InvalidInputError,
    Memory,
    NotFoundError,
    ScopeError,
    Session,
    SessionClosedError,
    WorkingMemory,
    operations,
)
from agentmem.client.asyncagents import AsyncSession, AsyncWorkingMemory

Open = Callable[..., Memory]
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Faro"}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "Rain in Faro."}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Will it rain in Faro?", "name": "ana"},
    CALL,
    RESULT,
    {
        "role": "assistant",
        "content": [{"type": "text", "text": "Yes."}, {"type": "image_url", "image_url": {"url": "x"}}],
    },
    {"role": "user", "content": ""},
    {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c2", "output": "42"},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "raw"}]},
]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def texts(session: Session, **options: Any) -> list[str]:
    return [turn.content for turn in session.turns(**options)]


def test_messages_come_back_as_they_were(memory: Memory) -> None:
    session = memory.session("r", user_id="ana", agent_id="guide")
    turns = session.append(MESSAGES)
    assert session.messages() == MESSAGES
    assert [turn.message for turn in turns] == MESSAGES
    assert session.turns() == turns
    assert [turn.role for turn in turns][5:8] == ["user", "assistant", "tool"]
    assert {turn.agent_id for turn in turns} == {"guide"}
    session.messages()[2]["tool_calls"].clear()
    assert session.messages()[2] == CALL


def test_what_no_content_holds_is_kept_and_its_text_found(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    odd = [
        user("a\0b ferry"),
        user("half \ud800 ferry"),
        {"role": "tool", "tool_call_id": "x", "content": "y" * 1_100_000},
    ]
    session.append(odd)
    assert session.messages() == odd
    assert len(memory.search("ferry", user_id="ana", mode="keyword")) == 2


def test_nothing_is_stored_before_the_first_append(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    assert (session.turns(), session.count(), session.info(), session.working.get()) == ([], 0, None, {})
    assert session.pop() == []
    assert memory.sessions(user_id="ana") == []
    session.append(user("hello"))
    assert [info.run_id for info in memory.sessions(user_id="ana")] == ["r"]


def test_turns_are_messages_like_others(memory: Memory) -> None:
    memory.add(user("Said before there was a session."), run_id="r", user_id="ana")
    session = memory.session("r", user_id="ana")
    session.append(user("The ferry leaves at nine."))
    memory.add(user("Added beside it."), run_id="r", user_id="ana")
    memory.add("A fact of the run, which nobody said.", run_id="r", user_id="ana")
    assert texts(session) == ["Said before there was a session.", "The ferry leaves at nine.", "Added beside it."]
    assert memory.search("when does the ferry leave", user_id="ana")[0].content == "The ferry leaves at nine."
    assert [record.layer for record in memory.recent(run_id="r", user_id="ana")][1] == "interact"
    assert memory.runs(user_id="ana")[0].records == 4


def test_sessions_of_others_are_apart(memory: Memory) -> None:
    places: list[dict[str, Any]] = [
        {},
        {"user_id": "ana"},
        {"user_id": "ben"},
        {"user_id": "ana", "agent_id": "one"},
        {"user_id": "ana", "agent_id": "two"},
        {"user_id": "ana", "namespace": ("letters",)},
    ]
    for number, place in enumerate(places):
        memory.session("r", **place).append(user(f"turn {number}"))
    found = [texts(memory.session("r", **place)) for place in places]
    # Without an agent a session is the whole run, whoever speaks.
    assert found == [["turn 0"], ["turn 1", "turn 3", "turn 4"], ["turn 2"], ["turn 3"], ["turn 4"], ["turn 5"]]
    assert len(memory.sessions(user_id="ana")) == 3
    assert [info.agent_id for info in memory.sessions(user_id="ana", agent_id="one")] == ["one"]


def test_a_view_keeps_to_itself(memory: Memory) -> None:
    view = memory.scoped(user_id="ana", run_id="r")
    view.session().append(user("hello"))
    assert texts(memory.session("r", user_id="ana")) == ["hello"]
    with pytest.raises(ScopeError):
        view.session("other")
    with pytest.raises(ScopeError):
        memory.scoped(user_id="ana").session("r", user_id="ben")
    with pytest.raises(ScopeError):
        memory.session(user_id="ana")
    with pytest.raises(ScopeError):
        memory.session("r", namespace=("$sessions",))
    session = memory.session("r", user_id="ana", namespace=("letters",))
    for other in ({"user_id": "ben"}, {"run_id": "s"}, {"namespace": ("bills",)}):
        with pytest.raises(ScopeError, match="session of its own") as caught:
            session.append({"role": "user", "content": "x", **other})
        assert "scoped()" not in str(caught.value)  # nobody called that
    with pytest.raises(ScopeError, match="bound to no user here"):
        memory.session("r").append({"role": "user", "content": "x", "user_id": "ben"})
    assert memory.count(user_id="ben") == 0


def test_last_turns_by_count_and_by_tokens(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    session.append([user("one"), CALL, RESULT, user("two"), user("three")])
    assert texts(session, limit=2) == ["two", "three"]
    assert texts(session, limit=0) == []
    first = session.turns()[3]
    assert [turn.role for turn in session.turns(2, before=first.id)] == ["assistant", "tool"]

    def count(text: str) -> int:
        return len(text.split())

    # Each message costs eight besides: "two" and "three" take 18, the result of a call goes with the call.
    assert texts(session, max_tokens=18, tokenizer=count) == ["two", "three"]
    assert texts(session, max_tokens=17, tokenizer=count) == ["three"]
    assert texts(session, max_tokens=31, tokenizer=count) == ["two", "three"]
    assert len(session.turns(max_tokens=40, tokenizer=count)) == 4
    assert session.turns(max_tokens=1) == []


def test_pop_and_undo_give_back_what_they_took(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    session.append([user("one"), {"role": "assistant", "content": "1"}, user("two"), CALL, RESULT])
    [popped] = session.pop()
    assert popped.message == RESULT
    memory.restore(popped.id)
    assert session.messages()[-1] == RESULT
    assert [turn.message for turn in session.undo()] == [user("two"), CALL, RESULT]
    assert texts(session) == ["one", "1"]
    assert [turn.content for turn in session.undo(5)] == ["one", "1"]
    assert (session.count(), session.undo()) == (0, [])


def test_clear_leaves_the_session(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    session.append([user(str(n)) for n in range(700)])
    session.working.set({"task": "x"})
    assert session.clear() == 700
    assert (session.count(), session.working.get()) == (0, {"task": "x"})
    assert session.info() is not None


def test_delete_takes_everything(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    session.append(user("x"))
    session.working.set({"task": "x"})
    assert session.delete()
    assert not session.delete()
    assert (session.turns(), session.info(), session.working.get()) == ([], None, {})
    assert memory.count(user_id="ana", under=()) == 0


def test_titles_and_metadata(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    with pytest.raises(NotFoundError):
        session.rename("x")
    session.create(title="Trip", metadata={"city": "Faro", "n": 1})
    session.rename("Trip to Faro")
    info = session.describe({"n": None, "done": False})
    assert (info.title, info.metadata) == ("Trip to Faro", {"city": "Faro", "done": False})
    assert session.rename(None).title is None
    with pytest.raises(ConflictError):
        session.create()


def test_a_closed_session_takes_nothing(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana")
    session.append(user("x"))
    clock.advance(60)
    assert session.close().closed_at == START + timedelta(seconds=60)
    with pytest.raises(SessionClosedError):
        session.append(user("y"))
    with pytest.raises(SessionClosedError):
        session.pop()
    assert texts(session) == ["x"]
    assert session.reopen().closed_at is None
    session.append(user("y"))
    assert texts(session) == ["x", "y"]


@pytest.mark.parametrize(
    "wrong",
    ["hello", ["hello"], {"content": "x"}, [user("x"), {"content": 3}], 7, [user("x"), None], iter([user("x")])],
    ids=lambda wrong: str(wrong)[:20],
)
def test_what_is_no_message_is_refused_and_nothing_is_kept(memory: Memory, wrong: Any) -> None:
    session = memory.session("r", user_id="ana")
    several = isinstance(wrong, list) and len(wrong) > 1
    with pytest.raises(InvalidInputError, match="message 1: " if several else ".") as caught:
        session.append(wrong)
    assert not several or caught.value.index == 1
    assert (session.count(), session.info()) == (0, None)


def test_a_message_with_an_id_is_there_once(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    for _ in range(2):
        session.append(
            [{"role": "user", "content": "x", "id": "m1"}, {"role": "assistant", "content": "y", "id": "m2"}]
        )
    assert texts(session) == ["x", "y"]


def test_one_of_many_creators_wins(memory: Memory) -> None:
    def create(n: int) -> bool:
        try:
            memory.session(f"r{n % 4}", user_id="ana").create(title=str(n))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(create, range(40))) == 4


@settings(max_examples=25)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 3)),
            st.tuples(st.just("elsewhere"), st.integers(1, 3)),
            st.tuples(st.just("pop"), st.integers(1, 3)),
            st.tuples(st.just("read"), st.integers(1, 9)),
            st.tuples(st.just("update"), st.integers(0, 9)),
            st.tuples(st.just("delete"), st.integers(0, 9)),
            st.tuples(st.just("restore"), st.integers(0, 9)),
            st.tuples(st.just("other"), st.just(0)),
        ),
        max_size=25,
    )
)
def test_reads_are_right_whatever_happened_since(steps: list[tuple[str, int]]) -> None:
    with Memory(":memory:", embedder=HashEmbedder()) as memory:
        session, oracle, number = memory.session("r", user_id="ana", embed=False), dict[int, str](), 0
        for step, n in steps:
            held = sorted(oracle)
            new = {number + each: f"turn {number + each}" for each in range(n)}
            number += n
            if step == "append":
                session.append([user(text) for text in new.values()])
                oracle |= new
            elif step == "elsewhere":
                memory.add_many([user(text) for text in new.values()], run_id="r", user_id="ana", embed=False)
                oracle |= new
            elif step == "pop":
                popped = session.pop(n)
                assert [turn.content for turn in popped] == [oracle.pop(each) for each in held[-n:]]
            elif step == "other":
                memory.session("other", user_id="ana", embed=False).append(user("x"))
            elif step == "update" and n < len(oracle):
                oracle[held[n]] = f"changed {held[n]} at {number}"
                memory.update(session.turns()[n].id, content=oracle[held[n]])
            elif step == "delete" and n < len(oracle):
                memory.delete(session.turns()[n].id)
                del oracle[held[n]]
            elif step == "restore" and (deleted := memory.deleted(user_id="ana", run_id="r").records):
                brought = memory.restore(deleted[n % len(deleted)].id)
                oracle[int(brought.content.split()[1])] = brought.content
            expected = [oracle[each] for each in sorted(oracle)]
            assert texts(session, limit=n) == (expected[-n:] if n else [])
        assert texts(session) == [oracle[each] for each in sorted(oracle)]
        assert session.count() == len(oracle)


def test_what_is_held_of_a_session_stays_when_turns_are_taken_back(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = memory.session("r", user_id="ana", embed=False)
    session.append([user(str(n)) for n in range(30)])
    assert len(session.turns()) == 30
    session.append(user("30"))
    read = list[int]()
    newest = operations.turns.newest

    def counted(*args: Any, **options: Any) -> Any:
        found = newest(*args, **options)
        read.append(len(found))
        return found

    monkeypatch.setattr(operations.turns, "newest", counted)
    session.pop(3)
    assert texts(session) == [str(n) for n in range(28)]
    memory.delete(session.turns()[5].id)
    assert texts(session) == [str(n) for n in range(28) if n != 5]
    assert sum(read) == 0


WRITER = """
import sys
from conftest import HashEmbedder
from agentmem import Memory
with Memory(sys.argv[1], embedder=HashEmbedder()) as memory:
    session = memory.session("r", user_id="ana")
    for n in range(8):
        call = {"role": "assistant", "content": None, "tool_calls": [{"id": f"{sys.argv[2]}-{n}"}]}
        session.append([call, {"role": "tool", "tool_call_id": f"{sys.argv[2]}-{n}", "content": str(n)}])
        session.working.merge({sys.argv[2]: n})
        assert session.messages(200)
"""


@pytest.mark.slow
def test_eight_processes_append_to_one_session(store: Path, embedder: HashEmbedder) -> None:
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""}
    with Memory(store, embedder=embedder) as memory:
        memory.session("r", user_id="ana").create()
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(store), str(n)], env=environment) for n in range(8)
        ]
        assert [writer.wait(timeout=120) for writer in writers] == [0] * 8
        session = memory.session("r", user_id="ana")
        messages = session.messages()
        assert session.count() == len(messages) == 8 * 8 * 2
        # Each pair whole and together, each writer's in its order.
        calls = [message["tool_calls"][0]["id"] for message in messages[::2]]
        assert [message["tool_call_id"] for message in messages[1::2]] == calls
        for writer in range(8):
            assert [id for id in calls if id.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(8)]
        assert session.working.get() == {str(n): 7 for n in range(8)}
        assert memory.verify().ok


def test_the_async_client_has_the_same(store: Path, embedder: HashEmbedder) -> None:
    for blocking, waiting in ((Session, AsyncSession), (WorkingMemory, AsyncWorkingMemory)):
        names = {name for name in vars(blocking) if not name.startswith("_")}
        assert {name for name in vars(waiting) if not name.startswith("_")} == names
        for name in names:
            ours, theirs = getattr(blocking, name), getattr(waiting, name)
            if not isinstance(ours, property):
                assert inspect.iscoroutinefunction(theirs), name
                assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters, name

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            session = memory.session("r", user_id="ana")
            await asyncio.gather(*(session.append(user(str(n))) for n in range(20)))
            assert sorted(int(turn.content) for turn in await session.turns()) == list(range(20))
            assert await session.working.merge({"a": 1}) == 1
            assert (await memory.sessions(user_id="ana"))[0].run_id == "r"
            await session.close()

    asyncio.run(main())


def test_working_memory(memory: Memory) -> None:
    working = memory.session("r", user_id="ana").working
    assert (working.get(), working.version()) == ({}, 0)
    assert working.set({"task": "book", "plan": {"step": 1, "left": [1, 2]}}) == 1
    assert working.merge({"plan": {"step": 2, "left": None}, "city": "Faro"}) == 2
    assert working.get() == {"task": "book", "plan": {"step": 2}, "city": "Faro"}
    assert working.delete("task", "nothing") == 3
    with pytest.raises(ConflictError):
        working.set({}, if_version=2)
    assert working.merge({"x": 1}, if_version=3) == 4
    assert working.delete() == 5
    assert working.get() == {}
    assert memory.search("Faro", user_id="ana") == []
    with pytest.raises(InvalidInputError):
        working.set([1])  # type: ignore[arg-type]


def test_working_memory_has_an_end(memory: Memory) -> None:
    working = memory.session("r", user_id="ana").working
    working.set({"a": "x" * 65_000})
    with pytest.raises(Exception, match="65,536"):
        working.merge({"b": "x" * 600})
    assert len(json.dumps(working.get())) < 65_536


def test_a_session_of_the_same_name_has_another_working_memory(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    session.working.set({"a": 1})
    session.delete()
    session.append(user("again"))
    assert session.working.get() == {}
    session.working.merge({"b": 2})
    assert session.working.get() == {"b": 2}


def test_ids_as_long_as_they_may_be(memory: Memory) -> None:
    session = memory.session("\N{GRINNING FACE}" * 512, user_id="ana", agent_id="\N{GRINNING FACE}" * 512)
    session.append(user("x"))
    assert texts(session) == ["x"]
    assert memory.sessions(user_id="ana")[0].run_id == session.run_id


def test_a_client_that_is_not_closed_goes_with_its_last_reference(store: Path, embedder: HashEmbedder) -> None:
    memory = Memory(store, embedder=embedder)
    memory.session("r", user_id="ana").append(user("x"))
    assert texts(memory.session("r", user_id="ana")) == ["x"]
    handle = weakref.ref(memory.handle)
    del memory
    gc.collect()
    assert handle() is None


def test_bad_values(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    session.append(user("x"))
    wrong: list[Callable[[Any], object]] = [
        lambda bad: session.describe(bad),
        lambda bad: session.rename(bad),
        lambda bad: session.turns(before=bad),
        lambda bad: session.turns(limit=bad),
        lambda bad: session.pop(bad),
        lambda bad: session.working.set({}, if_version=bad),
        lambda bad: memory.blocks().append("x", "y", if_version=bad),
    ]
    for call in wrong:
        with pytest.raises(InvalidInputError):
            call(1.5)
    assert texts(session) == ["x"]


def test_a_closed_session_is_not_cleared(memory: Memory) -> None:
    session = memory.session("over", user_id="ana")
    session.append({"role": "user", "content": "hello"})
    session.close()
    with pytest.raises(SessionClosedError, match="reopen"):
        session.clear()
    assert len(session.messages()) == 1
    session.reopen()
    assert session.clear() == 1
    session.close()
    assert session.delete()
