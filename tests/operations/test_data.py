"""Records with data: kept, versioned, brought back, erased, checked, salvaged, moved to another store."""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from inspecting import sql

from agentmem import (
    AsyncMemory,
    ConflictError,
    InvalidInputError,
    Memory,
    NewMemory,
    NotFoundError,
    Settings,
    StoreCorruptError,
)
from agentmem.stores.bodies import KEPT, PIECE
from agentmem.stores.connection import Connection
from agentmem.stores.documents import SEEN
from agentmem.stores.folder import DATABASE

ODD: list[Any] = [
    {"a": [1, {"b": None}], "é\x00\ud800": "\udfff\x00", "n": 10**60, "f": -0.0}, [], {}, "", 0, False, "text", 1.5,
    [float("inf"), -float("inf")], {"": {"": [[]]}}, "x" * SEEN, {"pad": "y" * PIECE, "z": ["\x00"] * 70_000},
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12].encode("ascii", "replace").decode())
def test_any_json_by_every_way(memory: Memory, store: Path, open_memory: Callable[..., Memory], value: Any) -> None:
    by_key = memory.put("k", data=value).record
    assert by_key.content == ""
    fact = memory.add("tea", data=value).record
    [turn] = [result.record for result in memory.add_many([{"role": "user", "content": "milk", "data": value}])]
    new = memory.add(NewMemory(data=value)).record
    changed = memory.update(memory.add("bread").id, data=value)
    [many] = [result.record for result in memory.put_many([{"key": "m", "data": value}])]
    for record in (by_key, fact, turn, new, changed, many):
        assert record.data == value
        assert memory.get(record.id) == record
        assert memory.get(record.id, data=False).data is None  # type: ignore[union-attr]
        assert pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == record
        assert record.to_dict()["data"] == value
    assert memory.search("tea", limit=1)[0].data == value
    assert memory.search("tea", limit=1, data=False)[0].record.data is None
    assert memory.verify().ok
    memory.close()
    again = open_memory()
    assert [record.data for record in again.iterate()] == [value] * 6
    assert [record.data for record in again.page(data=False).records] == [None] * 6


def test_nan(memory: Memory) -> None:
    [value] = memory.put("k", data=[float("nan")]).record.data
    assert value != value
    assert repr(memory.get(key="k").data) == "[nan]"  # type: ignore[union-attr]


def test_the_content_may_be_left_out_where_there_is_data(memory: Memory) -> None:
    for content in (None, ""):
        assert memory.put("k", content, data=[1]).record.content == ""
        assert memory.add({"content": content, "data": [1]}).record.embedding == "none"
        for call in (
            lambda content=content: memory.put("k", content), lambda content=content: memory.add({"content": content})
        ):  # fmt: skip
            with pytest.raises(InvalidInputError, match="content"):
                call()
    with pytest.raises(InvalidInputError, match="content"):
        NewMemory()
    assert memory.search("anything at all", limit=10) == []
    id = memory.put("k", data=[1]).id
    with pytest.raises(InvalidInputError, match="neither content nor data"):
        memory.update(id, data=None)
    assert memory.update(id, content="harbour").embedding == "content"
    assert memory.search("harbour")[0].id == id
    assert memory.update(id, content=None).data == [1]
    assert memory.search("harbour", mode="vector") == []
    memory.put("k", "a ferry", data=[1])
    assert memory.search("ferry", mode="vector")[0].id == id
    memory.put("k", data=[1])
    assert memory.search("ferry", mode="vector") == []
    memory.flush()
    assert memory.verify().ok


def test_the_same_fact_with_data_is_another_one(memory: Memory) -> None:
    plain = memory.add("the sky is blue")
    first, second = memory.add("the sky is blue", data=1), memory.add("the sky is blue", data=1)
    assert [first.status, second.status] == ["added", "added"]
    assert len({plain.id, first.id, second.id}) == 3
    assert memory.add("the sky is blue").id == plain.id
    memory.update(plain.id, data={"seen": True})
    assert memory.add("the sky is blue").status == "added"
    with pytest.raises(InvalidInputError, match="dedupe") as caught:
        memory.add("the sky is blue", data=1, dedupe=True)
    assert caught.value.field == "dedupe"


