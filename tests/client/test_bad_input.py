"""Hostile and careless callers: every bad value is a typed error that says what to do, and changes nothing."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import (
    ALL,
    UNSET,
    AgentMemError,
    AsyncMemory,
    ConflictError,
    FilterError,
    FilterWarning,
    InvalidInputError,
    Layer,
    Memory,
    NewMemory,
    NotFoundError,
    ScopeError,
    Settings,
)

Open = Callable[..., Memory]
FAR_EAST, FAR_WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))
SURROGATE = "half \ud83d"
NUL = "a\x00b"


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = {"k": value}
    return value


def unfolding(levels: int) -> Any:
    """Small in memory, 2**levels values when written out."""
    value: Any = "x"
    for _ in range(levels):
        value = [value, value]
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {"name": "me"}
    value["self"] = value
    return value


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Role(str, Enum):  # noqa: UP042 - str() of its members is not their text, which is the point
    USER = "user"


class Kind(StrEnum):
    NOTE = "note"


def label(value: object) -> str:
    """A test's name for values whose repr is long, or fails."""
    return type(value).__name__


def contents(memory: Memory) -> tuple[Any, ...]:
    """Everything that a refused call must not change."""
    stats = memory.stats()
    records = {record.id: record for record in memory.iterate(user_id=ALL)}
    histories = {id: memory.history(id) for id in records}
    return stats.records, stats.deleted, stats.events, records, histories


@pytest.fixture
def filled(memory: Memory) -> Memory:
    memory.add("Ada likes tea", id="tea", user_id="ada", metadata={"year": 2024})
    memory.add("Ada plays chess", id="chess", user_id="ada")
    memory.add("of nobody in particular", id="free")
    return memory


@pytest.fixture
def unchanged(filled: Memory) -> Iterator[Memory]:
    before = contents(filled)
    yield filled
    assert contents(filled) == before
    report = filled.verify()
    assert report.ok, report.problems


def refused(call: Callable[[], Any], error: type[AgentMemError], *words: str) -> AgentMemError:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert len(message) < 700, message
    for word in words:
        assert word in message, message
    return caught.value


# -- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["content is empty"]),
        (" \n\t\u2003", ["content is empty"]),
        (NUL, ["NUL", "at 1", "remove it"]),
        (SURROGATE, ["lone surrogate", "errors='replace'"]),
        ("x" * 10_000_000, ["10,000,000 bytes", "max_content_bytes=1,048,576", "split it"]),
        ("\u4e2d" * 400_000, ["1,200,000 bytes", "split it"]),
        (None, ["item must be text", "NoneType"]),
        (5, ["item must be text", "int"]),
        (b"bytes", ["item must be text", "bytes"]),
        (["a"], ["item must be text", "list"]),
    ],
    ids=label,
)
def test_text_that_cannot_be_remembered(unchanged: Memory, content: Any, words: list[str]) -> None:
    refused(lambda: unchanged.add(content, user_id="ada"), InvalidInputError, *words)
    refused(lambda: unchanged.add_many(["fine", content]), InvalidInputError, "item 1", *words)
    if isinstance(content, (str, bytes, list)):
        # A message may have no text, or parts of one.
        said = {} if isinstance(content, list) or not content.strip() else {"role": "user"}
        refused(lambda: unchanged.add({**said, "content": content}), InvalidInputError, "content")
        refused(lambda: unchanged.update("tea", content=content), InvalidInputError, "content")


@pytest.mark.parametrize("query", ["", "  ", NUL, SURROGATE, "x" * 100_001, None, 5, b"tea", ["tea"]], ids=label)
def test_queries_that_cannot_be_searched_for(unchanged: Memory, query: Any) -> None:
    for call in (unchanged.search, lambda q: unchanged.context(q, max_tokens=10)):
        error = refused(lambda call=call: call(query), InvalidInputError, "query")
        assert error.field == "query"


def test_content_at_the_limit_is_stored_whole(open_memory: Open) -> None:
    memory = open_memory(settings=Settings(max_content_bytes=1_000))
    text = "ж" * 500
    assert memory.get(memory.add(text).id).content == text
    refused(lambda: memory.add(text + "x"), InvalidInputError, "1,001 bytes")


@pytest.mark.parametrize(
    "text", ["\ufeffbom", "\u202eright to left", "a\r\nb\x1f", "\U0001f469\u200d\U0001f680", "\ufffe"]
)
def test_strange_but_whole_text_comes_back_exactly(memory: Memory, text: str) -> None:
    name = text.strip("\ufeff\u202e\x1f")  # a name has to be seen from end to end
    id = memory.add(text, metadata={text: [text]}, user_id=name, run_id=name, id=name, kind=name, role=name).id
    record = memory.get(id)
    assert record is not None
    assert (record.content, record.metadata, record.user_id, record.run_id) == (text, {text: [text]}, name, name)
    assert (record.id, record.kind, record.role) == (name, name, name)
    assert [hit.id for hit in memory.search(text, user_id=name)] == [name]


# -- ids and scopes --------------------------------------------------------------------------------------------------

