"""Calls of tools and their results, by the shapes that chat APIs have for them.

OpenAI's (chat, responses, and the older functions), Anthropic's, Bedrock's, Gemini's, Ollama's, LangChain's, Pydantic
AI's, the AI SDK's, the Agent Framework's.

A call and its result share an id; some APIs give none, which is ``NAMELESS`` here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

NAMELESS = ""
_IDS = ("tool_call_id", "tool_use_id", "toolUseId", "call_id", "toolCallId", "id")
_CALL_KINDS = ("tool_use", "tool_call", "function_call")
_RESULT_KINDS = ("tool_result", "tool_return", "function_call_output", "function_result")
_CALL_FIELDS = ("toolUse", "functionCall", "function_call")
_RESULT_FIELDS = ("toolResult", "functionResponse", "function_response")
"""A part of Bedrock or Gemini has a field for what it is, instead of a type."""


class Calls(NamedTuple):
    """The ids of the calls that a message makes, and of those whose results it has, each once.

    ``thought``: it is what a model thought, as an item of its own, which an API takes with what came of it alone.
    """

    made: tuple[str, ...] = ()
    got: tuple[str, ...] = ()
    thought: bool = False


def calls_of(message: Mapping[str, Any]) -> Calls:
    """What a message calls, and answers."""
    made, got = list[str](), list[str]()
    for name in ("tool_calls", "invalid_tool_calls"):
        made += (_id(call) for call in _dicts(message.get(name)))
    if not made and isinstance(message.get("function_call"), Mapping):
        made.append(NAMELESS)
    parts = [part for name in ("content", "contents", "parts") for part in _dicts(message.get(name))]
    for part in parts:
        made += _called(part)
        got += _answered(part)
    kind, role = message.get("type"), message.get("role")
    if kind == "function_call" or (isinstance(kind, str) and kind.endswith("_call") and message.get("call_id")):
        made.append(_id(message))
    elif isinstance(kind, str) and (
        kind.endswith("_call_output") or (kind.endswith("_output") and "call_id" in message)
    ):
        got += filter(None, [_id(message)])
    elif role in ("tool", "function") or kind == "tool":
        id = _id(message, but="id")
        if id or not got:
            got.append(id)
    return Calls(_each_once(made), _each_once(got), kind == "reasoning" and role is None)


def is_result(part: object) -> bool:
    """Whether a part of a message is the result of a tool."""
    return isinstance(part, Mapping) and any(True for _ in _answered(cast("Mapping[str, Any]", part)))


def _called(part: Mapping[str, Any]) -> Iterator[str]:
    if _kind(part).endswith(_CALL_KINDS):
        yield _id(part)
    for name in _CALL_FIELDS:
        if isinstance(call := part.get(name), Mapping):
            yield _id(cast("Mapping[str, Any]", call))


def _answered(part: Mapping[str, Any]) -> Iterator[str]:
    kind = _kind(part)
    # What Pydantic AI tells a model that called a tool wrongly is the answer to that call.
    if kind.endswith(_RESULT_KINDS) or (kind == "retry_prompt" and part.get("tool_name")):
        yield _id(part, but="id")
    for name in _RESULT_FIELDS:
        if isinstance(result := part.get(name), Mapping):
            yield _id(cast("Mapping[str, Any]", result))


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get("type", part.get("part_kind"))
    return kind.replace("-", "_") if isinstance(kind, str) else ""


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, (list, tuple)):
        for each in cast("Sequence[object]", value):
            if isinstance(each, Mapping):
                yield cast("Mapping[str, Any]", each)


def _id(part: Mapping[str, Any], but: str | None = None) -> str:
    """The id that a call and its result share."""
    for name in _IDS:
        value = part.get(name)
        if name != but and isinstance(value, str) and value:
            return value
    return NAMELESS


def _each_once(ids: Sequence[str]) -> tuple[str, ...]:
    """Those without a name stay, as many as there are."""
    return (*dict.fromkeys(filter(None, ids)), *(id for id in ids if not id))
