"""Summaries: sentences of the turns themselves, which stay; what is gone from those is gone from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from conftest import FakeClock

from agentmem import InvalidInputError, Memory, Session

Open = Callable[..., Memory]
SAID = [
    "My name is Ana, and I work as a nurse in Faro.",
    "We are planning a trip to Lisbon in May. The train takes three hours.",
    "The train takes three hours.",
    "ok",
    "The hotel in Lisbon is booked for four nights, from the third of May.",
    "Do you like trains?",
]


@pytest.fixture
def session(memory: Memory) -> Session:
    session = memory.session("r", user_id="ana")
    session.append([{"role": "user", "content": text} for text in SAID])
    return session


def test_what_it_says_is_what_was_said(session: Session) -> None:
    summary = session.summarize(keep=1, max_tokens=60)
    assert summary is not None
    turns = session.turns()
    assert (summary.first_id, summary.last_id, summary.covered) == (turns[0].id, turns[4].id, 5)
    for line in summary.lines:
        [source] = [turn for turn in turns if turn.id == line.turn_id]
        assert line.text in source.content
    assert len({line.text for line in summary.lines}) == len(summary.lines)
    shown = {line.turn_id for line in summary.lines}
    assert set(summary.left_out) == {turn.id for turn in turns[:5]} - shown
    assert turns[3].id in summary.left_out
    assert session.summary() == summary
    assert session.count() == len(SAID)


def test_its_lines_say_when_their_turns_were(memory: Memory) -> None:
    session, epoch = memory.session("old", user_id="ana"), datetime(1970, 1, 1, tzinfo=UTC)
    session.append([{"role": "user", "content": text, "occurred_at": epoch} for text in SAID])
    summary = session.summarize(keep=0, max_tokens=60)
    assert summary is not None
    assert {line.at for line in summary.lines} == {epoch}


def test_it_is_small_and_the_same_each_time(session: Session) -> None:
    one, other = session.summarize(keep=0, max_tokens=45), session.summarize(keep=0, max_tokens=45)
    assert one is not None
    assert other is not None
    assert one.lines == other.lines
    assert 0 < len(one.text.encode()) / 3 < 45
    assert other.version == one.version + 1


def test_a_prompt_shows_it_in_the_place_of_its_turns(session: Session) -> None:
    before = session.prompt(max_tokens=1_000, recall=0)
    summary = session.summarize(keep=2, max_tokens=200)
    assert summary is not None
    prompt = session.prompt(max_tokens=1_000, recall=0)
    assert [section.name for section in prompt.sections] == ["summary", "turns"]
    assert [turn.content for turn in prompt.turns] == SAID[-2:]
    assert prompt.manifest.ids["summary"] == tuple(line.turn_id for line in summary.lines)
    assert prompt.manifest.prefix != before.manifest.prefix
    assert prompt.messages()[0]["role"] == "user"  # what was said is no system's word
    session.append({"role": "user", "content": "And now?"})
    again = session.prompt(max_tokens=1_000, recall=0)
    assert again.manifest.prefix == prompt.manifest.prefix
    assert again.messages()[:3] == prompt.messages()


def test_what_is_gone_from_the_turns_is_gone_from_it(memory: Memory, session: Session) -> None:
    session.summarize(keep=0, max_tokens=500)
    turns = session.turns()
    memory.erase(turns[0].id)
    memory.update(turns[4].id, content="The hotel is booked.")
    summary = session.summary()
    assert summary is not None
    assert "Ana" not in summary.text
    assert "hotel" not in summary.text
    assert "train" in summary.text
    for record in memory.iterate(user_id="ana", under=()):
        assert "nurse" not in f"{record.content} {record.data}"


def test_calls_stay_with_their_results(memory: Memory) -> None:
    session = memory.session("tools", user_id="ana")
    session.append({"role": "user", "content": "Will it rain in Faro tomorrow?"})
    session.append({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]})
    session.append({"role": "tool", "tool_call_id": "c", "content": "It will rain until noon."})
    summary = session.summarize(keep=1, max_tokens=100)
    assert summary is not None
    assert summary.covered == 1
    assert [message["role"] for message in session.prompt(max_tokens=500, recall=0).messages()][1:] == [
        "assistant",
        "tool",
    ]


def test_nothing_to_summarise(memory: Memory, session: Session) -> None:
    assert session.summarize(keep=10) is None
    assert session.summary() is None
    assert memory.session("empty", user_id="ana").summarize() is None
    with pytest.raises(InvalidInputError):
        session.summarize(max_tokens=0)


def test_it_goes_with_its_session(memory: Memory, session: Session, clock: FakeClock) -> None:
    session.summarize(keep=0)
    session.delete()
    session.append({"role": "user", "content": "again"})
    assert session.summary() is None
    session.summarize(keep=0)
    clock.advance(120 * 86_400)
    memory.lifecycle.sweep()
    assert session.summary() is None
    assert memory.count(user_id="ana", under=()) == 0


def test_a_long_conversation(memory: Memory) -> None:
    session = memory.session("long", user_id="ana", embed=False)
    for start in range(0, 2_000, 500):
        session.append(
            [{"role": "user", "content": f"Turn {n} is about {n % 37} boats."} for n in range(start, start + 500)]
        )
    summary = session.summarize(max_tokens=200)
    assert summary is not None
    assert (summary.covered, len(summary.left_out)) == (1_980, 1_980 - len(summary.lines))
    assert len(summary.lines) >= 5
