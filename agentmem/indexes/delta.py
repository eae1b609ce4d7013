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
BLOCK_BYTES = 1_048_576
"""Vectors lie in blocks of about so many bytes: growing moves none, and what is coded goes a block at a time, whose
memory the next one takes; memory that is new to the process takes ten times as long to fill."""
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
    """Blocks of vectors, all of one size, with room at the end of the last, and the number of the first vector."""

    blocks: tuple[Vector, ...]
    first: int

    def parts(self, start: int, end: int) -> list[Vector]:
        """The vectors of these numbers, one block after the other; not copies."""
        found: list[Vector] = []
        at, end = start - self.first, end - self.first
        while at < end:
            size = len(self.blocks[0])
            inside = at % size
            found.append(self.blocks[at // size][inside : inside + end - at])
            at += len(found[-1])
        return found


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
        self._late = _Late((), 0)
        self._size = max(1, BLOCK_BYTES // (4 * dim))
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
        # What no vector was written to yet takes no memory.
        return self._codes.nbytes + (4 * self._dim * (self._end - self._late.first) if self._late.blocks else 0)

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
            self._take(start, self._codes.code(self._late.parts(start, min(start + PIECE, self._end))[0]))
        self._tidy()

    @override
    def blank(self, numbers: Ints) -> None:
        self._take_up()
        coded = len(self._codes)
        self._codes.blank(numbers[numbers < coded])
        late = numbers[numbers >= coded]
        for number in late.tolist():
            self._late.parts(number, number + 1)[0][:] = 0
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
        parts, numbers = self._late.parts(coded, self._end), late + coded
        few = 4 * len(late) < self.waiting
        if few:
            ends = np.cumsum([len(part) for part in parts])[:-1]
            parts = [part[some] for part, some in zip(parts, np.split(allowed[coded:], ends), strict=True)]
        answers = list[tuple[Any, Any]]()
        for vector, (near, about) in zip(vectors, found, strict=True):
            exact = np.concatenate([cosines(part, vector) for part in parts])
            added, similar = best(numbers, exact if few else exact[late], k)
            answers.append(best(np.concatenate([near, added]), np.concatenate([about, similar]), k))
        return answers

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        self._take_up()
        arrays = self._codes.saved()
        if self.waiting:
            arrays[DELTA] = np.concatenate(self._late.parts(len(self._codes), self._end))
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
        self._late, self._again = _Late((), self._end), 0
        self._keep(late)

    @override
    def close(self) -> None:
        self._stop()
        self._made.clear()
        self._codes.close()
        self._late, self._end = _Late((), 0), 0

    # -- inside ------------------------------------------------------------------------------------------------------

    def _keep(self, vectors: Vector) -> None:
        blocks, first = self._late
        if not blocks:
            first = self._end
        end = self._end + len(vectors)
        while first + len(blocks) * self._size < end:
            blocks += (np.empty((self._size, self._dim), np.float32),)
        late = _Late(blocks, first)
        for part in late.parts(self._end, end):
            part[:], vectors = vectors[: len(part)], vectors[len(part) :]
        # In this order: the thread that codes reads the end first, and has to find as many vectors.
        self._late = late
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
        """Give the blocks back of which all is coded; the thread that codes may still be reading one, and keeps it."""
        blocks, first = self._late
        done = (len(self._codes) - first) // self._size if self.waiting else len(blocks)
        if done:
            self._late = _Late(blocks[done:], first + done * self._size)

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
                late = self._late
                if end <= start:
                    break
                codes = self._codes.code(late.parts(start, end)[0])
                if coding.over:
                    break
                self._made.append((start, codes))
                start += len(codes)
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
