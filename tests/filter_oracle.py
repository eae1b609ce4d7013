"""What a filter must find, and what metadata must hold of a value, worked out the slow and obvious way.

Imports nothing from the package. The rules are those of docs/filters.md and docs/values.md, written down a second time.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import product
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np

MISSING = object()
_FORM = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|[-+]\d\d:\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


# -- values ----------------------------------------------------------------------------------------------------------


def stored(value: Any) -> Any:
    """The JSON that metadata holds of a value which it takes."""
    if isinstance(value, Enum):
        return stored(value.value)
    if isinstance(value, np.generic):
        return stored(value.item())
    if isinstance(value, np.ndarray):
        return stored(value.tolist())
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (Decimal, Fraction)):
        return int(value) if value == int(value) else float(value)
    if isinstance(value, (UUID, PurePath)):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: stored(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {"".join(key): stored(item) for key, item in value.items()}
    if isinstance(value, Set):
        return in_order([stored(item) for item in value])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [stored(item) for item in value]
    return "".join(value) if isinstance(value, str) else value


def in_order(items: list[Any]) -> list[Any]:
    """Nothing, booleans, numbers, texts, lists, objects; each group from low to high, what is equal once."""
    groups = {"NoneType": 0, "boolean": 1, "number": 2, "str": 3, "list": 4, "dict": 5}
    items = [item for at, item in enumerate(items) if not any(same(item, other) for other in items[:at])]
    simple = [item for item in items if not isinstance(item, (list, dict, type(None)))]
    nested = [item for item in items if isinstance(item, (list, dict))]
    simple.sort(key=lambda item: (groups[kind(item)], item))
    nested.sort(key=lambda item: (groups[kind(item)], json.dumps(item, sort_keys=True)))
    return [None] * (None in items) + simple + nested


# -- filters ---------------------------------------------------------------------------------------------------------


def matches(metadata: Any, filters: Mapping[str, Any] | None, record: Mapping[str, Any] | None = None) -> bool:
    """Whether a record with this metadata passes; ``record`` has its own fields by name, for ``$kind`` and the like."""
    return all(_entry(key, operand, metadata, record or {}) for key, operand in (filters or {}).items())


def _entry(key: str, operand: Any, metadata: Any, record: Mapping[str, Any]) -> bool:
    if key == "$and":
        return all(matches(metadata, part, record) for part in operand)
    if key == "$or":
        return any(matches(metadata, part, record) for part in operand)
    if key == "$not":
        return not matches(metadata, operand, record)
    if key.startswith("$"):
        value = record[key[1:]]
        return holds([MISSING if value is None else value], operand)
    return holds(values_at(metadata, ways(key)), operand)


def ways(key: str) -> list[list[str]]:
    """The paths that a key may mean, that with the most keys first."""
    pieces, between, explicit, slashes = [""], list[str](), key[:1] == "\\" and key.lstrip("\\")[:1] == "$", 0
    if explicit:
        slashes = len(key) - len(key.lstrip("\\"))
        pieces, key, slashes = ["\\" * (slashes // 2)], key[slashes:], 0
    for character in key:
        if character == "\\":
            slashes += 1
            continue
        if character == "." and slashes:
            explicit = True
            pieces[-1] += "\\" * (slashes // 2) + "." * (slashes % 2)
            if slashes % 2 == 0:
                pieces.append("")
        elif character == ".":
            pieces.append("")
        else:
            pieces[-1] += "\\" * slashes + character
        slashes = 0
    pieces[-1] += "\\" * slashes
    if explicit:
        return [pieces]
    found = list[list[str]]()
    for between in product((False, True), repeat=len(pieces) - 1):
        if len(pieces) > 4 and len(set(between)) > 1:
            continue
        path = [pieces[0]]
        for piece, inside in zip(pieces[1:], between, strict=True):
            path = [*path[:-1], f"{path[-1]}.{piece}"] if inside else [*path, piece]
        found.append(path)
    return found


def values_at(metadata: Any, paths: list[list[str]]) -> list[Any]:
    """The values to which the paths lead; missing ones of the first path only where the others lead to none."""
    first, *others = [list(reach(metadata, path)) for path in paths]
    more = [value for values in others for value in values if value is not MISSING]
    return [value for value in first if value is not MISSING or not more] + more


def reach(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from reach(item, path)
    elif isinstance(value, dict) and path[0] in value:
        yield from reach(value[path[0]], path[1:])
    else:
        yield MISSING


def holds(values: list[Any], operand: Any) -> bool:
    if isinstance(operand, Mapping) and any(name.startswith("$") for name in operand):
        return all(_operator(name, values, inner) for name, inner in operand.items())
    return _operator("$eq", values, operand)


def _operator(name: str, values: list[Any], operand: Any) -> bool:
    if name == "$not":
        return not holds(values, operand)
    if name == "$ne":
        return not _operator("$eq", values, operand)
    if name == "$nin":
        return not _operator("$in", values, operand)
    if name == "$exists":
        return any(value is not MISSING for value in values) == operand
    if name == "$contains":
        return any(contains(value, operand) for value in values)
    if name == "$icontains":
        return any(contains(folded(value), folded(operand)) for value in values)
    if name == "$prefix":
        spread = [*values, *(item for value in values if isinstance(value, list) for item in value)]
        return any(isinstance(value, str) and value.startswith(stored(operand)) for value in spread)
    if name == "$in":
        return any(_operator("$eq", values, item) for item in operand)
    spread = [*values, *(item for value in values if isinstance(value, list) for item in value)]
    return any(compare(name, value, operand) for value in spread)


def contains(value: Any, operand: Any) -> bool:
    if isinstance(value, str):
        return isinstance(operand, str) and stored(operand) in value
    return isinstance(value, list) and any(compare("$eq", item, operand) for item in value)


def folded(value: Any) -> Any:
    """Text without regard to case, and that in a list; character by character."""
    if isinstance(value, list):
        return [folded(item) if isinstance(item, str) else item for item in value]
    if not isinstance(value, str):
        return value
    return "".join(c.casefold() if len(c.casefold()) == 1 else c.lower() if len(c.lower()) == 1 else c for c in value)


def compare(name: str, value: Any, operand: Any) -> bool:
    """Whether one value stands to the operand as the operator says."""
    value = None if value is MISSING else value
    if isinstance(operand, date):
        value, operand = as_time(value), as_time(operand)
        if value is None or operand is None:
            return False
        if not (isinstance(value, datetime) and isinstance(operand, datetime)):
            value, operand = day_of(value), day_of(operand)
    else:
        operand = stored(operand)
    if name == "$eq":
        return same(value, operand)
    if kind(value) != kind(operand):
        return False
    return {"$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand}[name]


def as_time(value: Any) -> date | None:
    """A datetime in UTC or a date, of either, or of text of their form."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        return None
    try:
        if _DAY.fullmatch(value):
            return date.fromisoformat(value)
        if found := _FORM.fullmatch(value):
            day, clock, decimals, zone = found.groups()
            if clock[:2] > "23":
                return None
            return datetime.fromisoformat(f"{day}T{clock}{(decimals or '')[:7]}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return None


def day_of(value: date) -> date:
    return value.date() if isinstance(value, datetime) else value


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def same(left: Any, right: Any) -> bool:
    if kind(left) != kind(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right
