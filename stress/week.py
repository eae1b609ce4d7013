"""A week of use of a large scope, by a clock that is moved by hand: what is hot, warm and cold as the days go by."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from agentmem import Memory, Settings
from stress.bundles import Bundles, text_of
from stress.year import HOUR, Clock

HOURS = 24 * 7
_PER_HOUR = 25
"""Searches in an hour of a working day; a tenth of that at other times."""
_PROJECT = 120
"""Memories that the work of some days turns around: half of all searches are for one of these."""
_DAYS = 2
"""Days after which it turns around others."""


def week(folder: Path, records: int, seed: int) -> dict[str, Any]:
    """Live through it; what there is of each tier at each hour, and which share of the hits it had since the last.

    ``missed``: records that searches for their own words did not find first. The process ends on the fourth evening,
    and another one goes on the next morning.
    """
    clock, pick = Clock(), random.Random(seed)
    samples, hits, missed = list[dict[str, float]](), Counter[str](), 0
    memory = _opened(folder, clock, records)
    try:
        items = [{"content": text_of(n), "user_id": "user", "id": f"r{n}"} for n in range(records)]
        memory.add_many(items)
        memory.search(text_of(0), user_id="user", touch=False)
        for hour in range(HOURS):
            if hour == 4 * 24 + 8:
                memory.close()
                memory, hits = _opened(folder, clock, records), Counter[str]()
                memory.search(text_of(0), user_id="user", touch=False)
            start = records * (hour // 24 // _DAYS) // 5
            working = 8 <= hour % 24 < 18 and hour // 24 < 5
            for _ in range(_PER_HOUR if working else pick.randrange(_PER_HOUR // 10 + 1)):
                clock.now += HOUR / (_PER_HOUR + 1)
                wanted = start + pick.randrange(_PROJECT) if pick.random() < 0.5 else pick.randrange(records)
                found = memory.search(text_of(wanted), user_id="user", mode="vector", limit=5)
                missed += found[0].id != f"r{wanted}"
                if wanted < start + _PROJECT and wanted >= start and pick.random() < 0.1:
                    memory.feedback(found[0].id, accepted=True)
            clock.now = clock.now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            engine = memory.handle.engine()
            engine.lifecycle.write_down()
            engine.tiering.look()
            stats = memory.tiers.stats()
            now = Counter({name: one.hits for name, one in stats.items()})
            new = now - hits
            hits, total = now, max(1, new.total())
            sample: dict[str, float] = {"hour": hour + 1}
            for name, one in stats.items():
                sample |= {name: one.records, f"{name}_share": round(new[name] / total, 3)}
            samples.append(sample)
    finally:
        memory.close()
    return {"samples": samples, "missed": missed}


def _opened(folder: Path, clock: Clock, records: int) -> Memory:
    settings = Settings(
        arena_limit=records // 4, query_cache_size=0, large_wait_s=3_600, embedding_cache_size=0,
        lifecycle={"sweep_interval_s": 0}, tiers={"interval_s": 0},
    )  # fmt: skip
    return Memory(folder, settings=settings, clock=clock, embedder=Bundles())
