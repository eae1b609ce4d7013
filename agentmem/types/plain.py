"""Results as JSON-ready data, and as members of sets and keys of dicts: the same for all of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, cast


class Plain:
    """Base of results, which are frozen dataclasses."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # In the class itself, else the dataclass makes one that fails where a field is a dict.
        cls.__hash__ = Plain.__hash__

    def __hash__(self) -> int:
        # Equal results have equal fields, so some of them are enough.
        values = (getattr(self, field.name) for field in fields(cast("Any", self)) if field.compare)
        return hash(tuple(value for value in values if isinstance(value, Hashable)))

    def to_dict(self) -> dict[str, Any]:
        """The values by name, JSON-ready: times as ISO 8601 text, tuples as lists, results inside as dicts."""
        return plain(self)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return value
