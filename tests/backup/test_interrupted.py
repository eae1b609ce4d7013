"""Processes that end in the middle of something, and the increments that come after it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

import agentmem
from agentmem import Memory, Settings
from agentmem.errors import ArchiveCorruptError
from stress.victim import HashedWords, backups_of, settings_of

CODE = """
import sys
from agentmem import Memory
from stress.points import arm
from stress.victim import HashedWords, settings_of
path, point = sys.argv[1:]
with Memory(path, settings=settings_of(200, path=path), embedder=HashedWords()) as memory:
    memory.add_many([f"first {n}" for n in range(50)], user_id="ana")
    memory.backup.create()
    memory.add_many([f"second {n}" for n in range(50)], user_id="ana")
    memory.backup.create("incremental")
    memory.add_many([f"third {n}" for n in range(50)], user_id="ana")
    arm(point, 1)
    memory.compact()
"""


@pytest.mark.parametrize("point", ["checkpoint: before", pytest.param("checkpoint: after", marks=pytest.mark.slow)])
def test_a_writer_that_is_stopped_at_a_checkpoint(tmp_path: Path, point: str) -> None:
    path = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", CODE, str(path), point], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -9
    with Memory(path, settings=settings_of(200, path=path), embedder=HashedWords()) as memory:
        memory.add("fourth", user_id="ana")
        made = memory.backup.create("incremental")
        assert (made.kind, made.records) == ("incremental", 151)
        report = memory.backup.verify()
        assert (report.problems, report.counts["compared"]) == ([], 151)
    for seq in (75, 120):
        report = agentmem.restore(backups_of(path), tmp_path / f"again {seq}", seq=seq)
        assert report.records == seq
        with Memory(report.path, settings=Settings(), embedder=HashedWords()) as again:
            assert again.verify().problems == []


def flip(path: Path) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
    return data


def test_a_damaged_entry_keeps_nobody_from_the_others(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    url = tmp_path / "backups"
    memory = open_memory(settings=Settings(backup={"url": str(url)}, lifecycle={"sweep_interval_s": 0}))
    for kind in ("full", "incremental", "full", "incremental"):
        memory.add("one more", user_id="ana", dedupe=False)
        memory.backup.create(kind)
    entries = sorted(url.rglob("chain/*"))
    for entry, harmless in zip(entries, (True, True, False, False), strict=True):
        data = flip(entry)
        with pytest.raises(ArchiveCorruptError):
            memory.backup.list()
        if harmless:
            assert agentmem.restore(url, tmp_path / "again", dry_run=True).records == 4
            assert agentmem.restore(url, tmp_path / "again", seq=2, dry_run=True).records == 2
            assert memory.backup.verify().ok
        else:
            with pytest.raises(ArchiveCorruptError):
                agentmem.restore(url, tmp_path / "again", dry_run=True)
        entry.write_bytes(data)
    flip(entries[-1])
    assert memory.backup.create("incremental").kind == "full"  # and now nothing depends on it
    assert agentmem.restore(url, tmp_path / "again", dry_run=True).records == 4
    assert memory.backup.verify().ok


def test_damage_that_is_noticed_is_mended_by_the_next_backup(
    open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    url = tmp_path / "backups"
    memory = open_memory(settings=Settings(backup={"url": str(url)}, lifecycle={"sweep_interval_s": 0}))
    memory.add("one", user_id="ana")
    memory.backup.create()
    [pack] = url.rglob("packs/*")
    flip(pack)
    memory.add("two", user_id="ana")
    assert memory.backup.create("incremental").kind == "incremental"
    assert not memory.backup.verify().ok
    assert memory.backup.create("incremental").kind == "full"
    assert memory.backup.verify().ok
    assert agentmem.restore(url, tmp_path / "again").records == 2
    assert agentmem.restore(url, tmp_path / "earlier", seq=1, id=memory.backup.list()[-1].id).records == 1
