"""Filters on data, against a dict: the rules are those of metadata, and data may be anything."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from filter_oracle import matches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import ALL, FilterError, FilterWarning, Memory
from agentmem.stores import documents
from agentmem.stores.documents import SEEN, seen
from agentmem.types.data import data_json

KEYS = ["a", "b", "a.b", "ü", "$x", "key", "", 'q"', "\\"]
VALUES: list[Any] = [None, True, False, 0, 1, -1.5, 2**40, "x", "xy", "X", "", "é", "2026-01-02", [], {}]
values = st.sampled_from(VALUES)
anything = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from(["", ".a", ".b", ".a.b", ".b.a", ".a\\.b", ".ü", ".key", '.q"', ".\\", ".a.b.a", "."])
tests = st.one_of(
    st.builds(lambda value: {"$eq": value}, values),
    st.builds(lambda value: {"$ne": value}, values),
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$gt", "$lte"]), st.sampled_from([0, 1.5, "x", ""])),
    st.builds(lambda found: {"$in": found}, st.lists(values, max_size=3)),
    st.builds(lambda found: {"$nin": found}, st.lists(values, max_size=3)),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
    st.builds(lambda value: {"$contains": value}, st.sampled_from(["x", 1, None])),
    st.builds(lambda value: {"$prefix": value}, st.sampled_from(["x", ""])),
    st.builds(lambda value: {"$icontains": value}, st.sampled_from(["X", "É"])),
)
# The oracle knows metadata, which is an object: the data is what an object has under one key.
UNDER = "data"


def asked(path: str, test: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A filter on data, and the same question for the oracle."""
    return {f"$data{path}": test}, {UNDER + path: test}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data())
def test_filters_on_data_are_those_on_metadata(memory: Memory, data: st.DataObject) -> None:
    memory.delete_all(user_id="kim")
    held = data.draw(st.lists(st.none() | anything, min_size=1, max_size=6))
    items = [{"key": str(at), "content": "tea", "data": value} for at, value in enumerate(held)]
    memory.put_many(items, user_id="kim")
    for _ in range(4):
        ours, theirs = asked(data.draw(paths), data.draw(tests))
        expected = {
            str(at) for at, value in enumerate(held) if matches({} if value is None else {UNDER: value}, theirs)
        }
        found = {record.key for record in memory.iterate(user_id="kim", filters=ours)}
        assert found == expected, (ours, held)
        negated = {record.key for record in memory.iterate(user_id="kim", filters={"$not": ours})}
        assert negated == {str(at) for at in range(len(held))} - expected


def test_everywhere_that_filters_are(memory: Memory) -> None:
    ids = [memory.add("tea", user_id="kim", data={"n": n, "at": [{"x": n}]}).id for n in range(4)]
    memory.add("tea with metadata", user_id="kim", metadata={"n": 1})
    one = {"$data.n": 1}
    assert [hit.id for hit in memory.search("tea", user_id="kim", filters=one)] == [ids[1]]
    assert [hit.id for hit in memory.search("tea", user_id="kim", filters={"$data.at.x": {"$gte": 3}})] == [ids[3]]
    assert [record.id for record in memory.page(user_id="kim", filters=one).records] == [ids[1]]
    assert [record.id for record in memory.page(user_id="kim", filters=one, by="event").records] == [ids[1]]
    assert memory.count(user_id="kim", filters={"n": 1}) == 1
    assert memory.distinct("$data.n", user_id="kim") == [0, 1, 2, 3]
    assert memory.distinct("$data.at.x", user_id="kim", filters={"$data.n": {"$lt": 2}}) == [0, 1]
    assert memory.delete_all(user_id="kim", filters=one) == 1
    assert [record.id for record in memory.deleted(user_id="kim", filters=one).records] == [ids[1]]
    assert memory.restore_all(user_id="kim", filters=one) == 1


def test_what_filters_see_of_much_data(memory: Memory) -> None:
    memory.put("late", data={"first": 1, "pad": "x" * SEEN, "last": 2})
    memory.put("early", data={"first": 1, "last": 2, "pad": ["y" * 50] * 5_000})
    memory.put("text", data="z" * (SEEN + 1))

    def found(condition: dict[str, Any]) -> list[str]:
        return sorted(str(record.key) for record in memory.iterate(filters=condition))

    assert found({"$data.first": 1}) == ["early", "late"]
    assert found({"$data.last": {"$exists": True}}) == ["early"]
    assert found({"$data.pad": {"$contains": "y" * 50}}) == ["early"]
    assert found({"$data": {"$exists": True}}) == ["early", "late", "text"]
    assert found({"$data": "z" * (SEEN + 1)}) == []


