"""The nearest records, where an index finds the nearest vectors: a record may have many of those."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentmem.types.ports import Mask, Nearest, VectorIndex

if TYPE_CHECKING:
    from agentmem.types.ports import Vector

_WIDER = 4
"""Times as many vectors as before, where a few records have most of the nearest."""


def nearest_records(index: VectorIndex, vector: Vector, k: int, mask: Mask) -> tuple[Nearest, bool]:
    """Vectors near to ``vector``, of at least ``k`` records, fewer only if there are fewer; and whether those are all
    that the mask allows.

    Where every record has one vector that is one search for the ``k`` nearest.
    """
    asked = k
    while True:
        near = index.search(vector, asked, mask)
        exhausted = len(near.rows) < asked
        if exhausted or len(set(near.rows.tolist())) >= k:
            return near, exhausted
        asked *= _WIDER
