"""Spans and measurements, as a program with OpenTelemetry's SDK gets them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from conftest import HashEmbedder
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agentmem import InvalidInputError, Memory
from agentmem.observe.tracing import instrument


class Failing(HashEmbedder):
    def embed_query(self, text: str) -> np.ndarray:
        raise RuntimeError("the secret word is heron")

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([HashEmbedder.embed_query(self, text) for text in texts], np.float32)


def test_each_call_is_a_span_without_what_it_is_about(tmp_path: object) -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, measuring = TracerProvider(), MeterProvider(metric_readers=[reader])
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    stop = instrument(tracer_provider=tracing, meter_provider=measuring)
    try:
        with Memory(f"{tmp_path}/store", embedder=Failing()) as memory:
            with tracing.get_tracer("test").start_as_current_span("request") as request:
                id = memory.add("The secret word is stork.", user_id="ana").id
            memory.delete(id)
            with pytest.raises(InvalidInputError):
                memory.search("x", vector=[1.0])
            with pytest.raises(Exception, match="heron"):
                memory.search("the secret word", user_id="ana")
            stop()
            memory.get(id)
    finally:
        stop()
    spans = [span for span in exporter.get_finished_spans() if span.name != "request"]
    assert [span.name for span in spans] == [
        "create_memory agentmem", "delete_memory agentmem", "search_memory agentmem", "search_memory agentmem",
    ]  # fmt: skip
    assert all(span.kind is SpanKind.INTERNAL for span in spans)
    assert spans[0].parent is not None
    assert spans[0].parent.span_id == request.get_span_context().span_id
    assert dict(spans[0].attributes or {}) == {
        "gen_ai.operation.name": "create_memory",
        "gen_ai.provider.name": "agentmem",
        "gen_ai.memory.store.id": "store",
    }
    assert spans[0].status.status_code is StatusCode.UNSET
    assert [(span.attributes or {}).get("error.type") for span in spans[2:]] == ["InvalidInputError", "EmbeddingError"]
    assert spans[3].status.status_code is StatusCode.ERROR
    told = "".join(span.to_json() for span in spans)
    assert not any(word in told for word in ("secret", "stork", "heron", "ana"))
    data = reader.get_metrics_data()
    assert data is not None
    metric = data.resource_metrics[0].scope_metrics[0].metrics[0]
    assert (metric.name, metric.unit) == ("gen_ai.client.operation.duration", "s")
    assert sum(point.count for point in metric.data.data_points) == 4
    tracing.shutdown()
    measuring.shutdown()
