"""What it means to add what is there already: a life is never shortened by it, and what is new is kept.

The later end and the higher layer win; metadata and importance are merged as ``update`` would. Pure functions; the
writing is done in ``writes``.
"""

from __future__ import annotations

import json
from typing import Any

from agentmem.stores.connection import Value
from agentmem.stores.facts import canonical
from agentmem.stores.rows import Numbers, Stored, expired, size_of, visible
from agentmem.stores.schema import DELETED, EXPIRED
from agentmem.types.clock import Micros
from agentmem.types.enums import Layer
from agentmem.types.errors import ConflictError, InvalidInputError
from agentmem.types.inputs import Draft
from agentmem.types.metadata import merge_metadata

_RANK = {layer: rank for rank, layer in enumerate((Layer.INTERACT, Layer.INSIGHTS, Layer.ASSETS))}


def repeats(draft: Draft, scope: Numbers, stored: Stored, now: Micros) -> bool:
    """Whether a draft that names a record's id says the same again, for the same scope.

    A draft without a key or a time of its event does not contradict what is known; nor does one whose time is that at
    which the record was added, since that is what a record without one comes back with.
    """
    happened = stored.created_at if stored.occurred_at is None else stored.occurred_at
    return (
        visible(stored, now)
        and stored.scope == scope
        and draft.key in (None, stored.key)
        and draft.occurred_at in (None, happened)
        and (stored.content == draft.content or canonical(stored.content) == canonical(draft.content))
    )


def is_over(draft: Draft, now: Micros) -> bool:
    """Whether a record that comes back has ended meanwhile, by the end that it brings with it."""
    return draft.expires_at is not None and draft.expires_at <= now


def news(current: Stored, draft: Draft, now: Micros) -> dict[str, Value]:
    """What a repetition changes, by column; empty if it brings nothing new.

    Raises ``InvalidInputError`` if the metadata of both together are too large.
    """
    values = dict[str, Value]()
    end = draft.end(now)
    if current.expires_at is not None and (end is None or end > current.expires_at):
        values["expires_at"] = end
    # An end that reads put off is later than one that they do not; and where there is no end, nothing slides.
    span = None if current.expires_at is None or end is None else max(current.sliding or 0, draft.sliding or 0) or None
    if span != current.sliding:
        values["sliding"] = span
    if _RANK[draft.layer] > _RANK[Layer(current.layer)]:
        values["layer"] = draft.layer.value
    if draft.importance is not None and draft.importance != current.importance:
        values["importance"] = draft.importance
    metadata = _merged(current, draft)
    if metadata != current.metadata:
        values["metadata"] = metadata
    return values


def as_far_as_there_is_room(current: Stored, values: dict[str, Value]) -> list[dict[str, Value]]:
    """What to try in turn where a layer is full: everything first, last what needs no room at all."""
    larger = "metadata" in values and _size(values["metadata"]) > _size(current.metadata)
    roomy = ({"metadata"} if larger else set[str]()) | ({"layer"} & values.keys())
    return [
        {name: value for name, value in values.items() if name not in left_out}
        for left_out in (set[str](), {"metadata"}, {"layer"}, {"metadata", "layer"})
        if left_out <= roomy
    ]


def id_in_use(draft: Draft, scope: Numbers, stored: Stored, now: Micros) -> ConflictError:
    """The error for an id that is another record's; it says more to its owner than to others."""
    taken = f"the id {draft.id!r} is already in use"
    if stored.scope != scope:
        return ConflictError(f"{taken}; choose another one")
    if stored.state == DELETED:
        how = f"by a record that was deleted; restore({draft.id!r}) brings that back, and then it can be updated"
    elif expired(stored, now):
        how = "by a record whose ttl has passed"
    elif stored.state == EXPIRED:
        how = f"by a record that has expired; restore({draft.id!r}) may still bring that back"
    elif draft.key not in (None, stored.key):
        other = "without a key" if stored.key is None else f"with the key {stored.key!r}"
        return ConflictError(f"{taken} for a record {other}; choose another one, or leave it out")
    elif canonical(stored.content) == canonical(draft.content):
        other = "another occurred_at" if draft.occurred_at not in (None, stored.occurred_at) else "other data"
        return ConflictError(f"{taken} for the same content with {other}; choose another one")
    else:
        return ConflictError(f"{taken} for another content; choose another one, or update the record")
    return ConflictError(f"{taken} {how}; choose another one, or erase({draft.id!r}) first")


def _merged(current: Stored, draft: Draft) -> str | None:
    if draft.metadata is None or draft.metadata == current.metadata:
        return current.metadata
    known: dict[str, Any] = json.loads(current.metadata) if current.metadata else {}
    given = {
        key: value
        for key, value in json.loads(draft.metadata).items()
        if key not in known or _text(value) != _text(known[key])
    }
    if not given:
        return current.metadata
    try:
        return merge_metadata(current.metadata, given, draft.metadata_limit)
    except InvalidInputError as exc:
        raise InvalidInputError(
            f"this is there already as {current.id!r}, and with the metadata that it has, {exc}", field="metadata"
        ) from exc


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _size(metadata: Value) -> int:
    return size_of(metadata) if isinstance(metadata, str) else 0
