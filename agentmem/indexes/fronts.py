"""What stands in front of codes: an engine that is quicker or nearer, of most vectors, made in the background.

It is never changed once it is made: what is of no use since is kept out by the mask, what was added since is found by
the codes, which have everything, and so is whatever it cannot tell. Only what was erased is overwritten in it. It may
fail at any time: that costs speed alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from typing_extensions import override

from agentmem.types.ports import EngineError, VectorEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

GROWN = 0.1
"""Vectors that were added since, as a part of those in front, from which another front is made."""

log = logging.getLogger("agentmem")


class Front(Protocol):
    """An engine for what stands in front. Filled by one thread, then used by one at a time.

    Raises ``EngineError`` where it cannot go on, at any call; it is closed then.
    """

    @property
    def name(self) -> str:
        """What it is called in statistics."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory held, wherever that is."""
        ...

    def __len__(self) -> int:
        """How many vectors were appended."""
        ...

    def append(self, vectors: Vector) -> None:
        """Add vectors of length one: float32, shape ``(n, dim)``."""
        ...

    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector] | None:
        """As of a ``VectorEngine``; None where it cannot tell ``k`` of them as quickly as codes can."""
        ...

    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector] | None]:
        """The same for each of several, of shape ``(n, dim)``."""
        return [self.nearest(vector, k, allowed) for vector in vectors]

    def erase(self, numbers: Ints) -> bool:
        """Overwrite some vectors, which no search allows any more; False where it cannot, or not soon enough."""
        return False

    def close(self) -> None:
        """Give the memory back. May be called again."""
        ...


class _Placed(NamedTuple):
    """A front, the numbers of its vectors among the codes, ascending, and how many codes there were for it."""

    front: Front
    numbers: Ints
    end: int


class Fronted(VectorEngine):
    """Codes with a front, once there is one. Whoever makes it calls ``begin`` and ``offer``, from any thread."""

    def __init__(self, codes: VectorEngine, told: Callable[[str], object] = lambda _: None) -> None:
        """``told`` hears of each failure."""
        self._codes = codes
        self._told = told
        self._placed: _Placed | None = None
        self._lock = RLock()
        self._erased: list[Ints] | None = None
        """What was overwritten since a front was begun, which may have it; None: none is being made."""
        self.refused = False
        """Whether nothing has room for a front: it is not tried again."""
        self.fallbacks = 0
        """How often a front failed, and the codes answered in its place."""
        self.last_error: str | None = None

    @property
    def front(self) -> Front | None:
        placed = self._placed
        return None if placed is None else placed.front

    def due(self, live: int, least: float) -> bool:
        """Whether a front is to be made: there is none, it lacks too much, or less than the share ``least`` of it is
        still of use; ``live``: how many of all vectors are. After a failure there is none."""
        if self._erased is not None or self.refused or self.last_error is not None or not live:
            return False
        placed = self._placed
        if placed is None:
            return True
        added = len(self._codes) - placed.end
        return added > GROWN * len(placed.front) or live - added < least * len(placed.front)

    def begin(self) -> None:
        """A front is being made from what is there now."""
        with self._lock:
            self._erased = []

    def give_up(self) -> None:
        """None is being made any more."""
        with self._lock:
            self._erased = None

    def offer(self, front: Front, numbers: Ints, end: int) -> None:
        """Have this one in front from now on, whose vectors are those of these numbers, of the first ``end`` ones.

        Not if it cannot be rid of what was erased since it was begun. Ends what ``begin`` began.
        """
        with self._lock:
            erased, self._erased = self._erased or [], None
            for gone in erased:
                if not front.erase(_inside(numbers, gone)):
                    front.close()
                    return
            # The old one is not closed, since a search may be using it: it goes when that is over.
            self._placed = _Placed(front, numbers, end)

    def failed(self, exc: BaseException) -> None:
        """A front could not be made, or did not last: none is tried any more."""
        self.fallbacks += 1
        if self.last_error is None:
            log.warning("vectors of a large scope are found by codes, since what stood in front failed: %s", exc)
        self.last_error = f"{type(exc).__name__}: {exc}"
        self._told(self.last_error)

    @property
    @override
    def kind(self) -> str:
        return self._codes.kind

    @property
    @override
    def nbytes(self) -> int:
        placed = self._placed
        return self._codes.nbytes + (0 if placed is None else placed.front.nbytes + placed.numbers.nbytes)

    @override
    def __len__(self) -> int:
        return len(self._codes)

    @override
    def append(self, vectors: Vector) -> None:
        self._codes.append(vectors)

    @override
    def settle(self) -> None:
        self._codes.settle()

    @override
    def retire(self, numbers: Ints) -> None:
        self._codes.blank(numbers)

    @override
    def blank(self, numbers: Ints) -> None:
        self._codes.blank(numbers)
        with self._lock:
            if self._erased is not None:
                self._erased.append(numbers)
            placed = self._placed
            try:
                if placed is None or placed.front.erase(_inside(placed.numbers, numbers)):
                    return
            except EngineError as exc:
                self.failed(exc)
            # One that still had them would be all that is left of what was erased.
            self._placed = None

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        return self.nearest_many(vector.reshape(1, -1), k, allowed)[0]

    @override
    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector]]:
        placed = self._placed
        if placed is None:
            return self._codes.nearest_many(vectors, k, allowed)
        front, numbers, end = placed
        found: list[tuple[Ints, Vector] | None]
        inside = allowed[numbers]
        try:
            if len(vectors) == 1:
                found = [front.nearest(vectors[0], k, inside)]
            else:
                found = front.nearest_many(vectors, k, inside)
        except EngineError as exc:
            self.failed(exc)
            self._placed = None
            front.close()
            return self._codes.nearest_many(vectors, k, allowed)
        later = None
        if allowed[end:].any():
            later = allowed.copy()
            later[:end] = False
        answers = list[tuple[Any, Any]]()
        for vector, one in zip(vectors, found, strict=True):
            if one is None:
                answers.append(self._codes.nearest(vector, k, allowed))
                continue
            near, similar = numbers[one[0]], one[1]
            if later is not None:
                added = self._codes.nearest(vector, k, later)
                near, similar = np.concatenate([near, added[0]]), np.concatenate([similar, added[1]])
                order = np.argsort(-similar, kind="stable")[:k]
                near, similar = near[order], similar[order]
            answers.append((near, similar))
        return answers

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return self._codes.saved()

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._codes.restore(arrays)

    @override
    def close(self) -> None:
        placed, self._placed = self._placed, None
        if placed is not None:
            placed.front.close()
        self._codes.close()


def _inside(numbers: Ints, wanted: Ints) -> Ints:
    """The positions among ``numbers``, which ascend, of those that are wanted and there."""
    if not len(numbers):
        return np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    return at[numbers[at] == wanted]
