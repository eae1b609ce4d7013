"""One answer of several shards', as one store that held everything would give it."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from agentmem.types.errors import InvalidInputError
from agentmem.types.records import MemoryRecord, SearchHit, SearchResults, SearchTrace
from agentmem.types.reports import EraseReport, Group


class ClusterResults(SearchResults):
    """Hits of several shards. ``missing`` names the shards that did not answer, whose hits are not among them."""

    missing: tuple[str, ...] = ()


def hits(
    parts: Mapping[str, SearchResults],
    home: Callable[[str | None], str],
    rank: str,
    limit: int,
    offset: int,
    missing: Sequence[str],
) -> ClusterResults:
    """The best of all, ties by id. A user who is on his way to another shard is in two: each record counts once, as it
    is at ``home``."""
    found = dict[str, SearchHit]()
    for shard, part in parts.items():
        for hit in part:
            if hit.id not in found or home(hit.record.user_id) == shard:
                found[hit.id] = hit
    ranked = sorted(found.values(), key=lambda hit: (-_worth(hit, rank), hit.id))
    merged = ClusterResults(
        ranked[offset : offset + limit],
        _trace([part.trace for part in parts.values() if part.trace is not None]),
        sum(part.skipped_archived for part in parts.values()),
    )
    merged.missing = tuple(missing)
    return merged


def _worth(hit: SearchHit, rank: str) -> float:
    return hit.score if rank == "score" or hit.similarity is None else hit.similarity


def _trace(traces: Sequence[SearchTrace]) -> SearchTrace | None:
    if not traces:
        return None
    stages = dict.fromkeys(stage for trace in traces for stage in trace.milliseconds)
    return SearchTrace(
        tuple(dict.fromkeys(engine for trace in traces for engine in trace.engines)),
        sum(trace.candidates for trace in traces),
        all(trace.cached for trace in traces),
        {stage: max(trace.milliseconds.get(stage, 0.0) for trace in traces) for stage in stages},
    )


def erased(parts: Sequence[EraseReport]) -> EraseReport:
    """What went everywhere, and what is still to go anywhere."""
    pending = dict.fromkeys(name for part in parts for name in part.pending)
    backups = tuple(backup for part in parts for backup in part.backups)
    return EraseReport(sum(part.erased for part in parts), tuple(pending), backups)


def groups(parts: Sequence[Sequence[Group]]) -> list[Group]:
    """Groups of the same name and user are one; the one with the latest event comes first, then they go by name."""
    found = dict[tuple[str | None, str | None], Group]()
    for group in (group for part in parts for group in part):
        known = found.get((group.name, group.user_id))
        if known is not None:
            group = replace(
                known,
                records=known.records + group.records,
                first_at=min(known.first_at, group.first_at),
                last_at=max(known.last_at, group.last_at),
            )
        found[group.name, group.user_id] = group
    return sorted(found.values(), key=lambda group: (-group.last_at.timestamp(), group.name or ""))


def distinct(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """Every value once, in the order of the first shard that has it."""
    found = dict[str, Any]()
    for value in (value for part in parts for value in part):
        found.setdefault(json.dumps(value, sort_keys=True, default=str), value)
    return list(found.values())


def one_each(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """For each position what any shard has there."""
    return [
        next((each for each in column if each is not None and each is not False), column[0])
        for column in zip(*parts, strict=True)
    ]


# -- pages -------------------------------------------------------------------------------------------------------------


def ordered(parts: Mapping[str, Sequence[MemoryRecord]], by: str, order: str) -> list[tuple[str, MemoryRecord]]:
    """The records of several pages with the shard of each, in the order of the pages; ties by id."""

    def place(one: tuple[str, MemoryRecord]) -> tuple[float, str]:
        at = _instant(one[1], by).timestamp()
        return (-at if order == "newest" else at), one[1].id

    listed = [[(shard, record) for record in records] for shard, records in parts.items()]
    return list(heapq.merge(*listed, key=place))


def _instant(record: MemoryRecord, by: str) -> datetime:
    if by == "updated":
        return record.updated_at
    if by == "event" and record.occurred_at is not None:
        return record.occurred_at
    return record.created_at


def cursor_of(cursors: Mapping[str, str | None]) -> str | None:
    """One cursor for those of all shards; None where none of them goes on. ``""`` is the beginning."""
    going = {shard: cursor for shard, cursor in cursors.items() if cursor is not None}
    return base64.urlsafe_b64encode(json.dumps(going).encode()).decode() if going else None


def cursors_of(cursor: str | None, shards: Sequence[str]) -> dict[str, str]:
    """Those of the shards that go on. Raises ``InvalidInputError``."""
    if cursor is None:
        return dict.fromkeys(shards, "")
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return {str(shard): str(each) for shard, each in found.items()}
    except (ValueError, AttributeError) as exc:
        raise InvalidInputError(f"cursor={cursor!r} is none that a page of a cluster gave", field="cursor") from exc
