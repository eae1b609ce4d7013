"""Which facts were drawn from which records."""

from __future__ import annotations

from collections.abc import Iterable

from agentmem.stores.evidence import sources_of
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored
from agentmem.stores.schema import ERASED

_CHUNK = 5_000


def orphans(records: Records, erased: Iterable[Stored]) -> list[Stored]:
    """Facts that were drawn from these records, which are being erased, and from nothing else that is there."""
    going = {stored.row: stored for stored in erased}
    found, users = dict[int, Stored](), {stored.user for stored in going.values()}
    for user in users:
        facts = every(records, user)
        while True:
            gone = going.keys() | found.keys()
            touched = [fact for fact in facts if fact.row not in gone and _rows(fact) & gone]
            left = records.not_erased({row for fact in touched for row in _rows(fact)} - gone)
            more = [fact for fact in touched if not _rows(fact) & left]
            if not more:
                break
            found.update((fact.row, fact) for fact in more)
    return list(found.values())


def every(records: Records, user: int) -> list[Stored]:
    """A user's facts that say what they were drawn from, and were not erased."""
    rows, after = list[int](), 0
    sql = (
        "SELECT r.row FROM records r INDEXED BY records_derived WHERE r.user = ? AND r.row > ? "
        f"AND r.evidence IS NOT NULL AND r.state != {ERASED} ORDER BY r.row LIMIT ?"
    )
    while found := records.db.execute(sql, (user, after, _CHUNK)):
        rows += [row for (row,) in found]
        after = rows[-1]
    return list(records.find_rows(rows))


def _rows(fact: Stored) -> set[int]:
    return {source.row for source in sources_of(fact)}
