"""How results are shown: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agentmem import AddResult, HistoryEvent, HitDetails, MemoryRecord, SearchResults

_BECAME = {"added": "Added", "refreshed": "Refreshed:", "duplicate": "Already there:"}
"""What became of what was added, by its status."""


def printable(text: str) -> str:
    """Text without control characters, which could make a terminal do things."""
    return "".join(char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def error_text(exc: Exception) -> str:
    """An error as one line."""
    return " ".join(printable(str(exc)).split())


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


class Output:
    """Writes results to standard output, as tables if ``table``, as JSON if not, as fits standard output if None."""

    def __init__(self, table: bool | None) -> None:
        self._table = sys.stdout.isatty() if table is None else table

    def added(self, results: Sequence[AddResult], *, single: bool = False) -> None:
        """What became of what was added."""
        if self._table:
            for result in results:
                typer.echo(f"{_BECAME[result.status]} {printable(result.id)}")
        else:
            documents = [_added(result) for result in results]
            _write_json(documents[0] if single else documents)

    def added_stream(self, chunks: Iterator[list[AddResult]]) -> None:
        """The same for any number, written while it happens; what was stored before an error is reported."""
        statuses = Counter[str]()
        opening = "["
        try:
            for results in chunks:
                for result in results:
                    statuses[result.status] += 1
                    if not self._table:
                        typer.echo(f"{opening}\n  {_dumps(_added(result))}", nl=False)
                        opening = ","
        finally:
            if not self._table:
                typer.echo("[]" if opening == "[" else "\n]")
            else:
                rest = [
                    f" {_BECAME[name]} {statuses[name]:,}." for name in ("refreshed", "duplicate") if statuses[name]
                ]
                typer.echo(f"Added {statuses['added']:,}." + "".join(rest))

    def hits(self, results: SearchResults) -> None:
        """What a search found."""
        if not self._table:
            _write_json([hit.to_dict() for hit in results])
            return
        if not results:
            typer.echo("Nothing found.")
        else:
            table = _table("score", "similarity", "when", "memory")
            for hit in results:
                similarity = "" if hit.similarity is None else f"{hit.similarity:.3f}"
                # Below the text rather than in columns of their own, so that they are whole on a narrow terminal.
                below = [_whose(hit.record), *([] if hit.details is None else [_why(hit.details)])]
                _row(table, f"{hit.score:.3f}", similarity, _when(hit.record), _what(hit.record), below=below)
            console().print(table)
        if results.trace is not None:
            trace = results.trace
            stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in trace.milliseconds.items())
            engines = " + ".join(trace.engines) or "nothing to search"
            typer.echo(f"{engines}: {trace.candidates:,} considered; ms: {stages}" + ", cached" * trace.cached)

    def record(self, record: MemoryRecord) -> None:
        """One record with all its fields."""
        self.figures(record.to_dict())

    def events(self, events: Sequence[HistoryEvent]) -> None:
        """A record's history."""
        if not self._table:
            _write_json([event.to_dict() for event in events])
            return
        table = _table("version", "event", "at", "before, or what was noted")
        for event in events:
            _row(table, str(event.version), event.event.value, _time(event.at), changes(event.to_dict()["data"]))
        console().print(table)

    def figures(self, values: Mapping[str, Any]) -> None:
        """Names and values."""
        if not self._table:
            _write_json(values)
            return
        table = _table("", "")
        for name, value in values.items():
            _row(table, name, _shown(value))
        console().print(table)

    def settings(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Settings with their origins."""
        if not self._table:
            _write_json(values)
            return
        table = _table("setting", "value", "from")
        for name, setting in values.items():
            _row(table, name, _shown(setting["value"]), str(setting["from"]))
        console().print(table)

    @contextmanager
    def progress(self, what: str) -> Generator[Callable[[int, int], None]]:
        """A line on standard error that counts, if that is a terminal."""
        wanted = sys.stderr.isatty()

        def show(done: int, total: int) -> None:
            if wanted:
                typer.echo(f"\r{done:,} of {total:,} {what}", err=True, nl=False)

        try:
            yield show
        finally:
            if wanted:
                typer.echo("\r\x1b[K", err=True, nl=False)


def changes(values: Mapping[str, Any]) -> str:
    """A mapping, a line for each key."""
    return "\n".join(f"{key}: {value if isinstance(value, str) else _dumps(value)}" for key, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return changes(cast("dict[str, Any]", value))
    if isinstance(value, list):
        return "\n".join(map(str, cast("list[Any]", value)))
    return "" if value is None else str(value)


def _why(details: HitDetails) -> str:
    said = [*details.matched_terms, *(f"~{term}" for term in details.similar_terms)]
    words = f" ({' '.join(said)})" if said else ""
    beside = f", beside it {details.context:.2f}" if abs(details.context) >= 0.005 else ""
    dated = f", date {details.date:.2f}" if details.date is not None else ""
    return (
        f"meaning {details.vector:.2f}, words {details.keyword:.2f}{words}{beside}{dated}, "
        f"recency {details.recency:.2f}, importance {details.importance:.2f}, rating {details.rating:.2f}"
        + (f", read in {details.windows} windows" if (details.windows or 1) > 1 else "")
    )


def _whose(record: MemoryRecord) -> str:
    ids = (("user", record.user_id), ("agent", record.agent_id), ("run", record.run_id))
    return "  ".join([record.id, *(f"{name}={value}" for name, value in ids if value is not None)])


def _what(record: MemoryRecord) -> str:
    return f"{record.role}: {record.content}" if record.role else record.content


def _when(record: MemoryRecord) -> str:
    return _time(record.occurred_at or record.created_at)


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def _added(result: AddResult) -> dict[str, Any]:
    return {"id": result.id, "status": result.status}


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    for column in columns:
        # What must stay whole is not wrapped; the text gives way.
        whole = column in ("score", "similarity", "when", "at", "event", "version")
        table.add_column(column, no_wrap=whole, overflow="fold")
    return table


def _row(table: Table, *cells: str, below: Sequence[str] = ()) -> None:
    """Add a row; ``below`` are lines under the last cell."""
    from rich.text import Text

    # As Text, so that brackets in a memory are brackets and not markup.
    shown = [Text(printable(cell)) for cell in cells]
    for line in below:
        shown[-1].append(f"\n{printable(line)}", "dim")
    table.add_row(*shown)


def _dumps(value: Any, **options: Any) -> str:
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    return json.dumps(value, ensure_ascii=ascii_only, **options)


def _write_json(value: Any) -> None:
    typer.echo(_dumps(value, indent=2))
