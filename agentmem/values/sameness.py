"""Whether a table of pandas or polars would come back as it is: what of it would not, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np

_NUMBERS = "biuf"
"""Kinds of NumPy's types."""


def changed_types(value: Any, back: Any) -> str | None:
    """The first column of a polars frame, or series, whose type would be another."""
    if not hasattr(value, "dtypes"):
        return None if value.dtype == back.dtype else _types("it", value.dtype, back.dtype)
    pairs = zip(value.columns, value.dtypes, back.dtypes, strict=True)
    return next((_types(f"its column {name!r}", one, other) for name, one, other in pairs if one != other), None)


def changed_frame(frame: Any, table: Any, *, named: bool) -> str | None:
    """What of a pandas frame would not come back from its Arrow table: a type, a label, or an object. Numbers, times
    and texts, which have types, always do. ``named``: the names of its columns are its own.

    Raises what pandas and Arrow raise where none of it would.
    """
    back = table.slice(0, 0).to_pandas()
    for at, (one, other) in enumerate(zip(frame.dtypes, back.dtypes, strict=True)):
        if one != other:
            return _types(_column(frame, at), one, other)
    if named and (changed := _changed_labels("its columns", frame.columns, back.columns)):
        return changed
    kept = [name for name in _index_columns(table) if isinstance(name, str)]
    if changed := _changed_labels("its index", frame.index, table.select(kept).to_pandas().index):
        return changed
    return next((said for at in range(len(frame.columns)) if (said := _changed_objects(frame, table, at))), None)


def _index_columns(table: Any) -> list[object]:
    return cast("dict[str, Any]", table.schema.pandas_metadata or {}).get("index_columns", [])


def _column(frame: Any, at: int) -> str:
    return f"its column {frame.columns[at]!r}"


def _types(what: str, one: object, other: object) -> str:
    return f"{what} is of {one}, and would come back as of {other}"


def _changed_labels(what: str, one: Any, other: Any) -> str | None:
    if list(one.names) != list(other.names):
        return f"{what} would be named {list(other.names)!r} instead of {list(one.names)!r}"
    for level in range(one.nlevels):
        was, now = one.get_level_values(level), other.get_level_values(level)
        if was.dtype != now.dtype:
            return _types(what, was.dtype, now.dtype)
        if not was.equals(now):
            return f"{what} would have other labels"
    return None


def _changed_objects(frame: Any, table: Any, at: int) -> str | None:
    """Of a column of Python's objects those that Arrow takes for others: a time for its date, for one."""
    kind, column = table.schema.field(at).type, frame.iloc[:, at]
    if column.dtype.kind != "O" or not isinstance(column.dtype, np.dtype):
        return None
    if str(kind) in ("string", "large_string", "null"):  # made of texts alone
        return None
    pairs = zip(column, table.column(at).to_pandas(), strict=True)
    for one, other in cast("Iterable[tuple[object, object]]", pairs):
        if not _is_same(one, other):
            return f"in {_column(frame, at)}, {one!r} would come back as {other!r}"
    return None


def _is_same(one: Any, other: Any) -> bool:
    """Whether an object is what came back for it: lists come as arrays, and what is missing as None."""
    if isinstance(other, dict):
        there = cast("dict[str, object]", other)
        return isinstance(one, dict) and there.keys() == one.keys() and all(_is_same(one[k], there[k]) for k in there)
    if isinstance(other, np.ndarray):
        return isinstance(one, (list, tuple, np.ndarray)) and _are_same(cast("Any", one), cast("Any", other))
    return one is other or _is_missing(one, other) or bool(one == other)


def _are_same(some: Any, others: Any) -> bool:
    if len(some) != len(others):
        return False
    kinds = {getattr(each, "dtype", np.dtype(object)).kind for each in (some, others)}
    if kinds <= set(_NUMBERS):
        return np.array_equal(some, others, equal_nan=True)
    return all(map(_is_same, some, others))


def _is_missing(one: Any, other: Any) -> bool:
    from importlib import import_module

    isna = import_module("pandas").isna
    return isna(other) is True and isna(one) is True
