"""Runs an ONNX embedding model on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from agentmem.embedding.folder import ModelFolder, Pooling, is_batch_dependent
from agentmem.embedding.onnx import onnxruntime
from agentmem.embedding.tokens import Tokens
from agentmem.types.errors import EmbeddingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Ints, Vector

# Rows gathered per run of a static model: 64 x 32 tokens of 256 floats are 2 MB, which stays in a core's cache.
_STATIC_TOKENS = 2_048
_STATIC_TEXTS = 64
# Longer texts are summed in parts, so that one huge text needs no huge buffer.
_STATIC_WINDOW = 2_048
_TRANSFORMER_TOKENS = 4_096
_TRANSFORMER_TEXTS = 32


class OnnxModel:
    """A loaded model: texts in, raw vectors out.

    Safe to call from several threads at once: tokenizer and session are not changed after loading, release the GIL,
    and take no lock here. ``threads`` is the size of onnxruntime's pool for one call, None for its own choice.
    """

    def __init__(self, folder: ModelFolder, *, threads: int | None, pooling: Pooling | None) -> None:
        library = onnxruntime()
        options = library.SessionOptions()
        options.log_severity_level = 4
        # Idle pool threads must not burn the processor that the tokenizer and the store need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if folder.is_static:
            # A sum of rows is bound by memory: a pool costs more than it brings.
            threads = 1 if threads is None else threads
        if threads is not None:
            options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = library.InferenceSession(str(folder.model_file), options, providers=["CPUExecutionProvider"])
        self._tokens = Tokens(folder.tokenizer_file)
        self._front, self._back = self._tokens.front, self._tokens.back
        self._pad = int(folder.config.get("pad_token_id") or 0)
        self._unknown = int(folder.config.get("unk_token_id") or 0)
        self._inputs: dict[str, type[np.signedinteger[Any]]] = {
            item.name: np.int32 if "int32" in item.type else np.int64 for item in self._session.get_inputs()
        }
        self._pooling: Pooling
        self._output, self._pooling, self.dim = self._choose_output(folder, pooling)
        self._static = folder.is_static
        self._one_by_one = not folder.is_static and is_batch_dependent(folder.model_file)
        self.window = folder.window
        self._window = (folder.window or _STATIC_WINDOW) - len(self._front) - len(self._back)

    def embed(self, texts: Sequence[str], prefix: str = "", *, query: bool = False) -> Vector:
        """float32 ``(len(texts), dim)``, not normalised. Queries differ from documents by their prefix only.

        A text longer than the window is cut into windows of about equal length; its vector is the average of theirs,
        each normalised and weighted by its number of tokens (for a static model simply the sum over all tokens).
        """
        ids = self._tokens.encode([prefix + text for text in texts] if prefix else list(texts))
        if self._static and len(ids) == 1 and 0 < len(ids[0]) <= self._window:
            return self._run({"input_ids": np.array(ids, np.int64)})
        return self._embed_static(ids) if self._static else self._embed_transformer(ids, prefix)

    def windows(self, texts: Sequence[str], prefix: str = "") -> list[int]:
        """In how many windows each document is embedded."""
        if self._static:
            return [1] * len(texts)
        ids = self._tokens.encode([prefix + text for text in texts])
        _, owners, _ = _split(ids, self._window, self._head(prefix))
        return np.bincount(owners, minlength=len(texts)).tolist()

    # --- static -----------------------------------------------------------------------------------------------

    def _embed_static(self, ids: list[list[int]]) -> Vector:
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        if not lengths.all():
            # No token at all (control characters only): [UNK], so that the vector is not zero.
            ids = [item or [self._unknown] for item in ids]
            lengths = np.maximum(lengths, 1)
        if int(lengths.max(initial=0)) > self._window:
            parts, owners, _ = _split(ids, self._window)
            vectors = self._embed_static(parts)
            return np.add.reduceat(vectors, np.searchsorted(owners, np.arange(len(ids))), axis=0)
        flat = np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))
        # The graph adds the zero row of the pad token for each cell of padding: one more element to point at.
        flat = np.append(flat, self._pad)
        starts = np.cumsum(lengths) - lengths
        order = np.argsort(lengths, kind="stable")
        out = np.empty((len(ids), self.dim), np.float32)
        for rows in _batches(lengths[order], _STATIC_TOKENS, _STATIC_TEXTS):
            chosen = order[rows]
            columns = np.arange(int(lengths[chosen[-1]]))
            cells = np.where(columns < lengths[chosen, None], starts[chosen, None] + columns, len(flat) - 1)
            out[chosen] = self._run({"input_ids": flat[cells]})
        return out

    # --- transformers -----------------------------------------------------------------------------------------

    def _embed_transformer(self, ids: list[list[int]], prefix: str) -> Vector:
        parts, owners, weights = _split(ids, self._window, self._head(prefix))
        sequences = [self._front + part + self._back for part in parts]
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        order: Ints = np.argsort(lengths, kind="stable")
        out = np.empty((len(sequences), self.dim), np.float32)
        most = 1 if self._one_by_one else _TRANSFORMER_TEXTS
        for rows in _batches(lengths[order], _TRANSFORMER_TOKENS, most):
            chosen = order[rows]
            input_ids = np.full((len(chosen), int(lengths[chosen[-1]])), self._pad, np.int64)
            mask = np.arange(input_ids.shape[1]) < lengths[chosen, None]
            input_ids[mask] = np.fromiter(chain.from_iterable(map(sequences.__getitem__, chosen)), np.int64)
            feed = {"input_ids": input_ids, "attention_mask": mask.astype(np.int64)}
            feed["token_type_ids"] = np.zeros_like(input_ids)
            out[chosen] = _pool(self._run(feed), mask, self._pooling)
        if len(parts) == len(ids):
            return out
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return np.add.reduceat(out * weights[:, None], np.searchsorted(owners, np.arange(len(ids))), axis=0)

    def _head(self, prefix: str) -> list[int]:
        """The tokens of the prefix, with which each window begins."""
        head = self._tokens.encode([prefix])[0] if prefix else []
        if len(head) >= self._window:
            raise EmbeddingError(f"the prefix {prefix!r} fills the model's window of {self._window} tokens")
        return head

    # --- both -------------------------------------------------------------------------------------------------

    def _run(self, feed: dict[str, NDArray[np.int64]]) -> Vector:
        inputs = {name: feed[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        return cast("Vector", self._session.run([self._output], inputs)[0])

    def _choose_output(self, folder: ModelFolder, pooling: Pooling | None) -> tuple[str, Pooling, int]:
        unknown = set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown:
            raise EmbeddingError(f"{folder.model_file} needs inputs that are not known: {', '.join(sorted(unknown))}")
        outputs: list[Any] = list(self._session.get_outputs())
        pooled = [item for item in outputs if len(item.shape) == 2]
        by_token = [item for item in outputs if len(item.shape) == 3]
        named = [item for item in pooled if item.name.startswith("sentence_embedding")]
        if named or (pooled and not by_token) or pooling == "none":
            output, pooling = (named or pooled or outputs)[0], "none"
        elif by_token:
            output, pooling = by_token[0], pooling or folder.pooling or "mean"
        else:
            shapes = {item.name: item.shape for item in outputs}
            raise EmbeddingError(f"{folder.model_file} has no output of sentence or token vectors: {shapes}")
        dim = output.shape[-1] if isinstance(output.shape[-1], int) else folder.dim
        if dim is None:
            raise EmbeddingError(f"{folder.path} does not say how long its vectors are; set hidden_size in config.json")
        return output.name, pooling, dim


def _batches(lengths: Ints, tokens: int, texts: int) -> list[slice]:
    """Cut ascending lengths into runs of at most `texts` rows and `tokens` cells, padding included; at least a row."""
    found: list[slice] = []
    start = 0
    while start < len(lengths):
        stop = min(start + texts, len(lengths))
        while stop - start > 1 and (stop - start) * int(lengths[stop - 1]) > tokens:
            stop = start + (stop - start + 1) // 2
        found.append(slice(start, stop))
        start = stop
    return found


def _split(ids: list[list[int]], window: int, head: Sequence[int] = ()) -> tuple[list[list[int]], Ints, Vector]:
    """Cut long token lists into windows of about equal length; windows after the first begin with `head`.

    Returns the windows, for each the index of its text (ascending) and its number of tokens.
    """
    parts: list[list[int]] = []
    owners: list[int] = []
    for index, item in enumerate(ids):
        if len(item) <= window:
            parts.append(item)
            owners.append(index)
            continue
        body = item[len(head) :]
        room = window - len(head)
        count = -(-len(body) // room)
        step = -(-len(body) // count)
        for start in range(0, len(body), step):
            parts.append([*head, *body[start : start + step]])
            owners.append(index)
    return parts, np.array(owners, np.int64), np.array([len(part) or 1 for part in parts], np.float32)


def _pool(output: Vector, mask: NDArray[np.bool_], pooling: Pooling) -> Vector:
    if pooling == "none":
        return output
    if pooling == "cls":
        return output[:, 0]
    if pooling == "last":
        return output[np.arange(len(output)), mask.sum(axis=1) - 1]
    return np.matmul(mask[:, None, :].astype(np.float32) / mask.sum(axis=1)[:, None, None], output)[:, 0].astype(
        np.float32
    )
