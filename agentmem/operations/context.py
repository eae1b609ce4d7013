"""What to paste into a prompt: a search whose hits become a text, as many as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentmem.engine.engine import Engine
from agentmem.operations.search import search
from agentmem.retrieval.choosing import by_worth
from agentmem.retrieval.context import Budget, below_days, entry, estimate_tokens
from agentmem.retrieval.query import Search
from agentmem.stores.rows import Stored
from agentmem.types.clock import Micros
from agentmem.types.records import SearchResults

_FIRST, _GROWTH = 128, 2
"""Hits that are looked at, at first: mostly enough; and how many times more if the budget has room for them."""


def context(
    engine: Engine,
    request: Search,
    max_tokens: int,
    count_tokens: Callable[[str], int] | None,
    *,
    touch: bool = True,
) -> str:
    """The memories worth most for a query within a budget, oldest first, repeated texts once; see ``Memory.context``.

    ``count_tokens`` is None for an estimate. Only what is shown counts as used.
    """
    budget = Budget(max_tokens, count_tokens or estimate_tokens)
    limit = _FIRST
    while True:
        shown = _Shown(budget, replace(request, limit=limit), engine.settings.retrieval.weigh_questions)
        search(engine, shown.request, explain=False, touch=touch, choose=shown.choose, data=False)
        if not shown.has_room:
            return shown.text
        limit *= _GROWTH


class _Shown:
    """Chooses among the hits of a request, and says with ``has_room`` that further ones might fit."""

    def __init__(self, budget: Budget, request: Search, weigh_questions: bool) -> None:
        self.text = ""
        self.has_room = False
        self.request = request
        self._budget = budget
        self._weigh_questions = weigh_questions

    def choose(self, hits: SearchResults, stored: Sequence[Stored]) -> list[int] | None:
        request, different = self.request, dict[str, int]()
        order = by_worth(
            request.query, hits, mode=request.mode, rank=request.rank, weigh_questions=self._weigh_questions
        )
        for position in order:
            if words := hits[position].content.split():  # none: it is data alone, and has nothing to be read
                different.setdefault(" ".join(words).casefold(), position)
        positions = list(different.values())
        entries = [entry(hits[position].record, request.zone) for position in positions]
        selection = self._budget.choose(entries)
        if not selection.complete and len(hits) == request.limit:
            self.has_room = True
            return None
        chosen = selection.chosen
        while True:
            ordered = sorted(chosen, key=lambda at: _when(stored[positions[at]]))
            text = below_days(entries[at] for at in ordered)
            if not chosen or self._budget.fits(text):  # a tokenizer may count the same lines differently in this order
                break
            chosen = chosen[:-1]
        self.text = text
        return [positions[at] for at in chosen]


def _when(stored: Stored) -> tuple[Micros, int]:
    """The time of the event; what happened at the same time stays in the order of adding."""
    return (stored.created_at if stored.occurred_at is None else stored.occurred_at, stored.row)
