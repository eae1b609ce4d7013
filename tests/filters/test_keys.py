"""Keys with dots in them, however deep; how a key is written that would mean something else."""

from __future__ import annotations

from typing import Any

import pytest
from filter_oracle import ways
from hypothesis import given
from hypothesis import strategies as st

from agentmem import Memory
from agentmem.filters.paths import paths_of


@given(st.text(st.sampled_from("ab.\\$"), max_size=9))
def test_a_key_means_what_the_oracle_reads(key: str) -> None:
    found = [list(path) for path in paths_of(key)]
    assert found[0] == ways(key)[0]
    assert sorted(found) == sorted(ways(key))


@pytest.mark.parametrize(
    ("key", "paths"),
    [
        ("plain", {("plain",)}),
        ("http.method", {("http", "method"), ("http.method",)}),
        ("a.b.c", {("a", "b", "c"), ("a.b", "c"), ("a", "b.c"), ("a.b.c",)}),
        ("a.b.c.d.e", {("a", "b", "c", "d", "e"), ("a.b.c.d.e",)}),
        (r"http\.method", {("http.method",)}),
        (r"a\.b.c", {("a.b", "c")}),
        (r"a\\.b", {("a\\", "b")}),
        (r"a\b.c", {("a\\b", "c"), ("a\\b.c",)}),
        (r"\$ref", {("$ref",)}),
        (r"\$ref.x", {("$ref", "x")}),
        (r"a.\$ref", {("a", r"\$ref"), (r"a.\$ref",)}),
    ],
)
def test_what_a_key_may_mean(key: str, paths: set[tuple[str, ...]]) -> None:
    assert set(paths_of(key)) == paths


SPAN = {
    "http.method": "GET",
    "http.status.code": 204,
    "resource": {"service.name": "shop", "host": {"os.type": "linux", "name": "h1"}},
    "peer.host": {"name": "h2", "port.number": 80},
    "events": [{"log.level": "warn"}, {"log.level": "error", "log": {"level": "info"}}],
    "user": {"id": 7},
    "a.b.c.d.e": "flat",
    "$schema": "v1",
}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"http.method": "GET"}, True),
        ({"http.method": "POST"}, False),
        ({"http.method": {"$ne": "GET"}}, False),
        ({"http.method": {"$exists": True}}, True),
        ({"http.method": None}, False),
        ({"http.status.code": {"$gte": 200, "$lt": 300}}, True),
        ({"resource.service.name": "shop"}, True),
        ({"resource.host.os.type": {"$in": ["linux", "mac"]}}, True),
        ({"peer.host.name": "h2"}, True),
        ({"peer.host.port.number": 80}, True),
        ({"events.log.level": "error"}, True),
        ({"events.log.level": "info"}, True),
        ({"events.log.level": {"$nin": ["warn"]}}, False),
        ({"events.log.level": None}, False),
        ({"user.id": 7}, True),
        ({"user.name": None}, True),
        ({"user.name": {"$exists": False}}, True),
        ({r"user\.id": 7}, False),
        ({r"user\.id": None}, True),
        ({r"http\.method": "GET"}, True),
        ({r"resource.service\.name": "shop"}, True),
        ({r"resource\.service.name": "shop"}, False),
        ({"a.b.c.d.e": "flat"}, True),
        ({r"\$schema": "v1"}, True),
        ({r"\$schema": {"$ne": "v1"}}, False),
        ({"$not": {"http.method": "GET"}}, False),
        ({"$or": [{"http.method": "PUT"}, {"user.id": 7}]}, True),
    ],
    ids=str,
)
def test_dotted_keys_of_a_trace(memory: Memory, filters: dict[str, Any], found: bool) -> None:
    id = memory.add("a span of the shop", user_id="ops", metadata=SPAN).id
    assert [hit.id for hit in memory.search("span", user_id="ops", filters=filters)] == [id] * found
    assert memory.delete_all(user_id="ops", filters=filters) == int(found)


def test_both_readings_count_where_both_are_there(memory: Memory) -> None:
    both = memory.add("both", metadata={"a.b": 1, "a": {"b": 2}}).id
    path = memory.add("path", metadata={"a": {"b": 2}}).id
    neither = memory.add("neither", metadata={"a": {}}).id

    def found(filters: dict[str, Any]) -> set[str]:
        return {record.id for record in memory.page(filters=filters).records}

    assert found({"a.b": 1}) == {both}
    assert found({"a.b": 2}) == {both, path}
    assert found({"a.b": {"$ne": 2}}) == {neither}
    assert found({"a.b": {"$exists": False}}) == {neither}
    assert found({"a.b": None}) == {neither}
    assert found({r"a\.b": {"$exists": False}}) == {path, neither}
