"""The command ``add``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, cast

import typer

from agentmem import AddResult, AddResults, ConflictError, InvalidInputError, Layer, Memory, ScopeError
from agentmem.cli import source, values
from agentmem.cli.base import (
    INTERRUPTED,
    STORE,
    TAKEN,
    AsTable,
    InNamespace,
    OnError,
    Sliding,
    StorePath,
    app,
    opened,
    reporting,
)
from agentmem.cli.interrupt import Interrupt, Interrupted
from agentmem.cli.output import Output
from agentmem.cli.streams import known_encoding, note
from agentmem.client import AddOptions


@app.command(help="Remember something; done once it is durable.")
def add(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to remember; - reads standard input, a memory a line.")
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            help="JSON Lines (each a text, or an object with content, role, metadata, ...) or a JSON array of them; "
            "- is standard input.",
            metavar="FILE",
        ),
    ] = None,
    path: StorePath = STORE,
    user: Annotated[str | None, typer.Option("--user", "-u", metavar="ID", help="Whose memory it is.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="ID", help="Which agent's.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Which conversation's.")] = None,
    namespace: InNamespace = None,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who said it, for messages: user, assistant, ...")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it is; default: message with a role, else fact.")
    ] = None,
    layer: Annotated[
        Layer | None,
        typer.Option(metavar="LAYER", help="How long it lives: interact (a day), insights (90 days) or assets (kept)."),
    ] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object to filter by.", metavar="JSON")] = None,
    data: Annotated[
        str | None, typer.Option(help="Any JSON to keep with it; TEXT may then be left out.", metavar="JSON")
    ] = None,
    importance: Annotated[float | None, typer.Option(metavar="NUMBER", help="From 0 to 1.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Invisible after this long: 90s, 30m, 24h, 7d.", metavar="DURATION")
    ] = None,
    sliding: Sliding = False,
    occurred_at: Annotated[
        str | None, typer.Option(help="When it happened, if not now; ISO 8601.", metavar="TIME")
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="An id of your own, so that adding again is safe.")
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(
            metavar="raise|skip", help="What becomes of a bad line: an error, or it is left out and reported."
        ),
    ] = OnError.RAISE,
    on_conflict: Annotated[
        OnError,
        typer.Option(
            metavar="raise|skip",
            help="What becomes of a line whose id or key another memory has: an error, or it is left out and reported.",
        ),
    ] = OnError.RAISE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Replace what is no text (half emoji, NULs, stray bytes) by U+FFFD.")
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How the text is encoded: cp1252, say. Default: UTF-8, or as its mark says."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAME",
            help="What is imported: the same again adds nothing. Default: the file's path; none for standard input.",
        ),
    ] = None,
    table: AsTable = None,
) -> None:
    alone = text is None and file is None and data is not None
    if (text is None) == (file is None) and not alone:
        raise typer.BadParameter("give either TEXT (or - for standard input) or --file; with --data neither is needed")
    many = text == "-" or file is not None
    if many and id is not None:
        raise typer.BadParameter("--id belongs to one memory; in a JSON Lines file, give each line an 'id'")
    skips = OnError.SKIP in (on_error, on_conflict)
    if not many and (skips or repair or encoding or origin is not None):
        raise typer.BadParameter(
            "--on-error, --on-conflict, --repair, --encoding and --source belong to many: - or --file"
        )
    known_encoding(encoding)
    options = AddOptions(
        user_id=user,
        agent_id=agent,
        run_id=run,
        namespace=namespace,
        role=role,
        kind=kind,
        layer=layer,
        metadata=values.json_object(metadata, "--metadata"),
        importance=importance,
        ttl=values.duration(ttl),
        sliding=sliding or None,
        occurred_at=values.instant(occurred_at, "--occurred-at"),
        id=id,
        data=values.any_json(data, "--data"),
    )
    output = Output(table)
    with reporting():
        if not many:
            with opened(path, create=True) as memory:
                output.added(memory.add({} if alone else cast("str", text), **options.arguments()))
            return
        read = None if file is None or str(file) == "-" else file
        if origin is None and read is not None:
            origin = os.path.realpath(read)
        skip = on_error is OnError.SKIP
        with (
            source.opened(read, plain=file is None, skip=skip, repair=repair, encoding=encoding) as items,
            opened(path, create=True) as memory,
            Interrupt() as interrupt,
        ):
            added = memory.add_stream(
                interrupt.items(items),
                on_error=on_error.value,
                on_conflict=on_conflict.value,
                repair=repair,
                source=origin,
                **options.arguments(),
            )
            try:
                taken = output.added_stream(_marked(memory, _told_by_line(added, items), items), items)
            except Interrupted as exc:
                rest = "" if origin is None else "; the same command adds the rest"
                note(f"interrupted; what is listed is stored{rest}")
                raise typer.Exit(INTERRUPTED) from exc
        # What an import itself remembers as deleted since has no id of its own, and is as it should be.
        if taken and items.has_ids:
            raise typer.Exit(TAKEN)


_SKIP = "--on-error skip leaves such lines out"


def _told_by_line(added: Iterator[AddResults], items: source.Source) -> Iterator[AddResults]:
    """The same; an error names the line of its item."""
    try:
        yield from added
    except (InvalidInputError, ScopeError) as exc:
        if exc.index is None:
            raise
        reason = str(exc).removeprefix(f"item {exc.index}: ")
        line = items.line(exc.index)
        raise InvalidInputError(f"{items.name}, line {line}: {reason} ({_SKIP})") from exc
    except ConflictError as exc:
        raise ConflictError(f"{items.name}: {exc} ({_SKIP})") from exc


def _marked(memory: Memory, added: Iterator[AddResults], items: source.Source) -> Iterator[AddResults]:
    """The same; exported records that are new here get their ratings and pins back.

    So do those that were new to an import which was interrupted before they had, and those of another one that is under
    way.
    """
    for results in added:
        for result in results:
            mark = items.marks.pop(result.id, None)
            if mark is None:
                continue
            since = _since_added(memory, result)
            if mark.rating is not None and since == []:
                memory.feedback(result.id, rating=mark.rating)
            if mark.pinned and since in ([], ["FEEDBACK"]):
                memory.lifecycle.pin(result.id)
        yield results


def _since_added(memory: Memory, result: AddResult) -> list[str] | None:
    """What has happened to a record since it was added; None for one that is not there any more."""
    if memory.get(result.id, touch=False) is None:
        return None
    return [event.event for event in memory.history(result.id)[1:]]
