"""Counting: what has lapsed counts no more, whether a sweep has removed it or not, and however much of it there is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import FakeClock

from agentmem import Memory


@pytest.mark.parametrize("lapsing", [3, 1_200])
def test_what_has_lapsed_is_not_counted(open_memory: Callable[..., Memory], clock: FakeClock, lapsing: int) -> None:
    memory = open_memory()
    memory.add_many([f"stays {n}" for n in range(2_100)], user_id="ana")
    memory.add_many([f"stays at home {n}" for n in range(5)], user_id="ana", namespace=["home"])
    memory.add_many([f"goes {n}" for n in range(lapsing)], user_id="ana", ttl=timedelta(hours=1))
    memory.add_many(["goes", "goes, too"], user_id="ana", namespace=["home"], ttl=timedelta(hours=1))
    memory.add_many(["of an agent", "of another"], user_id="ana", agent_id="helper", ttl=timedelta(hours=1))
    memory.add("Ben goes", user_id="ben", ttl=timedelta(hours=1))
    assert memory.count(user_id="ana") == 2_100 + lapsing + 2
    clock.advance(7_200)
    assert memory.count(user_id="ana") == 2_100
    assert memory.count(user_id="ana", namespace=["home"]) == 5
    assert memory.count(user_id="ana", agent_id="helper") == 0
    assert memory.count(user_id="ben") == 0
