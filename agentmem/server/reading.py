"""What comes in: headers, the query, the body, each within its limits before anything is made of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, ValidationError

from agentmem import InvalidInputError
from agentmem.server.answers import CLOSE, HttpError

Receive = Callable[[], Awaitable[Any]]
Model = TypeVar("Model", bound=BaseModel)

_ONCE = (b"authorization", b"x-api-key", b"content-length", b"content-type", b"idempotency-key", b"if-match", b"host")
"""Headers of which a second one means that somebody tries something."""
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""Where there is one, orjson might round it; the standard library never does."""
_DEEPEST = 200
"""Levels of a body; what a record may have ends before."""
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def headers_of(raw: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name. Raises ``HttpError`` for two of what there is one of."""
    found = dict[bytes, bytes]()
    for name, value in raw:
        if name in found and name in _ONCE:
            raise HttpError(400, "BadRequest", f"the header {name.decode('latin-1')!r} is there twice")
        found[name] = value
    return found


async def read_body(receive: Receive, headers: dict[bytes, bytes], *, limit: int, seconds: float) -> bytes:
    """The whole body. Raises ``HttpError`` for one that is too large, too slow, or compressed."""
    refuse_encoded(headers)
    length = headers.get(b"content-length")
    if length is not None and (not length.isdigit() or int(length) > limit):
        raise _too_large(limit)
    message = await _next(receive, seconds)
    if not message.get("more_body"):
        body = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts = bytearray(message.get("body", b""))
    deadline = asyncio.get_running_loop().time() + seconds + limit / 100_000  # a whole body may take its time
    while message.get("more_body"):
        message = await _next(receive, min(seconds, deadline - asyncio.get_running_loop().time()))
        parts += message.get("body", b"")
        if len(parts) > limit:
            raise _too_large(limit)
    return bytes(parts)


async def read_lines(receive: Receive, *, limit: int, seconds: float) -> AsyncIterator[bytes]:
    """The lines of a body of any length, one in memory at a time; ``limit`` is that of a line."""
    rest, more = bytearray(), True
    while more:
        message = await _next(receive, seconds)
        more = bool(message.get("more_body"))
        rest += message.get("body", b"")
        *lines, last = rest.split(b"\n") if b"\n" in rest else [rest]
        for line in lines:
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > limit:
            raise _too_large(limit)
    if rest.strip():
        yield bytes(rest)


async def _next(receive: Receive, seconds: float) -> Any:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            message = await receive()
    except TimeoutError:
        raise HttpError(408, "RequestTimeout", "the body did not arrive in time", CLOSE) from None
    if message["type"] == "http.disconnect":
        raise HttpError(400, "BadRequest", "the body ended early", CLOSE)
    return message


def refuse_encoded(headers: dict[bytes, bytes]) -> None:
    """Nothing is decompressed, so that nothing small becomes large."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HttpError(415, "UnsupportedMediaType", "bodies are taken as they are, without Content-Encoding", CLOSE)


def _too_large(limit: int) -> HttpError:
    return HttpError(413, "ContentTooLarge", f"the body has more than the {limit} bytes that are taken", CLOSE)


def parsed(body: bytes) -> Any:
    """JSON as the store takes it: integers stay what they are. Raises ``InvalidInputError``."""
    _check_depth(body)
    try:
        if _LONG_NUMBER.search(body):
            return json.loads(body, parse_constant=_refuse_constant)
        return orjson.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"the body is no JSON: {exc}", field="body") from exc


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= _DEEPEST:
        return
    depth = 0
    for found in _BRACKETS.finditer(body):
        one = found.group()
        if one in (b"[", b"{"):
            depth += 1
            if depth > _DEEPEST:
                raise InvalidInputError(f"the body is nested deeper than {_DEEPEST} levels", field="body")
        elif one in (b"]", b"}"):
            depth -= 1


def checked(model: type[Model], value: Any) -> Model:
    """What a body says, by its model. Raises ``InvalidInputError``, which names the field."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        hint = ""
        if first["type"] == "extra_forbidden":
            hint = f"; there are: {', '.join(model.model_fields)}"
            if field == "user_id":
                hint = "; whose memories they are is said by the key or, where it leads to any user's, by ?user_id="
        raise InvalidInputError(f"{field}: {first['msg']}{hint}", field=field) from exc


def queried(model: type[Model], query: bytes) -> Model:
    """What a query string says, by its model; a list is a parameter that is repeated."""
    if not query:
        return checked(model, {})
    try:
        found = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1_000)
    except ValueError as exc:
        raise InvalidInputError(f"the query string cannot be read: {exc}", field="query") from exc
    lists, values = _lists(model), dict[str, Any]()
    for name, given in found.items():
        if name in lists:
            values[name] = [] if given == [""] else given
        elif len(given) > 1:
            raise InvalidInputError(f"{name!r} is there {len(given)} times; give it once", field=name)
        else:
            values[name] = given[0]
    return checked(model, values)


@cache
def _lists(model: type[BaseModel]) -> frozenset[str]:
    def is_list(annotation: Any) -> bool:
        return get_origin(annotation) is list or any(map(is_list, get_args(annotation)))

    return frozenset(name for name, field in model.model_fields.items() if is_list(field.annotation))


def given(model: BaseModel, *without: str) -> dict[str, Any]:
    """The fields that were given, as they are, for a call with ``**``."""
    return {name: getattr(model, name) for name in model.model_fields_set if name not in without}
