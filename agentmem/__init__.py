"""A memory for LLM agents and chatbots: durable, scoped, searchable, in-process."""

from importlib import import_module
from typing import TYPE_CHECKING

from agentmem.client.memory import Memory
from agentmem.types.enums import ALL, UNSET, EventType, Layer, Pressure
from agentmem.types.errors import (
    AgentMemError,
    CapacityError,
    ClosedError,
    ConflictError,
    DiskFullError,
    EmbeddingError,
    FilterError,
    FilterWarning,
    InvalidInputError,
    MissingExtraError,
    ModelMismatchError,
    NotFoundError,
    ReadOnlyError,
    ScopeError,
    StoreCorruptError,
    StoreError,
    StoreGoneError,
    StoreLockedError,
    StoreVersionError,
)
from agentmem.types.ports import Embedder
from agentmem.types.promise import aside as _aside
from agentmem.types.records import (
    AddResult,
    AddResults,
    HistoryEvent,
    HitDetails,
    MemoryRecord,
    Page,
    SearchHit,
    SearchResults,
    SearchTrace,
    Skipped,
    StoreEvent,
    Vectors,
)

if TYPE_CHECKING:
    from agentmem.client.asyncmemory import AsyncMemory
    from agentmem.client.backups import restore
    from agentmem.settings import Settings
    from agentmem.types.changes import Add, Delete, Put, Touch, Update
    from agentmem.types.newmemory import NewMemory
    from agentmem.types.reports import (
        BackupHealth,
        BackupInfo,
        EraseReport,
        Erasure,
        Explanation,
        Group,
        Health,
        HoldingBackup,
        ImportReport,
        LayerStats,
        Move,
        NamespaceCount,
        ReembedReport,
        Requirement,
        RestoreReport,
        Stats,
        SweepReport,
        VerifyReport,
    )

__version__ = "0.1.0"
_REPORTS = (
    "BackupHealth",
    "BackupInfo",
    "EraseReport",
    "Erasure",
    "Explanation",
    "Group",
    "Health",
    "HoldingBackup",
    "ImportReport",
    "LayerStats",
    "Move",
    "NamespaceCount",
    "ReembedReport",
    "Requirement",
    "RestoreReport",
    "Stats",
    "SweepReport",
    "VerifyReport",
)
_LAZY = {
    "Add": "agentmem.types.changes",
    "AsyncMemory": "agentmem.client.asyncmemory",
    "Delete": "agentmem.types.changes",
    "NewMemory": "agentmem.types.newmemory",
    "Put": "agentmem.types.changes",
    "Settings": "agentmem.settings",
    "Touch": "agentmem.types.changes",
    "Update": "agentmem.types.changes",
    "restore": "agentmem.client.backups",
    **dict.fromkeys(_REPORTS, "agentmem.types.reports"),
}
"""Imported on first use: what brings anyio, the two pydantic models, since pydantic takes as long as the rest, what
only ``apply`` takes, and the reports, each of which is a class that takes half a millisecond to make."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(_aside(lambda: import_module(_LAZY[name])), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ALL",
    "UNSET",
    "Add",
    "AddResult",
    "AddResults",
    "AgentMemError",
    "AsyncMemory",
    "BackupHealth",
    "BackupInfo",
    "CapacityError",
    "ClosedError",
    "ConflictError",
    "Delete",
    "DiskFullError",
    "Embedder",
    "EmbeddingError",
    "EraseReport",
    "Erasure",
    "EventType",
    "Explanation",
    "FilterError",
    "FilterWarning",
    "Group",
    "Health",
    "HistoryEvent",
    "HitDetails",
    "HoldingBackup",
    "ImportReport",
    "InvalidInputError",
    "Layer",
    "LayerStats",
    "Memory",
    "MemoryRecord",
    "MissingExtraError",
    "ModelMismatchError",
    "Move",
    "NamespaceCount",
    "NewMemory",
    "NotFoundError",
    "Page",
    "Pressure",
    "Put",
    "ReadOnlyError",
    "ReembedReport",
    "Requirement",
    "RestoreReport",
    "ScopeError",
    "SearchHit",
    "SearchResults",
    "SearchTrace",
    "Settings",
    "Skipped",
    "Stats",
    "StoreCorruptError",
    "StoreError",
    "StoreEvent",
    "StoreGoneError",
    "StoreLockedError",
    "StoreVersionError",
    "SweepReport",
    "Touch",
    "Update",
    "Vectors",
    "VerifyReport",
    "restore",
]
