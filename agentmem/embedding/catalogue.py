"""Models that fastembed knows by name: the only file that imports fastembed, on use.

fastembed finds the files (its cache, else a download from Hugging Face), and knows each model's pooling.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentmem.embedding.folder import is_batch_dependent
from agentmem.embedding.onnx import silence
from agentmem.types.errors import EmbeddingError, InvalidInputError

if TYPE_CHECKING:
    from fastembed import TextEmbedding

    from agentmem.types.ports import Ints, Vector

_BATCH = 32


@lru_cache(maxsize=1)
def _fastembed() -> type[TextEmbedding]:
    silence()
    from fastembed import TextEmbedding
    from loguru import logger

    # Its failures reach the caller as exceptions; the same text on stderr would be noise.
    logger.disable("fastembed")
    return TextEmbedding


def describe(name: str) -> dict[str, Any]:
    """fastembed's description of the model called `name` (any case), with its name as published.

    Raises ``InvalidInputError`` when fastembed has no such model, listing those it has.
    """
    models: list[dict[str, Any]] = _fastembed().list_supported_models()
    for model in models:
        if model["model"].lower() == name.lower():
            return model
    names = ", ".join(sorted(model["model"] for model in models))
    raise InvalidInputError(
        f"no embedding model is called {name!r}: not a folder, and not a name that fastembed knows ({names})",
        field="embedder",
    )


class NamedModel:
    """A loaded fastembed model: texts in, raw vectors out.

    Safe to call from several threads at once (onnxruntime and tokenizers are; nothing is changed after loading).
    """

    def __init__(self, name: str, *, threads: int | None, cache_dir: str | None) -> None:
        description = describe(name)
        self._files = _resolve(description, cache_dir)
        try:
            self._model = _fastembed()(
                description["model"], threads=threads, specific_model_path=str(self._files), cache_dir=cache_dir
            )
        except Exception as exc:
            raise EmbeddingError(f"the model {name!r} in {self._files} cannot be loaded: {exc}") from exc
        self._file = self._files / description["model_file"]
        self._one_by_one = self._file.suffix == ".onnx" and is_batch_dependent(self._file)
        self.window, self._tokenizer = _window(self._model.model)
        self.dim = int(description["dim"])

    def embed(self, texts: Sequence[str], prefix: str = "", *, query: bool = False) -> Vector:
        """float32 ``(len(texts), dim)``; texts longer than the window are embedded in windows and averaged."""
        pieces: list[str] = []
        owners: list[int] = []
        for index, text in enumerate(texts):
            cut = self._cut(text, prefix)
            pieces += [prefix + piece for piece in cut] if prefix else cut
            owners += [index] * len(cut)
        lengths = self._lengths(pieces)
        order: Ints = np.argsort(lengths, kind="stable")
        ordered = list(map(pieces.__getitem__, order))
        run = self._model.query_embed if query else self._model.passage_embed
        size = 1 if self._one_by_one else _BATCH
        out = np.empty((len(pieces), self.dim), np.float32)
        for row, vector in zip(order, run(ordered, batch_size=size), strict=True):
            out[row] = vector
        if len(pieces) == len(texts):
            return out
        out *= (lengths / np.maximum(np.linalg.norm(out, axis=1), 1e-12)).astype(np.float32)[:, None]
        return np.add.reduceat(out, np.searchsorted(owners, np.arange(len(texts))), axis=0)

    def windows(self, texts: Sequence[str], prefix: str = "") -> list[int]:
        """In how many windows each document is embedded."""
        return [len(self._cut(text, prefix)) for text in texts]

    def fingerprint(self) -> str:
        """sha256, hexadecimal, over the model's and the tokenizer's files."""
        digest = hashlib.sha256()
        weights = sorted(self._file.parent.glob(f"{self._file.name}[._]*"))
        for file in (self._file, *weights, self._files / "tokenizer.json"):
            if file.is_file():
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def _lengths(self, texts: Sequence[str]) -> Ints:
        if self._tokenizer is None:
            return np.array([len(text) for text in texts], np.int64)
        return np.array([len(item.ids) for item in self._tokenizer.encode_batch_fast(list(texts))], np.int64)

    def _cut(self, text: str, prefix: str) -> list[str]:
        """`text` in pieces that fit the window with the prefix, cut between tokens, at word ends where possible."""
        if self._tokenizer is None or self.window is None or not text:
            return [text]
        total = len(self._tokenizer.encode(prefix + text).ids)
        if total <= self.window:
            return [text]
        extra = total - len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        room = max(1, self.window - extra - 2)
        count = -(-len(offsets) // room)
        if count < 2:
            return [text]
        step = -(-len(offsets) // count)
        bounds = [0, *(offsets[i][0] for i in range(step, len(offsets), step)), len(text)]
        pieces = [text[a:b] for a, b in pairwise(bounds) if text[a:b].strip()]
        # A piece may need more tokens alone than inside its text: cut again, as long as that makes it smaller.
        return [part for piece in pieces for part in (self._cut(piece, prefix) if len(piece) < len(text) else [piece])]


def _window(model: Any) -> tuple[int | None, Any]:
    """The model's window in tokens and a tokenizer without one, to measure with; (None, None) for static models."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or tokenizer.truncation is None:
        return None, None
    from tokenizers import Tokenizer

    # "[SEP]" in somebody's text is text, not an instruction to the model.
    tokenizer.encode_special_tokens = True
    measure = Tokenizer.from_str(tokenizer.to_str())
    measure.no_truncation()
    measure.no_padding()
    measure.encode_special_tokens = True
    return int(tokenizer.truncation["max_length"]), measure


def _resolve(description: dict[str, Any], cache_dir: str | None) -> Path:
    """The folder of the model's files: fastembed's cache, else a download."""
    from fastembed.common.model_description import DenseModelDescription, ModelSource

    source = ModelSource(**description["sources"])
    fields: dict[str, Any] = {**description, "sources": source}
    model = DenseModelDescription(**fields)
    folder = cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or str(Path(tempfile.gettempdir()) / "fastembed_cache")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # One attempt: fastembed's own three sleep for 39 seconds before they give up.
        return Path(_fastembed().download_model(model, folder, retries=1))
    except Exception as exc:
        name, origin, reason = description["model"], source.hf or source.url, str(exc).rstrip(".")
        raise EmbeddingError(
            f"the model {name!r} is not in {folder} and could not be downloaded from {origin}: {reason}. "
            f"Where there is a network, fetch it with: hf download {origin} --cache-dir {folder} ; then copy that "
            f"folder here, to the same place or to one that FASTEMBED_CACHE_PATH names. "
            "The bundled model (the default) needs no download."
        ) from exc
