"""mem0's ``Memory`` on agentmem: what a comparison with mem0 itself cannot see."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder
from scripted_endpoint import operation, shown
from scripted_model import Scripted

import agentmem
from agentmem import ALL, ScopeError
from agentmem.adapters.mem0 import AsyncMemory, Memory
from agentmem.errors import ModelError

Open = Callable[..., agentmem.Memory]


def texts(found: dict[str, Any]) -> list[str]:
    return sorted(each["memory"] for each in found["results"])


def added(memory: Memory, text: str, **arguments: Any) -> str:
    return memory.add(text, infer=False, **arguments)["results"][0]["id"]


def test_a_memory_comes_back_as_mem0_has_it(open_memory: Open) -> None:
    memory = Memory(open_memory())
    id = added(memory, "Ana likes green tea", user_id="ana", run_id="r", metadata={"topic": "food"})
    got = memory.get(id)
    assert got is not None
    assert datetime.fromisoformat(got.pop("created_at")) == datetime.fromisoformat(got.pop("updated_at"))
    assert got == {
        "id": id, "memory": "Ana likes green tea", "hash": md5(b"Ana likes green tea").hexdigest(), "user_id": "ana",
        "metadata": {"topic": "food"}, "run_id": "r", "role": "user", "score": None,
    }  # fmt: skip
    [hit] = memory.search("green tea", filters={"user_id": "ana", "topic": {"in": ["food"]}}, threshold=0)["results"]
    assert (hit["id"], hit["metadata"]) == (id, {"topic": "food"})
    assert 0.1 < hit["score"] < 1


def test_what_infer_means_is_said_once(open_memory: Open) -> None:
    memory = Memory(open_memory())
    with pytest.warns(UserWarning, match="infer=False"):
        memory.add("Ana likes tea", user_id="ana")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory.add([{"role": "user", "content": "And cake"}, {"role": "system", "content": "x"}], user_id="ana")
    assert texts(memory.get_all(filters={"user_id": "ana"})) == ["Ana likes tea", "And cake"]


def moves(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Somebody lives in one place at a time."""
    known, new = shown(asked)
    told = list[dict[str, Any]]()
    for message in new:
        if found := re.search(r"I live in (\w+)", message["text"]):
            told = [
                operation(
                    op="SUPERSEDE" if known else "ADD", target=known[0]["id"] if known else None,
                    text=f"Lives in {found[1]}.", evidence=[{"message": message["id"], "quote": found[0]}],
                )
            ]  # fmt: skip
    return told


def test_infer_draws_facts_where_a_model_is_named(open_memory: Open, clock: Any) -> None:
    client, model = open_memory(), Scripted(moves)
    memory = Memory(client, model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [rome] = memory.add("I live in Rome", user_id="ana", run_id="r", metadata={"topic": "home"})["results"]
        assert (rome["event"], rome["memory"]) == ("ADD", "Lives in Rome.")
        assert memory.add([{"role": "user", "content": "Good morning!"}], user_id="ana")["results"] == []
    [found] = memory.get_all(filters={"user_id": "ana", "run_id": "r", "topic": "home"})["results"]
    assert (found["id"], found["metadata"]) == (rome["id"], {"topic": "home"})
    clock.advance(60)
    gone, faro = memory.add("I live in Faro", user_id="ana")["results"]
    assert (gone["id"], gone["event"], faro["memory"]) == (rome["id"], "DELETE", "Lives in Faro.")
    assert texts(memory.get_all(filters={"user_id": "ana"})) == ["Lives in Faro."]
    assert memory.get_all(filters={"user_id": "rui"})["results"] == []
    [hit] = memory.search("Lives in Faro.", filters={"user_id": "ana"}, threshold=0)["results"]
    assert hit["id"] == faro["id"]
    memory.update(faro["id"], "Lives in Faro by the sea.")
    memory.delete(faro["id"])
    clock.advance(60)
    [again] = memory.add("I live in Faro", user_id="ana")["results"]
    assert (again["event"], again["memory"]) == ("ADD", "Lives in Faro.")
    for source in client.iterate(user_id="ana", namespace=("mem0", "said"), kinds=["message"]):
        client.erase(source.id)
    assert memory.get_all(filters={"user_id": "ana"})["results"] == []
    memory.add("I live in Oslo", user_id="ana")
    memory.delete_all(user_id="ana")
    assert client.page(user_id="ana", under=("mem0",)).records == []


def test_infer_goes_on_where_it_failed(open_memory: Open) -> None:
    client, failing = open_memory(), True

    def answer(asked: dict[str, Any]) -> list[dict[str, Any]]:
        if failing:
            raise ModelError("not now", "busy", paid=False, retry_after=1)
        return moves(asked)

    memory = Memory(client, model=Scripted(answer))
    with pytest.warns(UserWarning, match="not now"):
        assert memory.add("I live in Rome", user_id="ana")["results"] == []
    failing = False
    client.consolidation(user_id="ana", namespace=("mem0", "said")).retry()
    [told] = memory.add("Hello", user_id="ana")["results"]
    assert told["memory"] == "Lives in Rome."
    with pytest.warns(UserWarning, match="infer=False"):
        memory.add("I live in Faro", agent_id="shop")
    assert texts(memory.get_all(filters={"agent_id": "shop"})) == ["I live in Faro"]


def test_nothing_is_forgotten_or_taken_for_the_same(open_memory: Open, clock: Any) -> None:
    memory = Memory(open_memory())
    for _ in range(2):
        memory.add([{"role": "assistant", "content": "It is mild."}], user_id="ana", run_id="r", infer=False)
    clock.advance(400 * 86_400)
    assert texts(memory.get_all(filters={"user_id": "ana"})) == ["It is mild."] * 2


def test_users_and_views_are_walls(open_memory: Open) -> None:
    client = open_memory()
    memory = Memory(client)
    for user in ("ana", "rui"):
        added(memory, f"tea of {user}", user_id=user, agent_id="cook")
    nobodys = added(memory, "tea of nobody", agent_id="cook")
    assert texts(memory.get_all(filters={"user_id": "ana"})) == ["tea of ana"]
    assert texts(memory.search("tea", filters={"agent_id": "cook"}, threshold=0)) == [
        "tea of ana", "tea of nobody", "tea of rui",
    ]  # fmt: skip

    hers = Memory(client.scoped(user_id="ana"))
    assert texts(hers.get_all(filters={"agent_id": "cook"})) == ["tea of ana"]
    assert texts(hers.get_all(filters={"run_id": "*", "agent_id": "cook"})) == ["tea of ana"]
    with pytest.raises(ScopeError):
        hers.get_all(filters={"user_id": "rui"})
    with pytest.raises(ScopeError):
        hers.delete_all(user_id="rui")
    with pytest.raises(ScopeError):
        added(hers, "x", user_id="rui")
    assert hers.get(nobodys) is None
    with pytest.raises(ValueError, match="not found"):
        hers.update(nobodys, "mine")
    with pytest.raises(ValueError, match="not found"):
        hers.delete(nobodys)
    assert hers.history(nobodys) == []
    hers.delete_all(agent_id="cook")
    hers.reset()
    assert texts(memory.get_all(filters={"agent_id": "cook"})) == ["tea of nobody", "tea of rui"]


@pytest.mark.parametrize("filters", [None, {}, {"user_id": None}, {"topic": "x"}, {"OR": [{"user_id": "ana"}]}])
def test_filters_without_an_id_mean_nobody(open_memory: Open, filters: Any) -> None:
    memory = Memory(open_memory())
    added(memory, "tea", user_id="ana")
    with pytest.raises(ValueError, match="at least one of"):
        memory.search("tea", filters=filters)
    with pytest.raises(ValueError, match="at least one of"):
        memory.get_all(filters=filters)


def test_a_star_is_no_user(open_memory: Open) -> None:
    memory = Memory(open_memory())
    added(memory, "tea", user_id="ana")
    for call in (memory.get_all, lambda filters: memory.search("tea", filters=filters)):
        with pytest.raises(ValueError, match="no user"):
            call(filters={"user_id": "*"})
    with pytest.raises(ValueError, match="no user"):
        memory.delete_all(user_id="*")
    with pytest.raises(ValueError, match="no user"):
        memory.delete_all(user_id="*", agent_id="cook")
    assert texts(memory.get_all(filters={"user_id": "ana"})) == ["tea"]


def test_metadata_says_nothing_of_whose_it_is(open_memory: Open) -> None:
    memory = Memory(open_memory())
    id = added(memory, "tea", user_id="ana", metadata={"user_id": "rui", "agent_id": "x", "hash": "no"})
    memory.update(id, metadata={"user_id": "rui", "run_id": "x", "data": "coffee"})
    got = memory.get(id)
    assert got is not None
    assert (got["user_id"], got["memory"], got["metadata"]) == ("ana", "tea", None)
    assert "agent_id" not in got
    assert memory.get_all(filters={"user_id": "rui"}) == memory.get_all(filters={"run_id": "x"}) == {"results": []}


def test_it_keeps_to_its_namespace(open_memory: Open) -> None:
    client = open_memory()
    memory, other = Memory(client), Memory(client, namespace=("other",))
    own = client.add("tea of the application", user_id="ana").id
    added(memory, "tea of mem0", user_id="ana")
    added(other, "tea of the other", user_id="ana")
    assert texts(memory.search("tea", filters={"user_id": "ana"}, threshold=0)) == ["tea of mem0"]
    assert [hit.content for hit in client.search("tea", user_id="ana")] == ["tea of the application"]
    assert memory.get(own) is None
    assert memory.history(own) == []
    memory.reset()
    assert client.count(user_id=ALL, under=()) == 2


def test_days_on_which_memories_expire(open_memory: Open) -> None:
    memory = Memory(open_memory())
    today = datetime.now(UTC).date()
    for days, text in ((-1, "past"), (0, "today"), (1, "future")):
        added(memory, text, user_id="ana", expiration_date=today + timedelta(days))
    everything = {"filters": {"user_id": "ana"}, "show_expired": True}
    assert texts(memory.get_all(filters={"user_id": "ana"})) == ["future", "today"]
    assert texts(memory.get_all(**everything)) == ["future", "past", "today"]
    [past] = [each["id"] for each in memory.get_all(**everything)["results"] if each["memory"] == "past"]
    memory.update(past, expiration_date=None)
    assert "past" in texts(memory.search("past", filters={"user_id": "ana"}, threshold=0))


VALUES = {
    "nan": math.nan,
    "nul": "a\x00b",
    "half": "\ud800",
    "large": 2**70,
    "deep": [[[[{"a": None}]]]],
    "a.b": 1,
    "": 2,
}


def test_any_value_and_any_text_come_back(open_memory: Open) -> None:
    memory = Memory(open_memory())
    for text in ("a\x00b", "half \ud800", "", " ", "\u200b", "tea " * 1_300_000):
        id = added(memory, text, user_id="ana", metadata=VALUES)
        got = memory.get(id)
        assert got is not None
        assert got["memory"] == text
        assert repr(got["metadata"]) == repr(VALUES)
    assert len(memory.get_all(filters={"user_id": "ana", "a\\.b": 1})["results"]) == 6
    found = memory.search("tea", filters={"user_id": "ana"}, top_k=1)["results"]
    assert len(found[0]["memory"]) == 5_200_000


def test_history_goes_on_after_a_delete(open_memory: Open) -> None:
    memory = Memory(open_memory())
    id = added(memory, "green tea", user_id="ana")
    memory.update(id, "black tea")
    memory.update(id, metadata={"hot": True})
    memory.delete(id)
    told = [(row["event"], row["old_memory"], row["new_memory"], row["is_deleted"]) for row in memory.history(id)]
    assert told == [
        ("ADD", None, "green tea", False), ("UPDATE", "green tea", "black tea", False),
        ("UPDATE", "black tea", "black tea", False), ("DELETE", "black tea", None, True),
    ]  # fmt: skip
    assert memory.history("nobody") == memory.history("") == []


def test_updates_at_once_lose_nothing(open_memory: Open) -> None:
    memory = Memory(open_memory())
    id = added(memory, "tea", user_id="ana")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: memory.update(id, metadata={f"k{n}": n}), range(12)))
    got = memory.get(id)
    assert got is not None
    assert got["metadata"] == {f"k{n}": n for n in range(12)}


def test_by_meaning_and_words(open_memory: Open) -> None:
    memory = Memory(open_memory(), rank="score")
    added(memory, "The invoice number is 4711", user_id="ana")
    added(memory, "Rui sings", user_id="ana")
    assert memory.search("invoice 4711", filters={"user_id": "ana"}, top_k=1)["results"][0]["memory"].endswith("4711")


def test_the_async_one_has_the_same_calls(open_memory: Open) -> None:
    for name, call in inspect.getmembers(Memory, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(AsyncMemory, name)) == inspect.signature(call), name
    memory = AsyncMemory(open_memory().aio)

    async def add(text: str) -> None:
        await memory.add(text, user_id="ana", infer=False)

    for number in range(3):
        asyncio.run(add(f"tea {number}"))

    async def together() -> Any:
        await asyncio.gather(*(add(f"tea {number}") for number in range(3, 20)))
        memory.blocking.add("tea 20", user_id="ana", infer=False)
        return await memory.get_all(filters={"user_id": "ana"}, top_k=100)

    assert len(asyncio.run(together())["results"]) == 21


def test_a_config_is_for_agentmem(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="llm, vector_store"):
        Memory.from_config({"vector_store": {}, "llm": {}})
    for kind in (Memory, AsyncMemory):
        made = kind.from_config({"path": tmp_path / "store", "rank": "score"})
        made.close()


