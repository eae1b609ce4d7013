"""What ``Memory.apply`` does: values that say one change each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

from agentmem.types.enums import UNSET, Embed, Id, Instant, Layer, Namespace, Ttl, Unset, VectorLike
from agentmem.types.inputs import Item
from agentmem.types.records import AddResult, MemoryRecord


@dataclass(frozen=True, slots=True)
class Add:
    """Remember one thing, as ``Memory.add`` does; what there is to say of it, the item says."""

    item: Item


@dataclass(frozen=True, slots=True)
class Put:
    """Store one thing under a key, as ``Memory.put`` does."""

    key: str
    content: str | None = None
    _: KW_ONLY
    namespace: Namespace | None = None
    user_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None
    role: str | None = None
    kind: str | None = None
    layer: Layer | str | None = None
    metadata: Mapping[str, Any] | None = None
    importance: float | None = None
    ttl: Ttl | None = None
    sliding: bool | None = None
    occurred_at: Instant | None = None
    embed: Embed | None = None
    vector: VectorLike | None = None
    id: Id | None = None
    data: Any = None
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Change a record, by its id or by its key, as ``Memory.update`` does; what is left out stays."""

    id: Id | None = None
    _: KW_ONLY
    key: str | None = None
    namespace: Namespace | None = None
    user_id: Id | None = None
    content: str | Unset | None = UNSET
    metadata: Mapping[str, Any] | Unset | None = UNSET
    merge: bool = True
    ttl: Ttl | Unset | None = UNSET
    sliding: bool | Unset = UNSET
    importance: float | Unset | None = UNSET
    embed: Embed | Unset = UNSET
    vector: VectorLike | Unset = UNSET
    data: Any = UNSET
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Hide a record, by its id or by its key, as ``Memory.delete`` does."""

    id: Id | None = None
    _: KW_ONLY
    key: str | None = None
    namespace: Namespace | None = None
    user_id: Id | None = None
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """Say that a record was used, by its id or by its key, as ``Memory.touch`` does."""

    id: Id | None = None
    _: KW_ONLY
    key: str | None = None
    namespace: Namespace | None = None
    user_id: Id | None = None
    ttl: Ttl | Unset | None = UNSET
    if_version: int | None = None


Operation: TypeAlias = Add | Put | Update | Delete | Touch
"""One change of ``apply``."""
Applied: TypeAlias = AddResult | MemoryRecord | bool
"""What became of it: of an ``Add`` or a ``Put`` the result, of an ``Update`` the record as it was after it, of a
``Delete`` or a ``Touch`` whether there was a record."""
