"""The ports: what is needed of an embedding model, of a copy that follows the records, and of a vector index.

An adapter can be written from these docstrings alone; ``tests/contracts`` has a suite for each, which an adapter's own
test inherits.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from agentmem.types.clock import Micros

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]
    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]


class Entry(NamedTuple):
    """What an index needs to know of a record; times in microseconds.

    ``user`` is the number of the record's owner: of its user or, in a namespace, of that. No number is both.
    ``vector`` has the bytes of its embedding, normalised float32, and none where there is no embedding. Where there are
    several it is the first, and ``said`` is empty, until ``Records.whole`` puts in all of them, one after the other,
    and the texts that they are of, as far as the content does not say them. ``vectors`` is the column (see
    ``types.forms``), ``body`` the version that has the texts.
    """

    row: int
    id: str
    user: int
    agent: int
    run: int
    kind: str
    layer: str
    created_at: Micros
    occurred_at: Micros | None
    expires_at: Micros | None
    importance: float | None
    rating: float | None
    version: int
    content: str
    vector: bytes
    vectors: int
    body: int | None
    said: str = ""

    @property
    def words(self) -> str:
        """The text that words are looked for in."""
        return f"{self.content}\n{self.said}" if self.said else self.content


@runtime_checkable
class Embedder(Protocol):
    """Turns text into vectors.

    Called from several worker threads at once: an implementation that is not thread-safe must lock by itself.
    Vectors need not be normalised (the engine normalises), but must be finite and not all zero. Any exception is
    reported to the caller as ``EmbeddingError``; nothing is stored for the texts of that call.
    """

    @property
    def name(self) -> str:
        """Identifies the model. Stored with the data: opening a store with another name is refused."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector. Known without loading the model."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vector:
        """Embed texts to be stored: float32, shape ``(len(texts), dim)``, row *i* for text *i*."""
        ...

    def embed_query(self, text: str) -> Vector:
        """Embed one text to search with: float32, shape ``(dim,)``."""
        ...


class RemoteEmbedder(Protocol):
    """An ``Embedder`` that is asked over a network, say: its methods may be async, its dimension known late.

    What is async runs on one event loop (asyncio) that the package has for this, on a thread of its own: what belongs
    to a loop, such as a pool of connections, must not be used by the program's own loops as well.
    """

    @property
    def name(self) -> str:
        """As for an ``Embedder``."""
        ...

    @property
    def dim(self) -> int | None:
        """Length of a vector; None, or an error, as long as nothing was embedded.

        Where a new store is made, a word is embedded then to find out; a store that has vectors knows.
        """
        ...

    def embed_documents(self, texts: list[str]) -> Awaitable[Any] | Any:
        """A vector for each text, as an array or as lists of numbers; or what is awaited for them."""
        ...

    def embed_query(self, text: str) -> Awaitable[Any] | Any:
        """The vector of one text to search with; or what is awaited for it."""
        ...


EmbedFunction: TypeAlias = Callable[[list[str]], object]
"""A function, also an async one, from texts to a vector for each, as an array or as lists of numbers."""
AnyEmbedder: TypeAlias = str | os.PathLike[str] | Embedder | RemoteEmbedder | EmbedFunction | None
"""An embedding model: None for the bundled one, a name that fastembed knows, the folder of an ONNX model, an object of
the caller's, or a function."""


@runtime_checkable
class Windowed(Protocol):
    """What an ``Embedder`` may tell besides, if its model reads a limited number of tokens at once."""

    @property
    def window(self) -> int | None:
        """That number; None where there is no limit."""
        ...

    def windows(self, texts: Sequence[str]) -> list[int]:
        """In how many parts ``embed_documents`` embeds each text; 1 for a text that fits."""
        ...


class Feed(Protocol):
    """Where a copy learns what has changed: the history, whose numbers only grow."""

    def last_seq(self) -> int:
        """The newest event's number; 0 if nothing ever happened."""
        ...

    def events_after(self, seq: int, limit: int) -> Sequence[FeedEvent]:
        """The next events, ascending, at most ``limit``."""
        ...


class FeedEvent(NamedTuple):
    """An event of the feed: its number, the row that changed (0: the store itself), and whose that is.

    ``user``, ``agent`` and ``run`` are the numbers of scope ids, ``space`` that of a namespace, 0 for none; ``event``
    is a value of ``EventType``.
    """

    seq: int
    row: int
    user: int
    agent: int
    run: int
    space: int = 0
    event: str = ""

    @property
    def touch(self) -> bool:
        """Whether all that changed is when the record is over."""
        return self.event == "TOUCH"

    @property
    def owner(self) -> int:
        """What copies know the record by instead of its user: the number of its namespace, if it has one."""
        return self.space or self.user


class FeedFollower(Protocol):
    """The part of a copy that ``indexes.feed.follow`` needs."""

    @property
    def group(self) -> int:
        """Events that ``apply`` takes at once, at most."""
        ...

    def applied_seq(self) -> int:
        """The last event that this has; 0: none, so that everything is to be applied."""
        ...

    def apply(self, events: Sequence[FeedEvent], after: int) -> None:
        """Bring the records of these events, which come next ``after`` that one, to their current state.

        What counts is the state of the records *now*, not the event, so that applying events again does no harm. On
        return, ``applied_seq`` is the last of them, unless the copy is no longer at ``after``: somebody else was
        faster, or it was reset meanwhile. Then it stays where it is, and the loop goes on from there.
        """
        ...


