"""Filters of a large scope: which of its slots a caller's filter admits, worked out by libSQL and kept.

A slot's record never changes, a changed record gets another slot: so what a filter says of a slot holds for as long as
there is the slot, and only those that were added since have to be looked at again.

Many records have the same metadata. Once several filters were asked for, metadata are interned, and a filter on them is
tested on each text once instead of on each record; where nearly all texts differ that would bring nothing, and is left.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from agentmem.filters.sqlite import CompiledFilter
from agentmem.stores.records import WINDOW, Records
from agentmem.stores.rows import ScopeKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints

_KEPT = 64
"""Filters; each takes a bit for every slot."""
_FEW = 2_000
"""Rows that are asked for one by one."""
_BEFORE = 2
"""Filters that are tested on every record before metadata are interned, which takes as long as two of them."""
_MOST_TEXTS = 50_000
"""Different texts that are interned: some 10 MB."""
_DENSE = 4
"""Rows of the table for each of the scope's, up to which it is read from end to end: an index takes twice as long."""
_OF_RECORD = re.compile(r"\br\.(?!metadata\b)")
"""A filter's SQL that asks for more of a record than its metadata. Nothing of the filter itself is in the SQL."""


class Masks:
    """The filters of one wall that were used last. Not thread-safe."""

    def __init__(self, records: Records, key: Callable[[], ScopeKey | None]) -> None:
        """``key``: the wall as a scope, as of now."""
        self._records = records
        self._key = key
        self._held: OrderedDict[CompiledFilter, tuple[int, NDArray[np.uint8]]] = OrderedDict()
        self._texts: _Texts | None = None
        self._tests = 0

    @property
    def nbytes(self) -> int:
        held = sum(bits.nbytes for _, bits in self._held.values())
        return held if self._texts is None else held + self._texts.nbytes

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
        """Keep no texts: something was erased that may be among them."""
        self._texts = None

    def _tested(self, condition: CompiledFilter, rows: Ints, live: Bools, known: int) -> Bools:
        new = rows[known:]
        if len(new) <= _FEW:
            return np.isin(new, _array(self._records.rows_among(new.tolist(), condition.sql, condition.params)))
        self._tests += 1
        texts = self._interned(rows, live) if not _OF_RECORD.search(condition.sql) else None
        if texts is not None:
            return texts.passing(condition)[known:]
        spans = _spans(new[live[known:]])
        if spans is None:
            key = self._key()
            found = [] if key is None else list(self._records.matching(key, condition.sql, condition.params))
        else:
            read = self._records.rows_between
            found = [row for low, high in spans for row in read(condition.sql, condition.params, low, high)]
        return np.isin(new, _array(found))

    def _interned(self, rows: Ints, live: Bools) -> _Texts | None:
        """The metadata of all slots; None where that is not worth its while."""
        if self._texts is None and self._tests > _BEFORE:
            self._texts = _Texts(self._records, self._key)
        if self._texts is not None and not self._texts.extend(rows, live):
            self._tests = -(10**9)  # not again, for as long as the arena is held
            self._texts = None
        return self._texts


class _Texts:
    """The metadata of slots as numbers of texts."""

    def __init__(self, records: Records, key: Callable[[], ScopeKey | None]) -> None:
        self._records = records
        self._key = key
        self._number = dict[str | None, int]()
        self._of_slot: NDArray[np.int32] = np.empty(0, np.int32)
        """-1 for a slot whose record is gone."""

    @property
    def nbytes(self) -> int:
        return self._of_slot.nbytes + 200 * len(self._number)

    def extend(self, rows: Ints, live: Bools) -> bool:
        """Take up slots that are not known yet; False if there are too many different texts."""
        known, number = len(self._of_slot), self._number
        held, numbers = list[int](), list[int]()
        for row, text in self._read(rows[known:][live[known:]]):
            held.append(row)
            numbers.append(number.setdefault(text, len(number)))
            if len(number) > _MOST_TEXTS:
                return False
        there, new = np.array(held, np.int64), rows[known:]
        of_new = np.full(len(new), -1, np.int32)
        if held:
            order = np.argsort(there)
            at = order[np.minimum(np.searchsorted(there, new, sorter=order), len(there) - 1)]
            of_new = np.where(there[at] == new, np.array(numbers, np.int32)[at], np.int32(-1))
        self._of_slot = np.concatenate([self._of_slot, of_new])
        return True

    def passing(self, condition: CompiledFilter) -> Bools:
        """The slots whose metadata pass."""
        texts, passes = list(self._number), np.zeros(len(self._number) + 1, np.bool_)
        for start in range(0, len(texts), WINDOW):
            found = self._records.passing(json.dumps(texts[start : start + WINDOW]), condition.sql, condition.params)
            passes[[start + at for at in found]] = True
        return passes[self._of_slot]

    def _read(self, rows: Ints) -> Iterable[tuple[int, str | None]]:
        spans = _spans(rows)
        if len(rows) <= _FEW or spans is None:
            return self._records.metadata_of(rows.tolist())
        return (item for low, high in spans for item in self._records.metadata_between(low, high))


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
