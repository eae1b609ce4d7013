"""`FastEmbedder`: the bundled model, any model fastembed knows, or a folder with an ONNX model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
from typing_extensions import override

from agentmem.embedding.folder import BUNDLED, ModelFolder, Pooling
from agentmem.embedding.prefixes import Prefixes, known_prefixes
from agentmem.embedding.vectors import checked_vectors
from agentmem.types.errors import AgentMemError, EmbeddingError, InvalidInputError
from agentmem.types.ports import Embedder, Windowed
from agentmem.types.promise import aside
from agentmem.types.reentry import from_handler, held_here

if TYPE_CHECKING:
    from agentmem.types.ports import Vector


class _Model(Protocol):
    @property
    def dim(self) -> int: ...

    @property
    def window(self) -> int | None: ...

    def embed(self, texts: Sequence[str], prefix: str = "", *, query: bool = False) -> Vector: ...

    def windows(self, texts: Sequence[str], prefix: str = "") -> list[int]: ...


_loading = RLock()
_models: WeakValueDictionary[tuple[object, ...], _Model] = WeakValueDictionary()
"""Every model that is in memory: embedders of the same files share one, which takes 100 MB and more."""


class FastEmbedder(Embedder, Windowed):
    """Turns text into normalised vectors on the CPU, with no network for the bundled model or a folder.

    ``model``: None for the bundled model; the path of a folder with an ONNX model; or a name that fastembed knows,
    downloaded on first use. Constructing one loads nothing; the first embedding does, or ``warm_up()``.

    ``threads``: onnxruntime's threads per call. None: one for the bundled model (it is bound by memory), all cores for
    a transformer. ``query_prefix``, ``document_prefix``: text put before queries and documents; None for what the
    model's publisher asks for. ``pooling``: for a folder that outputs token vectors and does not say how they are
    pooled ("mean" by default). ``cache_dir``: where fastembed keeps its downloads.

    Texts longer than the model's window are embedded in windows and averaged, weighted by length: never cut. The
    bundled model has no window. Equal texts give equal vectors within 1e-5 whatever they are batched with.

    Safe to call from several threads at once. Embedders of the same model share what is loaded of it.

    Raises ``EmbeddingError`` when the model cannot be loaded or fails, and for a vector that is zero or not finite;
    ``InvalidInputError`` for a name that is neither a folder nor known.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        pooling: Pooling | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InvalidInputError(f"threads must be at least 1, not {threads}", field="threads")
        self._threads = threads
        self._pooling: Pooling | None = pooling
        self._cache_dir = os.fspath(cache_dir) if cache_dir is not None else None
        self._given = Prefixes(query_prefix or "", document_prefix or "")
        self._overridden = (query_prefix is not None, document_prefix is not None)
        self._folder = _folder(model)
        self._spec = os.fspath(model) if model is not None else ""
        self._model: _Model | None = None
        self._models = _models
        self._prefixes: Prefixes | None = None
        self._name: str | None = None

    @property
    @override
    def name(self) -> str:
        """The model's name; a folder's has the start of its fingerprint, what a caller overrides adds a hash."""
        if self._name is None:
            name: str = self._folder.name if self._folder else self._described()["model"]
            if any(self._overridden) or self._pooling is not None:
                settings = (*self._wanted(), self._pooling)
                name += "+" + hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
            self._name = name
        return self._name

    @property
    @override
    def dim(self) -> int:
        """Length of a vector. Loads the model only where a folder's config.json does not say."""
        if self._folder is None:
            return int(self._described()["dim"])
        return self._folder.dim or self._loaded().dim

    @property
    def is_local(self) -> bool:
        """Whether the model is the bundled one or a folder, so that its files can be read without loading it."""
        return self._folder is not None

    @property
    def fingerprint(self) -> str:
        """sha256, hexadecimal, of the files that decide the vectors. Reads them all; a named model is loaded first."""
        if self._folder is not None:
            return self._folder.fingerprint
        from agentmem.embedding.catalogue import NamedModel

        model = self._loaded()
        assert isinstance(model, NamedModel)
        return model.fingerprint()

    @override
    def embed_documents(self, texts: Sequence[str]) -> Vector:
        """float32 ``(len(texts), dim)``, C-contiguous, each row of length 1."""
        if isinstance(texts, str):
            raise InvalidInputError("embed_documents takes a sequence of texts, not one text", field="texts")
        return self._embed(list(texts), self._wanted().document)

    @override
    def embed_query(self, text: str) -> Vector:
        """float32 ``(dim,)``, of length 1."""
        return self._embed([text], self._wanted().query, query=True)[0]

    @property
    @override
    def window(self) -> int | None:
        """How many tokens the model reads at once, special tokens and prefix included; None: any number. Loads it."""
        return self._loaded().window

    @override
    def windows(self, texts: Sequence[str]) -> list[int]:
        """In how many windows each document is embedded."""
        return self._loaded().windows(texts, self._wanted().document)

    def warm_up(self) -> None:
        """Load the model now, so that the first call is as fast as the rest."""
        self.embed_query("warm up")

    # ----------------------------------------------------------------------------------------------------------

    def _embed(self, texts: list[str], prefix: str, *, query: bool = False) -> Vector:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        model = self._loaded()
        try:
            vectors = model.embed(texts, prefix, query=query)
        except AgentMemError:
            raise
        except Exception as exc:
            if from_handler(exc):
                raise
            raise EmbeddingError(f"the model {self.name!r} failed on {len(texts)} text(s): {exc}") from exc
        vectors, lengths = checked_vectors(self.name, vectors, (len(texts), self.dim))
        return vectors / lengths[:, None]

    def _loaded(self) -> _Model:
        # A model that was loaded before a fork has threads that did not come along.
        if self._model is None or self._models is not _models:
            self._model, self._models = aside(self._share), _models
        return self._model

    def _share(self) -> _Model:
        """The model of whoever has it loaded already, else loaded now."""
        if held_here(_loading):
            raise EmbeddingError(
                "a model is being loaded by this very thread, which the garbage collector interrupted to call a "
                "finalizer that needs one; call warm_up() before"
            )
        with _loading:
            # With its files as they are now.
            files = (self._spec, self._cache_dir) if self._folder is None else self._folder.state()
            key = (*files, self._threads, self._pooling)
            model = _models.get(key)
            if model is None:
                model = _models[key] = self._load()
            return model

    def _load(self) -> _Model:
        if self._folder is None:
            from agentmem.embedding.catalogue import NamedModel

            return NamedModel(self._spec, threads=self._threads, cache_dir=self._cache_dir)
        from agentmem.embedding.runtime import OnnxModel

        try:
            return OnnxModel(self._folder, threads=self._threads, pooling=self._pooling)
        except AgentMemError:
            raise
        except Exception as exc:
            raise EmbeddingError(f"the model in {self._folder.path} cannot be loaded: {exc}") from exc

    def _described(self) -> dict[str, Any]:
        from agentmem.embedding.catalogue import describe

        return describe(self._spec)

    def _wanted(self) -> Prefixes:
        """The prefixes in use: the caller's, else the publisher's."""
        if self._prefixes is None:
            if self._folder is None:
                published = known_prefixes(self._spec)
            else:
                query, document = self._folder.prompts
                published = Prefixes(query or "", document or "")
            self._prefixes = Prefixes(
                *(
                    given if overridden else default
                    for given, overridden, default in zip(self._given, self._overridden, published, strict=True)
                )
            )
        return self._prefixes


def _folder(model: str | os.PathLike[str] | None) -> ModelFolder | None:
    """The folder that `model` means; None where it is a name for fastembed."""
    if model is None:
        return ModelFolder(BUNDLED)
    path = Path(model).expanduser()
    if path.is_dir():
        return ModelFolder(path)
    # "org/name" is how fastembed names models; anything that can only be a path must exist.
    if not isinstance(model, str) or path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise InvalidInputError(f"there is no model folder at {path}", field="embedder")
    return None


def _after_fork() -> None:
    global _loading, _models
    _loading = RLock()
    _models = WeakValueDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