class FeedCopy(FeedFollower, Protocol):
    """Something that is derived from the records, follows them by the feed, and can be made anew from them at any time.

    LanceDB's table, the keyword index, the scopes held in memory. It may be behind, and a crash may leave it so; it is
    never ahead of what is committed, and losing it costs time, not answers.
    """

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def check(self) -> list[str]:
        """What it holds that the records do not, or the other way round; empty if it is right.

        Each problem begins with ``name``. May bring the copy up to date first.
        """
        ...

    def reset(self) -> None:
        """Forget everything. What the copy holds after that is made anew from the records: by the feed, from its
        beginning, or from the records as they are when they are first asked for."""
        ...


class Mask(NamedTuple):
    """Which vectors may be found: those of a scope, by the numbers of its ids; None is any.

    ``user`` is that of an owner (see ``Entry``), or those of several. ``rows``, where it is given, limits them further:
    row numbers, int64, ascending, each once.
    """

    user: int | tuple[int, ...] | None = None
    agent: int | None = None
    run: int | None = None
    rows: Ints | None = None


class Nearest(NamedTuple):
    """Vectors near to a query, nearest first, ties by row and part.

    ``rows`` and ``parts`` are int64, ``similarities`` float32 cosines in [-1, 1], each of shape ``(n,)``. A record may
    have several vectors: part 0, 1, ... of it, at most 256; or none. A row and a part together are the key of a vector:
    where a record changes, all of its parts go, and those that it has then come. ``applied`` is the event of the feed
    up to which the index was complete when it was searched; 0 says that it cannot be relied on: then there are none.
    """

    rows: Ints
    parts: Ints
    similarities: Vector
    applied: int


class VectorIndex(FeedCopy, Protocol):
    """A copy of the embeddings that finds the nearest ones. It proposes; scores are computed from the records."""

    def search(self, vector: Vector, k: int, mask: Mask) -> Nearest:
        """The ``k`` vectors most similar to ``vector`` among those that ``mask`` allows; fewer only if there are fewer.

        ``vector`` is float32 of shape ``(dim,)`` and of length one. The mask holds before the cut to ``k``. Damage and
        trouble of the engine underneath are not raised but told by ``applied == 0``.
        """
        ...


class EngineError(Exception):
    """A ``VectorEngine`` cannot go on. Never leaves the package: another engine answers."""


class VectorEngine(Protocol):
    """Vectors in memory, this process's or a graphics card's, and which of them are the nearest to another one.

    Some engines keep vectors as they are, others codes of a few bits a number, or a graph: whatever they propose is
    scored from the records' own vectors, so that the engine never changes a score. A vector is known by its number,
    which is how many were appended before it; numbers are never moved. A vector that is replaced gets a new number, and
    that of one that is gone is not allowed in searches any more. It follows nothing by itself: that is the business of
    whoever holds it. Called by one thread at a time.

    Raises ``EngineError`` where it cannot go on, a graphics card for one that is out of memory or lost: then it is
    closed, and another one takes its place.
    """

    @property
    def kind(self) -> str:
        """What it is, parameters included: saved vectors fit only where this is the same."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory held."""
        ...

    def __len__(self) -> int:
        """How many vectors were appended, those that are blank included."""
        ...

    def append(self, vectors: Vector) -> None:
        """Add vectors of length one: float32, shape ``(n, dim)``. The first ones may decide how all are coded."""
        ...

    def blank(self, numbers: Ints) -> None:
        """Overwrite vectors, so that nothing is left of them; searches may not allow these any more."""
        ...

    def retire(self, numbers: Ints) -> None:
        """These were deleted or replaced, and not erased: ``saved`` has nothing of them from now on, and no search may
        allow them any more. Costs less than ``blank`` where something would have to be made anew."""
        self.blank(numbers)

    def settle(self) -> None:
        """Do now what would be done in the background; for whoever appends a great deal."""
        return None

    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        """The ``k`` nearest among the ``allowed``: their numbers, and about their cosines, the greatest first.

        ``vector`` is float32 of shape ``(dim,)`` and of length one, ``allowed`` of shape ``(len(self),)``. The mask
        holds before the cut: fewer than ``k`` come back only where fewer are allowed, then all of those.
        """
        ...

    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector]]:
        """The same for each of several, of shape ``(n, dim)``, which may take less time than one after the other."""
        return [self.nearest(vector, k, allowed) for vector in vectors]

    def saved(self) -> dict[str, NDArray[Any]]:
        """The arrays that ``restore`` of another one of the same ``kind`` needs."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what ``saved`` returned, in place of what there is; the arrays are this one's from then on.

        Raises ``ValueError`` if they do not fit.
        """
        ...

    def close(self) -> None:
        """Give the memory back. Nothing else may be called after that, but this again."""
        ...
