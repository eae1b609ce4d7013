"""Erase, the lifecycle, another model, repair, salvage: records with keys, in namespaces, with ends that slide."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import FakeClock, HashEmbedder
from inspecting import files_with, sql

from agentmem import ConflictError, Memory, NotFoundError, Put, Settings, Touch, Update
from agentmem.operations.salvage import salvage

DESK = ("desk", "left")
Open = Callable[..., Memory]


def filled(memory: Memory, clock: FakeClock) -> str:
    """Records of two users, some touched; returns the id of a sliding one."""
    memory.put_many(
        [{"key": f"k{n}", "content": f"note {n} of mia", "namespace": DESK} for n in range(5)], user_id="mia"
    )
    memory.apply(
        [
            Put("seat", "the secret window seat", user_id="mia", namespace=DESK, ttl=1_000, sliding=True),
            Put("seat", "a seat of nobody", ttl=1_000, sliding=True),
            Update(key="k1", user_id="mia", namespace=DESK, content="another secret note"),
            Touch(key="k2", user_id="mia", namespace=DESK, ttl=50_000),
        ]
    )
    clock.advance(500)
    found = memory.get(key="seat", user_id="mia", namespace=DESK)
    assert found is not None
    return found.id


def test_erase_leaves_nothing_of_a_touch(memory: Memory, clock: FakeClock, store: Path) -> None:
    id = filled(memory, clock)
    memory.erase(id)  # a renewal is waiting to be written down
    memory.lifecycle.sweep()
    assert [event.event for event in memory.history(id)] == ["ADD", "ERASE"]
    assert memory.get(key="seat", user_id="mia", namespace=DESK) is None
    assert sql(memory, "SELECT sliding FROM records WHERE state = 2") == [(None,)]
    again = memory.put("seat", "mia's other seat", user_id="mia", namespace=DESK).record
    assert again.version == 3
    memory.erase_all(user_id="mia")
    memory.flush()
    memory.compact()
    assert files_with(store, "mia", "secret", "desk") == {}
    assert memory.count(under=()) == 1
    assert {event.user_id for event in memory.events(limit=1_000)} == {None}
    assert memory.verify().problems == []


def test_the_lifecycle_frees_keys(memory: Memory, clock: FakeClock) -> None:
    made = memory.put("topic", "boats", user_id="mia", namespace=DESK, layer="interact").record
    slides = memory.put("seat", "by the window", user_id="mia", namespace=DESK, ttl=3_600, sliding=True).id
    for _ in range(30):
        clock.advance(3_000)
        memory.get(slides)
    memory.lifecycle.sweep()
    assert memory.get(made.id) is None
    assert [event.event for event in memory.history(made.id)] == ["ADD", "EXPIRE"]
    assert memory.get(slides) is not None
    with pytest.raises(ConflictError):
        memory.put("topic", "ferries", user_id="mia", namespace=DESK, if_version=1)
    assert memory.put("topic", "ferries", user_id="mia", namespace=DESK, if_version=0).record.version == 3
    clock.advance(3_600)
    memory.lifecycle.sweep()
    assert [event.event for event in memory.history(slides)] == ["ADD", "EXPIRE"]
    with pytest.raises(NotFoundError):
        memory.restore(slides)
    assert memory.put("seat", "another", user_id="mia", namespace=DESK, if_version=0).record.version == 3
    with pytest.raises(ConflictError):
        memory.restore(slides)
    memory.flush()
    assert memory.verify().problems == []


class Other(HashEmbedder):
    name = "other-32"

    def embed_query(self, text: str):  # type: ignore[no-untyped-def]
        return super().embed_query(f"{text} otherwise")


def test_another_model_and_what_is_touched_meanwhile(memory: Memory, clock: FakeClock) -> None:
    id = filled(memory, clock)

    def meanwhile(done: int, total: int) -> None:
        memory.touch([id], ttl=2_000)
        memory.put("late", f"put at {done}", user_id="mia", namespace=DESK)

    memory.reembed(Other(), progress=meanwhile)
    found = memory.get(id)
    assert found is not None
    assert (found.sliding, found.expires_at) == (2_000.0, clock.now + timedelta(seconds=2_000))
    hits = memory.search("window seat", user_id="mia", namespace=DESK, limit=100)
    assert len(hits) == 7
    assert hits[0].id == id
    memory.flush()
    assert memory.verify().problems == []


def test_repair_makes_the_copies_anew(open_memory: Open, clock: FakeClock, store: Path) -> None:
    memory = open_memory()
    id = filled(memory, clock)
    memory.flush()
    memory.close()
    shutil.rmtree(store / "lance")
    memory = open_memory()
    assert memory.repair().problems == []
    assert memory.verify().counts["lancedb"] == 7
    clock.advance(800)
    assert memory.get(id) is not None


def test_a_salvage_keeps_keys_spans_and_touches(open_memory: Open, clock: FakeClock, store: Path) -> None:
    memory = open_memory()
    id = filled(memory, clock)
    memory.lifecycle.sweep()
    before = {record.id: record for record in memory.iterate(user_id="mia", under=(), touch=False)}
    memory.compact()
    memory.close()
    report = salvage(store, Settings(), HashEmbedder())
    assert report.counts["lost"] == 0
    memory = open_memory()
    after = {record.id: record for record in memory.iterate(user_id="mia", under=(), touch=False)}
    assert after == before
    assert after[id].sliding == 1_000.0
    assert [event.event for event in memory.events(limit=1_000)].count("TOUCH") == 2
    clock.advance(900)
    assert memory.get(key="seat", user_id="mia", namespace=DESK) is not None
    memory.flush()
    assert memory.verify().problems == []
