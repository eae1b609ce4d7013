"""Vectors as a graph, by hnswlib: the only file that imports it, on use.

HNSW: Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small
World Graphs" (2018). The quickest on a processor, at fifteen times the memory of codes; it takes a minute to make for
300,000 vectors.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from agentmem.indexes.fronts import Front
from agentmem.types.errors import MissingExtraError

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints, Vector

_LEAST = 0.3
"""Share of the vectors that a mask has to leave, so that a walk in the graph comes by enough of them."""
_MOST = 0.25
"""Share of the vectors up to which looking at them one after the other would take longer."""
_ERASED = 50
"""Vectors up to which overwriting them in the graph, some 2 ms each, is better than making another one."""
_MORE = 1.2
"""Times as many are asked for as should be enough."""


def check_hnsw() -> None:
    """Raise ``MissingExtraError`` where hnswlib is not installed."""
    if find_spec("hnswlib") is None:
        raise MissingExtraError(
            "large scopes are to be searched by 'hnsw', and hnswlib is not installed; pip install 'agentmem-db[hnsw]'"
        )


def bytes_of_graph(dim: int, m: int) -> int:
    """About what a vector takes in a graph."""
    return 4 * dim + 8 * m + 64


class Hnsw(Front):
    """A graph of at most ``size`` vectors; ``m``, ``ef_construction`` and ``ef`` as the settings have them."""

    def __init__(self, dim: int, size: int, *, m: int, ef_construction: int, ef: int) -> None:
        import hnswlib  # pyright: ignore[reportMissingModuleSource, reportMissingTypeStubs, reportMissingImports, reportUnknownVariableType]

        self._dim, self._m, self._ef = dim, m, ef
        self._graph: Any = hnswlib.Index("ip", dim)  # pyright: ignore[reportUnknownMemberType]
        self._graph.init_index(max(1, size), M=m, ef_construction=ef_construction)
        self._used = 0

    @property
    @override
    def name(self) -> str:
        return "hnsw"

    @property
    @override
    def nbytes(self) -> int:
        return 0 if self._graph is None else self._used * bytes_of_graph(self._dim, self._m)

    @override
    def __len__(self) -> int:
        return self._used

    @override
    def append(self, vectors: Vector) -> None:
        numbers = np.arange(self._used, self._used + len(vectors))
        self._graph.add_items(vectors, numbers, num_threads=1)
        self._used += len(vectors)

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector] | None:
        there = int(np.count_nonzero(allowed))
        if not there or there < _LEAST * self._used or k > there:
            return None
        asked = k if there == self._used else round(_MORE * k * self._used / there) + 10
        if asked > _MOST * self._used:
            return None
        self._graph.set_ef(max(self._ef, asked))
        try:
            labels, distances = self._graph.knn_query(vector.reshape(1, -1), k=asked, num_threads=1)
        except RuntimeError:  # the walk did not come by as many
            return None
        numbers = labels[0].astype(np.int64)
        passing = np.flatnonzero(allowed[numbers])[:k]
        if len(passing) < k:
            return None
        return numbers[passing], (1 - distances[0][passing]).astype(np.float32)

    @override
    def erase(self, numbers: Ints) -> bool:
        if len(numbers) > _ERASED:
            return False
        if len(numbers):
            # What has a label that is there takes the vector's place, and its neighbours find others.
            self._graph.add_items(np.zeros((len(numbers), self._dim), np.float32), numbers, num_threads=1)
        return True

    @override
    def close(self) -> None:
        self._graph, self._used = None, 0
