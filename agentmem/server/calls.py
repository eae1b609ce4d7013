"""One request, as an endpoint sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem import AsyncMemory, InvalidInputError
from agentmem.server.answers import HttpError
from agentmem.server.key import Key, composed
from agentmem.server.reading import Receive, given

if TYPE_CHECKING:
    from agentmem.server.entering import Gate
    from agentmem.server.idempotency import Once
    from agentmem.server.keys import KeyStore


@dataclass(slots=True)
class Call:
    """What was asked, by whom. ``memory`` is what the key may see of the store, and all that most endpoints use."""

    memory: AsyncMemory
    gate: Gate
    """Who let the caller in."""
    store: AsyncMemory
    """All of it; for endpoints that are about the ``whole``."""
    keys: KeyStore
    key: Key
    headers: dict[bytes, bytes]
    path: list[str]
    """What the path has in the place of its names."""
    query: Any
    body: Any
    receive: Receive
    limit: int
    """Bytes of a body, or of a line of one."""
    seconds: float
    """For which a body may keep silent."""
    actor: str | None
    """The key's id, for the audit log; None where there are no keys."""
    named: str | None
    """The user whom the request names, or the key is for."""
    once: Once | None
    """Of a request with an ``Idempotency-Key``."""

    @property
    def id(self) -> str:
        """The first name of the path."""
        return self.path[0]

    def asked(self, *without: str) -> dict[str, Any]:
        """What the query says, for a call with ``**``; whose memories it is about is in ``memory`` already."""
        return {} if self.query is None else given(self.query, "user_id", *without)

    def said(self, *without: str) -> dict[str, Any]:
        """What the body says, for a call with ``**``."""
        return {} if self.body is None else given(self.body, *without)

    @property
    def if_version(self) -> int | None:
        """The version that ``If-Match`` names. Raises ``InvalidInputError`` for what is no ETag of ours."""
        tag = self.headers.get(b"if-match")
        if tag is None or tag.strip() == b"*":
            return None
        text = tag.strip().removeprefix(b"W/").strip(b'"')
        if not text.isdigit() or len(text) > 18:
            raise InvalidInputError('If-Match takes the ETag of one version, such as "3"', field="if-match")
        return int(text)

    def matches(self, version: int) -> bool:
        """Whether the caller has this version already (``If-None-Match``)."""
        tags = [tag.strip().removeprefix(b"W/") for tag in self.headers.get(b"if-none-match", b"").split(b",")]
        return b"*" in tags or b'"%d"' % version in tags

    def check(self) -> None:
        """Check again that the key holds, for what takes long. Raises ``InvalidKeyError``."""
        if self.actor is not None:
            self.keys.still(self.actor)

    async def still(self) -> None:
        """Raises as entering does, once the key has ended while this was being answered."""
        await self.gate.enter(self.headers)

    async def note(self, act: str, target: str | None = None, user_id: str | None = None) -> None:
        """A line in the audit log."""
        from asyncio import to_thread

        if self.actor is not None:
            await to_thread(self.keys.record, act, actor=self.actor, target=target, user_id=user_id)


def of_its_user(call: Call, item: dict[str, Any], index: int) -> None:
    """Take out of an item whose it is, which is settled already. Raises ``InvalidInputError`` if it is another's."""
    user = item.pop("user_id", None)
    if user is not None and (not isinstance(user, str) or call.named is None or composed(user) != composed(call.named)):
        raise InvalidInputError(
            f"item {index} is of another user: whose memories they are is said by the key, or by ?user_id=",
            field="user_id",
            index=index,
        )


def found(value: Any, what: str) -> Any:
    """The value; raises ``HttpError`` 404 where there is none."""
    if value is None:
        raise HttpError(404, "NotFoundError", f"there is no {what} here")
    return value
