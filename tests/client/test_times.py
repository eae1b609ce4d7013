"""Times as programs have them: datetimes of any offset, dates, text; and the right advice for those that are none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from conftest import START

from agentmem import InvalidInputError, Memory, NewMemory
from agentmem.stores.connection import Connection
from agentmem.stores.folder import DATABASE

MARQUESAS, LINE = timezone(timedelta(hours=-9, minutes=-30)), timezone(timedelta(hours=14))
DUE = datetime(2026, 3, 29, 2, 30, tzinfo=LINE)  # 28 March 12:30 in UTC


def found(memory: Memory, **condition: Any) -> list[str]:
    return sorted(hit.content for hit in memory.search("due", user_id="li", filters={"due": condition}))


def test_instants_compare_whatever_their_offset(memory: Memory) -> None:
    memory.add("rent due", user_id="li", metadata={"due": DUE})
    memory.add("tax due", user_id="li", metadata={"due": DUE + timedelta(microseconds=1)})
    memory.add("no time due", user_id="li", metadata={"due": "soon"})
    for zone in (UTC, LINE, MARQUESAS):
        moment = DUE.astimezone(zone)
        assert found(memory, **{"$eq": moment}) == ["rent due"]
        assert found(memory, **{"$in": [moment, "never"]}) == ["rent due"]
        assert found(memory, **{"$gt": moment}) == ["tax due"]
        assert found(memory, **{"$lte": moment}) == ["rent due"]
        assert found(memory, **{"$gte": moment, "$lt": moment + timedelta(days=1)}) == ["rent due", "tax due"]
        assert found(memory, **{"$ne": moment}) == ["no time due", "tax due"]
    assert memory.page(user_id="li").records[-1].metadata == {"due": "2026-03-28T12:30:00+00:00"}


def test_a_day_is_all_of_the_day_in_utc(memory: Memory) -> None:
    memory.add("rent due", user_id="li", metadata={"due": DUE})
    memory.add("on the day due", user_id="li", metadata={"due": date(2026, 3, 28)})
    memory.add("at midnight due", user_id="li", metadata={"due": datetime(2026, 3, 29, tzinfo=UTC)})
    day, next_day = date(2026, 3, 28), date(2026, 3, 29)
    same = ["on the day due", "rent due"]
    assert found(memory, **{"$eq": day}) == found(memory, **{"$lte": day}) == found(memory, **{"$lt": next_day}) == same
    assert found(memory, **{"$gt": day}) == found(memory, **{"$gte": next_day}) == ["at midnight due"]
    assert found(memory, **{"$gte": day, "$lte": day}) == same
    assert found(memory, **{"$in": [next_day]}) == ["at midnight due"]
    assert found(memory, **{"$lt": day}) == []
    assert found(memory, **{"$eq": DUE}) == same  # a day is neither before nor after an instant of its own
    assert found(memory, **{"$gt": DUE}) == ["at midnight due"]


def test_text_is_compared_as_text(memory: Memory) -> None:
    memory.add("text due", user_id="li", metadata={"due": "2026-03-29T02:30:00+14:00"})
    memory.add("rent due", user_id="li", metadata={"due": DUE})
    assert found(memory, **{"$eq": "2026-03-29T02:30:00+14:00"}) == ["text due"]
    assert found(memory, **{"$gt": "2026-03-28T12:30:00+00:00"}) == ["text due"]
    assert found(memory, **{"$eq": DUE.astimezone(UTC)}) == ["rent due", "text due"]


def test_an_old_stores_offsets_are_instants(open_memory: Callable[..., Memory], store: Any) -> None:
    memory = open_memory()
    for n, text in enumerate(("2026-03-29T02:30:00+14:00", "2026-03-28T03:00:00.250000-09:30", "2026-03-28")):
        memory.add(f"number {n} due", user_id="li", metadata={"due": "x"}, id=f"n{n}")
        memory.close()
        database = Connection(store / DATABASE)
        database.execute("UPDATE records SET metadata = ? WHERE id = ?", (f'{{"due":"{text}"}}', f"n{n}"))
        database.close()
        memory = open_memory()
    assert found(memory, **{"$eq": DUE}) == ["number 0 due", "number 2 due"]
    assert found(memory, **{"$gt": datetime(2026, 3, 28, 12, 30, tzinfo=UTC)}) == ["number 1 due"]
    assert found(memory, **{"$lte": date(2026, 3, 28)}) == ["number 0 due", "number 1 due", "number 2 due"]


def test_times_in_lists_are_times(memory: Memory) -> None:
    memory.add("reminders due", user_id="li", metadata={"due": [DUE, date(2026, 5, 1), "x"]})
    assert found(memory, **{"$eq": DUE.astimezone(MARQUESAS)}) == ["reminders due"]
    assert found(memory, **{"$contains": DUE.astimezone(UTC)}) == ["reminders due"]
    assert found(memory, **{"$contains": date(2026, 5, 1)}) == ["reminders due"]
    assert found(memory, **{"$gt": date(2026, 4, 30), "$lt": date(2026, 5, 2)}) == ["reminders due"]
    assert found(memory, **{"$eq": [DUE.astimezone(UTC), date(2026, 5, 1), "x"]}) == ["reminders due"]


NAIVE = datetime(2026, 3, 1, 9)  # noqa: DTZ001


@pytest.mark.parametrize("name", ["occurred_at", "since", "until", "as_of", "now"])
@pytest.mark.parametrize(
    ("when", "words", "no_words"),
    [
        (NAIVE, ["2026-03-01T09:00:00 has no time zone", ".astimezone()", ".replace(tzinfo=timezone.utc)"], []),
        ("2026-03-01T09:00", ["no time zone", "'2026-03-01T09:00+00:00' if it is UTC"], [".replace(", "astimezone"]),
        ("2026-03-01 09:00:00", ["no time zone", "'2026-03-01 09:00:00+00:00'"], [".replace("]),
        ("1 March 2026", ["not an ISO 8601", "2025-03-01T12:00:00+00:00"], [".replace("]),
        ("2026-02-30", ["not an ISO 8601"], [".replace("]),
        (1_772_355_600, ["must be a datetime", "datetime.fromtimestamp(..., timezone.utc)"], [".replace("]),
        (1_772_355_600.5, ["datetime.fromtimestamp"], [".replace("]),
        (np.int64(1_772_355_600), ["datetime.fromtimestamp"], [".replace("]),
        (np.datetime64("2026-03-01T09:00"), ["must be a datetime", "datetime64", ".item().replace("], []),
        (timedelta(hours=1), ["must be a datetime", "timedelta"], [".replace("]),
        (True, ["must be a datetime", "bool"], ["fromtimestamp"]),
    ],
    ids=str,
)
def test_advice_fits_what_was_given(
    memory: Memory, name: str, when: Any, words: list[str], no_words: list[str]
) -> None:
    local = name in ("since", "until", "as_of")
    if local and "no time zone" in " ".join(words):
        memory.search("x", **{name: when})  # a time of the client's zone
        return
    if local:
        words = [word.replace("T12:00:00+00:00", "") for word in words]
    calls = {"occurred_at": lambda: memory.add("x", occurred_at=when), "now": lambda: memory.lifecycle.sweep(now=when)}
    with pytest.raises(InvalidInputError) as caught:
        calls.get(name, lambda: memory.search("x", **{name: when}))()
    message = str(caught.value)
    assert caught.value.field == name
    assert all(word in message for word in [name, *words]), message
    assert not any(word in message for word in no_words), message


def test_a_date_is_its_first_instant(memory: Memory) -> None:
    midnight = datetime(2025, 2, 3, tzinfo=UTC)
    for n, day in enumerate((date(2025, 2, 3), "2025-02-03", "20250203", "2025-W06-1")):
        assert memory.add(f"lunch {n}", occurred_at=day).record.occurred_at == midnight
        assert memory.add(NewMemory(content=f"dinner {n}", occurred_at=day)).record.occurred_at == midnight
        assert len(memory.search("lunch", since=day, until=date(2025, 2, 4), limit=100)) == 2 * (n + 1)
        assert memory.search("lunch", until=day) == []
    assert memory.search("lunch", as_of=START.date()) == []  # all were added at noon
    assert len(memory.search("lunch", as_of=START)) == 8


@pytest.mark.parametrize("ttl", ["1h", "60", None.__class__, datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), -1])
def test_a_ttl_is_a_span(memory: Memory, ttl: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"ttl must be a timedelta or seconds, such as timedelta\(hours=1\) or 3600"
    ):
        memory.add("x", ttl=ttl)
