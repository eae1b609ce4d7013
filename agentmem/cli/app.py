"""Commands and their options."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from agentmem import ALL, AgentMemError, Layer, Memory, NotFoundError, StoreError, VerifyReport
from agentmem.cli import values
from agentmem.cli.output import Output, error_text
from agentmem.client import AddOptions, is_store

INTERRUPTED = 130
"""Exit code of a command that was stopped with Ctrl-C, as shells report it."""

app = typer.Typer(
    name="agentmem",
    help="A memory for LLM agents and chatbots, on local disk.",
    epilog="Results are JSON when piped and a table on a terminal; --json and --table choose.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


config = typer.Typer(
    help="Show or check the settings, from file and environment.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(config, name="config")


class Mode(StrEnum):
    HYBRID = "hybrid"
    VECTOR = "vector"
    KEYWORD = "keyword"


StorePath = Annotated[
    Path, typer.Option("--path", "-p", envvar="AGENTMEM_PATH", help="Folder of the store.", metavar="FOLDER")
]
User = Annotated[
    str | None, typer.Option("--user", "-u", metavar="ID", help="Whose memories; left out, those of no user.")
]
Agent = Annotated[str | None, typer.Option("--agent", metavar="ID", help="Only those of this agent.")]
Run = Annotated[str | None, typer.Option("--run", metavar="ID", help="Only those of this conversation.")]
AsTable = Annotated[
    bool | None, typer.Option("--table/--json", help="How to print; default: table on a terminal, else JSON.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="The TOML file; left out, that of AGENTMEM_CONFIG, else agentmem.toml here."
    ),
]
RecordId = Annotated[str, typer.Argument(metavar="ID", help="The record's id.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from agentmem import __version__

        typer.echo(f"agentmem {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def add(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to remember; - reads standard input, a memory a line.")
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            help="JSON Lines: each a text, or an object with content, role, metadata, ...; - is standard input.",
            metavar="JSONL",
        ),
    ] = None,
    path: StorePath = Path(".agentmem"),
    user: Annotated[str | None, typer.Option("--user", "-u", metavar="ID", help="Whose memory it is.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="ID", help="Which agent's.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Which conversation's.")] = None,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who said it, for messages: user, assistant, ...")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it is; default: message with a role, else fact.")
    ] = None,
    layer: Annotated[
        Layer | None, typer.Option(metavar="LAYER", help="How long it lives: interact, insights or assets.")
    ] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object to filter by.", metavar="JSON")] = None,
    importance: Annotated[float | None, typer.Option(metavar="NUMBER", help="From 0 to 1.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Invisible after this long: 90s, 30m, 24h, 7d.", metavar="DURATION")
    ] = None,
    occurred_at: Annotated[
        str | None, typer.Option(help="When it happened, if not now; ISO 8601.", metavar="TIME")
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="An id of your own, so that adding again is safe.")
    ] = None,
    table: AsTable = None,
) -> None:
    """Remember something; done once it is durable."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give either TEXT (or - for standard input) or --file")
    many = text == "-" or file is not None
    if many and id is not None:
        raise typer.BadParameter("--id belongs to one memory; in a JSON Lines file, give each line an 'id'")
    options = AddOptions(
        user_id=user,
        agent_id=agent,
        run_id=run,
        role=role,
        kind=kind,
        layer=layer,
        metadata=values.json_object(metadata, "--metadata"),
        importance=importance,
        ttl=values.duration(ttl),
        occurred_at=values.instant(occurred_at, "--occurred-at"),
        id=id,
    )
    output = Output(table)
    with _reporting():
        if not many:
            with _open(path, create=True) as memory:
                output.added([memory.add(cast("str", text), **options.arguments())], single=True)
            return
        with values.items(file) as items, _open(path, create=True) as memory:
            output.added_stream(memory.add_stream(items, **options.arguments()))


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.")],
    *,
    path: StorePath = Path(".agentmem"),
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Everybody's memories, for administration.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many at most.")] = 10,
    mode: Annotated[
        Mode, typer.Option(metavar="MODE", help="By meaning and words (hybrid), or by one: vector, keyword.")
    ] = Mode.HYBRID,
    filters: Annotated[
        str | None, typer.Option("--filter", help="A condition on metadata, Mongo style.", metavar="JSON")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this kind; may be repeated.")] = None,
    layer: Annotated[
        list[Layer] | None, typer.Option(metavar="LAYER", help="Only this layer; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what happened from then on; ISO 8601.", metavar="TIME")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what happened before; ISO 8601.", metavar="TIME")] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help='Where "yesterday" and times are: Europe/Berlin; else by setting, or here.'),
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="The least cosine, from -1 to 1.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each one was found.")] = False,
    table: AsTable = None,
) -> None:
    """Find memories that answer a question, best first."""
    if all_users and user is not None:
        raise typer.BadParameter("--all-users and --user exclude each other")
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with _reporting(), _open(path) as memory:
        zone = values.zone(time_zone)
        first, last = values.instant(since, "--since", zone), values.instant(until, "--until", zone)
        output.hits(
            memory.search(
                query,
                user_id=ALL if all_users else user,
                agent_id=agent,
                run_id=run,
                limit=limit,
                mode=mode.value,
                filters=condition,
                kinds=kind or None,
                layers=layer or None,
                since=first,
                until=last,
                time_zone=zone,
                min_similarity=min_similarity,
                explain=explain,
            )
        )


