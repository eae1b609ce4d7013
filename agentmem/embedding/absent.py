"""`AbsentModel`: what a store is opened with when it is to be moved away from a model that is not at hand."""

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

    def __init__(self, name: str, dim: int) -> None:
        self._name = name
        self._dim = dim

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
        return EmbeddingError(
            f"the store's model {self.name!r} is not at hand, and the store has not been moved to another one yet"
        )
