"""Metadata filters: the compiled SQL against a slow, obvious interpreter, then each operator and each refusal."""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from filter_oracle import MISSING, compare, contains, folded, matches, values_at
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.filters.language import (
    AllOf,
    AnyOf,
    Compared,
    Condition,
    Contains,
    ContainsFolded,
    Exists,
    Node,
    OneOf,
    RecordCondition,
    StartsWith,
    Test,
)
from agentmem.filters.parsing import parse_filter
from agentmem.filters.sqlite import compile_filter
from agentmem.stores.connection import Connection
from agentmem.types.errors import FilterError

# ------------------------------------------------------------------------------------------------ the database


class Database:
    def __init__(self) -> None:
        self.connection = Connection(Path(":memory:"))
        self.connection.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, metadata TEXT)")

    def store(self, documents: Sequence[Any], *, ascii_only: bool = False) -> None:
        self.connection.execute("DELETE FROM records")
        for at, document in enumerate(documents):
            text = None if document is None else json.dumps(document, ensure_ascii=ascii_only, allow_nan=False)
            self.connection.execute("INSERT INTO records VALUES (?, ?)", (at, text))

    def evaluate(self, filters: dict[str, Any], column: str = "metadata") -> list[bool]:
        """The filter's value for each document, which has to be 0 or 1."""
        compiled = compile_filter(filters, column=column)
        assert compiled is not None
        assert compiled.sql.count("?") == len(compiled.params)
        rows = self.connection.execute(f"SELECT {compiled.sql} FROM records AS r ORDER BY id", compiled.params)
        values = [value for (value,) in rows]
        assert all(type(value) is int and value in (0, 1) for value in values)
        return [bool(value) for value in values]

    def count(self, where: str, params: tuple[Any, ...]) -> Any:
        return self.connection.execute(f"SELECT count(*) FROM records WHERE {where}", params)[0][0]


@pytest.fixture(scope="module")
def database() -> Database:
    return Database()


@pytest.fixture
def found(database: Database) -> Any:
    """``found(filters, *documents)``: does the filter match, for one document or a list of answers for many."""

    def evaluate(filters: dict[str, Any], *documents: Any) -> Any:
        database.store(documents)
        result = database.evaluate(filters)
        assert result == [matches(document or {}, filters) for document in documents]
        return result[0] if len(documents) == 1 else result

    return evaluate


# ------------------------------------------------------------------------------------------------ random filters

KEYS = [
    "a",
    "b",
    "c",
    "",
    "0",
    "é",
    "a b",
    "[0]",
    "#-1",
    '"',
    'x"y',
    "\\",
    "\\u0061",
    "'",
    "'; --",
    "%",
    "a\nb",
    "😀",
    "*",
]
NESTED_KEYS = [*KEYS, "$", "$x"]
TEXT = st.one_of(
    st.sampled_from(
        ["", "a", "ab", "A", "1", "true", "null", "é", "😀", '"', "\\", "a\nb", "{}", "[]", '{"a":1}', "[1]"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=4),
)
NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, 2, -1, 0.0, -0.0, 1.0, 0.1, 1.5, 2**31, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63)]
    ),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
)
WEST, EAST = timezone(timedelta(hours=-9, minutes=-30)), timezone(timedelta(hours=14))
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
MOMENTS = st.one_of(
    st.sampled_from([NOON, NOON.astimezone(EAST), NOON + timedelta(hours=13), NOON + timedelta(microseconds=1)]),
    st.datetimes(datetime(2025, 5, 31), datetime(2025, 6, 2, 23), timezones=st.sampled_from([UTC, WEST, EAST])),  # noqa: DTZ001
    st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
)
DAYS = st.one_of(st.sampled_from([date(2025, 5, 31), date(2025, 6, 1), date(2025, 6, 2), date.min, date.max]))
TIME_TEXTS = [
    "2025-06-01", "2025-06-01T12:00:00Z", "2025-06-01 12:00:00.000000+00:00", "2025-06-01T02:30:00.0-09:30",
    "2025-06-02T02:00:00+14:00", "2025-06-01T12:00:00.0000019Z", "2025-06-01T12:00:00", "2025-06-01T12:00Z",
    "2025-02-30", "2025-02-30T12:00:00Z", "2025-06-01T24:00:00Z", "2025-06-01T12:00:60Z", "2025-06-01T12:00:00.Z",
    "2025-06-01T12:00:00+24:00", "2025-06-01T12:00:00+23:59", "2025-06-01T12:00:00.5", "0000-01-01",
    "0000-12-31T23:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999-00:01", "2025-13-01",
    "2025-06-01T12:00:00Z ", "2025-06-01T12:00:00.1x+00:00", "2025-6-1", "20250601", "\uff12025-06-01",
    "2025-06-01T12:00:00-00:00", "2025-06-01t12:00:00z", "2025-06-01T12:00:00.25+00:00", "now", "2460000.5",
]  # fmt: skip
# Deferred, lest hypothesis spells them out wherever they are used.
TIME_TEXT = st.deferred(
    lambda: st.one_of(st.sampled_from(TIME_TEXTS), MOMENTS.map(datetime.isoformat), MOMENTS.map(str))
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, TIME_TEXT)
TIMES = st.deferred(lambda: st.one_of(MOMENTS, DAYS))


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NESTED_KEYS), inner, max_size=3))


