"""The endpoints: each is a function, with what it takes and gives declared once, for the router and for OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict

from agentmem.server.answers import Answer, HttpError

if TYPE_CHECKING:
    from agentmem.server.calls import Call

FOLLOWS = "agentmem.follows"
"""In the scope of a request whose answer goes on until somebody ends it."""
Run = Callable[["Call"], Awaitable[Answer]]


class Body(BaseModel):
    """Base of what bodies and queries say; a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Nothing(Body):
    """A body that says nothing."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one path."""

    method: str
    path: str
    """Names in braces stand for one segment, which may hold any text, percent-encoded."""
    run: Run
    scope: str | None
    """What the key must allow; None: anybody may call it."""
    area: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    gives: Any = None
    """The type of the answer, for OpenAPI."""
    status: int = 200
    whole: bool = False
    """It is about the whole store, so the key must lead to any user's memories."""
    slow: bool = False
    """It may take longer than a request otherwise may."""
    streams: bool = False
    """Its body is read by itself, line by line."""
    events: bool = False
    """Its answer is a stream of server-sent events."""
    raw: bool = False
    """Its answer is bytes, or a range of them, whatever they are."""
    once: bool = False
    """It takes an ``Idempotency-Key``."""
    again: Run | None = None
    """What answers a request that was done before, where its answer has texts: they are not kept, but read again."""
    at_version: bool = False
    """It takes an ``If-Match``."""


class Area:
    """Collects the endpoints of a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.endpoints = list[Endpoint]()

    def __call__(self, method: str, path: str, scope: str | None, **options: Any) -> Callable[[Run], Run]:
        """A decorator; ``options`` are the fields of ``Endpoint``."""

        def add(run: Run) -> Run:
            once = options.pop("once", method in ("POST", "PATCH") and scope == "write" and "streams" not in options)
            made = Endpoint(method=method, path=path, run=run, scope=scope, area=self.name, once=once, **options)
            self.endpoints.append(made)
            return run

        return add


class Router:
    """Finds the endpoint of a path by its segments, so that an id may hold whatever it likes, slashes too."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self._root = dict[str, Any]()
        for endpoint in endpoints:
            node = self._root
            for part in endpoint.path.strip("/").split("/"):
                node = node.setdefault("{}" if part.startswith("{") else part, {})
            methods = node.setdefault("", {})
            assert endpoint.method not in methods, endpoint.path
            methods[endpoint.method] = endpoint

    def find(self, method: str, raw_path: bytes) -> tuple[Endpoint, list[str]]:
        """The endpoint, and what its path has in the place of the names. Raises ``HttpError`` 404 and 405."""
        found = list[str]()
        node: dict[str, Any] | None = self._root
        for part in raw_path[1:].split(b"/"):
            assert node is not None
            text = _decoded(part)
            # What is percent-encoded is always a name, so that an id such as "count" has a path, too: /%63ount.
            if text in node and text not in ("", "{}") and b"%" not in part:
                node = node[text]
            elif "{}" in node and text:
                node = node["{}"]
                found.append(text)
            else:
                raise HttpError(
                    404, "NoSuchPath", "there is no such path; GET /openapi.json lists those that there are"
                )
        methods: dict[str, Endpoint] = (node or {}).get("", {})
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is not None:
            return endpoint, found
        if not methods:
            raise HttpError(404, "NoSuchPath", "there is no such path; GET /openapi.json lists those that there are")
        allowed = ", ".join(sorted(methods))
        raise HttpError(405, "MethodNotAllowed", f"this path takes {allowed}", (b"allow", allowed.encode()))


def _decoded(part: bytes) -> str:
    try:
        return (unquote_to_bytes(part) if b"%" in part else part).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "BadRequest", "the path is not UTF-8") from None
