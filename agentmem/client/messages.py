"""Messages as chat APIs make them: their text to be searched, and the whole of them to be kept.

Mappings, and objects that say what is in them: by ``model_dump`` (pydantic, and with it OpenAI, Anthropic, LangChain),
``to_dict`` or ``dict``, as dataclasses, or by their attributes. Their libraries are not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from typing import Any, NamedTuple, cast
from uuid import UUID

from agentmem.agent.calls import is_result
from agentmem.types.data import copied, dumped
from agentmem.types.errors import InvalidInputError
from agentmem.types.spelling import is_blank

_SPEAKERS = {"human": "user", "ai": "assistant", **{name: name for name in ("system", "tool", "function", "developer")}}
"""Who speaks, by the type that a message has instead of a role."""
_OF_ASSISTANT = frozenset({"reasoning", "compaction", "mcp_list_tools", "mcp_approval_request", "item_reference"})
_TURNS = {"request": "user", "response": "assistant"}
_OF_TURNS = frozenset({"kind", "metadata", "run_id"})
"""Fields of Pydantic AI's messages that items have by the same name."""
_SAID = frozenset({"text", "input_text", "output_text", "refusal", None})
"""Types of parts that are said, as results of tools are; what was thought, images, sounds and calls are not."""
_SAID_PARTS = frozenset({"user-prompt", "text", "tool-return"})
_USUAL = frozenset(
    "additional_kwargs annotations arguments artifact audio call_id citations function_call invalid_tool_calls model "
    "name output parts phase prefix reasoning reasoning_content reasoning_details refusal response_metadata status "
    "stop_reason stop_sequence summary tool_call_chunks tool_call_id tool_calls tool_use_id type usage "
    "usage_metadata".split()
)
"""Fields that messages have, some of which look like misspelled ones of an item."""
_DEEPEST = 6


class Message(NamedTuple):
    """What is to be stored of a message: ``data``, as JSON text, where it has more than a role and a text."""

    role: str | None
    text: str
    data: str | None


def as_message(said: Mapping[str, object], own: frozenset[str], role: object = None) -> Message | None:
    """A mapping as a message; None for one that is an item like others, with a role and a text at most.

    ``own`` are the fields of an item: those are no part of the message, apart from ``role`` and ``content``. Nor is an
    id, unless there is a type, too: then an API made both. ``role`` is who speaks where the message does not say it.
    """
    speaker = _of_tools(said) or said.get("role") or _speaker(said) or role
    if not isinstance(speaker, str) or said.get("data") is not None:
        return None
    content = said.get("content")
    known = "content" in said or "parts" in said or "type" in said or said.keys() & _USUAL or _has_contents(said)
    if not known or _is_wrong(content):
        return None
    left_out = own - {"role", "content"} - theirs(said)
    kept = {key: value for key, value in said.items() if key not in left_out}
    plain = isinstance(content, str) and not is_blank(content)
    if plain and not any(value is not None for key, value in kept.items() if key not in ("role", "content")):
        return Message(speaker, str(content), None)
    return _whole(speaker, kept)


def theirs(said: Mapping[str, object]) -> frozenset[str]:
    """Those fields of a message that items have, too, but which are an API's here."""
    return (_OF_TURNS if _is_turn(said) else frozenset[str]()) | ({"id"} if "type" in said else frozenset[str]())


def may_have(said: Mapping[str, object], field: str, mistaken: Callable[[object], bool]) -> bool:
    """Whether a message may have a field that items have not. ``mistaken``: whether that resembles one of theirs."""
    if field in _USUAL or _is_turn(said) or _has_contents(said):
        return True
    return ("role" in said or _speaker(said) is not None) and not mistaken(field)


def of_object(item: object, role: object = None) -> Message | None:
    """An object as a message; None for one that is none."""
    dump = _fields_of(item)
    if dump is None:
        return None
    said = {key: value for key, value in dump.items() if value is not None}
    speaker = _of_tools(said) or _plain(said.get("role")) or _speaker(said) or (role if "content" in said else None)
    if not isinstance(speaker, str):
        return None
    content = said.get("content")
    more = any(value for key, value in said.items() if key not in ("role", "content", "type"))
    if isinstance(content, str) and not is_blank(content) and not more:
        return Message(speaker, content, None)
    return _whole(speaker, said)


