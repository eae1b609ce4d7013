"""Time zones: whose days a question, ``since`` and a context mean, by call, by setting, and by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import AsyncMemory, InvalidInputError, Memory, Settings

TOKYO, BERLIN, LIMA = ZoneInfo("Asia/Tokyo"), ZoneInfo("Europe/Berlin"), ZoneInfo("America/Lima")


def near(memory: Memory, question: str, **options: Any) -> float | None:
    details = memory.search(question, explain=True, **options)[0].details
    assert details is not None
    return details.date


def test_yesterday_is_a_day_of_the_zone(memory: Memory, clock: FakeClock) -> None:
    clock.now = datetime(2025, 3, 1, 20, tzinfo=UTC)  # the 2nd in Tokyo
    memory.add("We had soup.", occurred_at=datetime(2025, 3, 1, 8, tzinfo=TOKYO))  # the 28th in UTC
    for zone in ("Asia/Tokyo", TOKYO, timezone(timedelta(hours=9))):
        assert near(memory, "soup yesterday", time_zone=zone) == 1
        assert near(memory, "soup today", time_zone=zone) != 1
        assert memory.context("soup", max_tokens=50, time_zone=zone) == "2025-03-01:\n- We had soup."
    assert near(memory, "soup yesterday") == near(memory, "soup yesterday", time_zone="UTC") == 1
    assert near(memory, "soup today", time_zone="America/Lima") != 1
    assert memory.context("soup", max_tokens=50) == "2025-02-28:\n- We had soup."


def test_a_setting_is_the_zone_of_calls_that_name_none(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(retrieval={"time_zone": "Asia/Tokyo"}))
    clock.now = datetime(2025, 3, 1, 20, tzinfo=UTC)
    memory.add("We had soup.", occurred_at=datetime(2025, 3, 2, 1, tzinfo=TOKYO))
    assert near(memory, "soup today") == 1
    assert near(memory, "soup today", time_zone="UTC") == 1
    assert near(memory, "soup tomorrow", time_zone="UTC") != 1
    assert memory.context("soup", max_tokens=50).startswith("2025-03-02:")
    assert memory.context("soup", max_tokens=50, time_zone="UTC").startswith("2025-03-01:")
    assert len(memory.search("soup", since="2025-03-02")) == 1
    assert len(memory.search("soup", since="2025-03-02", time_zone="UTC")) == 0


def test_a_clock_that_shows_a_zone_is_asked_where_no_setting_says_it(open_memory: Callable[..., Memory]) -> None:
    now = datetime(2025, 3, 2, 5, tzinfo=TOKYO)
    memory = open_memory(clock=lambda: now)
    memory.add("We had soup.", occurred_at=datetime(2025, 3, 1, 8, tzinfo=TOKYO))
    assert near(memory, "soup yesterday") == 1
    assert memory.context("soup", max_tokens=50).startswith("2025-03-01:")
    assert memory.context("soup", max_tokens=50, time_zone="UTC").startswith("2025-02-28:")


def test_days_and_times_without_an_offset_are_those_of_the_zone(memory: Memory) -> None:
    memory.add("first", id="first", occurred_at=datetime(2025, 3, 30, 0, 0, tzinfo=BERLIN))
    memory.add("last", id="last", occurred_at=datetime(2025, 3, 30, 23, 59, tzinfo=BERLIN))
    memory.add("next", id="next", occurred_at=datetime(2025, 3, 31, 0, 0, tzinfo=BERLIN))

    def found(since: Any, until: Any, zone: Any = "Europe/Berlin") -> set[str]:
        return {hit.id for hit in memory.search("first last next", since=since, until=until, time_zone=zone)}

    for since, until in (  # the day on which the clocks go forward has 23 hours
        ("2025-03-30", "2025-03-31"),
        (date(2025, 3, 30), date(2025, 3, 31)),
        ("2025-03-30T00:00", "2025-03-31T00:00:00"),
        (datetime(2025, 3, 30), datetime(2025, 3, 31)),  # noqa: DTZ001
        ("2025-03-29T23:00:00+00:00", "2025-03-30T22:00Z"),
    ):
        assert found(since, until) == {"first", "last"}
    assert found("2025-03-30", "2025-03-31", "UTC") == {"last", "next"}
    assert found("2025-03-30", "2025-03-31", None) == {"last", "next"}
    assert found("2025-03-31", None, "Asia/Tokyo") == {"last", "next"}
    assert found("2025-03-30T02:30", None) == {"last", "next"}  # an hour that there is not


def test_as_of_is_a_time_of_the_zone(memory: Memory, clock: FakeClock) -> None:
    clock.now = datetime(2025, 3, 1, 22, 30, tzinfo=UTC)
    memory.add("We had soup.")
    assert len(memory.search("soup", as_of="2025-03-01T23:00", time_zone="Europe/Berlin")) == 0
    assert len(memory.search("soup", as_of="2025-03-01T23:00", time_zone="UTC")) == 1


def test_what_yesterday_was_is_not_remembered_past_midnight(memory: Memory, clock: FakeClock) -> None:
    clock.now = datetime(2025, 3, 1, 23, 50, tzinfo=BERLIN)
    memory.add("We had soup.", occurred_at=datetime(2025, 3, 1, 12, tzinfo=BERLIN))
    assert near(memory, "soup today", time_zone="Europe/Berlin") == 1
    again = memory.search("soup today", explain=True, time_zone="Europe/Berlin")
    assert again.trace is not None
    assert again.trace.cached
    clock.advance(20 * 60)
    assert near(memory, "soup today", time_zone="Europe/Berlin") != 1
    assert near(memory, "soup yesterday", time_zone="Europe/Berlin") == 1


@pytest.mark.parametrize(
    ("zone", "word"),
    [
        ("Europe/Berlim", "'Europe/Berlin'"),
        ("berlin", "'Europe/Berlin'"),
        ("New York", "'America/New_York'"),
        ("CEST", "zoneinfo.available_timezones()"),
        ("", "not the name"),
        ("../Berlin", "'Europe/Berlin'"),
        ("/etc/localtime", "not the name"),
        ("Europe", "not the name"),
        ("x" * 100_000, "not the name"),
        ("a\0b", "NUL"),
        (2, "must be the name"),
        (b"Nowhere", "must be the name"),
        (["UTC"], "must be the name"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_zones_that_are_none(memory: Memory, zone: Any, word: str) -> None:
    memory.add("We had soup.")
    for call in (memory.search, lambda query, **given: memory.context(query, max_tokens=9, **given)):
        with pytest.raises(InvalidInputError) as caught:
            call("soup", time_zone=zone)
        assert caught.value.field == "time_zone"
        assert word in str(caught.value)
        assert len(str(caught.value)) < 400
    with pytest.raises(InvalidInputError) as caught:
        Settings(retrieval={"time_zone": zone})
    assert caught.value.field == "retrieval.time_zone"


def test_a_setting_takes_a_zone_and_keeps_its_name() -> None:
    assert Settings(retrieval={"time_zone": LIMA}).retrieval.time_zone == "America/Lima"
    assert Settings().retrieval.time_zone is None


def test_dates_at_the_ends_of_time_are_shown_in_any_zone(memory: Memory) -> None:
    for end in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        memory.add(f"the end {end.year}", occurred_at=end)
    for zone in ("Pacific/Kiritimati", "Pacific/Niue"):
        text = memory.context("the end", max_tokens=100, time_zone=zone)
        assert "0001-01-01" in text
        assert "9999-12-31" in text


def test_the_async_client_takes_a_zone_too(store: Path, embedder: HashEmbedder) -> None:
    async def asked() -> str:
        async with AsyncMemory(
            store, clock=FakeClock(datetime(2025, 3, 1, 20, tzinfo=UTC)), embedder=embedder
        ) as memory:
            await memory.add("We had soup.", occurred_at=datetime(2025, 3, 1, 8, tzinfo=TOKYO))
            hits = await memory.search("soup yesterday", explain=True, time_zone="Asia/Tokyo")
            assert hits[0].details is not None
            assert hits[0].details.date == 1
            return await memory.context("soup", max_tokens=50, time_zone="Asia/Tokyo")

    assert asyncio.run(asked()).startswith("2025-03-01:")
