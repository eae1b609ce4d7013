"""``context``: which of the evidence a prompt has room for, beside the plain ranking cut at as many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.table import Table

from agentmem import Memory, SearchResults, Settings
from stress.conversations import DATASETS, Conversation, Turn, load
from stress.options import Embedder, Json
from stress.outcome import Outcome, console, plain
from stress.quality import add_all
from stress.store import fresh_folder, opened, progress

BUDGETS = (250, 500, 1_000, 2_000)
RANKED = 300
"""Hits that are more than fill the largest budget."""


def context(
    path: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The data set's file, as it is published.")],
    dataset: Annotated[str, typer.Option(help=f"Its format: {' or '.join(DATASETS)}.")] = "locomo",
    conversations: Annotated[int, typer.Option(min=1, help="Use the first ones only.")] = 1_000_000,
    embedder: Embedder = None,
    json: Json = None,
) -> None:
    """Add conversations, ask what is asked about them, and see which share of the evidence a prompt has room for.

    A token is three bytes. The ranking cut are the texts alone, best first, up to the first one that does not fit.
    """
    outcome = Outcome("context", plain(locals()))
    loaded = load(dataset, path)[:conversations]
    shares: dict[str, list[list[float]]] = {"context": [], "ranking cut": []}
    with fresh_folder(None) as folder:
        add_all(folder, embedder, loaded, outcome)
        with (
            opened(folder, embedder, Settings(query_cache_size=0)) as memory,
            progress("context", len(loaded)) as ticker,
        ):
            for done, one in enumerate(loaded):
                ticker.at(done, one.user)
                _ask(memory, one, shares)
    found = {name: [round(fmean(column), 4) for column in zip(*rows, strict=True)] for name, rows in shares.items()}
    outcome.notes["evidence"] = {name: dict(zip(BUDGETS, row, strict=True)) for name, row in found.items()}
    table = Table(title="evidence within a budget of tokens", title_justify="left")
    for column in ("", *(f"{budget:,}" for budget in BUDGETS)):
        table.add_column(column, justify="right" if column else "left")
    for name, row in found.items():
        table.add_row(name, *(f"{share:.4f}" for share in row))
    console.print(table)
    outcome.finish(json)


def _ask(memory: Memory, one: Conversation, shares: dict[str, list[list[float]]]) -> None:
    turns = {turn.name: turn for turn in one.turns}
    for question in one.questions:
        hits = memory.search(question.text, user_id=one.user, limit=RANKED)
        evidence = [turns[name] for name in question.evidence if name in turns]
        cut, shown = list[float](), list[float]()
        for budget in BUDGETS:
            cut.append(len(question.evidence.intersection(_cut(hits, budget))) / len(question.evidence))
            text = memory.context(question.text, max_tokens=budget, user_id=one.user)
            shown.append(_shown(text, evidence) / len(question.evidence))
        shares["ranking cut"].append(cut)
        shares["context"].append(shown)


def _cut(hits: SearchResults, budget: int) -> list[str]:
    names, room = list[str](), 3 * budget
    for hit in hits:
        room -= len(hit.content.encode()) + bool(names)
        if room < 0:
            break
        names.append(hit.record.metadata["turn"])
    return names


def _shown(text: str, evidence: Sequence[Turn]) -> int:
    """How many of the turns are in the text: by their first lines, which stand whole in one of its lines."""
    lines = {line.removeprefix("- ").strip('"') for line in text.splitlines()}
    firsts = (turn.content.strip().splitlines()[0].strip('"') for turn in evidence)
    return sum(first in lines or any(line.endswith(f": {first}") for line in lines) for first in firsts)
