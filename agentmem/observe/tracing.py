"""Spans and metrics of OpenTelemetry, through its API package: without an SDK in the program they cost next to nothing.

Names and attributes are those of the semantic conventions for generative AI: ``gen_ai.operation.name`` is
``search_memory``, ``create_memory`` and so on. What was searched for or stored is never in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from agentmem.engine import metering
from agentmem.engine.metering import Call
from agentmem.types.errors import MissingExtraError

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as exc:
    raise MissingExtraError("opentelemetry-api is not installed; pip install 'agentmem-db[opentelemetry]'") from exc

_OPERATIONS = {
    "search": "search_memory",
    "read": "search_memory",
    "add": "create_memory",
    "put": "upsert_memory",
    "apply": "update_memory",
    "update": "update_memory",
    "delete": "delete_memory",
    "erase": "delete_memory",
}
_SYSTEM = "agentmem"


class _Token(NamedTuple):
    span: Any
    attributes: dict[str, str]


class _Tracing:
    """Begins and ends a span for each call."""

    def __init__(self, tracer_provider: Any, meter_provider: Any) -> None:
        self._tracer = trace.get_tracer("agentmem", tracer_provider=tracer_provider)
        meter = metrics.get_meter("agentmem", meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", unit="s", description="What calls of a memory took."
        )

    def began(self, operation: str, store: str) -> _Token:
        """See ``metering.Watcher``."""
        name = _OPERATIONS.get(operation, operation)
        attributes = {
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": _SYSTEM,
            "gen_ai.memory.store.id": os.path.basename(store),
        }
        span = self._tracer.start_span(f"{name} {_SYSTEM}", kind=SpanKind.INTERNAL, attributes=attributes)
        return _Token(span, attributes)

    def ended(self, token: _Token | None, call: Call) -> None:
        """See ``metering.Watcher``."""
        if token is None:
            return
        attributes = dict(token.attributes)
        if call.error is not None:
            attributes["error.type"] = call.error
            token.span.set_attribute("error.type", call.error)
            token.span.set_status(Status(StatusCode.ERROR))
        token.span.end()
        self._duration.record(call.seconds, attributes)


def instrument(*, tracer_provider: Any = None, meter_provider: Any = None) -> Callable[[], None]:
    """Have the calls of all stores of this process traced and measured, by the providers given or the global ones.

    A span is a child of whatever span is current where the call is made. The answer ends it. Raises
    ``MissingExtraError`` where the API package is not installed.
    """
    return metering.watch(_Tracing(tracer_provider, meter_provider))
