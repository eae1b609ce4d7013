"""Filters on a record's own fields: ``$kind``, ``$created_at`` and the like, against the records themselves."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import START, FakeClock
from filter_oracle import matches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import ALL, FilterError, Memory, Settings
from agentmem.filters.fields import FIELDS

Open = Callable[..., Memory]
TOKYO = timezone(timedelta(hours=9))
KEY = uuid.UUID(int=9)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same records in a store with arenas and in one without."""
    from conftest import HashEmbedder

    clock = FakeClock()
    opened = [
        Memory(
            tmp_path_factory.mktemp("store"),
            clock=clock,
            embedder=HashEmbedder(),
            settings=Settings(arena_limit=limit, lifecycle={"sweep_interval_s": 0}),
        )
        for limit in (50_000, 3)
    ]
    for memory in opened:
        clock.now = START
        memory.add(
            "Ines sails", id="1", user_id="ines", kind="hobby", importance=0.25, metadata={"kind": "in metadata"}
        )
        clock.advance(3_600)
        memory.add("Ines sings", id="2", user_id="ines", agent_id="a", importance=0.75, ttl=10**6)
        memory.add("Hello", id="3", user_id="Zoë", run_id="7", role="user", occurred_at=START - timedelta(days=2))
        clock.advance(86_400)
        memory.add("Nobody's", id=str(KEY), layer="insights", metadata={"kind": 3})
        memory.feedback("1", rating=5)
        memory.lifecycle.pin("1")
        memory.update("2", content="Ines sings alto")
    yield opened
    for memory in opened:
        memory.close()


def found(memory: Memory, filters: dict[str, Any]) -> set[str]:
    paged = {record.id for record in memory.page(user_id=ALL, filters=filters).records}
    assert {hit.id for hit in memory.search("ines hello", user_id=ALL, filters=filters)} == paged
    assert {hit.id for hit in memory.search("sails", user_id="ines", filters=filters)} == paged & {"1", "2"}
    return paged


LAST = str(KEY)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"$user_id": "ines"}, {"1", "2"}),
        ({"$user_id": None}, {LAST}),
        ({"$user_id": {"$ne": "ines"}}, {"3", LAST}),
        ({"$user_id": {"$in": ["Zoe\u0308", None]}}, {"3", LAST}),
        ({"$user_id": {"$gte": "j"}}, set()),
        ({"$user_id": {"$contains": "ne"}}, {"1", "2"}),
        ({"$user_id": {"$prefix": "in"}}, {"1", "2"}),
        ({"$user_id": {"$prefix": "In"}}, set()),
        ({"$user_id": {"$icontains": "ZOË"}}, {"3"}),
        ({"$run_id": {"$prefix": "7"}}, {"3"}),
        ({"$agent_id": {"$not": {"$prefix": "a"}}}, {"1", "3", LAST}),
        ({"$kind": {"$prefix": "ho"}}, {"1"}),
        ({"$content": {"$icontains": "SINGS ALTO"}}, {"2"}),
        ({"$role": {"$icontains": "USE"}}, {"3"}),
        ({"$run_id": 7}, {"3"}),
        ({"$agent_id": {"$exists": True}}, {"2"}),
        ({"$id": KEY}, {LAST}),
        ({"$id": {"$in": [1, "3"]}}, {"1", "3"}),
        ({"$role": "user"}, {"3"}),
        ({"$role": {"$exists": False}}, {"1", "2", LAST}),
        ({"$kind": "hobby"}, {"1"}),
        ({"$kind": {"$in": ["message", "hobby"]}}, {"1", "3"}),
        ({"kind": "in metadata"}, {"1"}),
        ({"kind": "in metadata", "$kind": "hobby"}, {"1"}),
        ({"kind": "hobby"}, set()),
        ({"$layer": "insights"}, {LAST}),
        ({"$layer": {"$nin": ["assets", "interact"]}}, {LAST}),
        ({"$content": {"$contains": "sings"}}, {"2"}),
        ({"$content": "Hello"}, {"3"}),
        ({"$importance": {"$gt": 0.5}}, {"2"}),
        ({"$importance": {"$lte": 0.25}}, {"1"}),
        ({"$importance": None}, {"3", LAST}),
        ({"$importance": {"$not": {"$gt": 0.5}}}, {"1", "3", LAST}),
        ({"$rating": 5}, {"1"}),
        ({"$version": {"$gt": 1}}, {"2"}),
        ({"$pinned": True}, {"1"}),
        ({"$pinned": False}, {"2", "3", LAST}),
        ({"$embedding": "content"}, {"1", "2", "3", LAST}),
        ({"$embedding": {"$in": ["none", "texts", "given"]}}, set()),
        ({"$created_at": {"$gt": START}}, {"2", "3", LAST}),
        ({"$created_at": START.astimezone(TOKYO)}, {"1"}),
        ({"$created_at": START.date()}, {"1", "2", "3"}),
        ({"$created_at": {"$lte": START.date()}}, {"1", "2", "3"}),
        ({"$created_at": {"$gt": START.date()}}, {LAST}),
        ({"$created_at": {"$gte": "2025-03-01T22:00:00+09:00"}}, {"2", "3", LAST}),
        ({"$created_at": {"$lt": "2025-03-02"}}, {"1", "2", "3"}),
        ({"$updated_at": {"$in": [START, date(2025, 3, 2)]}}, {"1", "2", LAST}),
        ({"$occurred_at": {"$exists": True}}, {"3"}),
        ({"$occurred_at": {"$lt": START}}, {"3"}),
        ({"$occurred_at": None}, {"1", "2", LAST}),
        ({"$expires_at": {"$gt": START}}, {"2"}),
        ({"$or": [{"$kind": "hobby"}, {"$not": {"$user_id": "ines"}}]}, {"1", "3", LAST}),
        ({"$and": [{"$user_id": "ines"}, {"$importance": {"$gte": 0.75}}]}, {"2"}),
        ({"$kind": {"$in": []}}, set()),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_a_field_is_asked_by_its_name(stores: list[Memory], filters: dict[str, Any], ids: set[str]) -> None:
    for memory in stores:
        assert found(memory, filters) == ids


