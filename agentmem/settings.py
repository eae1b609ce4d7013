"""Everything that can be tuned, with defaults that need no tuning."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentmem.errors import InvalidInputError, shown
from agentmem.models import Layer


class Settings(BaseModel):
    """Settings of one store. Immutable; an unknown name or an impossible value raises ``InvalidInputError``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_layer: Layer = Layer.ASSETS
    """Layer of plain facts that name none. Messages and session kinds go to ``interact``."""
    max_content_bytes: int = Field(default=1_048_576, ge=1, le=16_777_216)
    """Longest content accepted, in bytes of UTF-8. Longer text should be split into passages."""
    max_metadata_bytes: int = Field(default=65_536, ge=2, le=1_048_576)
    """Largest metadata accepted, in bytes of JSON."""

    batch_size: int = Field(default=32, ge=1, le=10_000)
    """Requests embedded together at most. None waits for company: only those that find every worker busy are joined."""
    embed_threads: int = Field(default=2, ge=1, le=64)
    """Threads that embed at the same time."""
    long_text: Literal["windows", "refuse"] = "windows"
    """Text longer than the embedding model reads at once: embedded in parts and averaged, or refused."""
    embedding_cache_size: int = Field(default=10_000, ge=0)
    """Embeddings kept in memory, least recently used out first."""

    query_cache_size: int = Field(default=1_000, ge=0)
    """Search results kept in memory; each is dropped when its scope changes."""
    query_cache_ttl_minutes: float = Field(default=30, ge=0)
    """Longest that a cached search result is used."""
    arena_limit: int = Field(default=50_000, ge=0)
    """Records up to which a scope is searched exactly in memory."""
    arena_budget_mb: int = Field(default=256, ge=1)
    """Memory for the arenas of all scopes together, least recently used out first."""

    lock_timeout_s: float = Field(default=30, gt=0)
    """Longest wait for another process that is writing, then ``StoreLockedError``."""
    follower_group: int = Field(default=5_000, ge=1, le=100_000)
    """Changes after which LanceDB is brought up to date at once."""
    follower_delay_s: float = Field(default=5, ge=0)
    """Seconds after which LanceDB is brought up to date however few the changes."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as exc:
            first = exc.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            known = ", ".join(type(self).model_fields)
            hint = f"; the settings are: {known}" if first["type"] == "extra_forbidden" else ""
            raise InvalidInputError(
                f"setting {name!r}: {first['msg']} (got {shown(first['input'])}){hint}", field=name
            ) from exc
