"""``languages``: how often a question finds its memory, in many languages, scripts and spellings."""

# ruff: noqa: RUF001
from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from agentmem import Memory, Settings
from stress.options import Embedder, Json
from stress.outcome import Outcome, console, plain
from stress.store import fresh_folder, opened

DATA = Path(__file__).with_name("languages.txt")
CUTS = (1, 5)
TYPINGS = ("as written", "in a hurry")
MODES = ("keyword", "hybrid")
_NO_MARKS = str.maketrans({"ı": "i", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "¿": ""})
_KEPT = ("COMBINING KATAKANA-HIRAGANA", "THAI", "DEVANAGARI", "TAMIL")
"""Marks without which a word is another one, and that nobody leaves out."""


class Asked(NamedTuple):
    group: str
    question: str
    memory: str


def languages(
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Memories and questions.")] = DATA,
    embedder: Embedder = None,
    json: Json = None,
) -> None:
    """Add memories in many languages to one user's, and ask for each: by keywords and by default."""
    outcome = Outcome("languages", plain(locals()))
    memories, questions = load(file)
    with fresh_folder(None) as folder, opened(folder, embedder, Settings(query_cache_size=0)) as memory:
        with outcome.figure("add").timed(len(memories)):
            memory.add_many(memories, user_id="polyglot")
        found = {
            (typing, mode): [_place(memory, typed(one.question, typing), one.memory, mode) for one in questions]
            for typing in TYPINGS
            for mode in MODES
        }
    outcome.notes["groups"] = {
        group: {
            f"{mode}, {typing}": _shares(
                [place for one, place in zip(questions, places, strict=True) if one.group == group]
            )
            for (typing, mode), places in found.items()
        }
        for group in dict.fromkeys(one.group for one in questions)
    }
    _show(outcome.notes["groups"], questions)
    outcome.finish(json)


def load(file: Path) -> tuple[list[str], list[Asked]]:
    """The memories of a file, and its questions."""
    memories, questions, group = list[str](), list[Asked](), ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            group = line[3:]
        elif line.startswith("? "):
            questions.append(Asked(group, line[2:], memories[-1]))
        elif line and not line.startswith("#"):
            memories.append(line)
    return memories, questions


def typed(question: str, typing: str) -> str:
    """A question as somebody types it: in a hurry, without accents and points."""
    return question if typing == "as written" else "".join(_without_marks(question))


def _without_marks(text: str) -> Iterator[str]:
    for char in text.translate(_NO_MARKS):
        if unicodedata.name(char, "").startswith("HANGUL"):
            yield char
            continue
        parts = unicodedata.normalize("NFD", char)
        kept = [part for part in parts if not unicodedata.combining(part) or unicodedata.name(part).startswith(_KEPT)]
        yield char if char in "йЙ" else unicodedata.normalize("NFC", "".join(kept))


def _place(memory: Memory, question: str, wanted: str, mode: Any) -> int | None:
    hits = memory.search(question, user_id="polyglot", limit=max(CUTS), mode=mode)
    contents = [hit.content for hit in hits]
    return contents.index(wanted) if wanted in contents else None


def _shares(places: Sequence[int | None]) -> dict[str, float]:
    shares = {f"@{cut}": fmean(place is not None and place < cut for place in places) for cut in CUTS}
    return {"questions": len(places), **{name: round(share, 4) for name, share in shares.items()}}


def _show(groups: dict[str, Any], questions: Sequence[Asked]) -> None:
    columns = list(next(iter(groups.values())))
    table = Table(title="memories found among the first and the first five", title_justify="left")
    for position, name in enumerate(["", "questions", *columns]):
        table.add_column(name, justify="right" if position else "left")
    for group, found in groups.items():
        count = str(sum(one.group == group for one in questions))
        table.add_row(group, count, *(f"{found[name]['@1']:.2f} {found[name]['@5']:.2f}" for name in columns))
    console.print(table)
