"""Every example runs from start to end and prints what it is meant to show."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

from stress.loopback import alone, possible

EXAMPLES = ROOT / "examples"
NEEDED = {"corpus.py": ("ray", "lance"), "shards.py": ("ray",)}
LONG = {*NEEDED, "lifecycle.py"}
"""What an example needs that is not installed for development."""
SHOWN = {
    "corpus.py": [
        "embedded: 5 rows in version 1\nnearly the same: line-0 and line-4\n",
        "loaded, the first time: 5 added, 0 there already\nloaded, the second time: 0 added, 5 there already\n",
        "found: Rui moved to Faro, and works at the harbour there.\n",
        "exported: 5 rows; of the plumber: [{'id': 'line-3', 'user_id': 'ana'}]\n",
    ],
    "shards.py": [
        "ana's, from one shard: Ana is allergic to peanuts.\n",
        "everybody's, from 3 shards: Rui moved to Faro",
        "after a kill: Eva plays the violin.\nanother process: True\n",
        "moved: True, still there: 4 of 4\n",
    ],
    "quickstart.py": [
        "0.",
        "Ana is vegetarian and allergic to peanuts.",
        "['Ben collects stamps.']",
        "version 2 UPDATE {'content': 'Ana moved to Lisbon in March.'}",
        "- Ana moved to Porto in May.",
    ],
    "tool_cache.py": [
        "2 calls for 4 questions\n",
        "3 calls with Rui's\n",
        "1 of Porto, and then 0 of anything\n",
    ],
    "captions.py": [
        "The neighbour's cat asleep on the piano\n",
        "  cat.ppm: 32,414 bytes, image/x-portable-pixmap; pixels (90, 120, 3) of |u1\n",
        "  erased: 3 records, left: 4 values\n",
    ],
    "filters.py": [
        "topic is billing: note-1 note-2\n",
        "urgent: note-1 note-3 note-4\n",
        "without a priority: note-5\n",
        "tagged csv or refund: note-1 note-3\n",
        "neither a bug nor a wish: note-1 note-2\n",
        "deleted: 1\n",
    ],
    "lifecycle.py": [
        "after       interact  insights    assets  promoted   expired    erased\n",
        "a season ",
        "a year ",
        " at most ",
        "promoted from interact by promotion",
        "for assets it lacks ",
    ],
    "agent_loop.py": [
        "ana: Will it rain in Faro?\n(the process dies between the call of a tool and its result)\n",
        "agent (after a restart): I looked: Light rain in Faro until noon.",
    ],
    "support_bot.py": [
        "bot: Your order 1187 is on its way to Faro.\nprompt: {'blocks': ",
        "version 3: 'Name: Rui\\nOpen case: order 1187, not arrived.' (reported)",
        "version 4: ",
    ],
    "facts.py": [
        "added 1 for 600 tokens\nknown: ['Lives in Rome.'] waiting: 0\n",
        "proposed: SUPERSEDE Lives in Faro. because of ['I moved to Faro']\nknown: ['Lives in Faro.'] waiting: 0\n",
        "waiting: 0\nknown: ['Lives in Rome.'] waiting: 0\n",
    ],
    "chatbot.py": [
        "bot: Nice to meet you!",
        "conversation 2",
        "bot: You once told me: Hi, I'm Ana. I am allergic to peanuts.",
    ],
}


def run(name: str, folder: Path, **more: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "AGENTMEM_"))}
    done = subprocess.run(
        # Ray warns of what it does itself.
        [sys.executable, "-W", "default" if name in NEEDED else "error", str(EXAMPLES / name)],
        cwd=folder,
        env=environment | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180 if name in NEEDED else 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SHOWN.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in SHOWN]
)
def test_example(name: str, tmp_path: Path) -> None:
    for module in NEEDED.get(name, ()):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    # Ray listens on every interface.
    with alone() if name in NEEDED and possible() else nullcontext():
        printed = run(name, tmp_path)
    for expected in SHOWN[name]:
        assert expected in printed
    assert not list(tmp_path.iterdir())


def test_chatbot_remembers_in_the_next_process(tmp_path: Path) -> None:
    store = str(tmp_path / "memories")
    first = run("chatbot.py", tmp_path, AGENTMEM_PATH=store)
    again = run("chatbot.py", tmp_path, AGENTMEM_PATH=store)
    assert "Nice to meet you!" in first
    assert "Nice to meet you!" not in again
