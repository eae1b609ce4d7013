"""Vectors as they are, compared one by one: what every other engine is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from agentmem.types.ports import VectorEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector


class Exact(VectorEngine):
    """Float32, 4 bytes a number; a search reads all of them, some 7 ms for 50,000 of 256 numbers."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._used = 0
        self._vectors: Vector = np.empty((16, dim), np.float32)

    @property
    @override
    def kind(self) -> str:
        return f"exact of {self._dim}"

    @property
    @override
    def nbytes(self) -> int:
        return self._vectors.nbytes

    @override
    def __len__(self) -> int:
        return self._used

    @override
    def append(self, vectors: Vector) -> None:
        end = self._used + len(vectors)
        if end > len(self._vectors):
            held = np.empty((max(end, len(self._vectors) * 5 // 4), self._dim), np.float32)
            held[: self._used] = self._vectors[: self._used]
            self._vectors = held
        self._vectors[self._used : end] = vectors
        self._used = end

    @override
    def blank(self, numbers: Ints) -> None:
        self._vectors[numbers] = 0

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        numbers = np.flatnonzero(allowed)
        few = len(numbers) * 4 < self._used
        similar: Vector = self._vectors[numbers] @ vector if few else self.similarities(vector)[numbers]
        if k < len(numbers):
            best = np.argpartition(similar, len(numbers) - k)[len(numbers) - k :]
            numbers, similar = numbers[best], similar[best]
        order = np.argsort(-similar, kind="stable")
        return numbers[order], similar[order]

    def similarities(self, vector: Vector) -> Vector:
        """The cosine of each, blank ones included: float32, shape ``(len(self),)``."""
        return self._vectors[: self._used] @ vector

    def vectors(self, numbers: Ints) -> Vector:
        """A copy of these."""
        return self._vectors[numbers]

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return {"vectors": self._vectors[: self._used]}

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        vectors = arrays.get("vectors")
        if vectors is None or vectors.ndim != 2 or vectors.shape[1] != self._dim or vectors.dtype != np.float32:
            raise ValueError(f"the vectors are not of {self._dim} numbers each")
        self._vectors, self._used = vectors, len(vectors)

    @override
    def close(self) -> None:
        self._vectors, self._used = np.empty((0, self._dim), np.float32), 0
