"""Users a page at a time: all of them once, with the numbers that counting every record gives."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agentmem import InvalidInputError, Memory, ScopeError
from agentmem.stores import groups
from agentmem.types.reports import KnownUser

Open = Callable[..., Memory]


def walked(memory: Memory, limit: int, prefix: str = "") -> list[KnownUser]:
    """All pages, one after the other."""
    found, cursor = list[KnownUser](), None
    while True:
        page = memory.user_page(prefix=prefix, limit=limit, cursor=cursor)
        assert len(page.users) <= limit
        found += page.users
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("held", [2, 10_000])
def test_pages_say_what_counting_says(open_memory: Open, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(groups, "_HELD", held)  # how many are counted at once
    memory, dice = open_memory(), random.Random(held)
    users = [None, *(f"user-{n}" for n in range(12))]
    ids = list[str]()
    for n in range(70):
        user, space = dice.choice(users), dice.choice([None, ["a"], ["a", "b"], ["c"]])
        ids.append(memory.add(f"memory {n}", user_id=user, namespace=space, run_id=f"user-1{n}").id)
    for id in dice.sample(ids, 20):
        memory.delete(id)
    counted = {group.name: group.records for group in memory.users()}
    for limit in (1, 5, 100):
        found = walked(memory, limit)
        assert {one.name: one.records for one in found} == counted
        assert len(found) == len(counted)
    for one in walked(memory, 5):
        theirs = [
            record.created_at
            for space in ([], ["a"], ["a", "b"], ["c"])
            for record in memory.page(user_id=one.name, namespace=space, limit=1_000).records
        ]
        assert (one.first_at, one.last_at) == (min(theirs), max(theirs))


def test_the_last_to_come_is_first_and_a_prefix_goes_by_name(
    open_memory: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_NAMES_AT_ONCE", 2)
    memory = open_memory()
    for user in ("zoe", "ana", "anna", "bo", "an\u0303a"):
        memory.add("x", user_id=user, run_id="an-run", agent_id="ana-agent")
    assert [one.name for one in walked(memory, 2)] == ["a\u00f1a", "bo", "anna", "ana", "zoe"]
    for limit in (1, 2, 50):
        assert [one.name for one in walked(memory, limit, "an")] == ["ana", "anna"]
    assert [one.name for one in walked(memory, 9, "an\u0303")] == ["a\u00f1a"]
    assert walked(memory, 9, "x") == []


def test_who_is_erased_between_two_pages_is_missed_and_nobody_else(open_memory: Open) -> None:
    memory = open_memory()
    for n in range(6):
        memory.add("x", user_id=f"user-{n}")
    first = memory.user_page(limit=2)
    memory.erase_all(user_id="user-4")  # where the next page goes on
    memory.erase_all(user_id="user-3")
    memory.compact()
    rest = memory.user_page(limit=9, cursor=first.cursor)
    assert [one.name for one in (*first.users, *rest.users)] == ["user-5", "user-4", "user-2", "user-1", "user-0"]


def test_a_cursor_is_for_the_list_that_it_is_of(open_memory: Open) -> None:
    memory = open_memory()
    for n in range(3):
        memory.add("x", user_id=f"user-{n}")
    by_name = memory.user_page(prefix="user", limit=1).cursor
    for cursor in (by_name, "n", "n-1", "nx", "n" + "9" * 19, "", 7, "\ud800"):
        with pytest.raises(InvalidInputError, match="user_page"):
            memory.user_page(cursor=cursor)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ScopeError):
        memory.scoped(user_id="user-1").user_page()


def test_who_has_the_most_comes_first(open_memory: Open) -> None:
    memory = open_memory()
    for user, size in (("few", 1), ("many", 5), ("some", 3), (None, 4)):
        memory.add_many([f"note {n}" for n in range(size)], user_id=user)
    memory.delete_all(user_id="some")
    page = memory.user_page(most=True, limit=3)
    assert [(one.name, one.records) for one in page.users] == [("many", 5), (None, 4), ("few", 1)]
    assert page.cursor is None
    with pytest.raises(InvalidInputError, match="most"):
        memory.user_page(most=True, prefix="m")


def test_events_come_newest_first_down_to_where_one_was(open_memory: Open) -> None:
    memory = open_memory()
    ids = [memory.add(f"x {n}").id for n in range(5)]
    newest = memory.events(order="newest", limit=2)
    assert [one.id for one in newest] == ids[:2:-1]
    older = memory.events(order="newest", before=newest[-1].seq)
    assert [one.id for one in older] == ids[2::-1]
    between = memory.events(after=older[-1].seq, before=newest[-1].seq)
    assert [one.id for one in between] == ids[1:3]
    with pytest.raises(InvalidInputError):
        memory.events(order="sideways")  # pyright: ignore[reportArgumentType]


def test_layers_are_those_of_the_store(open_memory: Open) -> None:
    memory = open_memory()
    memory.add("x", layer="interact")
    assert memory.lifecycle.layers() == memory.stats().layers
    with pytest.raises(ScopeError):
        memory.scoped(user_id="ana").lifecycle.layers()
