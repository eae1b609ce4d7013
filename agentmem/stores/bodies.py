"""What is too large for a row of ``records``: by row, by the version that brought it, in parts.

The column ``body`` names the version whose parts are the record's, ``body_size`` their bytes. Part ``TEXTS`` are the
texts that were embedded in the place of the content; the parts from 0 on are the record's data. A version has all of
its parts, so that one number is enough: a change of some carries the others over (``carry``). The last ``KEPT``
versions of a record stay, for its history.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.rows import size_of

TEXTS = -1
KEPT = 10


def write(db: Connection, brought: Iterable[tuple[int, int, Mapping[int, str]]]) -> None:
    """Store parts that changes bring: ``(row, version, parts)``. What a record has too many of goes."""
    rows = [(row, version, part, body) for row, version, parts in brought for part, body in parts.items()]
    db.executemany("INSERT OR REPLACE INTO bodies (row, version, part, body) VALUES (?,?,?,?)", rows)
    changed = dict.fromkeys(row for row, version, _, _ in rows if version > KEPT)
    db.executemany(
        "DELETE FROM bodies WHERE row = ? AND version < (SELECT min(version) FROM "
        f"(SELECT DISTINCT version FROM bodies WHERE row = ? ORDER BY version DESC LIMIT {KEPT}))",
        [(row, row) for row in changed],
    )


def carry(db: Connection, row: int, before: int, version: int, *, texts: bool) -> None:
    """Have a version go on with what it does not change: with the texts, or else with the data."""
    compare = "=" if texts else "!="
    db.execute(
        f"INSERT INTO bodies SELECT row, ?, part, body FROM bodies WHERE row = ? AND version = ? AND part {compare} ?",
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
        found.update((row, json.loads(body)) for row, body in db.execute(sql, bound))
    return found


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
