"""What ``Memory.apply`` does: values that say one change each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

from agentmem.types.enums import UNSET, Embed, Id, Instant, Layer, Namespace, Ttl, Unset, VectorLike
from agentmem.types.inputs import Item
from agentmem.types.plain import Plain
from agentmem.types.records import AddResult, MemoryRecord


@dataclass(frozen=True)
class Evidence(Plain):
    """What a fact was drawn from: the characters from ``first`` to before ``end`` of a record's content, or all of it.

    ``state`` is ``"live"``, ``"archived"``, ``"deleted"``, ``"expired"`` or ``"erased"``, where it was read.
    """

    id: str
    first: int | None = None
    end: int | None = None
    state: str = "live"


@dataclass(frozen=True, slots=True)
class Add:
    """Remember one thing, as ``Memory.add`` does; what there is to say of it, the item says.

    ``evidence`` is what it was drawn from: ids of records of the same user, or ``Evidence`` where only a
    part of one says it. Without any of them left it is erased with the last of them.
    """

    item: Item
    _: KW_ONLY
    evidence: Sequence[Id | Evidence] = ()


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


@dataclass(frozen=True, slots=True)
class SetValidity:
    """Say when a fact holds, by its id; what is left out stays. See docs/consolidation.md.

    ``retired=True`` notes that it holds no more, as of now by the store's clock: searches pass over it, and it stays.
    With ``valid_to`` it held until then, without an end it never did. ``superseded_by`` is the id of what takes its
    place, and retires it; left out, ``valid_to`` is then when that begins to hold (its ``valid_from``, else its
    ``occurred_at``, else now). ``retired=False`` takes all of that back. Records with a key are replaced by ``Put``.
    """

    id: Id
    _: KW_ONLY
    valid_from: Instant | Unset | None = UNSET
    valid_to: Instant | Unset | None = UNSET
    retired: bool | Unset = UNSET
    superseded_by: Id | Unset | None = UNSET
    if_version: int | None = None


Operation: TypeAlias = Add | Put | Update | Delete | Touch | SetValidity
"""One change of ``apply``."""
Applied: TypeAlias = AddResult | MemoryRecord | bool
"""What became of it: of an ``Add`` or a ``Put`` the result, of an ``Update`` or a ``SetValidity`` the record as it was
after it, of a ``Delete`` or a ``Touch`` whether there was a record."""
