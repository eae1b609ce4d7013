"""``verify()`` beside others who write: what changes while it looks is nobody's fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder

from agentmem import Memory, Settings
from agentmem.glacier.place import Archives
from agentmem.indexes.lance import LanceIndex
from agentmem.retrieval.residents import Residents
from agentmem.stores.connection import Connection
from agentmem.stores.records import Records

IDLE: dict[str, Any] = {"sweep_interval_s": 0}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    settings = Settings(glacier={"url": str(tmp_path / "ice")}, lifecycle=IDLE)
    with Memory(tmp_path / "store", settings=settings, embedder=HashEmbedder()) as memory:
        yield memory


def before(
    patch: pytest.MonkeyPatch, owner: object, name: str, happens: Callable[[], object], times: int = 1
) -> list[str]:
    """Have something happen when a function is called, the first time or so often."""
    real, seen = getattr(owner, name), list[str]()

    def called(*given: Any, **more: Any) -> Any:
        if len(seen) < times:
            seen.append(name)
            happens()
        return real(*given, **more)

    patch.setattr(owner, name, called)
    return seen


@pytest.mark.parametrize("others", [0, 2_500])
def test_what_lancedb_takes_up_while_it_is_compared(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    ids = [memory.add(f"the boat {n} is in the harbour", user_id="ana").record.id for n in range(3)]
    memory.flush()
    real = LanceIndex.scan

    def scan(self: LanceIndex, *given: Any, **more: Any) -> Iterator[Any]:
        blocks = list(real(self, *given, **more))
        memory.add_many([f"number {n}" for n in range(others)], user_id="ben")
        memory.update(ids[0], content="the boat sank")
        memory.delete(ids[1])
        memory.add("there is a fourth one", user_id="ana")
        memory.flush()
        yield from blocks

    monkeypatch.setattr(LanceIndex, "scan", scan)
    assert memory.verify().problems == []


def test_what_is_written_while_an_arena_is_compared(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.add("the boat is in the harbour", user_id="ana")
    assert memory.search("boat", user_id="ana")
    happened = before(monkeypatch, Residents, "_versions", lambda: memory.add("the tea is cold", user_id="ana"))
    assert memory.verify().problems == []
    assert happened


def test_what_is_written_all_the_time_while_records_are_counted(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.add("the boat is in the harbour", user_id="ana")
    texts = (f"{n} boats" for n in count())
    written = before(monkeypatch, Records, "windows", lambda: memory.add(next(texts), user_id="ana"), 50)
    assert memory.verify().problems == []
    assert written


def test_what_is_embedded_otherwise_while_records_are_compared(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    id = memory.add("several", user_id="ana", embed=["first", "second"]).record.id
    real, changed = Connection.execute, list[str]()

    def execute(self: Connection, sql: str, *given: Any, **more: Any) -> Any:
        if not changed and sql.startswith("SELECT row, id, state, vectors"):  # those that it should have, once counted
            changed.append(sql)
            memory.update(id, embed=["one", "another", "a third"])
        return real(self, sql, *given, **more)

    monkeypatch.setattr(Connection, "execute", execute)
    assert memory.verify().problems == []
    assert changed


@pytest.mark.parametrize("leave", ["rehydrate", "erase", "erase_all"])
def test_what_leaves_an_archive_while_that_is_looked_at(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    ids = [memory.add(f"the boat {n} is in the harbour", user_id="ana").record.id for n in range(3)]
    memory.tiers.archive(ids)

    def goes() -> None:
        if leave == "rehydrate":
            memory.tiers.rehydrate(ids)
            memory.repair()
        elif leave == "erase":
            for id in ids[:2]:
                memory.erase(id)
        else:
            memory.erase_all(user_id="ana")

    happened = before(monkeypatch, Archives, "bare", goes)
    assert memory.verify().problems == []
    assert happened
