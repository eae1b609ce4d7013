"""Consolidation under ``crash``: a child that draws facts from what somebody says, and what must be there after it.

It has a store of its own beside the one that is attacked, with a clock that is minutes ahead of that of the child
before: the lease of a killed process ends by time alone.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Embedder, Memory, Settings
from agentmem.ports import Reply

if TYPE_CHECKING:
    from stress.aftermath import Aftermath

USER, ROUND = "talker", 6
USED = 150
"""Tokens that each call is said to have come to."""
_LIKES = re.compile(r"likes (\w+) best")


class Drawing:
    """A model that draws one fact from each message, and notes each call of it in a file, which a kill leaves."""

    name = "drawing"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(f"{path}-asked")

    def complete(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, schema: Any, timeout: float) -> Reply:
        new = messages[-1]["content"].split("New messages:")[1]
        shown = [json.loads(line) for line in new.splitlines() if line]
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([each["text"] for each in shown]) + "\n")
        operations = [
            {"op": "ADD", "target": None, "text": f"Likes {found[1]}.", "subject": "user", "reason": "it was said",
             "evidence": [{"message": each["id"], "quote": found[0]}], "valid_from": None, "valid_to": None}
            for each in shown
            if (found := _LIKES.search(each["text"]))
        ]  # fmt: skip
        return Reply(json.dumps({"operations": operations}), USED - 50, 50)

    def asked(self) -> list[list[str]]:
        """The messages of each call so far."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]


def talk_of(path: str | Path) -> Path:
    """Where the store is that is talked to."""
    return Path(f"{path}-talk")


def _opened(path: str | Path, trial: float, embedder: Embedder) -> Memory:
    ahead = timedelta(seconds=300 * trial)
    chosen = Settings(consolidation={"batch_messages": 2, "max_run_tokens": None, "max_user_day_tokens": None})
    return Memory(talk_of(path), settings=chosen, embedder=embedder, clock=lambda: datetime.now(UTC) + ahead)


def talking(path: str, trial: int, embedder: Embedder) -> Callable[[random.Random], None]:
    """What a child does again and again: say something, draw facts from it, at once or as a draft, take some back."""
    memory = _opened(path, trial, embedder)
    model = Drawing(talk_of(path))

    def round(pick: random.Random) -> None:
        said = [{"role": "user", "content": f"Ana likes x{pick.randrange(10**12)} best"} for _ in range(ROUND)]
        memory.add_many(said, user_id=USER, layer="assets")
        consolidation = memory.consolidation(user_id=USER, model=model)
        draft = consolidation.run(dry_run=True, batches=1)
        done = consolidation.approve(run_id=draft.run_id)
        if done.added and pick.random() < 0.3:
            consolidation.revert(done.run_id)
        consolidation.run()

    return round


def check_talk(after: Aftermath, path: str | Path, trial: int, embedder: Embedder) -> None:
    """Each message was consolidated once, none was skipped, and nothing was paid for twice but what was in flight."""
    after.talks += 1
    found, model = after.found, Drawing(talk_of(path))
    with _opened(path, trial + 0.5, embedder) as memory:  # after the lease of who was killed
        consolidation = memory.consolidation(user_id=USER, model=model)
        report = consolidation.run()
        consolidation.approve()
        state = consolidation.state()
        if report.status != "done" or state.waiting or state.dead or state.proposals or state.running:
            found.wrong("half", f"consolidation does not come to its end: {report} {state}")
        records = list(memory.iterate(user_id=USER))
        drawn = Counter(_subject(one.content) for one in records if one.kind == "fact")
        said = Counter(_subject(one.content) for one in records if one.role == "user")
        for name in said:
            if name not in drawn:
                found.wrong("lost", f"nothing was drawn from what was said of {name}")
        for name, times in drawn.items():
            if times > 1:
                found.wrong("duplicated", f"{times} facts of {name}")
            if name not in said:
                found.wrong("ghosts", f"a fact of {name}, of whom nothing was said")
        asked = model.asked()
        again = sum(Counter(text for texts in asked for text in set(texts)).values()) - len(said)
        if again > 2 * after.talks:  # a batch has two messages, and each kill interrupts one call at most
            found.wrong("duplicated", f"{again} messages were paid for twice in {after.talks} trials")
        booked = sum(day.spend.tokens for day in consolidation.spend(everybody=True))
        if booked < USED * len(asked):
            found.wrong("lost", f"{USED * len(asked)} tokens were used, {booked} are in the ledger")
        if not memory.verify().ok:
            found.wrong("unclean", "the store that was talked to does not verify")


def _subject(content: str) -> str:
    return next(iter(re.findall(r"x\d+", content)), content)
