"""A model in the same process, whose answers a function makes of the question."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripted_endpoint import shown

from agentmem import Memory
from agentmem.ports import Reply

Told = list[dict[str, Any]]


class Scripted:
    """A model whose answers a function makes of the question; ``prices`` what each call is said to have used."""

    name = "scripted"

    def __init__(self, answer: Callable[[dict[str, Any]], Told], used: tuple[int, int] | None = (100, 50)) -> None:
        self.answer = answer
        self.used = used
        self.asked = list[dict[str, Any]]()

    def complete(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, schema: Any, timeout: float) -> Reply:
        asked = {"messages": [dict(message) for message in messages]}
        self.asked.append(asked)
        return Reply(json.dumps({"operations": self.answer(asked)}), *(self.used or (None, None)))


def said(memory: Memory, user: str, *texts: str) -> list[str]:
    return [one.id for one in memory.add_many([{"role": "user", "content": text} for text in texts], user_id=user)]


def facts(memory: Memory, user: str, **more: Any) -> set[str]:
    return {hit.content for hit in memory.search("likes", user_id=user, kinds=["fact"], limit=500, **more)}


def cites(asked: dict[str, Any], text: str) -> list[dict[str, str]]:
    """Evidence for a text: the message that is just that."""
    return [{"message": one["id"], "quote": text} for one in shown(asked)[1] if one["text"] == text]
