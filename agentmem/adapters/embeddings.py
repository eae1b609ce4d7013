"""A model with LangChain's ``Embeddings`` interface, which LangGraph takes as well, as one for ``Memory``."""

from __future__ import annotations

from typing import Any, cast


def embedder_of(embeddings: Any, dim: int | None = None) -> Any:
    """The model as an ``embedder`` of ``Memory``; ``dim`` is the length of a vector, None where nobody said it.

    Its name, by which a store knows its vectors again, is made of the class, or of the function inside, and of the
    attribute ``model`` or ``model_name`` where there is one.
    """
    if getattr(embeddings, "func", None) is None and hasattr(embeddings, "afunc"):
        return _Awaited(embeddings, dim)
    return _Called(embeddings, dim)


class _Called:
    def __init__(self, embeddings: Any, dim: int | None) -> None:
        self._embeddings = embeddings
        self.name = _name_of(embeddings)
        self.dim = dim

    def embed_documents(self, texts: list[str]) -> Any:
        return _array(self._embeddings.embed_documents(list(texts)))

    def embed_query(self, text: str) -> Any:
        return _array(self._embeddings.embed_query(text))


class _Awaited(_Called):
    """An async function: its blocking methods raise."""

    async def embed_documents(self, texts: list[str]) -> Any:
        return _array(await self._embeddings.aembed_documents(list(texts)))

    async def embed_query(self, text: str) -> Any:
        return _array(await self._embeddings.aembed_query(text))


def _array(numbers: Any) -> Any:
    import numpy as np

    return np.asarray(numbers, np.float32)


def _name_of(embeddings: Any) -> str:
    inner: Any = getattr(embeddings, "func", None) or getattr(embeddings, "afunc", None) or embeddings
    of: Any = inner if hasattr(inner, "__qualname__") else cast("Any", type(inner))
    said = [getattr(embeddings, name, None) for name in ("model", "model_name")]
    return ":".join([f"{of.__module__}.{of.__qualname__}", *[each for each in said if isinstance(each, str)][:1]])
