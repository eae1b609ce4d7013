"""What bodies and queries say; names, meanings and defaults are those of ``Memory``'s arguments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentmem.server.endpoint import Body

Path = list[str]
"""A namespace: its names, from the root."""
Kind = Annotated[list[str], Field(description="Only these kinds.")]
LayerName = Literal["interact", "insights", "assets"]
Time = Annotated[str, Field(description="ISO 8601; without an offset, of the setting retrieval.time_zone.")]
Embeds = Annotated[bool | list[str], Field(description="Its content, nothing, or other texts in its place.")]
AllUsers = Annotated[bool, Field(description="Everybody's; with the scope admin, and in the place of a user_id.")]
VectorText = Annotated[Any, Field(description="Numbers, lists of numbers, or base64 of float32 numbers.")]


class OfUser(Body):
    """Whom a request is about. Left out, it is whom the key is for; a key for any user names one here."""

    user_id: str | None = None


class Where(OfUser):
    """Of whose records, and which part of them; a list is a parameter that is repeated."""

    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    under: Path | None = None


class Listed(Where):
    """Which of them."""

    filters: str | None = Field(None, description="A filter as JSON, see docs/filters.md.")
    kinds: Kind | None = None
    layers: list[LayerName] | None = None
    since: Time | None = None
    until: Time | None = None


class Paged(Listed):
    """And in which order."""

    order: Literal["newest", "oldest"] = "newest"
    by: Literal["added", "event", "updated"] = "added"
    limit: int = 100
    offset: int = 0
    cursor: str | None = None
    data: bool = True
    touch: bool = True
    archived: bool = False


class KeyedItem(Body):
    """One thing to keep by a key: a text, or data."""

    content: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    role: str | None = None
    kind: str | None = None
    layer: LayerName | None = None
    metadata: dict[str, Any] | None = None
    importance: float | None = None
    ttl: float | None = Field(None, description="Seconds, from now.")
    sliding: bool | None = None
    occurred_at: str | None = Field(None, description="ISO 8601, with an offset.")
    embed: Embeds | None = None
    vector: VectorText = None
    id: str | None = None
    data: Any = None


class Item(KeyedItem):
    """One thing to remember: a text, a message (with a role), or data."""

    dedupe: bool | None = None
    valid_from: Time | None = None
    valid_to: Time | None = None


class Batch(Body):
    """Many things; what is said beside ``items`` holds for those that say nothing themselves."""

    items: list[str | dict[str, Any]] = Field(
        description="Texts, messages of chat APIs, or objects as POST /v1/memories takes."
    )
    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    role: str | None = None
    kind: str | None = None
    layer: LayerName | None = None
    metadata: dict[str, Any] | None = None
    importance: float | None = None
    ttl: float | None = None
    sliding: bool | None = None
    occurred_at: str | None = None
    embed: Embeds | None = None
    dedupe: bool | None = None
    on_error: Literal["raise", "skip"] = "raise"
    on_conflict: Literal["raise", "skip"] = "raise"
    repair: bool = False
    source: str | None = None


class Streamed(OfUser):
    """Of a stream of things: what holds for those that say nothing themselves."""

    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    layer: LayerName | None = None
    kind: str | None = None
    chunk: int = Field(1_000, ge=1, le=10_000)
    on_error: Literal["raise", "skip"] = "raise"
    on_conflict: Literal["raise", "skip"] = "raise"
    repair: bool = False
    source: str | None = None
    ids: bool = Field(False, description="Whether each line of the answer lists the ids.")


class Imported(Streamed):
    """And whether each line says whose it is."""

    all_users: AllUsers = False


class Search(Body):
    """A search."""

    query: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    under: Path | None = None
    limit: int = 10
    offset: int = 0
    filters: dict[str, Any] | None = None
    kinds: Kind | None = None
    layers: list[LayerName] | None = None
    since: Time | None = None
    until: Time | None = None
    as_of: Time | None = None
    valid_at: Time | None = None
    time_zone: str | None = None
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    rank: Literal["score", "similarity"] = "score"
    min_similarity: float | None = None
    vector: VectorText = None
    explain: bool = False
    data: bool = True
    touch: bool = True
    include_glacier: bool = False


class SearchMany(Body):
    """The same search for several queries."""

    queries: list[str] = Field(max_length=1_000)
    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    under: Path | None = None
    limit: int = 10
    offset: int = 0
    filters: dict[str, Any] | None = None
    kinds: Kind | None = None
    layers: list[LayerName] | None = None
    since: Time | None = None
    until: Time | None = None
    as_of: Time | None = None
    valid_at: Time | None = None
    time_zone: str | None = None
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    rank: Literal["score", "similarity"] = "score"
    min_similarity: float | None = None
    explain: bool = False
    data: bool = True
    touch: bool = True
    include_glacier: bool = False


class Context(Body):
    """What to paste into a prompt."""

    query: str
    max_tokens: int
    agent_id: str | None = None
    run_id: str | None = None
    namespace: Path | None = None
    under: Path | None = None
    filters: dict[str, Any] | None = None
    kinds: Kind | None = None
    layers: list[LayerName] | None = None
    since: Time | None = None
    until: Time | None = None
    time_zone: str | None = None
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    min_similarity: float | None = None
    touch: bool = True


class Patch(Body):
    """What is to be changed; what is left out stays, and null removes."""

    content: str | None = None
    metadata: dict[str, Any] | None = None
    merge: bool = True
    ttl: float | None = None
    sliding: bool = False
    importance: float | None = None
    embed: Embeds = True
    vector: VectorText = None
    data: Any = None


class Rating(Body):
    """How good a memory was."""

    rating: float | None = Field(None, description="From 1 to 5.")
    accepted: bool | None = None
    query: str | None = None


class Added(TypedDict):
    """What became of an item."""

    id: str
    status: Literal["added", "duplicate", "refreshed", "replaced"]
    version: int


class LeftOut(TypedDict):
    """An item that was left out, and why."""

    index: int
    field: str | None
    reason: str


class AddedMany(TypedDict):
    """What became of the items, in their order."""

    results: list[Added]
    skipped: list[LeftOut]


class Count(TypedDict):
    """How many."""

    count: int


class Done(TypedDict):
    """Whether there was something to do it to."""

    done: bool


class Text(TypedDict):
    """A text."""

    text: str


class Problem(TypedDict, total=False):
    """What went wrong (RFC 9457); ``title`` is the name of the error."""

    type: str
    title: str
    status: int
    detail: str
    field: str
    index: int
