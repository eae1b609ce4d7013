"""The chunks of values, out of a damaged database; see ``salvage``. Their files stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from agentmem.stores import chunkupkeep
from agentmem.stores.connection import Connection, Row
from agentmem.stores.rescue import largest, ranges, whole

_TYPES = (int, int, int, bytes, int, str, int, bytes, (str, type(None)), (bytes, type(None)))
_COLUMNS = "n, user, space, hash, size, codec, stored, checksum, file, body"


def copy(old: Connection, new: Connection, last: int, write: Callable[[str, Iterable[Row]], None]) -> list[str]:
    """Copy chunks and what refers to them, for the bodies that are there, of records up to row ``last``.

    Returns what is not as it was, in words.
    """
    if not whole(old, "PRAGMA table_info(chunks)"):
        return []
    end = largest(old, "SELECT seq FROM sqlite_sequence WHERE name = 'chunks'", "SELECT max(n) FROM chunks")
    found = ranges(old, f"SELECT {_COLUMNS} FROM chunks WHERE n > ? AND n <= ?", end)
    write(f"INSERT OR IGNORE INTO chunks ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", filter(_is_whole, found))
    sql = "SELECT row, version, start, chunk FROM value_chunks WHERE row > ? AND row <= ?"
    write(
        "INSERT OR IGNORE INTO value_chunks (row, version, start, chunk) VALUES (?,?,?,?)",
        (ref for ref in ranges(old, sql, last) if all(isinstance(number, int) for number in ref)),
    )
    new.execute("BEGIN IMMEDIATE")
    new.execute(
        "DELETE FROM value_chunks WHERE NOT EXISTS (SELECT 1 FROM bodies b WHERE b.row = value_chunks.row "
        "AND b.version = value_chunks.version AND b.part = 0) OR chunk NOT IN (SELECT n FROM chunks)"
    )
    new.execute(
        "INSERT OR IGNORE INTO loose_chunks SELECT n FROM chunks WHERE n NOT IN (SELECT chunk FROM value_chunks)"
    )
    new.execute("DELETE FROM sqlite_sequence WHERE name = 'chunks'")
    new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('chunks', ?)", (end,))
    new.execute("COMMIT")
    return list(chunkupkeep.loose_ends(new))


def _is_whole(row: tuple[Any, ...]) -> bool:
    return all(isinstance(value, kind) for value, kind in zip(row, _TYPES, strict=True))
