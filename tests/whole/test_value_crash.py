"""Values of a process that is killed: none is lost, none is half there, no file is left over after repair."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress.valuelives import POINTS, Known, live


def kill(path: Path, points: list[str], each: int) -> None:
    known, first = Known(), 1
    for number, point in enumerate(points * each):
        for attempt in range(8):
            reached = live(path, known, seed=number * 100 + attempt, first=first, point=point)
            first += 60
            assert known.problems == [], point
            if reached:
                break
        else:
            pytest.fail(f"the child never came to {point!r}")


def test_a_put_is_killed(tmp_path: Path) -> None:
    kill(tmp_path / "store", ["put: committed, files not moved"], 1)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_every_point(tmp_path: Path, point: str) -> None:
    kill(tmp_path / "store", [point], 4)
