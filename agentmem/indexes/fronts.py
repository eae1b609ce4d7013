"""What stands in front of codes: an engine that is quicker or nearer, of most vectors, made in the background.

It is never changed once it is made: what was removed since is kept out by the mask, what was added since is found by
the codes, which have everything, and so is whatever it cannot tell. It may fail at any time: that costs speed alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import override

from agentmem.types.ports import EngineError, VectorEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

GROWN = 1.1
"""Times as many vectors as the front has, from which another one is made."""

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
        """Add vectors of length one, or of zeros: float32, shape ``(n, dim)``."""
        ...

    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector] | None:
        """As of a ``VectorEngine``; None where it cannot tell ``k`` of them as quickly as codes can."""
        ...

    def close(self) -> None:
        """Give the memory back. May be called again."""
        ...


class Fronted(VectorEngine):
    """Codes with a front, once there is one. Whoever makes it calls ``offer``, from any thread."""

    def __init__(self, codes: VectorEngine) -> None:
        self._codes = codes
        self._front: Front | None = None
        self.making = False
        self.blanked = 0
        """How often vectors were overwritten: a front that was begun before that still has them."""
        self.fallbacks = 0
        """How often a front failed, and the codes answered in its place."""
        self.last_error: str | None = None

    @property
    def front(self) -> Front | None:
        return self._front

    @property
    def due(self) -> bool:
        """Whether a front is to be made: there is none, or it lacks too much. After a failure there is none."""
        if self.making or self.last_error is not None or not len(self._codes):
            return False
        return self._front is None or len(self._codes) > GROWN * len(self._front)

    def offer(self, front: Front, blanked: int) -> None:
        """Have this one in front from now on, unless something was ``blanked`` since it was begun."""
        if blanked != self.blanked:
            front.close()
            return
        old, self._front = self._front, front
        if old is not None:
            old.close()

    def fail(self, exc: BaseException) -> None:
        """The front failed, or could not be made: the codes go on without one."""
        self.fallbacks += 1
        if self.last_error is None:
            log.warning("vectors of a large scope are found by codes, since what stood in front failed: %s", exc)
        self.last_error = f"{type(exc).__name__}: {exc}"
        front, self._front = self._front, None
        if front is not None:
            front.close()

    @property
    @override
    def kind(self) -> str:
        return self._codes.kind

    @property
    @override
    def nbytes(self) -> int:
        front = self._front
        return self._codes.nbytes + (0 if front is None else front.nbytes)

    @override
    def __len__(self) -> int:
        return len(self._codes)

    @override
    def append(self, vectors: Vector) -> None:
        self._codes.append(vectors)

    @override
    def blank(self, numbers: Ints) -> None:
        # A front that still had them would be all that is left of what was erased.
        self.blanked += 1
        front, self._front = self._front, None
        if front is not None:
            front.close()
        self._codes.blank(numbers)

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector]:
        front = self._front
        if front is None:
            return self._codes.nearest(vector, k, allowed)
        known = len(front)
        try:
            found = front.nearest(vector, k, allowed[:known])
        except EngineError as exc:
            self.fail(exc)
            found = None
        if found is None:
            return self._codes.nearest(vector, k, allowed)
        if not allowed[known:].any():
            return found
        later = allowed.copy()
        later[:known] = False
        added = self._codes.nearest(vector, k, later)
        numbers, similar = np.concatenate([found[0], added[0]]), np.concatenate([found[1], added[1]])
        order = np.argsort(-similar, kind="stable")[:k]
        return numbers[order], similar[order]

    @override
    def saved(self) -> dict[str, NDArray[Any]]:
        return self._codes.saved()

    @override
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._codes.restore(arrays)

    @override
    def close(self) -> None:
        front, self._front = self._front, None
        if front is not None:
            front.close()
        self._codes.close()
