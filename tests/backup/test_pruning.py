"""Which backups go, and that none that stays lacks anything, wherever a removal is broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeClock

import agentmem
from agentmem import Memory, Settings
from agentmem.archive.folder import FolderObjects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup import lineage

HOUR = 3_600


@pytest.fixture
def memory(open_memory: Callable[..., Memory], tmp_path: Path) -> Memory:
    chosen = {"url": str(tmp_path / "backups"), "keep_hours": 24, "keep_days": 4, "keep_weeks": 2}
    return open_memory(settings=Settings(backup=chosen, lifecycle={"sweep_interval_s": 0}))


def fill(memory: Memory, clock: FakeClock, days: int) -> None:
    """Every 6 hours a backup, the first one of each day a full one."""
    for n in range(days * 4):
        clock.advance(6 * HOUR)
        memory.add(f"memory of {clock()}", user_id="ana")
        memory.backup.create("incremental" if n % 4 else "full")


@pytest.mark.slow
def test_fewer_and_fewer(memory: Memory, clock: FakeClock, tmp_path: Path) -> None:
    fill(memory, clock, 1)
    snapshot = memory.backup.create("snapshot", description="to be kept")
    fill(memory, clock, 15)
    everything = memory.backup.list()
    gone = memory.backup.prune(dry_run=True)
    assert memory.backup.list() == everything
    assert memory.backup.prune() == gone
    left = memory.backup.list()
    assert sorted(one.id for one in [*left, *gone]) == sorted(one.id for one in everything)
    assert left[0] == snapshot
    ages = [(clock() - one.at).total_seconds() / HOUR for one in left]
    assert len([age for age in ages if age < 24]) == 4
    assert len([age for age in ages if 24 <= age < 4 * 24]) == 3
    assert 1 <= len([age for age in ages[1:] if 4 * 24 <= age]) <= 2
    assert all(one.kind in ("full", "snapshot") for one, age in zip(left, ages, strict=True) if age >= 24)
    assert memory.backup.prune() == []
    for one in left:
        assert memory.backup.verify(one.id).ok
    # Moments of which the backups are gone are made of the next that is there.
    for seq in (1, 5, 50, 64):
        assert agentmem.restore(tmp_path / "backups", tmp_path / f"again {seq}", seq=seq).records == seq
    assert memory.backup.create("incremental").kind == "incremental"


class Dying(FolderObjects):
    """A place whose process dies at the next removal but so many."""

    left = 0

    def delete(self, key: str) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().delete(key)


def test_killed_at_each_step(memory: Memory, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentmem.backup import create, pruning

    fill(memory, clock, 1)
    clock.advance(100 * 24 * HOUR)
    memory.backup.create()
    objects, step = Dying(tmp_path / "backups"), 0
    engine, retention = memory.handle.engine(), pruning.Retention(24, 7, 4)
    while True:
        objects.left = step
        try:
            create.prune(engine, objects, retention)
            break
        except KeyboardInterrupt:
            step += 7
        for entry, _ in lineage.entries(objects):
            assert list(ArchiveReader(objects, entry.archive).problems()) == []
        assert agentmem.restore(tmp_path / "backups", tmp_path / "again", dry_run=True).records == 4
    assert step
    [entry] = [entry for entry, _ in lineage.entries(objects)]
    assert {found.key.split("/")[2] for found in objects.list(f"{entry.lineage}/backups")} == {
        entry.archive.rpartition("/")[2]
    }


def test_what_was_made_while_the_clock_was_ahead_does_not_stay_until_then(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock, 1)
    right = clock()
    clock.advance(365 * 24 * HOUR)
    fill(memory, clock, 1)
    clock.now = right
    fill(memory, clock, 1)
    assert len(memory.backup.list()) - len(memory.backup.prune()) > 4  # the last day, and the first of what was before
    clock.advance(30 * 24 * HOUR)
    last = memory.backup.create()
    memory.backup.prune()
    assert memory.backup.list() == [last]
