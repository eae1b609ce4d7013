"""The fields of a record that a filter may name, as ``$kind``: metadata has no such keys at its top.

What a field holds is known, so an operand that it can never equal is an error, not a filter that finds nothing.
"""

from __future__ import annotations

from datetime import date, datetime
from difflib import get_close_matches
from typing import Literal, TypeAlias, get_args

from agentmem.types.checks import check_instant, check_label, check_name
from agentmem.types.clock import to_datetime
from agentmem.types.enums import Layer
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.forms import FormName
from agentmem.types.spelling import spellings
from agentmem.types.values import Time

RecordField: TypeAlias = Literal[
    "id", "user_id", "agent_id", "run_id", "role", "kind", "layer", "content", "importance", "rating", "version",
    "pinned", "embedding", "created_at", "updated_at", "occurred_at", "expires_at",
]  # fmt: skip
Holds: TypeAlias = Literal["id", "label", "layer", "form", "text", "number", "bool", "time"]
"""What a field holds. All but ``bool`` are text, numbers or times to an operator."""

FIELDS: dict[RecordField, Holds] = {
    "id": "id", "user_id": "id", "agent_id": "id", "run_id": "id", "role": "label", "kind": "label", "layer": "layer",
    "content": "text", "importance": "number", "rating": "number", "version": "number", "pinned": "bool",
    "embedding": "form", "created_at": "time", "updated_at": "time", "occurred_at": "time", "expires_at": "time",
}  # fmt: skip
TEXTS = frozenset[Holds]({"id", "label", "layer", "form", "text"})
ARGUMENTS = {
    "user_id": "user_id=", "agent_id": "agent_id=", "run_id": "run_id=", "kind": "kinds=", "layer": "layers=",
    "occurred_at": "since= and until=", "created_at": "since= and until=",
}  # fmt: skip
"""What to give instead of a filter, where an argument does the same."""
_NAMES: dict[Holds, list[str]] = {"layer": [layer.value for layer in Layer], "form": list(get_args(FormName))}
"""What is held, where that is one of a few."""
_EXAMPLES = {"number": "a number", "bool": "True or False", "time": "a datetime with a time zone, or a date"}


class OperandError(ValueError):
    """What a field never holds; the message goes on after ``where``."""


def named(key: str) -> RecordField | None:
    """The field that a key of a filter names, if it does."""
    return next((field for field in FIELDS if key == f"${field}"), None)


def similar(key: str) -> str | None:
    """The key that was probably meant, with its dollar sign."""
    close = get_close_matches(key, [*(f"${field}" for field in FIELDS), "$data"], n=1, cutoff=0.75)
    return close[0] if close else None


def stored(field: RecordField, value: object, *, whole: bool) -> tuple[str | float | Time | None, ...]:
    """What the field holds where it is ``value``, a plain one: names in each of their spellings, times as times.

    Without ``whole`` the value is something to compare with, or a part of a text. Raises ``OperandError``.
    """
    holds = FIELDS[field]
    if value is None and whole:
        return (None,)
    if holds == "bool":
        if isinstance(value, bool):
            return (value,)
    elif holds == "number":
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return (value,)
    elif holds == "time":
        if isinstance(value, (datetime, date)):
            return (value,)
        if isinstance(value, str):
            return (_time(field, value),)
    elif whole and holds != "text":
        return _name(field, holds, value)
    elif isinstance(value, str):
        return (value,)
    raise OperandError(f"takes {_EXAMPLES.get(holds, 'text')}, not {shown(value)}")


def _name(field: RecordField, holds: Holds, value: object) -> tuple[str, ...]:
    try:
        if holds == "id":
            return spellings(check_name(value, f"${field}"))
        text = check_label(value, f"${field}")
    except InvalidInputError as exc:
        raise OperandError(f"cannot be met: {exc}") from exc
    known = _NAMES.get(holds, [text])
    if text not in known:
        raise OperandError(f"cannot be met: {shown(text)} is not a {holds}; the {holds}s are {', '.join(known)}")
    return spellings(text)


def _time(field: RecordField, text: str) -> Time:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return to_datetime(check_instant(text, f"${field}"))
    except InvalidInputError as exc:
        raise OperandError(f"cannot be met: {exc}") from exc
