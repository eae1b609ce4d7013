"""Killed at any moment: what was acknowledged is there, calls with their results, and the next process goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, HashEmbedder

from agentmem import Memory

AGENT = """
import sys
from conftest import HashEmbedder
from agentmem import ConflictError, Memory

memory = Memory(sys.argv[1], embedder=HashEmbedder())
session, blocks = memory.session("r", user_id="ana", agent_id="bot"), memory.blocks(user_id="ana")
try:
    blocks.create("count", "0")
except ConflictError:
    pass
first = session.working.get().get("next", 0)
for n in range(first, 100_000):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{n}"}]}
    session.append([call, {"role": "tool", "tool_call_id": f"c{n}", "content": f"result {n}"}])
    print("turns", n, flush=True)
    session.working.merge({"next": n + 1})
    print("working", n + 1, flush=True)
    if n % 3 == 0:
        blocks.rewrite("count", str(n))
        print("block", n, flush=True)
    if n % 5 == 4:
        session.summarize(keep=4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kill_and_go_on(store: Path, embedder: HashEmbedder, seed: int) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    acknowledged, generator = {"turns": -1, "working": 0, "block": 0}, random.Random(seed)
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", AGENT, str(store)], env=environment, stdout=subprocess.PIPE, text=True
        ) as agent:
            assert agent.stdout is not None
            told = [agent.stdout.readline() for _ in range(generator.randint(5, 25))]
            time.sleep(generator.random() * 0.01)
            agent.send_signal(signal.SIGKILL)
            told += agent.stdout.readlines()
        for line in told:
            if line.endswith("\n"):
                what, number = line.split()
                acknowledged[what] = int(number)
        with Memory(store, embedder=embedder) as memory:
            session = memory.session("r", user_id="ana", agent_id="bot")
            messages = session.messages()
            calls = [message["tool_calls"][0]["id"] for message in messages[::2]]
            assert [message["tool_call_id"] for message in messages[1::2]] == calls  # pairs, none of them torn
            assert len(messages) % 2 == 0
            # Each at least once, in their order; what was not noted as done is done again by the next process.
            assert list(dict.fromkeys(calls)) == [f"c{n}" for n in range(len(set(calls)))]
            assert len(set(calls)) >= acknowledged["turns"] + 1
            assert session.working.get().get("next", 0) >= acknowledged["working"]
            block = memory.blocks(user_id="ana").get("count")
            assert block is not None
            assert int(block.value) >= acknowledged["block"]
            prompt = session.prompt(max_tokens=800)
            assert prompt.manifest.tokens <= 800
            assert memory.verify().ok
