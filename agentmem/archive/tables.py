"""What an archive's tables look like: names and types of columns, given by whoever writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from agentmem.types.errors import ArchiveCorruptError, InvalidInputError

ColumnType: TypeAlias = Literal["int", "float", "text", "bytes"]
"""64 bits with a sign; 64 bits of IEEE 754; Unicode; bytes. Each may be missing (None)."""
Row: TypeAlias = Sequence[Any]
"""The values of a table's columns, in their order."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TYPES: tuple[str, ...] = get_args(ColumnType)


@dataclass(frozen=True)
class Table:
    """A table: its name, its columns and their types in order, and which columns have zones.

    A **zone** is the least and the greatest value of a column in a block. It stands in the catalogue in the clear, also
    where blocks are sealed, so that a reader can pass blocks over. Only columns of type ``int`` may have one.
    Raises ``InvalidInputError``.
    """

    name: str
    columns: tuple[tuple[str, ColumnType], ...]
    zones: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.columns]
        for name in (self.name, *names):
            if not _NAME.fullmatch(name):
                raise InvalidInputError(f"{name!r} is no name of a table or column (a-z, 0-9, _)", field="table")
        if not names or len(set(names)) < len(names):
            raise InvalidInputError(f"table {self.name} needs columns with different names: {names}", field="table")
        if unknown := [kind for _, kind in self.columns if kind not in _TYPES]:
            raise InvalidInputError(f"{unknown[0]!r} is no type of a column: {', '.join(_TYPES)}", field="table")
        if missing := [name for name in self.zones if dict(self.columns).get(name) != "int"]:
            raise InvalidInputError(f"table {self.name} has no column {missing[0]!r} of type int", field="table")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(name for name, _ in self.columns)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"name": self.name, "columns": [list(column) for column in self.columns], "zones": list(self.zones)}

    @classmethod
    def from_json(cls, found: Any, where: str) -> Table:
        """The other way round. Raises ``ArchiveCorruptError``."""
        try:
            columns = tuple((name, kind) for name, kind in found["columns"])
            return cls(found["name"], columns, tuple(found["zones"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise ArchiveCorruptError(f"{where} describes a table that cannot be: {exc}") from exc
