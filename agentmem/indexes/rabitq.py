"""Vectors as codes of 2 bits a number, by FAISS: the only file that imports it, on use.

RaBitQ: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
Nearest Neighbor Search" (2024), extended to several bits (2025). 84 bytes for 256 numbers; of 300,000 vectors of
dialogue the ten nearest are among the 400 that it takes for the nearest. The flat index takes a mask; the one that
scans a third faster does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from typing_extensions import override

from agentmem.indexes.delta import Codes
from agentmem.types.promise import promised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

T = TypeVar("T")
_BITS = 2
SEGMENT = 500_000
"""Vectors in one index of FAISS's."""
SHARED = 1_000_000
"""Vectors beyond which two threads share the segments: below that, waking the other one is not worth it."""


class RaBitQ(Codes):
    """Codes of one length, in segments. The first vectors that are appended are the sample that the centre is taken
    from."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._faiss = library()
        self._segments: list[Any] = [self._faiss.IndexRaBitQ(dim, self._faiss.METRIC_INNER_PRODUCT, _BITS)]

    @property
    @override
    def kind(self) -> str:
        return f"rabitq{_BITS} of {self._dim}"

    @property
    @override
    def nbytes(self) -> int:
        return sum(int(index.codes.size()) for index in self._segments)

    @override
    def __len__(self) -> int:
        return sum(int(index.ntotal) for index in self._segments)

    @override
    def append(self, vectors: Vector) -> None:
        if len(vectors) and not self._segments[0].is_trained:
            self._alone(lambda: self._segments[0].train(vectors))
        for part in self._parts(vectors):
            self._add(part)

    @property
    @override
    def is_trained(self) -> bool:
        return bool(self._segments[0].is_trained)

    @override
    def code(self, vectors: Vector) -> NDArray[np.uint8]:
        index = self._segments[0]
        return self._alone(lambda: index.sa_encode(np.ascontiguousarray(vectors)))

    @override
    def take(self, codes: NDArray[np.uint8]) -> None:
        for part in self._parts(codes):
            self._segments[-1].add_sa_codes(np.ascontiguousarray(part))

    @override
    def blank(self, numbers: Ints) -> None:
        for start, end, index in self._spans():
            self._codes(index)[numbers[(numbers >= start) & (numbers < end)] - start] = 0

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        left = self._spans()
        found: list[tuple[Ints, Vector]] = []

        def work() -> None:
            while left:
                try:
                    start, end, index = left.pop()
                except IndexError:  # the other one was quicker
                    return
                numbers, similar = self._nearest(index, query, k, start, allowed[start:end])
                found.append((numbers[0], similar[0]))

        # Whoever is interrupted here leaves the other thread with a search: such codes are used no more.
        other = promised(work) if len(left) > 1 and left[-1][1] > SHARED else None
        work()
        if other is not None:
            other.plain_result()
        return _merged(found, k)

    @override
    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector]]:
        # FAISS shares the queries among its threads, which have enough to do here.
        if len(vectors) == 1:
            return [self.nearest(vectors[0], k, allowed)]
        queries = np.ascontiguousarray(vectors, np.float32)
        found = [self._nearest(i, queries, k, a, allowed[a:b], alone=False) for a, b, i in self._spans()]
        return [_merged([(each[0][at], each[1][at]) for each in found], k) for at in range(len(queries))]

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return {f"faiss {n}": self._faiss.serialize_index(index) for n, index in enumerate(self._segments)}

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        try:
            segments = [
                self._faiss.deserialize_index(np.ascontiguousarray(arrays[f"faiss {n}"], np.uint8))
                for n in range(max(1, len(arrays)))
            ]
        except (KeyError, RuntimeError) as exc:
            raise ValueError(f"FAISS cannot read the codes: {exc}") from exc
        for index in segments:
            if type(index) is not type(self._segments[0]) or index.d != self._dim:
                raise ValueError(f"the codes are those of a {type(index).__name__} of {index.d} numbers")
        self._segments = segments

    @override
    def close(self) -> None:
        self._segments = []

    def _parts(self, every: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """What is to be appended, in parts that fit into the last segment, which is another one for each."""
        while len(every):
            room = SEGMENT - int(self._segments[-1].ntotal)
            if room <= 0:
                self._segments.append(self._another())
                continue
            part, every = every[:room], every[room:]
            yield part

    def _add(self, vectors: Vector) -> None:
        self._alone(lambda: self._segments[-1].add(vectors))

    def _another(self) -> Any:
        """An empty index that codes as the first one does."""
        index = self._faiss.IndexRaBitQ(self._dim, self._faiss.METRIC_INNER_PRODUCT, _BITS)
        index.center = self._segments[0].center
        index.is_trained = True
        return index

    def _spans(self) -> list[tuple[int, int, Any]]:
        """Each index with the numbers of its first vector and of the one after its last."""
        ends = np.cumsum([int(index.ntotal) for index in self._segments]).tolist()
        return list(zip([0, *ends[:-1]], ends, self._segments, strict=True))

    def _nearest(
        self, index: Any, queries: Vector, k: int, start: int, allowed: Bools, *, alone: bool = True
    ) -> tuple[Ints, Vector]:
        """For each query the nearest of one index: a row of numbers, and one of similarities."""
        parameters = None
        if not allowed.all():
            # The selector refers to the bits without holding them.
            bits = np.packbits(allowed, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(bits)
            parameters = self._faiss.SearchParameters(sel=selector)
        k = min(k, int(np.count_nonzero(allowed)))
        if not k:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)

        def search() -> tuple[Vector, Ints]:
            return index.search(queries, k, params=parameters)

        similar, numbers = self._alone(search) if alone else search()
        return numbers + start, similar

    def _codes(self, index: Any) -> NDArray[np.uint8]:
        """The codes themselves, not a copy."""
        size = int(index.code_size)
        return self._faiss.rev_swig_ptr(index.codes.data(), int(index.ntotal) * size).reshape(-1, size)

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


def _merged(found: list[tuple[Ints, Vector]], k: int) -> tuple[Ints, Vector]:
    """The ``k`` nearest of what several indexes found."""
    numbers = np.concatenate([each[0] for each in found])
    similar = np.concatenate([each[1] for each in found])
    if len(found) > 1:
        order = np.argsort(-similar, kind="stable")[:k]
        numbers, similar = numbers[order], similar[order]
    return numbers, similar


def library() -> Any:
    """FAISS, for whatever else of the package needs it."""
    import faiss  # pyright: ignore[reportMissingTypeStubs, reportMissingImports, reportUnknownVariableType]

    return faiss  # pyright: ignore[reportUnknownVariableType]
