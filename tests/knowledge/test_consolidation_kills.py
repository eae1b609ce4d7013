"""Killed at each step, and two processes at once: each message consolidated once, none skipped, none paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import ROOT, FakeClock, HashEmbedder
from scripted_endpoint import Server, likes, serving

from agentmem import EndpointModel, Memory, Settings

MESSAGES = 6
CHILD = """
import os, signal, sys
from conftest import HashEmbedder
from agentmem import EndpointModel, Memory, Settings
from agentmem.client.knowing import KnowledgeDesk
from agentmem.knowledge.endpoint import EndpointModel as Endpoint

path, url, where, when, number = sys.argv[1:]
left = int(number)

def wrapped(function):
    def inner(*args, **more):
        global left
        left -= 1
        if not left and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*args, **more)
        if not left and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return inner

if where == "commit":
    KnowledgeDesk.commit = wrapped(KnowledgeDesk.commit)
elif where == "call":
    Endpoint.complete = wrapped(Endpoint.complete)
chosen = Settings(consolidation={"batch_messages": 2, "timeout_s": 10})
with Memory(path, embedder=HashEmbedder(), settings=chosen) as memory:
    consolidation = memory.consolidation(user_id="ana", model=EndpointModel("m", url=url))
    if where == "together":
        print("ready", flush=True)
        sys.stdin.readline()
        while consolidation.state().waiting:
            print(consolidation.run().status, flush=True)
    else:
        consolidation.run()
"""
STEPS = [
    (where, when, number)
    for where, most in (("commit", 8), ("call", 3))
    for when in ("before", "after")
    for number in range(1, most + 1)
]
FEW = [("commit", "before", 3), ("commit", "after", 2), ("call", "after", 2)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def begin(store: Path) -> None:
    with Memory(store, embedder=HashEmbedder()) as memory:
        memory.add_many([{"role": "user", "content": f"I like thing{n}"} for n in range(MESSAGES)], user_id="ana")


def child(store: Path, server: Server, where: str, when: str, number: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store), server.url, where, when, str(number)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def check(store: Path, server: Server, *, in_flight: int) -> None:
    """Everything is there once; the ledger knows of all that the server has worked."""
    clock = FakeClock(datetime.now(UTC) + timedelta(seconds=200))  # after the lease of who died
    chosen = Settings(consolidation={"batch_messages": 2})
    with Memory(store, embedder=HashEmbedder(), clock=clock, settings=chosen) as memory:
        consolidation = memory.consolidation(user_id="ana", model=EndpointModel("m", url=server.url))
        consolidation.run()
        facts = sorted(one.content for one in memory.iterate(user_id="ana", kinds=["fact"]))
        assert facts == [f"Likes thing{n}." for n in range(MESSAGES)]
        state = consolidation.state()
        assert (state.waiting, state.dead, state.running) == (0, (), False)
        assert sum(day.spend.tokens for day in consolidation.spend()) >= server.tokens
        assert sum(day.spend.tokens for day in consolidation.spend(everybody=True)) >= server.tokens
        assert memory.verify().ok
    shown = Counter(json.dumps(asked["messages"]) for asked in server.asked)
    assert sum(shown.values()) - len(shown) <= in_flight


@pytest.mark.parametrize(
    ("where", "when", "number"),
    [pytest.param(*step, marks=() if step in FEW else pytest.mark.slow) for step in STEPS],
)
def test_killed_at_a_step(store: Path, server: Server, where: str, when: str, number: int) -> None:
    server.reset()
    begin(store)
    with child(store, server, where, when, number) as killed:
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    check(store, server, in_flight=1)


@pytest.mark.slow
def test_two_processes(store: Path, server: Server) -> None:
    server.reset()
    begin(store)
    with child(store, server, "together", "", 0) as one, child(store, server, "together", "", 0) as other:
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate()[0].split() for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0)
    assert {status for each in told for status in each} <= {"done", "busy"}
    check(store, server, in_flight=0)


def test_what_the_server_said_is_what_is_tested() -> None:
    asked = {"messages": [{"content": 'Known facts:\n\nNew messages:\n{"id": "m1", "text": "I like tea"}'}]}
    assert likes(asked)[0]["text"] == "Likes tea."
