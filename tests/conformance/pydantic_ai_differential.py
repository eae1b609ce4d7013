"""Pydantic AI's own store in memory and ours side by side: the same random calls, and the same answers.

Run as ``pydantic_ai.toml`` says, or ``python tests/conformance/pydantic_ai_differential.py``, where Pydantic AI is.
Revisions and ids of entries are each one's own: compared is which revision, and which entry, of those that there were.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import BinaryImage, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord, InMemoryConversationStore
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart

from agentmem import Memory
from agentmem.adapters.pydantic_ai import AgentMemConversationStore

STEPS = 300
IDS = ["a", "b", "c", "", "e\u0301", "\u00e9", "x" * 3_000, "nul \x00"]
SCOPES = [None, None, "ana", "rui", ""]
START = datetime(2025, 3, 1, tzinfo=UTC)


class Pair:
    """The two, with a conversation of each for every one that was loaded or saved."""

    def __init__(self, ours: AgentMemConversationStore) -> None:
        self.stores = (InMemoryConversationStore(), ours)
        self.held: list[tuple[Conversation, Conversation]] = []
        self.names: list[dict[str, int]] = [{}, {}]
        """Which revision or entry an id of each one's is."""
        self.differences: list[str] = []
        self.answered = self.refused = 0

    async def both(self, call: str, *arguments: tuple[Any, Any], **options: Any) -> tuple[Any, Any] | None:
        """One call of both, and a comparison of what they answer; None if it was refused."""
        answers = list[Any]()
        for side, store in enumerate(self.stores):
            try:
                answers.append(await getattr(store, call)(*(each[side] for each in arguments), **options))
            except Exception as exc:
                answers.append(exc)
        theirs, ours = (self._plain(side, answer) for side, answer in enumerate(answers))
        if theirs != ours:
            self.differences.append(f"{call}{arguments}{options}\n  theirs {theirs}\n  ours   {ours}"[:3_000])
        refused = isinstance(answers[0], Exception)
        self.refused += refused
        self.answered += not refused
        return None if refused or isinstance(answers[1], Exception) else (answers[0], answers[1])

    def _plain(self, side: int, answer: Any) -> Any:
        if isinstance(answer, Exception):
            return "refused", type(answer).__name__, getattr(answer, "conversation_id", None)
        if isinstance(answer, (list, tuple)):
            return [self._plain(side, each) for each in answer]
        if not isinstance(answer, (Conversation, ConversationRecord, ConversationEntry)):
            return answer
        said = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
        for name in ("id", "parent_id", "head_id", "forked_at", "revision"):
            if said.get(name) is not None:
                said[name] = self._number(side, said[name])
        if "branches" in said:
            said["branches"] = [self._number(side, each) for each in said["branches"]]
        return said | {"updated_at": None}

    def _number(self, side: int, id: str) -> int:
        return self.names[side].setdefault(id, len(self.names[side]))


def message(rng: random.Random) -> Any:
    at = START + timedelta(seconds=rng.randrange(10**6))
    text = rng.choice(["tea", "", "a\x00b", "\u200b", "x" * 100_000, "Lisbon \U0001f375"]) + str(rng.random())
    picture = BinaryImage(data=rng.randbytes(rng.choice([10, 70_000])), media_type="image/png")
    result = {"a": None, "n": [1, 2.5, True], "big": 10**18}
    return rng.choice([
        ModelRequest(parts=[UserPromptPart(text, timestamp=at)], run_id="r"),
        ModelRequest(parts=[UserPromptPart([text, picture], timestamp=at)], instructions="be kind"),
        ModelRequest(parts=[ToolReturnPart("weather", result, "c1", timestamp=at)]),
        ModelResponse(parts=[TextPart(text), ToolCallPart("weather", {"city": None}, "c1")], timestamp=at),
        ModelResponse(parts=[ToolCallPart("weather", "{}", "c1")], timestamp=at, provider_details={"x": [None]}),
    ])  # fmt: skip


def changed(rng: random.Random, pair: tuple[Conversation, Conversation]) -> None:
    """Add messages to both of a conversation, and now and then rewrite what was there."""
    new = [message(rng) for _ in range(rng.randint(0, 3))]
    cut = rng.randint(0, 3) if rng.random() < 0.15 else 0
    waits = DeferredToolRequests(calls=[ToolCallPart("t", {"x": 1}, "c")], metadata={"c": {"k": [None]}})
    deferred = waits if rng.random() < 0.2 else None
    for each in pair:
        if cut:
            del each.messages[-cut:]
        each.messages.extend(deepcopy(new))
        each.usage.requests += 1
        each.deferred_tool_requests = deferred


