"""From a query to scored candidates: exactly, in memory, where the scope is small enough, else by proposals."""

from __future__ import annotations

import numpy as np

from agentmem.retrieval.large import LargeScopes
from agentmem.retrieval.query import Found, Query
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.walls import wall_of
from agentmem.settings import Retrieval
from agentmem.text import similar


class Retriever:
    """Searches one store. Safe to call from many threads."""

    def __init__(self, residents: Residents, large: LargeScopes, tuning: Retrieval) -> None:
        self.residents = residents
        self._large = large
        if tuning.similar_words or tuning.mend_typos:
            similar.load()

    def search(self, query: Query) -> Found:
        """The best candidates of the query's scope; call ``residents.catch_up`` first."""
        with self.residents.arena(wall_of(query.scope)) as arena:
            if arena is not None:
                if query.search.condition is not None:
                    query = query.among(np.fromiter(self._large.matching(query), np.int64))
                return Found(arena.search(query), ("arena",), len(arena), arena.next_expiry(query.now))
        return self._large.search(query, self.residents.applied_seq())
