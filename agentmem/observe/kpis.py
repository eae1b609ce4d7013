"""The key figures of a store: see ``Memory.kpis``."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.engine.engine import Engine
from agentmem.engine.metering import SEARCH, Meter
from agentmem.operations import stats
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType, Pressure
from agentmem.types.reports import Kpis, Latency

_LOOKED_AT = 10_000
"""Changes among which promotions are counted: some milliseconds."""
_HOUR: Micros = 3_600 * 1_000_000


def kpis(engine: Engine) -> Kpis:
    """The figures as of now."""
    engine.check()
    meter, layers = engine.meter, stats.layer_stats(engine)
    calls, window = meter.recent()
    cache, health = engine.cache.usage(), stats.health(engine)
    commits = [seconds for ended, seconds in list(engine.commits.taken) if ended >= meter.now() - window]
    asked = cache["hits"] + cache["misses"]
    searches = sum(call.operation == SEARCH for call in meter.calls)
    fullest = max(layers.values(), key=lambda layer: layer.bytes / layer.limit)
    return Kpis(
        total_size=sum(stats.sizes(engine).values()),
        usage_percent=100 * fullest.bytes / fullest.limit,
        pressure=max((layer.pressure for layer in layers.values()), key=list(Pressure).index),
        fragmentation_percent=_fragmentation(engine),
        search_latency=latency([call.seconds for call in calls if call.operation == SEARCH]),
        commit_latency=latency(commits),
        qps=len(calls) / window,
        cache_hit_rate=cache["hits"] / asked if asked else None,
        promotion_rate=float(_promotions(engine)),
        error_rate=sum(call.failed for call in calls) / len(calls) if calls else 0.0,
        fallback_rate=min(1.0, health.engine_fallbacks / searches) if searches else 0.0,
        recovery_time_s=meter.outages[-1].until - meter.outages[-1].since if meter.outages else None,
        uptime_percent=100 * (1 - _down(meter) / max(meter.now() - meter.opened_at, 1e-3)),
        records=sum(layer.records for layer in layers.values()),
        window_s=window,
    )


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles of what calls took, each one that was measured."""
    taken = sorted(1_000 * one for one in seconds)
    if not taken:
        return Latency(None, None, None, 0)
    p50, p95, p99 = (taken[min(len(taken) - 1, int(share * len(taken)))] for share in (0.5, 0.95, 0.99))
    return Latency(p50, p95, p99, len(taken))


def _fragmentation(engine: Engine) -> float:
    db = engine.repository.db
    pages, free = (int(str(db.execute(f"PRAGMA {name}")[0][0])) for name in ("page_count", "freelist_count"))
    return 100 * free / pages if pages else 0.0


def _promotions(engine: Engine) -> int:
    found = engine.repository.db.execute(
        "SELECT count(*) FROM (SELECT event, at FROM history ORDER BY seq DESC LIMIT ?) WHERE event = ? AND at >= ?",
        (_LOOKED_AT, EventType.PROMOTE.value, engine.now() - _HOUR),
    )
    return int(str(found[0][0]))


def _down(meter: Meter) -> float:
    """Seconds in which reading or writing failed."""
    spans = [(one.since, one.until) for one in list(meter.outages)]
    spans += [(since, meter.now()) for since in list(meter.failing.values())]
    total, reached = 0.0, meter.opened_at
    for since, until in sorted(spans):
        total += max(0.0, until - max(since, reached))
        reached = max(reached, until)
    return total
