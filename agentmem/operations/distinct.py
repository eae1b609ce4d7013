"""The different values that a field has among the records of a list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, cast

from agentmem.engine.engine import Engine
from agentmem.filters.fields import FIELDS, RecordField
from agentmem.filters.parsing import Target
from agentmem.filters.paths import InData
from agentmem.filters.reaching import values_at
from agentmem.filters.recordsql import field_value
from agentmem.filters.sqlite import DATA
from agentmem.operations.page import Listing
from agentmem.stores.groups import column
from agentmem.types.clock import to_datetime
from agentmem.types.enums import Layer

_TYPES = (type(None), bool, int, float, str, list, dict)


def distinct(engine: Engine, listing: Listing, field: Target) -> list[Any]:
    """The different values, by type and then from low to high; ``field`` is of metadata, data, or the record."""
    engine.check()
    key = engine.key(listing.scope)
    if key is None:
        return []
    records, now = engine.repository, engine.now()
    sql = field_value(field) if isinstance(field, str) else DATA if isinstance(field, InData) else "r.metadata"
    groups = column(records, key, sql, listing.conditions, listing.within, now)
    found = dict[tuple[int, Any], Any]()
    if isinstance(field, str):
        made = _made(field)
        found = {(0, value): made(value) for group in groups for value in group}
    else:
        paths = field.paths if isinstance(field, InData) else field
        for group in groups:
            for text in group:
                _collect(found, values_at(json.loads(text), paths))
    return [found[value] for value in sorted(found)]


def _made(field: RecordField) -> Callable[[Any], Any]:
    """From a column's value to the record's."""
    makers: dict[str, Callable[[Any], Any]] = {"time": to_datetime, "bool": bool, "layer": Layer}
    return makers.get(FIELDS[field], lambda value: value)


def _text(value: Any) -> str:
    """A list or an object as text that is the same for what is equal."""
    return json.dumps(_with_whole_numbers(value), sort_keys=True)


def _with_whole_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in cast("dict[str, Any]", value).items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _collect(found: dict[tuple[int, Any], Any], values: Iterable[Any]) -> None:
    """Add values under what they are told apart and ordered by: the type, and the value, whole ones as text."""
    for value in values:
        kind = cast("type[object]", type(value))
        rank = _TYPES.index(int if kind is float else kind)
        what = 0 if value is None else _text(value) if kind in (list, dict) else value
        found.setdefault((rank, what), value)
