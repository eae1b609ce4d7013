"""From a query to scored candidates: exactly, in memory, where the scope is small enough, else by proposals."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np

from agentmem.indexes.keywords import Statistics
from agentmem.retrieval.arena import Arena
from agentmem.retrieval.corpus import Corpus
from agentmem.retrieval.large import LargeScopes
from agentmem.retrieval.largearena import LargeArena
from agentmem.retrieval.query import Candidate, Found, Query
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.walls import Wall, wall_of
from agentmem.settings import Retrieval
from agentmem.text import similar
from agentmem.types.enums import Tier


class Retriever:
    """Searches one store. Safe to call from many threads."""

    def __init__(self, residents: Residents, large: LargeScopes, tuning: Retrieval, *, proposals: bool = True) -> None:
        """Without ``proposals``, large scopes are scanned."""
        self.residents = residents
        self._large = large
        self._tuning = tuning
        self._proposals = proposals
        self.tally = Counter[Tier]()
        """Hits in large scopes by the tier that had them."""
        if tuning.similar_words or tuning.mend_typos:
            similar.load()

    def apart(self) -> Retriever:
        """One for a search on top of another of the same thread, that shares nothing which that may be changing."""
        return Retriever(self.residents.apart(), self._large, self._tuning, proposals=False)

    def search(self, query: Query) -> Found:
        """The best candidates of the query's scope; call ``residents.catch_up`` first."""
        wall = wall_of(query.scope)
        found = self.residents.use(wall, lambda arena: self._scan(arena, query))
        if found is None:
            if not self._proposals:
                return self._large.scan(query, self.residents.applied_seq())
            found = self._large.search(query, self.residents.applied_seq(), partial(self._near, wall))
        elif found.engines != (LargeArena.ENGINE,):
            return found
        tiers = self.residents.tiers(wall)
        self.tally.update(tiers.get(candidate.row, "cold") for candidate in found.candidates)
        return found

    def corpus(self, query: Query) -> Corpus:
        """What the words weigh behind the wall of the query's scope."""
        found = self.residents.use(wall_of(query.scope), lambda arena: arena.corpus(query))
        return self._large.corpus(query, self.residents.applied_seq()) if found is None else found

    def _near(self, wall: Wall, query: Query, statistics: Statistics | None) -> list[Candidate] | None:
        """The best of what is hot or warm behind a wall that is searched on the disk."""
        return self.residents.use_near(wall, lambda arena: arena.search(query, statistics))

    def _scan(self, arena: Arena, query: Query) -> Found:
        if query.search.condition is not None and not isinstance(arena, LargeArena):
            query = query.among(np.fromiter(self._large.matching(query), np.int64))
        return Found(arena.search(query, query.statistics), (arena.ENGINE,), len(arena), arena.next_expiry(query.now))