TRICKS = [
    "it's", '"quoted"', "two\nlines", "a; DROP TABLE records; --", "' OR 1=1 --", "../../etc/passwd", "C:\\x\\y", "%",
    "_", "?", "a" * 512, "ev\u202eil", "\U0001f600", "\u00e9", "pad ded", "ID", "id", "NULL", "0", "-1",
]  # fmt: skip


def test_tricky_ids_are_just_ids(memory: Memory) -> None:
    for trick in TRICKS:
        memory.add(f"content of {trick}", id=trick, user_id=trick, agent_id=trick, run_id=trick, metadata={trick: 1})
    assert memory.stats().records == len(TRICKS)
    for trick in TRICKS:
        record = memory.get(trick)
        assert record is not None
        assert (record.id, record.user_id, record.agent_id, record.run_id) == (trick, trick, trick, trick)
        assert record.content == f"content of {trick}"
        assert [hit.id for hit in memory.search("content", user_id=trick)] == [trick]
        assert [r.id for r in memory.recent(run_id=trick, user_id=trick)] == [trick]
        assert [event.event for event in memory.history(trick)] == ["ADD"]
    assert memory.delete(TRICKS[3])
    assert memory.delete_all(user_id=TRICKS[4]) == 1
    assert memory.stats().records == len(TRICKS) - 2
    assert memory.verify().ok


BAD_IDS = ["", "  ", NUL, SURROGATE, "a" * 513, 5.0, True, " id", b"id", ["id"], object()]


@pytest.mark.parametrize("id", BAD_IDS, ids=label)
def test_ids_that_cannot_be_ids(unchanged: Memory, id: Any) -> None:
    for call in (
        lambda: unchanged.add("x", id=id), lambda: unchanged.get(id), lambda: unchanged.update(id, importance=0.5),
        lambda: unchanged.delete(id), lambda: unchanged.erase(id), lambda: unchanged.history(id),
        lambda: unchanged.restore(id), lambda: unchanged.feedback(id, rating=3),
    ):  # fmt: skip
        error = refused(call, InvalidInputError, "id")
        assert error.field == "id"


@pytest.mark.parametrize("value", BAD_IDS, ids=label)
@pytest.mark.parametrize("name", ["user_id", "agent_id", "run_id"])
def test_scope_ids_that_cannot_be_scopes(unchanged: Memory, name: str, value: Any) -> None:
    scope = {name: value}
    for call in (
        lambda: unchanged.add("x", **scope), lambda: unchanged.add({"content": "x", **scope}),
        lambda: unchanged.add_many(["x"], **scope), lambda: list(unchanged.add_stream(["x"], **scope)),
        lambda: unchanged.search("tea", **scope), lambda: unchanged.context("tea", max_tokens=9, **scope),
        lambda: unchanged.page(**scope), lambda: list(unchanged.iterate(**scope)),
        lambda: unchanged.delete_all(**scope), lambda: unchanged.scoped(**scope),
    ):  # fmt: skip
        refused(call, ScopeError, name)


def test_all_is_for_reads(unchanged: Memory) -> None:
    everybody: Any = {"user_id": ALL}
    for call in (
        lambda: unchanged.add("x", **everybody), lambda: unchanged.add({"content": "x", **everybody}),
        lambda: unchanged.add_many(["x"], **everybody), lambda: unchanged.add_many([{"content": "x", **everybody}]),
        lambda: list(unchanged.add_stream(["x"], **everybody)), lambda: unchanged.scoped(**everybody),
    ):  # fmt: skip
        refused(call, ScopeError, "reads only")
    refused(lambda: unchanged.search("tea", agent_id=ALL), ScopeError, "agent_id", "leave agent_id out")
    refused(lambda: unchanged.scoped(user_id="ada").search("tea", user_id=ALL), ScopeError, "bound")
    assert len(unchanged.search("tea", user_id=ALL)) == 3


def test_nothing_is_wiped_by_accident(unchanged: Memory) -> None:
    refused(unchanged.erase_all, ScopeError, "user_id")
    refused(lambda: unchanged.erase_all(user_id=ALL), ScopeError, "user_id")
    refused(unchanged.delete_all, ScopeError, "user_id")
    refused(lambda: unchanged.delete_all(filters={"year": 2024}), ScopeError, "user_id")
    refused(lambda: unchanged.delete_all(user_id=ALL), ScopeError, "every record of every user", "before")
    refused(lambda: unchanged.delete_all(user_id=ALL, filters={}, dry_run=True), ScopeError, "every record")
    refused(lambda: unchanged.delete_all(before="2030-01-01"), ScopeError, "user_id")
    refused(lambda: unchanged.scoped(user_id="ada").delete_all(user_id=ALL, before="2030-01-01"), ScopeError, "bound")
    refused(lambda: unchanged.erase_all(user_id=None), ScopeError, "user_id")
    refused(unchanged.scoped, ScopeError, "at least one")
    refused(lambda: unchanged.recent(run_id=None), ScopeError, "run_id")
    for flag in ("yes", 1, None):
        refused(lambda flag=flag: unchanged.delete_all(user_id="ada", dry_run=flag), InvalidInputError, "dry_run")
    assert unchanged.delete_all(user_id="ada", dry_run=True) == 2


