"""Years of a store whose memories are used by a habit, to see which scorer tells better what is used again."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from agentmem import ALL, Memory
from stress.year import HOUR, START, WORDS, Clock

STEP = timedelta(hours=12)
"""Between two sweeps."""
SPAN = timedelta(days=90)
"""The time to live of a memory in the layer that all are added to."""
YEAR = 365
LOOKS = (180, 210, 240, 270)
"""Days on which the scores are compared with what is used in the time that follows."""
SHARES = {"relevance": 0.4, "frequency": 0.3, "recency": 0.2, "importance": 0.1}
"""Those of the formula, written down a second time."""

Plan = Callable[[random.Random], tuple[float | None, list[float]]]


def steady(pick: random.Random) -> tuple[float | None, list[float]]:
    """What was used often and lately is used again: the formula is right."""
    popularity, at, hours = pick.choice([0.3, 1, 3]), 0.0, list[float]()
    while len(hours) < 30 and pick.random() < 1 - 0.35 / (1 + popularity):
        at += pick.expovariate(popularity / 120)
        hours.append(at)
    return None, hours


def bursts(pick: random.Random) -> tuple[float | None, list[float]]:
    """Most are used a dozen times in a day or two and never again, some once a week for long: the formula, which goes
    by how often and how lately, takes the one for the other."""
    if pick.random() < 0.65:
        return None, [pick.uniform(0, 40) for _ in range(pick.randint(6, 14))]
    start, every = pick.uniform(0, 200), pick.uniform(140, 260)
    return None, [start + every * n + pick.uniform(0, 12) for n in range(pick.randint(8, 40))]


def importance(pick: random.Random) -> tuple[float | None, list[float]]:
    """All are used a few times when they are new; later only what was said to be important, now and then."""
    value = round(pick.random(), 2)
    hours = [pick.uniform(0, 100) for _ in range(pick.randint(2, 6))]
    if value > 0.6:
        hours += [700 + 900 * n + pick.uniform(0, 400) for n in range(pick.randint(3, 8))]
    return value, hours


HABITS: dict[str, tuple[Plan, float]] = {
    "steady": (steady, -0.01),
    "bursts": (bursts, 0.05),
    "importance": (importance, 0.05),
}
"""How memories are used, and by how much the scorer in use has to tell better than the formula what is used again."""


@dataclass
class Planned:
    """A memory, and when it will be used."""

    text: str
    user: str
    uses: list[datetime] = field(default_factory=list[datetime])


class Habit:
    """Adds ``records`` over a year, uses them as planned, sweeps, and compares scores with what comes."""

    def __init__(self, memory: Memory, clock: Clock, plan: Plan, records: int, seed: int) -> None:
        self.memory, self.clock, self.plan, self.records = memory, clock, plan, records
        self.pick = random.Random(seed)
        self.planned = dict[str, Planned]()
        self.looks = list[dict[str, Any]]()
        self._due: list[tuple[datetime, str]] = []

    def run(self, tick: Callable[[float], object] = lambda done: None) -> dict[str, Any]:
        steps = YEAR * 24 * HOUR // STEP
        for step in range(steps):
            self.clock.now = START + step * STEP
            if (day := self.clock.now - START).days in LOOKS and not day.seconds:
                self._look()
            self._add(self.records * (step + 1) // steps - self.records * step // steps)
            self._use(self.clock.now + STEP)
            self.clock.now = START + (step + 1) * STEP
            self.memory.lifecycle.sweep()
            tick((step + 1) / steps)
        report, replayed = self.memory.lifecycle.scorer(), self.memory.lifecycle.replay()
        return {
            "auc": round(float(np.mean([look["auc"] for look in self.looks])), 4),
            "formula_auc": round(float(np.mean([look["formula_auc"] for look in self.looks])), 4),
            "looks": self.looks,
            "in_use": report.in_use,
            "examples": report.examples,
            "measured": {"auc": report.auc, "formula_auc": report.formula_auc},
            "weights": report.weights,
            "decisions": replayed.to_dict(),
        }

    def _add(self, count: int) -> None:
        for _ in range(count):
            text = f"n{len(self.planned)} " + " ".join(self.pick.sample(WORDS, 5))
            one = Planned(text, f"user-{self.pick.randrange(max(1, self.records // 100))}")
            value, hours = self.plan(self.pick)
            more: dict[str, Any] = {} if value is None else {"importance": value}
            id = self.memory.add(text, user_id=one.user, layer="insights", **more).id
            one.uses = sorted(self.clock.now + hour * HOUR for hour in hours)
            self.planned[id] = one
            for use in one.uses:
                heapq.heappush(self._due, (use, id))

    def _use(self, until: datetime) -> None:
        while self._due and self._due[0][0] < until:
            at, id = heapq.heappop(self._due)
            self.clock.now = max(self.clock.now, at)
            one = self.planned[id]
            self.memory.search(one.text, user_id=one.user, limit=1)

    def _look(self) -> None:
        """Score what is there, and tell how well that says what is used before its layer's time is over."""
        now, scores, formula, again = self.clock.now, list[float](), list[float](), list[bool]()
        for record in self.memory.iterate(user_id=ALL):
            if record.layer == "insights":
                one, found = self.planned[record.id], self.memory.lifecycle.explain(record.id)
                scores.append(found.score)
                formula.append(sum(share * found.components[name] for name, share in SHARES.items()))
                again.append(any(now < use <= now + SPAN for use in one.uses))
        used = np.array(again)
        self.looks.append(
            {
                "day": (now - START).days,
                "memories": len(used),
                "used_again": int(used.sum()),
                "auc": auc(np.array(scores), used),
                "formula_auc": auc(np.array(formula), used),
                "in_use": self.memory.lifecycle.scorer().in_use,
            }
        )


def auc(scores: Any, used: Any) -> float:
    """Of all pairs of one that is used again and one that is not: in how many the first one scores more."""
    pairs = scores[used][:, None] - scores[~used][None, :]
    return round(float((np.sign(pairs) + 1).mean() / 2), 4) if pairs.size else 0.5
