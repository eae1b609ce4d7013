"""The ports: what the engine needs from an embedding model and from a vector index.

An adapter can be written from these docstrings alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

from agentmem.types.clock import Micros

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]
    Ints: TypeAlias = NDArray[np.int64]


class Entry(NamedTuple):
    """What an index needs to know of a record; times in microseconds, ``vector`` as the bytes of normalised float32."""

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
