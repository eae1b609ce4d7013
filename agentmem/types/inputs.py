"""What is to be stored, before and after it was checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeGuard

from agentmem.types.clock import END, Micros
from agentmem.types.enums import AllUsers, Layer
from agentmem.types.forms import Form
from agentmem.types.spelling import composed

if TYPE_CHECKING:
    from agentmem.types.newmemory import NewMemory
    from agentmem.types.records import MemoryRecord
else:
    from agentmem.types.named import MemoryRecord, NewMemory


class Dumpable(Protocol):
    """An object that says what is in it, such as those of pydantic."""

    def model_dump(self) -> dict[str, Any]: ...


Item: TypeAlias = str | Mapping[str, Any] | NewMemory | MemoryRecord | Dumpable
"""What can be added: a text, a mapping with the fields of ``NewMemory``, one of those, a chat message, as a mapping or
as the object of a library, or a record of another store, also as its ``to_dict()``."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose records, and where. ``user_id`` is a wall, as is the namespace; the others narrow; see ``Memory.search``.

    ``namespace`` is one exactly, ``under`` means one and all below it; at most one of them is given. With neither it is
    the root, ``()``, for what is put somewhere or listed, and anywhere for what goes by an id.
    """

    user_id: str | AllUsers | None = None
    agent_id: str | None = None
    run_id: str | None = None
    namespace: tuple[str, ...] | None = None
    under: tuple[str, ...] | None = None

    def inside(self, *room: str) -> Scope:
        """What lies for the namespaces of this scope in a room of the package's own, which mirrors them."""
        namespace, under = (None if path is None else (*room, *path) for path in (self.namespace, self.under))
        return replace(self, namespace=namespace, under=under)


class Source(NamedTuple):
    """What a fact was drawn from: a record's id, and which characters of its content say it (None: all of it).

    ``words`` are what these have to be, where that is known. ``expired``: what expired, and can be restored, will do.
    """

    id: str
    first: int | None = None
    end: int | None = None
    words: str | None = None
    expired: bool = False


class Validity(NamedTuple):
    """When a fact holds in the world, when that ended in the store's own time, what it was drawn from."""

    valid_from: Micros | None = None
    valid_to: Micros | None = None
    retired_at: Micros | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked item, ready to be embedded and stored. ``id`` is None where the store is to choose one.

    ``metadata_limit`` is the largest metadata, in bytes of JSON, that merging it with what is there may lead to.
    """

    content: str
    scope: Scope
    role: str | None
    kind: str
    layer: Layer
    metadata: str | None
    metadata_limit: int
    importance: float | None
    ttl: Micros | None
    occurred_at: Micros | None
    id: str | None
    dedupe: bool
    expires_at: Micros | None = None
    """When it is over, whatever its ``ttl`` says; for a record that returns."""
    skip_taken: bool = False
    """Whether it is left out, instead of being an error for its whole call, if its id is another record's."""
    key: str | None = None
    """What it is put by, in its user's namespace; None for what is added."""
    if_version: int | None = None
    """The version that the record of the key must be at; 0: there must be none."""
    form: Form | None = None
    """What it is embedded by; None: by its content."""
    data: str | None = None
    """As JSON text, see ``types.data``."""
    sliding: Micros | None = None
    """By how much from then on a read puts off its end; None: it does not."""
    validity: Validity | None = None
    """What is said of when it holds, and what it was drawn from."""
    new_id: str | None = None
    """What it is to be called where there is no ``id`` and it is new. Chosen for one call alone, so that a record which
    has it was made by that call: then it is made again, and is told what it was told."""

    @property
    def place(self) -> tuple[object, ...]:
        """Where its key is, by names: equal for what is the same place, however its user is spelled."""
        user = self.scope.user_id
        return None if user is None else composed(str(user)), self.scope.namespace or (), self.key

    def end(self, now: Micros) -> Micros | None:
        """When it is over if it is added now. What was over before stays so: it is stored and at once invisible."""
        if self.expires_at is not None:
            return max(self.expires_at, now + 1)
        return None if self.ttl is None else min(now + self.ttl, END)

    # These are twice as fast as ``dataclasses.replace``, and called for each item of a bulk load.

    def saying(self, content: str) -> Draft:
        """The same of another text, which is to be called something else."""
        return self._with(content, self.dedupe, self.key, self.if_version, self.data, new_id=None)

    def put_by(self, key: str, if_version: int | None) -> Draft:
        """The same, put by a key."""
        return self._with(self.content, False, key, if_version, self.data, self.new_id)

    def holding(self, data: str) -> Draft:
        """The same with other data."""
        return self._with(self.content, self.dedupe, self.key, self.if_version, data, self.new_id)

    def _with(
        self, content: str, dedupe: bool, key: str | None, if_version: int | None, data: str | None, new_id: str | None
    ) -> Draft:
        return Draft(
            content, self.scope, self.role, self.kind, self.layer, self.metadata, self.metadata_limit, self.importance,
            self.ttl, self.occurred_at, self.id, dedupe, self.expires_at, self.skip_taken, key, if_version, self.form,
            data, self.sliding, self.validity, new_id,
        )  # fmt: skip


def is_new_memory(item: object) -> TypeGuard[NewMemory]:
    """Whether the item is a ``NewMemory``; without importing pydantic where nobody has made one."""
    module = sys.modules.get("agentmem.types.newmemory")
    return module is not None and isinstance(item, module.NewMemory)
