"""Messages as chat APIs make them: as dicts, and as objects shaped like those of their libraries."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from conftest import ROOT
from pydantic import BaseModel, ConfigDict

from agentmem import InvalidInputError, Memory, ScopeError

CALL = {"id": "c9", "type": "function", "function": {"name": "lookup", "arguments": '{"q": "ferry"}'}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo"}}

# What goes in, who speaks, and what is searched.
DICTS: list[tuple[dict[str, Any], str, str]] = [
    ({"role": "user", "content": [{"type": "text", "text": "one"}, PICTURE, {"type": "text", "text": "two"}]}, "user",
     "one\ntwo"),
    ({"role": "user", "content": [PICTURE]}, "user", ""),
    ({"role": "user", "content": [{"type": "input_text", "text": "a"}, "b", {"text": "c"}]}, "user", "a\nb\nc"),
    ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "assistant", ""),
    ({"role": "assistant", "tool_calls": [CALL]}, "assistant", ""),
    ({"role": "assistant", "content": ""}, "assistant", ""),
    ({"role": "assistant", "content": None}, "assistant", ""),
    ({"role": "assistant", "content": " \n"}, "assistant", ""),
    ({"role": "assistant", "content": []}, "assistant", ""),
    ({"role": "tool", "tool_call_id": "c9", "content": "at noon"}, "tool", "at noon"),
    ({"role": "user", "name": "Bea", "content": "thanks"}, "user", "thanks"),
    ({"role": "assistant", "content": "welcome", "refusal": None, "annotations": [], "hue": 3}, "assistant", "welcome"),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not"}]}, "assistant", "I will not"),
    ({"role": "developer", "content": "be brief", "name": "ops"}, "developer", "be brief"),
    ({"role": "assistant", "content": None, "audio": {"id": "a1"}}, "assistant", ""),
    ({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
      {"type": "text", "text": "yes"}, {"type": "tool_use", "id": "t", "name": "n", "input": {}}]}, "assistant", "yes"),
    ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
      "content": [{"type": "text", "text": "18 degrees"}, {"type": "image", "source": {"data": "AAAA"}}]}]}, "tool",
     "18 degrees"),
    ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "one"},
      {"type": "text", "text": "and now?"}]}, "user", "one\nand now?"),
    ({"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "18"}]}}]}, "tool", "18"),
    ({"role": "tool", "content": [{"type": "tool-result", "toolCallId": "t", "toolName": "f",
      "output": {"type": "text", "value": "18"}}]}, "tool", "18"),
    ({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]}, "tool", ""),
    ({"role": "user", "content": {"type": "text", "text": "from a prompt"}}, "user", "from a prompt"),
    ({"role": "user", "content": [{"type": "text", "text": {"value": "thread", "annotations": []}}]}, "user", "thread"),
    ({"role": "model", "parts": [{"text": "yes"}, {"function_call": {"name": "f"}}]}, "model", "yes"),
    ({"type": "message", "role": "user", "contents": [{"type": "text", "text": "hi", "additional_properties": {}},
      {"type": "uri", "uri": "x.png", "media_type": "image/png"}], "author_name": "Bea", "message_id": "m1",
      "additional_properties": {}}, "user", "hi"),
    ({"role": "assistant", "contents": [{"type": "text_reasoning", "text": "hm"}, {"type": "text", "text": "yes"}]},
     "assistant", "yes"),
    ({"role": "tool", "contents": [{"type": "function_result", "call_id": "c", "result": "18 boats",
      "items": [{"type": "text", "text": "18 boats"}]}]}, "tool", "18 boats"),
    ({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
      "content": [{"type": "output_text", "text": "done", "annotations": []}]}, "assistant", "done"),
    ({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}, "assistant", ""),
    ({"type": "function_call_output", "call_id": "c", "output": "42 boats"}, "tool", "42 boats"),
    ({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "thought"}],
      "encrypted_content": "x"}, "assistant", ""),
    ({"type": "computer_call", "id": "cu_1", "call_id": "c", "action": {"type": "wait"}}, "assistant", ""),
    ({"type": "code_interpreter_call", "id": "ci_1", "code": "1 + 1", "container_id": "x", "outputs": []}, "assistant",
     ""),
    ({"type": "human", "content": "hi", "additional_kwargs": {}, "response_metadata": {}, "id": None}, "user", "hi"),
    ({"type": "AIMessageChunk", "content": "hey", "tool_call_chunks": [1]}, "assistant", "hey"),
    ({"kind": "request", "parts": [{"part_kind": "system-prompt", "content": "be"},
      {"part_kind": "user-prompt", "content": ["hi", {"url": "x"}]}]}, "user", "hi"),
    ({"kind": "request", "parts": [{"part_kind": "tool-return", "content": "res"}]}, "tool", "res"),
    ({"kind": "request", "parts": [{"part_kind": "retry-prompt", "tool_name": "f", "content": "no"}]}, "tool", ""),
    ({"kind": "response", "parts": [{"part_kind": "text", "content": "yo"}], "model_name": "m", "usage": {"x": 1},
      "timestamp": "2026-01-02T03:04:05Z", "run_id": "theirs", "metadata": None, "finish_reason": "stop"}, "assistant",
     "yo"),
]  # fmt: skip


def test_dicts_come_back_as_they_went_in(memory: Memory) -> None:
    memory.add_many([message for message, _, _ in DICTS], user_id="bea", run_id="r")
    records = memory.recent(user_id="bea", run_id="r", limit=100)
    assert [record.message for record in records] == [message for message, _, _ in DICTS]
    assert [(record.role, record.content) for record in records] == [(role, text) for _, role, text in DICTS]
    assert {record.kind for record in records} == {"message"}
    assert [record.embedding for record in records] == ["content" if text else "none" for _, _, text in DICTS]
    assert memory.search("18 degrees", user_id="bea", limit=1)[0].content == "18 degrees"
    assert memory.search("iVBORw0KGgo", user_id="bea", mode="keyword") == []
    assert memory.verify().ok


@pytest.mark.parametrize(
    "message",
    [{"role": "user", "content": "hi"}, {"role": "user", "content": "hi", "name": None, "refusal": None}],
)  # fmt: skip
def test_no_more_than_role_and_text_has_no_data(memory: Memory, message: dict[str, Any]) -> None:
    record = memory.add(message).record
    assert record.data is None
    assert record.message == {"role": "user", "content": "hi"}
    assert memory.add("a fact").record.message == {"role": None, "content": "a fact"}


def test_what_an_item_says_besides_is_no_part_of_the_message(memory: Memory) -> None:
    said = {
        "metadata": {"a": 1},
        "occurred_at": "2026-01-02T03:04:05Z",
        "importance": 0.5,
        "user_id": "bea",
        "id": "mine",
    }
    message = {"role": "user", "name": "Bea", "content": "thanks"}
    record = memory.add({**message, **said}, kind="note", run_id="r").record
    assert (record.id, record.user_id, record.metadata, record.kind) == ("mine", "bea", {"a": 1}, "note")
    assert record.message == message
    typed = {"type": "message", "role": "user", "id": "msg_7", "content": [{"type": "input_text", "text": "x"}]}
    ids = {memory.add(typed, user_id=user).id for user in ("bea", "cem")}
    assert len(ids) == 2
    assert "msg_7" not in ids
    assert memory.add(typed, id="own").id == "own"
    assert memory.add({"content": None, "tool_calls": [CALL]}, role="assistant").record.role == "assistant"


class Text(BaseModel):
    type: Literal["text"] = "text"
    text: str


class Use(BaseModel):
    type: Literal["tool_use"] = "tool_use"
    id: str
    input: dict[str, Any]


class Reply(BaseModel):
    """As a chat API's library has it: more fields may come, most are None."""

    model_config = ConfigDict(extra="allow")
    role: str = "assistant"
    content: str | list[Any] | None = None
    tool_calls: list[Any] | None = None
    refusal: str | None = None


