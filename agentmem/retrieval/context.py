"""Search results as a text for a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentmem.types.records import MemoryRecord, SearchHit


def estimate_tokens(text: str) -> int:
    """An upper guess at the tokens of a text: one per three bytes of UTF-8, where English averages four to five."""
    return -(-len(text.encode()) // 3)


def choose(hits: Sequence[SearchHit], max_tokens: int, count_tokens: Callable[[str], int]) -> list[int]:
    """Which of the hits to show, as positions: as many as fit, in the given order (best first).

    Repeated texts are shown once. A record that does not fit is skipped, so that a long one does not keep out the rest.
    The whole text, counted at once, stays within the budget.
    """
    seen = set[str]()
    chosen, positions = list[MemoryRecord](), list[int]()
    for position, hit in enumerate(hits):
        same = " ".join(hit.content.split()).casefold()
        if same in seen:
            continue
        if count_tokens(render([*chosen, hit.record])) <= max_tokens:
            seen.add(same)
            chosen.append(hit.record)
            positions.append(position)
    return positions


def render(records: Sequence[MemoryRecord]) -> str:
    """The records as lines, oldest first."""
    return "\n".join(_line(record) for record in sorted(records, key=lambda r: (r.occurred_at or r.created_at, r.id)))


def _line(record: MemoryRecord) -> str:
    when = (record.occurred_at or record.created_at).date().isoformat()
    who = f"{record.role}: " if record.role else ""
    return f"- [{when}] {who}{record.content}"
