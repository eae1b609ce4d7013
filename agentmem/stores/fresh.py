"""What was added last, as it was written: whoever holds records in memory takes it from here instead of reading it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from agentmem.stores.rows import Stored
from agentmem.stores.schema import LIVE
from agentmem.types.forms import OF_CONTENT
from agentmem.types.ports import Entry

MOST = 16 * 1_048_576
"""Bytes that are kept, about: what a busy writer adds between two searches."""
_EACH = 600
"""Bytes that a record takes beside its text and its vector, about."""


@dataclass(slots=True)
class _Kept:
    """Records and their vectors by row, oldest first, and how many bytes they take."""

    by_row: OrderedDict[int, tuple[Stored, bytes]] = field(default_factory=OrderedDict[int, tuple[Stored, bytes]])
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
        for one in pending:
            stored, vector = one
            if stored.state == LIVE and stored.vectors == OF_CONTENT:
                kept.by_row[stored.row] = one
                kept.nbytes += stored.size + len(vector) + _EACH
        while kept.nbytes > MOST:
            _, (stored, vector) = kept.by_row.popitem(last=False)
            kept.nbytes -= stored.size + len(vector) + _EACH

    def take(self, rows: Iterable[int], generation: int) -> list[Entry]:
        """Those of the rows that are here, as indexes see them, with vectors of that model."""
        kept = self._kept
        if generation != self._generation:
            return []
        found = [one for row in rows if (one := kept.by_row.get(row)) is not None]
        return [_entry(stored, vector) for stored, vector in found]

    def forget(self) -> None:
        """Something was erased: keep nothing of what was added before."""
        self._kept = _Kept()


_alike = itemgetter(*map(Stored._fields.index, Entry._fields[3 : Entry._fields.index("vector")]))
"""What both have between the owner and the vector; one by one that takes twice as long."""


def _entry(stored: Stored, vector: bytes) -> Entry:
    owner = stored.space or stored.user
    return Entry._make((stored.row, stored.id, owner, *_alike(stored), vector, OF_CONTENT, stored.body, ""))