VALUES = st.recursive(SCALARS, _containers, max_leaves=6)
FEW = st.sampled_from(
    [None, 1, 1.0, True, "a", "ab", [], {}, [1], ["a", 1], {"a": 1}, {"b": "a", "a": 1}, [{"a": 1}], [[1]]]
)
SOME = st.one_of(FEW, VALUES)
LEVEL = st.one_of(SOME, st.lists(st.dictionaries(st.sampled_from(["a", "b"]), SOME, max_size=2), max_size=3))
DOCUMENTS = st.dictionaries(
    st.sampled_from([*KEYS, "a.b", "a.b.a", "$x", "\\$x", "a\\"]) | st.sampled_from(["a", "b", "a.b"]),
    st.one_of(LEVEL, st.dictionaries(st.sampled_from(["a", "b", "$x", "b.a"]), LEVEL, max_size=2)),
    max_size=4,
)
PATHS = st.one_of(
    st.sampled_from(["a", "b", "a.b", "a.a", "b.a", "a.b.a", "a.$x", "a.", ".a", "a.0"]),
    st.sampled_from(["a\\.b", "a\\.b.a", "a.b\\.a", "a\\\\.b", "\\.a", "a.b.a.b.a"]),
    st.sampled_from(["\\$x", "\\\\$x", "\\\\\\$x", "\\$x.a"]),
    st.sampled_from(KEYS),
    st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join),
)
ORDERED = st.one_of(NUMBERS, TEXT, TIMES, TIME_TEXT)
CASED = st.one_of(TEXT, st.text(alphabet="aAbBkK\u212asS\u017f*[?]^-ßẞςΣ\u03c3éÉİi", max_size=3))
OPERANDS = st.deferred(lambda: st.one_of(SOME, TIMES))


def _has_dollar(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return any(key.startswith("$") or _has_dollar(item) for key, item in value.items())


def _under_key(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"$not": inner})


OPERATORS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "$eq": OPERANDS,
            "$ne": OPERANDS,
            "$gt": ORDERED,
            "$gte": ORDERED,
            "$lt": ORDERED,
            "$lte": ORDERED,
            "$in": st.lists(OPERANDS, max_size=4),
            "$nin": st.lists(OPERANDS, max_size=4),
            "$contains": OPERANDS,
            "$icontains": CASED,
            "$prefix": CASED,
            "$exists": st.booleans(),
        },
    ).map(lambda full: dict(list(full.items())[:2]) or {"$exists": True}),
    _under_key,
    max_leaves=2,
)
CONDITIONS = st.one_of(OPERATORS, TIMES, SOME.filter(lambda value: not _has_dollar(value)))
FIELDS = st.dictionaries(PATHS, CONDITIONS, min_size=1, max_size=2)


