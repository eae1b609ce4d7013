"""Whether reading scopes into memory before they are used would pay: a trace of made-up sessions, replayed."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from pathlib import Path
from statistics import median
from typing import Any

from agentmem import Memory, Settings
from stress.bundles import ASKED, Bundles, text_of

DAYS = 14
PER_USER = 100
SEARCHES = 6
"""In a session."""


def trace(users: int, seed: int) -> list[tuple[float, int]]:
    """When sessions begin, in hours, and whose they are.

    A third of the users come on most days at about the same hour, a third on some days whenever, the rest once or
    twice.
    """
    pick, found = random.Random(seed), list[tuple[float, int]]()
    for user in range(users):
        if user % 3 == 0:
            hour = pick.gauss(13, 3)
            found += [(24 * day + pick.gauss(hour, 1), user) for day in range(DAYS) if pick.random() < 0.8]
        elif user % 3 == 1:
            found += [(24 * day + pick.uniform(7, 22), user) for day in range(DAYS) if pick.random() < 0.25]
        else:
            found += [(pick.uniform(0, 24 * DAYS), user) for _ in range(pick.randint(1, 2))]
    return sorted(found)


def replay(sessions: list[tuple[float, int]], room: int, *, ahead: bool) -> dict[str, int]:
    """With memory for ``room`` scopes; ``ahead``: every hour those are read that began a session in that hour of the
    day before. How many first searches find nothing in memory, and how many scopes are read in vain."""
    held, unused = OrderedDict[int, None](), set[int]()
    by_hour: dict[int, list[int]] = {}
    for at, user in sessions:
        by_hour.setdefault(int(at), []).append(user)
    cold = vain = 0

    def load(user: int) -> None:
        nonlocal vain
        held[user] = None
        held.move_to_end(user)
        while len(held) > room:
            old, _ = held.popitem(last=False)
            vain += old in unused
            unused.discard(old)

    for hour in range(24 * DAYS + 24):
        if ahead:
            for user in by_hour.get(hour - 24, []):
                if user not in held:
                    unused.add(user)
                    load(user)
        for user in by_hour.get(hour, []):
            cold += user not in held
            unused.discard(user)
            load(user)
    return {"sessions": len(sessions), "cold": cold, "in_vain": vain + len(unused)}


def cost(folder: Path, users: int = 60) -> dict[str, float]:
    """Milliseconds of the first search of a scope, and of the next ones."""
    settings = Settings(query_cache_size=0, embedding_cache_size=0, lifecycle={"sweep_interval_s": 0})
    with Memory(folder, settings=settings, embedder=Bundles()) as memory:
        items = [
            {"content": text_of(PER_USER * user + n), "user_id": f"user-{user}"}
            for n in range(PER_USER)
            for user in range(users)
        ]
        memory.add_many(items)
    spent: dict[str, list[float]] = {"first": [], "next": []}
    with Memory(folder, settings=settings, embedder=Bundles()) as memory:
        for user in range(users):
            for number, kind in enumerate(("first", "next", "next")):
                begun = time.perf_counter()
                memory.search(text_of(ASKED + 3 * user + number), user_id=f"user-{user}", touch=False)
                spent[kind].append((time.perf_counter() - begun) * 1_000)
    return {kind: round(median(each), 2) for kind, each in spent.items()}


def preloading(folder: Path, users: int, seed: int) -> dict[str, Any]:
    """What it would save and cost, with room for all users, for a third, and for a tenth of them."""
    sessions, ms = trace(users, seed), cost(folder)
    found: dict[str, Any] = {"ms": ms, "sessions": len(sessions), "rooms": {}}
    for share in (1.0, 0.33, 0.1):
        without, ahead = (replay(sessions, round(share * users), ahead=each) for each in (False, True))
        saved = (without["cold"] - ahead["cold"]) * (ms["first"] - ms["next"])
        found["rooms"][f"{share:.0%}"] = {
            "cold_without": without["cold"],
            "cold_with": ahead["cold"],
            "read_in_vain": ahead["in_vain"],
            "saved_ms_a_search": round(saved / (SEARCHES * len(sessions)), 3),
            "spent_in_vain_ms_a_search": round(
                ahead["in_vain"] * (ms["first"] - ms["next"]) / (SEARCHES * len(sessions)), 3
            ),
        }
    return found
