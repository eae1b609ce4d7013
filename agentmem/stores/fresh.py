"""What was added last, as it was written: whoever holds records in memory takes it from here instead of reading it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from agentmem.stores.rows import Stored
from agentmem.stores.schema import LIVE
from agentmem.types.forms import OF_CONTENT
from agentmem.types.ports import Entry

MOST = 16 * 1_048_576
"""Bytes that are kept, about: what a busy writer adds between two searches."""
_EACH = 600
"""Bytes that a record takes beside its text and its vector, about."""
_CONTENT, _VECTOR = Entry._fields.index("content"), Entry._fields.index("vector")


@dataclass(slots=True)
class _Kept:
    """What entries are made of by row, oldest first, and how many bytes that takes.

    As plain tuples: of those the garbage collector asks once what they hold; objects of a class that stay would have it
    look at everything in the process again and again, 0.1 s at a time.
    """

    by_row: OrderedDict[int, tuple[Any, ...]] = field(default_factory=OrderedDict[int, tuple[Any, ...]])
    nbytes: int = 0


class Fresh:
    """What this process added last, each as it was when its transaction was committed.

    Rows are never given out twice by transactions that were committed, so that what is found here is right for whoever
    knows that nothing has happened to the record since. The commit thread puts in, any thread may ask.
    """

    def __init__(self) -> None:
        self.wanted = False
        """Whether anybody holds records in memory: until then nothing is kept."""
        self._pending = list[tuple[Stored, bytes]]()
        self._kept = _Kept()
        self._generation = 0

    def begin(self) -> None:
        """A transaction begins; of the last one nothing more is put in."""
        self._pending = []

    def note(self, new: Sequence[tuple[Stored, bytes]]) -> None:
        """These were inserted by the transaction."""
        if self.wanted:
            self._pending += new

    def back_to(self, last_row: int) -> None:
        """What was inserted after that row was undone, inside the transaction."""
        self._pending = [one for one in self._pending if one[0].row <= last_row]

    def committed(self, generation: int) -> None:
        """The transaction is durable; its vectors are of that model."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        if generation != self._generation:
            self._kept, self._generation = _Kept(), generation
        kept = self._kept  # the same to the end: ``forget`` may come between
        for stored, vector in pending:
            if stored.state == LIVE and stored.vectors == OF_CONTENT:
                kept.by_row[stored.row] = entry = _entry(stored, vector)
                kept.nbytes += _size(entry)
        while kept.nbytes > MOST:
            kept.nbytes -= _size(kept.by_row.popitem(last=False)[1])

    def take(self, rows: Iterable[int], generation: int) -> list[Entry]:
        """Those of the rows that are here, as indexes see them, with vectors of that model."""
        kept = self._kept
        if generation != self._generation:
            return []
        return [Entry._make(one) for row in rows if (one := kept.by_row.get(row)) is not None]

    def forget(self) -> None:
        """Something was erased: keep nothing of what was added before."""
        self._kept = _Kept()


_alike = itemgetter(*map(Stored._fields.index, Entry._fields[3:_VECTOR]))
"""What both have between the owner and the vector; one by one that takes twice as long."""


def _entry(stored: Stored, vector: bytes) -> tuple[Any, ...]:
    owner = stored.space or stored.user
    return (stored.row, stored.id, owner, *_alike(stored), vector, OF_CONTENT, stored.body, "")


def _size(entry: tuple[Any, ...]) -> int:
    return sys.getsizeof(entry[_CONTENT]) + len(entry[_VECTOR]) + _EACH
