"""How what is held in memory takes up records: as they are now, in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from agentmem.stores.records import Records
from agentmem.types.ports import Entry

READ = 200
"""Rows per read: a millisecond, during which libSQL lets no other thread run, and so few objects that they are gone
again before the garbage collector looks for what stays."""


class Holder(Protocol):
    """An arena, or what else holds records."""

    def remove(self, row: int) -> None:
        """Forget a record; unknown rows are ignored."""

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Add records, or replace them by their current state."""


def take_up(holder: Holder, records: Records, rows: Collection[int]) -> None:
    """Have records that changed be what they are now, and those that are gone be gone.

    A few at a time: of thousands at once the garbage collector would take it that they are here to stay, and the sooner
    look at everything there is, which stops all threads.
    """
    wanted = sorted(rows)
    for start in range(0, len(wanted), READ):
        part = wanted[start : start + READ]
        found = sorted(records.entries_of(part))
        for row in set(part).difference([entry.row for entry in found]):
            holder.remove(row)
        put(holder, records, found)


def put(holder: Holder, records: Records, entries: list[Entry]) -> None:
    """Add records, with what only few have."""
    for piece in records.whole(entries):
        holder.upsert(piece)
