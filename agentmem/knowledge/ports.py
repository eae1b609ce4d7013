"""What consolidation needs of a store, and of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Literal, NamedTuple, Protocol

from agentmem.types.changes import Evidence


class Message(NamedTuple):
    """What somebody said: a live record with a role. Later ones have greater rows."""

    row: int
    id: str
    role: str
    text: str
    at: datetime


class Fact(NamedTuple):
    """What is known by now, and holds."""

    id: str
    text: str
    subject: str
    version: int
    valid_from: datetime | None
    valid_to: datetime | None
    at: datetime


class Document(NamedTuple):
    """Bookkeeping under a key; version 0 where there is none."""

    data: dict[str, Any]
    version: int


class Span(NamedTuple):
    """Which characters of a record say something; ``end`` 0: all of them."""

    id: str
    first: int
    end: int
    words: str | None = None
    """What they have to be when a fact is stored that was drawn from them; None: that is not looked at."""


Room = Literal["here", "user", "store"]
"""Whose bookkeeping: the user's in this namespace, the user's, the store's."""


@dataclass(frozen=True, slots=True)
class Write:
    """Put bookkeeping in place of the version that was read."""

    key: str
    data: Mapping[str, Any]
    version: int
    room: Room = "here"


@dataclass(frozen=True, slots=True)
class Learn:
    """Store a fact, or with ``proposal`` what is proposed, in a room of its own.

    Its sources are there, or have expired; what was deleted is none.
    """

    id: str
    text: str
    sources: Sequence[Span]
    metadata: Mapping[str, Any]
    at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    proposal: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Retire:
    """Note that a fact, at the version that was read, holds no more; ``by`` is what takes its place, from when on that
    holds. ``valid_to``: until when it held where nothing does; None: it never did."""

    id: str
    version: int
    by: str | None
    valid_to: datetime | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Revive:
    """Note that a retired fact holds again."""

    id: str
    version: int
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete a proposal, at the version that was read."""

    id: str
    version: int


Change = Write | Learn | Retire | Revive | Discard


class Proposed(NamedTuple):
    """A proposal as it is stored; ``sources`` are those of its sources that are still there, and what they say."""

    id: str
    version: int
    text: str
    data: dict[str, Any]
    sources: list[tuple[Span, str]]


class Noted(NamedTuple):
    """A record that a run has made or retired."""

    id: str
    version: int
    metadata: dict[str, Any]
    retired: bool
    by: str | None


class StaleError(Exception):
    """What a change goes on from has moved on; nothing was changed. ``at`` is its position among the changes.

    ``unfit``: it cannot be stored, whatever the rest is.
    """

    def __init__(self, message: str, at: int | None, *, unfit: bool = False) -> None:
        super().__init__(message)
        self.at = at
        self.unfit = unfit

    @property
    def why(self) -> str:
        """The reason for which an operation is refused then."""
        return f"it cannot be stored: {self}" if self.unfit else "what it goes on from was changed meanwhile"


class KnowledgeStore(Protocol):
    """A store as the consolidation of one user sees it, or nobody's, in one namespace. All calls block; nothing here
    counts as a use."""

    def now(self) -> datetime:
        """The present by the store's clock, aware."""
        ...

    def zone(self) -> tzinfo:
        """Whose days dates are."""
        ...

    def identity(self) -> str:
        """What tells whether rows are those of this store: the same for its backups, another for what was imported."""
        ...

    def messages(self, after: int, limit: int) -> list[Message]:
        """The live messages whose rows are greater, ascending."""
        ...

    def waiting(self, after: int, most: int) -> int:
        """How many those are, counting up to ``most``."""
        ...

    def find(self, rows: Sequence[int]) -> list[Message]:
        """Those of these messages that are still there, ascending."""
        ...

    def related(self, query: str, limit: int) -> list[Fact]:
        """Facts that hold and have most to do with a text, best first."""
        ...

    def facts(self, limit: int) -> list[Fact]:
        """Facts that hold, the newest first."""
        ...

    def alike(self, fact: Fact, limit: int) -> list[tuple[Fact, float]]:
        """Other facts that hold, with how similar they are by meaning (cosine), best first."""
        ...

    def unsaid(self) -> list[tuple[Fact, list[Span]]]:
        """Facts that hold, all of whose sources were deleted (not expired)."""
        ...

    def evidence(self, id: str) -> list[Evidence] | None:
        """What a fact was drawn from, as it is now; None if there is no such fact here."""
        ...

    def read(self, key: str, room: Room = "here") -> Document:
        """Bookkeeping by its key."""
        ...

    def proposals(self) -> list[Proposed]:
        """What is proposed, the oldest first."""
        ...

    def noted(self, run: str) -> list[Noted]:
        """Records that say in their metadata that they are a run's: ``learned_by`` or ``retired_by``."""
        ...

    def commit(self, changes: Sequence[Change]) -> None:
        """Make changes in one transaction, all or none. Raises ``StaleError``."""
        ...


# -- models ------------------------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    """What a model answered. Tokens are None where it did not say."""

    text: str
    input_tokens: int | None
    output_tokens: int | None
    cut: bool = False
    """Whether it was cut at ``max_tokens``."""


class Model(Protocol):
    """A language model behind some endpoint."""

    @property
    def name(self) -> str:
        """What it is called; part of what says whether an input is unchanged."""
        ...

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        schema: Mapping[str, Any] | None,
        timeout: float,
    ) -> Reply:
        """Ask once, without trying again by itself: each try is paid for. ``messages`` are ``role`` and ``content``.

        The answer has at most ``max_tokens`` tokens and is there within ``timeout`` seconds, or ``ModelError`` is
        raised. With ``schema``, a JSON schema, it is JSON of that form as far as the model can be made to; None: it is
        only asked for JSON in words. Thread-safe.
        """
        ...
