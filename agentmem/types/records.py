"""What reads return: plain, immutable values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from agentmem.types.enums import EventType, Layer, Metadata
from agentmem.types.forms import FormName
from agentmem.types.plain import Plain, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
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
    namespace: tuple[str, ...] = ()
    """Where it is kept, of its user's; empty for the root."""
    key: str | None = None
    """What it was put by, if it was; one record of a user's namespace has it."""
    embedding: FormName = "content"
    """What its vectors are of: its ``content``, other ``texts``, ``given`` by its caller; or it has ``none``."""
    data: Any = None
    """Any JSON that was stored with it; None where there is none, and where a read left it out."""
    archived: bool = False
    """Whether its text, vectors and data lie in an archive, see docs/glacier.md; what reads return was fetched."""
    sliding: float | None = None
    """Seconds from a read until it is over, where reads put off ``expires_at``; None: they do not."""
    valid_from: datetime | None = None
    """Since when it holds in the world, if that was said; None: since ever, as far as is known."""
    valid_to: datetime | None = None
    """Until when it holds, itself no more; None: no end is known."""
    retired_at: datetime | None = None
    """When the store learned that it holds no more; from then on searches pass over it. None: it holds."""
    superseded_by: str | None = None
    """The id of what took its place, if something did."""
    last_accessed: datetime | None = field(default=None, compare=False)
    """When it was last used before this, by a ``get``, a search or a ``touch``; None: never."""

    @property
    def message(self) -> dict[str, Any]:
        """The message for a chat API: as it was added, where that had more than a role and a text."""
        data = self.data
        if isinstance(data, dict) and ("role" in data or "type" in data or "kind" in data):
            return cast("dict[str, Any]", data)
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, repr=False)
class AddResult(Plain):
    """What became of one added item.

    ``status`` is ``"added"``; ``"duplicate"`` if it was there already; or ``"refreshed"`` if it was, and this brought
    something new: a later end, a higher layer, other metadata, another importance. ``id`` and ``record`` are then those
    of the memory that was already there, as it is now; so they are with ``"replaced"``, by a put.
    """

    id: str
    status: Literal["added", "duplicate", "refreshed", "replaced"]
    record: MemoryRecord
    """The stored record."""

    @classmethod
    def on_use(
        cls,
        id: str,
        status: Literal["added", "duplicate", "refreshed", "replaced"],
        build: Callable[[T], MemoryRecord],
        stored: T,
    ) -> AddResult:
        """One whose record is built of what was stored when it is first looked at: bulk loads rarely do.

        Building takes 6 µs; a ``partial`` of it for each result would be two more objects for the garbage collector.
        """
        result = cls.__new__(cls)
        result.__dict__.update(id=id, status=status, _build=build, _stored=stored)
        return result

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__
        if name == "record":
            build, stored = values.get("_build"), values.get("_stored")
            if build is not None and stored is not None:  # else another thread has just made it
                values["record"] = build(stored)
                values.pop("_build", None)
                values.pop("_stored", None)
        if name in values:
            return values[name]
        raise AttributeError(f"an AddResult has no {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {"id": self.id, "status": self.status, "record": self.record}

    def __repr__(self) -> str:
        return f"AddResult(id={self.id!r}, status={self.status!r})"


@dataclass(frozen=True)
class Skipped(Plain):
    """An item that was left out, and why."""

    index: int
    """Its position among all items of the call, from 0."""
    field: str | None
    """What was wrong with it; None where it was no single field, or a scope id."""
    reason: str


class AddResults(list[AddResult]):
    """What became of the items, in their order: a list. ``skipped`` are those that were left out."""

    skipped: list[Skipped]

    def __init__(self, results: Sequence[AddResult] = (), skipped: Sequence[Skipped] = ()) -> None:
        super().__init__(results)
        self.skipped = list(skipped)

    def to_dict(self) -> dict[str, Any]:
        """``results`` and ``skipped``, JSON-ready."""
        return {"results": plain(list(self)), "skipped": plain(self.skipped)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        # For what is built on pydantic, such as an endpoint of FastAPI, it is a list of results.
        from pydantic import AfterValidator

        return handler.generate_schema(Annotated[list[AddResult], AfterValidator(cls)])


@dataclass(frozen=True)
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
    """In how many parts the model read the text, to average them; None in keyword mode, where it read none, and if it
    cannot tell."""
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
    part: int | None = None
    """Which of the memory's vectors is nearest, from 0: of the texts that were embedded, or of those that its caller
    gave. None where it has one or none."""


@dataclass(frozen=True)
class SearchHit(Plain):
    """One found memory.

    ``score`` in [0, 1] ranks hits of one query; ``similarity`` is the cosine between query and memory, in [-1, 1], and
    can be compared between queries (``None`` in keyword mode, where nothing is embedded, and of a memory that has no
    vector; of one that has several it is that of the nearest). With ``rank="similarity"``
    both are the cosine. ``details`` is set when
    ``explain=True``. What is asked for most often of the record is there without it, too: ``hit.content``.
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

    @property
    def user_id(self) -> str | None:
        return self.record.user_id

    @property
    def agent_id(self) -> str | None:
        return self.record.agent_id

    @property
    def run_id(self) -> str | None:
        return self.record.run_id

    @property
    def role(self) -> str | None:
        return self.record.role

    @property
    def kind(self) -> str:
        return self.record.kind

    @property
    def layer(self) -> Layer:
        return self.record.layer

    @property
    def metadata(self) -> Metadata:
        return self.record.metadata

    @property
    def data(self) -> Any:
        return self.record.data

    @property
    def created_at(self) -> datetime:
        return self.record.created_at

    @property
    def occurred_at(self) -> datetime | None:
        return self.record.occurred_at


@dataclass(frozen=True)
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
    """Hits, best first: a list. ``trace`` is set when ``explain=True``.

    ``skipped_archived`` says how many records of the scope that the filters allow lie in archives and were passed over,
    counted up to 10,000; ``include_glacier=True`` searches them, too.
    """

    trace: SearchTrace | None
    skipped_archived: int

    def __init__(
        self, hits: Sequence[SearchHit] = (), trace: SearchTrace | None = None, skipped_archived: int = 0
    ) -> None:
        super().__init__(hits)
        self.trace = trace
        self.skipped_archived = skipped_archived

    def to_dict(self) -> dict[str, Any]:
        """``hits``, ``trace`` and ``skipped_archived``, JSON-ready."""
        return {"hits": plain(list(self)), "trace": plain(self.trace), "skipped_archived": self.skipped_archived}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        # For what is built on pydantic, such as an endpoint of FastAPI, it is a list of hits.
        from pydantic import AfterValidator

        return handler.generate_schema(Annotated[list[SearchHit], AfterValidator(cls)])


@dataclass(frozen=True, eq=False)
class Vectors(Plain):
    """The vectors of one memory, as the store has them: of length one."""

    id: str
    """The memory's."""
    embedding: FormName
    """What they are of."""
    vectors: NDArray[np.float32]
    """Of shape ``(n, dim)``; n is 0 for a memory without any. A list of lists in ``to_dict()``."""
    texts: tuple[str, ...] = ()
    """The texts that were embedded in the place of the content, one for each vector, if that is what they are of."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vectors) and self.to_dict() == other.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """The values by name, JSON-ready."""
        return {
            "id": self.id,
            "embedding": self.embedding,
            "vectors": self.vectors.tolist(),
            "texts": list(self.texts),
        }

    @classmethod
    def _of(cls, values: dict[str, Any]) -> Vectors:
        import numpy as np

        count = len(values["vectors"])
        vectors = np.array(values["vectors"], np.float32).reshape(count, -1 if count else 0)
        return cls(values["id"], values["embedding"], vectors, tuple(values["texts"]))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        # For what is built on pydantic, such as an endpoint of FastAPI, it is what ``to_dict`` says.
        from pydantic import AfterValidator, BeforeValidator, PlainSerializer
        from typing_extensions import TypedDict

        class VectorsAnswer(TypedDict):
            id: str
            embedding: str
            vectors: list[list[float]]
            texts: list[str]

        return handler.generate_schema(
            Annotated[
                VectorsAnswer,
                BeforeValidator(lambda value: value.to_dict() if isinstance(value, cls) else value),
                AfterValidator(cls._of),
                PlainSerializer(cls.to_dict, return_type=VectorsAnswer),
            ]
        )


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class StoreEvent(Plain):
    """One event of a store, as ``Memory.events`` lists them: what happened to which record, and not what it says."""

    seq: int
    """Orders all events of a store; some numbers are missing, since events of what was erased go."""
    event: EventType
    at: datetime
    """When it happened."""
    version: int
    """The record's after it; 0 for an event of the store itself."""
    id: str | None
    """The record's; None if that was erased, or the event is the store's."""
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    namespace: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page(Plain):
    """A page of records; pass ``cursor`` to the next call, ``None`` means that this was the last one."""

    records: list[MemoryRecord]
    cursor: str | None
