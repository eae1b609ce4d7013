"""Reading a database that is damaged, around what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentmem.stores import documents
from agentmem.stores.connection import Connection, Row
from agentmem.types.data import parsed
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


def bodies(db: Connection, row: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Versions of a record's body, with the parts that can be read: of its data all, or none."""
    numbers = dict[int, list[int]]()
    for version, part in whole(db, f"SELECT version, part FROM bodies WHERE row = {int(row)} ORDER BY version, part"):
        if isinstance(version, int) and isinstance(part, int):
            numbers.setdefault(version, []).append(part)
    for version, parts in numbers.items():
        texts = {part: _part(db, row, version, part) for part in parts}
        beside = [(part, text) for part, text in texts.items() if part < 0 and text is not None]
        if _is_data(texts):
            whole_text = "".join(str(text) for part, text in texts.items() if part > 0) or texts.get(0)
            beside += [] if whole_text is None else documents.parts_of(whole_text).items()
        if beside:
            yield version, beside


def _part(db: Connection, row: int, version: int, part: int) -> str | None:
    sql = "SELECT CAST(body AS BLOB), checksum FROM bodies WHERE row = ? AND version = ? AND part = ?"
    try:
        found = db.execute(sql, (row, version, part))
    except StoreError:
        return None
    if not found or not isinstance(found[0][0], bytes):
        return None
    return documents.text_of(row, part, *found[0])


def _is_data(texts: dict[int, str | None]) -> bool:
    """Whether parts hold all of some data, or none at all. Part 0 follows from the rest, where there is any."""
    numbers = [part for part in texts if part > 0]
    if numbers != list(range(1, len(numbers) + 1)) or any(texts[part] is None for part in numbers):
        return False
    text = "".join(str(texts[part]) for part in numbers) if numbers else texts.get(0)
    if text is None:
        return 0 not in texts
    try:
        parsed(text)
    except StoreError:
        return False
    return True
