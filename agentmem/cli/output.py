"""How results are shown: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from agentmem.cli import words
from agentmem.cli.streams import json_text, note, say
from agentmem.cli.table import Table
from agentmem.cli.words import in_the_shell, printable

if TYPE_CHECKING:
    from agentmem import (
        AddResult,
        AddResults,
        BackupInfo,
        Group,
        HistoryEvent,
        HitDetails,
        MemoryRecord,
        NamespaceCount,
        SearchResults,
        StoreEvent,
    )
    from agentmem.cli.source import Source

_BECAME = {"added": "Added", "refreshed": "Refreshed:", "duplicate": "Already there:"}
"""What became of what was added, by its status."""
_LISTED = 1_000
"""Characters of a memory that a list shows; ``get`` shows all."""
_BRIEF = 200
"""Characters of the data of a memory without a text, in its place."""
_SHOWN = 20
"""Lines that were left out, as a table shows them; the rest is counted."""


class Output:
    """Writes results to standard output, as tables if ``table``, as JSON if not, as fits standard output if None."""

    def __init__(self, table: bool | None) -> None:
        self.table = sys.stdout.isatty() if table is None else table

    def added(self, result: AddResult) -> None:
        """What became of one memory that was added."""
        if self.table:
            say(f"{_BECAME[result.status]} {printable(result.id)}")
        else:
            self.json(_added(result))

    def added_stream(self, chunks: Iterator[AddResults], source: Source) -> bool:
        """The same for any number, written while it happens; what was stored before an error is reported.

        What was left out is among the results, and said in a line on standard error. Returns whether something was
        because of its id or key.
        """
        counts, left_out, opening, taken = Counter[str](), list[tuple[int, str]](), "[", False

        def tell(entry: dict[str, Any]) -> None:
            nonlocal opening
            if not self.table:
                say(f"{opening}\n  {_dumps(entry)}", end="")
                opening = ","

        def tell_left_out(found: list[tuple[int, str]]) -> None:
            for line, reason in sorted(found):
                left_out.append((line, in_the_shell(reason)))
                tell({"line": line, "status": "skipped", "reason": in_the_shell(reason)})

        try:
            with self.progress("lines") as progress:
                for results in chunks:
                    counts.update(result.status for result in results)
                    for result in results:
                        tell(_added(result))
                    taken |= any(one.field in ("id", "key") for one in results.skipped)
                    found, source.left_out = source.left_out, []
                    tell_left_out(found + [(source.line(one.index), one.reason) for one in results.skipped])
                    progress(counts.total() + len(left_out), None)
            tell_left_out(source.left_out)
        finally:
            if not self.table:
                say("[]" if opening == "[" else "\n]")
            else:
                self._sum_up(counts, left_out)
        if left_out and not self.table:
            line, reason = left_out[0]
            total = counts.total() + len(left_out)
            note(f"left out {len(left_out):,} of {total:,}; the first, line {line}: {reason}")
        return taken

    def _sum_up(self, counts: Counter[str], left_out: list[tuple[int, str]]) -> None:
        parts = [f"Added {counts['added']:,}."]
        parts += [f"{_BECAME[status]} {counts[status]:,}." for status in ("refreshed", "duplicate") if counts[status]]
        say(" ".join([*parts, *([f"Left out: {len(left_out):,}."] if left_out else [])]))
        for line, reason in left_out[:_SHOWN]:
            say(f"  line {line}: {words.line(reason)}")
        if len(left_out) > _SHOWN:
            say(f"  and {len(left_out) - _SHOWN:,} more; --json lists them all")

    def hits(self, results: SearchResults) -> None:
        """What a search found."""
        if not self.table:
            self.json([hit.to_dict() for hit in results])
            return
        if not results:
            say("Nothing found.")
        else:
            table = Table("score", "similarity", "when", "memory")
            for hit in results:
                similarity = "" if hit.similarity is None else f"{hit.similarity:.3f}"
                # Below the text rather than in columns of their own, so that they are whole on a narrow terminal.
                below = [_whose(hit.record), *([] if hit.details is None else [_why(hit.details)])]
                table.add(f"{hit.score:.3f}", similarity, _when(hit.record), _what(hit.record), below=below)
            table.show()
        if results.trace is not None:
            trace = results.trace
            stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in trace.milliseconds.items())
            engines = " + ".join(trace.engines) or "nothing to search"
            say(f"{engines}: {trace.candidates:,} considered; ms: {stages}" + ", cached" * trace.cached)

    def records(self, records: Sequence[MemoryRecord], *, gone: bool = False) -> None:
        """A list of records; with ``gone``, by when they went."""
        if not self.table:
            self.json([record.to_dict() for record in records])
            return
        if not records:
            say("Nothing here.")
            return
        table = Table("when", "memory")
        for record in records:
            at = _time(record.updated_at) if gone else _when(record)
            table.add(at, _start(_what(record)), below=[f"{_whose(record)}  {record.kind}, {record.layer.value}"])
        table.show()

    def values(self, values: Sequence[Any]) -> None:
        """Values of a field."""
        shown = [value.isoformat() if isinstance(value, datetime) else value for value in values]
        if not self.table:
            self.json(shown)
        elif not shown:
            say("Nothing here.")
        else:
            for value in shown:
                say(words.line(value if isinstance(value, str) else _dumps(value)))

    def groups(self, groups: Sequence[Group], what: str) -> None:
        """Users, agents, conversations or kinds with their numbers."""
        if not self.table:
            self.json([group.to_dict() for group in groups])
            return
        table = Table("records", "first", "last", what)
        for group in groups:
            name = "(none)" if group.name is None else group.name
            below = [f"user={group.user_id}"] if group.user_id is not None and what != "user" else []
            table.add(f"{group.records:,}", _time(group.first_at), _time(group.last_at), name, below=below)
        table.show()

    def record(self, record: MemoryRecord) -> None:
        """One record with all its fields."""
        self.figures(record.to_dict())

    def events(self, events: Sequence[HistoryEvent]) -> None:
        """A record's history."""
        if not self.table:
            self.json([event.to_dict() for event in events])
            return
        table = Table("version", "event", "at", "before, or what was noted")
        for event in events:
            table.add(str(event.version), event.event.value, _time(event.at), changes(event.to_dict()["data"]))
        table.show()

    def backups(self, found: Sequence[BackupInfo]) -> None:
        """Backups, as a place has them."""
        if not self.table:
            self.json([one.to_dict() for one in found])
            return
        table = Table("id", "at", "records", "bytes", "description")
        for one in found:
            table.add(one.id, _time(one.at), f"{one.records:,}", f"{one.bytes:,}", one.description or "")
        table.show()

    def feed(self, events: Sequence[StoreEvent]) -> None:
        """The store's events."""
        if not self.table:
            self.json([event.to_dict() for event in events])
            return
        table = Table("event", "what", "at", "of")
        for event in events:
            ids = (("user", event.user_id), ("agent", event.agent_id), ("run", event.run_id))
            named = [f"{name}={value}" for name, value in ids if value is not None]
            where = [f"in {_path(event.namespace)}"] if event.namespace else []
            of = "  ".join([event.id or "", *named, *where])
            table.add(str(event.seq), event.event.value, _time(event.at), of)
        table.show()

    def namespaces(self, found: Sequence[NamespaceCount]) -> None:
        """Namespaces with their numbers."""
        if not self.table:
            self.json([one.to_dict() for one in found])
            return
        table = Table("records", "namespace")
        for one in found:
            table.add(f"{one.records:,}", _path(one.namespace))
        table.show()

    def rows(self, found: Sequence[Mapping[str, Any]], *columns: str) -> None:
        """Things of one kind, each by its names and values; a table has these columns."""
        if not self.table:
            self.json(list(found))
            return
        if not found:
            say("Nothing here.")
            return
        table = Table(*(column.removesuffix("_id").removesuffix("_at") for column in columns))
        for one in found:
            table.add(*(_start(_shown(one[column])) for column in columns))
        table.show()

    def figures(self, values: Mapping[str, Any]) -> None:
        """Names and values."""
        if not self.table:
            self.json(values)
            return
        table = Table("", "")
        for name, value in values.items():
            table.add(name, _shown(value))
        table.show()

    def settings(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Settings with their origins."""
        if not self.table:
            self.json(values)
            return
        table = Table("setting", "value", "from")
        for name, setting in values.items():
            table.add(name, _shown(setting["value"]), str(setting["from"]))
        table.show()

    def json(self, value: Any) -> None:
        """One JSON document."""
        say(_dumps(value, indent=2))

    @contextmanager
    def progress(self, what: str) -> Generator[Callable[[int, int | None], None]]:
        """A line on standard error that counts, if that is a terminal on which nothing else is written meanwhile."""
        wanted = sys.stderr.isatty() and (self.table or not sys.stdout.isatty())

        def show(done: int, total: int | None) -> None:
            if wanted:
                say(f"\r{done:,}{'' if total is None else f' of {total:,}'} {what}", end="", error=True)

        try:
            yield show
        finally:
            if wanted:
                say("\r\x1b[K", end="", error=True)


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
    text = record.content if record.content or record.data is None else _dumps(record.data)[:_BRIEF]
    return f"{record.role}: {text}" if record.role else text


def _start(text: str) -> str:
    """What a list shows of a text."""
    return text if len(text) <= _LISTED else f"{text[:_LISTED]}... ({len(text):,} characters)"


def _path(namespace: tuple[str, ...]) -> str:
    """A namespace as the options take it."""
    plain = all("/" not in name for name in namespace) and not namespace[0].startswith("[")
    return "/".join(namespace) if plain else _dumps(list(namespace))


def _when(record: MemoryRecord) -> str:
    return _time(record.occurred_at or record.created_at)


def _time(at: datetime) -> str:
    try:
        return at.astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # the ends of the calendar in a time zone west or east of it
        return at.strftime("%Y-%m-%d %H:%M")


def _added(result: AddResult) -> dict[str, Any]:
    return {"id": result.id, "status": result.status}


def _dumps(value: Any, **options: Any) -> str:
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    return json.dumps(value, **options) if ascii_only else json_text(value, **options)
