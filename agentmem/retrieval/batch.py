"""Queries that are searched for one after the other, and compared with the vectors together.

All of them have one scope and the same filters, so that one pass over the vectors answers for all. The first one that
asks has it made; whoever comes to a scope that has changed meanwhile has another one made for itself and the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints, Vector, VectorEngine

SIZE = 64
"""Queries that are compared together: others who search the same scope wait for as long."""


class Batch:
    """Vectors of queries, each of which is asked for in this order, once or not at all. Not thread-safe."""

    def __init__(self, vectors: Vector) -> None:
        """float32, shape ``(n, dim)``."""
        self._vectors = vectors
        self._next = 0
        """The query that comes next, by its place among them."""
        self._first = 0
        """The one that the answers begin with."""
        self._engine: VectorEngine | None = None
        self._asked: tuple[int, int] | None = None
        self._allowed: Bools | None = None
        self._near: list[tuple[Ints, Vector]] = []
        self._array: Vector | None = None
        self._similar: Vector | None = None
        self._begun = 0

    def at(self, number: int) -> None:
        """It is this query's turn."""
        self._next = number

    def nearest(self, engine: VectorEngine, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        """What ``engine.nearest`` says of the query whose turn it is."""
        asked = (k, len(engine))
        known = self._engine is engine and self._asked == asked and self._next < self._first + len(self._near)
        if not known or self._allowed is None or not np.array_equal(self._allowed, allowed):
            self._near = engine.nearest_many(self._vectors[self._next :], k, allowed)
            self._engine, self._asked, self._allowed, self._first = engine, asked, allowed.copy(), self._next
        return self._near[self._next - self._first]

    def similarities(self, array: Vector, used: int) -> Vector:
        """The cosines of the first ``used`` rows of an array, which are filled once, to the query whose turn it is."""
        known = self._array is array and self._similar is not None and self._similar.shape[1] == used
        if not known or self._similar is None:
            self._array, self._begun = array, self._next
            self._similar = self._vectors[self._next :] @ array[:used].T
        return self._similar[self._next - self._begun]