class Human(BaseModel):
    content: str | list[Any]
    additional_kwargs: dict[str, Any] = {}
    type: str = "human"
    name: str | None = None
    id: str | None = None


class Older:
    """A model of pydantic's first version."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def dict(self) -> dict[str, Any]:
        return self.values


class Speaker(StrEnum):
    USER = "user"


@dataclass
class Part:
    content: Any
    part_kind: str
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Turn:
    parts: list[Part]
    kind: str = "request"
    usage: dict[str, int] = field(default_factory=dict)


class Slotted:
    __slots__ = ("content", "role")


OBJECTS: list[tuple[Any, str, str, dict[str, Any] | None]] = [
    (Reply(content="hi"), "assistant", "hi", None),
    (Reply(tool_calls=[CALL]), "assistant", "", {"role": "assistant", "tool_calls": [CALL]}),
    (Reply(content=[Text(text="look"), Use(id="t", input={"a": 1})]), "assistant", "look",
     {"role": "assistant", "content": [{"type": "text", "text": "look"},
      {"type": "tool_use", "id": "t", "input": {"a": 1}}]}),
    (Reply(content="hi", usage={"tokens": 3}), "assistant", "hi",
     {"role": "assistant", "content": "hi", "usage": {"tokens": 3}}),
    (Human(content="hi"), "user", "hi", None),
    (Human(content="hi", id="run-1"), "user", "hi",
     {"content": "hi", "additional_kwargs": {}, "type": "human", "id": "run-1"}),
    (Older(role="user", content="hi", name="Bea"), "user", "hi", {"role": "user", "content": "hi", "name": "Bea"}),
    (SimpleNamespace(role="user", content="hi", _private=object()), "user", "hi", None),
    (SimpleNamespace(role=Speaker.USER, content="hi"), "user", "hi", None),
    (Turn([Part("be", "system-prompt"), Part("hi", "user-prompt")]), "user", "hi",
     {"parts": [{"content": "be", "part_kind": "system-prompt", "at": "2026-01-02T00:00:00+00:00"},
      {"content": "hi", "part_kind": "user-prompt", "at": "2026-01-02T00:00:00+00:00"}],
      "kind": "request", "usage": {}}),
    (Turn([Part({"t": 18}, "tool-return")]), "tool", "",
     {"parts": [{"content": {"t": 18}, "part_kind": "tool-return", "at": "2026-01-02T00:00:00+00:00"}],
      "kind": "request", "usage": {}}),
    (Older(type="message", role="user", contents=[{"type": "text", "text": "hi"}]), "user", "hi",
     {"type": "message", "role": "user", "contents": [{"type": "text", "text": "hi"}]}),
    ({"role": "assistant", "content": [Text(text="in a dict")]}, "assistant", "in a dict",
     {"role": "assistant", "content": [{"type": "text", "text": "in a dict"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("item", "role", "text", "data"), OBJECTS, ids=range(len(OBJECTS)))
def test_objects_say_what_is_in_them(memory: Memory, item: Any, role: str, text: str, data: Any) -> None:
    for record in (
        memory.add(item).record,
        memory.add_many([item])[0].record,
        next(iter(memory.add_stream([item])))[0].record,
    ):
        assert (record.role, record.content, record.data) == (role, text, data)
        assert record.kind == "message"
        assert record.message == ({"role": role, "content": text} if data is None else data)


NO_MESSAGES: list[tuple[Any, str]] = [
    ({"role": "user"}, "needs 'content'"), ({"role": "user", "content": 5}, "content must be"),
    ({"role": 5, "content": "x"}, "role"), ({"role": "user", "content": b"x"}, "content must be"),
    ({"content": [{"type": "text", "text": "x"}]}, "content must be"),
    ({"role": "user", "content": [b"x"]}, r"message\.content\[0\] is a bytes"),
    ({"role": "user", "content": [{"x": {1}}]}, r"message\.content\[0\]\.x is a set"),
    ({"role": "user", "content": [{"type": "text", "text": "a\x00"}]}, "content contains a NUL"),
    ({"contents": "x"}, "did you mean 'content'"), ({"role": "user", "contents": "x"}, "did you mean 'content'"),
    ({"role": "user", "content": "x", "timestamp": 1}, "did you mean 'occurred_at'"),
    ({"role": "user", "content": "x", "metdata": {}}, "did you mean 'metadata'"),
    ({"role": "user", "content": "x", "name": "Bea", "data": {"a": 1}}, "no field 'name'"),
    ({"role": "user", "content": "x", 5: 1}, "no field 5"), ({"content": "x", "name": "Bea"}, "no field 'name'"),
    ({"type": "preference", "content": "x"}, "no field 'type'"), (object(), "not object"), (Reply, "not Model"),
    (Slotted(), "an item must be"), (SimpleNamespace(content="x"), "an item must be"), (7, "an item must be"),
    ({"role": "user", "content": ["x" * 17_000_000]}, "more than 16,777,216 bytes"),
    (ValueError("x"), "an item must be"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "why"), NO_MESSAGES, ids=range(len(NO_MESSAGES)))
def test_what_is_none_is_refused_with_its_position(memory: Memory, item: Any, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why) as caught:
        memory.add_many(["fine", item])
    assert caught.value.index == 1
    assert len(str(caught.value)) < 600
    with pytest.raises(InvalidInputError, match=why):
        memory.add(item)
    assert memory.add_many(["fine", item], on_error="skip").skipped[0].index == 1


def test_what_goes_before_and_beside(memory: Memory) -> None:
    with pytest.raises(InvalidInputError, match="leave data out"):
        memory.add({"role": "user", "name": "Bea", "content": "x"}, data=[1])
    assert memory.add({"role": "user", "content": "x"}, data=[1]).record.data == [1]
    with pytest.raises(ScopeError):
        memory.scoped(user_id="bea").add({"role": "user", "name": "B", "content": "x", "user_id": "cem"})
    mended = memory.add_many([{"role": "user", "content": [{"type": "text", "text": "a\x00b"}]}], repair=True)
    assert mended[0].record.content == "a\N{REPLACEMENT CHARACTER}b"
    put = memory.put("last", {"role": "assistant", "content": None, "tool_calls": [CALL]}).record  # type: ignore[arg-type]
    assert put.message["tool_calls"] == [CALL]


def test_an_import_of_messages_is_repeatable(memory: Memory) -> None:
    turns = [message for message, _, _ in DICTS]
    memory.add_many(turns, run_id="r", source="chat.jsonl")
    again = memory.add_many(turns, run_id="r", source="chat.jsonl")
    assert {result.status for result in again} == {"duplicate"}
    assert memory.count(run_id="r") == len(turns)


def test_no_library_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from agentmem import Memory\nclass M:\n def __init__(s): s.role, s.content = 'user', None\n"
        "m = Memory('s'); m.add(M()); m.add({'role': 'user', 'content': ['x'], 'name': 'n'})\n"
        "print({'pydantic', 'openai', 'anthropic', 'langchain_core'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() in ("set()", "{'pydantic'}"), done.stderr
