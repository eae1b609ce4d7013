"""CrewAI's storage on agentmem: what CrewAI's own tests cannot see."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder

from agentmem import InvalidInputError, Memory, ScopeError

pytest.importorskip("crewai", reason="crewai is not installed")

from crewai.memory.types import MemoryRecord

from agentmem.adapters.crewai import NAMESPACE, AgentMemStorage, storage_factory

Open = Callable[..., Memory]
NORTH = [1.0] + [0.0] * 31
EAST = [0.0, 1.0] + [0.0] * 30


def record(content: str = "tea", **values: Any) -> MemoryRecord:
    return MemoryRecord(**{"content": content, "embedding": NORTH, **values})


def ids(found: Any) -> list[str]:
    return sorted(each.id for each in found)


def test_a_record_comes_back_as_it_was(open_memory: Open) -> None:
    storage = AgentMemStorage(open_memory())
    values: dict[str, Any] = {
        "nan": math.nan, "nul": "a\x00b", "half": "\ud800", "large": 2**70, "list": [1, {"a.b": None}], "": 1
    }  # fmt: skip
    for number, content in enumerate(["", " ", "\u200b", "!", "a\x00b", "half \ud800", "tea " * 1_300_000]):
        saved = record(
            content, id=f"r{number}", scope="/a/b", categories=["x", "y"], metadata=values, importance=0.3, source="s",
            private=True, created_at=datetime(2025, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        )  # fmt: skip
        storage.save([saved])
        got = storage.get_record(saved.id)
        assert repr(got) == repr(saved)
        assert got is not None
        assert got.embedding == NORTH
    assert storage.count() == 7
    with pytest.raises(InvalidInputError, match="metadata"):
        storage.save([record(metadata={"x": object()})])


def test_an_id_is_reused(open_memory: Open) -> None:
    storage = AgentMemStorage(open_memory())
    storage.save([record("one", id="a"), record("two", id="a", scope="/x", embedding=EAST)])
    assert storage.count() == 1
    assert storage.delete(record_ids=["a", "b", "a"]) == 1
    storage.save([record("three", id="a", embedding=None)])
    got = storage.get_record("a")
    assert got is not None
    assert (got.content, got.embedding, storage.search(NORTH)) == ("three", None, [])


def test_scopes_are_paths(open_memory: Open) -> None:
    storage = AgentMemStorage(open_memory())
    for scope in ("/", "/a", "/a/b", "/a/b/", "a/c", "/ab", "/a_b", "/A", "/a%", "/a/b/c/d"):
        storage.save([record(id=scope, scope=scope)])
    assert ids(storage.list_records("/a/b")) == ["/a/b", "/a/b/", "/a/b/c/d"]
    assert storage.count("/a") == storage.count("a/") == storage.get_scope_info("/a").record_count == 5
    assert storage.list_scopes("/") == ["/A", "/a", "/a%", "/a_b", "/ab"]
    assert storage.list_scopes("/a") == storage.get_scope_info("a/").child_scopes == ["/a/b", "/a/c"]
    assert storage.count("/") == storage.count() == 10
    assert {found.id for found, _ in storage.search(NORTH, scope_prefix="/a/b", limit=50)} == {
        "/a/b",
        "/a/b/",
        "/a/b/c/d",
    }
    storage.reset("/a")
    assert ids(storage.list_records()) == ["/", "/A", "/a%", "/a_b", "/ab"]
    assert storage.delete(scope_prefix="/ab") == 1


def test_tenants_and_namespaces_share_nothing(open_memory: Open) -> None:
    memory = open_memory()
    storages = [
        AgentMemStorage(memory), AgentMemStorage(memory, user_id="ana"), AgentMemStorage(memory, user_id="rui"),
        AgentMemStorage(memory, user_id="ana", namespace=("other",)), AgentMemStorage(memory.scoped(user_id="eve")),
        storage_factory(memory, user_id="ana")("lancedb"), storage_factory(memory, user_id="ana")("a/path"),
    ]  # fmt: skip
    for number, storage in enumerate(storages):
        storage.save([record(f"tea {number}", id="same")])
    for number, storage in enumerate(storages):
        assert [found.content for found, _ in storage.search(NORTH)] == [f"tea {number}"]
        assert storage.list_records()[0].content == f"tea {number}"
    storages[1].reset()
    storages[2].delete()
    assert [storage.count() for storage in storages] == [1, 0, 0, 1, 1, 1, 1]
    with pytest.raises(ScopeError):
        AgentMemStorage(memory.scoped(user_id="eve"), user_id="ana").count()


def test_records_do_not_show_among_memories(open_memory: Open) -> None:
    memory = open_memory()
    memory.add("green tea", user_id="ana")
    AgentMemStorage(memory, user_id="ana").save([record("green tea", categories=["drink"])])
    assert len(memory.search("green tea", user_id="ana")) == memory.count(user_id="ana") == 1
    assert memory.search("tea", user_id="ana", namespace=NAMESPACE, filters={"categories": "drink"})


def test_criteria_hold_before_the_cut_to_the_limit(open_memory: Open) -> None:
    storage = AgentMemStorage(open_memory())
    old = datetime(2025, 1, 1, tzinfo=UTC)
    storage.save([record(id=f"n{n}", metadata={"n": n, "tags": ["a"], "a.b": "x"}, created_at=old) for n in range(300)])
    storage.save([record(id="far", embedding=[3.0, 4.0] + [0.0] * 30, categories=["c"], metadata={"n": 1.5, "t": "a"})])
    [(found, score)] = storage.search(NORTH, metadata_filter={"n": 1.5}, limit=1)
    assert (found.id, round(score, 5)) == ("far", 0.6)
    assert storage.search(NORTH, metadata_filter={"n": 1.5}, min_score=0.7) == []
    assert storage.search([-1.0] + [0.0] * 31, limit=1)[0][1] == 0
    assert len(storage.search(NORTH, metadata_filter={"a.b": "x"}, limit=250)) == 250
    assert ids(storage.list_records(limit=2, offset=299)) == ["n0", "n1"]
    assert storage.delete(metadata_filter={"tags": "a"}) == 0
    assert storage.delete(record_ids=[]) == storage.delete(record_ids=["n1"], categories=["c"]) == 0
    assert storage.delete(record_ids=["n1", "far"], categories=["c"]) == 1
    assert storage.delete(metadata_filter={"tags": ["a"], "n": 3}, older_than=datetime(2025, 1, 2)) == 1  # noqa: DTZ001
    assert storage.delete(older_than=old) == 0
    assert storage.delete() == storage.list_categories().get("x", 299) == 299


def test_vectors_of_another_length_say_what_to_do(open_memory: Open) -> None:
    storage = AgentMemStorage(open_memory())
    storage.save([record()])
    for call in (lambda: storage.save([record(embedding=[1.0])]), lambda: storage.search([1.0])):
        with pytest.raises(InvalidInputError, match="embed as its embedder"):
            call()
    assert [len(vector) for vector in storage.embed(["tea", " \u200b", "a\x00b", "tea " * 1_300_000])] == [
        32,
        0,
        32,
        32,
    ]


def test_what_was_used_is_noted(open_memory: Open, clock: Any) -> None:
    storage = AgentMemStorage(open_memory())
    storage.save([record(id="a", last_accessed=datetime(2025, 1, 1)), record(id="b")])  # noqa: DTZ001
    clock.advance(3_600)
    storage.touch_records(["a", "none"])
    got = storage.get_record("a")
    assert got is not None
    assert got.last_accessed == clock.now.replace(tzinfo=None)


def test_one_storage_serves_loops_threads_and_a_running_loop(open_memory: Open) -> None:
    storage = AgentMemStorage(open_memory().aio)
    for number in range(3):
        asyncio.run(storage.asave([record(id=str(number))]))

    async def together() -> Any:
        storage.save([record(id="inside")])
        await asyncio.gather(*(storage.asave([record(id=str(number))]) for number in range(3, 20)))
        assert await storage.adelete(record_ids=["0"]) == 1
        return await storage.asearch(NORTH, None, None, None, 100)

    assert len(asyncio.run(together())) == 20
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: storage.update(record(f"{n}", id="one")), range(20)))
    assert storage.count() == 21


def test_a_path_is_opened_again_after_close(tmp_path: Path) -> None:
    storage = AgentMemStorage(tmp_path / "store")
    vectors = storage.embed(["green tea"])
    storage.save([record(id="a", embedding=vectors[0])])
    storage.close()
    assert storage.count() == 1
    del storage
    gc.collect()
    storage = storage_factory(tmp_path / "store", namespace=NAMESPACE[:-1])(NAMESPACE[-1])
    assert ids(storage.list_records()) == ["a"]
    storage.close()


SAVING = """
import sys
import agentmem
from agentmem.adapters.crewai import AgentMemStorage
from conftest import HashEmbedder
from crewai.memory.types import MemoryRecord

