"""Exact arenas that are kept on the disk: the next process answers as if it had read every record."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock
from inspecting import kept_arenas, wait_until_kept

from agentmem import Memory, Settings
from agentmem.retrieval import residents, snapshots
from agentmem.retrieval.postings import lasting
from agentmem.stores import arrayfile
from agentmem.stores.folder import ARENAS

Open = Callable[..., Memory]
WORDS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residents, "KEPT_FROM", 100)
    monkeypatch.setattr(snapshots, "AGAIN_S", -1.0)
    monkeypatch.setattr(snapshots, "CHANGES", 10)


def opened(open_memory: Open, **more: Any) -> Memory:
    quiet = {"lifecycle": {"sweep_interval_s": 0}, "query_cache_size": 0}
    return open_memory(settings=Settings(**quiet), **more)


def fill(memory: Memory, count: int = 150) -> None:
    for user in ("ana", "ben"):
        items = [
            {
                "content": f"the {WORDS[n % 12]} of {WORDS[n % 7]}ington {n}", "id": f"{user}-{n:03}", "user_id": user,
                "run_id": "monday" if n % 3 else None, "importance": n / count, "kind": WORDS[n % 2],
            }
            for n in range(count)
        ]  # fmt: skip
        memory.add_many(items, dedupe=False)
    for n in range(6):
        embed = [f"a zeppelin {n}", f"a windmill {n}"] if n % 2 else False
        memory.add(f"a story {n}", id=f"story-{n}", user_id="ana", run_id="monday", embed=embed)


def answers(memory: Memory) -> list[tuple[str, float, str | None]]:
    found = list[tuple[str, float, str | None]]()
    for query in ("the lantern of harbourington", "a zepelin", "windmill 3", "story 4", "rivers 12 in winter", "late"):
        for mode in ("hybrid", "vector", "keyword"):
            for more in ({}, {"run_id": "monday"}, {"kinds": ["lantern"]}):
                hits = memory.search(query, user_id="ana", mode=mode, limit=30, **more)  # type: ignore[arg-type]
                found += [(hit.id, round(hit.score, 5), hit.record.run_id) for hit in hits]
    return found


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each arena that is loaded, whether it was kept."""
    seen, original = list[bool](), residents.Residents._restored

    def told(*arguments: Any) -> Any:
        arena = original(*arguments)
        seen.append(arena is not None)
        return arena

    monkeypatch.setattr(residents.Residents, "_restored", told)
    return seen


@pytest.fixture
def there(open_memory: Open, store: Path) -> Path:
    with opened(open_memory) as memory:
        fill(memory)
        memory.search("harbour", user_id="ana")
        return wait_until_kept(store)


def test_the_next_process_answers_from_it(there: Path, open_memory: Open, clock: FakeClock, loads: list[bool]) -> None:
    with opened(open_memory) as memory:
        memory.update("ana-007", content="an unheard of lighthouse")
        memory.update("ana-009", importance=1.0)
        memory.delete("ana-008")
        memory.delete("story-5")
        memory.update("story-3", embed=True)
        memory.update("ana-011", embed=["a paper kite", "a second one"])
        memory.add("a late lighthouse", id="late", user_id="ana", run_id="monday", ttl=60)
        memory.feedback("ana-012", rating=5)
        memory.delete("ana-013")
        memory.restore("ana-013")
        found = answers(memory)
        assert loads == [True]
        assert memory.search("paper kite", user_id="ana", mode="vector")[0].id == "ana-011"
        assert {hit.id for hit in memory.search("lighthouse", user_id="ana", mode="keyword")} == {"ana-007", "late"}
        assert memory.verify().ok
    there.unlink()
    with opened(open_memory) as memory:
        assert answers(memory) == found
        assert loads == [True, False]
        clock.advance(61)
        assert "late" not in {hit.id for hit in memory.search("late lighthouse", user_id="ana")}


def test_what_has_changed_much_is_kept_again(there: Path, open_memory: Open, store: Path, loads: list[bool]) -> None:
    before = there.read_bytes()
    with opened(open_memory) as memory:
        memory.search("harbour", user_id="ana")
        memory.add_many([f"a windmill {n}" for n in range(30)], user_id="ana", dedupe=False)
        memory.update("ana-003", content="a kite")
        found = answers(memory)
        wait_until_kept(store, before)
    with opened(open_memory) as memory:
        assert answers(memory) == found
        assert memory.verify().ok
    assert loads == [True, True]


def test_one_that_is_far_behind_is_left_alone(there: Path, open_memory: Open, loads: list[bool]) -> None:
    with opened(open_memory) as memory:
        memory.add_many([f"a windmill {n}" for n in range(400)], user_id="zoe", dedupe=False)
        assert len(memory.search("harbour", user_id="ana", limit=500)) > 100
    assert loads == [False]