def test_what_sqlite_has_no_json_for(memory: Memory) -> None:
    odd = {
        "nan": float("nan"),
        "inf": float("inf"),
        "low": float("-inf"),
        "n\x00": 1,
        "half": "\ud800",
        "nul": "a\x00b",
    }
    memory.put("odd", data=odd)
    memory.put("big", data={"n": 10**30, "nan": "NaN", "text": "Infinity \\u0000"})

    def found(condition: dict[str, Any]) -> list[str]:
        return [str(record.key) for record in memory.iterate(filters=condition, order="oldest")]

    assert found({"$data.nan": {"$exists": True}}) == ["odd", "big"]
    assert found({"$data.nan": None}) == ["odd"]
    assert found({"$data.nan": "NaN"}) == ["big"]
    assert found({"$data.inf": {"$gt": 2**62}}) == ["odd"]
    assert found({"$data.low": {"$lt": -(2**62)}}) == ["odd"]
    assert found({"$data.n": {"$exists": True}}) == ["big"]
    assert found({"$data.n": {"$gt": 2**62}}) == ["big"]
    assert found({"$data.nul": {"$prefix": "a"}}) == ["odd"]
    assert found({"$data.nul": "a"}) == []
    assert found({"$data.text": "Infinity \\u0000"}) == ["big"]
    assert memory.get(key="odd").data["n\x00"] == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("condition", "keys"),
    [
        ({"n": {"$lt": math.inf}}, "small low huge"),
        ({"n": {"$gt": -math.inf}}, "small high huge"),
        ({"n": {"$lte": math.inf}}, "small high low huge"),
        ({"n": math.inf}, "high"),
        ({"n": {"$in": [-math.inf, math.nan, 10]}}, "small low"),
        ({"n": {"$lt": 10**100}}, "small low"),
        ({"n": 10**100}, "huge"),
        ({"n": {"$gte": 10**400}}, "high"),
        ({"n": math.nan}, ""),
        ({"n": {"$gt": math.nan}}, ""),
        ({"n": {"$ne": math.nan}}, "small high low huge odd"),
        ({"n": np.float64(math.inf)}, "high"),
        ({"text": "a\x00b"}, "high"),
        ({"text": {"$in": ["\ud800", "a\x00b"]}}, "high huge"),
        ({"text": {"$contains": "\x00"}}, "high"),
        ({"text": {"$gt": "a\x00a"}}, "high low huge"),
        ({"list": [math.inf, 10**30, "a\x00"]}, "odd"),
        ({"list": "a\x00"}, "odd"),
    ],
    ids=repr,
)
def test_data_is_compared_with_what_data_can_hold(memory: Memory, condition: dict[str, Any], keys: str) -> None:
    memory.put("small", data={"n": 10, "text": "a"})
    memory.put("high", data={"n": math.inf, "text": "a\x00b"})
    memory.put("low", data={"n": -math.inf, "text": "aa"})
    memory.put("huge", data={"n": 10**100, "text": "\ud800"})
    memory.put("odd", data={"n": math.nan, "list": [math.inf, 10**30, "a\x00"]})

    filters = {f"$data.{key}": operand for key, operand in condition.items()}
    assert [record.key for record in memory.iterate(filters=filters, order="oldest")] == keys.split()


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"n": math.inf}, "is inf"),
        ({"n": 2**63}, "beyond 63 bits"),
        ({"$data.text": {"$prefix": "a\x00"}}, "NUL"),
        ({"$data.text": {"$icontains": "\ud800"}}, "lone surrogate"),
        ({"$data.list": [math.nan]}, "is nan"),
        ({"$and": [{"$data.n": math.inf}, {"n": math.inf}]}, "is inf"),
    ],
    ids=repr,
)
def test_what_no_data_and_no_metadata_equals_is_refused(memory: Memory, filters: dict[str, Any], words: str) -> None:
    with pytest.raises(FilterError, match=words):
        memory.count(filters=filters)


def test_the_form_of_the_embedding_is_a_field(memory: Memory) -> None:
    memory.add("a cat")
    memory.add("two cats", embed=["one cat", "another"])
    memory.add("no cat", embed=False)
    memory.put("state", data={"cats": 2})
    memory.add("this cat", vector=[1.0] * memory.stats().dim)
    found = {form: memory.count(filters={"$embedding": form}) for form in ("content", "texts", "given", "none")}
    assert found == {"content": 1, "texts": 1, "given": 1, "none": 2}
    assert memory.distinct("$embedding") == ["content", "given", "none", "texts"]


@given(
    st.recursive(
        st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    )
)
def test_a_cut_is_json_that_begins_the_same(value: Any) -> None:
    text = data_json(value)
    assert text is not None
    for most in (1, 2, 5, 10, 30, 100, 1_000):
        cut = documents._cut(text, most)
        json.loads(cut)
        assert len(cut) <= max(most + 40 + 3 * text.count("Inf"), 8)
    assert json.loads(seen(text)) is not None or value is None or value != value


def test_keys_that_are_none(memory: Memory) -> None:
    memory.add("tea", data={"a": 1})
    for wrong, hint in (
        ("$dat.a", "did you mean \\$data"),
        ("$data.$gt", "goes under the key"),
        ("$dataa", "did you mean"),
    ):
        with pytest.raises(FilterError, match=hint):
            memory.page(filters={wrong: 1})
    with pytest.raises(FilterError, match="33 parts"):
        memory.page(filters={"$data." + ".".join("a" * 33): 1})
    with pytest.warns(FilterWarning, match=r"\$data\.a"):
        memory.page(filters={"$and": [{"$data.a": {"$exists": True}}, {"$data.a": {"$exists": False}}]})
    assert memory.page(filters={"$and": [{"$data.a": 1}, {"a": {"$exists": False}}]}).records
    memory.add("tea with a dollar", metadata={"$data.a": 1})
    assert [record.content for record in memory.page(filters={"\\$data\\.a": 1}).records] == ["tea with a dollar"]


def test_the_deepest_logic_fits_the_parser(memory: Memory) -> None:
    memory.put_many([{"key": "in", "data": {"a": [{"b": {"c": 7}}]}}, {"key": "out", "data": {"a": {"b": {"c": "x"}}}}])
    for depth in (1, 6, 7, 8, 16, 31):
        filters: dict[str, Any] = {"$data.a.b.c": {"$nin": [None, "x", 2, [1, {"x": 2}]]}}
        for level in range(depth):
            other = {"$data.z": {"$gt": level}} if level % 2 else {"$data.z": {"$exists": False}}
            filters = {"$or" if level % 2 else "$and": [other, filters]}
        assert [record.key for record in memory.page(filters=filters).records] == ["in"]
        assert memory.count(filters=filters) == 1
        assert memory.delete_all(user_id=ALL, filters=filters, dry_run=True) == 1
