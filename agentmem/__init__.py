"""A memory for LLM agents and chatbots: durable, scoped, searchable, in-process."""

from importlib import import_module
from typing import TYPE_CHECKING

from agentmem.client.memory import Memory
from agentmem.types.enums import ALL, UNSET, EventType, Layer, Pressure
from agentmem.types.errors import (
    AgentMemError,
    BlockFullError,
    BlockReadOnlyError,
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
    SessionClosedError,
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
    from agentmem.agent.blocks import Block, Blocks, BlockVersion
    from agentmem.agent.prompt import Manifest, Prompt, Section, Trimmed
    from agentmem.agent.sessions import Session, SessionInfo
    from agentmem.agent.summaries import Summary, SummaryLine
    from agentmem.agent.turns import Turn
    from agentmem.agent.working import WorkingMemory
    from agentmem.client.asyncmemory import AsyncMemory
    from agentmem.client.backups import restore
    from agentmem.knowledge.consolidation import Consolidation
    from agentmem.knowledge.endpoint import EndpointModel
    from agentmem.knowledge.guards import Refusal
    from agentmem.knowledge.ledger import Spend
    from agentmem.knowledge.reports import ConsolidationReport, ConsolidationState, DaySpend, DeadLetter, Proposal
    from agentmem.settings import Settings
    from agentmem.types.changes import Add, Delete, Evidence, Put, SetValidity, Touch, Update
    from agentmem.types.newmemory import NewMemory
    from agentmem.types.reports import (
        ArchiveReport,
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
        Residence,
        RestoreReport,
        Stats,
        SweepReport,
        TierStats,
        VerifyReport,
    )

__version__ = "0.1.0"
_REPORTS = (
    "ArchiveReport",
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
    "Residence",
    "RestoreReport",
    "Stats",
    "SweepReport",
    "TierStats",
    "VerifyReport",
)
_LAZY = {
    "Add": "agentmem.types.changes",
    "AsyncMemory": "agentmem.client.asyncmemory",
    "Block": "agentmem.agent.blocks",
    "BlockVersion": "agentmem.agent.blocks",
    "Blocks": "agentmem.agent.blocks",
    "Consolidation": "agentmem.knowledge.consolidation",
    "ConsolidationReport": "agentmem.knowledge.reports",
    "ConsolidationState": "agentmem.knowledge.reports",
    "DaySpend": "agentmem.knowledge.reports",
    "DeadLetter": "agentmem.knowledge.reports",
    "Delete": "agentmem.types.changes",
    "EndpointModel": "agentmem.knowledge.endpoint",
    "Evidence": "agentmem.types.changes",
    "Manifest": "agentmem.agent.prompt",
    "NewMemory": "agentmem.types.newmemory",
    "Prompt": "agentmem.agent.prompt",
    "Proposal": "agentmem.knowledge.reports",
    "Put": "agentmem.types.changes",
    "Refusal": "agentmem.knowledge.guards",
    "Section": "agentmem.agent.prompt",
    "Session": "agentmem.agent.sessions",
    "SessionInfo": "agentmem.agent.sessions",
    "SetValidity": "agentmem.types.changes",
    "Settings": "agentmem.settings",
    "Spend": "agentmem.knowledge.ledger",
    "Summary": "agentmem.agent.summaries",
    "SummaryLine": "agentmem.agent.summaries",
    "Touch": "agentmem.types.changes",
    "Trimmed": "agentmem.agent.prompt",
    "Turn": "agentmem.agent.turns",
    "Update": "agentmem.types.changes",
    "WorkingMemory": "agentmem.agent.working",
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
    "ArchiveReport",
    "AsyncMemory",
    "BackupHealth",
    "BackupInfo",
    "Block",
    "BlockFullError",
    "BlockReadOnlyError",
    "BlockVersion",
    "Blocks",
    "CapacityError",
    "ClosedError",
    "ConflictError",
    "Consolidation",
    "ConsolidationReport",
    "ConsolidationState",
    "DaySpend",
    "DeadLetter",
    "Delete",
    "DiskFullError",
    "Embedder",
    "EmbeddingError",
    "EndpointModel",
    "EraseReport",
    "Erasure",
    "EventType",
    "Evidence",
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
    "Manifest",
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
    "Prompt",
    "Proposal",
    "Put",
    "ReadOnlyError",
    "ReembedReport",
    "Refusal",
    "Requirement",
    "Residence",
    "RestoreReport",
    "ScopeError",
    "SearchHit",
    "SearchResults",
    "SearchTrace",
    "Section",
    "Session",
    "SessionClosedError",
    "SessionInfo",
    "SetValidity",
    "Settings",
    "Skipped",
    "Spend",
    "Stats",
    "StoreCorruptError",
    "StoreError",
    "StoreEvent",
    "StoreGoneError",
    "StoreLockedError",
    "StoreVersionError",
    "Summary",
    "SummaryLine",
    "SweepReport",
    "TierStats",
    "Touch",
    "Trimmed",
    "Turn",
    "Update",
    "Vectors",
    "VerifyReport",
    "WorkingMemory",
    "restore",
]
