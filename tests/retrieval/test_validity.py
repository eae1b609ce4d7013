"""Two clocks: when facts hold in the world, and what the store knew of that when; against a slow oracle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

import agentmem
from agentmem import (
    Add,
    ConflictError,
    Evidence,
    InvalidInputError,
    Memory,
    NewMemory,
    Settings,
    SetValidity,
    restore,
)
from agentmem.stores import evidence

DAY = timedelta(days=1)
SMALL = Settings(retrieval={"stop_words": False}, performance={"arena_limit": 50_000})
CODES = Settings(retrieval={"stop_words": False}, performance={"arena_limit": 1})
DISK = Settings(retrieval={"stop_words": False}, performance={"arena_limit": 1, "large_engine": "lancedb"})


def fact(text: str, since: datetime | None = None, until: datetime | None = None, **more: Any) -> NewMemory:
    return NewMemory(content=text, user_id="ana", valid_from=since, valid_to=until, **more)


def texts(memory: Memory, **asked: Any) -> set[str]:
    return {hit.content for hit in memory.search("lives", user_id="ana", limit=100, **asked)}


def test_a_superseded_fact_stays_linked_and_out_of_answers(memory: Memory, clock: FakeClock) -> None:
    old = memory.add(fact("lives in Rome", START - 100 * DAY)).id
    clock.advance(10)
    [new, was] = memory.apply(
        [
            Add(fact("lives in Faro", START, id="new")),
            SetValidity(old, superseded_by="new", if_version=1),
        ]
    )
    assert isinstance(new, agentmem.AddResult)
    assert isinstance(was, agentmem.MemoryRecord)
    assert (was.superseded_by, was.valid_to, was.retired_at) == ("new", START, clock.now)
    assert texts(memory) == {"lives in Faro"}
    assert texts(memory, valid_at=START - DAY) == {"lives in Rome"}
    assert texts(memory, valid_at=START) == {"lives in Faro"}
    assert texts(memory, as_of=START) == {"lives in Rome"}
    assert texts(memory, as_of=START, valid_at=START + 9 * DAY) == {"lives in Rome"}
    assert memory.get(old) == was
    assert memory.context("lives", user_id="ana", max_tokens=500).endswith("lives in Faro")
    event = memory.history(old)[-1]
    assert event.data == {"valid_to": None, "retired_at": None}
    clock.advance(10)
    [back] = memory.apply([SetValidity(old, retired=False)])
    assert isinstance(back, agentmem.MemoryRecord)
    assert (back.superseded_by, back.valid_to, back.retired_at) == (None, None, None)
    assert texts(memory) == {"lives in Rome", "lives in Faro"}
    assert memory.restore(old, version=2).superseded_by == "new"
    assert texts(memory) == {"lives in Faro"}
    assert memory.verify().ok


def test_what_holds_no_more_may_be_said_again(memory: Memory) -> None:
    first = memory.add("lives in Rome", user_id="ana")
    memory.apply([SetValidity(first.id, retired=True)])
    assert texts(memory) == set()
    assert memory.add("lives in Rome", user_id="ana").status == "added"
    assert texts(memory) == {"lives in Rome"}


def test_refused(memory: Memory) -> None:
    ana = memory.add("lives in Rome", user_id="ana").id
    ben = memory.add("lives in Bonn", user_id="ben").id
    keyed = memory.put("k", "lives in Faro", user_id="ana").id
    for change, error in (
        (SetValidity(ana, superseded_by=ben), ConflictError),
        (SetValidity(ana, superseded_by=ana), ConflictError),
        (SetValidity(ana, superseded_by="none"), ConflictError),
        (SetValidity(ana, retired=True, if_version=7), ConflictError),
        (SetValidity(keyed, retired=True), InvalidInputError),
        (SetValidity(ana), InvalidInputError),
        (SetValidity(ana, retired=False, superseded_by=keyed), InvalidInputError),
        (SetValidity(ana, valid_from=START, valid_to=START), InvalidInputError),
        (SetValidity("none", retired=True), agentmem.NotFoundError),
        (Add(fact("x"), evidence=[ben]), ConflictError),
        (Add(fact("x"), evidence=["none"]), ConflictError),
        (Add(fact("x"), evidence="none"), InvalidInputError),
        (Add(fact("x"), evidence=[Evidence(ana, 3, 3)]), InvalidInputError),
    ):
        with pytest.raises(error):
            memory.apply([Add(fact("never stored")), change])
    with pytest.raises(InvalidInputError):
        memory.add(fact("x", START, START))
    with pytest.raises(InvalidInputError):
        memory.put_many([{"key": "k", "content": "x", "valid_from": START, "user_id": "ana"}])
    with pytest.raises(agentmem.NotFoundError):
        memory.scoped(user_id="ben").apply([SetValidity(ana, retired=True)])
    assert texts(memory) == {"lives in Rome", "lives in Faro"}


def test_a_fact_dies_with_its_last_source_when_that_is_erased(memory: Memory, clock: FakeClock) -> None:
    one, two = (memory.add({"role": "user", "content": f"turn {n}"}, user_id="ana", id=f"t{n}").id for n in (1, 2))
    memory.apply(
        [
            Add(fact("lives in Rome", id="both"), evidence=[one, Evidence(two, 0, 4)]),
            Add(fact("lives in Faro", id="one"), evidence=[one]),
            Add(fact("lives near Faro", id="derived"), evidence=["one"]),
        ]
    )
    memory.delete(one)
    assert texts(memory, kinds=["fact"]) == {"lives in Rome", "lives in Faro", "lives near Faro"}
    assert memory.erase(one).erased == 3
    assert texts(memory, kinds=["fact"]) == {"lives in Rome"}
    assert memory.verify().ok
    assert memory.erase(two).erased == 2
    assert texts(memory) == set()


def test_it_comes_back_from_backups_exports_and_dicts(tmp_path: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    where = Settings(backup={"url": str(tmp_path / "backups")})
    far = datetime(9999, 12, 31, tzinfo=UTC)
    with Memory(tmp_path / "a", embedder=embedder, clock=clock, settings=where) as memory:
        turn = memory.add({"role": "user", "content": "I moved to Faro"}, user_id="ana").id
        old = memory.add(fact("lives in Rome", datetime(1200, 1, 1, tzinfo=UTC), far)).id
        memory.apply([Add(fact("lives in Faro", START, id="new"), evidence=[turn])])
        before = memory.get(old)
        memory.backup.create()
        clock.advance(60)
        middle = clock.now
        clock.advance(60)
        memory.apply([SetValidity(old, superseded_by="new")])
        memory.backup.create("incremental")
        memory.export(tmp_path / "export")
        after = memory.get(old)
        assert before is not None
        assert after is not None
        assert (before.valid_to, after.valid_to) == (far, START)
    backups = str(tmp_path / "backups")
    for at, expected in ((middle, before), (None, after)):
        restore(backups, tmp_path / f"at {at}", at=at)
        with Memory(tmp_path / f"at {at}", embedder=embedder, clock=clock) as memory:
            found = memory.get(old)
            assert found == expected
            assert memory.verify().ok
            assert memory.erase(turn).erased == 2
    with Memory(tmp_path / "b", embedder=embedder, clock=clock) as memory:
        memory.add("something else", user_id="ben")
        memory.import_(tmp_path / "export")
        assert texts(memory) == {"lives in Faro", "I moved to Faro"}
        assert memory.erase(turn).erased == 2
        assert texts(memory, valid_at=START - DAY) == {"lives in Rome"}
        assert memory.verify().ok
    with Memory(tmp_path / "c", embedder=embedder, clock=clock) as memory:
        memory.add_many([after.to_dict(), replace(after, id="copy")])
        assert texts(memory) == set()
        assert texts(memory, valid_at=START - DAY) == {"lives in Rome"}


@dataclass
class Held:
    text: str
    added: datetime
    since: datetime | None
    until: datetime | None
    stated: datetime | None = None
    retired: datetime | None = None

    def shown(self, valid_at: datetime | None, as_of: datetime | None, now: datetime) -> bool:
        known = now if as_of is None else as_of
        if self.added > known:
            return False
        retired = self.retired is not None and self.retired <= known
        if valid_at is None:
            return not retired
        until = self.until if self.retired is None or retired else self.stated
        if retired and until is None:
            return False
        return (self.since is None or self.since <= valid_at) and (until is None or valid_at < until)


moments = st.integers(-4, 8).map(lambda day: START + day * DAY)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.none() | moments, st.none() | moments),
        st.tuples(st.just("message"), st.none(), st.none()),
        st.tuples(st.just("supersede"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("retract"), st.integers(0, 9), st.none()),
        st.tuples(st.just("revive"), st.integers(0, 9), st.none()),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=6)
@given(steps=steps, asked=st.lists(st.tuples(st.none() | moments, st.none() | moments), min_size=2, max_size=4))
def test_valid_at_and_as_of_agree_with_an_oracle(
    steps: list[tuple[str, Any, Any]], asked: list[tuple[datetime | None, datetime | None]]
) -> None:
    clock, held = FakeClock(), list[Held]()
    with tempfile.TemporaryDirectory() as folder:
        stores = [
            Memory(Path(folder) / str(n), embedder=HashEmbedder(), clock=clock, settings=options)
            for n, options in enumerate((SMALL, CODES, DISK))
        ]
        for n, (what, first, second) in enumerate(steps):
            clock.advance(DAY.total_seconds() / 2)
            name = f"lives {n}"
            if what == "add" and (first is None or second is None or first < second):
                held.append(Held(name, clock.now, first, second))
                for memory in stores:
                    memory.add(fact(name, first, second, id=name))
            elif what == "message":
                held.append(Held(name, clock.now, None, None))
                for memory in stores:
                    memory.add({"role": "user", "content": name, "id": name}, user_id="ana")
            elif what in ("retract", "revive", "supersede") and held:
                change = apply(what, held, first, second, clock.now)
                for memory in stores:
                    if change is not None:
                        memory.apply([change])
        for valid_at, as_of in [(None, None), *asked]:
            expected = {one.text for one in held if one.shown(valid_at, as_of, clock.now)}
            for memory in stores:
                assert texts(memory, valid_at=valid_at, as_of=as_of) == expected
                assert texts(memory, valid_at=valid_at, as_of=as_of, mode="keyword") == expected
        for memory in stores:
            memory.close()


def apply(what: str, held: list[Held], first: int, second: int | None, now: datetime) -> SetValidity | None:
    one = held[first % len(held)]
    if what == "revive":
        if one.retired is not None:
            one.retired, one.until, one.stated = None, one.stated, None
        return SetValidity(one.text, retired=False)
    if what == "retract":
        if one.retired is None:
            one.retired, one.stated, one.until = now, one.until, None
        return SetValidity(one.text, retired=True)
    other = held[(second or 0) % len(held)]
    if one is other:
        return None
    if one.retired is None:
        begins = now if other.since is None else other.since
        one.retired, one.stated = now, one.until
        if one.since is not None and begins <= one.since:
            one.until = None
        else:
            one.until = begins if one.until is None else min(begins, one.until)
    return SetValidity(one.text, superseded_by=other.text)


def test_the_rows_that_are_passed_over_are_found_by_an_index(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    memory.add("lives in Rome", user_id="ana")
    db = memory.handle.engine().repository.db
    sql = "SELECT r.row FROM records r INDEXED BY records_retired WHERE r.retired_at IS NOT NULL AND r.user = 1"
    plan = " ".join(str(row) for row in db.execute(f"EXPLAIN QUERY PLAN {sql} AND r.space = 0"))
    assert "SEARCH" in plan


def test_what_is_retired_under_a_search_is_not_in_its_answer(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    known, calls = evidence.not_holding, list[int]()
    old = memory.add("lives in Rome", user_id="ana").id

    def slow(*args: Any, **more: Any) -> list[int]:
        """What holds is read, and then a fact takes the place of another."""
        found = known(*args, **more)
        calls.append(1)
        if len(calls) == 1:
            memory.apply([Add(fact("lives in Faro", id="new")), SetValidity(old, superseded_by="new")])
        return found

    monkeypatch.setattr(evidence, "not_holding", slow)
    assert texts(memory) in ({"lives in Rome"}, {"lives in Faro"})
    assert texts(memory) == {"lives in Faro"}
