"""The vectors that came last, as they are, beside the codes of the others: coding them is put off, and done in pauses.

Coding a vector takes as long as a third of its add. So whoever searches beside writers does not do that first: what is
new is compared exactly, and a thread codes it while nobody writes, or at once where there is too much of it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from typing_extensions import override

from agentmem.indexes.exact import best, cosines
from agentmem.types.ports import VectorEngine
from agentmem.types.promise import promised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

LEAST = 1_000
"""Vectors from which on they are coded: so few are compared in 0.1 ms."""
MOST_BYTES = 32 * 1_048_576
"""Bytes of them from which on coding rests no more; at twice as many, whoever appends waits for it."""
PIECE = 500
"""Vectors that are coded between two rests: some 10 to 30 ms."""
DELTA = "delta"

log = logging.getLogger("agentmem")


class Codes(VectorEngine, Protocol):
    """An engine whose codes can be made apart from it."""

    @property
    def is_trained(self) -> bool:
        """Whether it is decided how vectors are coded."""
        ...

    def code(self, vectors: Vector) -> NDArray[np.uint8]:
        """The codes of some vectors, of shape ``(n, bytes)``. On any thread, while another one uses the engine."""
        ...

    def take(self, codes: NDArray[np.uint8]) -> None:
        """Append vectors that were coded."""
        ...


class _Late(NamedTuple):
    """Vectors, with room behind them, and the number of the first."""

    vectors: Vector
    first: int


class _Coding:
    """A thread's leave to go on."""

    over = False


def _without_rest() -> Callable[[], bool]:
    return lambda: True