def _logic(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    joined = st.one_of(
        st.fixed_dictionaries({"$and": several}), st.fixed_dictionaries({"$or": several}), _under_key(inner)
    )
    return st.one_of(joined, st.builds(lambda left, right: left | right, FIELDS, joined))


FILTERS = st.recursive(FIELDS, _logic, max_leaves=5)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(filters=FILTERS, documents=st.lists(DOCUMENTS, min_size=1, max_size=6), ascii_only=st.booleans())
def test_agrees_with_the_oracle(
    database: Database, filters: dict[str, Any], documents: list[Any], ascii_only: bool
) -> None:
    database.store([*documents, None], ascii_only=ascii_only)
    assert database.evaluate(filters) == [matches(document, filters) for document in [*documents, {}]]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(path=PATHS, condition=CONDITIONS, documents=st.lists(DOCUMENTS, min_size=4, max_size=8))
def test_one_condition_agrees_with_the_oracle(
    database: Database, path: str, condition: Any, documents: list[Any]
) -> None:
    database.store(documents)
    assert database.evaluate({path: condition}) == [matches(document, {path: condition}) for document in documents]


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(filters=FILTERS, documents=st.lists(DOCUMENTS, min_size=1, max_size=6))
def test_the_tree_says_all_that_a_target_needs(filters: dict[str, Any], documents: list[Any]) -> None:
    tree = parse_filter(filters)
    assert tree is not None
    assert [_tree_holds(tree, document) for document in documents] == [matches(each, filters) for each in documents]


def _tree_holds(node: Node, document: Any) -> bool:
    """What the docstrings of the tree say, as one more target."""
    match node:
        case AllOf(parts):
            assert len(parts) > 1
            assert not any(isinstance(part, AllOf) for part in parts)
            return all(_tree_holds(part, document) for part in parts)
        case AnyOf(parts):
            assert len(parts) > 1
            assert not any(isinstance(part, AnyOf) for part in parts)
            return any(_tree_holds(part, document) for part in parts)
        case Condition(paths, test, negated):
            return any(_passes(test, value) for value in values_at(document, [list(path) for path in paths])) != negated
        case RecordCondition():
            raise AssertionError("no field of the record was asked for")


def _passes(test: Test, value: Any) -> bool:
    elements = value if isinstance(value, list) else []
    match test:
        case OneOf(values):
            return any(compare("$eq", one, other) for one in [value, *elements] for other in values)
        case Compared(operator, operand):
            name = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}[operator]
            return any(compare(name, one, operand) for one in [value, *elements])
        case Contains(operand):
            return contains(value, operand)
        case ContainsFolded(operand):
            return contains(folded(value), folded(operand))
        case StartsWith(operand):
            return any(isinstance(one, str) and one.startswith(operand) for one in [value, *elements])
        case Exists():
            return value is not MISSING


@settings(max_examples=100, deadline=None)
@given(document=DOCUMENTS, key=st.sampled_from(KEYS), value=SOME)
def test_a_value_is_found_by_itself(database: Database, document: dict[str, Any], key: str, value: Any) -> None:
    database.store([document | {key: value}])
    assert database.evaluate({key: {"$eq": value}}) == [True]
    assert database.evaluate({key: {"$in": ["another", value]}}) == [True]
    assert database.evaluate({key: {"$ne": value}}) == [False]


@settings(max_examples=100, deadline=None)
@given(moments=st.lists(MOMENTS, min_size=2, max_size=5), operand=MOMENTS)
def test_instants_are_ordered_as_instants_in_whatever_form(
    database: Database, moments: list[datetime], operand: datetime
) -> None:
    database.store([{"at": form(moment)} for moment in moments for form in (datetime.isoformat, str)])
    for name, holds in (("$lt", datetime.__lt__), ("$gte", datetime.__ge__), ("$eq", datetime.__eq__)):
        expected = [holds(moment, operand) for moment in moments for _ in range(2)]
        assert database.evaluate({"at": {name: operand}}) == expected


