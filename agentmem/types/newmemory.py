"""``NewMemory``, in a module of its own because pydantic takes as long to import as everything else together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, SkipValidation, ValidationError, ValidationInfo, field_validator

from agentmem.types.checks import check_instant, check_name
from agentmem.types.clock import to_datetime
from agentmem.types.enums import Embed, Id, Layer, VectorLike
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.values import as_number


class NewMemory(BaseModel):
    """One memory to add, with everything that can be said about it.

    Fields left out fall back to the arguments of the ``add`` call. A value of the wrong type raises
    ``InvalidInputError`` with the field's name here, any other bad value when it is added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    content: str = ""
    """The text to remember; may be left out where there is ``data``."""
    user_id: Id | None = None
    """Whose memory it is."""
    agent_id: Id | None = None
    run_id: Id | None = None
    namespace: tuple[str, ...] | None = None
    """Where it is kept: a path of names, from the root."""
    role: str | None = None
    """Who said it, for messages: ``user``, ``assistant``, ..."""
    kind: str | None = None
    """Left out: ``message`` with a role, else ``fact``."""
    layer: Layer | None = None
    """Left out: ``interact`` for session kinds, else ``Settings.message_layer`` with a role, else ``default_layer``."""
    metadata: Mapping[str, Any] | None = None
    """What filters look at: text keys, JSON values, and what docs/values.md says that becomes of others."""
    importance: float | None = None
    """In [0, 1]."""
    ttl: timedelta | float | None = None
    """Seconds, or a timedelta, after which it is invisible."""
    sliding: bool | None = None
    """Whether each read puts that off, so that the ``ttl`` counts from the last one."""
    occurred_at: datetime | None = None
    """When it happened, if not now; aware."""
    valid_from: datetime | None = None
    """Since when it holds in the world; aware."""
    valid_to: datetime | None = None
    """Until when it holds, itself no more."""
    id: Id | None = None
    """One of your own, at most 512 characters, so that adding again is safe."""
    dedupe: bool | None = None
    """Whether a fact that is already there is not stored again; left out, see ``Memory.add``."""
    embed: SkipValidation[Embed | None] = None
    """What it is embedded by: its content (True), nothing (False), or a list of texts in its place."""
    vector: SkipValidation[VectorLike | None] = None
    """A vector of your own, or several, instead of an embedding."""
    data: Any = None
    """Any JSON to keep with it, see docs/data.md."""

    @field_validator("user_id", "agent_id", "run_id", "id", mode="before")
    @classmethod
    def _text_of_id(cls, value: object, info: ValidationInfo) -> object:
        # pydantic would take True for 1, and bytes for text.
        return value if value is None or isinstance(value, str) else check_name(value, info.field_name or "id")

    @field_validator("namespace", mode="before")
    @classmethod
    def _path_of_names(cls, value: object) -> object:
        if value is None or isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            return value
        return tuple(check_name(part, "namespace") for part in cast("Sequence[object]", value))

    @field_validator("importance", "ttl", mode="before")
    @classmethod
    def _python_number(cls, value: object) -> object:
        return as_number(value)

    @field_validator("occurred_at", "valid_from", "valid_to", mode="before")
    @classmethod
    def _whole_instant(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) or (isinstance(value, date) and not isinstance(value, datetime)):
            return to_datetime(check_instant(value, info.field_name or "occurred_at"))
        return value

    if not TYPE_CHECKING:  # where the fields are the signature

        def __init__(self, **values: Any) -> None:
            # pydantic would print it, whatever it is.
            if not isinstance(layer := values.get("layer"), (str, type(None))):
                raise InvalidInputError(f"layer: must be one of the layers (got {shown(layer)})", field="layer")
            if "content" not in values and values.get("data") is None:
                raise InvalidInputError(f"content: Field required (got {shown(values)})", field="content")
            try:
                super().__init__(**values)
            except ValidationError as exc:
                first = exc.errors(include_url=False)[0]
                name = ".".join(str(part) for part in first["loc"])
                if isinstance(ours := first.get("ctx", {}).get("error"), InvalidInputError):
                    raise InvalidInputError(str(ours), field=name) from exc
                raise InvalidInputError(f"{name}: {first['msg']} (got {shown(first['input'])})", field=name) from exc
