"""Records that come back in: what ``to_dict()`` of a record says, as an item to add.

Taken are the words and what the caller once said of them: content, scope, role, kind, layer, metadata, importance,
data, id, key, date, and the end of its life; where there is no ``occurred_at``, ``created_at`` becomes it, since
that is what the record's time was until now. What it was embedded by comes along where that is said beside it, as an
export does (``embed``, ``vector``). The store that it comes to counts versions, times of change, ratings and pins by
itself: those are left behind.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentmem.types.checks import check_instant
from agentmem.types.clock import Micros

if TYPE_CHECKING:
    from agentmem.types.records import Vectors

_SIGNS = frozenset({"id", "content", "created_at", "updated_at", "version"})
"""A mapping with all of these is a record; one that somebody wrote by hand has no version."""
_LEFT_BEHIND = (
    "created_at",
    "updated_at",
    "expires_at",
    "version",
    "rating",
    "pinned",
    "key",
    "embedding",
    "last_accessed",
    "archived",
    "retired_at",
    "superseded_by",
)


def embedded_by(held: Vectors | None) -> dict[str, Any]:
    """What stands beside a record's fields where something else than its content was embedded: the texts, or the
    vectors that were given, in base64."""
    if held is None:
        return {}
    if held.embedding == "texts":
        return {"embed": list(held.texts)}
    packed = [b64encode(vector.astype("<f4").tobytes()).decode() for vector in held.vectors]
    return {"vector": packed[0] if len(packed) == 1 else packed} if held.embedding == "given" else {}


def is_record(fields: Mapping[str, object]) -> bool:
    """Whether these are the fields of a record."""
    return fields.keys() >= _SIGNS


def as_item(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record's fields as those of an item; what is in it besides is kept."""
    given = dict(record)
    if given.get("occurred_at") is None:
        given["occurred_at"] = given["created_at"]
    if given.get("embedding") == "none" and given.get("vector") is None:
        given.setdefault("embed", False)
    given = {name: value for name, value in given.items() if name not in _LEFT_BEHIND}
    span = given.get("sliding")
    if span is not None and not isinstance(span, bool):
        given |= {"sliding": True, "ttl": span if given.get("ttl") is None else given["ttl"]}
    return given


def end_of(record: Mapping[str, Any]) -> Micros | None:
    """When a record is over: as it said, unless it was given a ``ttl`` of its own since."""
    if record.get("expires_at") is None or record.get("ttl") is not None:
        return None
    return check_instant(record["expires_at"], "expires_at")
