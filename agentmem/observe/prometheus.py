"""A store's figures for Prometheus, by ``prometheus-client``: also where several workers serve one store.

Counters and latencies are noted as calls end. Of several processes each writes into a file of its own in the folder
that ``PROMETHEUS_MULTIPROC_DIR`` names (see prometheus-client), and whichever is asked adds all of them up. What all of
them see alike, sizes and health, is read when somebody asks. No label names a user: there would be as many series as
users.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from agentmem.engine import metering
from agentmem.engine.metering import Call
from agentmem.types.enums import Pressure
from agentmem.types.errors import AgentMemError, MissingExtraError
from agentmem.types.reports import Health, Kpis

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.multiprocess import MultiProcessCollector
except ImportError as exc:
    raise MissingExtraError("prometheus-client is not installed; pip install 'agentmem-db[prometheus]'") from exc

TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""

_GAUGES: Mapping[str, tuple[str, Callable[[Kpis, Health], float | None]]] = {
    "agentmem_records": ("Live memories.", lambda k, h: k.records),
    "agentmem_size_bytes": ("Size on disk.", lambda k, h: k.total_size),
    "agentmem_usage_percent": ("How full the fullest layer is.", lambda k, h: k.usage_percent),
    "agentmem_pressure": ("0 low, 1 medium, 2 high.", lambda k, h: list(Pressure).index(k.pressure)),
    "agentmem_fragmentation_percent": ("Free pages of the database.", lambda k, h: k.fragmentation_percent),
    "agentmem_promotions_last_hour": ("Memories promoted within an hour.", lambda k, h: k.promotion_rate),
    "agentmem_vectors_behind": ("Changes that LanceDB has yet to receive.", lambda k, h: h.vectors_behind),
    "agentmem_healthy": ("1 if the background work succeeds.", lambda k, h: h.ok),
    "agentmem_backup_age_seconds": ("Since the last backup.", lambda k, h: h.backup.age_s if h.backup else None),
    "agentmem_backup_behind": ("Changes that no backup has.", lambda k, h: h.backup.behind if h.backup else None),
}
"""What is read when somebody asks, the same in all processes."""
_SHARES: Mapping[str, tuple[str, Callable[[Kpis], float | None]]] = {
    "agentmem_cache_hit_ratio": ("Searches that the query cache answered.", lambda k: k.cache_hit_rate),
    "agentmem_fallback_ratio": ("Searches that fell back to codes.", lambda k: k.fallback_rate),
    "agentmem_uptime_percent": ("Time without an outage.", lambda k: k.uptime_percent),
    "agentmem_recovery_seconds": ("How long the last outage took.", lambda k: k.recovery_time_s),
}
"""What each process knows of itself; of several, the one that answers tells."""


class Store(Protocol):
    """What is asked of a store: an ``AsyncMemory``."""

    def kpis(self) -> Awaitable[Kpis]: ...
    def health(self) -> Awaitable[Health]: ...


class Metrics:
    """Counts what is asked of the stores of this process, from now on, until ``close``."""

    def __init__(self) -> None:
        self._several = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
        self._registry = CollectorRegistry()
        common: dict[str, Any] = {"labelnames": ("operation",), "registry": self._registry}
        self._calls = Counter("agentmem_calls", "Calls.", **common)
        self._failures = Counter("agentmem_failures", "Calls that the store failed.", **common)
        self._refused = Counter("agentmem_refused", "Calls that asked for what cannot be.", **common)
        self._seconds = Histogram("agentmem_call_seconds", "What calls took.", buckets=BUCKETS, **common)
        self._unwatch = metering.watch(self)

    def close(self) -> None:
        """Count no more."""
        self._unwatch()

    def began(self, operation: str, store: str) -> None:
        """See ``metering.Watcher``."""

    def ended(self, token: None, call: Call) -> None:
        """See ``metering.Watcher``."""
        self._calls.labels(call.operation).inc()
        self._seconds.labels(call.operation).observe(call.seconds)
        if call.error is not None:
            (self._failures if call.failed else self._refused).labels(call.operation).inc()

    async def text(self, memory: Store) -> bytes:
        """All of it, as Prometheus reads it."""
        health, kpis = await memory.health(), None
        try:
            kpis = await memory.kpis()
        except AgentMemError:
            pass  # what was counted is told all the same, and that it is not well
        counted = self._registry
        if self._several:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)
        now = CollectorRegistry()
        now.register(_Now(kpis, health))
        return generate_latest(counted) + generate_latest(now)


class _Now:
    """What is so at this moment, as a collector."""

    def __init__(self, kpis: Kpis | None, health: Health) -> None:
        self._kpis = kpis
        self._health = health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        kpis = self._kpis
        if kpis is None:
            yield GaugeMetricFamily("agentmem_healthy", _GAUGES["agentmem_healthy"][0], 0)
            return
        for name, (text, of) in _GAUGES.items():
            value = of(kpis, self._health)
            if value is not None:
                yield GaugeMetricFamily(name, text, float(value))
        for name, (text, share) in _SHARES.items():
            value = share(kpis)
            if value is not None:
                yield GaugeMetricFamily(name, text, float(value))


def names() -> list[str]:
    """Every series' name, for those who make dashboards of them."""
    counted = ("agentmem_calls_total", "agentmem_failures_total", "agentmem_refused_total")
    return sorted(
        [*counted, *(f"agentmem_call_seconds_{part}" for part in ("bucket", "count", "sum")), *_GAUGES, *_SHARES]
    )