# ------------------------------------------------------------------------------------------------ operators


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        (1, [1, 1.0, [0, 1]], [2, "1", True, None, [[1]], {}]),
        ("a", ["a", ["b", "a"]], ["A", "ab", ["ab"], [["a"]]]),
        (True, [True, [True]], [1, "true", False]),
        (None, [None, [None, 1]], [0, False, "", [], {}]),
        ([1, "a"], [[1, "a"], [[1, "a"]]], [["a", 1], [1], [1, "a", 2], 1]),
        ([], [[], [[]]], [None, {}, [1]]),
        ({}, [{}, [{}]], [[], None, {"a": 1}]),
        ({"$eq": {"x": 1, "y": [2]}}, [{"y": [2.0], "x": 1}, [{"x": 1, "y": [2]}]], [{"x": 1}, {"x": 1, "y": [3]}]),
        ({"$ne": 1}, [2, "1", [2, 3]], [1, 1.0, [1, 2]]),
        ({"$gt": 1}, [2, 1.5, [0, 9]], [1, "2", True, None, []]),
        ({"$gte": "b"}, ["b", "c", "é"], ["a", "B", 3]),
        ({"$lt": 0}, [-1, -0.5], [0, -0.0, False, "a", None]),
        ({"$lte": 2**53}, [2**53, float(2**53)], [2**53 + 1]),
        ({"$gt": 0, "$lt": 5}, [3, [-1, 9]], [0, 5]),
        ({"$in": [1, "a", None, [2]]}, [1, "a", None, [2], ["a"], [[2]]], [2, "b", [3]]),
        ({"$in": []}, [], [1, None]),
        ({"$nin": [1, None]}, [2, "a", []], [1, None, [1]]),
        ({"$nin": []}, [1, None], []),
        ({"$contains": "cat"}, ["concatenate", ["cat"]], ["Cat", ["concatenate"], {"cat": 1}, 1]),
        ({"$contains": ""}, ["", "a", [""]], [[], None]),
        ({"$contains": 1}, [[1], [2, 1.0]], [1, "1", ["1"], [[1]], [True]]),
        ({"$contains": [1]}, [[[1]]], [[1], 1]),
        ({"$contains": None}, [[None]], [None, []]),
        ({"$icontains": "cAt"}, ["conCATenate", "cat", ["CAT"]], ["ca", ["concatenate"], [["cat"]], {"cat": 1}, 1]),
        ({"$icontains": ""}, ["", "a", [""]], [[], None, 0]),
        ({"$icontains": "ÄRGER"}, ["Großer Ärger", "ärger"], ["Arger", "A\u0308rger"]),
        ({"$icontains": "ΟΔΟΣ"}, ["η οδός και η οδος", "οδοσ"], ["οδός"]),
        ({"$icontains": "straße"}, ["STRAẞE", "Straße 1"], ["STRASSE"]),
        ({"$icontains": "Kiss"}, ["\u212ai\u017f\u017f", "kiss"], ["kis"]),
        ({"$icontains": "İ"}, ["xİ"], ["xi", "xI", "x\u0131"]),
        ({"$icontains": "50*[a-c]?^"}, ["at 50*[A-C]?^ off"], ["50xb", "50*b?^", "50*[a-c]x^"]),
        ({"$icontains": "]"}, ["a]", ["]"]], ["a[", ["a]"]]),
        ({"$prefix": "ca"}, ["cat", "ca", ["x", "cat"]], ["Cat", "acat", "c", [["cat"]], {"ca": 1}, 1, None]),
        ({"$prefix": ""}, ["", "a", ["a"]], [[], None, 0]),
        ({"$prefix": "%_"}, ["%_x"], ["ab"]),
        ({"$prefix": "é\U0001f600"}, ["é\U0001f600!"], ["é", "e\u0301\U0001f600"]),
        ({"$not": {"$icontains": "A"}}, ["b", None, 1], ["xa", ["A"]]),
        ({"$exists": True}, [None, 0, [], {}], []),
        ({"$exists": False}, [], [None, 0]),
        ({"$not": {"$gt": 3}}, [3, "a", None], [4, [1, 4]]),
        ({"$not": {"$not": {"$gt": 3}}}, [4], [3]),
        ({"$not": {"$gt": 1, "$lt": 5}}, [1, 5], [3]),
    ],
)
def test_operator(found: Any, condition: Any, yes: list[Any], no: list[Any]) -> None:
    assert [found({"k": condition}, {"k": value}) for value in yes] == [True] * len(yes)
    assert [found({"k": condition}, {"k": value}) for value in no] == [False] * len(no)


