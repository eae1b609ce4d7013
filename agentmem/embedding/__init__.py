"""Text to vectors: the bundled model, any model that fastembed knows, a folder with an ONNX model, or your own.

Also what calls the models: workers that share a call among callers, and a cache. Nothing here knows records or stores.
May import ``types``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from agentmem.types.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentmem.embedding.given import FunctionEmbedder
    from agentmem.types.ports import AnyEmbedder, Embedder

__all__ = [
    "FunctionEmbedder",
    "fingerprint_of",
    "is_ours",
    "known_dim",
    "open_embedder",
    "refuse_long",
    "settle",
    "windows_of",
]

_METHODS = ("embed_documents", "embed_query")


def __getattr__(name: str) -> object:
    # On first use: numpy comes with it.
    if name == "FunctionEmbedder":
        from agentmem.embedding.given import FunctionEmbedder

        return FunctionEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_embedder(spec: AnyEmbedder = None, *, threads: int | None = None, cache_size: int = 10_000) -> Embedder:
    """The embedder that `spec` means, behind an LRU cache of `cache_size` vectors (0: no cache).

    None: the bundled model. A path: a folder with an ONNX model. Another string: a model that fastembed knows by name.
    An object must be an ``Embedder`` or a ``RemoteEmbedder`` (see ``agentmem.ports``); a function, async or not, embeds
    a list of texts, and is known by where it is defined, or by its attribute ``name``. Loads no model; ``threads`` is
    for models that this library runs.

    Raises ``InvalidInputError`` for a folder that does not exist or an object that is not an embedder, naming what it
    lacks, and for a function without a name of its own.
    """
    if spec is None or isinstance(spec, str | os.PathLike):
        from agentmem.embedding.fast import FastEmbedder

        embedder: Embedder = FastEmbedder(cast("str | os.PathLike[str] | None", spec), threads=threads)
    else:
        embedder = _adapted(spec)
    if cache_size == 0:
        return embedder
    from agentmem.embedding.cache import CachedEmbedder

    return embedder if isinstance(embedder, CachedEmbedder) else CachedEmbedder(embedder, cache_size)


def _adapted(spec: Any) -> Embedder:
    """A caller's model as an embedder; what is one already as it is."""
    from agentmem.embedding import given

    if isinstance(spec, type):
        raise InvalidInputError(f"embedder is the class {spec.__name__}; pass an instance of it", field="embedder")
    if isinstance(_uncached(spec), given.GivenModel):
        return spec
    if callable(spec) and not any(hasattr(spec, method) for method in _METHODS):
        return given.FunctionEmbedder(spec, name=given.named(spec), dim=given.dim_of(spec))
    model: Any = spec
    missing = [name for name in _METHODS if not callable(getattr(spec, name, None))]
    missing += ["name"] if getattr(spec, "name", None) is None else []
    missing += [] if given.has_dim(spec) else ["dim"]
    if missing:
        raise InvalidInputError(
            "embedder must be None, a model's name, a folder, a function or an Embedder; this "
            f"{type(spec).__name__} lacks {', '.join(sorted(missing))}",
            field="embedder",
        )
    name, dim = given.checked_name(model.name), given.dim_of(model)
    documents, query = model.embed_documents, model.embed_query
    if dim is None or given.is_async(documents) or given.is_async(query):
        return given.GivenModel(model, name=name, documents=documents, query=query, dim=dim)
    return model


def known_dim(embedder: Embedder) -> int | None:
    """The model's dimension; None where something would have to be embedded to learn it."""
    from agentmem.embedding.given import GivenModel

    inner = _uncached(embedder)
    return inner.known_dim if isinstance(inner, GivenModel) else inner.dim


def settle(embedder: Embedder, name: str, dim: int) -> None:
    """Tell the model of this name its dimension, if it does not know; to others this says nothing."""
    from agentmem.embedding.given import GivenModel

    inner = _uncached(embedder)
    if isinstance(inner, GivenModel) and inner.name == name:
        inner.assume(dim)


def fingerprint_of(embedder: Embedder) -> str | None:
    """What tells two versions of a model apart, where its files are at hand: the bundled model's and folders'."""
    inner: Any = _uncached(embedder)
    return inner.fingerprint if is_ours(embedder) else None


def is_ours(embedder: Embedder) -> bool:
    """Whether the files of the model are at hand, and it is run here: it holds no lock while it embeds, so that it can
    do so on top of itself, and its vectors were checked and have the length 1."""
    from agentmem.embedding.fast import FastEmbedder

    inner = _uncached(embedder)
    return isinstance(inner, FastEmbedder) and inner.is_local


def windows_of(embedder: Embedder, texts: Sequence[str]) -> list[int] | None:
    """In how many parts the model embeds each of the documents; None for a model that does not tell."""
    from agentmem.types.ports import Windowed

    inner = _model_of(embedder)
    return inner.windows(texts) if isinstance(inner, Windowed) else None


def refuse_long(embedder: Embedder, texts: Sequence[str]) -> None:
    """Raise ``InvalidInputError`` for the first document that the model cannot read at once, as far as it can tell."""
    from agentmem.types.ports import Windowed

    inner = _model_of(embedder)
    if not isinstance(inner, Windowed) or inner.window is None:
        return
    for index, count in enumerate(inner.windows(texts)):
        if count > 1:
            raise InvalidInputError(
                f"content needs {count} windows of the {inner.window} tokens that {embedder.name!r} reads at once; "
                "split it into passages, or leave Settings.long_text at 'windows' to have their average",
                field="content",
                index=index,
            )


def _uncached(embedder: Embedder) -> Embedder:
    from agentmem.embedding.cache import CachedEmbedder

    return embedder.inner if isinstance(embedder, CachedEmbedder) else embedder


def _model_of(embedder: Embedder) -> object:
    """What the caller gave, or what was opened for it."""
    from agentmem.embedding.given import GivenModel

    inner = _uncached(embedder)
    return inner.inner if isinstance(inner, GivenModel) else inner
