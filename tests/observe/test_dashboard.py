"""The dashboard for Grafana is that of today's metrics, and stands on its grid."""

from __future__ import annotations

import json
from itertools import combinations
from runpy import run_path

from conftest import ROOT

from agentmem.observe.prometheus import names


def test_it_is_current_and_asks_for_what_there_is() -> None:
    made = run_path(str(ROOT / "tools" / "make_dashboard.py"))
    written = (ROOT / "docs" / "grafana.json").read_text(encoding="utf-8")
    assert written == made["text"](), "docs/grafana.json is out of date; run: python tools/make_dashboard.py"
    dashboard = json.loads(written)
    assert made["series"](dashboard) == set(names())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        for query in panel["targets"]:
            expression = query["expr"]
            assert all(expression.count(a) == expression.count(b) for a, b in ("()", "[]", "{}"))
            assert expression.count('"') % 2 == 0
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart
