"""What LangGraph's own tests cannot see of our store: other processes, loops and threads, odd values, walls."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.store.base", reason="LangGraph is not installed; pip install 'agentmem-db[langgraph]'")

from langgraph.store.base import GetOp, PutOp, SearchOp

from agentmem import ALL, AsyncMemory, InvalidInputError, Memory, Settings
from agentmem.adapters.langgraph import AgentMemStore

DOCS = ("docs",)


@pytest.fixture
def memory() -> Any:
    with Memory(":memory:") as opened:
        yield opened


def embed(texts: list[str]) -> list[list[float]]:
    """Texts that begin with the same letter point the same way."""
    return [[1.0 if ord(text[0]) % 8 == at else 0.01 for at in range(8)] for text in texts]


async def aembed(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return embed(texts)


def test_values_come_back_as_they_were(memory: Memory) -> None:
    store = AgentMemStore(memory, index={"fields": ["text"]})
    value = {
        "text": "a\x00b\ud800",
        "nan": math.nan,
        "inf": -math.inf,
        "big": 2**200,
        "deep": [[[[[{"x": [None, True, 0.1]}]]]]],
        "large": "x" * 5_000_000,
        "": {"a.b": 1, "$c": 2},
    }
    store.put(DOCS, "odd", value)
    item = store.get(DOCS, "odd")
    assert item is not None
    assert math.isnan(item.value.pop("nan"))
    del value["nan"]
    assert item.value == value
    [found] = store.search(DOCS, query="a", filter={"big": 2**200, "inf": {"$lt": 0}})
    assert found.key == "odd"


def test_a_large_value_is_embedded_as_a_whole_in_no_time(memory: Memory) -> None:
    store = AgentMemStore(memory, index={})
    start = time.perf_counter()
    store.put(DOCS, "file", {"text": "Lorem ipsum. " * 400_000})
    assert time.perf_counter() - start < 20
    assert store.search(DOCS, query="lorem")[0].score is not None


@pytest.mark.parametrize("value", [{"at": object()}, {1: 2}, {"bytes": b"x"}], ids=repr)
def test_what_is_no_json_is_refused_with_its_path(memory: Memory, value: dict[Any, Any]) -> None:
    store = AgentMemStore(memory, index={})
    with pytest.raises(InvalidInputError, match="data"):
        store.put(DOCS, "k", value)
    assert store.get(DOCS, "k") is None


def test_what_newcomers_mistake_is_said(memory: Memory) -> None:
    with pytest.raises(ValueError, match=r"write \('app',\)"):
        AgentMemStore(memory, namespace="app")
    with pytest.raises(ValueError, match="ALL"):
        AgentMemStore(memory, user_id=ALL)  # type: ignore[arg-type]
    store = AgentMemStore(memory)
    for minutes in (0, -1, math.nan):
        with pytest.raises(InvalidInputError, match="more than 0 minutes"):
            store.put(DOCS, "k", {}, ttl=minutes)


def test_an_item_with_many_vectors_crowds_nothing_out(memory: Memory) -> None:
    store = AgentMemStore(memory, index={"fields": ["parts[*]"]})
    store.put(DOCS, "many", {"parts": [f"green tea from hill {n}" for n in range(100)]})
    for n in range(20):
        store.put(DOCS, f"one-{n}", {"parts": [f"a cup of tea, number {n}"]})
    found = store.search(DOCS, query="green tea", limit=10)
    assert [item.key for item in found].count("many") == 1
    assert len({item.key for item in found}) == 10


def test_an_id_made_again_is_new(memory: Memory) -> None:
    store = AgentMemStore(memory)
    store.put(DOCS, "k", {"v": 1})
    first = store.get(DOCS, "k")
    store.delete(DOCS, "k")
    assert store.get(DOCS, "k") is None
    assert store.list_namespaces() == []
    store.put(DOCS, "k", {"v": 2})
    second = store.get(DOCS, "k")
    assert first is not None
    assert second is not None
    assert second.value == {"v": 2}
    assert second.created_at > first.created_at


def test_nobody_sees_the_items_of_another(memory: Memory) -> None:
    stores = {user: AgentMemStore(memory, user_id=user, index={}) for user in ("ana", "rui")}
    nobody, other = AgentMemStore(memory, index={}), AgentMemStore(memory, user_id="ana", namespace=("app",), index={})
    everyone = {**stores, "nobody": nobody, "other": other}
    for name, store in everyone.items():
        store.put(DOCS, "same", {"of": name, "text": f"secret of {name}"})
    for name, store in everyone.items():
        item = store.get(DOCS, "same")
        assert item is not None
        assert item.value["of"] == name
        for found in (
            store.search(()),
            store.search((), query="secret"),
            store.search(DOCS, filter={"of": {"$ne": 0}}),
        ):
            assert [each.value["of"] for each in found] == [name]
        assert store.list_namespaces() == [DOCS]
        assert store.search((), filter={"$user_id": "rui"}) == []
    stores["ana"].delete(DOCS, "same")
    assert stores["rui"].get(DOCS, "same") is not None
    assert other.get(DOCS, "same") is not None


def test_items_are_none_of_the_users_memories(memory: Memory) -> None:
    memory.add("Ana likes green tea.", user_id="ana")
    store = AgentMemStore(memory, user_id="ana", index={"fields": ["text"]})
    store.put(DOCS, "k", {"text": "Ana likes green tea, says the program."})
    assert [hit.content for hit in memory.search("green tea", user_id="ana")] == ["Ana likes green tea."]
    assert "program" not in memory.context("green tea", user_id="ana", max_tokens=500)
    assert memory.count(user_id="ana") == memory.count(user_id=ALL) == 1
    assert [item.key for item in store.search((), query="green tea")] == ["k"]


def test_a_view_stays_behind_its_wall(memory: Memory) -> None:
    AgentMemStore(memory, user_id="rui").put(DOCS, "k", {"v": "rui's"})
    store = AgentMemStore(memory.scoped(user_id="ana"))
    store.put(DOCS, "k", {"v": "ana's"})
    assert [item.value["v"] for item in store.search(())] == ["ana's"]
    with pytest.raises(ValueError, match="user_id"):
        AgentMemStore(memory.scoped(user_id="ana"), user_id="rui")


ODD = [
    "a b",
    " a",
    "a ",
    "a\n",
    "\u200b",
    "100%",
    "%20",
    "*",
    "é",
    "e\u0301",
    "$x",
    "\ud800",
    "\uffa0",
    "A",
    "a",
]


def test_labels_are_told_apart_and_come_back(memory: Memory) -> None:
    store = AgentMemStore(memory)
    for label in ODD:
        store.put((label, "x"), "k", {"label": label})
    for label in ODD:
        assert [item.value["label"] for item in store.search((label,))] == [label]
        assert store.list_namespaces(prefix=(label, "x")) == [(label, "x")] or label == "*"
    assert sorted(store.list_namespaces()) == sorted((label, "x") for label in ODD)


def test_namespaces_are_listed_as_an_obvious_program_lists_them(memory: Memory) -> None:
    store, chance = AgentMemStore(memory), random.Random(1)
    names = {tuple(chance.choices("abc", k=chance.randint(1, 4))) for _ in range(40)}
    store.batch([PutOp(name, "k", {}) for name in names])

    def fits(path: tuple[str, ...], part: tuple[str, ...]) -> bool:
        return len(path) == len(part) and all(a in ("*", b) for a, b in zip(path, part, strict=True))

    for _ in range(150):
        prefix, suffix = (tuple(chance.choices("abc*", k=chance.randint(0, 3))) for _ in range(2))
        depth, limit, offset = chance.choice([None, 1, 2, 3]), chance.randint(1, 9), chance.randint(0, 4)
        kept = {n for n in names if fits(prefix, n[: len(prefix)]) and fits(suffix, n[len(n) - len(suffix) :])}
        kept = {n for n in kept if len(n) >= max(len(prefix), len(suffix))}
        wanted = sorted({name[:depth] for name in kept})[offset : offset + limit]
        found = store.list_namespaces(prefix=prefix, suffix=suffix, max_depth=depth, limit=limit, offset=offset)
        assert found == wanted, (prefix, suffix, depth)


def test_pages_of_a_search_cover_what_has_no_vector_too(memory: Memory) -> None:
    store = AgentMemStore(memory, index={"fields": ["text"]})
    for n in range(7):
        store.put(DOCS, f"with-{n}", {"text": f"a text about cats and {n} dogs"})
        store.put(DOCS, f"without-{n}", {"n": n})
    whole = store.search(DOCS, query="cats", limit=100)
    assert [item.score is None for item in whole] == [False] * 7 + [True] * 7
    for size in (1, 3, 5, 14):
        pages = [store.search(DOCS, query="cats", limit=size, offset=at) for at in range(0, 20, size)]
        assert [item.key for page in pages for item in page] == [item.key for item in whole]
    assert store.search(DOCS, query="cats", limit=0) == []


def test_many_items_at_once(memory: Memory) -> None:
    store = AgentMemStore(memory)
    store.batch([PutOp(DOCS, f"k{n}", {"n": n}) for n in range(2_500)])
    assert {item.value["n"] for item in store.search(DOCS, limit=20_000)} == set(range(2_500))
    before, _ = store.batch([GetOp(DOCS, "k1"), PutOp(DOCS, "k1", {"n": -1})])
    assert before.value == {"n": 1}  # type: ignore[union-attr]


def test_a_batch_is_all_or_nothing(memory: Memory) -> None:
    store = AgentMemStore(memory)
    with pytest.raises(ValueError, match="data"):
        store.batch([PutOp(DOCS, "good", {"v": 1}), PutOp(DOCS, "bad", {"v": object()})])
    assert store.search(DOCS) == []


def test_reads_put_off_the_end_only_where_they_are_to(tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 1, 1, tzinfo=UTC)
    with Memory(tmp_path, clock=lambda: now) as memory:
        store = AgentMemStore(memory, ttl={"default_ttl": 10})
        for key in ("read", "looked at", "left"):
            store.put(DOCS, key, {"v": 1})
        store.put(DOCS, "for good", {"v": 1}, ttl=None)
        now += timedelta(minutes=8)
        assert store.get(DOCS, "read") is not None
        assert store.get(DOCS, "looked at", refresh_ttl=False) is not None
        now += timedelta(minutes=5)
        assert {item.key for item in store.search(DOCS, refresh_ttl=False)} == {"read", "for good"}
        now += timedelta(days=400)
        assert {item.key for item in store.search(DOCS)} == {"for good"}


def test_one_store_serves_loops_threads_and_callers_in_a_loop(tmp_path: Path) -> None:
    store = AgentMemStore(tmp_path, index={"dims": 8, "embed": aembed, "fields": ["text"]})

    async def use(name: str) -> None:
        await asyncio.gather(*(store.aput((name,), f"k{n}", {"text": f"{name} {n}"}) for n in range(20)))
        assert len(await store.asearch((name,), query=name, limit=50)) == 20
        store.put((name,), "blocking", {"text": "in the loop"})
        item = await store.aget((name,), "blocking")
        assert item is not None

    for name in ("alpha", "beta", "gamma"):
        asyncio.run(use(name))
    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in ("delta", "epsilon")]
    for thread in threads:
        thread.start()
    store.put(("main",), "k", {"text": "meanwhile"})
    for thread in threads:
        thread.join()
    assert len(store.list_namespaces()) == 6
    store.close()


def test_a_client_of_the_callers_stays_open(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncMemory(tmp_path) as memory:
            async with AgentMemStore(memory) as store:
                await store.aput(DOCS, "k", {"v": 1})
            assert await memory.count(under=("langgraph",)) == 1

    asyncio.run(use())
    with pytest.raises(InvalidInputError, match="leave embed out"), Memory(tmp_path) as memory:
        AgentMemStore(memory, index={"dims": 8, "embed": embed})


def test_a_store_that_is_dropped_gives_the_folder_back(tmp_path: Path) -> None:
    store = AgentMemStore(tmp_path, index={"dims": 8, "embed": embed, "fields": ["text"]})
    store.put(DOCS, "k", {"text": "kept"})
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    with AgentMemStore(tmp_path, index={"dims": 8, "embed": embed, "fields": ["text"]}) as again:
        assert [item.score is not None for item in again.search(DOCS, query="kept")] == [True]


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    code = f"from agentmem.adapters.langgraph import AgentMemStore\nstore = AgentMemStore({str(folder)!r})\n{code}"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)


def test_three_processes_write_the_same_items(tmp_path: Path) -> None:
    code = """
for n in range(30):
    store.put(("shared",), f"k{n % 10}", {"of": OF, "n": n})
    store.put(("own", OF), f"k{n}", {"n": n})
    assert store.get(("own", OF), f"k{n}").value == {"n": n}
"""
    children = [child(code.replace("OF", f"'{name}'"), tmp_path) for name in "abc"]
    assert [each.communicate(timeout=120)[0] for each in children] == ["", "", ""]
    assert [each.returncode for each in children] == [0, 0, 0]
    with AgentMemStore(tmp_path) as store:
        assert len(store.search(("shared",), limit=100)) == 10
        assert len(store.search(("own",), limit=1_000)) == 90


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    code = "n = 0\nwhile True:\n    store.put(('d',), f'k{n}', {'n': n})\n    print(n, flush=True)\n    n += 1"
    process = child(code, tmp_path)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(30)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    with AgentMemStore(tmp_path) as store:
        assert {item.value["n"] for item in store.search(("d",), limit=10_000)} >= set(acknowledged)


def test_a_search_op_takes_any_of_our_operators(memory: Memory) -> None:
    store = AgentMemStore(memory)
    store.put(DOCS, "a", {"tags": ["x", "y"], "n": {"m": 1}})
    store.put(DOCS, "b", {"tags": ["z"], "n": {"m": 2}})
    [found] = store.batch([SearchOp(DOCS, filter={"tags": {"$in": ["y"]}, "n.m": {"$lte": 1}})])
    assert [item.key for item in found] == ["a"]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="unknown operator"):
        store.search(DOCS, filter={"n": {"$near": 1}})


def test_items_stay_whatever_layer_is_the_default() -> None:
    with Memory(":memory:", settings=Settings(default_layer="interact")) as memory:
        AgentMemStore(memory, user_id="ana").put(("notes",), "walk", {"text": "to the sea"})
        [item] = memory.iterate(user_id="ana", under=("langgraph",))
        assert (item.layer, memory.lifecycle.explain(item.id).due_at) == ("assets", None)


def test_items_do_not_lie_among_the_memories() -> None:
    with Memory(":memory:") as memory, pytest.raises(InvalidInputError, match="among the memories"):
        AgentMemStore(memory, namespace=())
