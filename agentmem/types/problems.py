"""Problems as a report lists them: however many there are, the list stays readable and fits into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

SHOWN = 100
"""Problems of one kind that are listed; the rest is counted."""


class Problems:
    """Collects problems. The first word of each, such as ``record`` or ``lancedb:``, is its kind."""

    def __init__(self, found: Iterable[str] = ()) -> None:
        self._listed = list[str]()
        self._counts = Counter[str]()
        self.extend(found)

    def add(self, problem: str) -> None:
        kind = problem.split(maxsplit=1)[0].rstrip(":")
        self._counts[kind] += 1
        if self._counts[kind] <= SHOWN:
            self._listed.append(problem)

    def extend(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self.add(problem)

    def __bool__(self) -> bool:
        return bool(self._listed)

    def listed(self) -> list[str]:
        """The problems, and how many more there are of each kind."""
        more = [f"{kind}: and {count - SHOWN:,} more" for kind, count in self._counts.items() if count > SHOWN]
        return self._listed + more
