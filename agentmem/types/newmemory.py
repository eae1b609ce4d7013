"""``NewMemory``, in a module of its own because pydantic takes as long to import as everything else together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agentmem.types.enums import Layer
from agentmem.types.errors import InvalidInputError, shown


class NewMemory(BaseModel):
    """One memory to add, with everything that can be said about it.

    Fields left out fall back to the arguments of the ``add`` call. A value of the wrong type raises
    ``InvalidInputError`` with the field's name here, any other bad value when it is added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    content: str
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    role: str | None = None
    kind: str | None = None
    layer: Layer | None = None
    metadata: Mapping[str, Any] | None = None
    importance: float | None = None
    ttl: timedelta | float | None = None
    occurred_at: datetime | None = None
    id: str | None = None
    dedupe: bool | None = None

    if not TYPE_CHECKING:  # where the fields are the signature

        def __init__(self, **values: Any) -> None:
            # pydantic would print it, whatever it is.
            if not isinstance(layer := values.get("layer"), (str, type(None))):
                raise InvalidInputError(f"layer: must be one of the layers (got {shown(layer)})", field="layer")
            try:
                super().__init__(**values)
            except ValidationError as exc:
                first = exc.errors(include_url=False)[0]
                name = ".".join(str(part) for part in first["loc"])
                raise InvalidInputError(f"{name}: {first['msg']} (got {shown(first['input'])})", field=name) from exc
