"""A store is made what it was, in its place: the old one or the new one, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup.test_backups import QUIET, lived
from backup.test_moments import state
from conftest import ROOT, FakeClock, HashEmbedder

import agentmem
from agentmem import (
    AsyncMemory,
    ConflictError,
    Memory,
    ModelMismatchError,
    NotFoundError,
    ScopeError,
    Settings,
    StoreLockedError,
)
from stress.points import POINTS
from stress.victim import HashedWords


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return Settings(backup={"url": str(tmp_path / "backups")}, lifecycle=QUIET.lifecycle)


def contents(memory: Memory, user: str = "ana") -> list[str]:
    return sorted(record.content for record in memory.iterate(user_id=user))


def test_back_and_forth(open_memory: Callable[..., Memory], clock: FakeClock, chosen: Settings) -> None:
    memory = open_memory(settings=chosen)
    lived(memory, clock)
    made, before = memory.backup.create(), state(memory)
    memory.add("later", user_id="ana")
    gone = memory.add("erased later", user_id="ana").id
    memory.flush()
    after = state(memory)
    assert memory.backup.restore(dry_run=True).restore_point is None
    assert state(memory) == after
    report = memory.backup.restore()
    assert (report.path, report.backup) == (str(memory.handle.path), made)
    assert state(memory) == before
    assert memory.verify().problems == []
    assert memory.search("harbour lights", user_id="ana")
    assert report.restore_point is not None
    back = memory.backup.restore(report.restore_point)
    assert state(memory) == after
    memory.erase(gone)
    seq = memory.backup.create("incremental").seq
    assert memory.backup.restore(made.id).restore_point != back.restore_point
    assert state(memory) == before
    new = memory.add("goes on", user_id="ana").id
    assert memory.get(new) is not None
    assert memory.events()[-1].seq > seq
    assert memory.verify().problems == []
    assert not [path.name for path in memory.handle.path.iterdir() if "restoring" in path.name]


def test_conversations_that_are_at_hand_are_those_of_the_moment(
    open_memory: Callable[..., Memory], chosen: Settings
) -> None:
    memory = open_memory(settings=chosen)
    session = memory.session("r", user_id="ana")

    def say(text: str) -> None:
        session.append({"role": "user", "content": text})

    def said() -> list[str]:
        found = [turn.content for turn in session.turns()]
        assert len(found) == session.count()
        return found

    say("one")
    say("two")
    memory.backup.create()
    session.pop()
    say("three")
    assert said() == ["one", "three"]
    report = memory.backup.restore()
    assert said() == ["one", "two"]
    assert "three" not in session.prompt("what now?", max_tokens=1_000).text()
    say("four")
    assert said() == ["one", "two", "four"]
    memory.backup.restore(report.restore_point)
    assert said() == ["one", "three"]


def test_to_a_moment(open_memory: Callable[..., Memory], clock: FakeClock, chosen: Settings) -> None:
    memory = open_memory(settings=chosen)
    id = memory.add("red", user_id="ana").id
    memory.backup.create()
    before = clock()
    clock.advance(60)
    memory.update(id, content="blue")
    memory.add("green", user_id="ana")  # in no backup but the restore point
    assert memory.backup.restore(at=before).embedded in (0, 1)
    assert contents(memory) == ["red"]
    memory.backup.restore(seq=2)
    assert contents(memory) == ["red"] or contents(memory) == ["blue"]


def test_while_others_have_it_open(open_memory: Callable[..., Memory], chosen: Settings) -> None:
    memory, other = open_memory(settings=chosen), open_memory(settings=chosen)
    memory.add("one", user_id="ana")
    made = memory.backup.create()
    other.add("two", user_id="ana")
    with pytest.raises(StoreLockedError, match="open in another client"):
        memory.backup.restore(made.id)
    assert (contents(memory), memory.snapshots()) == (["one", "two"], [])
    other.close()
    memory.backup.restore(made.id)
    assert contents(memory) == ["one"]


def test_what_is_changed_meanwhile_is_not_lost(
    open_memory: Callable[..., Memory], chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmem.backup import create

    memory = open_memory(settings=chosen)
    memory.add("one", user_id="ana")
    made, ordinary = memory.backup.create(), create.create

    def then_add(*arguments: Any, **options: Any) -> Any:
        point = ordinary(*arguments, **options)
        memory.add("two", user_id="ana")
        return point

    with monkeypatch.context() as patch:
        patch.setattr(create, "create", then_add)
        with pytest.raises(ConflictError, match="was changed while"):
            memory.backup.restore(made.id)
    assert (contents(memory), memory.snapshots()) == (["one", "two"], [])


def test_what_is_refused(open_memory: Callable[..., Memory], chosen: Settings) -> None:
    class Other(HashEmbedder):
        name = "another"

    memory = open_memory(settings=chosen)
    memory.add("one", user_id="ana")
    with pytest.raises(ScopeError):
        memory.scoped(user_id="ana").backup.restore()
    with pytest.raises(NotFoundError, match="no backups"):
        memory.backup.restore()
    made = memory.backup.create()
    memory.reembed(Other())
    with pytest.raises(ModelMismatchError, match="restore into another folder"):
        memory.backup.restore(made.id)
    assert (contents(memory), memory.snapshots()) == (["one"], [])
    assert memory.verify().ok


def test_async(chosen: Settings, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncMemory(tmp_path / "s", settings=chosen, embedder=HashEmbedder()) as memory:
            await memory.add("one", user_id="ana")
            await memory.backup.create()
            await memory.add("two", user_id="ana")
            await memory.backup.restore()
            assert [record.content async for record in memory.iterate(user_id="ana")] == ["one"]

    asyncio.run(main())


CODE = """
import sys
from agentmem import Memory
from stress.points import arm
from stress.victim import HashedWords, settings_of
path = sys.argv[1]
with Memory(path, settings=settings_of(200, path=path), embedder=HashedWords()) as memory:
    memory.add("one", user_id="ana")
    made = memory.backup.create()
    memory.add_many([f"more {n}" for n in range(300)], user_id="ana")
    memory.flush()
    arm(sys.argv[2], 1)
    memory.backup.restore(made.id)
"""


STEPS = [name for name in POINTS if name.startswith("restore in place:")]
QUICK = "restore in place: log gone, database not"


@pytest.mark.parametrize(
    "point", [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow]) for name in STEPS]
)
def test_killed_at_each_step(tmp_path: Path, point: str) -> None:
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", CODE, str(store), point], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -9
    with Memory(store, settings=Settings(backup={"url": f"{store}-backups"}), embedder=HashedWords()) as memory:
        assert memory.count(user_id="ana") in (1, 301)
        assert memory.verify().problems == []
        assert len(memory.search("more", user_id="ana", limit=5)) == min(5, memory.count(user_id="ana"))
        [made, restore_point] = memory.backup.list()
        for id, count in ((restore_point.id, 301), (made.id, 1)):
            memory.backup.restore(id)
            assert memory.count(user_id="ana") == count
            assert memory.verify().problems == []
    assert agentmem.restore(f"{store}-backups", tmp_path / "again", id=restore_point.id).records == 301
    shutil.rmtree(tmp_path / "again")
