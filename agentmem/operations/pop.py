"""Taking the last records of a list: found and deleted in one transaction, so that nobody else gets the same ones."""

from __future__ import annotations

from functools import partial
from itertools import islice

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.page import Listing, rows_of
from agentmem.stores.rows import ScopeKey
from agentmem.stores.writes import Repository
from agentmem.types.records import MemoryRecord


@metered("delete")
def pop(engine: Engine, listing: Listing, n: int) -> list[MemoryRecord]:
    """Delete the first ``n`` records of a list and return them as they were, the first of them last."""
    engine.check_writable()
    engine.check()
    key = engine.key(listing.scope)
    return [] if key is None else engine.write(partial(_take, engine, listing, key, n), n)


def _take(engine: Engine, listing: Listing, key: ScopeKey, n: int, repository: Repository) -> list[MemoryRecord]:
    now = engine.now()
    rows = [row for row, _ in islice(rows_of(repository, key, now, listing, n), n)]
    stored = {each.row: each for each in repository.find_rows(rows)}
    found = [stored[row] for row in reversed(rows)]
    taken = [repository.record(each) for each in found]
    repository.delete_rows(found, now)
    return taken
