"""What the agent's memory needs of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from agentmem.agent.turns import Turn
from agentmem.types.changes import Applied, Delete, Operation
from agentmem.types.inputs import Item
from agentmem.types.records import HistoryEvent, MemoryRecord, SearchHit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """A change on its way to the disk: what becomes of it, and what that means for the caller."""

    future: Future[Any]
    made: Callable[[Any], T]

    def result(self) -> T:
        """Wait until it is durable. Raises what the change raised."""
        return self.made(self.future.result())


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """Which session: its ids, its key, and what its record says when an append begins it.

    ``ttl`` is in microseconds, None for good. ``embed`` is whether the texts of its turns are found by meaning.
    """

    run_id: str
    agent_id: str | None
    key: str
    ttl: int | None
    embed: bool = True
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Line(NamedTuple):
    """A sentence that a model wrote, and where what it says was said: ids of turns, from and to which character."""

    text: str
    sources: tuple[tuple[str, int, int], ...]


class Written(NamedTuple):
    """What a model made of turns; ``failures`` say what of them is missing and why. ``final``: nothing is gained by
    asking once more."""

    lines: list[Line]
    failures: list[str]
    final: bool


class Writer(Protocol):
    """A model that summarises, under caps."""

    @property
    def name(self) -> str:
        """What it is called; part of what says whether turns were summarised by it before."""
        ...

    def write(self, turns: Sequence[Turn], max_tokens: int) -> Written:
        """Sentences that stand for turns, some ``max_tokens`` long together."""
        ...


class AgentStore(Protocol):
    """A store as one user's agents see it, or nobody's, in one namespace of the caller's.

    Records by key lie in *rooms*, namespaces of the package's own that belong to that namespace. All calls block, are
    durable when they return, and raise what ``Memory``'s calls of these names raise. Nothing here counts as a use.
    """

    def now(self) -> datetime:
        """The present by the store's clock, aware."""
        ...

    def zone(self) -> tzinfo:
        """Whose days dates are."""
        ...

    def place(self, room: str) -> Mapping[str, Any]:
        """Where a room's records are, as arguments of ``Put``, ``Update`` and ``Delete``."""
        ...

    def get(self, room: str, key: str) -> MemoryRecord | None:
        """The live record of a key."""
        ...

    def list(
        self, room: str, *, agent_id: str | None, run_id: str | None, limit: int, offset: int
    ) -> list[MemoryRecord]:
        """Records of a room, the newest first; those said of an agent or a run, if given."""
        ...

    def apply(self, changes: Sequence[Operation], room: str | None = None) -> list[Applied]:
        """Changes in one transaction, all or none; ``room``, where all are in one, is where additions go."""
        ...

    def history(self, id: str) -> list[HistoryEvent]:
        """The events of a record, oldest first."""
        ...

    def restore(self, id: str, version: int) -> MemoryRecord:
        """A record as it was at a version, as a new version."""
        ...

    def append(
        self, session: SessionPlace, messages: Sequence[Item], *, only_new: bool, here: bool = True
    ) -> Pending[list[Turn]]:
        """Append messages in one transaction, which begins the session if there is none and puts off its end.

        Strictly after every turn that was acknowledged before, in whatever process. With ``only_new``,
        ``ConflictError`` if there is the session already. Raises ``SessionClosedError``. ``here`` is whether this
        thread may embed.
        """
        ...

    def turns(self, session: SessionPlace, limit: int, before: str | None) -> list[Turn]:
        """The last turns, oldest first, as of now in every process; ``before`` the turn with that id, if given."""
        ...

    def find(self, session: SessionPlace, ids: Sequence[str]) -> list[Turn]:
        """Those of the turns with these ids that there are, in no particular order."""
        ...

    def count(self, session: SessionPlace) -> int:
        """How many turns there are."""
        ...

    def last_at(self, session: SessionPlace) -> datetime | None:
        """When the last turn was."""
        ...

    def take(self, session: SessionPlace, n: int, *, exchange: bool) -> Pending[list[Turn]]:
        """Delete and return the last turns, or with ``exchange`` those from the ``n``-th last one of the user on; in
        one transaction, oldest first. Raises ``SessionClosedError``."""
        ...

    def clear(self, session: SessionPlace, ending: Sequence[Delete] | None = None) -> int:
        """Delete the turns that there are; returns how many. Raises ``SessionClosedError``.

        With ``ending`` a closed one's, too, and these deletions are in one transaction with that of the last turns.
        """
        ...

    def writer(self, model: object) -> Writer:
        """The model that summarises: a ``Model``, the name of one, or for True that of the settings.

        Raises ``InvalidInputError`` if there is none.
        """
        ...

    def recall(
        self, query: str, choose: Callable[[Sequence[SearchHit]], list[int]], limit: int, options: Mapping[str, Any]
    ) -> None:
        """Hand the best memories of the user for a query to ``choose``, those that are worth most in a prompt first. It
        returns the positions of those that it uses: they count as used. ``options`` are those of ``Memory.search``."""
        ...