def _whole(speaker: str, message: Mapping[str, object]) -> Message:
    copy = cast("dict[str, Any]", copied(message, "message", _plain))
    said = next((copy[name] for name in ("content", "contents", "parts", "output") if name in copy), None)
    text = "\n".join(_texts(said))
    return Message(speaker, "" if is_blank(text) else text, dumped(copy, "message"))


def _is_turn(said: Mapping[str, object]) -> bool:
    """Whether this is a message of Pydantic AI."""
    return "parts" in said and said.get("kind") in _TURNS


def _has_contents(said: Mapping[str, object]) -> bool:
    """Whether this is a message of the Agent Framework."""
    return "role" in said and isinstance(said.get("contents"), (list, tuple))


def _of_tools(said: Mapping[str, object]) -> str | None:
    """Who speaks, where an API has results of tools said by the user: nobody but tools."""
    parts = said.get("content", said.get("parts"))
    if not isinstance(parts, (list, tuple)) or not parts or _plain(said.get("role")) != "user":
        return None
    return "tool" if all(is_result(_plain(part)) for part in cast("list[object]", parts)) else None


def _speaker(said: Mapping[str, object]) -> str | None:
    """Who speaks, of a message that has no role."""
    kind, parts = said.get("type"), said.get("parts")
    if isinstance(parts, (list, tuple)) and isinstance(turn := said.get("kind"), str):
        found = {_part_kind(part) for part in cast("list[object]", parts)}
        return _TURNS.get(turn) if turn == "response" or not found or "user-prompt" in found else _of_request(found)
    if not isinstance(kind, str):
        return None
    if kind.endswith("_output"):
        return "tool"
    if kind.endswith("_call") or kind in _OF_ASSISTANT:
        return "assistant"
    return _SPEAKERS.get(kind.removesuffix("MessageChunk").lower())


def _of_request(kinds: set[object]) -> str:
    if kinds & {"tool-return", "retry-prompt"}:
        return "tool"
    return "system" if "system-prompt" in kinds else "user"


def _part_kind(part: object) -> object:
    if isinstance(part, Mapping):
        return cast("Mapping[str, object]", part).get("part_kind")
    return getattr(part, "part_kind", None)


def _is_wrong(content: object) -> bool:
    """Whether this is no content that a message has."""
    return isinstance(content, (bool, int, float, bytes, bytearray, set, frozenset))


def _texts(content: object, depth: int = 0) -> Iterator[str]:
    """What is said in a content: the text itself, or the texts among its parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and depth < _DEEPEST:
        for part in cast("list[object]", content):
            yield from _texts(part, depth + 1)
    elif isinstance(content, dict) and depth < _DEEPEST:
        part = cast("dict[str, object]", content)
        if "part_kind" in part:
            if part["part_kind"] in _SAID_PARTS:
                yield from _texts(part.get("content"), depth + 1)
        elif part.get("type") in _SAID or is_result(part):
            for name in ("text", "refusal", "content", "value", "output", "result", "toolResult"):
                yield from _texts(part.get(name), depth + 1)


def _plain(value: object) -> object:
    """What stands for an object in a message."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    found = _fields_of(value)
    return value if found is None else found


def _fields_of(item: object) -> Mapping[str, object] | None:
    """The fields of an object, if it says which it has."""
    kind = type(item)
    if kind.__module__ == "builtins" or isinstance(item, type):
        return None
    for name in ("model_dump", "to_dict", "dict"):
        dump = getattr(item, name, None) if callable(getattr(kind, name, None)) else None
        if dump is not None:
            pydantic = getattr(sys.modules.get("pydantic"), "BaseModel", ())
            options = {"mode": "json", "warnings": False} if isinstance(item, pydantic) and name == "model_dump" else {}
            try:
                found = dump(**options)
            except Exception as exc:  # whatever is in it
                raise InvalidInputError(f"{kind.__name__}.{name}() failed: {exc}", field="item") from exc
            return cast("Mapping[str, object]", found) if isinstance(found, Mapping) else None
    if is_dataclass(item):
        return {field.name: getattr(item, field.name, None) for field in fields(item)}
    try:
        values = vars(item)
    except TypeError:
        return None
    return {name: value for name, value in values.items() if not name.startswith("_")}