class Delta(VectorEngine):
    """Codes, and exact vectors from the number on at which they end.

    The thread that codes changes nothing here: it leaves codes in a queue, and whoever uses the engine next takes them
    up. What was overwritten meanwhile is overwritten in them, too.
    """

    def __init__(self, codes: Codes, dim: int, pauses: Callable[[], Callable[[], bool]] = _without_rest) -> None:
        """``pauses`` makes what is called between two pieces: it rests as it likes, and says whether to go on."""
        self._codes = codes
        self._dim = dim
        self._pauses = pauses
        self._late = _Late(np.empty((0, dim), np.float32), 0)
        self._end = 0
        self._made: deque[tuple[int, NDArray[np.uint8]]] = deque()
        """Codes that were made: the number of the first vector, and theirs."""
        self._coding: _Coding | None = None
        self._blank = set[int]()
        """Numbers that were overwritten before they were coded."""
        self._again = 0
        """The number of vectors from which on it is tried again, after it failed."""

    @property
    @override
    def kind(self) -> str:
        return self._codes.kind

    @property
    @override
    def nbytes(self) -> int:
        return self._codes.nbytes + self._late.vectors.nbytes

    @property
    def waiting(self) -> int:
        """Vectors that are not coded yet."""
        return self._end - len(self._codes)

    @override
    def __len__(self) -> int:
        return self._end

    @override
    def append(self, vectors: Vector) -> None:
        self._take_up()
        if not self._codes.is_trained:
            self._codes.append(vectors)
            self._end = len(self._codes)
            return
        self._keep(vectors)
        held = 4 * self._dim * self.waiting
        if held > 2 * MOST_BYTES:
            self.settle()
        elif self.waiting >= LEAST and self._end >= self._again and self._coding is None:
            self._begin()

    @override
    def settle(self) -> None:
        self._stop()
        self._take_up()
        while self.waiting:
            start = len(self._codes)
            self._take(start, self._codes.code(self._vectors(start, start + PIECE)))
        self._tidy()

    @override
    def blank(self, numbers: Ints) -> None:
        self._take_up()
        coded = len(self._codes)
        self._codes.blank(numbers[numbers < coded])
        late = numbers[numbers >= coded]
        self._late.vectors[late - self._late.first] = 0
        self._blank.update(late.tolist())

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        return self.nearest_many(vector.reshape(1, -1), k, allowed)[0]

    @override
    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector]]:
        self._take_up()
        coded = len(self._codes)
        late = np.flatnonzero(allowed[coded:])
        found = self._codes.nearest_many(vectors, k, allowed[:coded])
        if not len(late):
            return found
        every = self._vectors(coded, self._end)
        few = 4 * len(late) < len(every)
        rows, numbers = every[late] if few else every, late + coded
        answers = list[tuple[Any, Any]]()
        for vector, (near, about) in zip(vectors, found, strict=True):
            exact = cosines(rows, vector)
            added, similar = best(numbers, exact if few else exact[late], k)
            answers.append(best(np.concatenate([near, added]), np.concatenate([about, similar]), k))
        return answers

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        self._take_up()
        arrays = self._codes.saved()
        if self.waiting:
            arrays[DELTA] = self._vectors(len(self._codes), self._end).copy()
        return arrays

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        late = arrays.get(DELTA, np.empty((0, self._dim), np.float32))
        if late.ndim != 2 or late.shape[1] != self._dim or late.dtype != np.float32:
            raise ValueError(f"the vectors that are not coded are not of {self._dim} numbers each")
        self._codes.restore({name: array for name, array in arrays.items() if name != DELTA})
        self._stop()
        self._made.clear()
        self._blank.clear()
        self._end = len(self._codes)
        self._late, self._again = _Late(late, self._end), 0
        self._end += len(late)

    @override
    def close(self) -> None:
        self._stop()
        self._made.clear()
        self._codes.close()
        self._late, self._end = _Late(np.empty((0, self._dim), np.float32), 0), 0

    # -- inside ------------------------------------------------------------------------------------------------------

    def _vectors(self, start: int, end: int) -> Vector:
        """Those of these numbers, as far as there are any, which are not coded: not a copy."""
        first = self._late.first
        return self._late.vectors[start - first : min(end, self._end) - first]

    def _keep(self, vectors: Vector) -> None:
        held, first = self._late
        end = self._end + len(vectors)
        if end - first > len(held):
            # What is coded by now is left behind; the thread that codes may still be reading the old ones.
            coded = len(self._codes)
            bigger = np.empty((max(16, (end - coded) * 5 // 4), self._dim), np.float32)
            bigger[: self._end - coded] = held[coded - first : self._end - first]
            held, first = bigger, coded
        held[self._end - first : end - first] = vectors
        # In this order: the thread reads the end first, and has to find as many vectors.
        self._late = _Late(held, first)
        self._end = end

    def _take_up(self) -> None:
        """Have what was coded meanwhile."""
        if not self._made:
            return
        while self._made:
            start, codes = self._made.popleft()
            if start == len(self._codes):  # else it was coded by somebody else, before it was there
                self._take(start, codes)
        self._tidy()

    def _take(self, start: int, codes: NDArray[np.uint8]) -> None:
        self._codes.take(codes)
        end = start + len(codes)
        if gone := [number for number in self._blank if number < end]:
            self._codes.blank(np.array(gone, np.int64))
            self._blank.difference_update(gone)

    def _tidy(self) -> None:
        """Give the room back of what is coded, once that is most of it."""
        coded, (held, first) = len(self._codes), self._late
        if 2 * (coded - first) > len(held):
            self._late = _Late(held[coded - first : self._end - first].copy(), coded)

    def _begin(self) -> None:
        self._coding = coding = _Coding()
        start = len(self._codes)
        try:
            promised(lambda: self._work(coding, start))
        except RuntimeError:  # the interpreter is about to end
            self._coding = None

    def _stop(self) -> None:
        coding, self._coding = self._coding, None
        if coding is not None:
            coding.over = True

    # -- on a thread of its own --------------------------------------------------------------------------------------

    def _work(self, coding: _Coding, start: int) -> None:
        go_on = self._pauses()
        try:
            while not coding.over:
                end = min(start + PIECE, self._end)
                vectors, first = self._late
                if end <= start:
                    break
                codes = self._codes.code(vectors[start - first : end - first])
                if coding.over:
                    break
                self._made.append((start, codes))
                start = end
                if 4 * self._dim * (self._end - start) <= MOST_BYTES and not go_on():
                    break
        except Exception as exc:  # whatever it is, they are compared as they are
            if coding.over:
                return
            self._again = self._end + LEAST
            log.warning("new vectors of a large scope could not be coded, and are compared as they are: %s", exc)
        finally:
            if self._coding is coding:
                self._coding = None
