"""Calls of tools stay with their results in prompts, by the shapes that chat APIs have for them."""

from __future__ import annotations

from typing import Any

import pytest

from agentmem import Memory

Messages = list[dict[str, Any]]


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def pydantic(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "parts": list(parts), "timestamp": "2026-01-02T03:04:05Z", "run_id": "theirs"}


# What belongs together in the middle: before it and after it the user speaks.
SHAPES: dict[str, Messages] = {
    "chat": [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]},
        {"role": "tool", "tool_call_id": "b", "content": "B"},
        {"role": "tool", "tool_call_id": "a", "content": "A"},
    ],
    "chat, without ids": [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}, {"function": {"name": "g"}}]},
        {"role": "tool", "tool_name": "f", "content": "A"},
        {"role": "tool", "content": "B"},
    ],
    "functions": [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "A"},
    ],
    "responses": [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "x"},
        {"type": "function_call_output", "call_id": "a", "output": "A"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "B"},
    ],
    "responses, a computer": [
        {"type": "computer_call", "id": "cu_1", "call_id": "a", "action": {"type": "screenshot"}},
        {"type": "computer_call_output", "call_id": "a", "output": {"type": "computer_screenshot", "image_url": "x"}},
    ],
    "responses, a shell": [
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "a", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "a", "output": "A"},
    ],
    "anthropic": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a"}, {"type": "tool_use", "id": "b"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "A"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "image", "source": {}}]},
            ],
        },
    ],
    "anthropic, its own tool": [
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "a", "content": []},
                {"type": "text", "text": "found"},
            ],
        }
    ],
    "bedrock": [
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "A"}]}}]},
    ],
    "gemini": [
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]},
    ],
    "the ai sdk": [
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "a", "toolName": "f", "input": {}}]},
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "a", "output": {"value": "A"}}]},
    ],
    "the agent framework": [
        {
            "type": "message",
            "role": "assistant",
            "contents": [{"type": "function_call", "call_id": each, "name": "f", "arguments": "{}"} for each in "ab"],
            "additional_properties": {},
        },
        {
            "type": "message",
            "role": "tool",
            "contents": [{"type": "function_result", "call_id": each, "result": each.upper()} for each in "ab"],
            "additional_properties": {},
        },
    ],
    "pydantic ai": [
        pydantic("response", {"part_kind": "tool-call", "tool_name": "f", "args": "{}", "tool_call_id": "a"}),
        pydantic("request", {"part_kind": "retry-prompt", "tool_name": "f", "tool_call_id": "a", "content": "no"}),
        pydantic("response", {"part_kind": "tool-call", "tool_name": "f", "args": "{}", "tool_call_id": "b"}),
        pydantic("request", {"part_kind": "tool-return", "tool_name": "f", "tool_call_id": "b", "content": "A"}),
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_and_its_results_are_shown_together(memory: Memory, shape: str) -> None:
    pair, session = SHAPES[shape], memory.session(shape, user_id="ana")
    every = [said("first"), *pair, said("last")]
    session.append(every)
    assert session.messages() == every
    assert session.prompt(max_tokens=2_000, recall=0).messages() == every
    seen = set[int]()
    for max_tokens in range(10, 400, 9):
        shown = session.prompt(max_tokens=max_tokens, recall=0).messages()
        assert shown == every[len(every) - len(shown) :]
        seen.add(len(shown))
    step = 2 if shape == "pydantic ai" else len(pair)  # two calls, one after the other
    assert seen - {0} == {1, *range(1 + step, len(pair) + 2, step), len(every)}


@pytest.mark.parametrize("shape", SHAPES)
def test_results_are_not_what_the_user_said_last(memory: Memory, shape: str) -> None:
    session = memory.session(shape, user_id="ana")
    session.append([said("first"), said("last"), *SHAPES[shape], {"role": "assistant", "content": "done"}])
    assert len(session.undo()) == len(SHAPES[shape]) + 2
    assert [turn.content for turn in session.turns()] == ["first"]
    assert {record.kind for record in memory.recent(user_id="ana", run_id=shape)} == {"message"}


@pytest.mark.parametrize("shape", [name for name, pair in SHAPES.items() if len(pair) > 1])
def test_a_call_that_was_never_answered_is_left_out(memory: Memory, shape: str) -> None:
    session, call = memory.session(shape, user_id="ana"), SHAPES[shape][0]
    session.append([said("first"), call, said("last")])
    prompt = session.prompt(max_tokens=2_000, recall=0)
    assert prompt.messages() == [said("first"), said("last")]
    assert [each.reason for each in prompt.manifest.trimmed] == [
        "a thought of which nothing came" if call.get("type") == "reasoning" else "a call without its result"
    ]


def test_ids_may_come_again(memory: Memory) -> None:
    session = memory.session("r", user_id="ana")
    for text in ("A", "B"):
        call = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_0"}]}
        session.append([said(text), call, {"role": "tool", "tool_call_id": "call_0", "content": text}])
    assert len(session.turns(max_tokens=70)) == 3
    assert len(session.prompt(max_tokens=2_000, recall=0).messages()) == 6
