"""``Idempotency-Key``: what was done once is not done again when the same request comes again within a day.

What was answered is a record by key in a reserved namespace of the same user, so it goes with the user, and ends by its
``ttl``. What an answer says in the words of its caller is not kept but read again, so that what is erased leaves no
copy here: of a record there is the id.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from agentmem import AsyncMemory, ConflictError, NotFoundError
from agentmem.client import own_namespace
from agentmem.server.answers import JSON, Answer, Header, HttpError, of_record
from agentmem.server.key import Key

_DAY_S = 86_400.0
NAMESPACE = ("$http", "once")
_LONGEST = 255
_IDS = UUID("7b0a1f0e-5d3b-5f6c-9a35-3c2f3a5f9d11")
_GONE = "this was done before, and what it was done to has gone since"
_REPLAYED: Header = (b"idempotency-replayed", b"true")


@dataclass(frozen=True)
class Once:
    """One request that is to happen once."""

    records: AsyncMemory
    key: str
    hash: str
    seconds: float
    """After which a request that has not answered has died."""
    view: AsyncMemory
    again: Callable[[], Awaitable[Answer]] | None
    """Reads anew what was answered, where that is not kept."""

    async def before(self) -> Answer | None:
        """The answer of the first time, if there was one; else the request is noted as begun.

        Raises ``ConflictError`` for another request under the same key, and ``HttpError`` while the first one is under
        way.
        """
        for _ in range(3):
            held = await self.records.get(key=self.key, namespace=NAMESPACE, touch=False)
            if held is None:
                if await self._write({"hash": self.hash, "begun": time.time()}, 0):
                    return None
                continue
            said: dict[str, Any] = held.data
            if said.get("hash") != self.hash:
                raise ConflictError("this Idempotency-Key was used for another request; use a new one for each")
            if "status" in said:
                return await self._again(said)
            if abs(time.time() - said["begun"]) < self.seconds:  # begun later than now: the clock was set back since
                break
            if await self._write({"hash": self.hash, "begun": time.time()}, held.version):
                return None
        raise HttpError(
            409,
            "ConflictError",
            "the first request with this Idempotency-Key is still under way",
            (b"retry-after", b"1"),
        )

    async def after(self, answer: Answer) -> None:
        """Keep what was answered."""
        kept: dict[str, Any] = {"hash": self.hash, "status": answer.status}
        if answer.record is not None:
            kept["record"] = answer.record
        elif self.again is None:
            kept["body"] = (answer.body if answer.kept is None else answer.kept).decode()
            kept["etag"] = next((value.decode() for name, value in answer.headers if name == b"etag"), None)
        await self._write(kept, None)

    async def failed(self) -> None:
        """Nothing was done, so it may be tried again."""
        await self.records.delete(key=self.key, namespace=NAMESPACE)

    def id(self, index: int = 0) -> str:
        """An id for what the request adds, the same at each try, so that one that died is not done twice."""
        return str(uuid5(_IDS, f"{self.key}\0{index}"))

    async def _write(self, data: dict[str, Any], if_version: int | None) -> bool:
        try:
            await self.records.put(
                self.key, namespace=NAMESPACE, data=data, ttl=_DAY_S, embed=False, layer="interact",
                if_version=if_version,
            )  # fmt: skip
        except ConflictError:
            return False
        return True

    async def _again(self, said: dict[str, Any]) -> Answer:
        if "record" in said:
            record = await self.view.get(said["record"], touch=False)
            if record is None:
                raise NotFoundError(_GONE)
            made = of_record(record)
        elif self.again is not None:
            try:
                made = await self.again()
            except HttpError as exc:
                raise NotFoundError(_GONE) from exc
        else:
            tag = said.get("etag")
            made = Answer(body=said["body"].encode(), headers=(JSON, *([(b"etag", tag.encode())] if tag else [])))
        return Answer(said["status"], made.body, (*made.headers, _REPLAYED))


def once(
    header: bytes,
    view: AsyncMemory,
    key: Key,
    user_id: str | None,
    seconds: float,
    again: Callable[[], Awaitable[Answer]] | None,
    *parts: bytes,
) -> Once:
    """What an ``Idempotency-Key`` says of a request, which is made of ``parts``. Raises ``HttpError``."""
    text = header.decode("latin-1").strip()
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise HttpError(400, "BadRequest", f"an Idempotency-Key has 1 to {_LONGEST} printable characters")
    digest = sha256()
    for part in (*parts, (user_id or "").encode()):
        digest.update(b"%d:" % len(part) + part)
    return Once(own_namespace(view), f"{key.id} {text}", digest.hexdigest(), seconds, view, again)


def plain_fact(item: dict[str, Any]) -> bool:
    """Whether the store itself sees that an item is there already."""
    return not any(item.get(name) is not None for name in ("role", "run_id", "data", "id", "dedupe"))
