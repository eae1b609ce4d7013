"""The closed sets of values, and what arguments may be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from enum import Enum, StrEnum
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID


class _Sentinel(Enum):
    """Values that mean something other than any value a caller could pass."""

    ALL = "ALL"
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return self.value


ALL: Final = _Sentinel.ALL
"""As ``user_id`` in a read: every user's records. For administration; of writes only ``delete_all`` and
``erase_all`` take it."""
UNSET: Final = _Sentinel.UNSET
"""Default of ``update``'s arguments: leave this field as it is."""
AllUsers: TypeAlias = Literal[_Sentinel.ALL]
Unset: TypeAlias = Literal[_Sentinel.UNSET]
"""``UNSET``."""
Id: TypeAlias = str | int | UUID
"""An id: text of up to 512 characters; an int or a UUID means ``str(...)`` of it."""
UserId: TypeAlias = Id | AllUsers | None
"""Whose memories: a user's, those of no user (None), or everybody's (``ALL``)."""
Mode: TypeAlias = Literal["hybrid", "vector", "keyword"]
"""How to search: by meaning and words, by meaning, or by words."""
Tier: TypeAlias = Literal["hot", "warm", "cold"]
ValueTierName: TypeAlias = Literal["hot", "warm", "cold", "glacier"]
"""Where the vector of a record of a large scope is at hand: see docs/tiers.md."""
Rank: TypeAlias = Literal["score", "similarity"]
"""What hits are ordered by: the score of docs/design.md, or the plain cosine between query and memory."""
Order: TypeAlias = Literal["newest", "oldest"]
"""Which end of a list comes first."""
By: TypeAlias = Literal["added", "event", "updated"]
"""What a list follows: the order of adding, the time of the event (``occurred_at``; what has none stands where it was
added), or that of the last change (``updated_at``). What is at the same time stays in the order of adding."""
OnError: TypeAlias = Literal["raise", "skip"]
"""What becomes of an item that cannot be stored: an error for all of them, or it is left out and reported."""
OnConflict: TypeAlias = Literal["raise", "skip"]
"""What becomes of an item whose id another record has: an error for all of them, or it is left out and reported."""
Gone: TypeAlias = Literal["deleted", "expired"]
"""Why a record is no longer there: somebody deleted it, or its time in its layer was over (or the layer too full)."""
Metadata: TypeAlias = dict[str, Any]
"""A JSON object: text keys; text, numbers, booleans, None, lists and dicts as values."""
Instant: TypeAlias = datetime | date | str
"""A point in time: an aware datetime, or ISO 8601 text with an offset; of a date, its first instant in UTC."""
When: TypeAlias = date | str
"""A point in time (a datetime is a date, too), or a day for its beginning; without an offset, those of a time zone.

Text is ISO 8601: "2025-03-01", "2025-03-01T12:00", "2025-03-01T12:00+01:00"."""
TimeZone: TypeAlias = str | tzinfo
"""A time zone: its IANA name ("Europe/Berlin"), a ``ZoneInfo``, or a ``datetime.timezone``."""
Namespace: TypeAlias = Sequence[Id]
"""A path of names, from the root: ``("threads", "7")``; the root is ``()``."""
Ttl: TypeAlias = timedelta | float
"""A span of time: a timedelta, or seconds."""


Embed: TypeAlias = bool | Sequence[str]
"""What a record is embedded by: True, its content; False, nothing; or up to 256 texts in the place of the content."""
VectorLike: TypeAlias = Any
"""A vector, or up to 256 of them: an array or list of numbers of shape ``(dim,)`` or ``(n, dim)``, or text in base64 of
float32 numbers (little-endian), or a list of such. It need not be normalised."""
Given: TypeAlias = Literal["refuse", "keep", "embed"]
"""What becomes of vectors that callers gave when the store moves to another model."""


class Layer(StrEnum):
    """How long a record lives and what it is worth."""

    INTERACT = "interact"
    """What is said in passing: 24 hours, unless the settings say otherwise."""
    INSIGHTS = "insights"
    """What proved useful: 90 days."""
    ASSETS = "assets"
    """What is kept for good."""


class Pressure(StrEnum):
    """How full a layer is: medium from 60 % of its limit on, high above 85 %."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class EventType(StrEnum):
    """What can happen to a record."""

    ADD = "ADD"
    """It was added."""
    UPDATE = "UPDATE"
    """Its content, metadata, ttl or importance changed."""
    DELETE = "DELETE"
    """It was hidden; a restore brings it back."""
    RESTORE = "RESTORE"
    """It is back after a delete or an expiry, or as it was at an earlier version."""
    ERASE = "ERASE"
    """Its text, metadata and embedding are gone for good."""
    PROMOTE = "PROMOTE"
    """It moved up a layer."""
    DEMOTE = "DEMOTE"
    """It moved down a layer."""
    EXPIRE = "EXPIRE"
    """Its time was over: its layer's, or that which its caller gave it."""
    EVICT = "EVICT"
    """It had to go because its layer was too full."""
    PIN = "PIN"
    """It was pinned: the rules leave it where it is."""
    UNPIN = "UNPIN"
    """The rules have it again."""
    ARCHIVE = "ARCHIVE"
    REHYDRATE = "REHYDRATE"
    FEEDBACK = "FEEDBACK"
    """Somebody said how good it was."""
    TOUCH = "TOUCH"
    """A read has put off its end (``sliding``), or ``touch`` has; only the last one is kept, and not in its history."""
    REEMBED = "REEMBED"
    """The store moved to another embedding model."""