def test_archiving_says_which(unchanged: Memory) -> None:
    refused(unchanged.tiers.archive, ScopeError, "user_id")
    refused(lambda: unchanged.tiers.archive(user_id=ALL), ScopeError, "everybody")
    refused(lambda: unchanged.tiers.archive(before="2030-01-01"), ScopeError, "user_id")
    refused(lambda: unchanged.tiers.archive("x", user_id="ada"), InvalidInputError, "not both")
    refused(lambda: unchanged.tiers.archive(7.5), InvalidInputError, "id")
    refused(lambda: unchanged.tiers.archive(user_id="ada", before="soon"), InvalidInputError, "before")
    refused(lambda: unchanged.tiers.archive(user_id="ada", layers=["attic"]), InvalidInputError, "layer")
    refused(lambda: unchanged.tiers.archive(user_id="ada"), InvalidInputError, "glacier.url")
    refused(lambda: unchanged.tiers.archive("nobody's"), NotFoundError, "nobody's")
    refused(lambda: unchanged.tiers.rehydrate("nobody's"), NotFoundError, "nobody's")
    for flag in ("yes", 1, None):
        refused(lambda flag=flag: unchanged.tiers.archive(user_id="ada", dry_run=flag), InvalidInputError, "dry_run")
        refused(lambda flag=flag: unchanged.search("tea", include_glacier=flag), InvalidInputError, "include_glacier")
        refused(lambda flag=flag: unchanged.page(archived=flag), InvalidInputError, "archived")
    assert unchanged.tiers.archive(user_id="ada", dry_run=True).archived == 2


def test_members_of_enums_are_their_text(memory: Memory) -> None:
    id = memory.add("hello", role=Role.USER, user_id=Role.USER, kind=Kind.NOTE, metadata={Role.USER: Kind.NOTE}).id
    record = memory.get(id)
    assert record is not None
    assert (record.role, record.user_id, record.kind, record.metadata) == ("user", "user", "note", {"user": "note"})
    assert type(record.role) is str
    assert [hit.id for hit in memory.search("hello", user_id="user")] == [id]
    assert [hit.id for hit in memory.search("hello", user_id=Role.USER)] == [id]


# -- metadata and numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"a": 1j}, ["metadata.a", "complex", "lists or dicts"]),
        ({"a": object()}, ["metadata.a", "object"]),
        ({"a": b"x"}, ["metadata.a", "bytes", ".decode()", "b64encode"]),
        ({"a": np.complex64(1)}, ["metadata.a", "complex"]),
        ({"a": np.zeros(70_000)}, ["max_metadata_bytes=65,536"]),
        ({"a": np.array([1, math.inf])}, ["metadata.a[1]", "inf"]),
        ({1: "x"}, ["the key 1", "keys must be text"]),
        ({"a": {None: 1}}, ["metadata.a", "the key None"]),
        ({"a": [{"b": [2**63]}]}, ["metadata.a[0].b[0]", "63 bits", "as text"]),
        ({"a": -(2**63) - 1}, ["63 bits"]),
        ({"a": 10**5_000}, ["63 bits"]),
        ({"a": math.nan}, ["nan", "use None"]),
        ({"a": [-math.inf]}, ["-inf"]),
        ({"a": NUL}, ["metadata.a", "NUL"]),
        ({"a": SURROGATE}, ["surrogate"]),
        ({NUL: 1}, ["key", "NUL"]),
        ({SURROGATE: 1}, ["key", "surrogate"]),
        (nested(1_000), ["nested more than 32 deep", "flatten"]),
        (endless(), ["nested more than 32 deep"]),
        ({"a": unfolding(30)}, ["max_metadata_bytes=65,536"]),
        ({"a": ["x" * 60_000] * 30_000}, ["max_metadata_bytes=65,536", "into content"]),
        ({"a": "x" * 65_536}, ["max_metadata_bytes=65,536", "into content"]),
        ([("a", 1)], ["must be a mapping", "list"]),
        ("a=1", ["must be a mapping", "str"]),
        (5, ["must be a mapping", "int"]),
    ],
    ids=label,
)
def test_metadata_that_is_not_json(unchanged: Memory, metadata: Any, words: list[str]) -> None:
    for call in (
        lambda: unchanged.add("x", metadata=metadata),
        lambda: unchanged.add({"content": "x", "metadata": metadata}),
        lambda: unchanged.update("tea", metadata=metadata),
    ):
        assert refused(call, InvalidInputError, *words).field == "metadata"
    error = refused(
        lambda: unchanged.add_many(["x", {"content": "y", "metadata": metadata}]), InvalidInputError, *words
    )
    assert error.index == 1
    refused(lambda: unchanged.add(NewMemory(content="x", metadata=metadata)), InvalidInputError, "metadata")


