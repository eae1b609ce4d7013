"""Records that come back in: what ``to_dict()`` of a record says, as an item to add.

Taken are the words and what the caller once said of them: content, scope, role, kind, layer, metadata, importance, the
id, the date. ``expires_at`` becomes the rest of its ``ttl``; where there is no ``occurred_at``, ``created_at`` becomes
it, since that is what the record's time was until now. The store that it comes to counts versions, times of change,
ratings and pins by itself: those are left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from agentmem.types.checks import check_instant
from agentmem.types.clock import Micros
from agentmem.types.records import MemoryRecord

_SIGNS = frozenset({"id", "content", "created_at", "updated_at", "version"})
"""A mapping with all of these is a record; one that somebody wrote by hand has no version."""
_LEFT_BEHIND = ("created_at", "updated_at", "expires_at", "version", "rating", "pinned")


def is_returned(item: object) -> bool:
    """Whether the item is a record, or one as a mapping."""
    return isinstance(item, MemoryRecord) or (isinstance(item, Mapping) and item.keys() >= _SIGNS)


def as_item(record: MemoryRecord | Mapping[str, Any], now: Callable[[], Micros]) -> dict[str, Any]:
    """A record's fields as those of an item; what is in it besides is kept. ``now`` is the store's clock.

    A record whose ``ttl`` has passed since gets a microsecond: it is stored, and invisible as it was promised.
    """
    given = (
        {f.name: getattr(record, f.name) for f in fields(record)} if isinstance(record, MemoryRecord) else dict(record)
    )
    if given.get("occurred_at") is None:
        given["occurred_at"] = given["created_at"]
    if given.get("expires_at") is not None and given.get("ttl") is None:
        left = check_instant(given["expires_at"], "expires_at") - now()
        given["ttl"] = timedelta(microseconds=max(1, left))
    return {name: value for name, value in given.items() if name not in _LEFT_BEHIND}
