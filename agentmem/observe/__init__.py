"""Watching over a store: key figures, alerts and who is told of them, metrics and traces for what others collect.

What belongs here: whatever looks at a store and changes nothing of it. What does not: what the figures are of, which
counts for itself (``engine/metering.py``, the reports). ``kpis.py`` reads them, for ``Memory.kpis``; ``monitor.py``
compares them with thresholds; the rest says what it finds, to others' programs. prometheus-client and OpenTelemetry are
imported in a file each, when that is asked for.

Public: ``HealthMonitor`` and what is exported here. May import ``operations``, ``engine`` and below; of a client it
knows what it asks (``monitor.Watched``).
"""
