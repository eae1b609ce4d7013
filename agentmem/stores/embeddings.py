"""The tables of embeddings: for each model the store ever had one with the first of every record, and one for the rest
of those that have several, so that the one that all records are in stays as narrow as it can be.

A record's embeddings come and go as one ``bytes`` (see ``types.forms``), with its column ``vectors``, the code.
Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agentmem.stores import meta
from agentmem.stores.connection import Connection
from agentmem.stores.schema import ERASED, more_embeddings
from agentmem.types.errors import InvalidInputError
from agentmem.types.forms import count_of

SINGLE = (1, -1)
"""Codes of records that have one embedding and no texts: all of them is in the first table."""


def create(db: Connection, generation: int) -> None:
    """Make the tables of a generation."""
    db.execute(f"CREATE TABLE embeddings_{generation} (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
    more_embeddings(db, f"embeddings_{generation}")


def insert(db: Connection, table: str, new: Sequence[tuple[int, int, bytes]]) -> None:
    """Store embeddings of new records, ``(row, code, embeddings)``."""
    _check_given(db, new)
    parts = [(row, part, vector) for row, code, held in new for part, vector in enumerate(_split(held, code))]
    db.insert(f"INSERT INTO {table} VALUES {{}}", [(row, vector) for row, part, vector in parts if not part])
    db.insert(f"INSERT INTO more_{table} VALUES {{}}", [each for each in parts if each[1]])


def replace(db: Connection, table: str, changed: Sequence[tuple[int, int, bytes]]) -> None:
    """Store embeddings of records in the place of those that they have, ``(row, code, embeddings)``."""
    remove(db, [table], [row for row, _, _ in changed])
    insert(db, table, changed)


def put(db: Connection, table: str, held: dict[int, tuple[int, bytes]]) -> None:
    """The same by row, for a generation in the making; records that were erased meanwhile get none."""
    erased = {row for (row,) in db.select_in(f"SELECT row FROM records WHERE row IN ({{}}) AND state = {ERASED}", held)}
    replace(db, table, [(row, code, parts) for row, (code, parts) in held.items() if row not in erased])


def remove(db: Connection, tables: Iterable[str], rows: Sequence[int]) -> None:
    """Remove the embeddings of records from tables, named by the first one of each generation."""
    for table in tables:
        for name in (table, f"more_{table}"):
            db.execute_in(f"DELETE FROM {name} WHERE row IN ({{}})", rows)


def remove_some(db: Connection, table: str, most: int) -> None:
    """Remove that many embeddings of a generation that is no longer used, and at last its tables."""
    for name in (f"more_{table}", table):
        found = db.execute(f"SELECT rowid FROM {name} LIMIT ?", (most,))
        db.executemany(f"DELETE FROM {name} WHERE rowid = ?", found)
        if len(found) == most:
            return
    db.execute(f"DROP TABLE more_{table}")
    db.execute(f"DROP TABLE {table}")


def further(db: Connection, table: str, rows: Iterable[int]) -> dict[int, bytes]:
    """The embeddings after the first of those of the records that have any."""
    sql = f"SELECT row, vector FROM more_{table} WHERE row IN ({{}}) ORDER BY row, part"
    found = dict[int, list[bytes]]()
    for row, vector in db.select_in(sql, rows):
        found.setdefault(row, []).append(vector)
    return {row: b"".join(parts) for row, parts in found.items()}


def _split(held: bytes, code: int) -> Iterator[bytes]:
    count = count_of(code)
    if count <= 1:
        return iter((held,) if count else ())
    width = len(held) // count
    return (held[start : start + width] for start in range(0, len(held), width))


def _check_given(db: Connection, new: Sequence[tuple[int, int, bytes]]) -> None:
    """Vectors of a caller's were checked against the model of that time, which the store may have left since."""
    given = [(code, held) for _, code, held in new if code < 0]
    if given:
        dim = int(meta.get(db, meta.DIM) or 0)
        for code, held in given:
            if len(held) != -code * dim * 4:
                raise InvalidInputError(
                    f"vector has {len(held) // (-code * 4):,} numbers, and the store has moved to a model of {dim:,}; "
                    "give one of that",
                    field="vector",
                )


def count_given(db: Connection) -> int:
    """How many records there are, in whatever state, whose embeddings were given."""
    return db.execute("SELECT count(*) FROM records WHERE vectors < 0")[0][0]