def test_metadata_does_not_grow_beyond_the_limit_by_merging(filled: Memory) -> None:
    filled.update("tea", metadata={"one": "x" * 40_000})
    before = contents(filled)
    error = refused(
        lambda: filled.update("tea", metadata={"two": "x" * 40_000}), InvalidInputError, "max_metadata_bytes"
    )
    assert error.field == "metadata"
    assert contents(filled) == before
    assert filled.update("tea", metadata={"one": None, "two": "x" * 40_000}).metadata.keys() == {"year", "two"}
    assert filled.verify().ok


def test_numbers_at_the_edges_come_back_exactly(memory: Memory) -> None:
    values = {"top": 2**63 - 1, "bottom": -(2**63), "tiny": 5e-324, "large": 1.7976931348623157e308, "zero": -0.0}
    record = memory.get(memory.add("numbers", metadata=values).id)
    assert record is not None
    assert record.metadata == values
    assert {key: type(value) for key, value in record.metadata.items()} == {k: type(v) for k, v in values.items()}
    assert len(memory.search("numbers", filters={"top": 2**63 - 1, "bottom": {"$lt": 0}})) == 1


@pytest.mark.parametrize(
    "value", [-0.1, 1.1, 2, math.nan, math.inf, True, "0.5", 10**5_000, [], Unprintable()], ids=label
)
def test_importance_is_between_zero_and_one(unchanged: Memory, value: Any) -> None:
    for call in (
        lambda: unchanged.add("x", importance=value),
        lambda: unchanged.update("tea", importance=value),
    ):
        assert refused(call, InvalidInputError, "importance", "0 to 1").field == "importance"


@pytest.mark.parametrize("value", [0, 0.9, 5.1, -1, math.nan, True, "5", 10**5_000], ids=label)
def test_ratings_are_between_one_and_five(unchanged: Memory, value: Any) -> None:
    refused(lambda: unchanged.feedback("tea", rating=value), InvalidInputError, "rating", "1 to 5")


def test_feedback_says_something(unchanged: Memory) -> None:
    refused(lambda: unchanged.feedback("tea"), InvalidInputError, "rating", "accepted")
    refused(lambda: unchanged.feedback("tea", accepted="yes"), InvalidInputError, "accepted")
    refused(lambda: unchanged.feedback("tea", rating=3, query=NUL), InvalidInputError, "query", "NUL")
    refused(lambda: unchanged.feedback("tea", rating=3, query="x" * 10_000_000), InvalidInputError, "query")
    refused(lambda: unchanged.feedback("nobody", rating=3), NotFoundError, "nobody")


@pytest.mark.parametrize(
    "value", [0, -1, 10**9, 10_001, True, False, "5", 2.0, None, 10**5_000, math.inf, Unprintable()], ids=label
)
def test_limits_are_between_one_and_ten_thousand(unchanged: Memory, value: Any) -> None:
    for call in (
        lambda: unchanged.search("tea", limit=value),
        lambda: unchanged.page(limit=value),
        lambda: unchanged.recent(run_id="r", limit=value),
    ):
        refused(call, InvalidInputError, "limit", "1 to 10,000", "iterate()")


@pytest.mark.parametrize("value", [0, -1, True, "5", 1.5, None, 10**5_000], ids=label)
def test_budgets_chunks_and_versions_are_ints(unchanged: Memory, value: Any) -> None:
    refused(lambda: list(unchanged.add_stream(["x"], chunk=value)), InvalidInputError, "chunk", "1 to 10,000")
    if value != 10**5_000:
        refused(lambda: unchanged.context("tea", max_tokens=value), InvalidInputError, "max_tokens")
    if value not in (0, -1, None):
        refused(lambda: unchanged.restore("tea", version=value), AgentMemError, "version")
        refused(lambda: unchanged.update("tea", content="new", if_version=value), AgentMemError, "version")


def test_versions_that_never_were(unchanged: Memory) -> None:
    refused(lambda: unchanged.update("tea", content="new", if_version=7), ConflictError, "version 1, not 7")
    for version in (0, -1, 2, 2**62):
        refused(lambda version=version: unchanged.restore("tea", version=version), NotFoundError, "versions 1 to 1")
    refused(lambda: unchanged.update("nobody", content="new"), NotFoundError, "'nobody'")
    refused(lambda: unchanged.update("tea"), InvalidInputError, "nothing to change")


def test_an_id_in_use_says_nothing_of_its_owner(unchanged: Memory) -> None:
    error = refused(lambda: unchanged.add("mine now", id="tea", user_id="eve"), ConflictError, "'tea'", "another")
    assert "ada" not in str(error).lower()
    refused(lambda: unchanged.add_many(["new one", {"content": "mine", "id": "tea"}]), ConflictError, "'tea'")
    refused(lambda: unchanged.add_many([{"content": "one", "id": "n"}, {"content": "two", "id": "n"}]), ConflictError)
    assert unchanged.add("Ada likes tea", id="tea", user_id="ada").status == "duplicate"


# -- times -----------------------------------------------------------------------------------------------------------

