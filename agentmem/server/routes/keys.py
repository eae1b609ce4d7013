"""The keys of this server, for its administrators."""

from __future__ import annotations

from asyncio import to_thread
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentmem import InvalidInputError
from agentmem.errors import AccessDeniedError
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body
from agentmem.server.key import SCOPES
from agentmem.server.routes.admin import After
from agentmem.server.routes.models import Path

area = Area("keys")
_LONGEST_S = 3_000_000_000.0

Scope = Literal["read", "write", "erase", "admin"]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S, description="Seconds, from now.")]


class NewKey(Body):
    """What a key is to allow, and whose memories it leads to."""

    scopes: list[Scope]
    user_id: str | None = None
    any_user: bool = False
    agent_id: str | None = None
    namespace: Path | None = None
    expires_in: Seconds | None = None
    name: str | None = Field(None, max_length=200)
    per_minute: int | None = Field(None, ge=1, le=1_000_000_000)


class RotateKey(Body):
    """For how long the old one goes on, and the new one lasts (left out: as long as the old one would have)."""

    overlap: Annotated[float, Field(ge=0, le=_LONGEST_S, description="Seconds.")] = 0
    expires_in: Seconds | None = None


class KeyInfo(TypedDict):
    """A key without its secret."""

    id: str
    scopes: list[Scope]
    user_id: str | None
    any_user: bool
    agent_id: str | None
    namespace: list[str] | None
    name: str | None
    per_minute: int | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None


class SomeKeys(Body):
    """Whose keys, and how many."""

    user_id: str | None = None
    limit: int | None = Field(None, ge=1, le=10_000)


class Acts(After):
    """And from which end."""

    order: Literal["oldest", "newest"] = "oldest"


class MadeKey(KeyInfo):
    """A key that was just made; its token is shown here and never again."""

    token: str


class ActInfo(TypedDict):
    """A line of the audit log."""

    seq: int
    at: str
    act: str
    actor: str | None
    target: str | None
    user_id: str | None


@area("GET", "/v1/keys", "admin", query=SomeKeys, gives=list[KeyInfo], whole=True)
async def keys(call: Call) -> Answer:
    """All keys, the oldest first, or those of a user.

    With `limit` so many, and first those that hold, those for any user, and the newest."""
    return answer([key.to_dict() for key in await to_thread(lambda: call.keys.list(**call.query.model_dump()))])


@area("POST", "/v1/keys", "admin", body=NewKey, gives=MadeKey, status=201, whole=True)
async def create(call: Call) -> Answer:
    """Make a key. Nobody makes one that allows more than their own."""
    said: dict[str, Any] = call.said("expires_in")
    _own(call, said["scopes"])
    expires = call.body.expires_in
    if expires is not None:
        said["expires"] = timedelta(seconds=expires)
    if said.get("name") is not None and not said["name"].isprintable():
        raise InvalidInputError("name must be printable text", field="name")
    made = await to_thread(lambda: call.keys.create(**said, actor=call.actor))
    return answer(made.to_dict(), 201)


@area("POST", "/v1/keys/{id}/rotate", "admin", body=RotateKey, gives=MadeKey, status=201, whole=True)
async def rotate(call: Call) -> Answer:
    """Make a key that allows what another does, and end that one."""
    old = next((key for key in await to_thread(call.keys.list) if key.id == call.id), None)
    _own(call, [] if old is None else old.scopes)
    expires = None if call.body.expires_in is None else timedelta(seconds=call.body.expires_in)
    overlap = timedelta(seconds=call.body.overlap)
    made = await to_thread(lambda: call.keys.rotate(call.id, overlap=overlap, expires=expires, actor=call.actor))
    return answer(made.to_dict(), 201)


@area("DELETE", "/v1/keys/{id}", "admin", gives=KeyInfo, whole=True)
async def revoke(call: Call) -> Answer:
    """End a key, now and in all workers."""
    return answer((await to_thread(lambda: call.keys.revoke(call.id, actor=call.actor))).to_dict())


@area("GET", "/v1/audit", "admin", query=Acts, gives=list[ActInfo], whole=True)
async def audit(call: Call) -> Answer:
    """What administrators did, oldest or newest first."""
    if not 0 < call.query.limit <= 10_000 or not 0 <= call.query.after < 2**62:
        raise InvalidInputError("limit is from 1 to 10,000, after from 0", field="limit")
    newest = call.query.order == "newest"
    acts = await to_thread(lambda: call.keys.audit(after=call.query.after, limit=call.query.limit, newest=newest))
    return answer([act.to_dict() for act in acts])


def _own(call: Call, scopes: Any) -> None:
    more = [scope for scope in SCOPES if scope in scopes and scope not in call.key.scopes]
    if more:
        raise AccessDeniedError(
            f"the key {call.key.id} has no scope {more[0]!r}, so it makes none that has; the command "
            "line does: agentmem key create"
        )
