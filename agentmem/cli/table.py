"""Rows for people: a table where the terminal is wide enough, else one thing below the other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmem.cli.words import printable

if TYPE_CHECKING:
    from rich.console import Console

NARROWEST = 20
"""Columns that are assumed at least; a terminal with fewer breaks the lines itself."""
ROOM = 24
"""What a table leaves for its text, or it is none."""
_GAP = 2
_WHOLE = frozenset({"score", "similarity", "when", "at", "event", "version", "records", "first", "last"})
"""Columns whose values are not broken: the text gives way."""


def console() -> Console:
    """Standard output, as wide as it is; 80 columns where that cannot be told (``COLUMNS=0`` in some CI systems)."""
    from rich.console import Console

    width = shutil.get_terminal_size((80, 24)).columns
    return Console(highlight=False, soft_wrap=False, width=max(width, NARROWEST))


class Table:
    """Rows under columns. A row's ``below`` are lines under its last cell."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows = list[tuple[list[str], list[str]]]()

    def add(self, *cells: str, below: Sequence[str] = ()) -> None:
        self._rows.append(([_fitting(cell) for cell in cells], [_fitting(line) for line in below]))

    def show(self) -> None:
        """Print it."""
        out = console()
        if self._narrowest() <= out.width:
            self._side_by_side(out)
        else:
            self._stacked(out)

    def _whole(self) -> list[int]:
        return [at for at, column in enumerate(self._columns) if column in _WHOLE]

    def _narrowest(self) -> int:
        """The columns that the table needs: those of its whole cells, and some for the others."""
        from rich.cells import cell_len

        needed = 0
        for at, column in enumerate(self._columns):
            widest = max((cell_len(line) for cells, _ in self._rows for line in cells[at].split("\n")), default=0)
            whole = at in self._whole() or at < len(self._columns) - 1
            needed += max(cell_len(column), widest if whole else min(widest, ROOM)) + _GAP
        return needed

    def _side_by_side(self, out: Console) -> None:
        from rich import box
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=box.SIMPLE_HEAD, show_header=any(self._columns), pad_edge=False)
        for at, column in enumerate(self._columns):
            grid.add_column(column, no_wrap=at in self._whole(), overflow="fold")
        for cells, below in self._rows:
            # As Text, so that brackets in a memory are brackets and not markup.
            shown = [Text(cell) for cell in cells]
            for line in below:
                shown[-1].append(f"\n{line}", "dim")
            grid.add_row(*shown)
        out.print(grid)

    def _stacked(self, out: Console) -> None:
        from rich.text import Text

        for cells, below in self._rows:
            whole = self._whole() or [0]
            head = "  ".join(cells[at] for at in whole if cells[at])
            rest = [cell for at, cell in enumerate(cells) if at not in whole and cell]
            for style, lines in (("bold", [head]), ("", rest), ("dim", below)):
                for text in lines:
                    for line in Text(text, style).wrap(out, out.width, overflow="fold"):
                        line.rstrip()
                        out.print(line)
            out.print()


def _fitting(text: str) -> str:
    """Text as standard output will show it, so that columns are as wide as it is there."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "replace").decode(encoding)
