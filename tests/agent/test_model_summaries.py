"""Summaries that a model writes: with evidence, paid for once, under caps; what fails is said, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import InvalidInputError, Memory, Settings
from agentmem.errors import ModelError
from agentmem.ports import Reply

_USERS = count()
Told = list[dict[str, Any]]
USED = 2_500
"""Tokens of each call."""


class Writing:
    """A model whose lines a function makes of the messages that it is shown."""

    name = "writing"

    def __init__(self, answer: Callable[[Told], Any]) -> None:
        self.answer = answer
        self.asked = list[Told]()

    def complete(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, schema: Any, timeout: float) -> Reply:
        shown = [json.loads(line) for line in messages[-1]["content"].splitlines() if line.startswith("{")]
        self.asked.append(shown)
        said = self.answer(shown)
        return Reply(said if isinstance(said, str) else json.dumps({"lines": said}), USED - 50, 50)


def line(text: str, *messages: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": text, "evidence": [{"message": each["id"], "quote": each["text"]} for each in messages]}


def good(shown: Told) -> Told:
    """Two messages a line."""
    return [
        line(f"Saw {' and '.join(each['text'].split()[-1] for each in pair)}.", *pair)
        for pair in (shown[at : at + 2] for at in range(0, len(shown), 2))
    ]


def on_disk(memory: Memory, folder: Path) -> bytes:
    """All that the store's files say."""
    memory.flush()
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def memory(folder: Path) -> Iterator[Memory]:
    chosen = Settings(consolidation={"max_user_day_tokens": 60_000})
    with Memory(folder, embedder=HashEmbedder(), clock=FakeClock(), settings=chosen) as memory:
        yield memory


@pytest.fixture
def ana() -> str:
    """Another user in each test."""
    return f"ana {next(_USERS)}"


@pytest.fixture
def session(memory: Memory, ana: str) -> Any:
    """Of 12 turns."""
    session = memory.session("r", user_id=ana)
    session.append([{"role": "user", "content": f"We saw boat{n}"} for n in range(12)])
    return session


def test_a_model_writes_it_and_is_asked_about_what_is_new(memory: Memory, ana: str, session: Any) -> None:
    model = Writing(good)
    summary = session.summarize(keep=4, max_tokens=1_000, model=model)
    assert summary.text.splitlines() == [f"Saw boat{n} and boat{n + 1}." for n in range(0, 8, 2)]
    assert (summary.model, summary.failures, summary.left_out, summary.covered) == ("writing", (), (), 8)
    turns = session.turns()
    assert summary.lines[0].sources == (turns[0].id, turns[1].id)
    assert (summary.lines[0].turn_id, summary.lines[0].at) == (turns[0].id, turns[0].at)
    assert summary.lines[0].role == "summary"
    assert session.count() == 12
    assert session.summarize(keep=4, max_tokens=1_000, model=model).text == summary.text
    assert len(model.asked) == 1
    assert "Saw boat0 and boat1." in session.prompt(max_tokens=2_000).text()
    assert memory.search("Saw boat0 and boat1.", user_id=ana, kinds=["summary"]) == []
    session.append([{"role": "user", "content": f"We saw ship{n}"} for n in range(40)])
    session.summarize(keep=0, max_tokens=5_000, model=model)
    assert [len(each) for each in model.asked] == [8, 40, 12]
    assert session.summarize(keep=4).model is None


def test_what_is_erased_changed_or_deleted_is_gone_from_it(memory: Memory, folder: Path, ana: str) -> None:
    session = memory.session("r", user_id=ana)
    turns = session.append([{"role": "user", "content": f"We saw yacht{n}"} for n in range(8)])
    session.summarize(keep=0, max_tokens=1_000, model=Writing(good))
    memory.update(turns[2].id, content="We saw nothing")
    memory.delete(turns[4].id)
    assert session.summary().text == "Saw yacht0 and yacht1.\nSaw yacht6 and yacht7."
    memory.erase(turns[0].id)
    assert session.summary().text == "Saw yacht6 and yacht7."
    memory.erase(turns[1].id)  # the last one that says so
    assert b"yacht6 and yacht7" in on_disk(memory, folder)
    assert b"yacht0 and yacht1" not in on_disk(memory, folder)
    session.delete()
    assert session.summary() is None
    memory.erase_all(user_id=ana)
    assert b"yacht6 and yacht7" not in on_disk(memory, folder)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda shown: "nothing", "not JSON"),
        (
            lambda shown: [line("Saw whales.", {"id": "m1", "text": "whales everywhere"})],
            "a quote is not in its source",
        ),
        (lambda shown: [line("Saw boat0.", {"id": "m99", "text": "We"})], "its evidence was not shown"),
        (lambda shown: [line("Saw 99 boats.", shown[0])], "a number that its evidence does not have"),
        (lambda shown: [line("We met Napoleon there.", shown[0])], "a name that neither"),
        (lambda shown: [{"text": "Saw boats.", "evidence": []}], "no evidence"),
        (lambda shown: [], "no lines"),
    ],
)
def test_what_is_not_there_is_refused_and_turns_stand_for_themselves(
    session: Any, answer: Callable[[Told], Any], why: str
) -> None:
    model = Writing(answer)
    summary = session.summarize(keep=4, max_tokens=1_000, model=model)
    assert len(summary.lines) == 8
    assert any(why in each for each in summary.failures)
    assert [len(each) for each in model.asked] == [8, 4, 4]
    assert session.summarize(keep=4, max_tokens=1_000, model=model).failures == summary.failures
    assert len(model.asked) == 3


def test_caps_and_failures_are_said_and_made_up_for(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    memory = open_memory(clock=clock, settings=Settings(consolidation={"max_user_day_tokens": 7_000}))
    session = memory.session("r", user_id="ana")
    session.append([{"role": "user", "content": f"We saw boat{n}"} for n in range(85)])
    model = Writing(good)
    summary = session.summarize(keep=0, max_tokens=5_000, model=model)
    assert len(model.asked) == 1
    assert any(each.startswith("capped") for each in summary.failures)
    assert summary.lines[0].text == "Saw boat0 and boat1."
    assert summary.lines[-1].text == "We saw boat84"
    assert memory.consolidation(user_id="ana").state().today.tokens == USED * len(model.asked)
    clock.advance(86_400)

    def fail(shown: Told) -> Any:
        raise ModelError("gone", "busy", paid=False)

    failing = Writing(fail)
    summary = session.summarize(keep=0, max_tokens=5_000, model=failing)
    assert summary.failures == ("busy: gone",)
    assert session.summarize(keep=0, max_tokens=5_000, model=failing).failures[0].startswith("closed")
    assert len(failing.asked) == 1
    clock.advance(3_600)
    summary = session.summarize(keep=0, max_tokens=5_000, model=model)
    assert (summary.failures, summary.lines[-1].text) == ((), "Saw boat84.")
    assert len(model.asked) == 3


def test_without_a_model(session: Any) -> None:
    with pytest.raises(InvalidInputError, match="no model"):
        session.summarize(model=True)
    with pytest.raises(InvalidInputError):
        session.summarize(model=3)