@pytest.mark.parametrize(
    "condition", [None, {"$ne": 1}, {"$nin": [1]}, {"$not": {"$gt": 1}}, {"$exists": False}, {"$in": [None]}]
)
def test_matches_a_missing_key(found: Any, condition: Any) -> None:
    assert found({"k": condition}, {}, {"other": 1}, None) == [True, True, True]
    assert found({"k.inner": condition}, {}, {"k": 5}, {"k": {}}, None) == [True, True, True, True]


@pytest.mark.parametrize(
    "condition", [1, {"$ne": None}, {"$nin": [None]}, {"$lt": 1}, {"$contains": "a"}, {"$exists": True}, {}, []]
)
def test_does_not_match_a_missing_key(found: Any, condition: Any) -> None:
    assert found({"k": condition}, {}, {"other": 1}, None) == [False, False, False]
    assert found({"k.inner": condition}, {}, {"k": 5}, {"k": {}}, None) == [False, False, False, False]


def test_logic(found: Any) -> None:
    documents = [{"a": 1, "b": 1}, {"a": 1}, {"b": 1}, {}]
    assert found({"a": 1, "b": 1}, *documents) == [True, False, False, False]
    assert found({"$and": [{"a": 1}, {"b": 1}]}, *documents) == [True, False, False, False]
    assert found({"$or": [{"a": 1}, {"b": 1}]}, *documents) == [True, True, True, False]
    assert found({"$not": {"$or": [{"a": 1}, {"b": 1}]}}, *documents) == [False, False, False, True]
    assert found({"$not": {"a": 1, "b": 1}}, *documents) == [False, True, True, True]
    assert found({"a": 1, "$or": [{"b": 1}, {"$not": {"b": 1}}]}, *documents) == [True, True, False, False]


def test_dotted_paths_reach_into_objects_and_arrays_of_objects(found: Any) -> None:
    assert found({"a.b.c": 1}, {"a": {"b": {"c": 1}}}, {"a": {"b": 1}}, {"a.b": 1}) == [True, False, False]
    items = {"items": [{"name": "x", "n": [1, 2]}, {"n": 5}, 7, [{"name": "nested"}]]}
    assert found({"items.name": "x"}, items)
    assert found({"items.n": {"$gt": 4}}, items)
    assert found({"items.n": 2}, items)
    assert found({"items.name": None}, items)
    assert not found({"items.name": {"$ne": "x"}}, items)
    assert not found({"items.name": "nested"}, items)
    assert found({"items.name": None}, {"items": [1]}, {"items": []}, {"items": [{}]}) == [False, False, True]
    beside = [{"a": [{"b": 5}]}, {"a": [{}]}, {"a": ["x", {"b": ["x", {"c": 1}]}]}, {"a": ["x"]}]
    assert found({"a.b.c": None}, *beside) == [True, True, False, False]
    assert found({"a.b.c": {"$ne": None}}, *beside) == [False, False, True, True]
    assert found({"a.b.c": 3}, {"a": [{"b": [{"c": 1}, {"c": 3}]}]}, {"a": [{"b": {"c": 3}}, 1]}) == [True, True]


