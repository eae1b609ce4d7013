"""Taking the last turns of a conversation: each is given to one caller, whoever else takes some at the same time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, START, FakeClock

from agentmem import ALL, InvalidInputError, Memory, ReadOnlyError, ScopeError

Open = Callable[..., Memory]


def talk(memory: Memory, *texts: str, **scope: Any) -> None:
    memory.add_many([{"role": "user", "content": text} for text in texts], **{"run_id": "chess", **scope})


def texts(turns: list[Any]) -> list[str]:
    return [turn.content for turn in turns]


def test_the_last_ones_go_and_the_rest_stays(memory: Memory) -> None:
    talk(memory, "e4", "e5", "Nf3", "Nc6", user_id="mia")
    talk(memory, "other", user_id="leo")
    assert texts(memory.pop(run_id="chess", user_id="mia")) == ["Nc6"]
    assert texts(memory.pop(run_id="chess", user_id="mia", n=2)) == ["e5", "Nf3"]
    assert texts(memory.recent(run_id="chess", user_id="mia")) == ["e4"]
    assert texts(memory.pop(run_id="chess", user_id="mia", n=9)) == ["e4"]
    assert memory.pop(run_id="chess", user_id="mia") == []
    assert memory.pop(run_id="chess") == [] == memory.pop(run_id="go", user_id="mia")
    assert texts(memory.recent(run_id="chess", user_id="leo")) == ["other"]
    assert memory.verify().ok


def test_a_turn_comes_as_it_was_and_can_be_brought_back(memory: Memory) -> None:
    talk(memory, "resign", metadata={"move": 31})
    before = memory.recent(run_id="chess")
    [turn] = memory.pop(run_id="chess")
    assert [turn] == before
    assert memory.get(turn.id) is None
    assert memory.search("resign", run_id="chess") == []
    assert [event.event for event in memory.history(turn.id)] == ["ADD", "DELETE"]
    assert memory.restore(turn.id).metadata == {"move": 31}


def test_the_last_is_the_one_that_recent_shows_last(memory: Memory, clock: FakeClock) -> None:
    hours = [3, 1, 2]
    memory.add_many(
        [{"role": "user", "content": str(h), "occurred_at": START - timedelta(hours=h)} for h in hours], run_id="chess"
    )
    for by in ("event", "added"):
        shown = memory.recent(run_id="chess", limit=2, by=by)
        taken = memory.pop(run_id="chess", n=2, by=by)
        assert taken == shown
        for turn in taken:
            memory.restore(turn.id)
    talk(memory, "for a minute", ttl=60)
    clock.advance(61)
    assert texts(memory.pop(run_id="chess")) == ["1"]


def test_views_and_agents(memory: Memory) -> None:
    talk(memory, "white", agent_id="w", user_id="mia")
    talk(memory, "black", agent_id="b", user_id="mia")
    assert texts(memory.pop(run_id="chess", user_id="mia", agent_id="w", n=5)) == ["white"]
    assert memory.scoped(user_id="leo").pop(run_id="chess") == []
    assert texts(memory.scoped(user_id="mia").pop(run_id="chess")) == ["black"]


def test_what_is_refused(memory: Memory, open_memory: Open, store: Path) -> None:
    talk(memory, "stays")
    for n in (0, -1, 10_001, True, 1.5, "2", None):
        with pytest.raises(InvalidInputError, match="n must be an int from 1 to 10,000"):
            memory.pop(run_id="chess", n=n)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="by='time'"):
        memory.pop(run_id="chess", by="time")  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match="run_id"):
        memory.pop(run_id=None)  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match="for reads only"):
        memory.pop(run_id="chess", user_id=ALL)  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match="is bound to"):
        memory.scoped(run_id="go").pop(run_id="chess")
    with pytest.raises(TypeError):
        memory.pop()  # type: ignore[call-arg]
    with Memory(store, embedder=memory.handle._embedder, read_only=True) as reader, pytest.raises(ReadOnlyError):
        reader.pop(run_id="chess")
    assert texts(memory.recent(run_id="chess")) == ["stays"]


def test_each_turn_is_given_once_to_threads_and_tasks(memory: Memory) -> None:
    talk(memory, *map(str, range(120)))

    def take(n: int) -> list[str]:
        found = list[str]()
        while turns := memory.pop(run_id="chess", n=n):
            found += texts(turns)
        return found

    async def main() -> list[str]:
        turns = await asyncio.gather(*(memory.aio.pop(run_id="chess") for _ in range(30)))
        return [text for one in turns for text in texts(one)]

    with ThreadPoolExecutor(5) as threads:
        taking = [threads.submit(take, n) for n in (1, 2, 3, 1)]
        given = asyncio.run(main()) + [text for one in taking for text in one.result(60)]
    assert Counter(given) == Counter(map(str, range(120)))
    assert memory.verify().ok


TAKE = """
import json, sys
from agentmem import Memory
from conftest import HashEmbedder
with Memory(sys.argv[1], embedder=HashEmbedder()) as memory:
    print("open", flush=True)
    sys.stdin.readline()
    found = []
    while turns := memory.pop(run_id="chess", n=int(sys.argv[2])):
        found.append([turn.content for turn in turns])
    print(json.dumps(found))
"""


def test_each_turn_is_given_once_to_processes(open_memory: Open, store: Path) -> None:
    with open_memory(clock=None) as memory:
        talk(memory, *map(str, range(90)))
    environment = {"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(store), str(n)],
            env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    outputs = list[list[list[str]]]()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        outputs.append(json.loads(out))
    given = [text for one in outputs for turns in one for text in turns]
    assert Counter(given) == Counter(map(str, range(90)))
    for one in outputs:
        # What one caller got in one call followed each other, and all of it went from the end.
        taken = [[int(text) for text in turns] for turns in one]
        assert all(turns == list(range(turns[0], turns[0] + len(turns))) for turns in taken)
        assert taken == sorted(taken, reverse=True)
