"""The OpenAPI description, made of the endpoints by FastAPI, which serves nothing here: a request that it took apart
would take a tenth of a search longer."""

from __future__ import annotations

import inspect
import json
from functools import cache
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path, Query, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from pydantic import TypeAdapter

from agentmem import __version__
from agentmem.server.endpoint import Endpoint
from agentmem.server.routes import ENDPOINTS
from agentmem.server.routes.models import Problem

PATH = "/openapi.json"
_ABOUT = """A memory for LLM agents, served. Every request sends a key (`agentmem key create`), which says whose
memories it is about; only a key for any user takes `?user_id=`. Errors are `application/problem+json` (RFC 9457),
with the name of the error as `title`. `Prefer: clip=400` cuts texts in answers to so many characters."""
_LINES = {"application/x-ndjson": {"schema": {"type": "string", "description": "JSON values, one a line."}}}
_BYTES = {
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary", "description": "JSON values, one a line."}
    }
}
"""Generators of clients do not know the type of lines, and this says how to send them: as they are."""
_RAW = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_RANGE = {
    "name": "Range", "in": "header", "required": False, "schema": {"type": "string"},
    "description": "One range of bytes, such as bytes=0-65535, which is answered by 206.",
}  # fmt: skip
_EVENTS = {"text/event-stream": {"schema": {"type": "string", "description": "Server-sent events, data as JSON."}}}
_ONCE = {
    "name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 255},
    "description": "The same request with the same key within 24 hours is answered again, and not done again.",
}  # fmt: skip
_MATCH = {
    "name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"},
    "description": "The ETag of the version that is to be changed.",
}  # fmt: skip


async def _enter(
    scopes: SecurityScopes,
    bearer: Annotated[Any, Security(HTTPBearer(auto_error=False, scheme_name="bearer"))],
    key: Annotated[Any, Security(APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="key"))],
) -> None:
    """Says in the description that a key is needed."""


@cache
def text() -> str:
    """The description as JSON."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


def description() -> dict[str, Any]:
    """The description."""
    app = FastAPI(title="agentmem", version=__version__, description=_ABOUT)
    for endpoint in described():
        _describe(app, endpoint)
    made = app.openapi()
    made["components"]["schemas"]["Problem"] = TypeAdapter(Problem).json_schema()
    for endpoint in described():
        operation = made["paths"][endpoint.path][endpoint.method.lower()]
        if endpoint.streams:
            operation["responses"]["200"]["content"] = _EVENTS if endpoint.events else _BYTES | _LINES
        if endpoint.raw:
            operation["responses"]["200"]["content"] = _RAW
        if endpoint.scope is not None:
            operation["security"] = [{"bearer": []}, {"key": []}]
            operation["x-scope"] = endpoint.scope
        else:
            operation.pop("security", None)
    return made


def described() -> list[Endpoint]:
    """The endpoints that the description has: all but the one that gives it."""
    return [endpoint for endpoint in ENDPOINTS if endpoint.path != PATH]


def _describe(app: FastAPI, endpoint: Endpoint) -> None:
    headers = list[dict[str, Any]]()
    if endpoint.once:
        headers.append(_ONCE)
    if endpoint.at_version:
        headers.append(_MATCH)
    if endpoint.raw:
        headers.append(_RANGE)
    extra: dict[str, Any] = {"parameters": headers} if headers else {}
    answers: dict[int | str, dict[str, Any]] = {
        "default": {
            "description": "What went wrong.",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    }
    gives = endpoint.gives
    if endpoint.streams:
        answers[200] = {"description": "Lines of JSON.", "content": _LINES}
        if endpoint.method == "POST":
            extra["requestBody"] = {"required": True, "content": _BYTES}
    if endpoint.raw:
        answers[206] = {"description": "The range that was asked for.", "content": _RAW}
    if "ETag" in (inspect.getdoc(endpoint.run) or "") and endpoint.method == "GET":
        answers[304] = {"description": "It is still at the version of If-None-Match."}
    if endpoint.path == "/health/ready":
        answers[503] = {"description": "The store cannot be read.", "model": gives}
    app.add_api_route(
        endpoint.path,
        _shown(endpoint),
        methods=[endpoint.method],
        response_model=gives,
        status_code=endpoint.status,
        responses=answers,
        tags=[endpoint.area],
        summary=(inspect.getdoc(endpoint.run) or "").splitlines()[0],
        description=inspect.getdoc(endpoint.run),
        operation_id=f"{endpoint.area}_{endpoint.run.__name__}",
        dependencies=[] if endpoint.scope is None else [Security(_enter)],
        openapi_extra=extra or None,
    )


def _shown(endpoint: Endpoint) -> Any:
    """A function with the signature by which FastAPI describes the endpoint."""
    parameters = list[inspect.Parameter]()

    def add(name: str, annotation: Any) -> None:
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation))

    for part in endpoint.path.split("/"):
        if part.startswith("{"):
            add(part.strip("{}"), Annotated[str, Path(min_length=1)])
    if endpoint.query is not None:
        add("query_", Annotated[endpoint.query, Query()])
    if endpoint.body is not None:
        add("body_", Annotated[endpoint.body, Body()])

    def shown(**_: Any) -> None:
        raise NotImplementedError

    shown.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return shown
