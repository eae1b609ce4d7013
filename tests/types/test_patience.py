"""Attempts: one at once, more while there is time, a last one after it."""

from __future__ import annotations

import time

import pytest

from agentmem.types.patience import attempts


def test_without_time_there_is_one_attempt() -> None:
    assert len(list(attempts(0))) == 1


def test_there_are_more_while_there_is_time() -> None:
    began = time.monotonic()
    count = len(list(attempts(0.05, first=0.001, longest=0.004)))
    assert time.monotonic() - began >= 0.05
    assert count > 5


def test_pauses_grow_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, now = list[float](), [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("agentmem.types.patience.time.sleep", sleep)
    monkeypatch.setattr("agentmem.types.patience.time.monotonic", lambda: now[0])
    list(attempts(1.0, first=0.1, longest=0.2))
    assert slept[:3] == pytest.approx([0.1, 0.15, 0.2])
    assert max(slept) == 0.2
    assert sum(slept) >= 1.0