def test_one_with_many_dead_slots_is_loaded_afresh(open_memory: Open, store: Path, loads: list[bool]) -> None:
    def turn(memory: Memory, number: int) -> None:
        for start in range(0, 550, 50):
            items = [{"key": f"k{n}", "content": f"a kite {n} of turn {number}"} for n in range(start, start + 50)]
            memory.put_many(items, user_id="ana")
            if number:
                memory.search("kite", user_id="ana")

    with opened(open_memory) as memory:
        turn(memory, 0)
    memory = opened(open_memory)
    for number in range(1, 4):
        turn(memory, number)
        wait_until_kept(store)
    taken = len(loads)
    for _ in range(3):
        assert len(memory.search("kite", user_id="ana", limit=1_000)) == 550
    assert len(loads) == taken
    [resident] = memory.handle.engine().retriever.residents._every()
    assert resident.arena is not None
    assert resident.arena.slots <= 1_100


@pytest.mark.parametrize("damage", ["cut", "one byte", "emptied", "fewer ids"])
def test_damage_is_told_and_mended(
    there: Path, open_memory: Open, store: Path, loads: list[bool], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = there.read_bytes()
    if damage == "fewer ids":
        header, arrays = arrayfile.read(there)
        arrayfile.write(there, header, {**arrays, "id lengths": arrays["id lengths"][:-1]})
    else:
        at = len(data) // 2
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        there.write_bytes({"cut": data[:at], "one byte": flipped, "emptied": b""}[damage])
    changed = there.read_bytes()
    with opened(open_memory) as memory:
        answers(memory)
        assert loads == [False]
        assert "made anew" in caplog.text
        wait_until_kept(store, changed)
        assert memory.verify().ok


def test_a_vector_that_is_not_there_any_more_is_not_answered_with(
    there: Path, open_memory: Open, store: Path, loads: list[bool]
) -> None:
    """Whatever took it: what is kept says nothing of vectors."""
    header, arrays = arrayfile.read(there)
    arrays["column row"][7] += 100_000
    arrayfile.write(there, header, arrays)
    with opened(open_memory) as memory:
        assert "ana-007" not in {hit.id for hit in memory.search("harbour", user_id="ana", limit=500)}
    assert loads == [True]


def test_what_was_erased_is_not_kept(open_memory: Open, store: Path) -> None:
    memory = opened(open_memory)
    fill(memory)
    unheard = memory.add("an unheard of zeppelin", user_id="ana").id
    memory.search("lantern", user_id="ana")
    wait_until_kept(store)
    memory.erase(unheard)
    assert not kept_arenas(store)
    memory.search("lantern", user_id="ana")
    _, arrays = arrayfile.read(wait_until_kept(store))
    assert lasting("unheard") not in arrays["words terms"]
    assert lasting("lantern") in arrays["words terms"]
    other = memory.add("another unheard of one", user_id="ana").id
    memory.search("lantern", user_id="ana")
    subprocess.run(
        [
            sys.executable, "-c",
            "import sys; sys.path.insert(0, sys.argv[2])\n"
            "from conftest import FakeClock, HashEmbedder\n"
            "from agentmem import Memory\n"
            "with Memory(sys.argv[1], clock=FakeClock(), embedder=HashEmbedder()) as memory: memory.erase(sys.argv[3])",
            str(store), str(ROOT / "tests"), other,
        ],
        cwd=ROOT, check=True, timeout=120,
    )  # fmt: skip
    assert not kept_arenas(store)
    memory.add_many([f"a windmill {n}" for n in range(30)], user_id="ana", dedupe=False)
    memory.search("lantern", user_id="ana")
    _, arrays = arrayfile.read(wait_until_kept(store))
    assert lasting("unheard") not in arrays["words terms"]
    assert other.encode() not in arrays["ids"].tobytes()
    assert memory.verify().ok


def test_closing_waits_until_it_is_written_and_nothing_half_written_stays(open_memory: Open, store: Path) -> None:
    with opened(open_memory) as memory:
        fill(memory)
    left, now = store / ARENAS / "left.arena.x.new", time.time()
    left.parent.mkdir()
    future = left.with_name("future.arena.z.new")
    for name, age in ((left, 4_000), (future, -365 * 86_400), (other := left.with_name("other.arena.y.new"), 10)):
        name.write_bytes(b"half")
        os.utime(name, (now - age, now - age))
    with opened(open_memory) as memory:
        memory.search("harbour", user_id="ana")
    assert len(kept_arenas(store)) == 1
    assert (left.exists(), future.exists(), other.exists()) == (False, False, True)


def test_nothing_is_written_where_nothing_may_be(open_memory: Open, store: Path) -> None:
    with opened(open_memory) as memory:
        fill(memory)
    with opened(open_memory, read_only=True) as memory:
        assert memory.search("harbour", user_id="ana")
    assert not kept_arenas(store)
