"""The same fact many times: in one batch, in every order, by many threads at once, against the oracle."""

from __future__ import annotations

import tempfile
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import Oracle, Refused

from agentmem import ConflictError, Memory, Settings

QUIET = Settings(lifecycle={"sweep_interval_s": 0})
FACT = "The boiler is serviced by Tomás."

VARIANTS: list[dict[str, Any]] = [
    {"ttl": 50.0, "layer": "interact", "metadata": {"a": 1}},
    {"ttl": 5_000.0, "layer": "interact"},
    {"layer": "insights", "ttl": 7.0, "importance": 0.5},
    {"metadata": {"b": [2]}, "layer": "interact"},
]


@pytest.mark.parametrize("batched", [True, False])
def test_the_order_of_repetitions_does_not_decide_a_life(open_memory: Callable[..., Memory], batched: bool) -> None:
    memory = open_memory(settings=QUIET)
    for n, order in enumerate(permutations(VARIANTS)):
        items = [{"content": f" {FACT}"[at % 2 :], **item} for at, item in enumerate(order)]
        user = f"user {n}"
        if batched:
            added = memory.add_many(items, user_id=user)
        else:
            added = [memory.add(item, user_id=user) for item in items]
        assert [one.status == "added" for one in added] == [True, False, False, False]
        [record] = memory.iterate(user_id=user)
        assert (record.layer, record.expires_at, record.importance) == ("insights", None, 0.5)
        assert record.metadata == {"a": 1, "b": [2]}
        assert record.version == 1 + sum(one.status == "refreshed" for one in added)
        assert [one.record.version for one in added][-1] == record.version
        assert memory.restore(record.id, version=1).metadata == (order[0].get("metadata") or {})
    assert memory.verify().ok


items_ = st.fixed_dictionaries(
    {"content": st.sampled_from([FACT, f"{FACT}\r\n", unicodedata.normalize("NFD", FACT), "Another fact."])},
    optional={
        "layer": st.sampled_from(["interact", "insights", "assets"]),
        "ttl": st.sampled_from([None, 5.0, 50.0, 500_000.0]),
        "metadata": st.dictionaries(st.sampled_from("ab"), st.sampled_from([None, 1, True, {"x": None}]), max_size=2),
        "importance": st.sampled_from([None, 0.0, 1.0]),
        "occurred_at": st.sampled_from([None, None, START - timedelta(days=2)]),
        "role": st.sampled_from([None, None, "user"]),
        "id": st.sampled_from([None] * 6 + ["p", "q"]),
        "dedupe": st.sampled_from([None, None, True]),
    },
)
PASSING = {"content": FACT, "ttl": 5.0}


@pytest.mark.slow
@given(
    st.lists(items_, min_size=1, max_size=7),
    st.sampled_from([1, 3, 100]),
    st.booleans(),
    st.sampled_from([0, 10, 90_000]),
)
@example([PASSING, {"content": FACT, "id": "p"}, {"content": FACT, "id": "p", "ttl": 5.0}], 100, False, 10)
@example([PASSING, PASSING, {"content": FACT}, PASSING], 3, True, 90_000)
def test_batches_and_single_adds_do_what_the_oracle_does(
    items: list[dict[str, Any]], size: int, bound: bool, later: int
) -> None:
    clock, embedder = FakeClock(), HashEmbedder()
    oracle = Oracle(embedder.embed_query, clock)
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory(Path(folder) / "store", settings=QUIET, clock=clock, embedder=embedder) as memory,
    ):
        client = memory.scoped(user_id="ines") if bound else memory
        for start in [*range(0, len(items), size)] * 2:
            batch = items[start : start + size]
            try:
                expected = oracle.add(item | {"user_id": "ines" if bound else None} for item in batch)
            except Refused:  # always because of an id that is in use
                with pytest.raises(ConflictError):
                    client.add_many(batch)
                continue
            added = client.add_many(batch) if size > 1 else [client.add(batch[0])]
            assert [one.status for one in added] == [status for status, _, _ in expected]
            for one, (_, row, public) in zip(added, expected, strict=True):
                row.id = row.id or one.id
                assert one.record == replace(one.record, **public | {"id": row.id})
            clock.advance(later)
            memory.lifecycle.sweep()
            oracle.sweep()
        for row in oracle.rows:
            found = [(e.event, e.version, e.at, {} if e.event == "EXPIRE" else e.data) for e in memory.history(row.id)]
            assert found == [(e.name, e.version, e.at, e.data) for e in row.events]
        assert memory.verify().problems == []


def test_many_threads_say_it_at_once(open_memory: Callable[..., Memory]) -> None:
    """Also while a request among them fails, so that whole groups are done again one by one."""
    memory, other = open_memory(settings=QUIET), open_memory(settings=QUIET)
    memory.add("taken", id="taken")
    ready = threading.Barrier(8)

    def say(n: int) -> list[str]:
        client, statuses = (memory, other)[n % 2], []
        ready.wait()
        for turn in range(25):
            fields = {
                "ttl": 1_000 + turn * 8 + n,
                "metadata": {f"writer {n}": turn},
                "layer": ("interact", "insights")[n % 2],
            }
            if turn % 3 == n % 3:
                statuses += [one.status for one in client.add_many([{"content": FACT, **fields}] * 2, user_id="ines")]
            else:
                statuses.append(client.add(FACT, user_id="ines", **fields).status)
            with pytest.raises(ConflictError):
                client.add("not this", id="taken")
        return statuses

    with ThreadPoolExecutor(8) as threads:
        statuses = [status for each in threads.map(say, range(8)) for status in each]
    [record] = memory.iterate(user_id="ines")
    assert statuses.count("added") == 1
    assert record.version == 1 + statuses.count("refreshed") == len(memory.history(record.id))
    assert record.layer == "insights"
    assert record.expires_at == START + timedelta(seconds=1_000 + 24 * 8 + 7)
    assert record.metadata == {f"writer {n}": 24 for n in range(8)}
    assert memory.verify().ok


def test_a_refused_batch_refreshes_nothing(memory: Memory) -> None:
    id = memory.add(FACT, user_id="ines", ttl=3_600).id
    memory.add("taken", id="taken")
    with pytest.raises(ConflictError):
        memory.add_many([{"content": FACT, "user_id": "ines"}, {"content": "new"}, {"content": "x", "id": "taken"}])
    assert len(memory.history(id)) == 1
    assert memory.get(id).expires_at is not None
    assert memory.stats().records == 2