conditions = st.one_of(
    *(
        st.tuples(st.just(f"${field}"), test)
        for fields, operands in (
            (
                ["user_id", "agent_id", "role", "kind", "content"],
                st.sampled_from(["ines", "a", "user", "fact", "Hello"]),
            ),
            (["importance", "rating", "version"], st.sampled_from([0, 0.25, 1, 5, 0.7])),
            (
                ["created_at", "updated_at", "occurred_at", "expires_at"],
                st.sampled_from([START, START.date(), START + timedelta(hours=1), START.astimezone(TOKYO)]),
            ),
        )
        for field in fields
        for test in (
            st.one_of(
                operands,
                st.none(),
                st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), operands, min_size=1),
                st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(operands | st.none()), min_size=1),
                st.fixed_dictionaries({"$exists": st.booleans()}),
            ),
        )
    )
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(chosen=st.lists(conditions, min_size=1, max_size=3), logic=st.sampled_from(["$and", "$or"]))
@pytest.mark.filterwarnings("ignore::agentmem.FilterWarning")
def test_fields_agree_with_the_oracle(stores: list[Memory], chosen: list[tuple[str, Any]], logic: str) -> None:
    filters = {logic: [{key: test} for key, test in chosen]}
    everything = list(stores[0].iterate(user_id=ALL))
    own = [{name: getattr(record, name) for name in FIELDS} for record in everything]
    expected = {record["id"] for record in own if matches({}, filters, record)}
    assert {record.id for record in stores[0].page(user_id=ALL, filters=filters).records} == expected


def test_a_field_leads_through_no_wall(stores: list[Memory]) -> None:
    view = stores[0].scoped(user_id="ines")
    assert not view.page(filters={"$user_id": "Zoë"}).records
    assert {record.id for record in view.page(filters={"$user_id": {"$ne": "Zoë"}}).records} == {"1", "2"}


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"$kind": 5}, ["$kind", "must be a str"]),
        ({"$kind": " hobby"}, ["$kind", "begins with a blank"]),
        ({"$kind": ["hobby"]}, ["$kind"]),
        ({"$kind": {"x": 1}}, ["$kind"]),
        ({"$user_id": 1.5}, ["$user_id", "float", "str("]),
        ({"$user_id": True}, ["$user_id", "bool"]),
        ({"$user_id": {"$gt": 5}}, ["$user_id", "takes text, not 5"]),
        ({"$layer": "asset"}, ["$layer", "'asset' is not a layer", "interact, insights, assets"]),
        ({"$embedding": "text"}, ["$embedding", "'text' is not a form", "content, texts, given, none"]),
        ({"$importance": "high"}, ["$importance", "takes a number, not 'high'"]),
        ({"$importance": {"$gt": None}}, ["$importance", "takes a number"]),
        ({"$importance": {"$contains": 1}}, ["$importance", "$contains looks for text"]),
        ({"$importance": {"$prefix": "1"}}, ["$prefix looks for text", "$importance"]),
        ({"$created_at": {"$icontains": "2025"}}, ["$icontains looks for text", "$created_at"]),
        ({"$pinned": 1}, ["$pinned", "True or False, not 1"]),
        ({"$pinned": {"$gt": False}}, ["$gt takes a number, text or a time"]),
        ({"$created_at": 1_700_000_000}, ["$created_at", "a datetime with a time zone, or a date, not 1700000000"]),
        ({"$created_at": {"$gt": "yesterday"}}, ["$created_at", "ISO 8601"]),
        ({"$created_at": {"$gt": "2025-03-01T10:00:00"}}, ["$created_at", "no time zone", "+00:00"]),
        ({"$created_at": {"$gt": datetime(2025, 3, 1)}}, ["no time zone", ".astimezone()"]),  # noqa: DTZ001
        ({"$create_at": START}, ["did you mean $created_at?"]),
        ({"$userid": "x"}, ["did you mean $user_id?"]),
        ({"x": {"$kind": "fact"}}, ["unknown operator '$kind'"]),
        ({"$kind.x": "fact"}, ["unknown operator '$kind.x'"]),
    ],
    ids=str,
)
def test_what_a_field_never_holds_is_an_error(stores: list[Memory], filters: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FilterError) as caught:
        stores[0].search("x", user_id=ALL, filters=filters)
    assert all(word in str(caught.value) for word in words), str(caught.value)
