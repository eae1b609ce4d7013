"""Text to vectors: the bundled model, any model that fastembed knows, a folder with an ONNX model, or your own.

Also what calls the models: workers that share a call among callers, and a cache. Nothing here knows records or stores.
May import ``types``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agentmem.types.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentmem.types.ports import Embedder

__all__ = ["fingerprint_of", "open_embedder", "refuse_long", "windows_of"]

_METHODS = ("embed_documents", "embed_query")
_PROPERTIES = ("name", "dim")


def open_embedder(
    spec: str | os.PathLike[str] | Embedder | None = None, *, threads: int | None = None, cache_size: int = 10_000
) -> Embedder:
    """The embedder that `spec` means, behind an LRU cache of `cache_size` vectors (0: no cache).

    None: the bundled model. A path: a folder with an ONNX model. Another string: a model that fastembed knows by name.
    Anything else must be an ``Embedder`` (see ``agentmem.ports``), and is used as it is. Loads no model; ``threads`` is
    for models that this library runs.

    Raises ``InvalidInputError`` for a folder that does not exist or an object that is not an embedder, naming what it
    lacks.
    """
    if spec is None or isinstance(spec, str | os.PathLike):
        from agentmem.embedding.fast import FastEmbedder

        embedder: Embedder = FastEmbedder(spec, threads=threads)
    else:
        _check(spec)
        embedder = spec
    if cache_size == 0:
        return embedder
    from agentmem.embedding.cache import CachedEmbedder

    return embedder if isinstance(embedder, CachedEmbedder) else CachedEmbedder(embedder, cache_size)


def _check(embedder: object) -> None:
    if isinstance(embedder, type):
        raise InvalidInputError(f"embedder is the class {embedder.__name__}; pass an instance of it", field="embedder")
    missing = [name for name in _METHODS if not callable(getattr(embedder, name, None))]
    missing += [name for name in _PROPERTIES if getattr(embedder, name, None) is None]
    if missing:
        raise InvalidInputError(
            f"embedder must be None, a model's name, a folder or an Embedder; this {type(embedder).__name__} lacks "
            f"{', '.join(sorted(missing))}",
            field="embedder",
        )
    name, dim = getattr(embedder, "name", None), getattr(embedder, "dim", None)
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"embedder.name must be a non-empty str, not {name!r}", field="embedder")
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        raise InvalidInputError(f"embedder.dim must be a positive int, not {dim!r}", field="embedder")


def fingerprint_of(embedder: Embedder) -> str | None:
    """What tells two versions of a model apart, where its files are at hand: the bundled model's and folders'."""
    from agentmem.embedding.fast import FastEmbedder

    inner = _uncached(embedder)
    return inner.fingerprint if isinstance(inner, FastEmbedder) and inner.is_local else None


def windows_of(embedder: Embedder, texts: Sequence[str]) -> list[int] | None:
    """In how many parts the model embeds each of the documents; None for a model that does not tell."""
    from agentmem.types.ports import Windowed

    inner = _uncached(embedder)
    return inner.windows(texts) if isinstance(inner, Windowed) else None


def refuse_long(embedder: Embedder, texts: Sequence[str]) -> None:
    """Raise ``InvalidInputError`` for the first document that the model cannot read at once, as far as it can tell."""
    from agentmem.types.ports import Windowed

    inner = _uncached(embedder)
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
