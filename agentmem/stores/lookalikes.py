"""Names and ids of an old store that no new one would have: two that look the same, and ends that nobody can see."""

from __future__ import annotations

from collections.abc import Iterator

from agentmem.stores.records import WINDOW, Records
from agentmem.types.spelling import composed, spellings, trimmed


def lookalikes(records: Records) -> Iterator[str]:
    """A line for each, beginning with ``name`` or ``id``. Nothing is wrong with them, but callers should know."""
    for table, column, number, what in (("names", "value", "n", "name"), ("records", "id", "row", "id")):
        at = 0
        while True:
            sql = f"SELECT {number}, {column} FROM {table} WHERE {number} > ? ORDER BY {number} LIMIT {WINDOW}"
            rows = records.db.execute(sql, (at,))
            for _, value in rows:
                if isinstance(value, str):  # what was erased has no name
                    yield from _about(records, table, column, what, value)
            if len(rows) < WINDOW:
                break
            at = rows[-1][0]


def _about(records: Records, table: str, column: str, what: str, value: str) -> Iterator[str]:
    if composed(value) != value:
        for other in spellings(value)[1:]:
            if records.db.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", (other,)):
                yield (
                    f"{what} {value!a} and {other!a} look the same and are kept apart: "
                    "each is found by its exact spelling only"
                )
                break
    if trimmed(value) != value:
        yield (
            f"{what} {value!a} has something at an end that nobody can see; it is accepted no more, "
            "so read its records with user_id=ALL, add them under another one and erase them"
        )