BAD_TIMES = [
    ("yesterday", "ISO 8601"), ("2025-02-30T00:00:00+00:00", "ISO 8601"), ("", "ISO 8601"), (SURROGATE, "ISO 8601"),
    (1735689600, "must be a datetime"),
    (datetime(1, 1, 1, tzinfo=FAR_EAST), "years 1 to 9999"), (True, "must be a datetime"),
    (datetime(9999, 12, 31, 23, tzinfo=FAR_WEST), "years 1 to 9999"),
    (np.datetime64("2025-01-01"), "must be a datetime"),
    ("x" * 1_000_000, "ISO 8601"), (Unprintable(), "must be a datetime"),
]  # fmt: skip


@pytest.mark.parametrize(("when", "word"), BAD_TIMES, ids=label)
def test_dates_that_are_none(unchanged: Memory, when: Any, word: str) -> None:
    assert refused(lambda: unchanged.add("x", occurred_at=when), InvalidInputError, "occurred_at", word)
    for name in ("since", "until", "as_of"):
        error = refused(lambda name=name: unchanged.search("tea", **{name: when}), InvalidInputError, name, word)
        assert error.field == name


def test_since_after_until(unchanged: Memory) -> None:
    early, late = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)
    refused(lambda: unchanged.search("tea", since=late, until=early), InvalidInputError, "since", "until", "swap")
    assert unchanged.search("tea", user_id="ada", since=early, until=early) == []


def test_times_at_the_edges_come_back(memory: Memory) -> None:
    for when in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        record = memory.get(memory.add(f"at {when}", occurred_at=when).id)
        assert record is not None
        assert record.occurred_at == when
    assert len(memory.search("at", mode="keyword")) == 2
    assert "0001-01-01" in memory.context("at", max_tokens=100)


@pytest.mark.parametrize(
    "ttl",
    [0, -1, math.nan, math.inf, True, "60", timedelta(0), timedelta(days=-1), timedelta.max, 10**5_000],
    ids=label,
)
def test_times_to_live(unchanged: Memory, ttl: Any) -> None:
    refused(lambda: unchanged.add("x", ttl=ttl), InvalidInputError, "ttl", "more than 0")
    refused(lambda: unchanged.update("tea", ttl=ttl), InvalidInputError, "ttl", "more than 0")


# -- choices, filters, cursors, items --------------------------------------------------------------------------------


def test_choices_name_what_there_is(unchanged: Memory) -> None:
    for bad in ("fuzzy", "", None, 5, [], np.zeros(2), Unprintable()):
        refused(lambda bad=bad: unchanged.search("tea", mode=bad), InvalidInputError, "mode", "hybrid, vector, keyword")
        refused(lambda bad=bad: unchanged.page(order=bad), InvalidInputError, "order", "newest, oldest")
        if bad is not None:
            refused(
                lambda bad=bad: unchanged.add("x", layer=bad), InvalidInputError, "layer", "interact, insights, assets"
            )
            refused(lambda bad=bad: unchanged.search("x", layers=[bad]), InvalidInputError, "layers")
            refused(lambda bad=bad: unchanged.add("x", dedupe=bad), InvalidInputError, "dedupe")
        refused(lambda bad=bad: unchanged.search("tea", explain=bad), InvalidInputError, "explain", "True or False")


@pytest.mark.parametrize(
    "labels", ["fact", [], (), {"fact"}, b"fact", 5, [5], [""], [NUL], [None], ["k"] * 40_000, ["x" * 129]], ids=label
)
def test_kinds_and_layers_are_short_lists_of_names(unchanged: Memory, labels: Any) -> None:
    for name in ("kinds", "layers"):
        for call in (
            lambda name=name: unchanged.search("tea", **{name: labels}),
            lambda name=name: unchanged.page(**{name: labels}),
        ):
            assert refused(call, InvalidInputError, name).field == name


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"year": {"$regex": "x"}}, ["$regex", "$eq", "$contains"]),
        ({"year": {"$gtt": 1}}, ["$gtt", "did you mean $gt"]),
        ({"$where": "1=1"}, ["$where"]),
        ({"$or": []}, ["$or", "non-empty list"]),
        ({"year": {"$in": "2024"}}, ["$in", "list"]),
        ({"year": {"$in": list(range(1_001))}}, ["1,001"]),
        ({"year": math.nan}, ["year"]),
        ({"year": 2**63}, ["63 bits"]),
        ({"year": 10**5_000}, ["63 bits"]),
        ({"year": NUL}, ["NUL"]),
        ({NUL: 1}, ["NUL"]),
        ({"year": SURROGATE}, ["surrogate"]),
        ({"year": b"2024"}, ["bytes", ".decode()"]),
        ({"year": np.array([1j])}, ["complex"]),
        ({5: 1}, ["keys must be text"]),
        (endless(), ["deep"]),
        ({"$not": nested(1_000)}, ["deep"]),
        ({"a": unfolding(30)}, ["nested values"]),
        ([("year", 1)], ["mapping"]),
        ("year = 2024", ["mapping"]),
        (5, ["mapping"]),
    ],
    ids=label,
)
def test_filters_that_are_none(unchanged: Memory, filters: Any, words: list[str]) -> None:
    for call in (
        lambda: unchanged.search("tea", filters=filters), lambda: unchanged.page(filters=filters),
        lambda: unchanged.context("tea", max_tokens=9, filters=filters),
        lambda: list(unchanged.iterate(filters=filters)),
        lambda: unchanged.delete_all(user_id="ada", filters=filters),
    ):  # fmt: skip
        assert refused(call, FilterError, *words).field == "filters"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "newest",
        "newest:",
        "newest:-1",
        "newest:1e3",
        "newest:٣",
        "oldest:1",
        "newest:1;",
        5,
        b"newest:1",
        "newest:" + "9" * 30,
        NUL,
        Unprintable(),
    ],
    ids=label,
)
def test_cursors_are_those_of_the_last_page(unchanged: Memory, cursor: Any) -> None:
    assert refused(lambda: unchanged.page(cursor=cursor), InvalidInputError, "cursor").field == "cursor"


