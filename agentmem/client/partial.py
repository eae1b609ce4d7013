"""Calls on a store that has but a part of the records: what whoever has the other parts needs, to answer as one
store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from agentmem.client.border import Border
from agentmem.client.importing import Importing
from agentmem.client.memory import Memory, client_on
from agentmem.client.options import AddOptions, SearchOptions
from agentmem.types.inputs import Draft, Scope
from agentmem.types.records import SearchResults

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.retrieval.corpus import Corpus


class _NamingBorder(Border):
    """One that gives what is new and has no id the next of those that the caller chose, so that the call can be
    repeated; in everything else it is what it would be without."""

    def __init__(self, handle: Handle, bound: Scope | None, ids: Iterator[str]) -> None:
        super().__init__(handle, bound)
        self._ids = ids

    @override
    def admit(self, made: Draft) -> Draft:
        return self._named(super().admit(made))

    @override
    def importing(self, options: AddOptions, **more: Any) -> Importing:
        return super().importing(options, **more).each(self._named)

    def _named(self, made: Draft) -> Draft:
        known = made.id is not None or made.new_id is not None
        return made if known else replace(made, new_id=next(self._ids, None))


def naming(memory: Memory, ids: Iterable[str]) -> Memory:
    """A view of a client for one call that adds or puts, whose items get these ids where they have none and are new."""
    border = _border(memory)
    return client_on(_NamingBorder(border.handle, border.bound, iter(ids)))


def corpus_of(memory: Memory, query: str | None, options: dict[str, Any]) -> Corpus:
    """What the words of a search, as ``Memory.search`` takes it, weigh in this store."""
    return _border(memory).corpus(query, SearchOptions(**options))


def search_part(memory: Memory, query: str | None, corpus: Corpus, options: dict[str, Any]) -> SearchResults:
    """The same search with what the words weigh in all the stores."""
    return _border(memory).search(query, SearchOptions(**options), corpus=corpus)


def summed(parts: Sequence[Corpus]) -> Corpus:
    """What the words weigh in all of them."""
    from agentmem.retrieval.corpus import summed

    return summed(parts)


def _border(memory: Memory) -> Border:
    return memory._border  # pyright: ignore[reportPrivateUsage]
