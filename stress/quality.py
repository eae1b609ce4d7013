"""``quality``: how much of what a question needs is found, on conversations with known evidence."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.table import Table

from agentmem import Settings
from stress.conversations import DATASETS, Conversation, Question, load
from stress.options import Embedder, Json
from stress.outcome import Outcome, console, plain
from stress.store import fresh_folder, opened, progress

CUTS = (5, 10, 20)
BATCH = 500


@dataclass(frozen=True)
class Way:
    """One way of searching: settings that differ from the defaults, and the mode."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    mode: str = "hybrid"


DEFAULT = Way("default")
MODES = (Way("vector only", mode="vector"), Way("keywords only", mode="keyword"))
WITHOUT = tuple(
    Way(f"without {name}", changes)
    for name, changes in {
        "meaning": {"vector_weight": 0.0},
        "neighbours": {"neighbours": 0},
        "similar words": {"similar_words": False},
        "stop words": {"stop_words": False},
        "weighing questions": {"weigh_questions": False},
        "dates": {"question_dates": False},
        "typos": {"mend_typos": False},
    }.items()
)
PLAIN = {
    "neighbours": 0, "similar_words": False, "stop_words": False, "weigh_questions": False, "question_dates": False,
    "mend_typos": False,
}  # fmt: skip
NOTHING = Way("without all of them", PLAIN)
GRID = tuple(
    Way(f"vector {weight}, neighbours {steps}", {"vector_weight": weight, "neighbours": steps})
    for weight in (0.2, 0.3, 0.4, 0.5)
    for steps in (2, 4, 6)
)
"""What ``--leave-one-out`` chooses from, for each conversation by the other ones."""


@dataclass
class Scored:
    """The answers of one way, question by question."""

    way: Way
    user: list[str] = field(default_factory=list)
    category: list[str] = field(default_factory=list)
    recall: list[list[float]] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def add(self, conversation: Conversation, question: Question, found: Sequence[str], seconds: float) -> None:
        self.user.append(conversation.user)
        self.category.append(question.category)
        self.recall.append([_recall(found, question.evidence, cut) for cut in CUTS])
        self.ndcg.append(_ndcg(found, question.evidence, 10))
        self.milliseconds.append(seconds * 1_000)

    def summary(self, wanted: Callable[[int], bool] = lambda index: True) -> dict[str, Any]:
        chosen = [index for index in range(len(self.recall)) if wanted(index)]
        times = sorted(self.milliseconds[index] for index in chosen)
        result: dict[str, Any] = {"questions": len(chosen)}
        for place, cut in enumerate(CUTS):
            shares = [self.recall[index][place] for index in chosen]
            result[f"recall@{cut}"] = round(fmean(shares), 4)
            result[f"all@{cut}"] = round(fmean(share == 1 for share in shares), 4)
        result["ndcg@10"] = round(fmean(self.ndcg[index] for index in chosen), 4)
        result["p50_ms"] = round(times[len(times) // 2], 3)
        result["p95_ms"] = round(times[int(len(times) * 0.95)], 3)
        return result

    def to_dict(self) -> dict[str, Any]:
        return {
            "way": self.way.name,
            "mode": self.way.mode,
            "settings": self.way.changes,
            **self.summary(),
            "categories": {
                name: self.summary(lambda index, name=name: self.category[index] == name)
                for name in sorted(set(self.category))
            },
            "conversations": {
                name: self.summary(lambda index, name=name: self.user[index] == name)
                for name in dict.fromkeys(self.user)
            },
        }


def quality(
    path: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The data set's file, as it is published.")],
    dataset: Annotated[str, typer.Option(help=f"Its format: {' or '.join(DATASETS)}.")] = "locomo",
    compare: Annotated[bool, typer.Option("--compare", help="Other modes too, and each ingredient left out.")] = False,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Also tune two settings, for each conversation on the others.")
    ] = False,
    conversations: Annotated[int, typer.Option(min=1, help="Use the first ones only.")] = 1_000_000,
    embedder: Embedder = None,
    store: Annotated[Path | None, typer.Option(help="Folder for the store, empty or new.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of recall against latency to this SVG file.")] = None,
    json: Json = None,
) -> None:
    """Add conversations, ask what is asked about them, and see which share of the evidence is found."""
    outcome = Outcome("quality", plain(locals()))
    loaded = load(dataset, path)[:conversations]
    ways = [DEFAULT, *MODES, *WITHOUT, NOTHING] if compare else [DEFAULT]
    grid = GRID if leave_one_out else ()
    with fresh_folder(store) as folder:
        add_all(folder, embedder, loaded, outcome)
        results, tried = [], []
        with progress("quality", len(ways) + len(grid)) as ticker:
            for done, way in enumerate((*ways, *grid)):
                ticker.at(done, way.name)
                (results if done < len(ways) else tried).append(_ask(folder, embedder, loaded, way, outcome))
    outcome.notes["ways"] = [one.to_dict() for one in results]
    if tried:
        outcome.notes["leave_one_out"] = _held_out(tried, [one.user for one in loaded])
    _show(outcome.notes)
    if plot is not None:
        plot.write_text(_plot(outcome.notes["ways"]), encoding="utf-8")
    outcome.finish(json)


def add_all(folder: Path, embedder: str | None, loaded: Sequence[Conversation], outcome: Outcome) -> None:
    figure = outcome.figure("add")
    start = time.perf_counter()
    with opened(folder, embedder) as memory:
        for one in loaded:
            for first in range(0, len(one.turns), BATCH):
                turns = one.turns[first : first + BATCH]
                items = [
                    {
                        "content": turn.content, "run_id": turn.run, "occurred_at": turn.when, "role": turn.role,
                        "layer": "assets", "metadata": {"turn": turn.name},
                    }
                    for turn in turns
                ]  # fmt: skip
                with figure.timed(len(turns)):
                    memory.add_many(items, user_id=one.user, dedupe=False)
        figure.seconds = time.perf_counter() - start
        outcome.measure_store(memory, folder)


def _ask(folder: Path, embedder: str | None, loaded: Sequence[Conversation], way: Way, outcome: Outcome) -> Scored:
    scored, figure = Scored(way), outcome.figure(way.name)
    settings = Settings(query_cache_size=0, retrieval=way.changes)
    with opened(folder, embedder, settings) as memory:
        for one in loaded:
            memory.search("warm up", user_id=one.user, mode=way.mode)  # loads what is kept of this user in memory
            for question in one.questions:
                start = time.perf_counter()
                hits = memory.search(question.text, user_id=one.user, limit=max(CUTS), mode=way.mode)
                spent = time.perf_counter() - start
                figure.record(spent)
                figure.seconds += spent
                outcome.checks.cross_scope += sum(hit.record.user_id != one.user for hit in hits)
                scored.add(one, question, [hit.record.metadata["turn"] for hit in hits], spent)
    return scored


def _recall(found: Sequence[str], evidence: frozenset[str], cut: int) -> float:
    return len(evidence.intersection(found[:cut])) / len(evidence)


def _ndcg(found: Sequence[str], evidence: frozenset[str], cut: int) -> float:
    """Normalised discounted cumulative gain with binary relevance (Järvelin and Kekäläinen, 2002)."""
    gain = sum(1 / math.log2(place + 2) for place, name in enumerate(found[:cut]) if name in evidence)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(cut, len(evidence))))


