"""What is too large for a row of ``records``: by row, by the version that brought it, in parts.

The column ``body`` names the version whose parts are the record's, ``body_size`` their bytes. Part ``TEXTS`` are the
texts that were embedded in the place of the content; the parts from 0 on are the record's data. A version has all of
its parts, so that one number is enough: a change of some carries the others over (``carry``). The last ``KEPT``
versions of a record stay, for its history. Each part has a checksum.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import TypeVar

from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.rows import size_of

T = TypeVar("T")
TEXTS = -1
KEPT = 10
PIECE = 262_144
"""Characters that a statement moves, about: libSQL lets no other thread run meanwhile."""


def write(db: Connection, brought: Iterable[tuple[int, int, Mapping[int, str]]]) -> None:
    """Store parts that changes bring: ``(row, version, parts)``. What a record has too many of goes."""
    rows = [
        (row, version, part, body, checksum(row, part, body))
        for row, version, parts in brought
        for part, body in parts.items()
    ]
    for group in groups(rows, lambda row: len(row[3])):
        db.insert("INSERT OR REPLACE INTO bodies (row, version, part, body, checksum) VALUES {}", group)
    keep_last(db, dict.fromkeys(row[0] for row in rows if row[1] > KEPT))


def keep_last(db: Connection, rows: Iterable[int]) -> None:
    """Remove what these records have beyond the last versions."""
    db.executemany(
        "DELETE FROM bodies WHERE row = ? AND version < (SELECT min(version) FROM "
        f"(SELECT DISTINCT version FROM bodies WHERE row = ? ORDER BY version DESC LIMIT {KEPT}))",
        [(row, row) for row in rows],
    )


def checksum(row: int, part: int, body: str) -> bytes:
    """Of one part of a record (128 bits); equal parts have equal ones, whatever the version."""
    return blake2b(f"{row} {part} {body}".encode(), digest_size=16).digest()


def groups(rows: Sequence[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The rows in groups that one statement moves in a moment."""
    group, used = list[T](), 0
    for row in rows:
        if group and (used + size(row) > PIECE or len(group) == CHUNK):
            yield group
            group, used = [], 0
        group.append(row)
        used += size(row)
    if group:
        yield group


def carry(db: Connection, row: int, before: int, version: int, *, texts: bool) -> None:
    """Have a version go on with what it does not change: with the texts, or else with the data."""
    compare = "=" if texts else "!="
    db.execute(
        "INSERT INTO bodies (row, version, part, body, checksum) SELECT row, ?, part, body, checksum FROM bodies "
        f"WHERE row = ? AND version = ? AND part {compare} ?",
        (version, row, before, TEXTS),
    )


def has_data(db: Connection, row: int, version: int) -> bool:
    """Whether a version has any data."""
    return bool(db.execute("SELECT 1 FROM bodies WHERE row = ? AND version = ? AND part >= 0 LIMIT 1", (row, version)))


def texts_of(db: Connection, places: Sequence[tuple[int, int]]) -> dict[int, list[str]]:
    """The texts of records at versions, ``(row, version)`` each, by row; of those that have any."""
    found = dict[int, list[str]]()
    for start in range(0, len(places), CHUNK):
        chunk = places[start : start + CHUNK]
        sql = (
            f"WITH wanted (row, version) AS (VALUES {','.join(['(?,?)'] * len(chunk))}) SELECT b.row, b.body "
            "FROM wanted w CROSS JOIN bodies b ON b.row = w.row AND b.version = w.version WHERE b.part = ?"
        )
        bound = (*(number for place in chunk for number in place), TEXTS)
        for row, body in db.execute(sql, bound):
            with suppress(ValueError):  # damaged, as its checksum tells
                found[row] = json.loads(body)
    return found


def texts_in(body: str) -> list[str]:
    """The texts of a part ``TEXTS``."""
    return json.loads(body)


def beside(content: str, texts: Sequence[str]) -> str:
    """What texts say that the content does not."""
    return "\n".join(text for text in texts if text not in content)


def as_part(texts: Sequence[str]) -> dict[int, str]:
    """Texts as they are stored; none are no part."""
    return {TEXTS: json.dumps(list(texts), ensure_ascii=False)} if texts else {}


def size(parts: Mapping[int, str]) -> int:
    """Bytes of parts, as they count for the record's size."""
    return sum(map(size_of, parts.values()))


def erase(db: Connection, rows: Iterable[int]) -> None:
    """Remove all versions of all parts of these records."""
    db.executemany("DELETE FROM bodies WHERE row = ?", [(row,) for row in rows])
