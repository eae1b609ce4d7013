"""``report``: the JSON files of runs as one HTML page with plots, complete in itself: no script, nothing to fetch."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; }
td + td, th + th { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } .plots > div { flex: 1 1 30rem; }
.bad { color: #b00; } .good { color: #070; } dt { float: left; clear: left; width: 14rem; }
"""
_QUANTILES = ("p50_ms", "p95_ms", "p99_ms", "p999_ms")
_DRAWN = ("peers", "engines", "budgets", "week", "faults")
"""Notes that have plots of their own."""
_TIERS = ("hot", "warm")
_SAMPLED = ("ops_per_second", "rss_mb", "disk_mb", "files", "vectors_behind")


def report(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="What --json wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("stress.html"),
) -> None:
    """One page with tables and plots from the JSON files of runs."""
    runs = [(file.name, _read(file)) for file in files]
    body = "\n".join(_section(name, run) for name, run in runs)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>agentmem stress tests</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>agentmem stress tests</h1>\n{body}\n</body></html>\n"
    )
    output.write_text(page, encoding="utf-8")
    typer.echo(f"{output}: {len(runs)} runs")


def _read(file: Path) -> dict[str, Any]:
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise typer.BadParameter(f"{file} is not JSON: {exc}") from exc
    if not isinstance(run, dict) or "figures" not in run:
        raise typer.BadParameter(f"{file} was not written by --json")
    return run


