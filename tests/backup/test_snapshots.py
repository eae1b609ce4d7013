"""Snapshots: kept until they are dropped, and then for as long as something goes on from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeClock

import agentmem
from agentmem import InvalidInputError, Memory, NotFoundError, Settings

HOUR = 3_600


@pytest.fixture
def memory(open_memory: Callable[..., Memory], tmp_path: Path) -> Memory:
    chosen = {"url": str(tmp_path / "backups"), "keep_hours": 1, "keep_days": 0, "keep_weeks": 0}
    return open_memory(settings=Settings(backup=chosen, lifecycle={"sweep_interval_s": 0}))


def test_there_and_back(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("red", user_id="ana").id
    kept = memory.create_snapshot("before the painter came")
    [found] = memory.snapshots()
    assert (found.id, found.kind, found.description) == (kept, "snapshot", "before the painter came")
    memory.update(id, content="blue")
    memory.backup.create("incremental")
    clock.advance(9 * HOUR)
    memory.backup.create()
    assert [one.kind for one in memory.backup.prune()] == ["incremental"]
    report = memory.restore_snapshot(kept)
    assert memory.get(id).content == "red"  # pyright: ignore[reportOptionalMemberAccess]
    assert [one.id for one in memory.snapshots()] == [kept, report.restore_point]
    assert memory.backup.create("incremental").kind == "full"


def test_what_is_dropped_goes_when_nothing_needs_it(memory: Memory, clock: FakeClock, tmp_path: Path) -> None:
    memory.add("one", user_id="ana")
    first, second = memory.create_snapshot("first"), memory.create_snapshot("second")
    memory.add("two", user_id="ana")
    last = memory.backup.create("incremental")
    for id in (first, second, second):
        memory.drop_snapshot(id)
    assert memory.snapshots() == []
    assert [one.id for one in memory.backup.list()] == [second, last.id]  # it goes on from that
    assert memory.backup.verify().ok
    clock.advance(9 * HOUR)
    assert memory.backup.prune() == []
    memory.backup.create()
    clock.advance(9 * HOUR)
    assert [one.id for one in memory.backup.prune()] == [second, last.id]
    assert not list((tmp_path / "backups").rglob("dropped/*"))
    assert agentmem.restore(tmp_path / "backups", tmp_path / "again", seq=1).records == 1


def test_what_is_refused(memory: Memory) -> None:
    memory.add("one", user_id="ana")
    made = memory.backup.create()
    with pytest.raises(NotFoundError):
        memory.drop_snapshot("another")
    with pytest.raises(InvalidInputError, match="is no snapshot, but full"):
        memory.drop_snapshot(made.id)
    assert memory.backup.list() == [made]
