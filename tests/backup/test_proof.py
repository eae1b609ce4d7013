"""A backup that is verified has been restored: what does not come back, or comes back as something else, is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup.test_backups import QUIET, lived
from backup.test_continuous import until
from conftest import FakeClock

from agentmem import Memory, Settings, StoreLockedError
from agentmem.stores.copying import Source


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return Settings(backup={"url": str(tmp_path / "backups")}, lifecycle=QUIET.lifecycle)


def test_all_of_a_life_is_compared(open_memory: Callable[..., Memory], clock: FakeClock, chosen: Settings) -> None:
    memory = open_memory(settings=chosen)
    lived(memory, clock)
    for kind in ("full", "incremental"):
        made = memory.backup.create(kind)
        report = memory.backup.verify()
        assert report.problems == []
        assert report.counts["restored"] == report.counts["compared"] == made.records
        lived(memory, clock)
        report = memory.backup.verify()  # what has changed since is no difference
        assert report.problems == []
        assert report.counts["compared"] == made.records
    assert "restored" not in memory.backup.verify(quick=True).counts
    assert not (memory.handle.path / "proof").exists()


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE records SET importance = 0.75 WHERE row = 3", "records of row 3"),
        ("UPDATE embeddings_1 SET vector = (SELECT vector FROM embeddings_1 WHERE row = 1) WHERE row = 2", "row 2"),
        ("UPDATE history SET at = at + 1 WHERE row = 4", "history of row 4"),
        ("DELETE FROM history WHERE seq = 5", "history of row 5"),
    ],
)
def test_a_difference_that_no_event_explains(
    open_memory: Callable[..., Memory], chosen: Settings, sql: str, says: str
) -> None:
    memory = open_memory(settings=chosen)
    memory.add_many([f"memory {n}" for n in range(9)], user_id="ana")
    memory.backup.create()
    assert memory.backup.verify().ok
    memory.handle.engine().write(lambda repository: repository.db.execute(sql))
    report = memory.backup.verify()
    assert not report.ok
    assert says in report.problems[0]


def test_a_copy_that_left_something_out(
    open_memory: Callable[..., Memory], chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=chosen)
    memory.add_many([f"memory {n}" for n in range(9)], user_id="ana")
    walk = Source.walk

    def forgetful(self: Source, table: Any, pause: Any) -> Any:
        for found in walk(self, table, pause):
            yield [(user, row) for user, row in found if 5 not in row[:2]]

    monkeypatch.setattr(Source, "walk", forgetful)
    memory.backup.create()
    assert memory.backup.verify(quick=True).ok
    assert not memory.backup.verify().ok


def test_a_proof_that_was_killed_leaves_nothing_for_long(
    open_memory: Callable[..., Memory], chosen: Settings, store: Path
) -> None:
    memory = open_memory(settings=chosen)
    memory.add("one", user_id="ana")
    memory.backup.create()
    left, beside = store / "proof" / "agentmem.db.restoring", store / "agentmem.db.restoring"
    for tidy in (lambda: memory.backup.verify(), lambda: memory.erase_all(user_id="nobody")):
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"somebody's text")
        beside.write_bytes(b"somebody's text")
        tidy()
        assert not left.parent.exists()
    assert not beside.exists()


def test_one_at_a_time(open_memory: Callable[..., Memory], chosen: Settings) -> None:
    memory = open_memory(settings=chosen)
    memory.add("one", user_id="ana")
    memory.backup.create()
    refused = list[str]()

    def again(*_: int) -> None:
        with pytest.raises(StoreLockedError, match="verified already") as caught:
            memory.backup.verify()
        refused.append(str(caught.value))

    assert memory.backup.verify(progress=again).ok
    assert refused


def test_they_are_proved_by_themselves(open_memory: Callable[..., Memory], tmp_path: Path, clock: FakeClock) -> None:
    chosen = Settings(
        backup={"url": str(tmp_path / "backups"), "interval_s": 0.05, "prove_every_hours": 1}, lifecycle=QUIET.lifecycle
    )
    memory = open_memory(settings=chosen)
    memory.add("one", user_id="ana")

    def proved() -> bool:
        health = memory.health().backup
        return health is not None and health.proved_at is not None

    until(proved)
    clock.advance(60)
    health = memory.health()
    assert health.ok
    assert health.backup is not None
    assert (health.backup.proof_age_s, health.backup.proof_error) == (60, None)
    [pack, *_] = (tmp_path / "backups").rglob("packs/*")
    pack.write_bytes(b"something else")
    assert not memory.backup.verify().ok
    health = memory.health()
    assert not health.ok
    assert health.backup is not None
    assert "restore" in str(health.backup.proof_error) or "archive" in str(health.backup.proof_error)
    memory.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "agentmem-proof"]
