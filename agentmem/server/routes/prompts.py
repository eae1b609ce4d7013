"""Prompts made of a session: blocks, turns, working memory, and what is remembered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentmem import Manifest
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body
from agentmem.server.routes.models import Kind, LayerName, Time
from agentmem.server.routes.sessions import Place

area = Area("prompts")


class PromptWanted(Body):
    """A prompt; a token is taken to be three bytes of UTF-8."""

    max_tokens: int
    query: str | None = None
    instructions: str = ""
    recall: int = 20
    recall_share: float = 0.3
    recalled_role: str = "user"
    filters: dict[str, Any] | None = None
    kinds: Kind | None = None
    layers: list[LayerName] | None = None
    since: Time | None = None
    until: Time | None = None
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    min_similarity: float | None = None
    touch: bool = Field(True, description="Whether what is remembered counts as used.")


class PromptMade(TypedDict):
    """The messages to send to a model, and what is in them."""

    messages: list[dict[str, Any]]
    text: str
    manifest: Manifest


@area("POST", "/v1/sessions/{run_id}/prompt", "read", body=PromptWanted, query=Place, gives=PromptMade, once=False)
async def prompt(call: Call) -> Answer:
    """What to send to a model next, within a budget of tokens."""
    session = call.memory.session(call.id, agent_id=call.query.agent_id, namespace=call.query.namespace)
    made = await session.prompt(**call.said())
    return answer({"messages": made.messages(), "text": made.text(), "manifest": made.manifest})
