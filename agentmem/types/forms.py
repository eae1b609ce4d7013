"""What a record is embedded by, where that is not its content; and embeddings of records that have several, or none.

Embeddings travel as one ``bytes`` for each record: the normalised float32 of all of them, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OF_CONTENT = 1
"""The column ``vectors`` of a record like most: one embedding, that of its content."""


@dataclass(frozen=True, slots=True)
class Form:
    """At most one of these: texts that are embedded in the place of the content, or vectors that the caller gave, each
    as the bytes of normalised float32. With neither there is no embedding.

    ``of_content`` is for changes: as most records are, again.
    """

    texts: tuple[str, ...] = ()
    given: tuple[bytes, ...] = ()
    of_content: bool = False

    @property
    def code(self) -> int:
        """What the column ``vectors`` says: 0 none, 1 that of the content; above it, one more than there are texts;
        below zero, that many were given."""
        if self.of_content:
            return OF_CONTENT
        return len(self.texts) + 1 if self.texts else -len(self.given)


def count_of(code: int) -> int:
    """How many embeddings a record has, by its column ``vectors``."""
    return code - 1 if code > OF_CONTENT else abs(code)


FormName = Literal["content", "texts", "given", "none"]


def name_of(code: int) -> FormName:
    """The public word for the column ``vectors``."""
    if code == OF_CONTENT:
        return "content"
    return "texts" if code > OF_CONTENT else "given" if code else "none"
