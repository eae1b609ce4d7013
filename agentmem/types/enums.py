"""The closed sets of values, and what arguments may be."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    pass


class _Sentinel(Enum):
    """Values that mean something other than any value a caller could pass."""

    ALL = "ALL"
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return self.value


ALL: Final = _Sentinel.ALL
"""As ``user_id`` in a read: every user's records. For administration; refused in writes."""
UNSET: Final = _Sentinel.UNSET
"""Default of ``update``'s arguments: leave this field as it is."""
AllUsers: TypeAlias = Literal[_Sentinel.ALL]
Unset: TypeAlias = Literal[_Sentinel.UNSET]
UserId: TypeAlias = str | AllUsers | None
Mode: TypeAlias = Literal["hybrid", "vector", "keyword"]
Order: TypeAlias = Literal["newest", "oldest"]
Metadata: TypeAlias = dict[str, Any]
Instant: TypeAlias = datetime | str
Ttl: TypeAlias = timedelta | float


class Layer(StrEnum):
    """How long a record lives and what it is worth."""

    INTERACT = "interact"
    INSIGHTS = "insights"
    ASSETS = "assets"


class Pressure(StrEnum):
    """How full a layer is: medium from 60 % of its limit on, high above 85 %."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class EventType(StrEnum):
    """What can happen to a record."""

    ADD = "ADD"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    RESTORE = "RESTORE"
    ERASE = "ERASE"
    PROMOTE = "PROMOTE"
    DEMOTE = "DEMOTE"
    EXPIRE = "EXPIRE"
    EVICT = "EVICT"
    PIN = "PIN"
    UNPIN = "UNPIN"
    ARCHIVE = "ARCHIVE"
    REHYDRATE = "REHYDRATE"
    FEEDBACK = "FEEDBACK"
    REEMBED = "REEMBED"
