"""Imports: a bad item keeps nobody out who does not want that, and what is imported twice is there once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import AsyncMemory, ConflictError, InvalidInputError, Memory, NewMemory, ScopeError, Settings
from agentmem.client.repairs import mended

Open = Callable[..., Memory]
HALF = "\ud83d"


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def contents(memory: Memory, **scope: Any) -> list[str]:
    return [record.content for record in memory.iterate(order="oldest", **scope)]


BAD: list[tuple[Any, str | None, str]] = [
    ("", "content", "content is empty"),
    (7, "item", "an item must be text"),
    (said(f"half {HALF}"), "content", "repair=True mends it"),
    (said("a\x00b"), "content", "repair=True mends it"),
    (said("x", metadata={"a": [HALF]}), "metadata", "repair=True mends it"),
    (said("x", layer="attic"), "layer", "not a layer"),
    ({"content": "x", "colour": "red"}, "colour", "no field 'colour'"),
    (said("x", user_id=""), None, "user_id is empty"),
    (said("x", occurred_at="noon"), "occurred_at", "noon"),
    (None, "item", "NoneType"),
]


@pytest.mark.parametrize("stream", [False, True])
def test_bad_items_are_left_out_and_told(memory: Memory, stream: bool) -> None:
    items = [thing for n, (bad, _, _) in enumerate(BAD) for thing in (said(f"good {n}"), bad)]
    if stream:
        chunks = list(memory.add_stream(items, chunk=3, on_error="skip", user_id="mo"))
        results, skipped = [r for c in chunks for r in c], [s for c in chunks for s in c.skipped]
        assert len(chunks) == -(-len(items) // 3)
    else:
        results = memory.add_many(items, on_error="skip", user_id="mo")
        skipped = results.skipped
    good = [f"good {n}" for n in range(len(BAD))]
    assert [result.record.content for result in results] == good
    assert contents(memory, user_id="mo") == good
    assert [one.index for one in skipped] == list(range(1, len(items), 2))
    for one, (_, field, reason) in zip(skipped, BAD, strict=True):
        assert one.field == field
        assert reason in one.reason


@pytest.mark.parametrize(("bad", "field", "reason"), BAD, ids=lambda value: ascii(value)[:30])
def test_otherwise_one_bad_item_is_an_error(memory: Memory, bad: Any, field: str | None, reason: str) -> None:
    with pytest.raises((InvalidInputError, ScopeError), match="item 2: ") as caught:
        memory.add_many(["one", "two", bad, "three"])
    assert caught.value.index == 2
    assert reason in str(caught.value)
    assert contents(memory) == []


def test_everything_may_be_bad(memory: Memory) -> None:
    results = memory.add_many(["", 5], on_error="skip")  # type: ignore[list-item]
    assert results == []
    assert [one.index for one in results.skipped] == [0, 1]
    chunks = list(memory.add_stream(["", "", "", "fine"], chunk=1, on_error="skip"))
    assert [(len(chunk), len(chunk.skipped)) for chunk in chunks] == [(0, 1), (0, 1), (0, 1), (1, 0)]


def test_what_is_wrong_with_the_call_or_the_store_is_an_error_all_the_same(open_memory: Open) -> None:
    memory = open_memory(settings=Settings(layers={"assets": {"max_size_mb": 0.001}}))
    for wrong in ("ignore", None, True, ["skip"]):
        with pytest.raises(InvalidInputError, match="is not one of raise, skip"):
            memory.add_many(["x"], on_error=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="repair must be True or False"):
        memory.add_many(["x"], repair=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="source"):
        memory.add_many(["x"], source=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="add_many takes a list"):
        memory.add_many("text", on_error="skip")
    with pytest.raises(Exception, match="full"):
        memory.add_many(["x" * 5_000], on_error="skip")

    def broken() -> Any:
        yield "one"
        raise OSError("the cable")

    with pytest.raises(OSError, match="the cable"):
        list(memory.add_stream(broken(), on_error="skip"))
    assert contents(memory) == []


def test_ids_that_are_taken_are_left_out(memory: Memory) -> None:
    memory.add("first", id="a", user_id="mo")
    memory.add("gone", id="b", user_id="mo")
    memory.delete("b")
    items = [
        {"content": "another", "id": "a"}, {"content": "gone", "id": "b"}, {"content": "first", "id": "a"},
        {"content": "new", "id": "c"}, {"content": "newer", "id": "c"},
        {"content": "first", "id": "a", "user_id": "li"},
    ]  # fmt: skip
    with pytest.raises(ConflictError):
        memory.add_many(items, user_id="mo")
    results = memory.add_many(items, user_id="mo", on_error="skip")
    assert [(r.id, r.status) for r in results] == [("a", "duplicate"), ("c", "added")]
    assert [(one.index, one.field) for one in results.skipped] == [(0, "id"), (1, "id"), (4, "id"), (5, "id")]
    assert all("id" in one.reason for one in results.skipped)
    streamed = list(
        memory.add_stream(({"content": f"{n}", "id": f"s{n % 7}"} for n in range(30)), chunk=2, on_error="skip")
    )
    assert sum(len(chunk) for chunk in streamed) == 7
    assert [one.index for chunk in streamed for one in chunk.skipped] == list(range(7, 30))


class Short(HashEmbedder):
    """Reads four words at once."""

    name = "four-words"
    window = 4

    def windows(self, texts: Sequence[str]) -> list[int]:
        return [-(-len(text.split()) // self.window) for text in texts]


def test_long_texts_that_are_refused_can_be_left_out(open_memory: Open) -> None:
    memory = open_memory(embedder=Short(), settings=Settings(long_text="refuse"))
    items = ["short", "one two three four five", "short too"]
    with pytest.raises(InvalidInputError) as caught:
        memory.add_many(items)
    assert caught.value.index == 1
    results = memory.add_many(items, on_error="skip")
    assert [result.record.content for result in results] == ["short", "short too"]
    assert [(one.index, one.field) for one in results.skipped] == [(1, "content")]


def test_plain_texts_are_checked_like_others(memory: Memory) -> None:
    view = memory.scoped(user_id="mo")
    items = ["first", "", "second", said("third"), "fourth\x00", 5, "fifth"]
    results = view.add_many(items, on_error="skip", kind="note", metadata={"n": 1})  # type: ignore[list-item]
    assert [one.index for one in results.skipped] == [1, 4, 5]
    assert {(r.record.user_id, r.record.kind, r.record.metadata["n"]) for r in results} == {("mo", "note", 1)}
    assert contents(memory, user_id="mo") == ["first", "second", "third", "fifth"]


# -- mending -----------------------------------------------------------------------------------------------------------


def test_what_is_mended(memory: Memory) -> None:
    items = [
        said(f"half {HALF}"), said("nul\x00nul"), f"{HALF}\ude00 met", f"ends with \udc00{HALF}",
        said("deep", kind=f"k{HALF}", metadata={f"key{HALF}": ["a\x00", {"b": HALF}, ("c", 1, None)]}),
    ]  # fmt: skip
    results = memory.add_many(items, repair=True, user_id="mo")
    told = [result.record.content for result in results]
    assert told == ["half \ufffd", "nul\ufffdnul", "\U0001f600 met", "ends with \ufffd\ufffd", "deep"]
    deep = results[-1].record
    assert (deep.kind, deep.metadata) == ("k\ufffd", {"key\ufffd": ["a\ufffd", {"b": "\ufffd"}, ["c", 1, None]]})
    [again] = memory.add_stream(items, repair=True, user_id="li")
    assert [result.record.content for result in again] == told


def test_ids_are_not_mended(memory: Memory) -> None:
    for field in ("user_id", "run_id", "id"):
        results = memory.add_many([said("x", **{field: f"u{HALF}"})], repair=True, on_error="skip")
        assert len(results.skipped) == 1
    with pytest.raises(InvalidInputError):
        memory.add_many([said("x", id="a\x00")], repair=True)


def test_mending_ends(memory: Memory) -> None:
    lists: Any = [HALF]
    for _ in range(60):
        lists = [lists, lists]
    endless: dict[str, Any] = {"half": HALF}
    endless["self"] = endless
    for metadata in ({"lists": lists}, endless):
        [skipped] = memory.add_many([said("x", metadata=metadata)], on_error="skip", repair=True).skipped
        assert skipped.field == "metadata"


@given(st.text(alphabet=st.characters(), max_size=20))
def test_what_can_be_stored_stays_as_it_is(text: str) -> None:
    clean = text.encode("utf-8", "ignore").decode().replace("\x00", "")
    item = {"content": clean, "metadata": {clean: [clean, (clean,), {"x": 1}]}}
    assert mended(clean) is clean
    assert mended(item) is item
    fixed = mended(text)
    assert isinstance(fixed, str)
    fixed.encode()
    assert "\x00" not in fixed
    assert len(fixed) <= len(text)


# -- a source ----------------------------------------------------------------------------------------------------------


def conversation() -> list[Any]:
    return [
        said("hi", run_id="a"), said("ok", run_id="a"), said("ok", run_id="a"), said("ok", run_id="b"),
        {"role": "assistant", "content": "ok", "run_id": "a"}, "a plain fact", "a plain fact",
        said("ok", run_id="a", occurred_at=START), said("ok", run_id="a", occurred_at=START + timedelta(1)),
        {"content": "noted", "run_id": "a"}, said("named", id="n1"), NewMemory(role="user", content="ok", run_id="a"),
    ]  # fmt: skip


def test_a_source_that_is_added_twice_adds_nothing(memory: Memory) -> None:
    first = memory.add_many(conversation(), user_id="mo", source="talk.jsonl")
    assert [result.status for result in first].count("duplicate") == 1  # the plain fact
    again = memory.add_many(conversation(), user_id="mo", source="talk.jsonl")
    assert [result.status for result in again] == ["duplicate"] * len(first)
    assert [result.id for result in again] == [result.id for result in first]
    assert memory.count(user_id="mo") == len(first) - 1
    for chunk in (1, 5):
        for results in memory.add_stream(conversation(), chunk=chunk, user_id="mo", source="talk.jsonl"):
            assert {result.status for result in results} == {"duplicate"}
    assert memory.count(user_id="mo") == len(first) - 1


def test_other_sources_and_other_people_are_other_messages(memory: Memory) -> None:
    for source, user in itertools.product(["monday.jsonl", "tuesday.jsonl"], ["mo", "li"]):
        results = memory.add_many([said("ok"), said("ok")], user_id=user, source=source)
        assert [result.status for result in results] == ["added", "added"]
    assert [r.status for r in memory.add_many([said("ok")], user_id="mo")] == ["added"]  # without one it is said again
    assert memory.count(user_id="mo") == 5


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.sampled_from(["ok", "yes", "no", "ok "]), max_size=12),
    more=st.lists(st.sampled_from(["ok", "later", "no"]), max_size=6),
    seed=st.integers(0, 9),
)
def test_a_file_that_has_grown_or_was_sorted_anew(
    tmp_path_factory: Any, embedder: HashEmbedder, texts: list[str], more: list[str], seed: int
) -> None:
    with Memory(tmp_path_factory.mktemp("s"), embedder=embedder, clock=FakeClock()) as memory:
        memory.add_many([said(text) for text in texts], source="log", user_id="mo")
        later = [*texts, *more]
        random.Random(seed).shuffle(later)
        results = memory.add_many([said(text) for text in later], source="log", user_id="mo")
        assert [result.status for result in results].count("added") == len(more)
        assert sorted(contents(memory, user_id="mo")) == sorted(later)


def test_an_import_that_was_interrupted_goes_on(memory: Memory) -> None:
    lines = [said(f"line {n % 40}") for n in range(100)]

    def until(stop: int) -> Any:
        for n, line in enumerate(lines):
            if n == stop:
                raise KeyboardInterrupt
            yield line

    for stop in (10, 35, 70):
        with pytest.raises(KeyboardInterrupt):
            list(memory.add_stream(until(stop), chunk=10, source="log", user_id="mo"))
    for _ in memory.add_stream(lines, chunk=7, source="log", user_id="mo"):
        pass
    assert sorted(contents(memory, user_id="mo")) == sorted(line["content"] for line in lines)


def test_what_became_of_it_since(memory: Memory, clock: FakeClock) -> None:
    lines = [said("stays", layer="assets"), said("expires"), said("is deleted"), said("is changed"), said("is erased")]
    ids = [result.id for result in memory.add_many(lines, source="log", user_id="mo")]
    memory.delete(ids[2])
    memory.update(ids[3], content="was changed")
    memory.erase(ids[4])
    again = memory.add_many(lines, source="log", user_id="mo")
    assert [(r.record.content, r.status) for r in again] == [("stays", "duplicate"), ("expires", "duplicate")]
    assert [(one.index, one.field) for one in again.skipped] == [(2, "id"), (3, "id"), (4, "id")]
    assert ids[2] in again.skipped[0].reason
    assert "deleted since" in again.skipped[0].reason
    assert "changed since" in again.skipped[1].reason
    clock.advance(86_401)
    memory.lifecycle.sweep()
    for status in ("added", "duplicate"):
        results = memory.add_many(lines, source="log", user_id="mo")
        assert [(r.record.content, r.status) for r in results[:2]] == [("stays", "duplicate"), ("expires", status)]
    assert contents(memory, user_id="mo").count("expires") == 1
    assert memory.add_many([said("ttl", ttl=5)], source="log", user_id="mo")[0].status == "added"
    clock.advance(6)
    assert memory.add_many([said("ttl", ttl=5)], source="log", user_id="mo")[0].status == "added"


def test_the_waiting_client_imports_in_the_same_way(
    memory: Memory, store: Path, clock: FakeClock, embedder: HashEmbedder
) -> None:
    first = memory.add_many(conversation(), source="talk", user_id="mo")
    items = [*conversation(), "", said(f"x{HALF}")]

    async def main() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as waiting:
            results = await waiting.add_many(items, source="talk", user_id="mo", on_error="skip", repair=True)
            assert [r.id for r in results[:-1]] == [r.id for r in first]
            assert [one.index for one in results.skipped] == [12]
            count, skipped = 0, list[int]()
            async for chunk in waiting.add_stream(items, chunk=5, source="talk", user_id="mo", on_error="skip"):
                assert {result.status for result in chunk} <= {"duplicate"}
                count += len(chunk)
                skipped += [one.index for one in chunk.skipped]
            assert (count, skipped) == (12, [12, 13])
            with pytest.raises(InvalidInputError) as caught:
                async for _ in waiting.add_stream(items, chunk=5, user_id="li"):
                    pass
            assert caught.value.index == 12

    asyncio.run(main())
    assert memory.count(user_id="li") == 9