def _held_out(tried: Sequence[Scored], users: Sequence[str]) -> dict[str, Any]:
    """For each conversation the way that is best on the other ones, and what it finds on this one."""
    total = [0.0] * len(CUTS)
    chosen, count = {}, 0
    for user in users:

        def on_others(one: Scored, user: str = user) -> float:
            rows = [sum(row) for row, whose in zip(one.recall, one.user, strict=True) if whose != user]
            return fmean(rows) if rows else 0.0

        best = max(tried, key=on_others)
        chosen[user] = best.way.name
        for row, whose in zip(best.recall, best.user, strict=True):
            if whose == user:
                total = [one + other for one, other in zip(total, row, strict=True)]
                count += 1
    return {
        "chosen": chosen,
        **{f"recall@{cut}": round(sum_ / count, 4) for cut, sum_ in zip(CUTS, total, strict=True)},
    }


def _show(notes: dict[str, Any]) -> None:
    columns = [*(f"recall@{cut}" for cut in CUTS), "ndcg@10", *(f"all@{cut}" for cut in CUTS), "p50_ms", "p95_ms"]
    table = Table(title="evidence found", title_justify="left")
    for position, name in enumerate(["", "questions", *columns]):
        table.add_column(name.replace("_", " "), justify="right" if position else "left", no_wrap=True)

    def row(name: str, one: dict[str, Any]) -> None:
        table.add_row(name, str(one["questions"]), *(f"{one[column]:.3f}" for column in columns))

    for way in notes["ways"]:
        row(way["way"], way)
    for kind, prefix in (("categories", "category "), ("conversations", "")):
        table.add_section()
        if len(notes["ways"][0][kind]) <= 20:
            for name, one in notes["ways"][0][kind].items():
                row(f"default, {prefix}{name}", one)
    console.print(table)
    if "leave_one_out" in notes:
        found = notes["leave_one_out"]
        shares = "/".join(f"{found[f'recall@{cut}']:.3f}" for cut in CUTS)
        console.print(f"leave one conversation out: recall@{'/'.join(map(str, CUTS))} {shares}", markup=False)


def _plot(ways: Sequence[dict[str, Any]]) -> str:
    import pygal

    chart = pygal.XY(
        title="recall@10 against milliseconds per query (median)", width=800, height=500, stroke=False, js=(),
        x_title="milliseconds", disable_xml_declaration=True, dots_size=5, legend_at_bottom=True,
    )  # fmt: skip
    for way in ways:
        chart.add(way["way"], [(way["p50_ms"], way["recall@10"])])
    return re.sub(r"<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)
