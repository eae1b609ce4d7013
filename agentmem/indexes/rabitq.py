"""Vectors as codes of 2 bits a number, by FAISS: the only file that imports it, on use.

RaBitQ: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
Nearest Neighbor Search" (2024), extended to several bits (2025). 84 bytes for 256 numbers; of 300,000 vectors of
dialogue the ten nearest are among the 400 that it takes for the nearest. The flat index takes a mask; the one that
scans a third faster does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from typing_extensions import override

from agentmem.types.ports import Codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

T = TypeVar("T")
_BITS = 2


class RaBitQ(Codes):
    """Codes of one length. The first vectors that are appended are the sample that the centre is taken from."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._faiss = _library()
        self._index: Any = self._faiss.IndexRaBitQ(dim, self._faiss.METRIC_INNER_PRODUCT, _BITS)

    @property
    @override
    def kind(self) -> str:
        return f"rabitq{_BITS} of {self._dim}"

    @property
    @override
    def nbytes(self) -> int:
        return int(self._index.codes.size())

    @override
    def __len__(self) -> int:
        return int(self._index.ntotal)

    @override
    def append(self, vectors: Vector) -> None:
        if not len(vectors):
            return
        if not self._index.is_trained:
            self._alone(lambda: self._index.train(vectors))
        self._alone(lambda: self._index.add(vectors))

    @override
    def blank(self, numbers: Ints) -> None:
        self._codes()[numbers] = 0

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        parameters = None
        if not allowed.all():
            # The selector refers to the bits without holding them.
            bits = np.packbits(allowed, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(bits)
            parameters = self._faiss.SearchParameters(sel=selector)
        k = min(k, int(np.count_nonzero(allowed)))
        if not k:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        similar, numbers = self._alone(lambda: self._index.search(query, k, params=parameters))
        return numbers[0], similar[0]

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return {"faiss": self._faiss.serialize_index(self._index)}

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        try:
            index = self._faiss.deserialize_index(np.ascontiguousarray(arrays["faiss"], np.uint8))
        except (KeyError, RuntimeError) as exc:
            raise ValueError(f"FAISS cannot read the codes: {exc}") from exc
        if type(index) is not type(self._index) or index.d != self._dim:
            raise ValueError(f"the codes are those of a {type(index).__name__} of {index.d} numbers")
        self._index = index

    def _codes(self) -> NDArray[np.uint8]:
        """The codes themselves, not a copy."""
        size = int(self._index.code_size)
        return self._faiss.rev_swig_ptr(self._index.codes.data(), len(self) * size).reshape(-1, size)

    def _alone(self, call: Callable[[], T]) -> T:
        """The call by this thread alone: threads that OpenMP lends it would go on spinning for some milliseconds.

        The limit is the calling thread's own, and is put back: the program may have a use of its own for FAISS.
        """
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(1)
        try:
            return call()
        finally:
            self._faiss.omp_set_num_threads(before)


def _library() -> Any:
    import faiss  # pyright: ignore[reportMissingTypeStubs, reportMissingImports, reportUnknownVariableType]

    return faiss  # pyright: ignore[reportUnknownVariableType]