@app.command()
def get(
    id: RecordId,
    *,
    path: StorePath = Path(".agentmem"),
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    table: AsTable = None,
) -> None:
    """Show one memory.

    With --user, --agent or --run, only if it is theirs.
    """
    output = Output(table)
    with _reporting(), _open(path) as memory:
        record = _within(memory, user, agent, run).get(id)
        if record is None:
            raise NotFoundError(
                f"there is no record with the id {id!r} here; `agentmem history` also shows deleted ones"
            )
        output.record(record)


@app.command()
def history(
    id: RecordId,
    *,
    path: StorePath = Path(".agentmem"),
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    table: AsTable = None,
) -> None:
    """Show every change of one memory, oldest first."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        output.events(_within(memory, user, agent, run).history(id))


@app.command()
def stats(path: StorePath = Path(".agentmem"), table: AsTable = None) -> None:
    """Show what the store holds, and its health."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        output.figures({**memory.stats().to_dict(), "health": memory.health().to_dict()})


@app.command()
def explain(
    id: RecordId,
    *,
    path: StorePath = Path(".agentmem"),
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    table: AsTable = None,
) -> None:
    """Show why one memory is in its layer, what it lacks for promotion, and when it is due."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        output.figures(_within(memory, user, agent, run).lifecycle.explain(id).to_dict())


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; list what would be done.")] = False,
    path: StorePath = Path(".agentmem"),
    table: AsTable = None,
) -> None:
    """Promote what is eligible, expire what is due, make room in layers that are too full."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        report = memory.lifecycle.sweep(dry_run=dry_run).to_dict()
        moves = report.pop("moves")
        output.figures(report | {"moves": moves} if dry_run else report)


@config.command("show")
def config_show(file: ConfigFile = None, table: AsTable = None) -> None:
    """Show every setting with its value and where that comes from."""
    with _reporting():
        from agentmem.settings import Settings, origins

        settings = Settings.load(file)
        found = origins(file)
        shown = {key: {"value": value, "from": found[key]} for key, value in settings.flat().items()}
        Output(table).settings(shown)


@config.command("check")
def config_check(file: ConfigFile = None) -> None:
    """Check file and environment; an error names the setting."""
    with _reporting():
        from agentmem.settings import Settings, origins

        Settings.load(file)
        given = sorted(key for key, source in origins(file).items() if source != "default")
        typer.echo(f"The settings are in order. Given: {', '.join(given) or 'none, all are default'}.")


@app.command()
def reembed(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A name that fastembed knows, or a model's folder; left out, the bundled one."
        ),
    ] = None,
    path: StorePath = Path(".agentmem"),
    table: AsTable = None,
) -> None:
    """Move a store to another embedding model; it goes on serving."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        with output.progress("embedded") as progress:
            report = memory.reembed(model, progress=progress)
        output.figures({"from_model": report.from_model, "to_model": report.to_model, "records": report.records})


@app.command()
def verify(path: StorePath = Path(".agentmem"), table: AsTable = None) -> None:
    """Compare every part of the store with every other; exit code 1 if they disagree."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        _report(output, memory.verify())


@app.command()
def repair(
    path: StorePath = Path(".agentmem"),
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage",
            help="If the database itself is damaged, move what can be read of it to a new one, and keep the old one.",
        ),
    ] = False,
    table: AsTable = None,
) -> None:
    """Rebuild what verify finds wrong; exit code 1 if anything stays wrong or was lost."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        _report(output, memory.repair(salvage=salvage))


@app.command()
def compact(path: StorePath = Path(".agentmem"), table: AsTable = None) -> None:
    """Merge files and give space back to the disk."""
    output = Output(table)
    with _reporting(), _open(path) as memory:
        before = memory.stats().bytes
        memory.compact()
        output.figures({"before": before, "after": memory.stats().bytes})


@app.command()
def demo() -> None:
    """Run the main job on a small conversation, in a temporary store."""
    with _reporting():
        from agentmem.cli.demo import run_demo

        run_demo()


def _report(output: Output, report: VerifyReport) -> None:
    output.figures(report.to_dict())
    if not report.ok:
        raise typer.Exit(1)


@contextmanager
def _open(path: Path, *, create: bool = False) -> Generator[Memory]:
    """The store. Reading does not create one: a mistyped path would look like an empty memory."""
    if not create and path.is_dir() and not is_store(path):
        raise StoreError(f"{path} holds no store; `agentmem add` makes one, --path names another")
    if not create and not path.exists():
        raise StoreError(f"there is no store at {path}; `agentmem add` makes one, --path names another")
    with Memory(path) as memory:
        yield memory


def _within(memory: Memory, user: str | None, agent: str | None, run: str | None) -> Memory:
    if user is None and agent is None and run is None:
        return memory
    return memory.scoped(user_id=user, agent_id=agent, run_id=run)


@contextmanager
def _reporting() -> Generator[None]:
    """One line on standard error in place of a traceback, for whatever is not a bug."""
    try:
        yield
    except AgentMemError as exc:
        typer.echo(f"agentmem: {error_text(exc)}", err=True)
        raise typer.Exit(1) from exc
    except BrokenPipeError as exc:
        # Whoever read the output has seen enough. What is still buffered has nowhere to go.
        sys.stdout = None
        raise typer.Exit(1) from exc
    except OSError as exc:
        typer.echo(f"agentmem: {error_text(exc)}", err=True)
        raise typer.Exit(1) from exc
    except KeyboardInterrupt as exc:
        typer.echo("agentmem: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from exc
