"""Which records are hot and which are warm, in 16 bytes for each: there may be a hundred thousand of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from agentmem.types.enums import Tier

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints


class TierMap(Mapping[int, Tier]):
    """The tier of each record by row, those first that are to be held first: the hot ones, then the warm ones."""

    def __init__(self, rows: Ints | None = None, hot: int = 0) -> None:
        """``rows``, each of them once: int64, of which the first ``hot`` are hot."""
        self.rows: Ints = np.empty(0, np.int64) if rows is None else rows
        self.hot = hot
        self._order = np.argsort(self.rows)  # as it is: a narrower one is copied whenever something is looked for

    @classmethod
    def of(cls, tiers: Mapping[int, Tier]) -> TierMap:
        hot = [row for row, tier in tiers.items() if tier == "hot"]
        warm = [row for row, tier in tiers.items() if tier == "warm"]
        return cls(np.array([*hot, *warm], np.int64), len(hot))

    @property
    def warm(self) -> int:
        return len(self.rows) - self.hot

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self._order.nbytes

    def only(self, rows: Ints) -> TierMap:
        """Of these alone."""
        chosen = np.isin(self.rows, rows)
        return TierMap(self.rows[chosen], int(np.count_nonzero(chosen[: self.hot])))

    def positions(self, rows: Ints) -> Ints:
        """Where each of the rows stands in ``rows``; -1: nowhere."""
        if not len(self.rows):
            return np.full(len(rows), -1, np.int64)
        at = np.searchsorted(self.rows, rows, sorter=self._order)
        found = self._order[np.minimum(at, len(self.rows) - 1)]
        there: Bools = self.rows[found] == rows
        return np.where(there, found, -1)

    @override
    def __getitem__(self, row: int) -> Tier:
        at = int(self.positions(np.array([row], np.int64))[0])
        if at < 0:
            raise KeyError(row)
        return "hot" if at < self.hot else "warm"

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())

    @override
    def __len__(self) -> int:
        return len(self.rows)
