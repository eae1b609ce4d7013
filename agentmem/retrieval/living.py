"""What searches of a large arena want to know of all its slots, kept as they change instead of counted each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agentmem.retrieval.query import NEVER

if TYPE_CHECKING:
    from agentmem.types.clock import Micros
    from agentmem.types.ports import Bools, Ints, Vector


class Living:
    """Of the live slots how many words they have together, and when the first of them expires; and which are dead."""

    def __init__(self) -> None:
        self.words = 0
        self._first: Micros | None = NEVER
        """When the first of them expires; None while that is not known."""
        self._dead: Ints | None = np.empty(0, np.int64)

    def add(self, expires: Ints) -> None:
        """Slots came; their words come later, into ``words``."""
        if self._first is not None:
            self._first = min(self._first, int(expires.min(initial=NEVER)))

    def remove(self, words: int, expires: Micros) -> None:
        """A slot died."""
        self.words -= words
        self._dead = None
        if expires == self._first != NEVER:
            self._first = None

    def recount(self, live: Bools, lengths: Vector) -> None:
        """Everything is another's."""
        self.words, self._first, self._dead = int(lengths[live].sum(dtype=np.float64)), None, None

    def first_expiry(self, live: Bools, expires: Ints) -> Micros:
        """When the first of the live slots expires, or expired; ``NEVER`` if none does."""
        if self._first is None:
            self._first = int(expires[live].min(initial=NEVER))
        return self._first

    def dead(self, live: Bools) -> Ints:
        """The dead slots, ascending."""
        if self._dead is None:
            self._dead = np.flatnonzero(~live)
        return self._dead
