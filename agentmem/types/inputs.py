"""What is to be stored, before and after it was checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from agentmem.types.clock import Micros
from agentmem.types.enums import AllUsers, Layer

if TYPE_CHECKING:
    from agentmem.types.newmemory import NewMemory
    from agentmem.types.records import MemoryRecord


Item: TypeAlias = "str | Mapping[str, Any] | NewMemory | MemoryRecord"
"""What can be added: a text, a mapping with the fields of ``NewMemory``, such as a chat message, one of those, or a
record of another store, also as its ``to_dict()``."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose records. ``user_id`` is a wall, the others narrow; see ``Memory.search``."""

    user_id: str | AllUsers | None = None
    agent_id: str | None = None
    run_id: str | None = None


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

    def end(self, now: Micros) -> Micros | None:
        """When it is over if it is added now. What was over before stays so: it is stored and at once invisible."""
        if self.expires_at is not None:
            return max(self.expires_at, now + 1)
        return None if self.ttl is None else now + self.ttl

    def saying(self, content: str) -> Draft:
        """The same of another text. Twice as fast as ``dataclasses.replace``, and once for each item of a bulk load."""
        return Draft(
            content, self.scope, self.role, self.kind, self.layer, self.metadata, self.metadata_limit, self.importance,
            self.ttl, self.occurred_at, self.id, self.dedupe, self.expires_at, self.skip_taken,
        )  # fmt: skip


def is_new_memory(item: object) -> TypeGuard[NewMemory]:
    """Whether the item is a ``NewMemory``; without importing pydantic where nobody has made one."""
    module = sys.modules.get("agentmem.types.newmemory")
    return module is not None and isinstance(item, module.NewMemory)
