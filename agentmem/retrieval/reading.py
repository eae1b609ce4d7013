"""How what is held in memory takes up records: as they are now, in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from agentmem.stores.records import Records
from agentmem.types.ports import Entry

READ = 500
"""Rows per read: a few milliseconds, during which libSQL lets no other thread run."""


class Holder(Protocol):
    """An arena, or what else holds records."""

    def remove(self, row: int) -> None:
        """Forget a record; unknown rows are ignored."""

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Add records, or replace them by their current state."""


def take_up(holder: Holder, records: Records, rows: Collection[int], at_hand: list[Entry] | None = None) -> None:
    """Have records that changed be what they are now, and those that are gone be gone.

    ``at_hand``: those of them that need not be read.
    """
    if not rows:
        return
    found = at_hand or []
    left = set(rows).difference([entry.row for entry in found])
    if left:
        found = sorted([*found, *records.entries_of(left)])
        for row in left.difference([entry.row for entry in found]):
            holder.remove(row)
    put(holder, records, found)


def put(holder: Holder, records: Records, entries: list[Entry]) -> None:
    """Add records, with what only few have."""
    for piece in records.whole(entries):
        holder.upsert(piece)
