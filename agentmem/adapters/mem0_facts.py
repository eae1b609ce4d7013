"""``infer=True`` where a model is there: messages are kept aside, consolidated, and what is drawn becomes memories."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

from agentmem import Add, ConflictError, Delete, Layer, Memory, MemoryRecord, NewMemory, Update
from agentmem.adapters.mem0_values import IDS, Payload, expiry_of, payload_of
from agentmem.adapters.texts import fitting

SAID = "said"
"""Below the namespace of the memories: messages that were to be understood, and the facts that were drawn from them."""
_MEMORY, _GONE = "memory_id", "memory_gone"
"""In the metadata of facts: which memory is theirs, and that it was deleted when the fact was retired."""
_BEHIND = {
    "$or": [
        {_MEMORY: {"$exists": False}},
        {"retired_by": {"$exists": True}, _GONE: {"$exists": False}},
        {"retired_by": {"$exists": False}, _GONE: {"$exists": True}},
    ]
}
"""Facts that memories are yet to follow: new ones, those that were retired, those that hold again."""
_ATTEMPTS = 10


def draw(
    memory: Memory,
    model: Any,
    namespace: tuple[str, ...],
    user_id: str,
    common: Payload,
    messages: Sequence[tuple[Mapping[str, Any], str]],
) -> list[dict[str, Any]]:
    """Keep messages, consolidate them, and have memories follow what is known; returns what became of those.

    What is interrupted between two steps is made up for by the next call.
    """
    said = (*namespace, SAID)
    items = [
        {"content": content, "role": about["role"], "data": common}
        for about, text in messages
        if (content := fitting(text)) is not None
    ]
    memory.add_many(
        items, namespace=said, user_id=user_id, agent_id=common.get("agent_id"), run_id=common.get("run_id")
    )
    report = memory.consolidation(user_id=user_id, namespace=said, model=model).run()
    if report.status not in ("done", "busy") or report.failures or report.dead:
        warnings.warn(
            f"not all could be understood ({report.status} {report.detail}): {'; '.join(report.failures)}. What was "
            "said is kept, and agentmem's consolidation of the user says what waits and what was given up",
            UserWarning,
            stacklevel=4,
        )
    return _follow(memory, namespace, user_id)


def _follow(memory: Memory, namespace: tuple[str, ...], user_id: str) -> list[dict[str, Any]]:
    """Memories for facts that have none, and none for facts that were retired; in one transaction."""
    for left in range(_ATTEMPTS, 0, -1):
        told, changes = list[dict[str, Any]](), list[Add | Delete | Update]()
        for fact in _facts(memory, namespace, user_id, _BEHIND):
            id = fact.metadata.get(_MEMORY)
            if fact.retired_at is None:
                id, gone = str(uuid4()), None
                changes.append(_memory_of(memory, fact, id, namespace))
                told.append({"id": id, "memory": fact.content, "event": "ADD"})
            else:
                gone = True
                if id:
                    changes.append(Delete(id))
                    told.append({"id": id, "memory": fact.content, "event": "DELETE"})
            changes.append(Update(fact.id, metadata={_MEMORY: id or "", _GONE: gone}, if_version=fact.version))
        try:
            if changes:
                memory.apply(changes)
        except ConflictError:  # another process was faster, or a message was erased meanwhile
            if left == 1:
                raise
            continue
        return told
    return []


def follow_back(memory: Memory, namespace: tuple[str, ...], record: MemoryRecord, text: str | None) -> None:
    """The fact of a memory that its owner edited, or deleted (None), so that no model takes it for known."""
    for fact in _facts(memory, namespace, record.user_id, {_MEMORY: record.id}):
        if text is None:
            memory.delete(fact.id)
        else:
            memory.update(fact.id, content=text)


def _facts(memory: Memory, namespace: tuple[str, ...], user_id: str | None, filters: Payload) -> Iterator[MemoryRecord]:
    said = (*namespace, SAID)
    return memory.iterate(user_id=user_id, namespace=said, kinds=["fact"], filters=filters, order="oldest", touch=False)


def _memory_of(memory: Memory, fact: MemoryRecord, id: str, namespace: tuple[str, ...]) -> Add:
    """The memory of a fact, erased with the last message that says it; it is whose that message was."""
    consolidation = memory.consolidation(user_id=fact.user_id, namespace=(*namespace, SAID))
    sources = [source for source in consolidation.evidence(fact.id) if source.state == "live"]
    last = memory.get(sources[-1].id, touch=False) if sources else None
    common = {"user_id": fact.user_id} if last is None else cast("Payload", last.data)
    payload = payload_of(common, fact.content)
    user, agent, run = (common.get(name) for name in IDS)
    item = NewMemory(
        id=id, content=fact.content, data=payload, metadata=expiry_of(payload), layer=Layer.ASSETS,
        namespace=namespace, user_id=user, agent_id=agent, run_id=run,
    )  # fmt: skip
    return Add(item, evidence=sources)
