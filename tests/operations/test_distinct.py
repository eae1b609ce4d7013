"""The different values of a field: of metadata and of records, behind walls, in one order."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from filter_oracle import MISSING, in_order, same, values_at, ways

from agentmem import ALL, AsyncMemory, InvalidInputError, Layer, Memory
from agentmem.stores import records as stored_records

VALUES: list[Any] = [
    None, True, False, 0, 1, 1.0, 2.5, -3, "1", "b", "B", "é", "", [], ["b", 4], [["b"], ["b", 1.0]], {"in": 1},
    {"in": 1.0, "also": [2.0]}, [{"in": "x"}, {"in": "y"}, 7],
]  # fmt: skip


def fill(memory: Memory, clock: FakeClock, count: int = 60) -> None:
    pick = random.Random(5)
    for n in range(count):
        clock.advance(60)
        metadata = {"tag": pick.choice(VALUES), "tag.in": pick.choice(VALUES)} if n % 7 else {}
        memory.add(
            f"item {n}", user_id=pick.choice(["uma", "vic", None]), run_id=pick.choice([None, "r1", "r2"]),
            kind=pick.choice(["fact", "note"]), metadata={**metadata, "n": n}, dedupe=False,
        )  # fmt: skip


def expected(memory: Memory, key: str, **options: Any) -> list[Any]:
    every: list[Any] = []
    for record in memory.iterate(order="oldest", **options):
        for value in values_at(record.metadata, ways(key)):
            every += value if isinstance(value, list) else [] if value is MISSING else [value]
    return in_order(every)


@pytest.mark.parametrize("window", [2_000, 7])
def test_values_of_metadata(memory: Memory, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(stored_records, "WINDOW", window)
    fill(memory, clock)
    for key in ("tag", "tag.in", "tag\\.in", "n", "other", "tag.in.x"):
        for options in ({"user_id": "uma"}, {"user_id": ALL}, {}, {"user_id": "vic", "run_id": "r1"}):
            found, wanted = memory.distinct(key, **options), expected(memory, key, **options)
            assert len(found) == len(wanted)
            assert all(same(one, other) for one, other in zip(found, wanted, strict=True)), (key, options)


def test_it_takes_what_page_takes(memory: Memory, clock: FakeClock) -> None:
    fill(memory, clock)
    middle = START + timedelta(minutes=30)
    for options in (
        {"filters": {"n": {"$lt": 9}}}, {"kinds": ["note"]}, {"layers": ["insights"]}, {"since": middle},
        {"until": middle, "kinds": ["fact"]},
    ):  # fmt: skip
        assert memory.distinct("n", user_id=ALL, **options) == expected(memory, "n", user_id=ALL, **options)


def test_fields_of_records(memory: Memory, clock: FakeClock) -> None:
    memory.add("a", id="1", user_id="uma", agent_id="x", importance=0.5, metadata={"$kind": "odd"})
    clock.advance(60)
    memory.add("b", id="2", user_id="vic", kind="note", layer="insights", occurred_at=START)
    memory.add("c", id="3", user_id="vic", run_id="r", role="user", importance=0.5)
    memory.lifecycle.pin("3")
    everybody: Any = {"user_id": ALL}
    assert memory.distinct("$user_id", **everybody) == ["uma", "vic"]
    assert memory.distinct("$agent_id", **everybody) == ["x"]
    assert memory.distinct("$kind", **everybody) == ["fact", "message", "note"]
    layers = memory.distinct("$layer", **everybody)
    assert layers == ["assets", "insights", "interact"]
    assert all(isinstance(layer, Layer) for layer in layers)
    assert memory.distinct("$importance", **everybody) == [0.5]
    assert memory.distinct("$pinned", **everybody) == [False, True]
    assert memory.distinct("$created_at", **everybody) == [START, START + timedelta(seconds=60)]
    assert memory.distinct("$occurred_at", **everybody) == [START]
    assert memory.distinct("$content", user_id="vic") == ["b", "c"]
    assert memory.distinct("\\$kind", user_id="uma") == ["odd"]
    assert memory.distinct("$user_id") == memory.distinct("$id", user_id="stranger") == []


def test_walls_hold(memory: Memory) -> None:
    memory.add("a", id="1", user_id="uma", metadata={"secret": "mine"})
    memory.add("b", user_id="vic", metadata={"secret": "yours"})
    assert memory.scoped(user_id="uma").distinct("secret") == ["mine"]
    assert memory.scoped(user_id="uma").distinct("$user_id") == ["uma"]
    memory.delete("1")
    assert memory.scoped(user_id="uma").distinct("secret") == []


@pytest.mark.parametrize(
    "field", ["", None, 5, ["tag"], "$and", "$knd", "a\x00b", "a.$gt", ".".join("a" * 40)], ids=repr
)
def test_what_is_no_field_is_refused(memory: Memory, field: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        memory.distinct(field)
    assert caught.value.field == "field"


def test_the_waiting_client_as_well(store: Path, embedder: HashEmbedder) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.add("a", user_id="uma", metadata={"tag": ["x", "y"]})
            assert await memory.distinct("tag", user_id="uma") == ["x", "y"]

    asyncio.run(main())
