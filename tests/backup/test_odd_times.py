"""Times at the ends of the calendar, as callers give them for "ever since" and "for good", and clocks that are set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder

import agentmem
from agentmem import Memory, MemoryRecord, Settings

FIELDS = ("occurred_at", "valid_from", "valid_to")
ODD = [
    datetime.max.replace(tzinfo=UTC),
    datetime(2300, 1, 1, 0, 0, 0, 123_457, tzinfo=UTC),
    datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
]


def said(memory: Memory, ids: list[str]) -> list[MemoryRecord]:
    """Records as they are, but for when they were last used."""
    found = [memory.get(id, touch=False) for id in ids]
    return [replace(record, last_accessed=None) for record in found if record is not None]


@pytest.mark.parametrize("at", ODD, ids=lambda at: str(at.year))
def test_odd_times_come_back_from_a_backup_as_they_were(
    open_memory: Callable[..., Memory], embedder: HashEmbedder, clock: FakeClock, tmp_path: Path, at: datetime
) -> None:
    settings = Settings(backup={"url": str(tmp_path / "backups")})
    memory, other = open_memory(settings=settings), open_memory(tmp_path / "other")
    items: list[Any] = [{"content": f"what has {field}", field: at} for field in FIELDS]
    ids = [memory.add(item, user_id="ana").id for item in items]
    then, before = clock(), said(memory, ids)
    memory.backup.create()
    clock.advance(60)
    memory.update(ids[0], content="what is said otherwise")
    memory.backup.create("incremental")

    for name, options in (("newest", {}), ("moment", {"at": then})):
        report = agentmem.restore(tmp_path / "backups", tmp_path / name, embedder=embedder, **options)
        again = open_memory(report.path)
        assert said(again, ids) == (before if options else said(memory, ids))
        assert again.verify().ok

    memory.export(str(tmp_path / "suitcase"), user_id="ana")
    assert other.import_(str(tmp_path / "suitcase")).added == len(ids)
    assert said(other, ids) == said(memory, ids)
    assert other.verify().ok

    memory.delete_many(ids)
    memory.backup.restore_user("ana", at=then, overwrite=True)
    assert [record.occurred_at for record in said(memory, ids)] == [record.occurred_at for record in before]
    assert memory.verify().ok
    assert memory.backup.verify().ok


@pytest.mark.parametrize(
    "at",
    [datetime(9999, 12, 31, 23, 59, 59, 999_990, tzinfo=UTC), datetime(9999, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
    ids=str,
)
def test_what_came_while_a_clock_stood_at_an_end_of_time_can_be_read(
    open_memory: Callable[..., Memory], embedder: HashEmbedder, clock: FakeClock, tmp_path: Path, at: datetime
) -> None:
    memory = open_memory(settings=Settings(backup={"url": str(tmp_path / "backups")}))
    right, clock.now = clock(), at
    plain = memory.add({"role": "user", "content": "a plain one"}, user_id="ana").id
    short = memory.put("short", "with an end", user_id="ana", ttl=timedelta(days=1), sliding=True).id
    ids = [plain, short]
    memory.touch([plain], ttl=60)
    memory.lifecycle.explain(plain)
    memory.update(short, content="with another end")
    memory.lifecycle.promote(plain)
    memory.lifecycle.pin(plain)
    memory.delete(memory.add("a deleted one", user_id="ana").id)
    memory.erase(memory.add("an erased one", user_id="ana").id)
    memory.lifecycle.sweep()
    for now in (at, right):
        clock.now = now
        assert [memory.get(id) is not None for id in ids] == [True, True]
        assert sorted(record.id for record in memory.iterate(user_id="ana")) == sorted(ids)
        assert sorted(hit.id for hit in memory.search("one with an end", user_id="ana", limit=2)) == sorted(ids)
        assert memory.lifecycle.explain(plain).due_rule == "ttl"
        assert all(event.at.year == 9999 for id in ids for event in memory.history(id))
        assert [event.seq for event in memory.events()] == sorted(event.seq for event in memory.events())
        assert memory.deleted(user_id="ana")
        memory.sessions(user_id="ana")
        memory.users()
        memory.lifecycle.sweep(dry_run=True)
        assert memory.verify().ok
        memory.backup.create()
        assert memory.backup.list()
        assert memory.backup.verify().ok


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(days=365), timedelta(days=-365)], ids=str)
def test_the_newest_backup_is_the_last_one_whatever_the_clock_said(
    open_memory: Callable[..., Memory], embedder: HashEmbedder, clock: FakeClock, tmp_path: Path, off: timedelta
) -> None:
    url = str(tmp_path / "backups")
    memory = open_memory(settings=Settings(backup={"url": url}))
    ids = list[str]()
    for n, away in enumerate((timedelta(0), off, timedelta(0))):
        clock.advance(60)
        right, clock.now = clock(), clock() + away
        ids.append(memory.add(f"number {n}", user_id="ana").id)
        memory.backup.create("full" if n == 0 else "incremental")
        clock.now = right
    made = memory.backup.list()
    assert [backup.seq for backup in made] == sorted(backup.seq for backup in made)
    report = agentmem.restore(url, tmp_path / "again", embedder=embedder)
    assert report.records == 3
    assert report.backup == made[-1]
    memory.delete_many(ids)
    memory.backup.restore_user("ana")
    assert sorted(record.id for record in memory.iterate(user_id="ana")) == sorted(ids)
