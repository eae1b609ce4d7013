"""What goes back: JSON as bytes, problems (RFC 9457) with the names of the errors, lines of a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from agentmem import (
    AgentMemError,
    BlockReadOnlyError,
    CapacityError,
    ClosedError,
    ConflictError,
    DiskFullError,
    EmbeddingError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    ScopeError,
    StoreError,
    StoreGoneError,
    StoreLockedError,
)
from agentmem.errors import AccessDeniedError, ArchiveError, InvalidKeyError, RateLimitError

Send = Callable[[Any], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
NDJSON: Header = (b"content-type", b"application/x-ndjson")
PROBLEM: Header = (b"content-type", b"application/problem+json")
CLOSE: Header = (b"connection", b"close")
_ALWAYS: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

_STATUS: tuple[tuple[type[AgentMemError], int], ...] = (
    (InvalidKeyError, 401),
    (AccessDeniedError, 403),
    (RateLimitError, 429),
    (ScopeError, 422),
    (InvalidInputError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (BlockReadOnlyError, 409),
    (CapacityError, 507),
    (DiskFullError, 507),
    (ReadOnlyError, 403),
    (ClosedError, 503),
    (StoreError, 503),
    (EmbeddingError, 502),
    (ArchiveError, 502),
)
"""The first that fits counts."""
_UNREAD_S = 60.0
"""For which somebody who asked for a stream may leave it unread."""
_OF_THE_SERVER = 500
"""From here on it is the server's affair, whose paths are nobody's business: the log has the message."""


_SAYS: dict[type[AgentMemError], str] = {
    # In the words of somebody who has no shell there.
    DiskFullError: "the server's disk is full; nothing of this was kept, and it can be tried again when there is room",
    StoreLockedError: "another process is writing, or has the store open where this needs it alone; try again later",
    StoreGoneError: "the store was deleted, moved or replaced; where it is another one now, start the server anew",
    ReadOnlyError: "this store cannot be changed; the server's log says why",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. ``lines`` is there instead of a ``body`` where it is streamed."""

    status: int = 200
    body: bytes = b""
    headers: tuple[Header, ...] = (JSON,)
    lines: AsyncIterator[bytes] | None = None
    record: str | None = field(default=None)
    """The id of the record that the body is, for those who keep no copy of it."""
    kept: bytes | None = None
    """What may be kept of the body, where that has texts of its caller's."""

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it; ``head`` leaves the body out."""
        headers: list[Header] = [*self.headers, *_ALWAYS]
        if self.lines is None:
            headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.lines is not None and not head:
            async for line in self.lines:
                try:
                    async with asyncio.timeout(_UNREAD_S):
                        await send({"type": "http.response.body", "body": line, "more_body": True})
                except TimeoutError:
                    return  # cut short, so that whoever reads on later sees that it is not all
        await send({"type": "http.response.body", "body": b"" if head or self.lines is not None else self.body})


class HttpError(Exception):
    """An error of the protocol, which no call of a client raises."""

    def __init__(self, status: int, name: str, detail: str, *headers: Header) -> None:
        super().__init__(detail)
        self.status, self.name, self.headers = status, name, headers


def dumps(value: Any) -> bytes:
    """A result, or plain data, as JSON."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:  # an integer of more than 64 bits, which the data of a record may have
        return json.dumps(_plainly(value), ensure_ascii=False).encode()


def answer(value: Any, status: int = 200, *headers: Header) -> Answer:
    """A result as JSON."""
    return Answer(status, dumps(value), (JSON, *headers))


def of_record(record: Any, status: int = 200) -> Answer:
    """A record, with its version as ETag."""
    return Answer(status, dumps(record), (JSON, etag(record.version)), record=record.id)


def etag(version: int) -> Header:
    """The header for a version."""
    return (b"etag", b'"%d"' % version)


def status_of(error: AgentMemError) -> int:
    """The status for an error of this library."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(error: AgentMemError | HttpError) -> Answer:
    """What went wrong, as ``application/problem+json``."""
    if isinstance(error, HttpError):
        return _problem(error.status, error.name, str(error), {}, *error.headers)
    status, headers = status_of(error), list[Header]()
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, RateLimitError):
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after + 0.5))))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    mine = (status < _OF_THE_SERVER and not isinstance(error, ReadOnlyError)) or isinstance(error, CapacityError)
    detail = str(error) if mine else _SAYS.get(type(error), "the store cannot do this now; the server's log says why")
    more = {name: getattr(error, name, None) for name in ("field", "index")} if mine else {}
    return _problem(status, type(error).__name__, detail, more, *headers)


def problem_of(error: AgentMemError | HttpError) -> dict[str, Any]:
    """The same as a value, for a line of a stream."""
    return orjson.loads(problem(error).body)


def _problem(status: int, name: str, detail: str, more: Mapping[str, Any], *headers: Header) -> Answer:
    # What a caller sent may be part of the message, and need not be text that JSON can have.
    said = detail.encode("utf-8", "replace").decode("utf-8", "replace")
    body = {"type": f"urn:agentmem:error:{name}", "title": name, "status": status, "detail": said}
    body |= {key: value for key, value in more.items() if value is not None}
    return Answer(status, dumps(body), (PROBLEM, *headers))


def _plain(value: Any) -> Any:
    """What orjson does not know: the results that are more than their fields, and mappings."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _plainly(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plainly(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plainly(item) for item in cast("list[Any]", value)]
    return value.to_dict() if hasattr(value, "to_dict") else value
