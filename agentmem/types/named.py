"""What signatures name and nothing imports before it is used: reports, changes of ``apply``, models of pydantic.

``typing.get_type_hints`` evaluates a signature with the globals of its module, past any ``__getattr__`` of that. There
these names stand for forward references that import what they name.
"""

from __future__ import annotations

from typing import ForwardRef


def _later(module: str, name: str) -> ForwardRef:
    return ForwardRef(f"__import__({module!r}, fromlist=[{name!r}]).{name}")


AsyncBlocks = _later("agentmem.client.asyncagents", "AsyncBlocks")
AsyncMemory = _later("agentmem.client.asyncmemory", "AsyncMemory")
AsyncSession = _later("agentmem.client.asyncagents", "AsyncSession")
Blocks = _later("agentmem.agent.blocks", "Blocks")
AsyncConsolidation = _later("agentmem.client.asyncknowing", "AsyncConsolidation")
Consolidation = _later("agentmem.knowledge.consolidation", "Consolidation")
MemoryRecord = _later("agentmem.types.records", "MemoryRecord")
Model = _later("agentmem.knowledge.ports", "Model")
NewMemory = _later("agentmem.types.newmemory", "NewMemory")
Session = _later("agentmem.agent.sessions", "Session")
SessionInfo = _later("agentmem.agent.sessions", "SessionInfo")
Settings = _later("agentmem.settings", "Settings")
Tokenizer = _later("agentmem.agent.tokens", "Tokenizer")

Applied = _later("agentmem.types.changes", "Applied")
Operation = _later("agentmem.types.changes", "Operation")

ArchiveReport = _later("agentmem.types.reports", "ArchiveReport")
BackupInfo = _later("agentmem.types.reports", "BackupInfo")
EraseReport = _later("agentmem.types.reports", "EraseReport")
Erasure = _later("agentmem.types.reports", "Erasure")
Explanation = _later("agentmem.types.reports", "Explanation")
Group = _later("agentmem.types.reports", "Group")
Health = _later("agentmem.types.reports", "Health")
ImportReport = _later("agentmem.types.reports", "ImportReport")
Kpis = _later("agentmem.types.reports", "Kpis")
LayerStats = _later("agentmem.types.reports", "LayerStats")
NamespaceCount = _later("agentmem.types.reports", "NamespaceCount")
ReembedReport = _later("agentmem.types.reports", "ReembedReport")
Residence = _later("agentmem.types.reports", "Residence")
RestoreReport = _later("agentmem.types.reports", "RestoreReport")
ScorerReplay = _later("agentmem.types.reports", "ScorerReplay")
ScorerReport = _later("agentmem.types.reports", "ScorerReport")
Stats = _later("agentmem.types.reports", "Stats")
SweepReport = _later("agentmem.types.reports", "SweepReport")
TierStats = _later("agentmem.types.reports", "TierStats")
UserPage = _later("agentmem.types.reports", "UserPage")
VerifyReport = _later("agentmem.types.reports", "VerifyReport")

ValueHead = _later("agentmem.types.valueinfo", "ValueHead")
ValueInfo = _later("agentmem.types.valueinfo", "ValueInfo")
ValueTier = _later("agentmem.types.valueinfo", "ValueTier")
ValueUsage = _later("agentmem.types.valueinfo", "ValueUsage")
ValueVersion = _later("agentmem.types.valueinfo", "ValueVersion")
