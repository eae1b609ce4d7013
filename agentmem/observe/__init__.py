"""Watching over a store: key figures, alerts and who is told of them, metrics and traces for what others collect.

What belongs here: whatever looks at a store and changes nothing of it. What does not: what the figures are of, which
counts for itself (``engine/metering.py``, the reports). ``kpis.py`` reads them, for ``Memory.kpis``; ``monitor.py``
compares them with thresholds; the rest says what it finds, to others' programs. prometheus-client and OpenTelemetry are
imported in a file each, when that is asked for.

Public: what is exported here. May import ``operations``, ``engine`` and below; of a client it
knows what it asks (``monitor.Watched``).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentmem.observe.alerts import Alert, Level, Threshold, Thresholds
    from agentmem.observe.monitor import HealthMonitor
    from agentmem.observe.notify import Command, Webhook, to_log

_HOMES = {
    "Alert": "alerts",
    "Command": "notify",
    "HealthMonitor": "monitor",
    "Level": "alerts",
    "Threshold": "alerts",
    "Thresholds": "alerts",
    "Webhook": "notify",
    "to_log": "notify",
}

__all__ = ["Alert", "Command", "HealthMonitor", "Level", "Threshold", "Thresholds", "Webhook", "to_log"]


def __getattr__(name: str) -> object:
    # On first use: ``Memory.kpis`` needs none of it.
    if name in _HOMES:
        return getattr(import_module(f"agentmem.observe.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