def test_a_number_in_a_path_is_a_key_and_not_a_position(found: Any) -> None:
    assert found({"scores.2024": 5}, {"scores": {"2024": 5}}, {"scores": [5]}) == [True, False]
    assert found({"tags.0": "x"}, {"tags": ["x"]}, {"tags": [{"0": "x"}]}) == [False, True]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_key_is_exact(database: Database, key: str, ascii_only: bool) -> None:
    database.store([{key: "here"}, {other: "here" for other in NESTED_KEYS if other != key}], ascii_only=ascii_only)
    assert database.evaluate({key: "here"}) == [True, False]
    assert database.evaluate({key: {"$exists": True}}) == [True, False]
    database.store([{"a": [{key: {key: 1}}]}], ascii_only=ascii_only)
    in_a_path = key + "\\" * (len(key) - len(key.rstrip("\\")))
    assert database.evaluate({f"a.{in_a_path}.{key}": 1}) == [True]
    assert database.evaluate({"a": {"$eq": {key: {key: 1}}}}) == [True]


def test_integers_of_63_bits_are_exact(found: Any) -> None:
    for number in (2**53 + 1, 2**62 + 1, 2**63 - 1, -(2**63), 2**31):
        near = number - 1 if number > 0 else number + 1
        documents = [{"n": number}, {"n": near}, {"n": [number]}, {"n": str(number)}]
        assert found({"n": number}, *documents) == [True, False, True, False]
        assert found({"n": {"$in": [number, "x"]}}, *documents) == [True, False, True, False]
        assert found({"n": {"$eq": [number]}}, *documents) == [False, False, True, False]
    assert found({"n": {"$gt": float(2**53)}}, {"n": 2**53 + 1}, {"n": 2**53}) == [True, False]


def test_floats_are_found_by_their_own_value(database: Database) -> None:
    chance = random.Random(7)
    numbers = [round(chance.uniform(-1e4, 1e4), chance.randint(0, 12)) for _ in range(1_000)]
    numbers += [struct.unpack("d", struct.pack("Q", chance.randrange(1, 0x7FEFFFFFFFFFFFFF)))[0] for _ in range(1_000)]
    for at in range(0, len(numbers), 500):
        some = numbers[at : at + 500]
        database.store([{"n": number} for number in some])
        assert all(database.evaluate({"n": {"$in": some}}))
        assert all(database.evaluate({"n": number})[index] for index, number in list(enumerate(some))[:25])
        assert not any(database.evaluate({"n": number, "$not": {"n": {"$lte": number}}})[0] for number in some[:25])


def test_nothing_to_check_is_none() -> None:
    assert compile_filter(None) is None
    assert compile_filter({}) is None


def test_the_sql_holds_nothing_of_the_filter(found: Any) -> None:
    word = "x') OR 1=1 --"
    compiled = compile_filter(
        {word: word, f"a.{word}": {"$in": [word, 71077345, {word: word}]}, "b": {"$contains": word, "$gt": 71077345}},
    )
    assert compiled is not None
    assert "OR 1=1" not in compiled.sql
    assert "71077345" not in compiled.sql
    assert all(isinstance(param, str) for param in compiled.params)
    assert found({word: word}, {word: word}, {"x": word}) == [True, False]


def test_another_column(database: Database) -> None:
    database.store([{"a": [{"b": 1}]}, {"a": {"b": [1]}}, None])
    assert database.evaluate({"a.b": 1}, column="r.metadata") == [True, True, False]
    assert database.evaluate({"a.b": {"$ne": 1}}, column="nullif(r.metadata, 'x')") == [False, False, True]


# ------------------------------------------------------------------------------------------------ limits


def _nested(depth: int, innermost: Any) -> dict[str, Any]:
    """Alternating logic, ``depth`` levels with the innermost."""
    filters = innermost
    for level in range(depth - 1):
        filters = {("$and", "$or")[level % 2]: [{"z": level}, filters]}
    return filters


HEAVY = {"a.b.c": {"$nin": [None, True, "x", 2, [1, {"x": 2}], {"a": 1}]}}


HEAVY_TIMES = {"a.b.c": {"$nin": [None, NOON, NOON + timedelta(days=1), NOON.date()], "$not": {"$gte": NOON}}}


