"""Saying that records were used, and when they are over from now on."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.glacier import once_here, thaw
from agentmem.stores import accounting, renewal
from agentmem.stores.rows import ScopeKey, Stored
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import UNSET, Unset
from agentmem.types.inputs import Scope


@metered("update")
def touch(engine: Engine, ids: Sequence[str], ttl: Micros | Unset | None, scope: Scope | None) -> list[bool]:
    """Note a use of records, in one transaction; for each id, whether there was a record."""
    engine.check_writable()
    engine.check()
    key = engine.key(scope, anywhere=True)
    if key is None or not ids:
        return [False] * len(ids)

    def run() -> list[bool]:
        return engine.write(lambda repository: _touch(repository, ids, ttl, key, engine.now()), len(ids))

    return once_here(lambda: thaw(engine, ids, scope), run)


def _touch(
    repository: Repository, ids: Sequence[str], ttl: Micros | Unset | None, key: ScopeKey, now: Micros
) -> list[bool]:
    found = repository.there(ids, key, now)
    rows = {stored.row: stored for stored in found if stored is not None}
    repository.check_here(rows.values())
    use(repository, list(rows.values()), ttl, now)
    return [stored is not None for stored in found]


def use(repository: Repository, found: Sequence[Stored], ttl: Micros | Unset | None, now: Micros) -> None:
    """Note a use of live records, inside a transaction, and put off their ends."""
    accounting.note_accesses(repository.db, [(stored.row, 1, now, now, 0.0, 0.0) for stored in found])
    if ttl is UNSET:
        sliding = [(one, one.sliding) for one in found if one.sliding is not None]
        ends = [(one, max(now + span, one.expires_at or 0), span) for one, span in sliding]
    else:
        end = None if ttl is None else now + ttl
        ends = [(one, end, None if one.sliding is None else ttl) for one in found]
    renewal.set_ends(repository, ends, now)
