"""Reading a database that is damaged, around what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentmem.stores.connection import Connection, Row
from agentmem.types.errors import StoreError

_WINDOW = 500


def ranges(db: Connection, sql: str, last: int) -> Iterator[Row]:
    """Rows of a statement over ``low < key <= high``, without those that cannot be read."""
    todo = [(low, min(low + _WINDOW, last)) for low in range(0, last, _WINDOW)][::-1]
    while todo:
        low, high = todo.pop()
        try:
            rows = db.execute(sql, (low, high))
        except StoreError:
            if high - low > 1:
                middle = (low + high) // 2
                todo += [(middle, high), (low, middle)]
            continue
        yield from rows


def whole(db: Connection, sql: str) -> Sequence[Row]:
    """Rows of a statement; none if any of them cannot be read."""
    try:
        return db.execute(sql)
    except StoreError:
        return []


def largest(db: Connection, *queries: str) -> int:
    """The largest of what can be read."""
    found = [rows[0][0] for rows in (whole(db, sql) for sql in queries) if rows]
    return max((n for n in found if isinstance(n, int)), default=0)
