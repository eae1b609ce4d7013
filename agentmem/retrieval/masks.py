"""Filters of a large scope: which of its slots a caller's filter admits, worked out by libSQL and kept.

A slot's record never changes, a changed record gets another slot: so what a filter says of a slot holds for as long as
there is the slot, and only those that were added since have to be looked at again.

Once a few filters were asked for, metadata are read as columns, in the background: then a filter on them is tested once
on each class of values that it may tell apart, instead of on each record.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from agentmem.filters.sqlite import CompiledFilter
from agentmem.retrieval.columns import Columns, asked_of
from agentmem.stores.records import WINDOW, Records
from agentmem.stores.rows import ScopeKey
from agentmem.types.errors import AgentMemError
from agentmem.types.promise import Promise, promised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints

_KEPT = 64
"""Filters; each takes a bit for every slot."""
_FEW = 2_000
"""Rows that are asked for one by one."""
_BEFORE = 2
"""Filters that are tested on every record before columns are made, which takes as long as three of them."""
_DENSE = 4
"""Rows of the table for each of the scope's, up to which it is read from end to end: an index takes twice as long."""


class Masks:
    """The filters of one wall that were used last. Not thread-safe."""

    def __init__(self, records: Records, key: Callable[[], ScopeKey | None]) -> None:
        """``key``: the wall as a scope, as of now."""
        self._records = records
        self._key = key
        self._held: OrderedDict[CompiledFilter, tuple[int, NDArray[np.uint8]]] = OrderedDict()
        self._columns: Columns | None = None
        self._reading: Promise[Columns] | None = None
        self._tests = 0

    @property
    def nbytes(self) -> int:
        held = sum(bits.nbytes for _, bits in self._held.values())
        return held if self._columns is None else held + self._columns.nbytes

    def of(self, condition: CompiledFilter, rows: Ints, live: Bools) -> Bools:
        """Which of the slots the filter admits; ``rows`` are those of all slots, ``live`` says which slots count."""
        known, bits = self._held.pop(condition, (0, np.empty(0, np.uint8)))
        admitted = np.zeros(len(rows), np.bool_)
        admitted[:known] = np.unpackbits(bits, count=known).view(np.bool_)
        if known < len(rows):
            admitted[known:] = self._tested(condition, rows, live, known)
            bits = np.packbits(admitted)
        self._held[condition] = len(rows), bits
        if len(self._held) > _KEPT:
            self._held.popitem(last=False)
        return admitted

    def forget(self) -> None:
        """Keep no metadata: something was erased that may be among them."""
        self._columns = self._reading = None

    def _tested(self, condition: CompiledFilter, rows: Ints, live: Bools, known: int) -> Bools:
        new = rows[known:]
        if len(new) <= _FEW:
            return np.isin(new, _array(self._records.rows_among(new.tolist(), condition.sql, condition.params)))
        self._tests += 1
        passing = self._by_columns(condition, rows, live)
        if passing is not None:
            return passing[known:]
        spans = _spans(new[live[known:]])
        if spans is None:
            key = self._key()
            found = [] if key is None else list(self._records.matching(key, condition.sql, condition.params))
        else:
            read = self._records.rows_between
            found = [row for low, high in spans for row in read(condition.sql, condition.params, low, high)]
        return np.isin(new, _array(found))

    def _by_columns(self, condition: CompiledFilter, rows: Ints, live: Bools) -> Bools | None:
        """Which slots pass, told by their metadata; None where that cannot be told, or not yet."""
        tests = None if condition.tree is None else asked_of(condition.tree)
        if tests is None or self._tests <= _BEFORE:
            return None
        columns = self._current(rows, live)
        found = None if columns is None else columns.classes(tests)
        if found is None:
            return None
        of_slot, documents = found
        passes = np.zeros(len(documents), np.bool_)
        for start in range(0, len(documents), WINDOW):
            part = json.dumps(documents[start : start + WINDOW], ensure_ascii=False)
            passes[[start + at for at in self._records.passing(part, condition.sql, condition.params)]] = True
        return passes[of_slot]

    def _current(self, rows: Ints, live: Bools) -> Columns | None:
        """The columns of all slots; None while they are being read, or where there are too many."""
        if self._columns is None and self._reading is None:
            slots, alive = rows.copy(), live.copy()
            self._reading = promised(lambda: self._read(Columns(), slots, alive))
        if self._columns is None and self._reading is not None:
            if not self._reading.done():
                return None
            reading, self._reading = self._reading, None
            try:
                self._columns = reading.plain_result()
            except AgentMemError:  # whatever it was, the filter itself meets it next
                return None
        columns = self._columns
        if columns is not None and len(columns) < len(rows):
            known = len(columns)
            self._read(columns, rows[known:], live[known:])
        if columns is not None and columns.overflowed:
            self._columns, self._tests = None, -(10**9)  # not again, for as long as the arena is held
        return self._columns

    def _read(self, columns: Columns, rows: Ints, live: Bools) -> Columns:
        there = rows[live]
        rows = np.where(live, rows, 0)  # a record that has changed is in a dead slot, too
        spans = _spans(there)
        if len(there) <= _FEW or spans is None:
            columns.extend(rows, self._records.metadata_of(there.tolist()))
        else:
            read = self._records.metadata_between
            columns.extend(rows, (item for low, high in spans for item in read(low, high)))
        return columns


def _spans(rows: Ints) -> list[tuple[int, int]] | None:
    """Ranges ``low < row <= high`` of the table that hold all of the rows; None if too much else lies between."""
    if not len(rows):
        return []
    rows = np.sort(rows)
    if rows[-1] - rows[0] >= _DENSE * len(rows):
        return None
    edges = [int(rows[0]) - 1, *rows[WINDOW - 1 : -1 : WINDOW].tolist(), int(rows[-1])]
    return list(pairwise(edges))


def _array(rows: list[int]) -> Ints:
    return np.array(rows, np.int64)
