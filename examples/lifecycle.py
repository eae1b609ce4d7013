"""A day, a season and a year of a chatbot's memory: what is kept, what moves up, what goes, as a table and a plot.

No time passes in the real world: the store is given a clock that this script moves by hand.

    python examples/lifecycle.py                    # prints the table and the plot
    python examples/lifecycle.py lifecycle.svg      # and draws the plot as an SVG file (needs pygal)
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta

from agentmem import ALL, Memory, Settings

NOW = datetime(2025, 1, 1, 8, tzinfo=UTC)
LAYERS = ("interact", "insights", "assets")
TOPICS = ["cello lessons", "peanut allergy", "sister in Ghent", "flat in Lisbon", "oat milk", "exam in June", "hiking"]
SMALL_TALK = ["the bus was late", "it rains again", "good morning", "thanks a lot", "never mind", "see you tomorrow"]
WATCHED = {1: "a day", 90: "a season", 365: "a year"}


def main() -> None:
    pick, clock = random.Random(1), [NOW]
    flow: Counter[str] = Counter()
    curve: list[dict[str, int]] = []
    rows: list[tuple[str, dict[str, int], dict[str, int]]] = []
    settings = Settings(lifecycle={"sweep_interval_s": 0})  # this script says when to sweep
    with tempfile.TemporaryDirectory() as folder, Memory(folder, settings=settings, clock=lambda: clock[0]) as memory:
        for day in range(1, 366):
            talk(memory, pick, clock, day)
            report = memory.lifecycle.sweep()
            flow.update(promoted=report.promoted, expired=report.expired, erased=report.erased)
            counts = memory.stats().by_layer
            curve.append({layer: counts[layer] for layer in LAYERS})
            if day in WATCHED:
                rows.append((WATCHED[day], curve[-1], dict(flow)))
        table(rows)
        plot(curve)
        explain(memory)
    if len(sys.argv) > 1:
        draw(curve, sys.argv[1])


def talk(memory: Memory, pick: random.Random, clock: list[datetime], day: int) -> None:
    """One day: small talk, something that matters, and questions about what mattered before."""
    begin = NOW + timedelta(days=day - 1)
    clock[0] = begin
    for n in range(4):
        memory.add({"role": "user", "content": f"{pick.choice(SMALL_TALK)} ({day}.{n})"}, user_id="ana")
    topic = TOPICS[day % len(TOPICS)]
    if day % 5 == 1:
        memory.add(f"Ana on her {topic}, note {day}", user_id="ana", kind="session_data")
    if day % 60 == 2:
        memory.add(f"Ana's birthday number {day} is on file", user_id="ana")  # a plain fact: kept at once
    # What matters is asked for several times on the day that it is said, and every few days after that.
    for hour in range(1, 24, 4):
        clock[0] = begin + timedelta(hours=hour)
        memory.search(f"Ana on her {topic}, note {day}", user_id="ana", limit=1)
        if day > 5 and hour == 5:
            earlier = pick.choice([back for back in range(1, day, 5) if day - back < 85])
            favourite = max(1, earlier - (earlier - 1) % 25)
            memory.search(f"Ana on her {TOPICS[favourite % len(TOPICS)]}, note {favourite}", user_id="ana", limit=1)
    clock[0] = begin + timedelta(hours=23, minutes=59)


def table(rows: list[tuple[str, dict[str, int], dict[str, int]]]) -> None:
    print(f"{'after':<10}" + "".join(f"{name:>10}" for name in (*LAYERS, "promoted", "expired", "erased")))
    for name, layers, moved in rows:
        figures = [layers[layer] for layer in LAYERS] + [moved[what] for what in ("promoted", "expired", "erased")]
        print(f"{name:<10}" + "".join(f"{figure:>10,}" for figure in figures))


def plot(curve: list[dict[str, int]]) -> None:
    """Live records per layer over the year, a column for every six days."""
    sampled = curve[::6]
    for layer in LAYERS:
        most = max(1, *(day[layer] for day in curve))
        bars = "".join(" ▁▂▃▄▅▆▇█"[min(8, -(-8 * day[layer] // most))] for day in sampled)
        print(f"{layer:>9} {bars} at most {most}")


def explain(memory: Memory) -> None:
    """Why the first of the kept insights is where it is, and what it lacks."""
    records = memory.page(user_id=ALL, layers=["insights"], limit=1).records
    if records:
        found = memory.lifecycle.explain(records[0].id)
        print(f"{records[0].content!r}: {found.because}")
        print(f"  for {found.target_layer} it lacks {', '.join(found.lacks) or 'nothing'}; due {found.due_at:%Y-%m-%d}")


def draw(curve: list[dict[str, int]], path: str) -> None:
    import pygal

    chart = pygal.StackedLine(fill=True, show_dots=False, title="Live memories per layer", x_title="day", js=[])
    for layer in LAYERS:
        chart.add(layer, [day[layer] for day in curve])
    chart.render_to_file(path)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