async def step(pair: Pair, rng: random.Random) -> None:
    id, scope = rng.choice(IDS), rng.choice(SCOPES)
    limit = rng.choice([None, None, 0, 1, 2, 25, -1])
    match rng.choices(
        ["new", "save", "stale", "load", "entries", "list", "fork", "branch", "delete", "record"],
        [10, 30, 8, 14, 8, 8, 10, 10, 5, 4],
    )[0]:
        case "new":
            made = (Conversation(conversation_id=id), Conversation(conversation_id=id))
            changed(rng, made)
            if await pair.both("save", made, scope=scope):
                pair.held.append(made)
        case "save" | "stale" as which:
            if pair.held:
                held = rng.choice(pair.held[-3:] if which == "save" else pair.held)
                changed(rng, held)
                await pair.both("save", held, scope=scope if rng.random() < 0.2 else None)
        case "load":
            found = await pair.both("load", (id, id), limit=limit, scope=scope)
            if found and found[0] is not None and found[1] is not None:
                pair.held.append(found)
        case "entries":
            await pair.both("load_entries", (id, id), limit=limit, scope=scope)
        case "list":
            await pair.both("list_conversations", scope=scope, limit=limit)
        case "fork":
            found = await pair.both(
                "fork", (id, id), at=rng.choice([None, 0, 1, 3]), new_conversation_id=rng.choice(IDS), scope=scope,
                source_scope=rng.choice(SCOPES),
            )  # fmt: skip
            if found:
                pair.held.append(found)
        case "branch":
            if pair.held:
                held = rng.choice(pair.held[-4:])
                found = None
                tips = await leaves(pair, held[0].conversation_id)
                to: dict[str, Any] = {"at": rng.randint(0, 3)}
                if tips and rng.random() < 0.5:
                    found = await branch_to(pair, held, rng.choice(tips))
                else:
                    answers = [
                        await answer(store.branch(each.conversation_id, expected_revision=str(each.revision), **to))
                        for store, each in zip(pair.stores, held, strict=True)
                    ]
                    found = compared(pair, "branch", answers)
                if found:
                    pair.held.append(found)
        case "delete":
            await pair.both("delete", (id, id), scope=scope)
        case _:
            await pair.both("read_record", (id, id))


async def leaves(pair: Pair, id: str) -> list[int]:
    """Positions of the branches that a conversation has left."""
    records = [await store.read_record(id) for store in pair.stores]
    return [] if None in records else list(range(len(records[0].branches)))  # type: ignore[union-attr]


async def branch_to(pair: Pair, held: tuple[Conversation, Conversation], at: int) -> tuple[Any, Any] | None:
    answers = list[Any]()
    for store, each in zip(pair.stores, held, strict=True):
        record = await store.read_record(each.conversation_id)
        assert record is not None
        back = store.branch(each.conversation_id, from_entry=record.branches[at], expected_revision=record.revision)
        answers.append(await answer(back))
    return compared(pair, "branch to", answers)


async def answer(call: Any) -> Any:
    try:
        return await call
    except Exception as exc:
        return exc


def compared(pair: Pair, call: str, answers: list[Any]) -> tuple[Any, Any] | None:
    theirs, ours = (pair._plain(side, each) for side, each in enumerate(answers))
    if theirs != ours:
        pair.differences.append(f"{call}\n  theirs {theirs}\n  ours   {ours}"[:3_000])
    return None if any(isinstance(each, Exception) for each in answers) else (answers[0], answers[1])


@pytest.mark.parametrize("seed", range(3))
def test_both_answer_the_same(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)

    async def run(pair: Pair) -> None:
        for _ in range(STEPS):
            await step(pair, rng)

    with Memory(tmp_path / "store") as memory:
        pair = Pair(AgentMemConversationStore(memory, user_id="ana"))
        asyncio.run(run(pair))
        held = set(pair.stores[0]._entries)
        kept = memory.count(user_id="ana", namespace=("pydantic_ai", "entries"))
    assert not pair.differences, "\n".join(pair.differences)
    assert kept == len(held)
    assert pair.answered > 100
    assert pair.refused > 20


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-c", "/dev/null", "--noconftest"]))
