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
    Explanation,
    Health,
    HistoryEvent,
    HitDetails,
    Layer,
    LayerStats,
    MemoryRecord,
    Move,
    Page,
    Pressure,
    ReembedReport,
    Requirement,
    SearchHit,
    SearchResults,
    SearchTrace,
    Stats,
    SweepReport,
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
    "Explanation",
    "FilterError",
    "Health",
    "HistoryEvent",
    "HitDetails",
    "InvalidInputError",
    "Layer",
    "LayerStats",
    "Memory",
    "MemoryRecord",
    "MissingExtraError",
    "ModelMismatchError",
    "Move",
    "NewMemory",
    "NotFoundError",
    "Page",
    "Pressure",
    "ReembedReport",
    "Requirement",
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
    "SweepReport",
    "VerifyReport",
]
