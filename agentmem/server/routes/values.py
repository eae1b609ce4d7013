"""What is kept by key and is no sentence: what there is of it, its bytes, and what can be read of it at a glance."""

from __future__ import annotations

import re
from asyncio import to_thread
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO
from urllib.parse import quote

from pydantic import Field

from agentmem import ConflictError, ValueHead, ValueInfo, ValueUsage
from agentmem.server.answers import Answer, Header, HttpError, answer, etag
from agentmem.server.calls import Call, found
from agentmem.server.endpoint import Area
from agentmem.server.routes.keyed import Keyed
from agentmem.server.routes.models import OfUser, Path

area = Area("values")

_PART = 524_288
_ATTEMPTS = 20
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
# Whoever put the bytes may have put a page or a script: no browser is to take them for one, whatever they say they are.
_INERT: tuple[Header, ...] = (
    (b"content-type", b"application/octet-stream"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"accept-ranges", b"bytes"),
)


class SomeValues(OfUser):
    """Which values: those whose keys begin so, after one."""

    prefix: str = ""
    namespace: Path | None = None
    limit: int = 100
    after: str | None = None


class Looked(Keyed):
    """Of which namespace, and whether looking counts as a use."""

    touch: bool = True


class First(Looked):
    """How many rows."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20


@area("GET", "/v1/values", "read", query=SomeValues, gives=list[ValueInfo])
async def values(call: Call) -> Answer:
    """What values there are, by key; `after` is the last key of the page before."""
    return answer(await call.memory.values.list(**call.asked()))


@area("GET", "/v1/values/{key}", "read", query=Keyed, gives=ValueInfo)
async def info(call: Call) -> Answer:
    """What a value is. Its ETag is its version."""
    one = await _info(call)
    if call.matches(one.version):
        return Answer(304, b"", (etag(one.version),))
    return answer(one, 200, etag(one.version))


@area("GET", "/v1/values/{key}/content", "read", query=Looked, raw=True, slow=True)
async def content(call: Call) -> Answer:
    """The bytes of a value, whatever its kind, or one `Range` of them; as a file to be kept, never as a page."""
    one, file = await _opened(call)
    if call.matches(one.version):
        file.close()
        return Answer(304, b"", (etag(one.version),))
    tag, asked = etag(one.version), call.headers.get(b"range")
    if call.headers.get(b"if-range", tag[1]).strip() != tag[1]:
        asked = None  # it is another one than the caller has a part of
    wanted = _range(asked, one.size)
    if wanted is None:
        file.close()
        raise HttpError(
            416, "RangeNotSatisfiable", f"it has {one.size} bytes", (b"content-range", b"bytes */%d" % one.size)
        )
    start, end = wanted
    headers = [
        *_INERT,
        tag,
        (b"content-disposition", _attached(one.key)),
        (b"content-length", b"%d" % (end - start)),
    ]
    if asked is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, one.size)))
    return Answer(200 if asked is None else 206, headers=tuple(headers), lines=_bytes(call, file, start, end))


@area("GET", "/v1/values/{key}/head", "read", query=First, gives=ValueHead)
async def head(call: Call) -> Answer:
    """The first rows of an array or a table as texts."""
    return answer(await call.memory.values.head(call.id, **call.asked()))


@area("GET", "/v1/memories/{id}/attachments", "read", query=OfUser, gives=list[ValueInfo])
async def attachments(call: Call) -> Answer:
    """The values that a memory carries."""
    return answer(await call.memory.values.attachments(call.id))


@area("GET", "/v1/admin/values", "admin", gives=ValueUsage, whole=True)
async def usage(call: Call) -> Answer:
    """What the values of the store take."""
    return answer(await call.store.values.usage())


async def _info(call: Call) -> ValueInfo:
    said = {name: value for name, value in call.asked().items() if name == "namespace"}
    return found(await call.memory.values.info(call.id, **said), f"value with the key {call.id!r}")


async def _opened(call: Call) -> tuple[ValueInfo, BinaryIO]:
    """A value, and a file of what it is at that version, whoever replaces it meanwhile."""
    for _ in range(_ATTEMPTS):
        one = await _info(call)
        file = await call.memory.values.open(call.id, **call.asked())
        now = await _info(call)
        if (now.id, now.version) == (one.id, one.version):
            return one, file
        file.close()
    raise ConflictError(f"the value with the key {call.id!r} is replaced all the time; read it when that is over")


def _range(header: bytes | None, size: int) -> tuple[int, int] | None:
    """From where to where; None for what lies outside, and for what cannot be understood."""
    if header is None:
        return 0, size
    said = _RANGE.fullmatch(header.strip())
    if said is None or said[1] + said[2] == b"":
        return None
    if said[1] == b"":
        return (max(0, size - int(said[2])), size) if int(said[2]) and size else None
    start, end = int(said[1]), size if said[2] == b"" else min(size, int(said[2]) + 1)
    return (start, end) if start < end else None


def _attached(key: str) -> bytes:
    """A name that is one file's, in any system."""
    name = re.sub(r"[^\w.-]+", "_", key.rpartition("/")[2])[-80:].strip("._") or "value"
    return f"attachment; filename*=UTF-8''{quote(name, errors='replace')}".encode()


async def _bytes(call: Call, file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        await to_thread(file.seek, start)
        while start < end:
            part = await to_thread(file.read, min(_PART, end - start))
            if not part:
                return
            yield part
            start += len(part)
            call.check()
    finally:
        file.close()
