"""Values move between tiers: by hand here, by the rules in ``holding.py`` and in sweeps, which archive them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from agentmem.engine.engine import Engine
from agentmem.operations import glacier
from agentmem.stores import archived, chunks, placements
from agentmem.stores.rows import Stored
from agentmem.stores.schema import ARCHIVED, LIVE
from agentmem.types.enums import Tier, ValueTierName
from agentmem.types.errors import ConflictError, InvalidInputError, StoreCorruptError
from agentmem.types.inputs import Draft
from agentmem.types.valueinfo import ValueTier
from agentmem.values.holding import InMemory, holding_of
from agentmem.values.reading import Content

About = Mapping[str, Any]


Placing: TypeAlias = "tuple[ValueTierName | None, bool]"
"""Where a value is to be, None for wherever the rules say; and whether they leave it there."""


def check(engine: Engine, tier: ValueTierName | None, drafts: Sequence[Draft] = ()) -> None:
    """Before anything has changed: raise ``InvalidInputError`` where values cannot be put there."""
    if tier != "glacier":
        return
    if not engine.settings.glacier.url:
        raise InvalidInputError(
            "there is no place for archives: set glacier.url, AGENTMEM_MEMORY__GLACIER__URL=/archives/memories or "
            "Settings(glacier={'url': '/archives/memories'})",
            field="tier",
        )
    if any(draft.end(engine.now()) is not None for draft in drafts):
        raise _has_end()


def into(engine: Engine, found: Sequence[tuple[Stored, About]], tier: ValueTierName) -> list[Any]:
    """Have values that were just put be in a tier; how they are then. They are put, whatever this raises.

    What somebody has put, or deleted, since then is left as it is.
    """
    if tier == "glacier":
        return _archive(engine, found)[0]
    holding = holding_of(engine)
    if tier == "cold":
        holding.drop([stored.row for stored, _ in found])
    else:
        for stored, about in found:
            _load(engine, stored, about, tier)
    return list(found)


def move(engine: Engine, stored: Stored, about: About, tier: ValueTierName | None, hold: bool) -> None:
    """Have a value be in a tier, or leave it to the rules again."""
    engine.check_writable()
    check(engine, tier)
    if tier == "glacier":
        if stored.state != ARCHIVED:
            if stored.expires_at is not None:
                raise _has_end()
            _place(engine, stored, None)
            if _archive(engine, [(stored, about)])[1]:
                raise ConflictError(
                    f"the value with the key {stored.key!r} is changed while it is being archived, time and again; "
                    "move it when that is over"
                )
        holding_of(engine).drop([stored.row])
        return
    _place(engine, stored, tier if hold else None)
    if tier is None:
        return
    glacier.thaw_rows(engine, [stored.row])
    if tier == "cold":
        holding_of(engine).drop([stored.row])
    else:
        _load(engine, stored, about, tier)


def tier_of(engine: Engine, stored: Stored, about: About) -> ValueTierName:
    """Where a value is."""
    return "glacier" if stored.state == ARCHIVED else holding_of(engine).tier_of(stored, about)


def stats(engine: Engine) -> dict[str, ValueTier]:
    """What there is in each tier."""
    db, holding = engine.repository.db, holding_of(engine)
    made, hits = holding.stats(), holding.hits
    here, stored = chunks.values_and_bytes(db)
    made["cold"] = ValueTier(here, stored, None, hits["cold"])
    away = archived.values_and_bytes(db)
    made["glacier"] = ValueTier(*away, None, hits["glacier"])
    return made


def _load(engine: Engine, stored: Stored, about: About, tier: ValueTierName) -> None:
    size, holding = int(about["size"]), holding_of(engine)
    if holding.has_room(cast("Tier", tier), size):
        looks = holding.looks
        whole = InMemory(Content(engine, stored, size).bytes(0, size))
        holding.hold(stored, about, whole, cast("Tier", tier), looks)


def _place(engine: Engine, stored: Stored, tier: Tier | None) -> None:
    if placements.placed(engine.repository.db, stored.row) != tier:
        engine.write(lambda repository: placements.place(repository.db, [stored.row], tier))


def _archive(engine: Engine, found: Sequence[tuple[Stored, About]]) -> tuple[list[tuple[Stored, About]], bool]:
    """How values are then, and whether any was changed meanwhile. Raises ``StoreCorruptError`` for a damaged one."""
    from agentmem.glacier import writing
    from agentmem.glacier.place import archives_of

    rows = [stored.row for stored, _ in found]
    writing.archive(engine, rows)
    now = {stored.row: stored for stored in engine.repository.find_rows(rows)}
    made, changed = list[tuple[Stored, About]](), False
    for stored, about in found:
        current = now.get(stored.row, stored)
        made.append((current if current.body == stored.body else stored, about))
        if current.state != LIVE or stored.row not in now:
            continue
        if current.body == stored.body and stored.row in archives_of(engine).failed:
            raise StoreCorruptError(
                f"the value of record {stored.id!r} is damaged, so that it was not archived; put it again, or restore "
                "it from a backup; verify() says more"
            )
        changed = True
    holding_of(engine).drop(rows)
    return made, changed


def _has_end() -> InvalidInputError:
    return InvalidInputError("a value with a ttl is not archived, since it is to be gone at its end", field="tier")
