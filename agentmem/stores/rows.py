"""A record as its row in libSQL: what is read from it, how a change is put, who owns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from agentmem.stores import spaces as paths
from agentmem.stores.connection import Value
from agentmem.stores.schema import ARCHIVED, ERASED, EXPIRED, LIVE
from agentmem.types.clock import Micros
from agentmem.types.enums import UNSET, EventType, Layer, Unset
from agentmem.types.errors import ConflictError, NotFoundError
from agentmem.types.forms import OF_CONTENT, Form

_FEW = 500
"""Namespaces that are named one by one in a statement."""
Place = tuple[int, int]
"""Where a walk through an index of times is: the time and the row it has come to."""


Numbers = tuple[int, int, int, int]
"""Of a record's user, agent, run and namespace; 0 for none."""


class Stored(NamedTuple):
    """A row of ``records``, in the order in which it is read."""

    row: int
    id: str
    user: int
    agent: int
    run: int
    role: str | None
    kind: str
    layer: str
    content: str
    metadata: str | None
    importance: float | None
    rating: float | None
    created_at: Micros
    updated_at: Micros
    occurred_at: Micros | None
    expires_at: Micros | None
    version: int
    state: int
    pinned: int
    aged_from: Micros | None
    fingerprint: bytes | None
    space: int = 0
    key: str | None = None
    body: int | None = None
    body_size: int = 0
    vectors: int = 1
    sliding: Micros | None = None
    valid_from: Micros | None = None
    valid_to: Micros | None = None
    superseded_by: int | None = None
    """The row of the one that took its place."""
    retired_at: Micros | None = None
    stated_to: Micros | None = None
    """Of what was retired: its ``valid_to`` until then."""
    evidence: str | None = None
    """What it was drawn from, as JSON; see ``stores.evidence``."""
    used_at: Micros | None = None
    """Of what is read to be shown: its last access that was written down. Not a column."""
    successor: str | None = None
    """The id of the one that took its place. Not a column either."""

    @property
    def scope(self) -> Numbers:
        """Whose it is and where: the numbers of user, agent, run and namespace."""
        return self.user, self.agent, self.run, self.space

    @property
    def begun(self) -> Micros:
        """When its time in its layer began."""
        return self.created_at if self.aged_from is None else self.aged_from

    @property
    def has_texts(self) -> bool:
        """Whether other texts were embedded in the place of its content."""
        return self.vectors > OF_CONTENT

    @property
    def size(self) -> int:
        """Bytes of text, metadata and data."""
        return size_of(self.content) + (0 if self.metadata is None else size_of(self.metadata)) + self.body_size

    @property
    def more(self) -> tuple[object, ...]:
        """The columns that only few records make use of, as far as they are checked; empty if it is like most."""
        used, validity = self[_MORE:_VALIDITY], self[_VALIDITY:_SHOWN]
        if validity != _TIMELESS:  # of those without, the checksum is that of before there was any
            return used + validity
        return () if used == _UNUSED else used


_MORE, _VALIDITY, _SHOWN = (Stored._fields.index(name) for name in ("space", "valid_from", "used_at"))
_UNUSED = tuple(Stored._field_defaults[name] for name in Stored._fields[_MORE:_VALIDITY])
_TIMELESS = (None,) * (_SHOWN - _VALIDITY)
COLUMN_NAMES = Stored._fields[:_SHOWN]


class Subject(NamedTuple):
    """A record without its text, and its use, as the rules of the lifecycle look at it.

    ``aged_from`` is when its layer's time to live began: when it was added, or was last added again, restored, moved or
    unpinned by hand. ``size`` is that of text and metadata in bytes. ``value`` and ``weight`` are the sums behind its
    relevance.
    """

    row: int
    id: str
    kind: str
    layer: str
    importance: float | None
    rating: float | None
    created_at: Micros
    aged_from: Micros
    expires_at: Micros | None
    updated_at: Micros
    version: int
    state: int
    pinned: int
    size: int
    accesses: int
    first_at: Micros | None
    last_at: Micros | None
    value: float
    weight: float

    @property
    def used_at(self) -> Micros:
        """When it was last of use: its last access, else its birth."""
        return self.created_at if self.last_at is None else self.last_at


class Transition(NamedTuple):
    """A decision about a record: what happens to it, why, and where it is then (``layer`` None: it goes)."""

    subject: Subject
    event: EventType
    rule: str
    data: dict[str, Any]
    layer: Layer | None = None
    kind: str | None = None


