"""What a lifecycle must do, worked out the slow and obvious way. Imports nothing from the package.

Every sweep looks at every live record; the numbers are those of the documentation, written down a second time.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

TTL = {"interact": timedelta(hours=24), "insights": timedelta(days=90)}
NEXT = {"interact": "insights", "insights": "assets"}
SCORE = {"interact": 0.7, "insights": 0.9}
ACCESSES = {"interact": 3, "insights": 10}
SPAN = {"interact": timedelta(hours=12), "insights": timedelta(days=30)}
RATING = {"interact": 4.0, "insights": 4.5}
RELEVANCE = {"interact": 0.8, "insights": 0.95}
GRACE = timedelta(days=30)
KEPT = timedelta(days=30)
BECOMES = {
    ("interact", "session_data"): "pattern",
    ("interact", "recent_query"): "learned_context",
    ("interact", "temporary_context"): "snippet",
    ("interact", "interaction"): "solution",
    ("insights", "pattern"): "code_documentation",
    ("insights", "learned_context"): "system_knowledge",
    ("insights", "snippet"): "best_practice",
    ("insights", "solution"): "core_concept",
}


@dataclass
class Life:
    """One record."""

    id: str
    kind: str
    layer: str
    born: datetime
    importance: float | None = None
    expires: datetime | None = None
    rating: float | None = None
    pinned: bool = False
    aged_from: datetime | None = None
    state: str = "live"
    gone_at: datetime | None = None
    uses: int = 0
    first: datetime | None = None
    last: datetime | None = None
    value: float = 0.0
    weight: float = 0.0
    events: list[tuple[str, datetime]] = field(default_factory=list)

    def forgotten(self, now: datetime) -> bool:
        """Whether it was erased so long ago that not even its events are left."""
        return self.state == "erased" and self.events[-1][1] + KEPT <= now

    def used(self, at: datetime) -> None:
        self.uses += 1
        self.first = self.first or at
        self.last = at

    def found(self, at: datetime, rank: int, similarity: float) -> None:
        """A search returned it."""
        self.used(at)
        closeness = min(1.0, max(0.0, similarity) / 0.5)
        self.value += closeness * max(0.0, 1 - (rank - 1) / 20) / rank
        self.weight += 1 / rank

    def judged(self, accepted: bool) -> None:
        self.value += 3 if accepted else 0
        self.weight += 3

    def score(self, now: datetime) -> float:
        relevance = min(1.0, self.value / self.weight) if self.weight else 0.0
        frequency = min(1.0, math.log(1 + self.uses) / math.log(21))
        age = max(timedelta(0), now - (self.last or self.born))
        recency = 0.5 ** (age / timedelta(days=7))
        importance = 0.5 if self.importance is None else self.importance
        return 0.4 * relevance + 0.3 * frequency + 0.2 * recency + 0.1 * importance

    def lacks(self, now: datetime) -> list[str]:
        """What keeps it from moving up."""
        layer, missing = self.layer, []
        score = self.score(now)
        if score <= SCORE[layer] or (layer == "interact" and self.kind == "recent_query" and score <= 0.8):
            missing.append("score")
        least = 5 if layer == "interact" and self.kind == "temporary_context" else ACCESSES[layer]
        if self.uses <= least:
            missing.append("accesses")
        if self.first is None or self.last is None or self.last - self.first <= SPAN[layer]:
            missing.append("span")
        if self.rating is not None and self.rating <= RATING[layer]:
            missing.append("rating")
        if not self.weight or self.value / self.weight <= RELEVANCE[layer]:
            missing.append("relevance")
        return missing


class Lives:
    """All records, and what a sweep does to them."""

    def __init__(self) -> None:
        self.all: dict[str, Life] = {}
        self.live: dict[str, Life] = {}
        self.expired: dict[str, Life] = {}
        self.moves: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.only: Counter[str] = Counter()
        """Of those that expired by their layer's time, how many lacked only this one thing."""

    def add(self, life: Life) -> None:
        life.events.append(("ADD", life.born))
        self.all[life.id] = self.live[life.id] = life

    def sweep(self, now: datetime) -> None:
        moved = set[str]()
        for life in self.live.values():
            promised_away = life.expires is not None and life.expires <= now
            if life.layer in NEXT and not life.pinned and not promised_away and not life.lacks(now):
                self._promote(life, now)
                moved.add(life.id)
        for life in list(self.live.values()):
            if life.expires is not None and life.expires <= now:
                self._expire(life, now, "its own ttl")
            elif life.layer in TTL and not life.pinned and life.id not in moved:
                if (life.aged_from or life.born) + TTL[life.layer] <= now:
                    missing = life.lacks(now)
                    if len(missing) == 1:
                        self.only[f"{life.layer}: {missing[0]}"] += 1
                    self._expire(life, now, "layer ttl")
        for life in list(self.expired.values()):
            if life.gone_at is not None and life.gone_at + GRACE <= now:
                life.state = "erased"
                life.events.append(("ERASE", now))
                del self.expired[life.id]
                self.moves["expired → erased"] += 1

    def _promote(self, life: Life, now: datetime) -> None:
        target = NEXT[life.layer]
        kind = BECOMES.get((life.layer, life.kind), life.kind)
        self.moves[f"{life.layer} → {target}"] += 1
        if kind != life.kind:
            self.kinds[f"{life.kind} → {kind}"] += 1
        life.layer, life.kind = target, kind
        life.events.append(("PROMOTE", now))

    def _expire(self, life: Life, now: datetime, why: str) -> None:
        life.state, life.gone_at = "expired", now
        life.events.append(("EXPIRE", now))
        del self.live[life.id]
        self.expired[life.id] = life
        self.moves[f"{life.layer} → expired ({why})"] += 1

    def delete(self, life: Life, now: datetime) -> None:
        life.state = "deleted"
        life.events.append(("DELETE", now))
        del self.live[life.id]

    def restore(self, life: Life, now: datetime) -> None:
        life.state, life.aged_from = "live", now
        life.events.append(("RESTORE", now))
        del self.expired[life.id]
        self.live[life.id] = life
        self.moves["expired → restored"] += 1

    def pin(self, life: Life, now: datetime, pinned: bool) -> None:
        life.pinned, life.aged_from = pinned, now
        life.events.append(("PIN" if pinned else "UNPIN", now))
