"""Memories as lines of a file that another store takes: what they say, and what it takes to find them by meaning."""

from __future__ import annotations

from collections.abc import Iterator

from agentmem import Memory, MemoryRecord
from agentmem.cli.streams import json_text
from agentmem.client import embedded_by

_GROUP = 200
_WITH_DATA = 8


def lines(memory: Memory, records: Iterator[MemoryRecord]) -> Iterator[str]:
    """A line of JSON for each record. What was not embedded by its content says by what: the texts, or the vectors that
    were given, in base64."""
    for group in _groups(records):
        other = [record.id for record in group if record.embedding in ("texts", "given")]
        found = dict(zip(other, memory.vectors(other), strict=True)) if other else {}
        for record in group:
            held = found.get(record.id)
            line = {**record.to_dict(), **embedded_by(held)}
            yield json_text(line)


def _groups(records: Iterator[MemoryRecord]) -> Iterator[list[MemoryRecord]]:
    """The records some at a time: fewer of those with data, which may be large."""
    group, with_data = list[MemoryRecord](), 0
    for record in records:
        group.append(record)
        with_data += record.data is not None
        if len(group) == _GROUP or with_data == _WITH_DATA:
            yield group
            group, with_data = [], 0
    if group:
        yield group
