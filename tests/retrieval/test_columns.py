"""Filters told by classes of values: the same as of each record by itself."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import FilterError
from agentmem.filters.sqlite import compile_filter
from agentmem.retrieval.columns import Columns, asked_of
from agentmem.stores.connection import Connection

NUMBERS = [0, 1, 2, -1, 2.5, 0.1, 1e300, 2**53, 2**53 + 1, -(2**62), 0.30000000000000004, 1.0000000000000002]
TEXTS = ["", "a", "ab", "abc", "b", "Ab", "é", "日本", "2025-03-01", "2025-03-01T12:00:00Z", "a\U0010ffff", "x'\"", "%"]
scalars = st.sampled_from([*NUMBERS, *TEXTS, None, True, False]) | st.floats(allow_nan=False, allow_infinity=False)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from(["k", "a.b"]), scalars, max_size=2)
keys = st.sampled_from(["n", "t", "k", "n.k"])
documents = st.none() | st.dictionaries(keys, values, max_size=3)
numbers = st.sampled_from([n for n in NUMBERS if abs(n) < 2**63])
texts = st.sampled_from(TEXTS)
times = st.sampled_from([date(2025, 3, 1), datetime(2025, 3, 1, 12, tzinfo=UTC)])
compared = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
tests = (
    values
    | st.builds(lambda name, value: {name: value}, compared, numbers | texts | times)
    | st.builds(lambda name, held: {name: held}, st.sampled_from(["$in", "$nin"]), st.lists(values | times, min_size=1))
    | st.builds(lambda name, text: {name: text}, st.sampled_from(["$contains", "$icontains", "$prefix"]), texts)
    | st.builds(lambda there: {"$exists": there}, st.booleans())
    | st.builds(lambda value: {"$ne": value}, values)
)
leaves = st.builds(lambda key, test: {key: test}, keys, tests)
filters = st.recursive(
    leaves,
    lambda parts: (
        st.builds(
            lambda name, held: {name: held}, st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=3)
        )
        | st.builds(lambda part: {"$not": part}, parts)
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Connection:
    return Connection(tmp_path_factory.mktemp("columns") / "x.db")


def passing(db: Connection, texts: list[str | None], condition: Any) -> list[int]:
    sql = f"SELECT r.key FROM (SELECT key, value AS metadata FROM json_each(?)) AS r WHERE {condition.sql}"
    return sorted(row[0] for row in db.execute(sql, (json.dumps(texts), *condition.params)))


@settings(max_examples=200)
@given(held=st.lists(documents, max_size=12), more=st.lists(documents, max_size=4), condition=filters)
def test_classes_tell_what_each_record_would(
    db: Connection, held: list[Any], more: list[Any], condition: dict[str, Any]
) -> None:
    try:
        compiled = compile_filter(condition, column="r.metadata")
    except FilterError:
        return
    assert compiled is not None
    assert compiled.tree is not None
    columns, every = Columns(), [None if one is None else json.dumps(one) for one in [*held, *more]]
    rows = np.arange(len(every), dtype=np.int64)[::-1].copy()
    for part in (slice(0, len(held)), slice(len(held), None)):
        columns.extend(rows[part], [(int(row), every[len(every) - 1 - row]) for row in sorted(rows[part].tolist())])
    found = columns.classes(asked_of(compiled.tree) or {})
    assert found is not None
    of_slot, stand_for = found
    passes = set(passing(db, list(stand_for), compiled))
    assert [slot for slot, kind in enumerate(of_slot.tolist()) if kind in passes] == passing(db, every, compiled)


def test_many_values_are_few_classes() -> None:
    columns = Columns()
    columns.extend(np.arange(5_000), [(n, json.dumps({"n": n, "t": f"text {n}"})) for n in range(5_000)])
    for condition, most in (
        ({"n": {"$lt": 70}}, 5),
        ({"n": {"$in": [1, 2, 3]}, "t": {"$prefix": "text 1"}}, 20),
        ({"t": {"$contains": "99"}}, 2),
        ({"other": 1}, 1),
    ):
        compiled = compile_filter(condition)
        assert compiled is not None
        assert compiled.tree is not None
        found = columns.classes(asked_of(compiled.tree) or {})
        assert found is not None
        assert len(found[1]) <= most


def test_what_is_asked_of_more_than_metadata_is_left_to_the_store() -> None:
    for condition in ({"$kind": "fact"}, {"$or": [{"a": 1}, {"$data.a": 1}]}):
        compiled = compile_filter(condition)
        assert compiled is not None
        assert compiled.tree is not None
        assert asked_of(compiled.tree) is None
