"""Conversations with questions about them, from the published files of LoCoMo and LongMemEval."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer


@dataclass(frozen=True)
class Turn:
    """What becomes one memory. ``run`` is the session, ``name`` is unique in its conversation."""

    name: str
    run: str
    content: str
    when: datetime | None
    role: str | None = None


@dataclass(frozen=True)
class Question:
    """``evidence`` names the turns that hold the answer; at least one."""

    text: str
    evidence: frozenset[str]
    category: str


@dataclass
class Conversation:
    """One user's sessions, turns in order, and what is asked about them."""

    user: str
    turns: list[Turn] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def locomo(path: Path) -> list[Conversation]:
    """LoCoMo (Maharana et al., 2024): a turn is "Speaker: text"; questions without a turn as evidence are left out."""
    found = []
    for number, sample in enumerate(_read(path), 1):
        source, one = sample["conversation"], Conversation(f"conversation-{number}")
        sessions = (key for key in source if re.fullmatch(r"session_\d+", key))
        for key in sorted(sessions, key=lambda name: int(name.removeprefix("session_"))):
            when = _locomo_time(source.get(f"{key}_date_time"))
            one.turns += [Turn(turn["dia_id"], key, f"{turn['speaker']}: {turn['text']}", when) for turn in source[key]]
        known = {turn.name for turn in one.turns}
        for qa in sample["qa"]:
            named = {name for text in qa["evidence"] for name in re.findall(r"D\d+:\d+", text)} & known
            if named:
                one.questions.append(Question(qa["question"], frozenset(named), str(qa["category"])))
        found.append(one)
    return found


def longmemeval(path: Path) -> list[Conversation]:
    """LongMemEval (Wu et al., 2024): each question has a history of its own; evidence are the turns with the answer.

    Questions without such turns (those that cannot be answered) are left out.
    """
    found = []
    for item in _read(path):
        one = Conversation(str(item["question_id"]))
        evidence = set[str]()
        dates = item.get("haystack_dates") or [None] * len(item["haystack_sessions"])
        sessions = zip(item["haystack_session_ids"], dates, item["haystack_sessions"], strict=True)
        for place, (session, date, turns) in enumerate(sessions):
            for number, turn in enumerate(turns):
                if not turn["content"].strip():
                    continue
                name = f"{place}/{session}/{number}"
                run = f"{place}/{session}"
                one.turns.append(Turn(name, run, turn["content"], _longmemeval_time(date), turn.get("role")))
                if turn.get("has_answer"):
                    evidence.add(name)
        if evidence:
            one.questions.append(Question(item["question"], frozenset(evidence), item["question_type"]))
            found.append(one)
    return found


DATASETS: dict[str, Callable[[Path], list[Conversation]]] = {"locomo": locomo, "longmemeval": longmemeval}


def load(dataset: str, path: Path) -> list[Conversation]:
    """The conversations of a file. Raises ``typer.BadParameter`` for an unknown format or a file that is not in it."""
    if dataset not in DATASETS:
        raise typer.BadParameter(f"{dataset!r} is none of {', '.join(DATASETS)}", param_hint="--dataset")
    try:
        found = DATASETS[dataset](path)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        problem = f"{path} is not in the format of {dataset}: {type(exc).__name__}: {exc}"
        raise typer.BadParameter(problem, param_hint="--path") from exc
    if not any(one.questions for one in found):
        raise typer.BadParameter(f"{path} has no question with evidence", param_hint="--path")
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))


def _locomo_time(text: str | None) -> datetime | None:
    """ "1:56 pm on 8 May, 2023"."""
    return None if not text else datetime.strptime(text.strip(), "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


def _longmemeval_time(text: str | None) -> datetime | None:
    """ "2023/05/20 (Sat) 02:21"."""
    return None if not text else datetime.strptime(text.strip(), "%Y/%m/%d (%a) %H:%M").replace(tzinfo=UTC)
