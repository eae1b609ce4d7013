"""Metadata as the JSON that is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from agentmem.types.errors import InvalidInputError
from agentmem.types.values import MAX_INT, Copier, text_fault, type_name

_LONGEST_PATH = 80
# One for all: making an encoder takes longer than encoding what a record usually has.
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def metadata_json(value: object, limit: int) -> str | None:
    """Metadata as JSON text of at most ``limit`` bytes; ``None`` when there is none.

    What becomes of values that JSON does not have is said in ``types.values`` and in docs/values.md.
    """
    if value is None:
        return None
    if _is_flat(value) and value:
        text = _ENCODE(value)
        check_metadata_size(text, limit)
        return text
    metadata = _MetadataCopier(limit)
    found = metadata.plain(value, "metadata") if not isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise InvalidInputError(f"metadata must be a mapping, not {type_name(value)}", field="metadata")
    if not found:
        return None
    copy = metadata.copy(cast("object", found), "metadata")
    text = _ENCODE(copy)
    check_metadata_size(text, limit)
    return text


def _is_flat(value: object) -> bool:
    """Whether it is a dict, and all of it what JSON has, with nothing nested: it is stored as it stands, uncopied."""
    if type(value) is not dict:
        return False
    for key, item in cast("dict[object, object]", value).items():
        if type(key) is not str or text_fault(key) is not None:
            return False
        kind = type(item)
        if kind is str:
            if text_fault(cast("str", item)) is not None:
                return False
        elif kind is int:
            if not -MAX_INT - 1 <= cast("int", item) <= MAX_INT:
                return False
        elif item is not None and kind is not bool:
            return False
    return True


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


class _MetadataCopier(Copier):
    """Stops once the copy is sure to need more than ``limit`` bytes of JSON.

    A few lists that hold each other several times would otherwise unfold into more than fits into memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit

    def refuse(self, where: str, reason: str) -> NoReturn:
        name = where if len(where) <= _LONGEST_PATH else where[: _LONGEST_PATH - 3] + "..."
        raise InvalidInputError(f"{name} {reason}", field="metadata")

    def take(self, items: int, characters: int) -> None:
        self._room -= items + characters
        if self._room < 0:
            raise _too_much_metadata(f"more than {self._limit:,}", self._limit)

    def inside(self, where: str, key: str) -> str:
        return f"{where}.{key}"
