"""The first rows of arrays and tables as texts, for those who only look: no more is read than what is shown lies in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agentmem.types.errors import InvalidInputError
from agentmem.types.valueinfo import ValueHead
from agentmem.values import kinds, tables
from agentmem.values.arrays import described
from agentmem.values.kinds import Whole

_CELLS = 24
_LETTERS = 120
_WIDEST = 4_096
"""Bytes of an item of an array that is shown."""
_GROUP = 16 * 1_048_576
"""Bytes of a group of rows of a table that is read; those are larger whose single rows are."""


def head(about: Mapping[str, Any], source: Whole, limit: int) -> ValueHead:
    """The first rows of a value. Raises ``InvalidInputError`` for one that has none, or none that can be shown."""
    if about["kind"] == kinds.ARRAY:
        return _of_array(about, source, limit)
    if about["kind"] == kinds.TABLE:
        return _of_table(about, source, limit)
    raise InvalidInputError(f"head is for arrays and tables; this value is {about['kind']!r}", field="key")


def _of_array(about: Mapping[str, Any], source: Whole, limit: int) -> ValueHead:
    dtype, shape, turned = described(about)
    if dtype.itemsize > _WIDEST:
        raise InvalidInputError(f"items of {dtype.itemsize:,} bytes are not shown; read it by open()", field="key")
    total = int(shape[0]) if shape else 1
    width = int(np.prod(shape[1:], dtype=np.int64))
    shown, made = min(width, _CELLS), list[tuple[str, ...]]()
    for row in range(min(limit, total)):
        # In Fortran's order a column lies together, and what is shown of a row does not.
        places = [(row + column * total, 1) for column in range(shown)] if turned else [(row * width, shown)]
        made.append(tuple(text for place, count in places for text in _items(about, dtype, source, place, count)))
    return ValueHead(None, tuple(made), total, width)


def _items(about: Mapping[str, Any], dtype: Any, source: Whole, place: int, count: int) -> Iterator[str]:
    size = dtype.itemsize
    found: Any = np.frombuffer(source.bytes(place * size, (place + count) * size), dtype) if size else [""] * count
    if about.get("of"):  # bfloat16, whose bits are the upper half of a float32's
        found = (found.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return (item.tobytes().hex() if type(item) is np.void and dtype.names is None else _text(item) for item in found)


def _of_table(about: Mapping[str, Any], source: Whole, limit: int) -> ValueHead:
    columns, made, at = [str(name) for name in about["columns"]], list[tuple[str, ...]](), 0
    for count, size in about["groups"]:
        if len(made) >= limit:
            break
        if size > _GROUP:
            raise InvalidInputError("its rows are too large to be shown; read it by open()", field="key")
        part = tables.plain(memoryview(source.bytes(at, at + size)), limit - len(made))
        cells = [[_text(cell) for cell in column.to_pylist()] for column in part.columns[:_CELLS]]
        made += [tuple(column[row] for column in cells) for row in range(min(count, part.num_rows))]
        at += size
    return ValueHead(tuple(map(_text, columns[:_CELLS])), tuple(made), int(about["rows"]), len(columns))


def _text(value: object) -> str:
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