def test_an_id_makes_it_repeatable(memory: Memory) -> None:
    first = memory.add("tea", id="t", data={"n": 1})
    assert memory.add("tea", id="t", data={"n": 1}).status == "duplicate"
    again = memory.add("tea", id="t")
    assert (again.status, again.record.data, again.id) == ("duplicate", {"n": 1}, first.id)
    assert memory.add("tea", id="t", importance=0.9).record.data == {"n": 1}
    for other in ({"n": 2}, [1], {"n": 1.0}):
        with pytest.raises(ConflictError, match="other data"):
            memory.add("tea", id="t", data=other)
    memory.add("milk", id="m")
    with pytest.raises(ConflictError, match="other data"):
        memory.add("milk", id="m", data=1)
    twice = [{"content": "bread", "id": "b", "data": [1]}] * 2
    assert [result.status for result in memory.add_many(twice)] == ["added", "duplicate"]
    with pytest.raises(ConflictError):
        memory.add_many([{"content": "salt", "id": "s", "data": n} for n in (1, 2)])
    skipped = memory.add_many([{"content": "tea", "id": "t", "data": [9]}], on_conflict="skip").skipped
    assert [one.index for one in skipped] == [0]


def test_a_source_tells_items_by_their_data(memory: Memory) -> None:
    items = [{"role": "user", "content": "ok", "data": n} for n in (1, 2, 1)]
    assert len(memory.add_many(items, source="file")) == 3
    assert [result.status for result in memory.add_many(items[::-1], source="file")] == ["duplicate"] * 3
    assert memory.count() == 3


# -- versions ----------------------------------------------------------------------------------------------------------


def test_the_last_versions_are_kept(memory: Memory) -> None:
    id = memory.put("k", "note", data=[1]).id
    for n in range(2, KEPT + 6):
        memory.put("k", "note", data=[n])
    memory.put("k", "other", data=[KEPT + 5])
    assert sql(memory, "SELECT count(DISTINCT version), count(*) FROM bodies") == [(KEPT, KEPT)]
    assert memory.restore(id, version=6).data == [6]
    before = memory.get(id)
    with pytest.raises(NotFoundError, match="version 5 no more"):
        memory.restore(id, version=5)
    assert memory.get(id) == before
    assert memory.verify().ok


def test_the_same_data_is_not_stored_again(memory: Memory, store: Path) -> None:
    value = {"pad": "x" * 100_000}
    id = memory.put("k", "one", data=value).id
    memory.put("k", "two", data=value)
    assert memory.update(id, data=value).version == 2
    assert memory.update(id, data=value, content="three").version == 3
    assert sql(memory, "SELECT DISTINCT version FROM bodies") == [(1,)]
    assert [event.data for event in memory.history(id)][1:] == [{"content": "one"}, {"content": "two"}]
    memory.put("k", "three")
    assert memory.get(id).data is None  # type: ignore[union-attr]
    assert memory.history(id)[-1].data == {"data_version": 1}
    assert memory.restore(id, version=3).data == value
    assert memory.restore(id, version=4).data is None


def test_data_beside_texts(memory: Memory, store: Path) -> None:
    added = memory.add("invoice", data={"n": 1}, embed=["a plumber", "the heating"])
    assert memory.update(added.id, data={"n": 2}).data == {"n": 2}
    assert memory.search("a plumber", limit=1)[0].id == added.id
    assert memory.vectors([added.id])[0].texts == ("a plumber", "the heating")
    assert memory.update(added.id, embed=["a garden"]).data == {"n": 2}
    both = memory.update(added.id, data=[3], embed=["a roof", "a door"])
    assert (both.data, memory.vectors([added.id])[0].texts) == ([3], ("a roof", "a door"))
    assert memory.update(added.id, data=None).data is None
    assert memory.vectors([added.id])[0].texts == ("a roof", "a door")
    assert memory.restore(added.id, version=2).data == {"n": 2}
    assert memory.vectors([added.id])[0].texts == ("a plumber", "the heating")
    texts_only = memory.put("k", "x", embed=["one", "two"]).id
    assert memory.get(texts_only).data is None  # type: ignore[union-attr]
    memory.put("k", "x", embed=["one", "two"], data=[1])
    memory.put("k", "y", embed=["one", "two"], data=[1])
    assert memory.get(texts_only).data == [1]  # type: ignore[union-attr]
    assert memory.verify().ok