@pytest.mark.parametrize("heavy", [HEAVY, HEAVY_TIMES], ids=["values", "times"])
@pytest.mark.parametrize("depth", [1, 2, 6, 7, 8, 16, 32])
def test_the_deepest_logic_fits_the_parser(database: Database, depth: int, heavy: Any) -> None:
    database.store([{"a": {"b": {"c": 5}}}, {"a": [{"b": {"c": [1, {"x": 2}]}}]}, {"z": 30}])
    filters = _nested(min(depth, 31), heavy) if heavy is HEAVY_TIMES else _nested(depth, heavy)
    compiled = compile_filter(filters)
    assert compiled is not None
    inside = f"id IN (SELECT id FROM records WHERE id >= 0 AND (id IN (SELECT id FROM records WHERE {compiled.sql})))"
    assert database.count(inside, compiled.params) == sum(database.evaluate(filters))


@pytest.mark.slow
def test_the_widest_filter_runs(database: Database) -> None:
    database.store([{"k1": 1}])
    assert database.evaluate({"$or": [{f"k{at}.x": {"$nin": [1, [2], {"y": 3}]}} for at in range(500)]}) == [True]
    assert database.evaluate({"$and": [{f"k{at}": {"$exists": False}} for at in range(500)]}) == [False]
    assert database.evaluate({"k1": {"$in": list(range(1_000))}}) == [True]
    assert database.evaluate({".".join("a" * 32): {"$in": [None, [1]]}}) == [True]
    moments = [NOON + timedelta(seconds=at) for at in range(900)]
    assert database.evaluate({"k1": {"$in": [*moments, *(moment.date() for moment in moments[:100])]}}) == [False]
    assert database.evaluate({"$or": [{f"k{at}.x": {"$gt": NOON}} for at in range(500)]}) == [False]


def test_a_condition_over_50_000_rows_is_fast() -> None:
    database = Database()
    document = {"topic": "travel", "year": 2024, "tags": ["a", "b"], "source": {"name": "web"}, "ratio": 0.25}
    database.connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
        "INSERT INTO records SELECT i, ? FROM n",
        (json.dumps(document),),
    )
    for filters in ({"topic": "work"}, {"year": {"$lt": 2000}}, {"source.name": "mail"}):
        compiled = compile_filter(filters)
        assert compiled is not None
        started = time.perf_counter()
        assert database.count(compiled.sql, compiled.params) == 0
        # Many times what it takes: this is to notice a change of order, not of machine.
        assert time.perf_counter() - started < 0.5


# ------------------------------------------------------------------------------------------------ refusals


