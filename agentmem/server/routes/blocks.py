"""Blocks: texts that an agent always has before it, and edits itself."""

from __future__ import annotations

from typing import Any

from agentmem import Block, BlockVersion
from agentmem.server.answers import Answer, answer, etag
from agentmem.server.calls import Call, found
from agentmem.server.endpoint import Area, Body
from agentmem.server.routes.models import Done
from agentmem.server.routes.sessions import Place

area = Area("blocks")


class NewBlock(Body):
    """A block; its limit is in tokens, of which one is taken to be three bytes of UTF-8."""

    value: str = ""
    description: str = ""
    limit: int = 2_000
    read_only: bool = False
    reason: str | None = None


class ConfigureBlock(Body):
    """What is to be changed of it, but its text."""

    description: str = ""
    limit: int = 2_000
    read_only: bool = False


class AppendText(Body):
    """What is to stand at its end."""

    text: str
    reason: str | None = None


class ReplaceText(Body):
    """What is to stand in the place of a passage that is there once."""

    old: str
    new: str
    reason: str | None = None


class InsertText(Body):
    """What is to stand after a line; 0 is the beginning."""

    line: int
    text: str
    reason: str | None = None


class RewriteText(Body):
    """Its whole text."""

    value: str
    reason: str | None = None


class BlockBack(Body):
    """The version to go back to."""

    version: int


_AT_VERSION: dict[str, Any] = {"once": False, "at_version": True}


@area("GET", "/v1/blocks", "read", query=Place, gives=list[Block])
async def blocks(call: Call) -> Answer:
    """All blocks of a user, or of an agent."""
    return answer(await _blocks(call).list())


@area("POST", "/v1/blocks/{label}", "write", body=NewBlock, query=Place, gives=Block, status=201, once=False)
async def create(call: Call) -> Answer:
    """Make a block, which must not be there."""
    return _of(await _blocks(call).create(call.id, **call.said()), 201)


@area("GET", "/v1/blocks/{label}", "read", query=Place, gives=Block)
async def get(call: Call) -> Answer:
    """One block. Its ETag is its version, which ``If-Match`` takes in each change."""
    return _of(found(await _blocks(call).get(call.id), f"block {call.id!r}"))


@area("PUT", "/v1/blocks/{label}", "write", body=RewriteText, query=Place, gives=Block, **_AT_VERSION)
async def rewrite(call: Call) -> Answer:
    """Replace its text."""
    return _of(await _blocks(call).rewrite(call.id, call.body.value, **_how(call)))


@area(
    "PATCH", "/v1/blocks/{label}", "write", body=ConfigureBlock, query=Place, gives=Block, once=False, at_version=True
)
async def configure(call: Call) -> Answer:
    """Change its description, its limit, or whether it may be edited."""
    return _of(await _blocks(call).configure(call.id, **call.said(), if_version=call.if_version))


@area("DELETE", "/v1/blocks/{label}", "write", query=Place, gives=Done, **_AT_VERSION)
async def delete(call: Call) -> Answer:
    """Delete a block."""
    return answer({"done": await _blocks(call).delete(call.id, if_version=call.if_version)})


@area(
    "POST", "/v1/blocks/{label}/append", "write", body=AppendText, query=Place, gives=Block, once=False, at_version=True
)
async def append(call: Call) -> Answer:
    """Add to its end."""
    return _of(await _blocks(call).append(call.id, call.body.text, **_how(call)))


@area(
    "POST",
    "/v1/blocks/{label}/replace",
    "write",
    body=ReplaceText,
    query=Place,
    gives=Block,
    once=False,
    at_version=True,
)
async def replace(call: Call) -> Answer:
    """Replace a passage."""
    return _of(await _blocks(call).replace(call.id, call.body.old, call.body.new, **_how(call)))


@area(
    "POST", "/v1/blocks/{label}/insert", "write", body=InsertText, query=Place, gives=Block, once=False, at_version=True
)
async def insert(call: Call) -> Answer:
    """Insert after a line."""
    return _of(await _blocks(call).insert(call.id, call.body.line, call.body.text, **_how(call)))


@area("GET", "/v1/blocks/{label}/history", "read", query=Place, gives=list[BlockVersion])
async def history(call: Call) -> Answer:
    """What it was after each change, and why."""
    return answer(await _blocks(call).history(call.id))


@area(
    "POST", "/v1/blocks/{label}/restore", "write", body=BlockBack, query=Place, gives=Block, once=False, at_version=True
)
async def restore(call: Call) -> Answer:
    """Go back to a version."""
    return _of(await _blocks(call).restore(call.id, call.body.version, if_version=call.if_version))


def _blocks(call: Call) -> Any:
    return call.memory.blocks(agent_id=call.query.agent_id, namespace=call.query.namespace)


def _how(call: Call) -> dict[str, Any]:
    return {"reason": call.body.reason, "if_version": call.if_version}


def _of(block: Block, status: int = 200) -> Answer:
    return answer(block, status, etag(block.version))
