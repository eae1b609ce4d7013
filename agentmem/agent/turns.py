"""A turn of a session: a message as it was appended, and what was noted of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from agentmem.types.data import parsed
from agentmem.types.plain import Plain


@dataclass(frozen=True)
class Turn(Plain):
    """One message of a session. ``content`` is its text, empty where it has none; ``at`` when it was said.

    ``data`` is the message as JSON text, where that has more than a role and a text; else None.
    """

    id: str
    role: str
    content: str
    at: datetime
    agent_id: str | None = None
    data: str | None = None
    row: int = 0
    """Its place in the order of appending, within this store: later turns have greater ones."""

    @property
    def message(self) -> dict[str, Any]:
        """The message for a chat API, as it was appended; a new dict each time."""
        if self.data is not None:
            found = parsed(self.data)
            if isinstance(found, dict) and ("role" in found or "type" in found or "kind" in found):
                return cast("dict[str, Any]", found)
        return {"role": self.role, "content": self.content}