def _deep_list(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (["a"], "filters must be a mapping"),
        ("a", "not str"),
        ({1: 2}, "keys must be text, not int"),
        ({"k": {"$foo": 1}}, r"unknown operator '\$foo'; the operators are \$eq, \$ne, \$gt, .*\$or"),
        ({"k": {"$gte ": 1}}, r"did you mean \$gte\?"),
        ({"k": {"$regexp": "a"}}, "unknown operator"),
        ({"$nor": [{"a": 1}]}, r"unknown operator '\$nor' \(did you mean \$or\?\)"),
        ({"$price": 1}, r"a key of the metadata is written '\\\\\$price'"),
        ({"$createdat": 1}, r"did you mean \$created_at\?.*\$id, \$user_id"),
        ({"$": 1}, "unknown operator"),
        ({"$gt": 1}, r"\$gt belongs under a key"),
        ({"k": {"$or": [1]}}, r"\$or stands beside keys"),
        ({"k.$gt": 1}, r"\$gt is an operator and goes under the key"),
        ({"k": {"$gt": 1, "x": 2}}, "mixes operators and plain keys"),
        ({"k": {"x": {"$gt": 2}}}, r'dotted path such as "k.name"'),
        ({"$and": []}, "non-empty list of filters"),
        ({"$or": []}, "non-empty list of filters"),
        ({"$or": {"a": 1}}, "non-empty list of filters"),
        ({"$and": [1]}, "must be a mapping"),
        ({"$or": [{}]}, "empty filter, which would match everything; leave it out"),
        ({"$not": {}}, "empty filter"),
        ({"$not": [{"a": 1}]}, "must be a mapping"),
        ({"k": {"$not": 1}}, r"takes operators.*for a value use \$ne"),
        ({"k": {"$not": {}}}, "takes operators"),
        ({"k": {"$not": {"a": 1}}}, "takes operators"),
        ({"k": {"$in": "abc"}}, "takes a list of values, not 'abc'"),
        ({"k": {"$nin": {"a": 1}}}, "takes a list of values"),
        ({"k": {"$in": 1}}, "takes a list of values, not 1"),
        ({"k": {"$in": list(range(1_001))}}, "has 1,001 items, more than 1,000"),
        ({"k": {"$exists": 1}}, r"\$exists takes True or False, not 1"),
        ({"k": {"$gt": None}}, r"\$gt takes a number, text or a time, not None"),
        ({"k": {"$lt": [1]}}, r"\$lt takes a number"),
        ({"k": {"$gte": True}}, r"\$gte takes a number, text or a time, not True"),
        ({"k": {"$lte": {"a": 1}}}, r"\$lte takes a number"),
        ({"k": {"$icontains": 1}}, r"\$icontains takes text, not 1"),
        ({"k": {"$icontains": ["a"]}}, r"\$icontains takes text"),
        ({"k": {"$prefix": None}}, r"\$prefix takes text, not None"),
        ({"k": {"$prefix": date(2025, 1, 1)}}, r"\$prefix takes text"),
        ({"k": {"$icontains": "é" * 1_001}}, "has 1,001 characters, more than 1,000"),
        ({"k": {"$startswith": "a"}}, r"unknown operator.*\$prefix"),
        ({"k": float("nan")}, "is nan"),
        ({"k": {"$in": [float("-inf")]}}, "is -inf"),
        ({"k": 2**63}, "beyond 63 bits"),
        ({"k": [{"x": -(2**63) - 1}]}, "beyond 63 bits"),
        ({"k": 2j}, "is a complex, which JSON cannot hold; use text"),
        ({"k": b"x"}, r"is a bytes, which JSON cannot hold; write .decode\(\)"),
        ({"k": {"$gt": datetime(2025, 1, 1)}}, r"no time zone.*\.astimezone\(\)"),  # noqa: DTZ001
        ({"k": [datetime(2025, 1, 1)]}, r"\['k'\]\[0\] is 2025-01-01T00:00:00, which has no time zone"),  # noqa: DTZ001
        ({"k": {"$eq": {1: 2}}}, "keys must be text"),
        ({"k": {"a": 1, 2: 3}}, "keys must be text"),
        ({"k": "a\x00b"}, "NUL"),
        ({"a\x00b": 1}, "NUL"),
        ({"k": {"$contains": "\ud800"}}, "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        ({"k": {"$eq": {"\x00": 1}}}, "NUL"),
        ({".".join("a" * 33): 1}, "33 parts, more than 32"),
        (_nested(33, {"a": 1}), "nested more than 32 deep"),
        ({"k": _deep_list(34)}, "nested more than 32 deep"),
        ({f"k{at}": at for at in range(501)}, "more than 500 conditions"),
        ({"$or": [{"k": {"$gt": at, "$lt": at}} for at in range(251)]}, "more than 500 conditions"),
        ({"k": [[at] for at in range(5_001)]}, "more than 10,000 nested values"),
        ({f"k{at}" + ".a" * 31: 1 for at in range(300)}, "fewer conditions or shorter paths"),
    ],
)
def test_refuses(filters: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message) as caught:
        compile_filter(filters)
    assert caught.value.field == "filters"
    assert len(str(caught.value)) < 600


def test_refuses_what_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(FilterError, match="nested more than 32 deep"):
        compile_filter({"k": endless})
    circle: dict[str, Any] = {}
    circle["$not"] = circle
    with pytest.raises(FilterError, match="nested more than 32 deep"):
        compile_filter(circle)
    with pytest.raises(FilterError, match="nested more than 32 deep"):
        compile_filter({"k": circle})
    loop: dict[str, Any] = {}
    loop["a"] = loop
    with pytest.raises(FilterError, match="nested more than 32 deep"):
        compile_filter({"k": loop})
