"""Values are records by key: scopes, versions, conditions, times, history, erasing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock
from inspecting import files_with, sql

from agentmem import ALL, ConflictError, InvalidInputError, Memory, NotFoundError, ReadOnlyError, ScopeError
from agentmem.stores import documents

MB = 1_048_576


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def test_absent_values(memory: Memory) -> None:
    values = memory.values
    assert values.get("none") is None
    assert values.get("none", 5, user_id="ana") == 5
    assert values.info("none") is None
    assert not values.exists("none")
    assert not values.delete("none")
    assert values.list() == []
    assert values.get_many(["a", "b"]) == {}
    assert values.put_many({}) == []
    for call in (values.erase, values.versions, values.open):
        with pytest.raises(NotFoundError, match="no value with the key 'none'"):
            call("none")


def test_scopes_are_walls(memory: Memory) -> None:
    values = memory.values
    values.put("k", b"nobody's")
    values.put("k", b"ana's", user_id="ana")
    values.put("k", b"rui's", user_id="rui")
    values.put("k", b"ana's desk", user_id="ana", namespace=("desk",))
    assert values.get("k") == b"nobody's"
    assert values.get("k", user_id="ana") == b"ana's"
    assert values.get("k", user_id="rui") == b"rui's"
    assert values.get("k", user_id="ana", namespace=("desk",)) == b"ana's desk"
    assert values.get("k", user_id="eve") is None
    assert values.get("k", user_id="rui", namespace=("desk",)) is None
    view = memory.scoped(user_id="ana")
    assert view.values.get("k") == b"ana's"
    assert view.values.get("k", namespace=("desk",)) == b"ana's desk"
    assert memory.scoped(user_id="ana", namespace=("desk",)).values.get("k") == b"ana's desk"
    for call in (view.values.get, view.values.info, view.values.exists, view.values.erase, view.values.delete):
        with pytest.raises(ScopeError):
            call("k", user_id="rui")
    with pytest.raises(ScopeError):
        memory.values.get("k", user_id=ALL)  # pyright: ignore
    with pytest.raises(ScopeError):
        view.values.usage()
    assert memory.userless().values.get("k") == b"nobody's"
    assert [info.key for info in view.values.list()] == ["k"]
    assert view.values.query({}) == view.values.list()


def test_nothing_else_meets_them(memory: Memory) -> None:
    memory.add("the harbour at night", user_id="ana")
    memory.values.put("harbour", "the harbour at night", user_id="ana")
    assert [hit.content for hit in memory.search("harbour", user_id="ana")] == ["the harbour at night"]
    assert len(memory.page(user_id="ana").records) == 1
    assert memory.put("harbour", "another thing", user_id="ana").status == "added"
    assert memory.values.get("harbour", user_id="ana") == "the harbour at night"


def test_equal_bytes_are_shared_inside_of_a_wall_alone(memory: Memory) -> None:
    body = noise(MB)
    for key in ("a", "b"):
        memory.values.put(key, body, user_id="ana")
    assert memory.values.usage().bytes == MB
    memory.values.put("a", body, user_id="rui")
    memory.values.put("a", body, user_id="ana", namespace=("desk",))
    assert memory.values.usage().bytes == 3 * MB
    memory.values.erase("a", user_id="ana")
    assert memory.values.get("b", user_id="ana") == body
    assert memory.values.get("a", user_id="rui") == body
    memory.values.erase("b", user_id="ana")
    assert memory.values.usage().bytes == 2 * MB
    assert memory.verify().ok


def test_versions(memory: Memory) -> None:
    values = memory.values
    for n in range(3):
        assert values.put("k", noise(100_000, n), user_id="ana", metadata={"n": n}).version == n + 1
    values.put("k", "a text", user_id="ana")
    found = values.versions("k", user_id="ana")
    assert [(each.version, each.kind, each.size) for each in found] == [
        (1, "bytes", 100_000), (2, "bytes", 100_000), (3, "bytes", 100_000), (4, "str", 6)
    ]  # fmt: skip
    info = values.restore("k", 2, user_id="ana")
    assert (info.version, info.metadata) == (5, {"n": 1})
    assert values.get("k", user_id="ana") == noise(100_000, 1)
    values.delete("k", user_id="ana")
    assert values.get("k", user_id="ana") is None
    memory.restore(info.id)
    assert values.get("k", user_id="ana") == noise(100_000, 1)
    assert memory.verify().ok


def test_the_last_versions_stay(memory: Memory) -> None:
    for n in range(25):
        memory.values.put("k", noise(70_000, n))
    found = memory.values.versions("k")
    assert len(found) == 25
    assert [each.version for each in found if each.kind] == list(range(16, 26))
    assert memory.values.usage().bytes == 10 * 70_000
    with pytest.raises(NotFoundError, match="no more"):
        memory.values.restore("k", 3)
    memory.values.restore("k", 16)
    assert memory.values.get("k") == noise(70_000, 15)
    assert memory.verify().ok


def test_versions_that_go_while_they_are_listed(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(12):
        memory.values.put("k", noise(10, n))
    listed = documents.versions

    def slowly(db: Any, row: int) -> dict[int, int]:
        found = listed(db, row)
        monkeypatch.undo()
        memory.values.put("k", b"another")  # the eleventh that is kept: the first goes
        return found

    monkeypatch.setattr(documents, "versions", slowly)
    assert [each.kind for each in memory.values.versions("k")] == [None] * 3 + ["bytes"] * 9


def test_values_that_change_all_the_time_are_listed(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.values.put_many({"k": 0, "other": 0})
    read, left = documents.read, [9, 9, 9]

    def slowly(*about: Any) -> dict[int, str]:
        if left:
            for n in range(left.pop() + 2):  # more than are kept
                memory.values.put("k", {"n": n, "left": len(left)})
        return read(*about)

    monkeypatch.setattr(documents, "read", slowly)
    assert [info.key for info in memory.values.list()] == ["k", "other"]
    assert not left


def test_conditions(memory: Memory) -> None:
    values = memory.values
    assert values.put("k", 1, if_version=0).version == 1
    with pytest.raises(ConflictError, match="already"):
        values.put("k", 2, if_version=0)
    with pytest.raises(ConflictError, match="at version 1"):
        values.put("k", noise(MB), if_version=7)
    assert values.put("k", 2, if_version=1).version == 2
    with pytest.raises(ConflictError):
        values.delete("k", if_version=1)
    assert values.delete("k", if_version=2)
    assert values.put("k", 3).version > 2
    assert not list((memory.handle.path / "values").glob("*/*/*"))


def test_one_of_many_wins(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    memory.values.put("n", 0)

    def count(_: int) -> int:
        for tries in range(1, 1_000):
            info = memory.values.info("n")
            assert info is not None
            try:
                memory.values.put("n", memory.values.get("n") + 1, if_version=info.version)
            except ConflictError:
                continue
            return tries
        raise AssertionError

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(40)))
    assert memory.values.get("n") == 40
    assert memory.values.put("n", 0).version == 42


def test_all_or_none(memory: Memory) -> None:
    with pytest.raises(InvalidInputError):
        memory.values.put_many({"a": noise(MB), "b": object()})
    assert memory.values.list() == []
    made = memory.values.put_many({"b": 1, "a": noise(MB), "c": "text"}, user_id="ana")
    assert [info.key for info in made] == ["b", "a", "c"]
    assert memory.values.get_many(["a", "c", "x"], user_id="ana") == {"a": noise(MB), "c": "text"}
    with pytest.raises(InvalidInputError, match="mapping"):
        memory.values.put_many(["a"])  # pyright: ignore


def test_time_to_live(memory: Memory, clock: FakeClock) -> None:
    memory.values.put("cached", {"answer": 42}, ttl=60)
    memory.values.put("kept", 1)
    assert memory.values.get("cached") == {"answer": 42}
    clock.advance(61)
    assert memory.values.get("cached") is None
    assert [info.key for info in memory.values.list()] == ["kept"]
    assert memory.values.put("cached", 2, if_version=0).version > 1


def test_a_clock_near_the_end_of_time(memory: Memory, clock: FakeClock) -> None:
    clock.now = datetime(9999, 12, 1, tzinfo=UTC)
    assert memory.values.put("k", 1, ttl=90 * 86_400).expires_at == datetime.max.replace(tzinfo=UTC)
    assert [info.key for info in memory.values.query({})] == ["k"]


def test_lists_and_queries(memory: Memory) -> None:
    values = memory.values
    for n in range(12):
        values.put(f"tool/{n:02}", [n], user_id="ana", metadata={"n": n, "tool": "search" if n % 2 else "fetch"})
    values.put("other", 1, user_id="ana")
    page = values.list("tool/", user_id="ana", limit=5)
    assert [info.key for info in page] == [f"tool/{n:02}" for n in range(5)]
    rest = values.list("tool/", user_id="ana", after=page[-1].key)
    assert [info.key for info in rest] == [f"tool/{n:02}" for n in range(5, 12)]
    found = values.query({"n": {"$gte": 8}, "tool": "search"}, user_id="ana")
    assert {info.key for info in found} == {"tool/09", "tool/11"}
    assert found[0].metadata["tool"] == "search"
    assert len(values.query({}, user_id="ana", limit=3, offset=11)) == 2


def test_erase_leaves_no_byte(memory: Memory, store: Path) -> None:
    small, large = b"smallTOKENvalue", b"largeTOKENvalue" * 20_000 + noise(MB)
    for n in range(3):
        memory.values.put("s", small + bytes([n]), user_id="ana", metadata={"says": "metaTOKENvalue"})
        memory.values.put("l", large + bytes([n]), user_id="ana")
    memory.values.delete("s", user_id="ana")
    memory.values.put("s", small, user_id="ana")
    assert memory.values.erase("s", user_id="ana").erased == 2
    assert memory.values.erase("l", user_id="ana").erased == 1
    memory.compact()
    assert memory.values.usage().chunks == 0
    assert files_with(store, "smallTOKENvalue", "largeTOKENvalue", "metaTOKENvalue") == {}
    assert not list((store / "values").glob("*/*/*"))
    assert memory.verify().ok


def test_a_user_who_is_erased_leaves_none(memory: Memory, store: Path) -> None:
    for user in ("ana", "rui"):
        memory.values.put("k", f"TOKENof{user}".encode() * 20_000, user_id=user, namespace=("desk",))
    memory.erase_all(user_id="ana")
    assert memory.values.get("k", user_id="rui", namespace=("desk",)) == b"TOKENofrui" * 20_000
    memory.compact()
    assert files_with(store, "TOKENofana") == {}


def test_what_expired_long_ago_goes(memory: Memory, clock: FakeClock) -> None:
    memory.values.put("k", noise(MB), ttl=60)
    clock.advance(61)
    memory.lifecycle.sweep()
    assert memory.values.usage().chunks == 1
    clock.advance(31 * 86_400)
    memory.lifecycle.sweep()
    memory.compact()
    assert memory.values.usage().chunks == 0
    assert memory.verify().ok


def test_reading_only(open_memory: Callable[..., Memory], store: Path) -> None:
    open_memory().values.put("k", noise(MB), user_id="ana")
    reader = open_memory(read_only=True)
    assert reader.values.get("k", user_id="ana") == noise(MB)
    with pytest.raises(ReadOnlyError):
        reader.values.put("k", 1)


def test_a_record_of_a_value_is_not_what_it_was_when_its_data_are_replaced(memory: Memory) -> None:
    info = memory.values.put("k", b"bytes")
    memory.update(info.id, metadata={"seen": True})
    assert memory.values.get("k") == b"bytes"
    memory.update(info.id, data={"another": "thing"})
    assert memory.values.get("k") is None
    assert memory.verify().ok
    assert memory.values.put("k", b"again").version == 4


def test_history_tells_of_puts(memory: Memory) -> None:
    info = memory.values.put("k", b"one")
    memory.values.put("k", b"two", if_version=1)
    assert [event.event.value for event in memory.history(info.id)] == ["ADD", "UPDATE"]
    assert sql(memory, "SELECT count(*) FROM value_chunks") == [(2,)]


def test_a_memory_carries_values(memory: Memory, store: Path) -> None:
    photo, other = b"photoTOKEN" * 10_000, b"otherTOKEN" * 10_000
    memory.values.put("photo", photo, user_id="ana")
    memory.values.put("other", other, user_id="ana")
    memory.values.put("photo", b"rui's", user_id="rui")
    trip = memory.add("The harbour at night", user_id="ana", metadata={"place": "Porto"}).id
    album = memory.add("Pictures of Porto", user_id="ana").id
    assert [info.key for info in memory.values.attach(trip, "photo", "other")] == ["photo", "other"]
    assert [info.key for info in memory.values.attach(trip, "photo")] == ["photo", "other"]
    memory.values.attach(album, "other")
    [hit, *_] = memory.search("harbour", user_id="ana")
    assert hit.record.metadata == {"place": "Porto", "attachments": ["photo", "other"]}
    assert [info.size for info in memory.values.attachments(hit.id)] == [len(photo), len(other)]
    assert memory.scoped(user_id="ana").values.attachments(trip)[0].key == "photo"
    for bad in ("none", "photo2"):
        with pytest.raises(NotFoundError, match="no value"):
            memory.values.attach(trip, bad)
    with pytest.raises(NotFoundError, match="no record"):
        memory.scoped(user_id="rui").values.attach(trip, "photo")
    assert memory.erase(trip).erased == 2
    memory.compact()
    assert memory.values.get("other", user_id="ana") == other
    assert memory.values.get("photo", user_id="rui") == b"rui's"
    assert not memory.values.exists("photo", user_id="ana")
    assert files_with(store, "photoTOKEN") == {}
    assert memory.erase(album).erased == 2
    assert not memory.values.exists("other", user_id="ana")
    assert memory.verify().ok


def test_an_agent_reaches_no_other_ones_values_by_a_memory(memory: Memory) -> None:
    memory.values.put("plan", b"first's", user_id="ana", agent_id="first")
    first, second = (memory.scoped(user_id="ana", agent_id=agent) for agent in ("first", "second"))
    assert second.values.get("plan") is None
    note = second.add("A note").id
    with pytest.raises(NotFoundError, match="no value with the key 'plan'"):
        second.values.attach(note, "plan")
    second.update(note, metadata={"attachments": ["plan"]})
    assert second.values.attachments(note) == []
    assert second.erase(note).erased == 1
    assert first.values.get("plan") == b"first's"
    own = first.add("The plan").id
    first.values.attach(own, "plan")
    assert first.erase(own).erased == 2
    assert not memory.values.exists("plan", user_id="ana")


def test_other_metadata_of_that_name_means_nothing(memory: Memory) -> None:
    memory.values.put("photo", b"bytes", user_id="ana")
    for value in ("photo", {"photo": 1}, [{"name": "photo"}], [1, None]):
        id = memory.add(f"with {value}", user_id="ana", metadata={"attachments": value}).id
        assert memory.values.attachments(id) == []
        assert memory.erase(id).erased == 1
        memory.add(f"still with {value}", user_id="ana", metadata={"attachments": value})
    assert memory.values.exists("photo", user_id="ana")
    trip = memory.add("The harbour at night", user_id="ana").id
    memory.values.attach(trip, "photo")
    assert memory.erase(trip).erased == 2  # nothing else carries it


def test_a_view_brings_back_the_values_of_its_namespace(memory: Memory) -> None:
    ids = dict[str, str]()
    for view in (
        memory.scoped(user_id="ana", namespace=("a",)),
        memory.scoped(user_id="ana", under=("a",)),
        memory.scoped(user_id="ana"),
        memory,
    ):
        ids["a"] = memory.values.put("k", b"1", user_id="ana", namespace=("a",)).id
        assert memory.values.delete("k", user_id="ana", namespace=("a",))
        assert view.restore(ids["a"]).id == ids["a"]
        assert memory.values.get("k", user_id="ana", namespace=("a",)) == b"1"
    for user, namespace in (("ana", ("b",)), ("ana", None), ("ben", ("a",))):
        id = memory.values.put("k", b"1", user_id=user, namespace=namespace).id
        assert memory.values.delete("k", user_id=user, namespace=namespace)
        for bound in ({"namespace": ("a",)}, {"under": ("a",)}):
            with pytest.raises(NotFoundError):
                memory.scoped(user_id="ana", **bound).restore(id)
