"""Vectors as they are, compared one by one: what every other engine is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from agentmem.indexes.growing import grown
from agentmem.types.ports import VectorEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

BLOCK = 32_768
"""Vectors that lie together: growing moves none but those of the first block, so that no memory is needed twice. In
smaller blocks the threads that compare them would wait for each other more than they work."""
_LEAST = 16
TOGETHER = 16
"""Queries that are compared at once: each needs 4 bytes for every vector meanwhile."""


class Exact(VectorEngine):
    """Float32, 4 bytes a number; a search reads all of them, some 7 ms for 50,000 of 256 numbers."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._used = 0
        self._blocks: list[Vector] = []

    @property
    @override
    def kind(self) -> str:
        return f"exact of {self._dim}"

    @property
    @override
    def nbytes(self) -> int:
        # What no vector was written to yet takes no memory, however large the block.
        return self._blocks[0].nbytes if len(self._blocks) == 1 else 4 * self._dim * self._used

    @override
    def __len__(self) -> int:
        return self._used

    @override
    def append(self, vectors: Vector) -> None:
        while len(vectors):
            at = self._used % BLOCK
            if not at and self._used == BLOCK * len(self._blocks):
                size = BLOCK if self._blocks else min(BLOCK, max(_LEAST, len(vectors)))
                self._blocks.append(np.empty((size, self._dim), np.float32))
            part, vectors = vectors[: BLOCK - at], vectors[BLOCK - at :]
            last, end = self._blocks[-1], at + len(part)
            if end > len(last):
                self._blocks[-1] = last = grown(last, min(BLOCK, max(end, len(last) * 5 // 4)))
            last[at:end] = part
            self._used += len(part)

    def replace(self, numbers: Ints, vectors: Vector) -> None:
        """Have other vectors under these numbers, each of them once."""
        for block, inside, at in self._places(numbers):
            block[inside] = vectors[at]

    def keep(self, numbers: Ints) -> None:
        """Have these alone, ascending; their numbers are 0, 1, ... from now on."""
        for start in range(0, len(numbers), BLOCK):
            part = self.vectors(numbers[start : start + BLOCK])
            block = self._blocks[start // BLOCK]
            block[: len(part)] = part
        self._used = len(numbers)
        del self._blocks[-(-self._used // BLOCK) :]
        if self._blocks:
            start, last = self._filled()[-1]
            self._blocks[-1] = grown(last, BLOCK if start else len(last))  # what lay behind goes with the old one

    @override
    def blank(self, numbers: Ints) -> None:
        for block, inside, _ in self._places(numbers):
            block[inside] = 0

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        numbers = np.flatnonzero(allowed)
        few = len(numbers) * 4 < self._used
        similar = cosines(self.vectors(numbers), vector) if few else self.similarities(vector)[numbers]
        return best(numbers, similar, k)

    @override
    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector]]:
        numbers, answers = np.flatnonzero(allowed), list[Any]()
        for first in range(0, len(vectors), TOGETHER):
            some = vectors[first : first + TOGETHER]
            found = np.empty((len(some), self._used), np.float32)
            for start, block in self._filled():
                found[:, start : start + len(block)] = some @ block.T
            answers += [best(numbers, similar[numbers], k) for similar in found]
        return answers

    def similarities(self, vector: Vector) -> Vector:
        """The cosine of each, blank ones included: float32, shape ``(len(self),)``."""
        found = np.empty(self._used, np.float32)
        for start, block in self._filled():
            found[start : start + len(block)] = cosines(block, vector)
        return found

    def vectors(self, numbers: Ints) -> Vector:
        """A copy of these."""
        found = np.empty((len(numbers), self._dim), np.float32)
        for block, inside, at in self._places(numbers):
            found[at] = block[inside]
        return found

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return {"vectors": self.vectors(np.arange(self._used))}

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        vectors = arrays.get("vectors")
        if vectors is None or vectors.ndim != 2 or vectors.shape[1] != self._dim or vectors.dtype != np.float32:
            raise ValueError(f"the vectors are not of {self._dim} numbers each")
        self.close()
        self.append(vectors)

    @override
    def close(self) -> None:
        self._blocks, self._used = [], 0

    def _filled(self) -> list[tuple[int, Vector]]:
        """The blocks, without what is yet to be filled, each with the number of its first vector."""
        starts = range(0, self._used, BLOCK)
        return [(start, block[: self._used - start]) for start, block in zip(starts, self._blocks, strict=False)]

    def _places(self, numbers: Ints) -> list[tuple[Vector, Ints, Ints]]:
        """For each block that has any of the numbers: the block, where in it they are, and at which positions."""
        of = numbers // BLOCK
        found: list[tuple[Vector, Ints, Ints]] = []
        for each in map(int, np.unique(of)):
            at = np.flatnonzero(of == each)
            inside: Ints = numbers[at] - each * BLOCK
            found.append((self._blocks[each], inside, at))
        return found


def cosines(vectors: Vector, vector: Vector) -> Vector:
    """Of each row, an embedding, to one more: float32, shape ``(len(vectors),)``.

    Row by row, which is as fast as the memory they lie in. In a product of matrices each is rounded as the others
    demand, and threads that share it go on spinning for some 10 ms, at the cost of whoever else works.
    """
    return np.vecdot(vectors, vector)


def best(numbers: Ints, similar: Vector, k: int) -> tuple[Ints, Vector]:
    """The ``k`` most similar, the greatest first, of numbers and their similarities."""
    if k < len(numbers):
        chosen = np.argpartition(similar, len(numbers) - k)[len(numbers) - k :]
        numbers, similar = numbers[chosen], similar[chosen]
    order = np.argsort(-similar, kind="stable")
    return numbers[order], similar[order]
