"""Backups hold what stays of archived records, and where the rest is: a store that is made of them finds it there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock
from glacier.test_archiving import fill, said, settings_of

import agentmem
from agentmem import Memory, Settings
from agentmem.errors import ArchiveCorruptError


def with_both(tmp_path: Path) -> Settings:
    return Settings(
        glacier={"url": str(tmp_path / "ice")},
        backup={"url": str(tmp_path / "backups")},
        lifecycle={"sweep_interval_s": 0},
    )


def test_a_restored_store_finds_them(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=with_both(tmp_path))
    ids = fill(memory)
    before = said(memory, ids)
    memory.tiers.archive(ids[:6])
    memory.backup.create()
    memory.tiers.archive(ids[6:])
    memory.tiers.rehydrate(ids[3:7])
    memory.backup.create("incremental")
    assert memory.backup.verify().problems == []
    agentmem.restore(tmp_path / "backups", tmp_path / "again")
    again = open_memory(tmp_path / "again", settings=with_both(tmp_path))
    assert said(again, ids) == before
    assert again.stats().archived == memory.stats().archived
    assert again.verify().problems == []
    assert again.tiers.rehydrate(ids) == len(ids) - 4
    assert said(again, ids) == before
    again.repair()  # archives of another store are left alone
    assert said(memory, ids) == before
    memory.erase(ids[0])
    assert said(memory, ids[1:]) == before[1:]


def test_either_store_may_erase(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    """The archive is written anew by one of them, and the other finds it."""
    memory = open_memory(settings=with_both(tmp_path))
    ids = [memory.add(f"text {n}", user_id="ana").id for n in range(4)]
    memory.tiers.archive(ids)
    memory.backup.create()
    agentmem.restore(tmp_path / "backups", tmp_path / "again")
    again = open_memory(tmp_path / "again", settings=with_both(tmp_path))
    again.erase(ids[0])
    assert said(memory, ids[1:]) == said(again, ids[1:])
    with pytest.raises(ArchiveCorruptError):
        memory.get(ids[0])
    memory.erase(ids[1])
    assert said(again, ids[2:]) == said(memory, ids[2:])
    assert memory.tiers.rehydrate(ids[2:]) == again.tiers.rehydrate(ids[2:]) == 2
    assert memory.verify().ok is False  # that of the first one is gone
    memory.erase(ids[0])
    assert memory.verify().problems == []


def test_moments(open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path) -> None:
    """What lies in an archive by the time of the backup lies there at every earlier moment, too."""
    memory = open_memory(settings=with_both(tmp_path))
    id = memory.add("first", user_id="ana").id
    moments, states = list[Any](), list[Any]()

    def note() -> None:
        clock.advance(60)
        moments.append(clock())
        record = memory.get(id, touch=False)
        assert record is not None
        states.append((record.content, record.metadata, record.version))
        clock.advance(60)

    note()
    memory.update(id, content="second")
    note()
    memory.update(id, metadata={"a": 1})
    note()
    memory.tiers.archive(id)
    note()
    memory.tiers.rehydrate(id)
    memory.update(id, content="third")
    note()
    memory.tiers.archive(id)
    memory.backup.create()
    for n, (at, state) in enumerate(zip(moments, states, strict=True)):
        made = agentmem.restore(tmp_path / "backups", tmp_path / f"at {n}", at=at, embedder=memory.handle.embedder)
        again = open_memory(Path(made.path), settings=with_both(tmp_path))
        record = again.get(id, touch=False)
        assert record is not None
        assert (record.content, record.metadata, record.version) == state
        assert again.verify().problems == []
        again.tiers.rehydrate(id)
        assert again.search(state[0], user_id="ana", mode="vector")[0].similarity == pytest.approx(1)
        assert again.verify().problems == []


def test_in_its_place(open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path) -> None:
    """A store that goes back goes on looking after its archives."""
    memory = open_memory(settings=with_both(tmp_path))
    one, two = memory.add("one", user_id="ana").id, memory.add("two", user_id="ana").id
    memory.tiers.archive([one, two])
    snapshot = memory.create_snapshot()
    memory.tiers.rehydrate(one)
    (tmp_path / "ice").rename(tmp_path / "away")
    assert "archives" in memory.erase(two).pending
    memory.restore_snapshot(snapshot)
    (tmp_path / "away").rename(tmp_path / "ice")
    record = memory.get(one)
    assert record is not None
    assert (record.content, record.archived) == ("one", True)
    assert memory.get(two) is None
    memory.lifecycle.sweep()
    assert memory.verify().problems == []
    memory.tiers.rehydrate(one)
    clock.advance(60 * 86_400)
    assert memory.repair().problems == []
    assert not list((tmp_path / "ice").rglob("manifest"))


def test_an_import_names_what_it_leaves_out(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory, elsewhere = open_memory(settings=settings_of(tmp_path)), open_memory(tmp_path / "elsewhere")
    here, away = memory.add("here", user_id="ana").id, memory.add("away", user_id="ana").id
    memory.tiers.archive(away)
    memory.export(tmp_path / "suitcase", user_id="ana")
    report = elsewhere.import_(tmp_path / "suitcase")
    assert (report.added, report.archived) == (1, (away,))
    assert elsewhere.get(here) is not None
    assert elsewhere.verify().problems == []


def test_salvage_knows_where_they_are(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    ids = fill(memory)
    before = said(memory, ids)
    memory.tiers.archive(ids[:8])
    assert memory.handle.salvage().counts["salvaged"] == len(ids)
    assert said(memory, ids) == before
    assert memory.verify().problems == []
    memory.tiers.rehydrate(ids)
    assert said(memory, ids) == before
