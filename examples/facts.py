"""From talk to facts: what a user says is consolidated, looked at before it is stored, superseded, and taken back.

It needs no model: the "model" here is a few lines that stand for one. With the extra `llm` and AGENTMEM_MODEL set (and
OPENAI_API_KEY, or AGENTMEM_URL for another endpoint), a real one is asked instead.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from agentmem import Consolidation, EndpointModel, Memory
from agentmem.ports import Model, Reply

HOME = re.compile(r"I (?:live in|moved to) (\w+)")


class Stand:
    """Draws one kind of fact: where somebody lives."""

    name = "stand-in"

    def complete(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, schema: Any, timeout: float) -> Reply:
        known, new = messages[-1]["content"].split("New messages:")
        homes = [json.loads(line) for line in known.splitlines() if "Lives in" in line]
        operations = [
            {
                "op": "SUPERSEDE" if homes else "ADD", "target": homes[0]["id"] if homes else None,
                "text": f"Lives in {found[1]}.", "subject": "user", "reason": "said where the home is",
                "evidence": [{"message": message["id"], "quote": found[0]}], "valid_from": None, "valid_to": None,
            }
            for message in map(json.loads, filter(None, new.splitlines()))
            if (found := HOME.search(message["text"]))
        ]  # fmt: skip
        return Reply(json.dumps({"operations": operations}), 500, 100)


def chosen() -> Model:
    name = os.environ.get("AGENTMEM_MODEL")
    return EndpointModel(name, url=os.environ.get("AGENTMEM_URL")) if name else Stand()


def show(memory: Memory, consolidation: Consolidation) -> None:
    hits = memory.search("Where does the user live?", user_id="ana", kinds=["fact"])
    print("known:", [hit.content for hit in hits], "waiting:", consolidation.state().waiting)


with TemporaryDirectory() as folder, Memory(folder) as memory:
    session = memory.session("hello", user_id="ana")
    consolidation = memory.consolidation(user_id="ana", model=chosen())

    session.append({"role": "user", "content": "Hi! I live in Rome, and I like boats."})
    first = consolidation.run()
    print(f"added {first.added} for {first.spend.tokens} tokens")
    show(memory, consolidation)

    session.append({"role": "user", "content": "By the way, I moved to Faro."})
    draft = consolidation.run(dry_run=True)
    for proposal in consolidation.proposals(run_id=draft.run_id):
        print("proposed:", proposal.op, proposal.text, "because of", list(proposal.quotes))
    done = consolidation.approve(run_id=draft.run_id)
    show(memory, consolidation)

    consolidation.revert(done.run_id)
    show(memory, consolidation)
