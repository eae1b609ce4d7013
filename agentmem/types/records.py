"""What reads return: plain, immutable values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from agentmem.types.enums import EventType, Layer, Metadata
from agentmem.types.plain import Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRecord(Plain):
    """One memory as it is stored. Times are aware datetimes in UTC."""

    id: str
    """Yours, or a UUID that the store made."""
    content: str
    user_id: str | None
    """Whose memory it is; None: stored without a user."""
    agent_id: str | None
    run_id: str | None
    """The conversation that it belongs to."""
    role: str | None
    """Who said it, for messages: ``user``, ``assistant``, ..."""
    kind: str
    """What it is: ``message`` with a role, else ``fact``, unless something else was said."""
    layer: Layer
    """How long it lives, see docs/lifecycle.md."""
    metadata: Metadata
    """What filters look at; empty where there are none."""
    importance: float | None
    """As given, in [0, 1]; None counts as 0.5."""
    rating: float | None
    """The last rating by ``Memory.feedback``, from 1 to 5."""
    created_at: datetime
    """When it was added."""
    updated_at: datetime
    """When its version last changed."""
    occurred_at: datetime | None
    """When it happened, if that was said."""
    expires_at: datetime | None
    """The end of the ``ttl`` that its caller set; from then on it is invisible."""
    version: int
    """1 when added; one more with each change but pins and feedback."""
    pinned: bool = False
    """Whether the rules of the lifecycle leave it where it is."""


class AddResult:
    """What became of one added item.

    ``status`` is ``"added"``; ``"duplicate"`` if it was there already; or ``"refreshed"`` if it was, and this brought
    something new: a later end, a higher layer, other metadata, another importance. ``id`` and ``record`` are then those
    of the memory that was already there, as it is now.
    """

    __slots__ = ("_build", "_record", "id", "status")

    id: str
    status: Literal["added", "duplicate", "refreshed"]

    def __init__(
        self, id: str, status: Literal["added", "duplicate", "refreshed"], build: Callable[[], MemoryRecord]
    ) -> None:
        self.id = id
        self.status = status
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
class HitDetails(Plain):
    """Why a hit ranks where it does; the formula is in docs/design.md."""

    vector: float
    """What the meaning contributes: the cosine, 0 where it is negative."""
    keyword: float
    """The share of the query's words that the memory has, rare ones counting more."""
    recency: float
    """1 for now, halved every 30 days."""
    importance: float
    """As given, 0.5 where it was not."""
    rating: float
    """From 0 for a rating of 1 to 1 for one of 5; 0.5 where there is none."""
    matched_terms: tuple[str, ...]
    """The query's terms that the memory has."""
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
class SearchHit(Plain):
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


@dataclass(frozen=True, slots=True)
class SearchTrace(Plain):
    """How a search was done: the engines that proposed candidates, counts, and milliseconds per stage."""

    engines: tuple[str, ...]
    """Who proposed: ``arena`` or ``scan`` for all records of the scope, else ``lance``, ``tail``, ``keywords``."""
    candidates: int
    """How many records were scored."""
    cached: bool
    """Whether the result came from the query cache."""
    milliseconds: dict[str, float]
    """Time by stage: ``follow``, ``embed``, ``search``, ``hydrate``, ``build``."""


class SearchResults(list[SearchHit]):
    """Hits, best first. ``trace`` is set when ``explain=True``."""

    trace: SearchTrace | None

    def __init__(self, hits: Sequence[SearchHit] = (), trace: SearchTrace | None = None) -> None:
        super().__init__(hits)
        self.trace = trace


@dataclass(frozen=True, slots=True)
class HistoryEvent(Plain):
    """One change of one record.

    ``seq`` orders all events of a store. ``version`` is the record's version after the event. ``data`` holds what the
    event replaced (for UPDATE and RESTORE, the previous values) or recorded (for FEEDBACK); an ADD needs none.
    """

    seq: int
    id: str
    """The record's."""
    event: EventType
    at: datetime
    """When it happened."""
    version: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Plain):
    """A page of records; pass ``cursor`` to the next call, ``None`` means that this was the last one."""

    records: list[MemoryRecord]
    cursor: str | None
