"""What a folder with an ONNX model says about itself, read without any engine.

A folder holds ``model.onnx`` (or ``onnx/model.onnx``, or one other ``.onnx`` file), ``tokenizer.json`` and, as far as
the publisher wrote them, ``config.json``, ``tokenizer_config.json``, ``1_Pooling/config.json`` and
``config_sentence_transformers.json``: the layout of Hugging Face's sentence-transformers models.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from agentmem.types.errors import EmbeddingError
from agentmem.types.once import once

Pooling: TypeAlias = Literal["mean", "cls", "last", "none"]

BUNDLED = Path(__file__).parent / "bundled"


def is_batch_dependent(model_file: Path) -> bool:
    """Whether a text's vector depends on the texts embedded with it.

    So it is where activations are quantised with a scale taken from everything in the batch: operators whose names all
    begin with DynamicQuantize. Names stand in the file as they are; looking for them needs no ONNX library.
    """
    with model_file.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(b"DynamicQuantize") >= 0


@dataclass(frozen=True)
class ModelFolder:
    """The files of one model. Nothing is read before it is asked for.

    Raises ``EmbeddingError`` naming the folder when a needed file is missing or is not what it should be.
    """

    path: Path

    @once
    def model_file(self) -> Path:
        for name in ("model.onnx", "onnx/model.onnx"):
            if (self.path / name).is_file():
                return self.path / name
        others = sorted(self.path.glob("*.onnx")) + sorted(self.path.glob("onnx/*.onnx"))
        if len(others) == 1:
            return others[0]
        found = f"holds {', '.join(str(other.relative_to(self.path)) for other in others)}" if others else "holds none"
        raise EmbeddingError(f"{self.path} must hold a model.onnx (or exactly one .onnx file); it {found}")

    @once
    def tokenizer_file(self) -> Path:
        file = self.path / "tokenizer.json"
        if not file.is_file():
            raise EmbeddingError(f"{self.path} must hold a tokenizer.json (Hugging Face 'fast tokenizer' format)")
        return file

    @once
    def config(self) -> dict[str, Any]:
        return self._json("config.json")

    @once
    def is_static(self) -> bool:
        """A table of token vectors that are summed, as built by ``tools/build_model.py``."""
        return self.config.get("model_type") == "static"

    @once
    def name(self) -> str:
        """Same files, same name, wherever the folder lies: its last part and the start of its fingerprint."""
        if self.is_static and isinstance(given := self.config.get("_name_or_path"), str):
            return given
        return f"{self.path.resolve().name}@{self.fingerprint[:12]}"

    @once
    def dim(self) -> int | None:
        """Length of a vector by the configuration; None where that does not say."""
        keys = ("hidden_size", "d_model", "dim", "n_embd")
        found = [self.config[key] for key in keys if isinstance(self.config.get(key), int)]
        return found[0] if found else None

    @once
    def window(self) -> int | None:
        """How many tokens the model reads at once, special tokens included; None: no limit."""
        if self.is_static:
            return None
        limits = [self._json("tokenizer_config.json").get(key) for key in ("model_max_length", "max_length")]
        # transformers writes 1e30 for "unknown".
        known = [limit for limit in limits if type(limit) is int and 0 < limit < 10**6]
        positions = self.config.get("max_position_embeddings")
        return min(known) if known else min(512, positions if isinstance(positions, int) else 512)

    @once
    def pooling(self) -> Pooling | None:
        """How token vectors become one, by the publisher's word; None where it does not say."""
        if self.is_static:
            return "none"
        config = self._json("1_Pooling/config.json")
        modes: tuple[tuple[str, Pooling], ...] = (
            ("pooling_mode_cls_token", "cls"),
            ("pooling_mode_lasttoken", "last"),
            ("pooling_mode_mean_tokens", "mean"),
        )
        return next((pooling for key, pooling in modes if config.get(key)), None)

    @once
    def prompts(self) -> tuple[str | None, str | None]:
        """Prefixes for queries and documents, where the publisher names them."""
        prompts = self._json("config_sentence_transformers.json").get("prompts")
        if not isinstance(prompts, dict):
            return None, None
        named = cast("dict[str, Any]", prompts)
        query = next((named[key] for key in ("query", "s2p_query") if isinstance(named.get(key), str)), None)
        keys = ("document", "passage")
        return query, next((named[key] for key in keys if isinstance(named.get(key), str)), None)

    @once
    def fingerprint(self) -> str:
        """sha256, hexadecimal, over the model's and the tokenizer's files: equal vectors need equal fingerprints."""
        # External weights lie beside the graph: model.onnx_data, model.onnx.data, ...
        weights = sorted(self.model_file.parent.glob(f"{self.model_file.name}[._]*"))
        digest = hashlib.sha256()
        for file in (self.model_file, *weights, self.tokenizer_file):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def state(self) -> tuple[object, ...]:
        """Where the files are and what the file system says of them: another one once any of them has changed."""
        found = [(path, path.stat()) for path in sorted(self.path.resolve().rglob("*")) if path.is_file()]
        return tuple((str(path), at.st_ino, at.st_size, at.st_mtime_ns) for path, at in found)

    def _json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            content = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as exc:
            raise EmbeddingError(f"{file} is not readable JSON: {exc}") from exc
        return cast("dict[str, Any]", content) if isinstance(content, dict) else {}