store, name = sys.argv[1:]
storage = AgentMemStorage(agentmem.Memory(store, embedder=HashEmbedder()))
vector = storage.embed(["tea"])[0]
print(name, flush=True)
sys.stdin.readline()
deleted = 0
for number in range(10):
    storage.save([MemoryRecord(id=f"{name}{number}", content="own", embedding=vector) for _ in range(2)])
    storage.update(MemoryRecord(id="shared", content=f"{name}{number}", embedding=vector))
    deleted += storage.delete(record_ids=[f"old{number}"])
print(deleted)
"""


def test_three_processes_at_once(tmp_path: Path) -> None:
    with Memory(tmp_path / "store", embedder=HashEmbedder()) as memory:
        AgentMemStorage(memory).save([record(id=f"old{number}") for number in range(10)])
    command, pipe = [sys.executable, "-c", SAVING, str(tmp_path / "store")], subprocess.PIPE
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True, env=there) for name in "abc"]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    assert sum(int(process.communicate("go\n", timeout=120)[0]) for process in running) == 10
    with Memory(tmp_path / "store", embedder=HashEmbedder()) as memory:
        storage = AgentMemStorage(memory)
        assert ids(storage.list_records()) == sorted(["shared", *(f"{name}{n}" for name in "abc" for n in range(10))])
        shared = memory.get(key="shared", namespace=NAMESPACE)
        assert shared is not None
        assert shared.version == 30
