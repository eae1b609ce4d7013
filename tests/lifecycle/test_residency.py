"""The rules of residency: who is hot, who is warm, who goes when there is no room."""

from __future__ import annotations

import random

import pytest

from agentmem import Settings
from agentmem.lifecycle.promotion_score import recency
from agentmem.lifecycle.residency import Residency, decide, tier_of
from agentmem.lifecycle.rules import HOUR, Rules
from agentmem.retrieval.tiermap import TierMap
from agentmem.stores.placements import Used
from agentmem.stores.rows import Subject
from agentmem.types.clock import Micros
from agentmem.types.enums import Tier

SETTINGS = Settings()
RULES = Rules.of(SETTINGS)
RESIDENCY = Residency.of(SETTINGS.tiers)
NOW: Micros = 1_000_000 * HOUR


def record(
    row: int, *, idle: float = 1, accesses: int = 20, importance: float | None = None, placed: str | None = None
) -> Used:
    """One whose last use was so many hours ago, always as the first hit."""
    at = NOW - round(idle * HOUR)
    subject = Subject(
        row, f"r{row}", "fact", "assets", importance, None, at, at, None, at, 1, 0, 0, 100,
        accesses, at if accesses else None, at if accesses else None, float(accesses), float(accesses),
    )  # fmt: skip
    return Used(subject, 1, 0, 0, 0, 1, placed)


def tier(used: Used, held: Tier | None = None) -> str:
    return tier_of(used, NOW, RULES, RESIDENCY, held)


@pytest.mark.parametrize(
    ("idle", "accesses", "expected"),
    [(1, 20, "hot"), (23.9, 20, "hot"), (24.1, 20, "warm"), (71.9, 20, "warm"), (72.1, 20, "cold"), (1, 1, "warm")],
)
def test_use_and_idleness(idle: float, accesses: int, expected: str) -> None:
    assert tier(record(1, idle=idle, accesses=accesses)) == expected


def test_what_was_never_used_is_cold() -> None:
    assert tier(record(1, idle=0, accesses=0)) == "cold"


def test_placements_come_first() -> None:
    assert tier(record(1, idle=999, placed="hot")) == "hot"
    assert tier(record(1, placed="cold")) == "cold"
    assert tier(record(1, placed="warm")) == "warm"


def test_what_is_hot_stays_so_a_little_longer() -> None:
    """Between the score that makes a record hot and nine tenths of it, it is what it was."""
    between = next(
        one for n in range(1, 40) if tier(one := record(1, accesses=n)) == "warm" and tier(one, "hot") == "hot"
    )
    assert tier(between, "warm") == "warm"


def decided(found: list[Used], hot: int, warm: int, held: dict[int, Tier] | None = None) -> dict[int, Tier]:
    residency = Residency(0.8, 24 * HOUR, 72 * HOUR, {"hot": hot * 10, "warm": warm * 10})
    return decide([(one, 10) for one in found], NOW, RULES, residency, [TierMap.of(held or {})])


def test_what_has_no_room_goes_down() -> None:
    found = [record(n, idle=n) for n in range(1, 10)]
    assert decided(found, 3, 4) == {1: "hot", 2: "hot", 3: "hot", 4: "warm", 5: "warm", 6: "warm", 7: "warm"}
    assert decided(found, 0, 0) == {}


def test_importance_and_recency_decide_who_stays_and_what_is_placed_stays_longest() -> None:
    found = [
        record(1, importance=0.9),
        record(2, importance=0.1),
        record(3, importance=0.5, idle=20),
        record(4, placed="hot", idle=500, importance=0.0),
    ]
    assert decided(found, 3, 0).keys() == {1, 3, 4}
    assert decided(found, 1, 0).keys() == {4}


def test_two_of_about_the_same_worth_do_not_take_turns() -> None:
    found = [record(1, importance=0.5), record(2, importance=0.55)]
    assert decided(found, 1, 0) == {2: "hot"}
    assert decided(found, 1, 0, held={1: "hot"}) == {1: "hot"}
    assert decided([record(1, importance=0.5), record(2, importance=0.9)], 1, 0, held={1: "hot"}) == {2: "hot"}


def test_those_that_score_highest_come_first() -> None:
    found = [record(n, accesses=n) for n in (12, 30, 15, 25)]
    assert list(decided(found, 9, 9))[:2] == [30, 25] or list(decided(found, 9, 9).values()) == ["hot"] * 4


def test_a_record_without_a_vector_is_nowhere() -> None:
    assert decided([record(1)._replace(vectors=0)], 9, 9) == {}


@pytest.mark.parametrize("seed", range(3))
def test_of_many_those_stay_that_would_stay_if_all_were_looked_at_together(seed: int) -> None:
    """More than are kept at a time: what is let go of early is what has no room in the end."""
    pick = random.Random(seed)
    found = [
        record(n, idle=pick.uniform(0, 70), accesses=pick.randrange(1, 40), importance=pick.random(),
               placed=pick.choice([None] * 8 + ["hot", "warm"]))
        for n in range(1, 3_000)
    ]  # fmt: skip
    size = 5_000
    residency = Residency(0.8, 24 * HOUR, 72 * HOUR, {"hot": 100 * size, "warm": 300 * size})
    chosen = decide([(one, size) for one in found], NOW, RULES, residency, [])

    def worth(one: Used) -> tuple[bool, float]:
        subject = one.subject
        value = (subject.importance or 0) * recency(subject.used_at, NOW, RULES.half_life)
        return one.placed is not None, value

    first = sorted((one for one in found if tier(one) == "hot"), key=worth, reverse=True)
    second = sorted([one for one in found if tier(one) == "warm"] + first[100:], key=worth, reverse=True)
    assert {row for row, where in chosen.items() if where == "hot"} == {one.subject.row for one in first[:100]}
    assert {row for row, where in chosen.items() if where == "warm"} == {one.subject.row for one in second[:300]}