class ScopeKey(NamedTuple):
    """A scope as interned numbers. ``user`` is None for every user, 0 for nobody; None elsewhere means "any".

    ``space`` is a namespace, 0 for what is in none. Where it is None, the namespaces are ``spaces`` (any, if that is
    None, too): those at the ``path`` or, with ``below``, at it and below, as of when the key was made.
    """

    user: int | None
    agent: int | None
    run: int | None
    space: int | None = 0
    spaces: tuple[int, ...] | None = None
    path: bytes | None = None
    below: bool = False

    @property
    def owners(self) -> tuple[int, ...] | None:
        """What derived copies know the records of the scope by, instead of users; None: everybody's.

        A namespace's records go by its number, the others by their user's: no number is both.
        """
        if self.space is None:
            if self.spaces is None or self.path:
                return self.spaces
            return None if self.user is None else (self.user, *self.spaces)
        if self.space:
            return (self.space,)
        return None if self.user is None else (self.user,)

    def admits(self, user: int, agent: int, run: int, space: int) -> bool:
        """Whether a record of these numbers belongs to the scope."""
        return (
            (self.user is None or self.user == user)
            and (self.agent is None or self.agent == agent)
            and (self.run is None or self.run == run)
            and (space == self.space if self.space is not None else self._has(space))
        )

    def _has(self, space: int) -> bool:
        return not self.path or space in (self.spaces or ())

    def tests(self) -> list[tuple[str, str, tuple[Value, ...]]]:
        """SQL conditions on ``records r``: for each column that matters its name, the condition, what that binds."""
        named = (("user", self.user), ("agent", self.agent), ("run", self.run), ("space", self.space))
        terms: list[tuple[str, str, tuple[Value, ...]]] = [
            (column, f"r.{column} = ?", (value,)) for column, value in named if value is not None
        ]
        if self.space is None and self.path:
            terms.append(("space", *self._among()))
        return terms

    def _among(self) -> tuple[str, tuple[Value, ...]]:
        """That a record is in one of several namespaces."""
        numbers = self.spaces or ()
        if len(numbers) <= _FEW or self.user is None or self.path is None:
            return f"r.space IN ({','.join(map(str, numbers))})", ()
        return "r.space IN (SELECT n FROM names WHERE value >= ? AND value < ?)", paths.below(self.user, self.path)

    def where(self, *, erased_apart: bool = False) -> tuple[str, tuple[Value, ...]]:
        """An SQL condition on ``records r`` for live records of the scope, driven by its most selective index.

        With ``erased_apart``, for its records in any state but that one.

        A leading ``+`` keeps SQLite from choosing another index; ``!= 0`` is what the partial indexes ask for.
        """
        terms, params = [f"r.state != {ERASED}" if erased_apart else f"r.state = {LIVE}"], list[Value]()
        by_user = self.user or self.space or self.path
        driver = "run" if self.run else "user" if by_user else "agent" if self.agent else "user"
        for column, term, bound in self.tests():
            by_index = column == driver or (driver, column) == ("user", "space")
            terms.append(term if by_index else f"+{term}")
            params += bound
            if column == driver and column != "user":
                terms.append(f"r.{column} != 0")
        return " AND ".join(terms), tuple(params)


class Created(NamedTuple):
    """The outcome for one draft."""

    status: Literal["added", "duplicate", "refreshed", "replaced", "taken"]
    stored: Stored
    """The record; of ``"taken"``, whose draft was left out, the one that has its id or key."""
    reason: str = ""
    """Why the draft was left out."""
    data: str | None = None
    """What the draft said, where that is the record's data now."""
    field: str = "id"
    """What is taken, for a draft that was left out: ``"id"`` or ``"key"``."""


@dataclass(frozen=True, slots=True)
class Patch:
    """New values by column (absent: unchanged), the embeddings that they need, and the version they apply to.

    ``metadata_limit`` is the largest metadata, in bytes of JSON, that a merge may lead to;
    ``generation`` numbers the model that made the embeddings.
    """

    values: dict[str, Value]
    metadata_merge: dict[str, Any] | None = None
    metadata_limit: int = 0
    vector: bytes | None = None
    generation: int = 0
    if_version: int | None = None
    form: Form | None = None
    """What it is embedded by from now on; None: by what it was."""
    of: str | None = None
    """The content that ``vector`` is of."""
    data: str | Unset | None = UNSET
    """New data as JSON text; None removes it."""
    data_of: int | Unset | None = UNSET
    """The version of the record's body whose data comes back; None: it had none."""
    span: Micros | None = None
    """The ``ttl`` behind a new ``expires_at``, from which one that slides goes on."""


def exact(value: Value) -> Value:
    """A value as it is bound: the driver makes floats of large integers; beyond 53 bits (years before 1685, after 2255)
    text keeps them exact."""
    return str(value) if isinstance(value, int) and not -(2**53) < value < 2**53 else value


def size_of(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def expired(stored: Stored, now: Micros) -> bool:
    """Whether the caller's ``ttl`` has passed: from that instant the record is gone, sweep or no sweep."""
    return stored.expires_at is not None and stored.expires_at <= now


def past_grace(stored: Stored, now: Micros, grace: Micros) -> bool:
    """Whether the record expired so long ago that it is not restored."""
    return stored.state == EXPIRED and stored.updated_at + grace <= now


def restorable(stored: Stored, now: Micros, grace: Micros) -> bool:
    """Whether a record that is gone can be brought back; of one that is there it says nothing."""
    return stored.state != ERASED and not expired(stored, now) and not past_grace(stored, now, grace)


def visible(stored: Stored, now: Micros) -> bool:
    """Whether reads may return the record."""
    return stored.state == LIVE and not expired(stored, now)


def kept(stored: Stored, now: Micros) -> bool:
    """Whether a record is there for its owner: live, or live and archived."""
    return stored.state in (LIVE, ARCHIVED) and not expired(stored, now)


def not_found(id: str) -> NotFoundError:
    return NotFoundError(f"there is no record with the id {id!r} here")


class AwayError(ConflictError):
    """A record that is to be changed has gone to an archive since it was looked at: bring it back, and try again."""

    def __init__(self, id: str, index: int | None = None) -> None:
        super().__init__(f"record {id!r} was archived just now; repeat the change, which brings it back first")
        self.index = index


def version_conflict(id: str, wanted: int, found: int) -> ConflictError:
    return ConflictError(f"record {id!r} is at version {found}, not {wanted}; read it again and repeat the change")
