"""Adding what is there already never shortens its life, keeps what is new, and is told by its history."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from conftest import START, FakeClock

from agentmem import ConflictError, InvalidInputError, Memory, Settings

QUIET = Settings(lifecycle={"sweep_interval_s": 0})
FACT = "The boiler is serviced by Tomás."
HOUR = 3_600
DAY = 24 * HOUR


@pytest.fixture
def memory(open_memory: Callable[..., Memory]) -> Memory:
    return open_memory(settings=QUIET)


def again(memory: Memory, **fields: Any) -> tuple[str, str]:
    added = memory.add(FACT, user_id="ines", **fields)
    return added.id, added.status


def told(memory: Memory, id: str) -> list[tuple[str, int, dict[str, Any]]]:
    return [(event.event.value, event.version, event.data) for event in memory.history(id)]


# -- ends and layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [{"ttl": HOUR}, {"layer": "interact"}, {"layer": "insights", "ttl": DAY}])
def test_what_is_then_stated_for_good_stays(memory: Memory, clock: FakeClock, first: dict[str, Any]) -> None:
    id, _ = again(memory, **first)
    assert again(memory) == (id, "refreshed")
    record = memory.get(id)
    assert record is not None
    assert (record.layer, record.expires_at, record.version) == ("assets", None, 2)
    clock.advance(400 * DAY)
    memory.lifecycle.sweep()
    assert memory.get(id) is not None


@pytest.mark.parametrize("then", [{"ttl": HOUR}, {"layer": "interact"}, {"ttl": 1, "layer": "insights"}])
def test_what_is_said_in_passing_later_takes_nothing_away(
    memory: Memory, clock: FakeClock, then: dict[str, Any]
) -> None:
    id, _ = again(memory)
    assert again(memory, **then) == (id, "duplicate")
    clock.advance(400 * DAY)
    memory.lifecycle.sweep()
    assert memory.get(id) is not None
    assert told(memory, id) == [("ADD", 1, {})]


def test_the_later_end_wins(memory: Memory, clock: FakeClock) -> None:
    id, _ = again(memory, ttl=10 * HOUR)
    clock.advance(HOUR)
    assert again(memory, ttl=2 * HOUR) == (id, "duplicate")
    assert again(memory, ttl=9 * HOUR) == (id, "duplicate")
    assert again(memory, ttl=9 * HOUR + 1) == (id, "refreshed")
    end = START + timedelta(hours=10)
    assert told(memory, id)[1:] == [("UPDATE", 2, {"expires_at": end.isoformat()})]
    clock.now = end
    assert memory.get(id) is not None
    clock.advance(1)
    assert memory.get(id) is None


def test_a_time_to_live_that_passed_is_not_rescued(memory: Memory, clock: FakeClock) -> None:
    id, _ = again(memory, ttl=HOUR)
    clock.advance(HOUR)
    other, status = again(memory)
    assert status == "added"
    assert other != id
    assert memory.get(id) is None


def test_a_deleted_fact_is_not_brought_back_by_saying_it_again(memory: Memory) -> None:
    id, _ = again(memory)
    memory.delete(id)
    other, status = again(memory)
    assert (status, memory.get(id)) == ("added", None)
    memory.restore(id)
    assert again(memory, importance=1) == (id, "refreshed")  # the older of two
    assert memory.get(other).importance is None


def test_the_review_begins_anew_without_an_event(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    memory = open_memory(settings=QUIET)
    id, _ = again(memory, layer="interact")
    for _ in range(5):
        clock.advance(20 * HOUR)
        assert again(memory, layer="interact") == (id, "duplicate")
        memory.close()
        memory = open_memory(settings=QUIET)
        assert memory.lifecycle.sweep().expired == 0
    assert memory.stats().events == 1
    assert memory.lifecycle.explain(id).due_at == clock.now + timedelta(days=1)
    assert memory.verify().ok
    clock.advance(24 * HOUR)
    assert memory.lifecycle.sweep().expired == 1


def test_a_clock_that_was_set_back_shortens_nothing(memory: Memory, clock: FakeClock) -> None:
    id, _ = again(memory, layer="interact")
    clock.advance(-DAY)
    assert again(memory, layer="interact") == (id, "duplicate")
    assert again(memory, layer="interact", importance=1) == (id, "refreshed")
    assert memory.lifecycle.explain(id).due_at == START + timedelta(days=1)


def test_no_queue_grows_with_repetitions(memory: Memory, clock: FakeClock) -> None:
    again(memory, layer="interact")
    memory.lifecycle.sweep()
    for importance in (None, None, 0.5, None, 0.7, None):
        clock.advance(HOUR)
        again(memory, layer="interact", importance=importance)
    again(memory, layer="insights")
    queue = memory.handle.engine().repository.db.execute("SELECT layer FROM due")
    assert queue == [("insights",)]
    assert memory.verify().ok


def test_a_pinned_fact_moves_up_and_stays_pinned(memory: Memory, clock: FakeClock) -> None:
    id, _ = again(memory, layer="interact")
    memory.lifecycle.pin(id)
    assert again(memory, layer="interact") == (id, "duplicate")
    assert again(memory, layer="insights", ttl=None) == (id, "refreshed")
    record = memory.get(id)
    assert record is not None
    assert (record.layer, record.pinned) == ("insights", True)
    clock.advance(400 * DAY)
    memory.lifecycle.sweep()
    assert memory.get(id) is not None
    assert memory.verify().ok


# -- when it happened ------------------------------------------------------------------------------------------------


def test_another_time_of_the_event_is_another_memory(memory: Memory) -> None:
    days = [f"2025-01-{day:02}T19:00:00+00:00" for day in (3, 10, 17)]
    ids = [again(memory, occurred_at=day) for day in days]
    assert {status for _, status in ids} == {"added"}
    undated, status = again(memory)
    assert status == "added"
    assert again(memory, occurred_at="2025-01-10T21:00:00+02:00") == (ids[1][0], "duplicate")
    assert again(memory, occurred_at=datetime.fromisoformat(days[2]), importance=1) == (ids[2][0], "refreshed")
    assert again(memory) == (undated, "duplicate")
    assert len(list(memory.iterate(user_id="ines"))) == 4


# -- what the caller gives -------------------------------------------------------------------------------------------


def test_metadata_and_importance_are_merged(memory: Memory) -> None:
    id, _ = again(memory, metadata={"source": "call", "deep": {"b": 1, "a": 2}, "old": 1}, importance=0.25)
    assert again(memory, metadata={"deep": {"a": 2, "b": 1}, "source": "call"}) == (id, "duplicate")
    assert again(memory, metadata={"source": "form", "sure": True, "old": None}, importance=0.75) == (id, "refreshed")
    assert again(memory, metadata={"old": None}, importance=0.75) == (id, "duplicate")
    record = memory.get(id)
    assert record is not None
    assert record.metadata == {"source": "form", "deep": {"b": 1, "a": 2}, "sure": True}
    assert record.importance == 0.75
    before = {"source": "call", "deep": {"b": 1, "a": 2}, "old": 1}
    assert told(memory, id)[1:] == [("UPDATE", 2, {"importance": 0.25, "metadata": before})]
    assert memory.search("boiler", user_id="ines", filters={"sure": True})[0].id == id


@pytest.mark.parametrize(("value", "other"), [(1, True), (1, 1.0), (0, False), ("1", 1), ([1], [1, 1])])
def test_values_that_only_look_equal_are_new(memory: Memory, value: Any, other: Any) -> None:
    id, _ = again(memory, metadata={"n": value})
    assert again(memory, metadata={"n": other}) == (id, "refreshed")
    found = memory.get(id).metadata["n"]
    assert (found, type(found)) == (other, type(other))


def test_the_same_call_twice_is_a_duplicate_whatever_it_says(memory: Memory) -> None:
    for fields in ({"metadata": {"gone": None, "kept": {"x": None}}}, {"importance": 0.0}, {"metadata": {}}):
        id, _ = again(memory, kind=f"kind {fields}", **fields)
        assert again(memory, kind=f"kind {fields}", **fields) == (id, "duplicate")


def test_metadata_that_become_too_large_together_are_refused(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=Settings(max_metadata_bytes=100))
    id, _ = again(memory, metadata={"one": "x" * 60})
    with pytest.raises(InvalidInputError, match=f"{id}.*max_metadata_bytes"):
        again(memory, metadata={"two": "x" * 60}, importance=1)
    assert told(memory, id) == [("ADD", 1, {})]


# -- the same words --------------------------------------------------------------------------------------------------

DRINK = "Drinks only café crème"


@pytest.mark.parametrize(
    "spelling",
    [
        unicodedata.normalize("NFD", DRINK), f"{DRINK}  ", f"\t{DRINK}", f"{DRINK}\r\n", f"{DRINK}\u00a0",
        f"\ufeff{DRINK}", f"{DRINK}\u200b", f"\u3000{DRINK}\u2028",
    ],
)  # fmt: skip
def test_the_same_words_in_another_guise(memory: Memory, spelling: str) -> None:
    first = memory.add(DRINK, user_id="ines")
    second = memory.add(spelling, user_id="ines")
    assert (second.status, second.id, second.record.content) == ("duplicate", first.id, DRINK)
    other = memory.add(spelling, user_id="rui")
    assert other.record.content == spelling
    assert memory.add(DRINK, user_id="rui").id == other.id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Drinks tea", "drinks tea"), ("No pain", "Nopain"), ("a\nb", "a b"), ("naïve", "naive"), ("x\u200by", "xy"),
        ("Flag: \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "Flag: \U0001f3f4"),
        ("Mood: ☺️", "Mood: ☺"),
    ],
)  # fmt: skip
def test_other_words(memory: Memory, one: str, other: str) -> None:
    assert memory.add(one).status == memory.add(other).status == "added"


def test_line_ends_do_not_matter(memory: Memory) -> None:
    first = memory.add("milk\neggs\nflour")
    assert memory.add("milk\r\neggs\r\nflour\r\n").id == memory.add("milk\reggs\rflour").id == first.id


# -- own ids ---------------------------------------------------------------------------------------------------------


def test_a_call_with_an_id_refreshes_too(memory: Memory, clock: FakeClock) -> None:
    item = {"content": FACT, "role": "user", "id": "sync-1", "ttl": HOUR, "metadata": {"rev": 1}}
    assert [memory.add(item).status for _ in range(2)] == ["added", "duplicate"]
    clock.advance(60)
    assert memory.add(item | {"metadata": {"rev": 2}, "content": f"{FACT} "}).status == "refreshed"
    record = memory.get("sync-1")
    assert record is not None
    assert (record.metadata, record.expires_at) == ({"rev": 2}, clock.now + timedelta(hours=1))


def test_an_id_that_is_in_use_says_what_to_do(memory: Memory, clock: FakeClock) -> None:
    def refused(content: str = FACT, **fields: Any) -> str:
        with pytest.raises(ConflictError) as caught:
            memory.add(content, **{"user_id": "ines", "id": "doc", **fields})
        return str(caught.value)

    memory.add(FACT, user_id="ines", id="doc", occurred_at=START)
    assert memory.add(FACT, user_id="ines", id="doc").status == "duplicate"
    assert "update" in refused("Another text")
    assert "occurred_at" in refused(occurred_at=START + timedelta(days=1))
    assert refused(user_id="rui") == "the id 'doc' is already in use; choose another one"
    memory.delete("doc")
    assert "restore('doc')" in refused("Another text")
    assert "restore" not in refused("Another text", user_id="rui")
    memory.restore("doc")
    memory.update("doc", content="Another text", ttl=HOUR)
    assert memory.add("Another text", user_id="ines", id="doc", ttl=1).status == "duplicate"
    clock.advance(HOUR)
    assert "erase('doc')" in (words := refused())
    assert "restore" not in words
    memory.add("Good evening!", user_id="ines", id="hello", role="user")
    clock.advance(2 * DAY)
    memory.lifecycle.sweep()
    assert "restore('hello')" in refused(id="hello")
    memory.restore("hello")


# -- full layers -----------------------------------------------------------------------------------------------------


def test_a_full_layer_takes_nothing_away(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    layers = {"assets": {"max_size_mb": 0.02}, "insights": {"eviction_policy": "never", "max_size_mb": 0.01}}
    memory = open_memory(settings=Settings(layers=layers, lifecycle={"sweep_interval_s": 0}))
    passing, _ = again(memory, layer="interact", ttl=HOUR)
    proven, _ = again(memory, layer="insights", kind="habit")
    memory.add("x" * 20_800, user_id="rui")
    memory.add("x" * 9_500, user_id="rui", layer="insights")
    clock.advance(60)
    long = {"note": "y" * 2_000}
    # It cannot move and its metadata cannot grow; what needs no room happens.
    assert again(memory, metadata=long) == (passing, "refreshed")
    assert again(memory, metadata=long, kind="habit", importance=1) == (proven, "refreshed")
    assert again(memory, metadata=long, kind="habit") == (proven, "duplicate")
    for id, layer in ((passing, "interact"), (proven, "insights")):
        record = memory.get(id)
        assert record is not None
        assert (record.layer, record.expires_at) == (layer, None)
        assert record.metadata == ({} if layer == "insights" else long)
        assert memory.lifecycle.explain(id).due_at == clock.now + timedelta(days=1 if layer == "interact" else 90)
    many = memory.add_many([{"content": FACT, "ttl": 5}, {"content": FACT, "metadata": {"n": 1}}], user_id="ines")
    assert [(one.id, one.status) for one in many] == [(passing, "duplicate"), (passing, "refreshed")]
    assert memory.verify().ok


# -- on record -------------------------------------------------------------------------------------------------------


def test_its_history_tells_it_and_any_version_comes_back(memory: Memory, clock: FakeClock) -> None:
    id, _ = again(memory, layer="interact", ttl=2 * HOUR, metadata={"a": 1})
    end = clock.now + timedelta(hours=2)
    clock.advance(60)
    assert again(memory, metadata={"b": 2}) == (id, "refreshed")
    event = ("UPDATE", 2, {"expires_at": end.isoformat(), "layer": "interact", "metadata": {"a": 1}})
    assert told(memory, id) == [("ADD", 1, {}), event]
    found = memory.lifecycle.explain(id)
    assert (found.because, found.since) == ("moved up from interact when it was added again", clock.now)
    back = memory.restore(id, version=1)
    assert (back.metadata, back.expires_at, back.layer) == ({"a": 1}, end, "assets")
    assert memory.restore(id, version=2).metadata == {"a": 1, "b": 2}
    with pytest.raises(ConflictError):
        memory.update(id, importance=1, if_version=2)
    assert memory.verify().ok


def test_a_refreshed_fact_is_found_as_it_is_now(memory: Memory) -> None:
    id, _ = again(memory, layer="interact")
    before = memory.search("boiler", user_id="ines")[0]
    again(memory, importance=1)
    [after] = memory.search("boiler", user_id="ines")
    assert (after.id, after.record.layer, after.record.version) == (id, "assets", 2)
    assert after.score > before.score
    assert [hit.id for hit in memory.search("boiler", user_id="ines", layers=["assets"])] == [id]
    stats = memory.stats()
    assert (stats.layers["interact"].records, stats.layers["assets"].records) == (0, 1)
