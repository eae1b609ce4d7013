"""Vectors as a byte a number, multiplied by onnxruntime, which is there for the embedding model anyway.

numpy has no fast product of integers. One of 300,000 vectors with 256 numbers takes 6 ms on two cores; the proposals
are all but exact, at three times the memory of FAISS's codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from agentmem.embedding.onnx import onnxruntime
from agentmem.indexes.exact import TOGETHER, best
from agentmem.indexes.growing import grown
from agentmem.types.ports import VectorEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

_CODE = 127
_QUERY = 63
"""The query is coded more coarsely: on processors without VNNI sums of two products are kept in 16 bits."""
_THREADS = 2


class Int8(VectorEngine):
    """Codes of one length, each with a factor of its own."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._used = 0
        self._codes: NDArray[np.int8] = np.empty((16, dim), np.int8)
        self._factor: Vector = np.empty(16, np.float32)
        self._session = _product(dim)

    @property
    @override
    def kind(self) -> str:
        return f"int8 of {self._dim}"

    @property
    @override
    def nbytes(self) -> int:
        return self._codes.nbytes + self._factor.nbytes

    @override
    def __len__(self) -> int:
        return self._used

    @override
    def append(self, vectors: Vector) -> None:
        end = self._used + len(vectors)
        if end > len(self._codes):
            size = max(end, len(self._codes) * 5 // 4)
            self._codes, self._factor = grown(self._codes, size), grown(self._factor, size)
        codes, factor = _coded(vectors, _CODE)
        self._codes[self._used : end], self._factor[self._used : end] = codes, factor
        self._used = end

    @override
    def blank(self, numbers: Ints) -> None:
        self._codes[numbers] = 0
        self._factor[numbers] = 0

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        return self.nearest_many(vector.reshape(1, -1), k, allowed)[0]

    @override
    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector]]:
        numbers = np.flatnonzero(allowed)
        if not len(numbers):
            return [(numbers, np.empty(0, np.float32))] * len(vectors)
        few = len(numbers) * 4 < self._used
        if few:
            codes, factors = self._codes[numbers], self._factor[numbers]
        else:
            codes, factors = self._codes[: self._used], self._factor[: self._used]
        answers = list[Any]()
        for start in range(0, len(vectors), TOGETHER):
            code, factor = _coded(vectors[start : start + TOGETHER], _QUERY)
            [products] = self._session.run(None, {"codes": codes, "query": np.ascontiguousarray(code.T)})
            for at in range(len(code)):
                similar = products[:, at].astype(np.float32) * (factors * factor[at])
                answers.append(best(numbers, similar if few else similar[numbers], k))
        return answers

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return {"codes": self._codes[: self._used], "factor": self._factor[: self._used]}

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        codes, factor = arrays.get("codes"), arrays.get("factor")
        if codes is None or factor is None or codes.shape != (len(factor), self._dim) or codes.dtype != np.int8:
            raise ValueError(f"the codes are not of {self._dim} numbers of a byte each")
        self._codes, self._factor, self._used = codes, np.asarray(factor, np.float32), len(factor)

    @override
    def close(self) -> None:
        self._codes, self._factor, self._used = np.empty((0, self._dim), np.int8), np.empty(0, np.float32), 0


def _coded(vectors: Vector, most: int) -> tuple[NDArray[np.int8], Vector]:
    """Whole numbers up to ``most``, and what each row of them is to be multiplied with."""
    largest = np.abs(vectors).max(axis=1)
    factor = (np.where(largest > 0, largest, 1) / most).astype(np.float32)
    return np.rint(vectors / factor[:, None]).astype(np.int8), factor


# -- a graph of one node, written down in the bytes of ONNX: there is no need for its package --------------------------

_INT8, _INT32 = 3, 6


def _product(dim: int) -> Any:
    """A session that multiplies ``codes``, int8 ``(n, dim)``, with ``query``, int8 ``(dim, m)``: int32 ``(n, m)``."""
    library = onnxruntime()
    node = _text(1, "codes") + _text(1, "query") + _text(2, "products") + _text(4, "MatMulInteger")
    graph = (
        _field(1, node)
        + _text(2, "product")
        + _field(11, _tensor("codes", _INT8, "n", dim))
        + _field(11, _tensor("query", _INT8, dim, "m"))
        + _field(12, _tensor("products", _INT32, "n", "m"))
    )
    model = _number(1, 8) + _field(7, graph) + _field(8, _number(2, 14))
    options = library.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads, options.inter_op_num_threads = _THREADS, 1
    return library.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tensor(name: str, kind: int, *shape: int | str) -> bytes:
    """A ValueInfoProto; a size that is not known has a name."""
    sizes = b"".join(_field(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, sizes)))


def _varint(value: int) -> bytes:
    head, value = bytearray(), value
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _field(tag: int, value: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def _text(tag: int, value: str) -> bytes:
    return _field(tag, value.encode())
