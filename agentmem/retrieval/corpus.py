"""What the words of a query weigh, where the records of a scope lie in several stores: each counts, and all go by the
sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from agentmem.indexes.keywords import Statistics


@dataclass(frozen=True, slots=True)
class Corpus:
    """The counts of one store, or of several. Hashable, as a part of a search.

    ``documents`` are the records and ``length`` their terms altogether, ``containing`` has how many have each term of
    the query; ``similar`` are terms that are there in another spelling or a similar word, ``mended`` those that are
    there as if they were misspelled.
    """

    documents: int = 0
    length: int = 0
    containing: tuple[tuple[str, int], ...] = ()
    similar: frozenset[str] = frozenset()
    mended: frozenset[str] = frozenset()

    def statistics(self) -> Statistics:
        """The same for BM25, rounded as an arena that held everything would."""
        mean = float(np.float32(self.length) / np.float32(self.documents)) if self.documents else 0.0
        return Statistics(self.documents, mean, dict(self.containing), self.similar, self.mended)


def summed(parts: Iterable[Corpus]) -> Corpus:
    """What all of them have. A word counts as misspelled only where none has it as it is."""
    documents = length = 0
    containing, similar, mended = Counter[str](), frozenset[str](), frozenset[str]()
    for part in parts:
        documents, length = documents + part.documents, length + part.length
        containing.update(dict(part.containing))
        similar, mended = similar | part.similar, mended | part.mended
    mended = frozenset(term for term in mended if not containing[term] and term not in similar)
    return Corpus(documents, length, tuple(sorted(containing.items())), similar, mended)
