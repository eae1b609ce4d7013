"""Search results as a text for a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentmem.models import MemoryRecord


def estimate_tokens(text: str) -> int:
    """An upper guess at the tokens of a text: one per three bytes of UTF-8, where English averages four to five."""
    return -(-len(text.encode()) // 3)


def render(records: Sequence[MemoryRecord], max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """As many of the records as fit, chosen in the given order (best first), shown oldest first.

    Repeated texts are shown once. A record that does not fit is skipped, so that a long one does not keep out the rest.
    The whole text, counted at once, stays within the budget.
    """
    seen = set[str]()
    chosen = list[MemoryRecord]()
    for record in records:
        same = " ".join(record.content.split()).casefold()
        if same in seen:
            continue
        if count_tokens(_text([*chosen, record])) <= max_tokens:
            seen.add(same)
            chosen.append(record)
    return _text(chosen)


def _text(records: Sequence[MemoryRecord]) -> str:
    return "\n".join(_line(record) for record in sorted(records, key=lambda r: (r.occurred_at or r.created_at, r.id)))


def _line(record: MemoryRecord) -> str:
    when = (record.occurred_at or record.created_at).date().isoformat()
    who = f"{record.role}: " if record.role else ""
    return f"- [{when}] {who}{record.content}"
