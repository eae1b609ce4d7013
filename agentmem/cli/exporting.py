"""Memories as lines of a file that another store takes: what they say, and what it takes to find them by meaning."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import islice
from typing import Any

from agentmem import Memory, MemoryRecord, Vectors

_GROUP = 200


def lines(memory: Memory, records: Iterator[MemoryRecord]) -> Iterator[str]:
    """A line of JSON for each record. What was not embedded by its content says by what: the texts, or the vectors that
    were given, in base64."""
    while group := list(islice(records, _GROUP)):
        other = [record.id for record in group if record.embedding in ("texts", "given")]
        found = dict(zip(other, memory.vectors(other), strict=True)) if other else {}
        for record in group:
            held = found.get(record.id)
            line = {**record.to_dict(), **({} if held is None else _beside(held))}
            yield json.dumps(line, ensure_ascii=False)


def _beside(held: Vectors) -> dict[str, Any]:
    if held.embedding == "texts":
        return {"embed": list(held.texts)}
    packed = [b64encode(vector.astype("<f4").tobytes()).decode() for vector in held.vectors]
    return {"vector": packed[0] if len(packed) == 1 else packed} if held.embedding == "given" else {}