def test_a_path_is_closed_by_hand_or_by_the_garbage_collector(tmp_path: Path) -> None:
    with Memory(tmp_path / "store") as memory:
        added(memory, "tea", user_id="ana")
    memory = Memory(tmp_path / "store")
    added(memory, "coffee", user_id="ana")
    del memory
    gc.collect()
    with Memory(tmp_path / "store") as memory:
        assert texts(memory.get_all(filters={"user_id": "ana"})) == ["coffee", "tea"]


CHANGING = """
import sys
import agentmem
from agentmem.adapters.mem0 import Memory
from conftest import HashEmbedder

store, id, name = sys.argv[1:]
memory = Memory(agentmem.Memory(store, embedder=HashEmbedder()))
print(name, flush=True)
sys.stdin.readline()
for number in range(10):
    memory.update(id, metadata={f"{name}{number}": number})
    memory.add(f"{name}{number}", user_id="ana", infer=False)
"""


@pytest.mark.slow
def test_three_processes_at_once(tmp_path: Path) -> None:
    with agentmem.Memory(tmp_path / "store", embedder=HashEmbedder()) as client:
        id = added(Memory(client), "tea", user_id="ana")
    command, pipe = [sys.executable, "-c", CHANGING, str(tmp_path / "store"), id], subprocess.PIPE
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True, env=there) for name in "abc"]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in running:
        process.communicate("go\n", timeout=120)
    names = {f"{name}{number}" for name in "abc" for number in range(10)}
    with agentmem.Memory(tmp_path / "store", embedder=HashEmbedder()) as client:
        held = Memory(client).get_all(filters={"user_id": "ana"}, top_k=100)["results"]
    assert {each["memory"] for each in held} == {"tea", *names}
    assert set(held[0]["metadata"]) == names


ADDING = """
import sys
import agentmem
from agentmem.adapters.mem0 import Memory
from conftest import HashEmbedder

memory = Memory(agentmem.Memory(sys.argv[1], embedder=HashEmbedder()))
for number in range(10_000):
    memory.add(f"memory {number}", user_id="ana", infer=False)
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", ADDING, str(tmp_path / "store")],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = 20 + len(process.stdout.read().splitlines())
    with agentmem.Memory(tmp_path / "store", embedder=HashEmbedder()) as client:
        held = texts(Memory(client).get_all(filters={"user_id": "ana"}, top_k=10_000))
    assert set(held) >= {f"memory {number}" for number in range(acknowledged)}
    assert len(held) <= acknowledged + 1


def test_what_a_user_pastes_is_searched_by_its_beginning(open_memory: Open) -> None:
    memory = Memory(open_memory())
    added(memory, "tea", user_id="ana")
    for query in ("tea " * 50_000, "tea \ud800", "tea\x00"):
        assert texts(memory.search(query, filters={"user_id": "ana"}, threshold=0)) == ["tea"]
    assert memory.search("\x00", filters={"user_id": "ana"}, threshold=0) == {"results": []}
