"""Metadata as the JSON that is stored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, cast

from agentmem.types.checks import check_text
from agentmem.types.errors import InvalidInputError, shown

MAX_DEPTH = 32
_MAX_INT = 2**63 - 1


def metadata_json(value: object, limit: int) -> str | None:
    """Metadata as JSON text of at most ``limit`` bytes; ``None`` when there is none.

    Dates become ISO 8601 text, tuples become lists.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"metadata must be a mapping, not {type(value).__name__}", field="metadata")
    if not value:
        return None
    clean = _Cleaner(limit).clean(cast("Mapping[object, object]", value), "metadata")
    text = json.dumps(clean, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    check_metadata_size(text, limit)
    return text


def merge_metadata(stored: str | None, given: Mapping[str, Any], limit: int) -> str | None:
    """Stored metadata with other values for some keys, as JSON text; a value of None removes its key."""
    merged: dict[str, Any] = json.loads(stored) if stored else {}
    merged.update(given)
    kept = {key: value for key, value in merged.items() if value is not None or key not in given}
    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
    check_metadata_size(text, limit)
    return text if kept else None


def check_metadata_size(text: str, limit: int) -> None:
    """Refuse metadata whose JSON is longer than ``limit`` bytes."""
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise _too_much_metadata(f"{size:,}", limit)


def _too_much_metadata(size: str, limit: int) -> InvalidInputError:
    return InvalidInputError(
        f"metadata has {size} bytes of JSON, more than max_metadata_bytes={limit:,}; put long text into content",
        field="metadata",
    )


class _Cleaner:
    """Copies a value as JSON can hold it and SQLite can read it back, or raises naming where it cannot.

    Stops once the copy is sure to need more than ``limit`` bytes of JSON: a few lists that hold each other several
    times would otherwise unfold into more than fits into memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit

    def clean(self, value: object, path: str, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool):
            self._take(4)
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            self._take(1)
            if not -_MAX_INT - 1 <= value <= _MAX_INT:
                raise InvalidInputError(f"{path} is an int beyond 63 bits; store it as text", field="metadata")
            return int(value)
        if isinstance(value, float):
            self._take(1)
            if not math.isfinite(value):
                raise InvalidInputError(f"{path} is {value}; JSON has no such number, use None", field="metadata")
            return float(value)
        if isinstance(value, (datetime, date)):
            return self._text(value.isoformat(), path)
        if depth >= MAX_DEPTH:
            raise InvalidInputError(f"{path} is nested more than {MAX_DEPTH} deep; flatten it", field="metadata")
        self._take(2)
        if isinstance(value, Mapping):
            return self._object(cast("Mapping[object, object]", value), path, depth)
        if isinstance(value, (list, tuple)):
            items = cast("Sequence[object]", value)
            return [self.clean(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(items)]
        raise InvalidInputError(
            f"{path} is a {type(value).__name__}, which JSON cannot hold; "
            "use text, numbers, bools, None, lists or dicts",
            field="metadata",
        )

    def _object(self, value: Mapping[object, object], path: str, depth: int) -> dict[str, Any]:
        clean: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInputError(f"{path} has the key {shown(key)}; keys must be text", field="metadata")
            name = self._text(key, f"a key of {path}")
            clean[name] = self.clean(item, f"{path}.{name}", depth + 1)
        return clean

    def _text(self, value: str, path: str) -> str:
        self._take(len(value) + 2)
        try:
            return check_text(value, path)
        except InvalidInputError as exc:
            raise InvalidInputError(str(exc), field="metadata") from exc

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise _too_much_metadata(f"more than {self._limit:,}", self._limit)
