"""Models of callers that are not quite an ``Embedder``: functions, async ones, such whose dimension is known late."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import getattr_static, isawaitable, iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from typing_extensions import override

from agentmem.types.errors import EmbeddingError, InvalidInputError, shown
from agentmem.types.ports import Embedder
from agentmem.types.reentry import from_handler

if TYPE_CHECKING:
    from agentmem.types.ports import EmbedFunction, Vector

_PROBE = "dimension"


class GivenModel(Embedder):
    """A caller's model as an ``Embedder``: what it awaits is waited for, and its dimension is learned if need be.

    ``inner`` is what the caller gave. ``dim`` is None where it is not known: then the first who asks for it has a word
    embedded, unless ``assume`` was told it before.
    """

    def __init__(
        self,
        inner: object,
        *,
        name: str,
        documents: Callable[[list[str]], object],
        query: Callable[[str], object] | None,
        dim: int | None,
    ) -> None:
        self.inner = inner
        self._name = name
        self._documents = documents
        self._query = query
        self._dim = dim

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def dim(self) -> int:
        """Length of a vector. Raises ``EmbeddingError`` where that has to be learned from the model, and it fails."""
        if self._dim is None:
            self._dim = self._measured()
        return self._dim

    @property
    def known_dim(self) -> int | None:
        """The same as far as it is known by now."""
        return self._dim

    def assume(self, dim: int) -> None:
        """Take this for the dimension, if it is not known: that of vectors of this model that are stored already."""
        if self._dim is None:
            self._dim = dim

    @override
    def embed_documents(self, texts: Sequence[str]) -> Vector:
        """As the model returned it; whoever called checks it."""
        if isinstance(texts, str):
            raise InvalidInputError("embed_documents takes a sequence of texts, not one text", field="texts")
        return cast("Vector", _called(self._documents, list(texts)))

    @override
    def embed_query(self, text: str) -> Vector:
        """The same."""
        if self._query is None:
            return self.embed_documents([text])[0]
        return cast("Vector", _called(self._query, text))

    def _measured(self) -> int:
        try:
            vectors = np.asarray(self.embed_documents([_PROBE]), np.float32)
        except EmbeddingError:
            raise
        except Exception as exc:
            if from_handler(exc):
                raise
            raise EmbeddingError(
                f"the model {self.name!r} was to embed a first text, which tells its dimension, and failed: "
                f"{type(exc).__name__}: {exc}"
            ) from exc
        if vectors.ndim != 2 or vectors.shape[0] != 1 or not vectors.shape[1]:
            raise EmbeddingError(
                f"the model {self.name!r} returned the shape {vectors.shape} for one text, instead of (1, dimension)"
            )
        return int(vectors.shape[1])


class FunctionEmbedder(GivenModel):
    """A function that embeds, as an ``Embedder``; the function may be async.

    ``embed`` takes a list of texts and returns a vector for each, as an array or as lists of numbers. ``query`` embeds
    one text to search with, where the model tells the two apart; left out, ``embed`` does. ``name`` identifies the
    model and is stored with the data; ``dim`` is the length of a vector, learned from the first embedding if left out.

    Sync functions are called from several threads at once; async ones run on one event loop (asyncio) of the package.

    Raises ``InvalidInputError`` for what cannot be called, an empty name, or a dimension that is not a positive int.
    """

    def __init__(
        self,
        embed: EmbedFunction,
        *,
        name: str,
        dim: int | None = None,
        query: Callable[[str], object] | None = None,
    ) -> None:
        for field, function in (("embed", embed), ("query", query)):
            if not callable(function) and not (field == "query" and function is None):
                raise InvalidInputError(f"{field} must be a function, not {type(function).__name__}", field=field)
        super().__init__(embed, name=checked_name(name), documents=embed, query=query, dim=checked_dim(dim))


def checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"embedder.name must be a non-empty str, not {shown(name)}", field="embedder")
    return name


def checked_dim(dim: object) -> int | None:
    """The dimension, None where it is not known yet."""
    if dim is not None and (not isinstance(dim, int) or isinstance(dim, bool) or dim < 1):
        raise InvalidInputError(f"embedder.dim must be a positive int, not {shown(dim)}", field="embedder")
    return dim


def dim_of(embedder: object) -> int | None:
    """The dimension that a caller's model tells; None where it does not know, or fails to say. Checked."""
    try:
        dim = getattr(embedder, "dim", None)
    except Exception as exc:
        if from_handler(exc):
            raise
        return None  # a property that needs the first embedding
    return checked_dim(dim)


def has_dim(embedder: object) -> bool:
    """Whether there is such an attribute at all, whatever it says now."""
    nothing = object()
    return getattr_static(embedder, "dim", nothing) is not nothing or dim_of(embedder) is not None


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004


def named(function: object) -> str:
    """The name of a function that embeds: its own attribute, else where it is defined.

    Raises ``InvalidInputError`` for what has no name that would tell it from others: lambdas, partials, objects.
    """
    own = getattr(function, "name", None)
    if own is not None:
        return checked_name(own)
    module, called = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(called, str) or "<lambda>" in called:
        raise InvalidInputError(
            f"this {type(function).__name__} has no name of its own, by which a store could know its model again; "
            "give it one (embed.name = 'my-model-1'), or pass agentmem.embedding.FunctionEmbedder(embed, "
            "name='my-model-1')",
            field="embedder",
        )
    return f"{_importable(module)}.{called}"


def _importable(module: str) -> str:
    """The name of a module as others import it, so that a program's own functions keep theirs."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).stem if module == "__main__" and isinstance(file, str) else module


def _called(function: Callable[[Any], object], argument: object) -> object:
    """What the function returns, or what that comes to once it is awaited."""
    if is_async(function):
        from agentmem.embedding.awaiting import finished

        return finished(lambda: function(argument))
    result = function(argument)
    if isawaitable(result):
        from agentmem.embedding.awaiting import finished

        return finished(lambda: result)
    return result