def test_a_cursor_of_the_other_order_is_refused(unchanged: Memory) -> None:
    first = unchanged.page(user_id="ada", limit=1)
    assert first.cursor
    refused(
        lambda: unchanged.page(user_id="ada", cursor=first.cursor, order="oldest"), InvalidInputError, "order='oldest'"
    )


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"content": "x", "name": "bob"}, ["no field 'name'", "metadata"]),
        ({"content": "x", 10**5_000: 1}, ["no field"]),
        ({"text": "x"}, ["no field 'text'"]),
        ({}, ["needs 'content'"]),
        ({"role": "assistant"}, ["needs 'content'"]),
        ({"content": [{"type": "text", "text": "hi"}]}, ["content must be a str", "list"]),
        ({"content": "x", "calls": []}, ["no field 'calls'"]),
        ({"role": "", "content": "x"}, ["role is empty"]),
        ({"role": "x" * 129, "content": "x"}, ["role", "128"]),
        ({"content": "x", "kind": NUL}, ["kind", "NUL"]),
        ({"content": "x", "kind": SURROGATE}, ["kind", "surrogate"]),
        ({"content": "x", "id": ""}, ["id is empty"]),
        ({"content": "x", "user_id": 5.5}, ["user_id", "float"]),
        ({"content": "x", "importance": 2}, ["importance"]),
        (("role", "content"), ["tuple"]),
        (Unprintable(), ["Unprintable"]),
    ],
    ids=label,
)  # fmt: skip
def test_items_and_where_they_stand(unchanged: Memory, item: Any, words: list[str]) -> None:
    refused(lambda: unchanged.add(item), AgentMemError, *words)
    error = refused(lambda: unchanged.add_many(["a", "b", item, "d"]), AgentMemError, "item 2", *words)
    assert error.index == 2


def test_a_batch_is_a_list(unchanged: Memory) -> None:
    for bad in ("text", b"text", {"content": "x"}, {"a"}, iter(["a"]), 5, None, NewMemory(content="x")):
        refused(lambda bad=bad: unchanged.add_many(bad), InvalidInputError, "takes a list")
        if not isinstance(bad, (set, Iterator)):
            refused(lambda bad=bad: unchanged.add_stream(bad), InvalidInputError, "iterable", "add()")
    refused(lambda: unchanged.add_many(["x"] * 10_001), InvalidInputError, "10,001", "add_stream()")
    assert unchanged.add_many([]) == []
    assert list(unchanged.add_stream([])) == []


def test_a_stream_counts_positions_from_its_start_and_keeps_what_it_acknowledged(filled: Memory) -> None:
    def items() -> Iterable[Any]:
        yield from (f"item {n}" for n in range(25))
        yield {"content": "bad", "importance": 2}

    acknowledged = list[int]()
    stream = filled.add_stream(items(), chunk=10, user_id="bob")
    with pytest.raises(InvalidInputError, match="item 25: importance") as caught:
        acknowledged.extend(len(chunk) for chunk in stream)
    assert caught.value.index == 25
    assert caught.value.field == "importance"
    assert sum(acknowledged) == 20 == sum(1 for _ in filled.iterate(user_id="bob"))
    assert filled.verify().ok


def test_a_stream_whose_source_fails_acknowledges_what_is_on_its_way(filled: Memory) -> None:
    def items() -> Iterable[str]:
        yield from (f"item {n}" for n in range(15))
        raise ValueError("the file ended")

    acknowledged = list[int]()
    with pytest.raises(ValueError, match="the file ended"):
        acknowledged.extend(len(chunk) for chunk in filled.add_stream(items(), chunk=5, user_id="bob"))
    assert sum(acknowledged) == 15 == sum(1 for _ in filled.iterate(user_id="bob"))