def test_what_was_erased_leaves_no_data(memory: Memory, store: Path) -> None:
    id = memory.put("k", data=["secret 1"], user_id="ana").id
    memory.put("k", data=["secret 2" * 50_000], user_id="ana")
    other = memory.add("x", data=["secret 3"], user_id="ana")
    memory.delete(other.id)
    memory.erase(id)
    assert sql(memory, "SELECT DISTINCT row FROM bodies") == [(2,)]
    memory.erase_all(user_id="ana")
    assert sql(memory, "SELECT count(*) FROM bodies") == [(0,)]
    memory.compact()
    assert b"secret" not in b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert memory.verify().ok


def test_it_counts_for_its_layer(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    id = memory.add("tea").id
    before = memory.stats().layers["assets"].bytes
    memory.update(id, data="x" * 10_000)
    assert memory.stats().layers["assets"].bytes - before == 10_002
    memory.update(id, data="y" * 100)
    assert memory.stats().layers["assets"].bytes - before == 102
    memory.update(id, data=None)
    assert memory.stats().layers["assets"].bytes == before
    memory.update(id, data="z" * 100)
    memory.delete(id)
    assert memory.stats().layers["assets"].bytes == 0
    assert memory.verify().ok


# -- damage ------------------------------------------------------------------------------------------------------------


def damage(store: Path, *statements: str) -> None:
    db = Connection(store / DATABASE)
    for statement in statements:
        db.execute(statement)
    db.close()


def test_damage_is_seen_and_salvaged(memory: Memory, store: Path, open_memory: Callable[..., Memory]) -> None:
    values: list[Any] = [{"n": 1}, "x" * 600_000, {"n": 3}, {"pad": "y" * 100_000}, [5]]
    ids = [memory.add(f"tea {at}", data=value).id for at, value in enumerate(values)]
    changed = memory.put("k", data=["first"]).id
    memory.put("k", data=["second"])
    memory.close()
    damage(
        store,
        "UPDATE bodies SET body = replace(body, '1', '7') WHERE row = 1",
        "DELETE FROM bodies WHERE row = 2 AND part = 2",
        "DELETE FROM bodies WHERE row = 3",
        "UPDATE bodies SET body = '{' WHERE row = 4 AND part = 0",
        "INSERT INTO bodies VALUES (99, 1, 0, '1', NULL)",
    )
    memory = open_memory()
    problems = memory.verify().problems
    assert sum("is not what was stored" in problem for problem in problems) == 2
    assert sum("bytes, not" in problem for problem in problems) == 3
    assert any("1 parts of data belong to no record" in problem for problem in problems)
    with pytest.raises(StoreCorruptError, match="data=False"):
        memory.get(ids[2])
    assert memory.get(ids[2], data=False).content == "tea 2"  # type: ignore[union-attr]
    report = memory.repair(salvage=True)
    assert (report.counts["salvaged"], report.counts["lost"], report.counts["altered"]) == (6, 0, 3)
    kept = {record.id: record.data for record in memory.iterate()}
    assert [kept[id] for id in ids] == [None, None, None, values[3], values[4]]
    assert memory.restore(changed, version=1).data == ["first"]
    assert memory.page(filters={"$data.pad": {"$exists": True}}).records == []
    assert memory.verify().ok


# -- other stores ------------------------------------------------------------------------------------------------------


def test_records_move_with_their_data(memory: Memory, tmp_path: Path, embedder: HashEmbedder) -> None:
    for at, value in enumerate(ODD):
        memory.add({"content": f"tea {at}" if at % 2 else "", "data": value}, user_id="ana")
    with Memory(tmp_path / "other", embedder=embedder) as other:
        other.add_many(list(memory.iterate(user_id="ana", order="oldest")))
        assert [record.data for record in other.iterate(user_id="ana", order="oldest")] == ODD
    with Memory(tmp_path / "third", embedder=embedder) as third:
        lines = [json.dumps(record.to_dict()) for record in memory.iterate(user_id="ana", order="oldest")]
        third.add_many([json.loads(line) for line in lines])
        assert [record.data for record in third.iterate(user_id="ana", order="oldest")] == ODD


def test_both_clients(store: Path, embedder: HashEmbedder) -> None:
    import asyncio

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            id = (await memory.put("k", data={"n": [1] * 5_000})).id
            await memory.put_many([{"key": "m", "content": "tea"}], data=[2])
            await memory.add_many(["tea"], data={"a": 1})
            added = [result async for results in memory.add_stream(["milk"], data=3) for result in results]
            assert added[0].record.data == 3
            assert (await memory.get(id)).data == {"n": [1] * 5_000}  # type: ignore[union-attr]
            assert (await memory.update(id, data=None, content="x")).data is None
            found = [record.data async for record in memory.iterate(order="oldest")]
            assert found == [None, [2], {"a": 1}, 3]
            assert [record.data async for record in memory.iterate(data=False)] == [None] * 4
            assert (await memory.search("tea", data=False))[0].data is None

    asyncio.run(main())


def test_no_more_statements_where_there_is_none(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.add("warm up")
    memory.search("warm up")
    statements: list[str] = []
    execute = Connection._execute
    monkeypatch.setattr(
        Connection, "_execute", lambda self, sql, params: statements.append(sql) or execute(self, sql, params)
    )
    memory.add("tea")
    memory.search("tea")
    memory.get(memory.add("milk").id)
    memory.page()
    assert not [statement for statement in statements if "bodies" in statement]


# -- against a dict ----------------------------------------------------------------------------------------------------

SOME = [1, "x", {"a": [None, "\x00"]}, "y" * (SEEN + 5), [1.5] * 3]


class Stored(RuleBasedStateMachine):
    """Puts, updates, deletes, restores and reopening; the store against a list of versions for each key."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.versions: dict[str, list[Any]] = {}
        self.ids: dict[str, str] = {}
        self.memory = self.opened()

    def opened(self) -> Memory:
        quiet = Settings(lifecycle={"sweep_interval_s": 0})
        return Memory(Path(self.folder.name) / "s", clock=self.clock, embedder=HashEmbedder(), settings=quiet)

    @rule(key=st.sampled_from("ab"), value=st.sampled_from([None, *SOME]))
    def put(self, key: str, value: Any) -> None:
        result = self.memory.put(key, "tea", data=value)
        self.ids[key] = result.id
        self.versions.setdefault(key, []).append(value)
        assert result.record.version == len(self.versions[key])

    @rule(key=st.sampled_from("ab"), value=st.sampled_from([None, *SOME]))
    def update(self, key: str, value: Any) -> None:
        if key in self.ids:
            record = self.memory.update(self.ids[key], data=value)
            if record.version > len(self.versions[key]):
                self.versions[key].append(value)
            assert record.data == self.versions[key][-1] == value

    @rule(key=st.sampled_from("ab"), data=st.data())
    def go_back(self, key: str, data: st.DataObject) -> None:
        if key in self.ids:
            known = self.versions[key]
            version = data.draw(st.integers(1, len(known)))
            try:
                record = self.memory.restore(self.ids[key], version=version)
            except NotFoundError:
                assert len(known) - version >= KEPT
            else:
                assert record.data == known[version - 1]
                if record.version > len(known):
                    known.append(record.data)

    @rule()
    def reopen(self) -> None:
        self.memory.close()
        self.memory = self.opened()

    @invariant()
    def agrees(self) -> None:
        for key, known in self.versions.items():
            record = self.memory.get(key=key)
            assert record is not None
            assert (record.data, record.version) == (known[-1], len(known))
        expected = {id for key, id in self.ids.items() if self.versions[key][-1] is not None}
        assert {record.id for record in self.memory.page(filters={"$data": {"$exists": True}}).records} == expected

    def teardown(self) -> None:
        assert self.memory.verify().ok
        self.memory.close()
        self.folder.cleanup()


def test_random_changes_against_a_dict() -> None:
    run_state_machine_as_test(Stored, settings=settings(max_examples=10, stateful_step_count=15, deadline=None))
