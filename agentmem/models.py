"""What goes in and what comes out: plain, immutable values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from agentmem.newmemory import NewMemory


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


Item: TypeAlias = "str | Mapping[str, Any] | NewMemory"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRecord:
    """One memory as it is stored. Times are aware datetimes in UTC."""

    id: str
    content: str
    user_id: str | None
    agent_id: str | None
    run_id: str | None
    role: str | None
    kind: str
    layer: Layer
    metadata: Metadata
    importance: float | None
    rating: float | None
    created_at: datetime
    updated_at: datetime
    occurred_at: datetime | None
    expires_at: datetime | None
    version: int
    pinned: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values; times as ISO 8601 text."""
        return _plain(self)


class AddResult:
    """What became of one added item.

    ``status`` is ``"added"`` or ``"duplicate"``; for a duplicate, ``id`` and ``record`` are those of the memory that
    was already there.
    """

    __slots__ = ("_build", "_record", "id", "status")

    def __init__(self, id: str, status: Literal["added", "duplicate"], build: Callable[[], MemoryRecord]) -> None:
        self.id = id
        self.status: Literal["added", "duplicate"] = status
        self._build = build
        self._record: MemoryRecord | None = None

    @property
    def record(self) -> MemoryRecord:
        """The stored record (built on first use: bulk loads rarely look at it)."""
        if self._record is None:
            self._record = self._build()
        return self._record

    def __repr__(self) -> str:
        return f"AddResult(id={self.id!r}, status={self.status!r})"


@dataclass(frozen=True, slots=True)
class HitDetails:
    """Why a hit ranks where it does; the formula is in ``agentmem.retrieval.scoring``."""

    vector: float
    keyword: float
    recency: float
    importance: float
    rating: float
    matched_terms: tuple[str, ...]
    windows: int | None = None
    """In how many parts the model read the text, to average them; None in keyword mode and if the model cannot tell."""
    exact: float = 0.0
    """What the query's own words contribute to ``keyword``, which is the sum of ``exact``, ``similar``, ``context``."""
    similar: float = 0.0
    """What words of about the same meaning contribute."""
    context: float = 0.0
    """What the turns before and after contribute; negative where the query's words are rarer there than here."""
    date: float | None = None
    """How near the memory is to the date that the query names; None if it names none."""
    telling: float = 1.0
    """The factor for memories that ask rather than tell."""
    similar_terms: tuple[str, ...] = ()
    """Terms of the memory that stand for one of the query's."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One found memory.

    ``score`` in [0, 1] ranks hits of one query; ``similarity`` is the cosine between query and memory and can be
    compared between queries (``None`` in keyword mode, where nothing is embedded). ``details`` is set when
    ``explain=True``.
    """

    score: float
    similarity: float | None
    record: MemoryRecord
    details: HitDetails | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def content(self) -> str:
        return self.record.content

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON-ready values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class SearchTrace:
    """How a search was done: the engines that proposed candidates, counts, and milliseconds per stage."""

    engines: tuple[str, ...]
    candidates: int
    cached: bool
    milliseconds: dict[str, float]


class SearchResults(list[SearchHit]):
    """Hits, best first. ``trace`` is set when ``explain=True``."""

    def __init__(self, hits: Sequence[SearchHit] = (), trace: SearchTrace | None = None) -> None:
        super().__init__(hits)
        self.trace = trace


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One change of one record.

    ``seq`` orders all events of a store. ``version`` is the record's version after the event. ``data`` holds what the
    event replaced (for UPDATE and RESTORE, the previous values) or recorded (for FEEDBACK); an ADD needs none.
    """

    seq: int
    id: str
    event: EventType
    at: datetime
    version: int
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-ready values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of records; pass ``cursor`` to the next call, ``None`` means that this was the last one."""

    records: list[MemoryRecord]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class EraseReport:
    """What an erase removed, and which derived copies are still to be rewritten (``pending``)."""

    erased: int
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """A move from one model to another; ``records`` counts embeddings made by this run (a resumed one makes fewer)."""

    from_model: str
    to_model: str
    records: int


@dataclass(frozen=True, slots=True)
class Move:
    """What a sweep does with one record, and the rule behind it; ``to_layer`` is None for a record that goes."""

    id: str
    event: EventType
    from_layer: Layer
    to_layer: Layer | None
    rule: str


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did, or would do.

    ``blocked`` records are to be promoted to a layer that is full; ``erased`` ones can no longer be restored. ``moves``
    is filled by a dry run only, up to 10,000.
    """

    at: datetime
    promoted: int
    expired: int
    evicted: int
    erased: int
    blocked: int
    examined: int
    moves: tuple[Move, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition of a promotion: ``value`` has to exceed ``threshold``."""

    name: str
    value: float
    threshold: float
    met: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a record is where it is, what it lacks to move up, and when it is due.

    ``state`` is ``"live"``, ``"deleted"`` or ``"expired"``; ``since`` and ``because`` are those of the event that
    brought it there. ``lacks`` names the requirements that are not met, where that keeps it from being promoted.
    At ``due_at`` comes ``due_rule``: by ``"ttl"`` (the caller's) it is gone, by ``"layer ttl"`` it is promoted if it is
    eligible then, else it expires. An expired record can be restored before ``restorable_until``.
    """

    id: str
    state: str
    layer: Layer
    kind: str
    pinned: bool
    since: datetime
    because: str
    accesses: int
    first_access: datetime | None
    last_access: datetime | None
    score: float
    components: dict[str, float]
    target_layer: Layer | None
    target_kind: str | None
    eligible: bool
    gate: str
    requirements: tuple[Requirement, ...]
    lacks: tuple[str, ...]
    due_at: datetime | None
    due_rule: str | None
    restorable_until: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-ready values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class LayerStats:
    """Live records of a layer, the bytes of their text, metadata and vectors, and the layer's limit in bytes."""

    records: int
    bytes: int
    limit: int
    pressure: Pressure


@dataclass(frozen=True, slots=True)
class Stats:
    """What the store holds. ``bytes`` are sizes on disk by component."""

    records: int
    deleted: int
    expired: int
    events: int
    by_layer: dict[str, int]
    layers: dict[str, LayerStats]
    pressure: Pressure
    bytes: dict[str, int]
    model: str
    dim: int
    arenas: dict[str, int]
    query_cache: dict[str, int]
    embedding_cache: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Health:
    """How the store is doing. ``vectors_behind`` counts changes that LanceDB has yet to receive.

    ``sweep_errors`` counts failures of the background sweeps and of recording accesses; both are tried again.
    """

    ok: bool
    vectors_behind: int
    vector_errors: int
    vector_rebuilds: int
    last_vector_error: str | None
    sweep_errors: int
    last_sweep_error: str | None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify()`` compared, and every disagreement that it found."""

    ok: bool
    counts: dict[str, int]
    problems: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return value
