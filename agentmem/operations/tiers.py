"""Where vectors of large scopes are at hand: what there is, why a record is where it is, and placing it elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING

from agentmem.lifecycle.residency import tier_of
from agentmem.lifecycle.scorer import total
from agentmem.operations.read import must_find
from agentmem.retrieval.walls import Wall, walls_of
from agentmem.stores import archived, placements
from agentmem.stores.rows import not_found
from agentmem.stores.writes import Repository
from agentmem.types.clock import to_datetime
from agentmem.types.enums import Tier
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Scope
from agentmem.types.reports import Residence, TierStats

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.stores.placements import Used

_PLACED = 500
"""Records that are placed in one transaction."""


def stats(engine: Engine) -> dict[str, TierStats]:
    """See ``Memory.tiers``."""
    engine.check()
    residents, tally = engine.retriever.residents, engine.retriever.tally
    counts, sizes = Counter[Tier](), Counter[Tier]()
    times: dict[Tier, list[float]] = {"hot": [], "warm": []}
    for tiers, nbytes, spent in residents.held():
        here: dict[Tier, int] = {"hot": tiers.hot, "warm": tiers.warm}
        counts.update(here)
        for tier, count in here.items():
            sizes[tier] += round(nbytes * count / len(tiers))
            times[tier] += spent if count else []
    large, hits = residents.usage_of_large(), tally.total()
    counts["cold"] = max(0, large["records"] - counts["hot"] - counts["warm"])
    sizes["cold"] = max(0, large["bytes"] - sizes["hot"] - sizes["warm"])
    budget = {**engine.tiering.residency.budget, "cold": large["budget"]}
    names: tuple[Tier, ...] = ("hot", "warm", "cold")
    found: dict[str, TierStats] = {
        tier: TierStats(
            records=counts[tier],
            bytes=sizes[tier],
            budget=budget[tier],
            hits=tally[tier],
            hit_rate=round(tally[tier] / hits, 4) if hits else None,
            p50_ms=round(median(times[tier]), 3) if times.get(tier) else None,
        )
        for tier in names
    }
    db = engine.repository.db
    if engine.settings.glacier.url or archived.is_used(db):
        from agentmem.glacier.place import archives_of

        lines = archived.archives(db)
        found["glacier"] = TierStats(
            records=archived.count_all(db), bytes=sum(line.bytes for line in lines), budget=0, hits=0, hit_rate=None,
            p50_ms=None, objects=sum(line.objects for line in lines), requests=archives_of(engine).requests,
        )  # fmt: skip
    return found


def explain(engine: Engine, id: str, scope: Scope | None) -> Residence:
    """See ``Memory.tiers``. What this process has noted of its use is written down first."""
    engine.lifecycle.write_down()
    stored = must_find(engine, id, scope)
    found = placements.of_rows(engine.repository.db, [stored.row])
    if not found:
        raise not_found(id)
    [used], now, rules = found, engine.now(), engine.lifecycle.rules
    residents = engine.retriever.residents
    behind = [wall for wall in residents.walls() if wall in _walls(engine, used)]
    held: Tier | None = next((tier for wall in behind if (tier := residents.tiers(wall).get(stored.row))), None)
    belongs = tier_of(used, now, rules, engine.tiering.residency, held)
    at = used.subject.last_at
    return Residence(
        id=id,
        tier=(held or "cold") if behind else None,
        belongs=belongs,
        placed=used.placed,
        score=round(total(used.subject, now, rules), 6),
        accesses=used.subject.accesses,
        last_access=None if at is None else to_datetime(at),
        because=_because(used, held, belongs, large=bool(behind)),
    )


def _walls(engine: Engine, used: Used) -> list[Wall]:
    path = None
    with suppress(NotFoundError):
        path = engine.repository.names.path(engine.repository.db, used.space)
    return walls_of(used.user, used.agent, used.run, used.space, path)


def _because(used: Used, held: Tier | None, belongs: Tier, *, large: bool) -> str:
    if not large:
        return "its scope is small, or was not searched here yet: small ones are searched exactly as a whole"
    if used.placed is not None:
        why = f"it was placed in {used.placed}"
    elif belongs == "cold":
        why = "it was not used lately"
    else:
        why = f"it was used lately, and is worth being {belongs}"
    if (held or "cold") == belongs:
        return why
    return f"{why}; it is {held or 'cold'} until the next look, or since there is no room for it"


def place(engine: Engine, ids: Sequence[str] | None, where: Scope, scope: Scope | None, tier: Tier | None) -> int:
    """See ``Memory.tiers``: of these ids, or of all records of ``where``."""
    engine.check_writable()
    engine.check()
    if ids is not None:
        rows = [must_find(engine, id, scope).row for id in ids]
        engine.write(lambda repository: _place(repository, rows, tier), len(rows))
        placed = len(rows)
    else:
        placed, key = 0, engine.key(where)
        condition, params = ("0", ()) if key is None else key.where()
        for low, high in engine.repository.windows(condition, params):
            part = engine.repository.rows_between(condition, params, low, high)
            for start in range(0, len(part), _PLACED):
                some = part[start : start + _PLACED]
                engine.write(lambda repository, some=some: _place(repository, some, tier), len(some))
            placed += len(part)
    engine.tiering.look()
    return placed


def _place(repository: Repository, rows: list[int], tier: Tier | None) -> None:
    """Place what is still there: what was erased meanwhile leaves nothing behind."""
    there = [used.subject.row for used in placements.of_rows(repository.db, rows)]
    placements.place(repository.db, there, tier)
