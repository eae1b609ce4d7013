"""Which turns belong together: a call of a tool and its results, which no chat API takes one without the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from agentmem.agent.turns import Turn
from agentmem.types.data import parsed

_CALL_PARTS = frozenset({"tool_use", "tool-call", "tool_call", "server_tool_use", "function_call"})
_RESULT_PARTS = frozenset({"tool_result", "tool-return", "function_call_output"})
_CALL_ITEMS = "_call"
_RESULT_ITEMS = "_call_output"
_NONE = frozenset[str]()
_SHORT = 4_096
_IDS = ("tool_call_id", "tool_use_id", "toolUseId", "call_id", "toolCallId", "id")


@dataclass(frozen=True, slots=True)
class Group:
    """Turns that go into a prompt together or not at all, by position.

    ``open`` are calls without a result, ``orphans`` results without a call; either makes it one that cannot be shown,
    unless an open call is the last thing that happened.
    """

    positions: tuple[int, ...]
    open: frozenset[str] = frozenset()
    orphans: frozenset[str] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether all calls have their results, and the other way round."""
        return not self.open and not self.orphans


def groups(turns: Sequence[Turn]) -> list[Group]:
    """The turns as groups, in their order. Most are of one turn."""
    calls, ends = dict[str, int](), list(range(len(turns)))
    open_at, orphans_at = dict[str, int](), dict[int, set[str]]()
    for at, turn in enumerate(turns):
        made, got = (_NONE, _NONE) if turn.data is None else _ids_in(turn)
        for id in got:
            started = calls.get(id)
            if started is None:
                orphans_at.setdefault(at, set()).add(id)
            else:
                ends[started] = max(ends[started], at)
                open_at.pop(id, None)
        for id in made:
            calls[id] = open_at[id] = at
    found, at = list[Group](), 0
    while at < len(turns):
        end, walked = ends[at], at
        while walked < end:
            walked += 1
            end = max(end, ends[walked])
        inside = range(at, end + 1)
        found.append(
            Group(
                tuple(inside),
                frozenset(id for id, where in open_at.items() if where in inside),
                frozenset(id for where in inside for id in orphans_at.get(where, ())),
            )
        )
        at = end + 1
    return found


def _ids_in(turn: Turn) -> tuple[frozenset[str], frozenset[str]]:
    data = turn.data or ""
    return _known(data) if len(data) <= _SHORT else _read(data)


def _read(data: str) -> tuple[frozenset[str], frozenset[str]]:
    message = parsed(data)
    made, got = _of(cast("dict[str, Any]", message)) if isinstance(message, dict) else (set[str](), set[str]())
    return frozenset(made), frozenset(got)


_known = lru_cache(4_096)(_read)
"""The same turns come again with every prompt."""


def _of(message: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The ids of the calls that a message makes, and of those whose results it has."""
    made, got = set[str](), set[str]()
    for call in _dicts(message.get("tool_calls")):
        made.update(_id(call))
    kind, role = message.get("type"), message.get("role")
    if isinstance(kind, str) and kind.endswith(_RESULT_ITEMS):
        got.update(_id(message))
    elif isinstance(kind, str) and kind == f"function{_CALL_ITEMS}":
        made.update(_id(message))
    elif role == "tool" or kind == "tool":
        got.update(_id(message, but="id"))
    for part in (*_dicts(message.get("content")), *_dicts(message.get("parts"))):
        part_kind = part.get("type", part.get("part_kind"))
        if part_kind in _CALL_PARTS:
            made.update(_id(part))
        elif part_kind in _RESULT_PARTS:
            got.update(_id(part, but="id"))
        if isinstance(use := part.get("toolUse"), Mapping):
            made.update(_id(cast("Mapping[str, Any]", use)))
        if isinstance(result := part.get("toolResult"), Mapping):
            got.update(_id(cast("Mapping[str, Any]", result)))
    return made, got


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, (list, tuple)):
        for each in cast("Sequence[object]", value):
            if isinstance(each, Mapping):
                yield cast("Mapping[str, Any]", each)


def _id(part: Mapping[str, Any], but: str | None = None) -> list[str]:
    """The id that a call and its result share."""
    for name in _IDS:
        value = part.get(name)
        if name != but and isinstance(value, str) and value:
            return [value]
    return []
