"""Makes ``docs/grafana.json``, a dashboard for Grafana, of the names of the metrics.

``python tools/make_dashboard.py``; it needs the extra ``prometheus``. A panel that asks for a series that does not
exist is refused, and so is a series that no panel shows.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentmem.observe.prometheus import names

FILE = Path(__file__).resolve().parent.parent / "docs" / "grafana.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH = 24
_SERIES = re.compile(r"\bagentmem_\w+")


@dataclass(frozen=True)
class Panel:
    """One panel: what it is called, in which unit, and its queries by their legends."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    steps: tuple[float, float] | None = None
    """From where on it is yellow, and red."""


def quantile(share: float) -> str:
    rate = 'sum by (le) (rate(agentmem_call_seconds_bucket{operation="search", instance=~"$instance"}[5m]))'
    return f"histogram_quantile({share}, {rate})"


def now(name: str) -> str:
    """The value of a series that all workers tell alike."""
    return f'max(agentmem_{name}{{instance=~"$instance"}})'


def rate(name: str, by: str = "operation") -> str:
    return f'sum by ({by}) (rate(agentmem_{name}{{instance=~"$instance"}}[5m]))'


PANELS = (
    Panel("Healthy", "bool_yes_no", {"healthy": now("healthy")}, "stat", 4, 4),
    Panel("Usage of the fullest layer", "percent", {"usage": now("usage_percent")}, "gauge", 4, 4, (60, 85)),
    Panel("Pressure (0 low, 2 high)", "none", {"pressure": now("pressure")}, "stat", 4, 4, (1, 2)),
    Panel("Memories", "short", {"memories": now("records")}, "stat", 4, 4),
    Panel("Uptime", "percent", {"uptime": now("uptime_percent")}, "stat", 4, 4),
    Panel("Last outage", "s", {"outage": now("recovery_seconds")}, "stat", 4, 4),
    Panel("Search latency", "s",
          {f"p{share * 100:g}": quantile(share) for share in (0.5, 0.95, 0.99)}, steps=(0.1, 0.5)),
    Panel("Calls a second", "ops", {"{{operation}}": rate("calls_total")}),
    Panel("Mean time of a call", "s",
          {"{{operation}}": f"{rate('call_seconds_sum')} / {rate('call_seconds_count')}"}),
    Panel("Failures a second", "ops", {"failed {{operation}}": rate("failures_total")}),
    Panel("Refused a second", "ops", {"refused {{operation}}": rate("refused_total")}),
    Panel("Answered otherwise", "percentunit",
          {"query cache": now("cache_hit_ratio"), "fell back to codes": now("fallback_ratio")}),
    Panel("Size on disk", "bytes", {"size": now("size_bytes")}),
    Panel("Free pages of the database", "percent", {"fragmentation": now("fragmentation_percent")}, steps=(30, 60)),
    Panel("Promoted within an hour", "short", {"promotions": now("promotions_last_hour")}),
    Panel("LanceDB's lag", "short", {"changes": now("vectors_behind")}, width=12, steps=(20_000, 200_000)),
    Panel("Age of the last backup", "s", {"age": now("backup_age_seconds")}, width=6, steps=(3_600, 86_400)),
    Panel("Changes without a backup", "short", {"changes": now("backup_behind")}, width=6),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard. Raises ``ValueError`` where panels and series do not fit."""
    _check()
    panels, left, top, row = list[dict[str, Any]](), 0, 0, 0
    for number, panel in enumerate(PANELS, 1):
        if left + panel.width > WIDTH:
            left, top, row = 0, top + row, 0
        panels.append(_panel(panel, number, left, top))
        left, row = left + panel.width, max(row, panel.height)
    return {
        "title": "agentmem",
        "uid": "agentmem",
        "tags": ["agentmem"],
        "timezone": "browser",
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _instances()]},
        "panels": panels,
    }


def series(dashboard: dict[str, Any]) -> set[str]:
    """The series that a dashboard asks for."""
    return {
        name for panel in dashboard["panels"] for query in panel["targets"] for name in _SERIES.findall(query["expr"])
    }


def _check() -> None:
    asked = {name for panel in PANELS for query in panel.queries.values() for name in _SERIES.findall(query)}
    if unknown := asked - set(names()):
        raise ValueError(f"there are no such series: {', '.join(sorted(unknown))}")
    if unseen := set(names()) - asked:
        raise ValueError(f"no panel shows {', '.join(sorted(unseen))}")


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.steps is not None:
        steps += [{"color": color, "value": step} for color, step in zip(("yellow", "red"), panel.steps, strict=True)]
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            for at, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}


def _instances() -> dict[str, Any]:
    return {
        "name": "instance", "label": "Instance", "type": "query", "datasource": SOURCE, "refresh": 2, "multi": True,
        "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
        "query": {"query": "label_values(agentmem_healthy, instance)", "refId": "instances"},
    }  # fmt: skip


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{FILE}: {len(PANELS)} panels\n")
