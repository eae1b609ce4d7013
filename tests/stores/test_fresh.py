"""What was added last is taken up without being read, and only as long as that is what the store holds."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray

from agentmem import Add, CapacityError, ConflictError, Delete, Memory, Settings
from agentmem.stores import fresh
from agentmem.stores.commit import Task
from agentmem.stores.records import Records
from agentmem.types.ports import Entry


class Letters:
    """Another model: how often each of eight letters comes."""

    name, dim = "letters-8", 8

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self.embed_query(text) for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return np.bincount([ord(letter) % 8 for letter in text], minlength=8).astype(np.float32)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that are read for arenas, from now on."""
    found, entries_of = list[int](), Records.entries_of

    def watched(self: Records, rows: Iterable[int], *more: Any) -> list[Entry]:
        rows = list(rows)
        found.extend(rows)
        return entries_of(self, rows, *more)

    monkeypatch.setattr(Records, "entries_of", watched)
    return found


def texts(memory: Memory, query: str, **options: Any) -> list[str]:
    return [hit.content for hit in memory.search(query, user_id="ida", **options)]


def held(memory: Memory) -> Memory:
    """The same client, with somebody's records held in memory."""
    memory.add("Ida was here.", user_id="ida")
    assert texts(memory, "anything") == ["Ida was here."]
    return memory


def kept(memory: Memory) -> Sequence[str]:
    held = memory.handle.engine().commits.fresh._kept.by_row.values()  # pyright: ignore[reportPrivateUsage]
    return [Entry(*values).content for values in held]


def test_what_was_added_is_not_read(open_memory: Callable[..., Memory], read: list[int]) -> None:
    memory = open_memory()
    memory.add("Ida keeps bees.", user_id="ida")
    assert texts(memory, "bees") == ["Ida keeps bees."]
    read.clear()
    memory.add_many(["Ida has a boat.", "Ida lives by the harbour."], user_id="ida", metadata={"year": 2024})
    memory.put("boat", "The boat is called Nereid.", user_id="ida", data={"length": 7})
    assert set(texts(memory, "the boat")[:2]) == {"Ida has a boat.", "The boat is called Nereid."}
    assert len(texts(memory, "harbour", filters={"year": 2024})) == 2
    assert read == []
    assert memory.verify().problems == []


def test_what_has_changed_since_is_read(open_memory: Callable[..., Memory], read: list[int]) -> None:
    memory = held(open_memory())
    first, second, third = (memory.add(f"Ida has {what}.", user_id="ida").id for what in ("a boat", "bees", "two cats"))
    memory.update(first, content="Ida sold it.")
    memory.delete(second)
    memory.delete(third)
    memory.restore(third)
    assert sorted(texts(memory, "Ida has")) == ["Ida has two cats.", "Ida sold it.", "Ida was here."]
    assert len(read) == 3
    memory.update(third, content="Ida has three cats.")
    assert sorted(texts(memory, "Ida has")) == ["Ida has three cats.", "Ida sold it.", "Ida was here."]


def test_what_another_process_has_changed_is_read(
    store: Path, open_memory: Callable[..., Memory], read: list[int]
) -> None:
    memory = held(open_memory())
    id = memory.add("Ida has a boat.", user_id="ida").id
    code = """
import sys
sys.path.insert(0, sys.argv[3])
from agentmem import Memory
from conftest import HashEmbedder
with Memory(sys.argv[1], embedder=HashEmbedder()) as memory:
    memory.update(sys.argv[2], importance=1)
"""
    subprocess.run([sys.executable, "-c", code, store, id, ROOT / "tests"], check=True, timeout=60)
    [hit] = [hit for hit in memory.search("boat", user_id="ida") if hit.id == id]
    assert hit.record.importance == 1
    assert len(read) == 1


def test_what_was_undone_is_not_kept(open_memory: Callable[..., Memory]) -> None:
    """Its row is given to another record by a later transaction."""
    full = {"insights": {"max_size_mb": 0.01, "eviction_policy": "never"}}
    memory = held(open_memory(settings=Settings(layers=full)))
    id = memory.add("Ida keeps bees.", user_id="ida").id
    with pytest.raises(CapacityError):
        memory.add("Ida has a secret. " * 1_000, user_id="ida", layer="insights")
    memory.update(id, importance=1)
    assert kept(memory) == ["Ida keeps bees."]


def test_nor_is_what_was_undone_within_a_transaction(open_memory: Callable[..., Memory]) -> None:
    """Changes that cannot be made share it with one that can; what they added has a row that others get."""
    memory, go_on = held(open_memory()), Event()
    id = memory.add("Ida keeps bees.", user_id="ida").id
    commits = memory.handle.engine().commits
    held_up = commits.submit(Task(lambda _: go_on.wait(10)))
    with ThreadPoolExecutor(2) as pool:
        before = commits.requests
        changes = [Add({"content": "Ida has a secret.", "user_id": "ida"}), Delete("nobody", if_version=1)]
        refused = pool.submit(memory.apply, changes)
        while commits.requests == before:
            time.sleep(0.001)
        changed = pool.submit(memory.update, id, content="Ida kept bees.")
        while commits.requests == before + 1:
            time.sleep(0.001)
        go_on.set()
        assert held_up.result(10)
        with pytest.raises(ConflictError):
            refused.result(10)
        changed.result(10)
    assert kept(memory) == ["Ida keeps bees."]
    assert sorted(texts(memory, "Ida")) == ["Ida kept bees.", "Ida was here."]


def test_what_was_erased_is_not_kept(open_memory: Callable[..., Memory]) -> None:
    memory = held(open_memory())
    id = memory.add("Ida has a secret.", user_id="ida").id
    assert kept(memory) == ["Ida has a secret."]
    memory.erase(id)
    assert kept(memory) == []
    memory.add("Ida has a boat.", user_id="ida")
    memory.erase_all(user_id="ida")
    assert kept(memory) == []


def test_nor_is_what_another_process_erased(store: Path, open_memory: Callable[..., Memory]) -> None:
    memory = held(open_memory())
    id = memory.add("Ida has a secret.", user_id="ida").id
    command = [sys.executable, "-m", "agentmem", "erase", "--path", store, "--yes", id]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT)
    texts(memory, "anything")
    assert kept(memory) == []


def test_nothing_is_kept_for_nobody(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    memory.add("Ida has a boat.", user_id="ida")
    assert kept(memory) == []


def test_only_so_much_is_kept(
    open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    memory = held(open_memory())
    monkeypatch.setattr(fresh, "MOST", 5_000)
    memory.add_many([f"Ida has {n} books. " + "x" * 400 for n in range(20)], user_id="ida")
    assert 3 <= len(kept(memory)) <= 5
    assert len(texts(memory, "Ida has books", limit=100)) == 21
    assert 15 <= len(read) <= 17
    assert memory.verify().problems == []


def test_another_models_vectors_are_not_taken(open_memory: Callable[..., Memory]) -> None:
    memory = held(open_memory())
    memory.add("Ida has a boat.", user_id="ida")
    memory.reembed(Letters())
    assert texts(memory, "Ida has a boat.", mode="vector")[0] == "Ida has a boat."
    memory.add("Ida has bees.", user_id="ida")
    assert texts(memory, "Ida has bees.", mode="vector")[0] == "Ida has bees."
    assert memory.verify().problems == []