def _section(name: str, run: dict[str, Any]) -> str:
    verdict = '<span class="good">ok</span>' if run["ok"] else '<span class="bad">failed</span>'
    machine = run["machine"]
    parts = [
        f"<h2>{html.escape(run['command'])} <small>{html.escape(name)}</small> {verdict}</h2>",
        f"<p>{run['started']}, {machine['cores']} cores, Python {machine['python']}, load {machine['load']}</p>",
    ]
    peers = run["notes"].get("peers")
    if peers:
        parts.append(_peers(peers))
    if run["figures"]:
        parts += [_figures(run["figures"]), _plots(*_figure_plots(run["figures"]))]
    if run["limits"]:
        parts += ["<h3>Beside what each part reaches alone</h3>", _limits(run["limits"])]
    if "engines" in run["notes"]:
        parts.append(_tiers(run["notes"]))
    if run["notes"].get("faults"):
        parts.append(_plots(_faults(run["notes"]["faults"])))
    if run["samples"]:
        parts.append(_plots(*(_line(key, run["samples"]) for key in _SAMPLED)))
    parts.append(_list(run))
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(_text(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(header, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _figures(figures: list[dict[str, Any]]) -> str:
    keys = ("name", "operations", "ops_per_second", *_QUANTILES)
    return _table([key.replace("_", " ") for key in keys], [[one[key] for key in keys] for one in figures])


def _limits(limits: list[dict[str, Any]]) -> str:
    ways = sorted({way for limit in limits for way in limit["ratios"]})
    rows = [[one["name"], one["per_second"], *(one["ratios"].get(way, "") for way in ways)] for one in limits]
    return _table(["alone", "per second", *(f"{way} ÷ it" for way in ways)], rows)


def _list(run: dict[str, Any]) -> str:
    values = {**run["options"], **run["resources"], **run["checks"], **run["errors"]}
    values |= {name: value for name, value in run["notes"].items() if name not in _DRAWN}
    rows = "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt><dd>{html.escape(_text(value))}</dd>"
        for name, value in values.items()
        if value is not None
    )
    return f"<details><summary>Options, resources, checks</summary><dl>{rows}</dl></details>"


def _peers(peers: dict[str, dict[str, Any]]) -> str:
    measured = {name: one for name, one in peers.items() if "figures" in one}
    missing = "".join(
        f"<p>{html.escape(name)}: {html.escape(one['unavailable'])}</p>"
        for name, one in peers.items()
        if "unavailable" in one
    )
    rows, speeds, waits = [], {}, {}
    for name, one in measured.items():
        figures = {figure["name"]: figure for figure in one["figures"]}
        single, batch, search = figures["single add"], figures["batch add"], figures["scoped search"]
        rows.append(
            [f"{name} {one['version']}", single["ops_per_second"], batch["ops_per_second"], search["p50_ms"],
             search["p99_ms"], one["checks"]["recall"], one["checks"]["short"]]
        )  # fmt: skip
        speeds[name] = [single["ops_per_second"], batch["ops_per_second"]]
        waits[name] = [search["p50_ms"], search["p99_ms"]]
    header = ["library", "single add/s", "batch add/s", "search p50 ms", "search p99 ms", "recall", "short"]
    plots = _plots(
        _bars("operations per second", ["single add", "batch add"], speeds),
        _bars("scoped search, milliseconds", ["p50", "p99"], waits),
    )
    return _table(header, rows) + missing + (plots if measured else "")


def _tiers(notes: dict[str, Any]) -> str:
    engines, budgets, hours = notes["engines"], notes["budgets"], notes["week"]
    cost = ["engine", "hits", "p50 ms", "recall", "MB", "bytes a record"]
    rows = [[one[key] for key in ("name", "hits", "p50_ms", "recall", "mb", "bytes_a_record")] for one in engines]
    room = ["budget", "MB above none", "at its peak", "hot", "warm", "p50 ms", "recall", "hot or warm hits", "missed"]
    keys = ("name", "above_mb", "peak_above_mb", "hot", "warm", "p50_ms", "recall", "held_hits", "held_missed")
    named = dict.fromkeys(one["engine"] for one in engines)
    found = {name: [(one["p50_ms"], one["recall"]) for one in engines if one["engine"] == name] for name in named}
    sizes = {name: [(one["mb"], one["recall"]) for one in engines if one["engine"] == name] for name in named}
    held = {
        name: [(one["budget_mb"], one["above_mb"]) for one in budgets if one["engine"] == name]
        for name in dict.fromkeys(one["engine"] for one in budgets)
    }
    plots = _plots(
        _points("recall by milliseconds", "p50 of a search, ms", found),
        _points("recall by memory", "MB", sizes),
        _points("MB above a process without tiers", "MB for warm records", held, stroke=True),
        _points("records by tier", "hour", {n: [(h["hour"], h[n]) for h in hours] for n in _TIERS}, stroke=True),
        _points(
            "share of hits", "hour", {n: [(h["hour"], h[f"{n}_share"]) for h in hours] for n in _TIERS}, stroke=True
        ),
    )
    return _table(cost, rows) + _table(room, [[one[key] for key in keys] for one in budgets]) + plots


def _points(title: str, x_title: str, series: dict[str, list[tuple[float, float]]], *, stroke: bool = False) -> str:
    import pygal

    chart = pygal.XY(**_look(title), stroke=stroke, x_title=x_title, dots_size=1 if stroke else 4)
    chart.config.print_values = False
    for name, values in series.items():
        chart.add(name, values)
    return _svg(chart)


def _faults(faults: list[dict[str, Any]]) -> str:
    """How long the shards that each fault hit were away, by when it was."""
    kinds = dict.fromkeys(one["kind"] for one in faults)
    away = {
        f"{kind} killed" if kind != "pause" else "actor stopped": [
            (one["seconds"], back) for one in faults if one["kind"] == kind for back in one["back_s"]
        ]
        for kind in kinds
    }
    return _points("seconds until each shard answered again", "second of the run", away)


def _figure_plots(figures: list[dict[str, Any]]) -> list[str]:
    names = [one["name"] for one in figures]
    speed = _bars("operations per second", names, {"ops/s": [one["ops_per_second"] for one in figures]})
    waits = {key.replace("_ms", ""): [one[key] for one in figures] for key in _QUANTILES}
    return [speed, _bars("milliseconds per call", names, waits)]


def _bars(title: str, labels: Sequence[str], series: dict[str, list[float]]) -> str:
    """Bars on a logarithmic scale: figures of one run lie far apart."""
    import pygal

    chart = pygal.Bar(**_look(title), logarithmic=True, x_label_rotation=20)
    chart.x_labels = list(labels)
    for name, values in series.items():
        chart.add(name, [value or None for value in values])
    return _svg(chart)


def _line(key: str, samples: list[dict[str, Any]]) -> str:
    import pygal

    chart = pygal.XY(**_look(key.replace("_", " ")), show_legend=False, x_title="seconds", dots_size=1)
    chart.config.print_values = False
    chart.add(key, [(sample["seconds"], sample[key]) for sample in samples])
    return _svg(chart)


def _svg(chart: Any) -> str:
    """The drawing without the script that pygal would animate it with."""
    return re.sub(r"<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)


def _look(title: str) -> dict[str, Any]:
    return {
        "title": title,
        "width": 640,
        "height": 380,
        "js": (),
        "print_values": True,
        "value_formatter": lambda value: f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}",
        "disable_xml_declaration": True,
        "legend_at_bottom": True,
    }


def _plots(*charts: str) -> str:
    return '<div class="plots">' + "".join(f"<div>{chart}</div>" for chart in charts) + "</div>"
