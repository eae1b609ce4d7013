"""`AbsentModel`: what a store is opened with when its model is not at hand, for all that needs none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from agentmem.types.errors import EmbeddingError
from agentmem.types.ports import Embedder

if TYPE_CHECKING:
    from agentmem.types.ports import Vector


class AbsentModel(Embedder):
    """Has the name and the dimension of a model, and embeds nothing."""

    def __init__(self, name: str, dim: int, why: str) -> None:
        """``why`` is said to whoever has something embedded."""
        self._name = name
        self._dim = dim
        self._why = why

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def dim(self) -> int:
        return self._dim

    @override
    def embed_documents(self, texts: Sequence[str]) -> Vector:
        raise self._error()

    @override
    def embed_query(self, text: str) -> Vector:
        raise self._error()

    def _error(self) -> EmbeddingError:
        return EmbeddingError(f"the store's model {self.name!r} is not at hand: {self._why}")
