"""Texts that came into a large scope and whose words nobody has asked for: a search by vectors alone needs none.

Taking the words of a text holds the interpreter's lock for about as long as reading the record: so beside those who
write that is left to the first search that has words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentmem.types.ports import Bools

NOTHING = ("", "")
"""The texts of a slot that is dead."""
_BESIDE = 150
"""Bytes that two references to a short text take, with the objects behind them."""


class Unread:
    """In the order of their slots. Not thread-safe."""

    def __init__(self) -> None:
        self._held: deque[tuple[Sequence[tuple[str, str]], int, int]] = deque()
        self.nbytes = 0
        """About what they take."""

    def add(self, texts: Sequence[tuple[str, str]], start: int) -> None:
        """Keep what words are looked for in, and the content, of slots from ``start`` on."""
        size = sum(_BESIDE + len(words) + (0 if words is content else len(content)) for words, content in texts)
        self._held.append((texts, start, size))
        self.nbytes += size

    def pop(self, live: Bools) -> tuple[Sequence[tuple[str, str]], int]:
        """The texts that came first, which are kept no longer, without those of dead slots, and their first slot."""
        texts, start, size = self._held.popleft()
        self.nbytes -= size
        return _of_living(texts, live[start:]), start

    @property
    def first(self) -> int | None:
        """The first slot whose text is here; so are those of all that come after it."""
        return self._held[0][1] if self._held else None

    def scrub(self, live: Bools) -> None:
        """Keep no text of dead slots."""
        for at, (texts, start, size) in enumerate(self._held):
            self._held[at] = _of_living(texts, live[start:]), start, size

    def clear(self) -> None:
        """Keep none."""
        self._held.clear()
        self.nbytes = 0


def _of_living(texts: Sequence[tuple[str, str]], live: Bools) -> Sequence[tuple[str, str]]:
    there = live[: len(texts)].tolist()
    return texts if all(there) else [text if here else NOTHING for text, here in zip(texts, there, strict=True)]
