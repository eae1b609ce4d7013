"""Whatever was stored and changes without an event is noticed: in messages and facts, live and deleted, old and new."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock

from agentmem import Memory
from agentmem.stores.writes import Repository

ITEM = {
    "content": "Mornings are for rowing.",
    "metadata": {"source": "call"},
    "importance": 0.5,
    "ttl": 3_600,
    "occurred_at": START - timedelta(days=2),
    "agent_id": "coach",
}
CHANGES = [
    ("content", "Mornings are for towing."), ("metadata", '{"source":"cell"}'), ("metadata", None),
    ("importance", 0.25), ("importance", None), ("rating", 5.0), ("expires_at", 2**50), ("expires_at", None),
    ("occurred_at", 1), ("created_at", 1), ("user", 0), ("agent", 0), ("run", 2), ("role", "assistant"),
    ("kind", "facu"), ("id", "other"), ("fingerprint", b"0123456789abcdef"),
]  # fmt: skip


def change(memory: Memory, row: int, **columns: Any) -> None:
    """Change a record behind the back of everything."""
    sets = ", ".join(f"{name} = ?" for name in columns)

    def run(repository: Repository) -> None:
        repository.db.execute(f"UPDATE records SET {sets} WHERE row = ?", (*columns.values(), row))

    memory.handle.engine().write(run)


def problems(memory: Memory) -> list[str]:
    return [problem for problem in memory.verify().problems if problem.startswith("record")]


@pytest.mark.parametrize(("column", "value"), CHANGES)
@pytest.mark.parametrize("role", [None, "user"])
def test_a_silent_change_is_reported(memory: Memory, role: str | None, column: str, value: Any) -> None:
    memory.add_many([{**ITEM, "role": role}, {"content": "beside it", "role": "user"}], user_id="ana")
    memory.feedback(memory.page(user_id="ana", order="oldest").records[0].id, rating=4)
    assert problems(memory) == []
    change(memory, 1, **{column: value})
    found = problems(memory)
    assert len(found) == 1
    assert "is not what was stored" in found[0]


def test_every_way_of_changing_a_record_keeps_it_in_order(memory: Memory, clock: FakeClock) -> None:
    def check() -> None:
        assert problems(memory) == []
        columns = memory.handle.engine().repository.db.execute("SELECT state, checksum IS NULL FROM records")
        assert all(missing == (state == 2) for state, missing in columns)

    added = memory.add_many([ITEM, {**ITEM, "role": "user"}, {**ITEM, "kind": "session_data"}], user_id="ana")
    for id in [one.id for one in added]:
        memory.update(id, content="Evenings are for reading.", metadata={"source": None}, importance=-0.0)
        check()
        memory.feedback(id, rating=2.5)
        memory.lifecycle.demote(id) if memory.get(id).layer == "assets" else None
        memory.lifecycle.pin(id)
        memory.lifecycle.promote(id)
        check()
        memory.delete(id)
        check()
        memory.restore(id, version=1)
        check()
    memory.add({**ITEM, "importance": 0.9}, user_id="ana")
    check()
    memory.update(added[1].id, ttl=None)
    clock.advance(3_700)
    memory.lifecycle.sweep()
    check()
    change(memory, 1, content="hidden, and damaged")
    assert len(problems(memory)) == 1
    memory.erase(added[0].id)
    check()


def test_records_from_before_keep_what_they_have(memory: Memory) -> None:
    """Facts a key by the first rule, messages nothing; a change gives them both."""
    fact, message = (memory.add({**ITEM, "role": role}, user_id="ana", ttl=None).id for role in (None, "user"))

    def age(repository: Repository) -> None:
        from agentmem.stores.facts import first_fact_key

        stored = repository.find_by_id(fact)
        assert stored is not None
        key = first_fact_key(stored.scope, stored.role, stored.kind, stored.content)
        repository.db.execute("UPDATE records SET checksum = NULL")
        repository.db.execute("UPDATE records SET fingerprint = ? WHERE fingerprint IS NOT NULL", (key,))
        repository.set_meta("first_keys_row", 2)

    memory.handle.engine().write(age)
    assert problems(memory) == []
    change(memory, 2, content="altered")  # there is nothing to compare it with
    assert problems(memory) == []
    change(memory, 2, content=ITEM["content"])
    change(memory, 1, content="altered")
    assert len(problems(memory)) == 1
    change(memory, 1, content=ITEM["content"])
    for id in (fact, message):
        memory.update(id, importance=0.75)
    assert problems(memory) == []
    for row in (1, 2):
        change(memory, row, content="altered")
    assert len(problems(memory)) == 2


def test_a_damaged_message_is_named_by_a_salvage(open_memory: Callable[..., Memory], store: Path) -> None:
    memory = open_memory()
    ids = [one.id for one in memory.add_many([{**ITEM, "role": "user", "ttl": None}] * 3, user_id="ana")]
    memory.close()
    data = (store / "agentmem.db").read_bytes()
    at = data.index(b"rowing", data.index(b"rowing") + 1)  # new rows are written from the end of a page
    (store / "agentmem.db").write_bytes(data[:at] + b"mowing" + data[at + 6 :])
    memory = open_memory()
    report = memory.repair(salvage=True)
    assert report.counts["altered"] == 1
    assert any(ids[1] in problem for problem in report.problems)
    assert memory.verify().ok
    assert memory.get(ids[1]).content == "Mornings are for mowing."
