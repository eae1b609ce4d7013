"""A year of a store's life in minutes: a clock that is moved by hand, seeded use, and an oracle that follows."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agentmem import ALL, Memory, NotFoundError, Settings
from stress.lives import Life, Lives

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
STEP = 6 * HOUR
"""Between two sweeps."""
WORDS = [a + b for a in "bcdfghjklmnprstvz" for b in ("alo", "eri", "imo", "oza", "une", "ate", "ilo", "oru", "esh")]
SESSION = ("session_data", "recent_query", "temporary_context", "interaction")
CHARACTERS = {"noise": 68, "brief": 14, "useful": 10, "doubtful": 3, "core": 5}
"""How a record is used, and how many of a hundred are so."""


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def settings(**options: Any) -> Settings:
    """The rules as they are by default; what only costs time here is kept out of the way."""
    quiet = {"arena_limit": 10_000_000, "follower_group": 100_000, "follower_delay_s": 3_600}
    scorer = options.pop("scorer", "formula")
    return Settings(lifecycle={"sweep_interval_s": 0, "scorer": scorer}, **(quiet | options))


@dataclass
class Differences:
    """Everything that is not as it must be; all of it 0."""

    layer: int = 0
    eligible_expired: int = 0
    due_survived: int = 0
    events: int = 0
    counts: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, what: str, example: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 20:
            self.examples.append(f"{what}: {example}")

    @property
    def ok(self) -> bool:
        return not (self.layer or self.eligible_expired or self.due_survived or self.events or self.counts)


class Year:
    """Adds ``records`` over ``days``, uses them, sweeps every six hours, and compares."""

    def __init__(self, memory: Memory, clock: Clock, records: int, days: int, seed: int) -> None:
        self.memory = memory
        self.clock = clock
        self.pick = random.Random(seed)
        self.lives = Lives()
        self.found = Differences()
        self.flow: list[dict[str, int]] = []
        """Live records per layer after each day."""
        self.searches = 0
        self._steps = max(1, days * 24 * HOUR // STEP)
        self._records = records
        self._users = max(1, records // 100)
        self._uses: list[tuple[datetime, int, str]] = []
        self._texts: dict[str, tuple[str, str, str]] = {}
        self._number = 0

    def run(self, tick: Callable[[int, int], object] = lambda done, total: None) -> Differences:
        for step in range(self._steps):
            begin = START + step * STEP
            self.clock.now = begin
            self._add(self._records * (step + 1) // self._steps - self._records * step // self._steps)
            self._use(begin + STEP)
            self._meddle()
            self.clock.now = begin + STEP
            before = dict(self.lives.moves)
            self.lives.sweep(self.clock.now)
            self._check_sweep(before)
            if (step + 1) % (24 * HOUR // STEP) == 0:
                self.flow.append(Counter(life.layer for life in self.lives.live.values()))
            tick(step + 1, self._steps)
        self.check()
        return self.found

    # -- what happens to the store ------------------------------------------------------------------------------------

    def _add(self, count: int) -> None:
        items, characters = [], []
        for _ in range(count):
            user = f"user-{self.pick.randrange(self._users)}"
            item: dict[str, Any] = {"content": self._text(), "user_id": user}
            kind = self.pick.choices(["message", "fact", "session"], [60, 12, 28])[0]
            if kind == "message":
                item["role"] = "user"
            elif kind == "session":
                item["kind"] = self.pick.choice(SESSION)
            if self.pick.random() < 0.3:
                item["importance"] = round(self.pick.random(), 2)
            if self.pick.random() < 0.02:
                item["ttl"] = self.pick.choice([5, 30, 24 * 40]) * HOUR
            items.append(item)
            characters.append(self.pick.choices(list(CHARACTERS), list(CHARACTERS.values()))[0])
        for item, character, added in zip(items, characters, self.memory.add_many(items), strict=True):
            if added.status != "added":
                continue
            expires = self.clock.now + item["ttl"] if "ttl" in item else None
            layer = "interact" if "role" in item or "kind" in item else "assets"
            kind = item.get("kind", "message" if "role" in item else "fact")
            self.lives.add(Life(added.id, kind, layer, self.clock.now, item.get("importance"), expires))
            self._texts[added.id] = (item["content"], item["user_id"], character)
            self._plan(added.id, character)

    def _text(self) -> str:
        self._number += 1
        return f"n{self._number} " + " ".join(self.pick.sample(WORDS, 5))

    def _plan(self, id: str, character: str) -> None:
        """When it will be used."""
        hours = {
            "noise": [],
            "brief": [self.pick.uniform(0, 20) for _ in range(self.pick.randint(1, 3))],
            "useful": [self.pick.uniform(0, 23) for _ in range(self.pick.randint(4, 9))]
            + [self.pick.uniform(24, 2_000) for _ in range(self.pick.randint(0, 12))],
            "doubtful": [0.5, 14, *(self.pick.uniform(0, 23) for _ in range(self.pick.randint(1, 6)))],
            "core": [1, 15, *(self.pick.uniform(0, 23) for _ in range(self.pick.randint(3, 8)))]
            + [24 * (3 + 3.2 * n) + self.pick.uniform(0, 20) for n in range(self.pick.randint(4, 25))],
        }[character]
        for hour in hours:
            heapq.heappush(self._uses, (self.clock.now + hour * HOUR, self._number, id))

    def _use(self, until: datetime) -> None:
        """Searches and gets, each at its time; the oracle is told what came back."""
        while self._uses and self._uses[0][0] < until:
            at, _, id = heapq.heappop(self._uses)
            self.clock.now = max(self.clock.now, at)
            life = self.lives.live.get(id)
            if life is None or (life.expires is not None and life.expires <= self.clock.now):
                continue
            text, user, character = self._texts[id]
            if self.pick.random() < 0.06:
                assert self.memory.get(id) is not None
                life.used(self.clock.now)
                continue
            query = text if character == "core" or self.pick.random() < 0.8 else " ".join(text.split()[2:4])
            hits = self.memory.search(query, user_id=user, limit=self.pick.choice([1, 1, 3]))
            self.searches += 1
            for rank, hit in enumerate(hits, 1):
                assert hit.similarity is not None
                self.lives.all[hit.id].found(self.clock.now, rank, hit.similarity)
            self._judge(life, character)

    def _judge(self, life: Life, character: str) -> None:
        if self.pick.random() < 0.03:
            good = character == "core" or self.pick.random() < 0.5
            rating = self.pick.choice([4.2, 4.8, 5.0]) if good else self.pick.choice([2.0, 4.0])
            self.memory.feedback(life.id, rating=rating)
            life.rating = rating
            life.events.append(("FEEDBACK", self.clock.now))
        if self.pick.random() < (0.3 if character == "doubtful" else 0.03):
            accepted = character != "doubtful"
            self.memory.feedback(life.id, accepted=accepted)
            life.judged(accepted)
            life.events.append(("FEEDBACK", self.clock.now))

    def _meddle(self) -> None:
        """Pins, deletes, restores, changes of importance: a few of each."""
        now = self.clock.now
        ids = list(self.lives.live)
        for id in self.pick.sample(ids, min(3, len(ids))):
            life, roll = self.lives.live[id], self.pick.random()
            if life.expires is not None and life.expires <= now:
                continue
            if roll < 0.3:
                pinned = not life.pinned
                (self.memory.lifecycle.pin if pinned else self.memory.lifecycle.unpin)(id)
                self.lives.pin(life, now, pinned)
            elif roll < 0.5:
                assert self.memory.delete(id)
                self.lives.delete(life, now)
            elif roll < 0.8:
                importance = round(self.pick.random(), 3)
                if importance != life.importance:
                    self.memory.update(id, importance=importance)
                    life.importance = importance
                    life.events.append(("UPDATE", now))
        expired = list(self.lives.expired)
        if expired and self.pick.random() < 0.2:
            life = self.lives.expired[self.pick.choice(expired)]
            if life.expires is None or life.expires > now:
                self.memory.restore(life.id)
                self.lives.restore(life, now)

    # -- comparing ---------------------------------------------------------------------------------------------------

    def _check_sweep(self, before: dict[str, int]) -> None:
        report = self.memory.lifecycle.sweep()
        moved = {name: count - before.get(name, 0) for name, count in self.lives.moves.items()}
        promoted = sum(count for name, count in moved.items() if "→ insights" in name or "→ assets" in name)
        expired = sum(count for name, count in moved.items() if "→ expired" in name)
        if (report.promoted, report.expired, report.erased) != (promoted, expired, moved.get("expired → erased", 0)):
            self.found.add("counts", f"{report} where the oracle moved {moved}")

    def check(self) -> None:
        """Every record with its oracle's life, and every history."""
        there = {record.id: record for record in self.memory.iterate(user_id=ALL)}
        for life in self.lives.all.values():
            record = there.pop(life.id, None)
            ours = None if record is None else (record.layer.value, record.kind, record.pinned)
            if ours != ((life.layer, life.kind, life.pinned) if life.state == "live" else None):
                what = "layer"
                if record is None and life.state == "live":
                    what = "eligible_expired"
                elif record is not None and life.state != "live":
                    what = "due_survived"
                self.found.add(what, f"{life} is {ours}")
            expected = [] if life.forgotten(self.clock.now) else life.events
            events = self._history(life.id)
            if events != expected:
                self.found.add("events", f"{life.id}: {events} instead of {expected}")
        for id in there:
            self.found.add("counts", f"{id} is there and unknown")

    def _history(self, id: str) -> list[tuple[str, datetime]]:
        try:
            return [(event.event.value, event.at) for event in self.memory.history(id)]
        except NotFoundError:
            return []