def test_a_view_refuses_what_is_not_its_own(unchanged: Memory) -> None:
    view = unchanged.scoped(user_id="eve")
    assert view.get("tea") is None
    assert view.delete("tea") is False
    for call in (
        lambda: view.history("tea"), lambda: view.update("tea", content="mine"), lambda: view.erase("tea"),
        lambda: view.restore("tea"), lambda: view.feedback("tea", rating=1),
    ):  # fmt: skip
        refused(call, NotFoundError, "'tea'")
    error = refused(lambda: view.add_many(["mine", {"content": "x", "user_id": "ada"}]), ScopeError, "item 1", "bound")
    assert error.index == 1
    refused(lambda: view.add("x", user_id="ada"), ScopeError, "bound")
    refused(lambda: view.add("x", id="tea"), ConflictError)


@pytest.mark.parametrize("count", [5, "len", lambda text: "many", lambda text: None], ids=label)
def test_token_counters_count(unchanged: Memory, count: Any) -> None:
    refused(
        lambda: unchanged.context("tea", max_tokens=9, user_id="ada", count_tokens=count),
        InvalidInputError,
        "count_tokens",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"path": ""}, {"path": 5}, {"path": b"store"}, {"path": NUL}, {"path": SURROGATE}, {"settings": {}},
        {"settings": Settings}, {"clock": 5}, {"clock": datetime(2025, 1, 1, tzinfo=UTC)},
    ],
    ids=label,
)  # fmt: skip
def test_clients_refuse_what_they_cannot_use(options: dict[str, Any], tmp_path: Path) -> None:
    name = next(iter(options))
    error = refused(lambda: Memory(**{"path": tmp_path / "store", **options}), InvalidInputError, name)
    assert error.field == name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("told", [datetime(2025, 1, 1), None, 5, Unprintable()], ids=label)  # noqa: DTZ001
def test_clocks_tell_an_aware_time(open_memory: Open, told: Any) -> None:
    memory = open_memory(clock=lambda: told)
    refused(lambda: memory.add("x"), InvalidInputError, "clock")
    assert memory.stats().records == 0


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0}, {"batch_size": "many"}, {"batch_size": 10**5_000}, {"default_layer": "attic"}, {"colour": 1},
        {"lock_timeout_s": math.nan}, {"query_cache_ttl_minutes": -1},
        {"max_content_bytes": 0}, {"embed_threads": None},
    ],
    ids=lambda values: next(iter(values)),
)  # fmt: skip
def test_settings_refuse_the_impossible(values: dict[str, Any]) -> None:
    error = refused(lambda: Settings(**values), InvalidInputError, next(iter(values)))
    assert error.field == next(iter(values))


# -- anything at all -------------------------------------------------------------------------------------------------

UNFOLDING = unfolding(30)
JUNK = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**63) - 1, 10**5_000, 0.5,
    -0.0, math.nan, math.inf, 1e308, 1j, "", " ",
    "x", "tea", "ada", NUL, SURROGATE, "x" * 600, "' OR 1=1 --", "newest:1", "2025-01-01T00:00:00+00:00", b"", b"x",
    bytearray(b"x"), [], [None], [[]], ["x"], ["x", 5], (), ("x",), {}, {"a": 1},
    {"a": {"$gt": 1}}, {"$or": [{}]}, {1: 2},
    {"content": "x"}, set(), {"x"}, frozenset({1}), range(3), object(), Unprintable(), int, len, lambda: 1, ALL, UNSET,
    Layer.ASSETS, Role.USER, Kind.NOTE, datetime(2025, 1, 1),  # noqa: DTZ001
    datetime(2025, 1, 1, tzinfo=UTC), timedelta(1),
    timedelta.max, Path("x"), np.float32(1), np.int64(1), np.zeros(2),
    np.array("x"), Settings(), NewMemory(content="x"),
    ValueError("x"), endless(), nested(1_000), UNFOLDING, iter(["x"]), "\U0001f600",
]  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "add": {"item": "x"}, "add_many": {"items": ["x"]}, "add_stream": {"items": ["x"]}, "search": {"query": "tea"},
    "context": {"query": "tea", "max_tokens": 50}, "recent": {"run_id": "r"}, "get": {"id": "tea"}, "page": {},
    "iterate": {}, "count": {}, "distinct": {"field": "$kind"},
    "users": {}, "user_page": {}, "runs": {}, "agents": {}, "kinds": {}, "namespaces": {}, "deleted": {},
    "put": {"key": "k", "content": "x"}, "put_many": {"items": [{"key": "k", "content": "x"}]},
    "restore_all": {"user_id": "zoe"}, "update": {"id": "tea", "importance": 0.5},
    "delete": {"id": "none"}, "delete_many": {"ids": ["none"]}, "delete_all": {"user_id": "zoe"},
    "erase": {"id": "none"}, "erase_all": {"user_id": "zoe"}, "erasures": {"user_id": "zoe"}, "history": {"id": "tea"},
    "restore": {"id": "tea"},
    "vectors": {"ids": ["tea"]}, "embed": {"texts": ["x"]},
    "feedback": {"id": "tea", "rating": 3}, "scoped": {"user_id": "ada"}, "userless": {}, "pop": {"run_id": "r"},
    "touch": {"ids": ["tea"]}, "events": {}, "apply": {"changes": []},
    "search_many": {"queries": ["tea"]}, "session": {"run_id": "r"}, "sessions": {}, "blocks": {},
    "consolidation": {},
}  # fmt: skip
WITHOUT_VALUES = {"close", "flush", "warm_up", "stats", "health", "verify", "repair", "compact", "kpis"}
# What they take is not a value but a model or a place for backups, and what they do takes seconds; tests of their own.
ELSEWHERE = {
    "reembed", "export", "import_", "snapshots", "create_snapshot", "restore_snapshot", "drop_snapshot",
}  # fmt: skip
SLOTS = [
    (name, parameter)
    for name in NEEDED
    for parameter in inspect.signature(getattr(Memory, name)).parameters
    if parameter != "self"
]


