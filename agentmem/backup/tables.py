"""The store's tables as an archive has them.

Three things are added to what the store has. A column that holds text or bytes becomes two, the second called
``NAME_bytes``. Rows that belong to records have a ``round``: what was read later of a record takes the place of what
was read before. And names stand with each user who has them, under that user's key.

Of what is gone two tables tell: ``erased`` has the rows of records that were erased since the backup before, and
``present``, where any were removed altogether, the ranges of all rows that there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from agentmem.archive.tables import ColumnType, Table
from agentmem.stores.copying import EITHER, Columns
from agentmem.types.errors import ArchiveCorruptError

NAMES = Columns("names", "names", ("n", "value"), ("INTEGER", "TEXT"))
NOTED = Columns("meta", "meta", ("key", "number", "value"), ("TEXT", "INTEGER", "TEXT"))
SEQUENCES = Columns("sequences", "", ("name", "seq"), ("TEXT", "INTEGER"))
TOUCHED = Columns("touched", "", ("row", "round"), ("INTEGER", "INTEGER"))
ERASED = Columns("erased", "", ("row",), ("INTEGER",))
PRESENT = Columns("present", "", ("first", "last"), ("INTEGER", "INTEGER"))

CHUNKS = Columns(
    "chunks",
    "chunks",
    ("n", "user", "space", "hash", "size", "codec", "stored", "checksum", "body"),
    ("INTEGER", "INTEGER", "INTEGER", "BLOB", "INTEGER", "TEXT", "INTEGER", "BLOB", "BLOB"),
)
"""Chunks of values, wherever they lie in the store. Without a ``body``, one that could not be read."""

_TYPES: dict[str, ColumnType] = {"INTEGER": "int", "REAL": "float", "TEXT": "text", "BLOB": "bytes"}
_ZONES = ("row", "seq", "at", "created_at")


def table_of(columns: Columns, *, rounds: bool = False) -> Table:
    """The archive's table for one of the store's; with ``rounds``, for rows that belong to records."""
    made = list[tuple[str, ColumnType]]()
    for name, declared in zip(columns.columns, columns.types, strict=True):
        made.append((name, _TYPES[declared.upper()]))
        if (columns.name, name) in EITHER:
            made.append((f"{name}_bytes", "bytes"))
    if rounds:
        made.append(("round", "int"))
    return Table(columns.name, tuple(made), tuple(name for name, kind in made if kind == "int" and name in _ZONES))


def to_archive(columns: Columns, rows: Iterable[Sequence[Any]], *rounds: int) -> list[tuple[Any, ...]]:
    """Rows of the store's as the archive has them."""
    places = _either(columns)
    if not places:
        return [(*row, *rounds) for row in rows]
    made = list[tuple[Any, ...]]()
    for row in rows:
        split = row
        for place in places:
            value = row[place]
            two = (None, value) if isinstance(value, bytes) else (value, None)
            split = (*split[:place], *two, *split[place + 1 :])
        made.append((*split, *rounds))
    return made


@cache
def _either(columns: Columns) -> tuple[int, ...]:
    """Where the columns are that become two, the last one first."""
    places = [place for place, name in enumerate(columns.columns) if (columns.name, name) in EITHER]
    return tuple(reversed(places))


class FromArchive:
    """The other way round, for a table as a manifest describes it, of this version or an older one."""

    def __init__(self, table: Table) -> None:
        names = table.names
        self.columns = tuple(n for n in names if n != "round" and not (n.endswith("_bytes") and n[:-6] in names))
        """The store's columns."""
        self._places = [
            (names.index(name), names.index(f"{name}_bytes") if f"{name}_bytes" in names else None)
            for name in self.columns
        ]
        self._round = names.index("round") if "round" in names else None
        self._row = names.index("row") if "row" in names else None
        self._name = table.name

    def row(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """A row as the store has it."""
        return tuple(
            values[second] if second is not None and values[second] is not None else values[first]
            for first, second in self._places
        )

    def place(self, values: Sequence[Any]) -> tuple[int, int]:
        """The record that the row belongs to, and the round in which it was read."""
        if self._row is None or self._round is None:
            raise ArchiveCorruptError(f"table {self._name} does not say which record a row belongs to")
        return values[self._row], values[self._round]
