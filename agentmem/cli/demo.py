"""``agentmem demo``: what the library does, on a small conversation, in a store that is gone afterwards."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from tempfile import TemporaryDirectory
from typing import Any

from rich.rule import Rule
from rich.text import Text

from agentmem import Memory, SearchHit, Settings
from agentmem.cli.table import console

BONUS = 0.1
"""How far age, importance and rating move a score; a part of the formula in docs/design.md."""
BEGAN = datetime(2026, 3, 9, 9, tzinfo=UTC)
"""The demo's clock starts here, the morning after the conversation, so that every run shows the same."""
QUESTIONS = (
    "Which food must she avoid?",
    "Why does she need an apartment without stairs?",
    "How should I teach her the language?",
    "What must happen before the pet can travel?",
    "booking QX4T9Z",
)
CHANGED = "Maya flies to Porto on Friday 27 March at 9:15, booking reference QX4T9Z."


def run_demo() -> None:
    """Remember, ask, keep apart, change, and show what would go into a prompt."""
    with TemporaryDirectory(prefix="agentmem-demo-") as folder:
        started = time.perf_counter()
        with Memory(folder, clock=lambda: BEGAN + timedelta(seconds=time.perf_counter() - started)) as memory:
            _Demo(memory).run()


def conversation() -> list[dict[str, Any]]:
    """The turns, in the order in which they were said."""
    text = files("agentmem.cli").joinpath("conversation.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


class _Demo:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._console = console()
        self._timings: list[tuple[str, float]] = []
        self._searches: list[float] = []

    def run(self) -> None:
        self._remember()
        self._ask()
        self._keep_apart()
        self._change()
        self._prompt()
        self._report()

    def _remember(self) -> None:
        turns = conversation()
        self._head("1. Remember")
        started = time.perf_counter()
        self._memory.warm_up()
        self._took("open a new store and load the embedding model", started)
        started = time.perf_counter()
        self._memory.add_many(turns)
        self._took(f"add {len(turns)} turns, durable on disk", started)
        of_maya = sum(turn["user_id"] == "maya" for turn in turns)
        self._say(f"{of_maya} turns of Maya, who is moving to Porto, and {len(turns) - of_maya} of Tom. Three of them:")
        for turn in (turns[2], turns[8], turns[17]):
            self._say(f"{turn['user_id'].title()}, {_day(turn['occurred_at'])}: {turn['content']}", "dim", 4, 2)

    def _ask(self) -> None:
        self._head("2. Ask about Maya, by meaning and by words")
        for question in QUESTIONS:
            self._say(f"? {question}", "bold")
            for hit in self._search(question, "maya", limit=2):
                self._hit(hit)
        meaning = Settings().retrieval.vector_weight
        self._say(
            f"score: {meaning:.0%} meaning, {1 - meaning:.0%} words; "
            f"age, importance and rating move it by at most {BONUS:.0%}",
            "dim",
        )

    def _keep_apart(self) -> None:
        self._head("3. One user's memories are not there for another")
        self._say("? When is the flight, and under which booking reference?     (asked for Tom)", "bold")
        hits = self._search("When is the flight, and under which booking reference?", "tom", limit=10)
        self._hit(hits[0])
        strangers = sum(hit.record.user_id != "tom" for hit in hits)
        self._say(f"All of Tom's {len(hits)} memories were ranked; {strangers} of Maya's {_are(strangers)} among them.")
        everyone = self._memory.search("QX4T9Z", user_id="tom", mode="keyword")
        self._say(f"By word, Tom's search for Maya's \"QX4T9Z\" finds {len(everyone) or 'nothing'}.")

    def _change(self) -> None:
        self._head("4. Change a fact; the history keeps what it said before")
        question = "When does she fly?"
        before = self._search(question, "maya", limit=1)[0]
        started = time.perf_counter()
        self._memory.update(before.id, content=CHANGED)
        self._took("update a fact", started)
        self._say(f"? {question}", "bold")
        self._hit(self._search(question, "maya", limit=1)[0])
        self._say("Its history:")
        for event in self._memory.history(before.id):
            earlier = f", it said: {event.data['content']}" if "content" in event.data else ""
            self._say(f"version {event.version}  {event.event.value}{earlier}", "dim", 4, 11)

    def _prompt(self) -> None:
        self._head("5. What would go into a prompt, within 120 tokens")
        started = time.perf_counter()
        text = self._memory.context(
            "What must I keep in mind for Maya's move to Porto?", max_tokens=120, user_id="maya"
        )
        self._took("context() for a prompt", started)
        for line in text.splitlines():
            self._say(line, "dim", 4, 2)

    def _report(self) -> None:
        self._head("Timings on this machine")
        mean = sum(self._searches) / len(self._searches)
        self._timings.insert(2, (f"search, mean of {len(self._searches)}", mean))
        for what, spent in self._timings:
            self._say(f"{spent * 1_000:8.1f} ms  {what}")
        self._console.print()
        self._say("The store was in a temporary folder and is gone. Your own: agentmem add 'something' --user me")

    def _search(self, query: str, user: str, limit: int) -> list[SearchHit]:
        started = time.perf_counter()
        hits = self._memory.search(query, user_id=user, limit=limit, explain=True)
        self._searches.append(time.perf_counter() - started)
        return hits

    def _took(self, what: str, started: float) -> None:
        self._timings.append((what, time.perf_counter() - started))

    def _head(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, "bold cyan"), align="left", style="cyan"))

    def _hit(self, hit: SearchHit) -> None:
        details, record = hit.details, hit.record
        if details is None:  # every search of the demo explains itself
            return
        said = f"{record.role or 'fact'}, {_day((record.occurred_at or record.created_at).isoformat())}"
        self._say(
            Text.assemble((f"{hit.score:.2f}  ", "green"), (f"{said}: ", "dim"), record.content), indent=4, hang=6
        )
        words = ", ".join(details.matched_terms) or "none"
        why = f"meaning {details.vector:.2f}, words {details.keyword:.2f} (stems in common: {words})"
        self._say(f"because {why}", "yellow", 10)

    def _say(self, text: str | Text, style: str = "", indent: int = 2, hang: int = 0) -> None:
        """Print wrapped; continued lines are indented by ``hang`` more."""
        shown = text if isinstance(text, Text) else Text(text, style)
        width = max(self._console.width - indent - hang, 20)
        for number, line in enumerate(shown.wrap(self._console, width) or [Text()]):
            line.rstrip()
            self._console.print(Text(" " * (indent + (hang if number else 0))) + line, soft_wrap=True)


def _day(at: str) -> str:
    when = datetime.fromisoformat(at)
    return f"{when:%a} {when.day} {when:%b}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
