"""From a query to scored candidates: exactly, in memory, where the scope is small enough, else by proposals."""

from __future__ import annotations

import numpy as np

from agentmem.retrieval.arena import Arena
from agentmem.retrieval.large import LargeScopes
from agentmem.retrieval.largearena import LargeArena
from agentmem.retrieval.query import Found, Query
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.walls import wall_of
from agentmem.settings import Retrieval
from agentmem.text import similar


class Retriever:
    """Searches one store. Safe to call from many threads."""

    def __init__(self, residents: Residents, large: LargeScopes, tuning: Retrieval, *, proposals: bool = True) -> None:
        """Without ``proposals``, large scopes are scanned."""
        self.residents = residents
        self._large = large
        self._tuning = tuning
        self._proposals = proposals
        if tuning.similar_words or tuning.mend_typos:
            similar.load()

    def apart(self) -> Retriever:
        """One for a search on top of another of the same thread, that shares nothing which that may be changing."""
        return Retriever(self.residents.apart(), self._large, self._tuning, proposals=False)

    def search(self, query: Query) -> Found:
        """The best candidates of the query's scope; call ``residents.catch_up`` first."""
        found = self.residents.use(wall_of(query.scope), lambda arena: self._scan(arena, query))
        if found is not None:
            return found
        if not self._proposals:
            return self._large.scan(query, self.residents.applied_seq())
        return self._large.search(query, self.residents.applied_seq())

    def _scan(self, arena: Arena, query: Query) -> Found:
        if query.search.condition is not None and not isinstance(arena, LargeArena):
            query = query.among(np.fromiter(self._large.matching(query), np.int64))
        return Found(arena.search(query), (arena.ENGINE,), len(arena), arena.next_expiry(query.now))
