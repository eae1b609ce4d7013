"""What is said of a value without reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agentmem.types.enums import EventType, ValueTierName
from agentmem.types.plain import Plain


@dataclass(frozen=True)
class ValueInfo(Plain):
    """A value that was put: what it is, without its bytes."""

    key: str
    id: str
    """Its record's, by which ``Memory.history`` goes."""
    kind: str
    """``"bytes"``, ``"str"``, ``"json"``, ``"array"``, ``"table"``, ``"stream"`` or ``"pickle"``."""
    size: int
    """Its bytes, before they are packed."""
    version: int
    """For ``if_version``; each put is one more."""
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    shape: tuple[int, ...] | None = None
    """Of an array; of a table its rows and columns."""
    dtype: str | None = None
    """Of an array."""
    order: str | None = None
    """Of an array: how its bytes lie, ``"C"`` or ``"F"``, as NumPy has it."""
    user_id: str | None = None
    namespace: tuple[str, ...] = ()
    digest: str = ""
    """Equal for values of equal bytes."""
    tier: ValueTierName = "cold"
    """Where a read finds it in this process: ``"hot"``, ``"warm"``, ``"cold"`` or ``"glacier"``."""


@dataclass(frozen=True)
class ValueHead(Plain):
    """The first rows of an array or a table, for those who only look."""

    columns: tuple[str, ...] | None
    """Of a table."""
    rows: tuple[tuple[str, ...], ...]
    """Each cell as a text; of wide rows the first ones, of long texts the beginning."""
    total: int
    """Rows that there are."""
    width: int
    """Cells that a row has."""


@dataclass(frozen=True)
class ValueVersion(Plain):
    """What a value was at one of its versions."""

    version: int
    event: EventType
    """ADD, UPDATE or RESTORE."""
    at: datetime
    kind: str | None
    """None where the bytes of that version are kept no more; ``restore`` cannot go back to it then."""
    size: int | None


@dataclass(frozen=True)
class ValueTier(Plain):
    """What of values is in a tier, and how often it was read there."""

    values: int
    bytes: int
    budget: int | None
    """Bytes that it may take; None: no limit."""
    hits: int
    """Reads by this process."""
    device: str | None = None
    """Of hot ones: the graphics card they are on, such as ``"cuda:0"``; None: in memory."""
    fallbacks: int = 0
    """Hot values that went to memory, since there is no card, or none with room, or since they are no arrays."""


@dataclass(frozen=True)
class ValueUsage(Plain):
    """What the values of a store take, everybody's together."""

    chunks: int
    """Pieces of up to 4 MiB, each stored once in a namespace of a user."""
    bytes: int
    """Before they were packed."""
    stored: int
    """As they lie on the disk."""