def test_every_method_is_attacked() -> None:
    inside = {"fields", "check_one", "check_many"}
    public = {name for name, _ in inspect.getmembers(Memory, inspect.isfunction) if not name.startswith("_")} - inside
    assert public == NEEDED.keys() | WITHOUT_VALUES | ELSEWHERE


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Whatever happens inside is a result or an error of ours, with a message for people."""
    message = "fine"
    try:
        yield
    except (AgentMemError, FilterWarning) as exc:  # warnings are errors in tests
        message = str(exc)
    assert 0 < len(message) < 2_000
    assert "SQL" not in message
    assert "Traceback" not in message


def arranged(memory: object, name: str, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as the method wants them: by position and by name."""
    parameters = inspect.signature(getattr(memory, name)).parameters
    by_name = {key for key in arguments if parameters[key].kind is inspect.Parameter.KEYWORD_ONLY}
    return [arguments[key] for key in arguments if key not in by_name], {key: arguments[key] for key in by_name}


def attack(memory: Memory, name: str, arguments: dict[str, Any]) -> None:
    positional, keywords = arranged(memory, name, arguments)
    with only_our_errors():
        result = getattr(memory, name)(*positional, **keywords)
        if isinstance(result, Iterator):
            list(result)


def junk_for(parameter: str) -> Iterator[Any]:
    for junk in JUNK:
        if parameter == "count_tokens" and callable(junk):
            continue  # what a caller's function raises is the caller's
        if parameter == "data" and junk is UNFOLDING:
            continue  # it is copied up to 16 MiB, which takes seconds; the tests of data have such values
        yield junk


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_any_value_for_any_parameter(filled: Memory, name: str) -> None:
    for parameter in [parameter for method, parameter in SLOTS if method == name]:
        for junk in junk_for(parameter):
            attack(filled, name, {**NEEDED[name], parameter: junk})
    assert all(filled.history(record.id) for record in filled.iterate(user_id=ALL))
    report = filled.verify()
    assert report.ok, report.problems


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_any_value_for_the_waiting_client(store: Path, embedder: Any, name: str) -> None:
    async def attack_all(memory: AsyncMemory) -> None:
        for parameter in [parameter for method, parameter in SLOTS if method == name]:
            for junk in junk_for(parameter):
                positional, keywords = arranged(memory, name, {**NEEDED[name], parameter: junk})
                with only_our_errors():
                    result = getattr(memory, name)(*positional, **keywords)
                    if inspect.isasyncgen(result):
                        async for _ in result:
                            pass
                    elif inspect.isawaitable(result):
                        await result

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.add("Ada likes tea", id="tea", user_id="ada")
            await attack_all(memory)
            report = await memory.verify()
            assert report.ok, report.problems

    asyncio.run(main())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_values_for_several_parameters(filled: Memory, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(NEEDED)))
    optional = [parameter for method, parameter in SLOTS if method == name]
    chosen = data.draw(st.lists(st.sampled_from(optional), max_size=4, unique=True))
    # By position: hypothesis would print the values, and some cannot be.
    junk = st.integers(0, len(JUNK) - 1).map(lambda at: JUNK[at]) | st.text(max_size=5) | st.integers() | st.floats()
    deep = st.recursive(
        junk, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    )
    attack(filled, name, {**NEEDED[name], **{parameter: data.draw(deep) for parameter in chosen}})
    assert filled.history("free")


@pytest.mark.parametrize("option", ["path", "settings", "embedder", "clock"])
def test_any_value_for_a_client(tmp_path: Path, option: str, embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n, junk in enumerate(JUNK):
        if option == "embedder" and isinstance(junk, str) and junk.strip():
            continue  # the name of a model, which is looked up
        if option == "clock" and junk is len:
            continue  # its own TypeError
        with only_our_errors(), ExitStack() as stack:
            memory = stack.enter_context(Memory(**{"path": tmp_path / f"{n}", "embedder": embedder, option: junk}))
            memory.add("x")


@pytest.mark.parametrize("field", list(NewMemory.model_fields))
def test_any_value_for_a_field_of_an_item(filled: Memory, field: str) -> None:
    for junk in junk_for(field):
        with only_our_errors():
            filled.add({"content": "x", field: junk})
        with only_our_errors():
            filled.add_many([NewMemory(**{"content": "x", field: junk})])
    assert all(filled.history(record.id) for record in filled.iterate(user_id=ALL))
    assert filled.verify().ok
