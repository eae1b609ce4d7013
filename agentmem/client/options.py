"""The arguments of a call as one value, made once and passed on as a whole.

Names, types and defaults are those of the keyword parameters of ``Memory``'s methods, which say what each means.
Nothing is checked here: the border does that, once, whoever made the value.

A surface (a command line, a server) puts its input into one of these and hands on what was given::

    options = AddOptions(user_id=user, metadata=metadata)
    memory.add(text, **options.arguments())

A name that does not exist is a ``TypeError`` where the value is made, one that the method does not take where it is
called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar

from agentmem.types.enums import (
    By,
    Embed,
    Id,
    Instant,
    Layer,
    Mode,
    Namespace,
    Order,
    Rank,
    TimeZone,
    Ttl,
    UserId,
    VectorLike,
    When,
)


class _Options:
    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def arguments(self) -> dict[str, Any]:
        """What was given, by name, for a call with ``**``; what is as it would be anyway is left out."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in values if value is not field.default}


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions(_Options):
    """Of ``add``, ``add_many`` and ``add_stream``: what an item that says nothing itself falls back to."""

    user_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None
    namespace: Namespace | None = None
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
    """For ``add`` and ``put`` alone."""
    id: Id | None = None
    """For ``add`` and ``put`` alone; a batch has an id for each item, in the item."""
    dedupe: bool | None = None
    data: Any = None
    valid_from: Instant | None = None
    """For items alone, as is ``valid_to``."""
    valid_to: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions(_Options):
    """Of ``search``. ``context`` takes no ``limit``, ``offset``, ``as_of``, ``valid_at``, ``rank``, ``vector``,
    ``explain``, ``data`` and ``include_glacier``."""

    user_id: UserId = None
    agent_id: Id | None = None
    run_id: Id | None = None
    namespace: Namespace | None = None
    under: Namespace | None = None
    limit: int = 10
    offset: int = 0
    filters: Mapping[str, object] | None = None
    kinds: Sequence[str] | None = None
    layers: Sequence[Layer | str] | None = None
    since: When | None = None
    until: When | None = None
    as_of: When | None = None
    valid_at: When | None = None
    time_zone: TimeZone | None = None
    mode: Mode = "hybrid"
    rank: Rank = "score"
    min_similarity: float | None = None
    vector: VectorLike | None = None
    explain: bool = False
    data: bool = True
    touch: bool = True
    include_glacier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions(_Options):
    """Of ``page``, and of ``iterate`` without ``limit``, ``offset``, ``cursor`` and ``archived``."""

    user_id: UserId = None
    agent_id: Id | None = None
    run_id: Id | None = None
    namespace: Namespace | None = None
    under: Namespace | None = None
    filters: Mapping[str, object] | None = None
    kinds: Sequence[str] | None = None
    layers: Sequence[Layer | str] | None = None
    since: When | None = None
    until: When | None = None
    order: Order = "newest"
    by: By = "added"
    limit: int = 100
    offset: int = 0
    cursor: str | None = None
    data: bool = True
    touch: bool = True
    archived: bool = False
