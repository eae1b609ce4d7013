"""A memory for LLM agents and chatbots: durable, scoped, searchable, in-process."""

from importlib import import_module
from typing import TYPE_CHECKING

from agentmem.asyncmemory import AsyncMemory
from agentmem.errors import (
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
from agentmem.memory import Memory
from agentmem.models import (
    ALL,
    UNSET,
    AddResult,
    EraseReport,
    EventType,
    Health,
    HistoryEvent,
    HitDetails,
    Layer,
    MemoryRecord,
    Page,
    ReembedReport,
    SearchHit,
    SearchResults,
    SearchTrace,
    Stats,
    VerifyReport,
)
from agentmem.ports import Embedder

if TYPE_CHECKING:
    from agentmem.newmemory import NewMemory
    from agentmem.settings import Settings

__version__ = "0.1.0"
_LAZY = {"NewMemory": "agentmem.newmemory", "Settings": "agentmem.settings"}
"""The two pydantic models: imported on first use, since pydantic takes as long as all the rest."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ALL",
    "UNSET",
    "AddResult",
    "AgentMemError",
    "AsyncMemory",
    "CapacityError",
    "ClosedError",
    "ConflictError",
    "DiskFullError",
    "Embedder",
    "EmbeddingError",
    "EraseReport",
    "EventType",
    "FilterError",
    "Health",
    "HistoryEvent",
    "HitDetails",
    "InvalidInputError",
    "Layer",
    "Memory",
    "MemoryRecord",
    "MissingExtraError",
    "ModelMismatchError",
    "NewMemory",
    "NotFoundError",
    "Page",
    "ReembedReport",
    "ScopeError",
    "SearchHit",
    "SearchResults",
    "SearchTrace",
    "Settings",
    "Stats",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "StoreVersionError",
    "VerifyReport",
]
