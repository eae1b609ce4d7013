"""Mending what no store can hold as it is: half characters (lone surrogates) and NULs, as real logs have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_DEEPEST = 40
_TEXTS = ("content", "role", "kind", "metadata")
"""Fields that are mended. Ids are not: two that differ must not become one."""


def mended(item: object, most: int = 1_000_000) -> object:
    """An item with U+FFFD in place of what cannot be stored; two halves of a character that meet become it.

    The item itself where nothing is wrong with it. ``most`` values are looked at; metadata with more is refused anyway.
    """
    if isinstance(item, str):
        return _text(item)
    if not isinstance(item, Mapping):
        return item
    fields, mending = cast("Mapping[object, object]", item), _Mending(most)
    changed = {key: new for key in _TEXTS if (new := mending.value(value := fields.get(key))) is not value}
    return {**fields, **changed} if changed else fields


class _Mending:
    """The walk through one item. A few lists that hold each other several times would unfold into endlessly many."""

    def __init__(self, most: int) -> None:
        self._left = most

    def value(self, value: Any, depth: int = 0) -> Any:
        """The same, of a part of an item."""
        if isinstance(value, str):
            return _text(value)
        self._left -= 1
        if depth == _DEEPEST or self._left < 0:
            return value
        if isinstance(value, Mapping):
            fields = cast("Mapping[Any, Any]", value)
            self._left -= len(fields)
            pairs = [(self.value(key), self.value(inner, depth + 1)) for key, inner in fields.items()]
            same = all(
                key is old and inner is was for (key, inner), (old, was) in zip(pairs, fields.items(), strict=True)
            )
            return fields if same else dict(pairs)
        if isinstance(value, (list, tuple)):
            items = cast("list[Any]", value)
            self._left -= len(items)
            new = [self.value(inner, depth + 1) for inner in items]
            return items if all(one is other for one, other in zip(new, items, strict=True)) else new
        return value


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}") if "\x00" in text else text
