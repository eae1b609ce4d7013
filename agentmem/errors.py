"""The public home of the errors; what each means is in ``agentmem.types.errors``."""

from agentmem.types.errors import (
    AgentMemError,
    CapacityError,
    ClosedError,
    ConflictError,
    DiskFullError,
    EmbeddingError,
    FilterError,
    InvalidInputError,
    MissingExtraError,
    ModelMismatchError,
    NotFoundError,
    ScopeError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
)

__all__ = [
    "AgentMemError",
    "CapacityError",
    "ClosedError",
    "ConflictError",
    "DiskFullError",
    "EmbeddingError",
    "FilterError",
    "InvalidInputError",
    "MissingExtraError",
    "ModelMismatchError",
    "NotFoundError",
    "ScopeError",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "StoreVersionError",
]
