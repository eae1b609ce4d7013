"""Commands about the store as a whole, and about the lives of memories."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentmem import InvalidInputError, VerifyReport
from agentmem.cli.base import (
    STORE,
    Agent,
    AsTable,
    GivenVectors,
    RecordId,
    Run,
    StorePath,
    User,
    app,
    opened,
    reporting,
    within,
)
from agentmem.cli.output import Output
from agentmem.cli.streams import say


class Placement(StrEnum):
    """What ``agentmem tiers --place`` takes."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"
    RULES = "rules"


config = typer.Typer(
    help="Show or check the settings, from file and environment.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(config, name="config")

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="The TOML file; left out, that of AGENTMEM_CONFIG, else agentmem.toml here."
    ),
]


@app.command(help="Show what the store holds, and its health.")
def stats(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.figures({**memory.stats().to_dict(), "health": memory.health().to_dict()})


@app.command(help="Show why one memory is in its layer, what it lacks for promotion, and when it is due.")
def explain(
    id: RecordId,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.figures(within(memory, user, agent, run).lifecycle.explain(id).to_dict())


@app.command(help="Promote what is eligible, expire what is due, make room in layers that are too full.")
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; list what would be done.")] = False,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        report = memory.lifecycle.sweep(dry_run=dry_run).to_dict()
        moves = report.pop("moves")
        output.figures(report | {"moves": moves} if dry_run else report)


@app.command(help="Show what scores memories for promotion, and how well it tells which of them are used again.")
def scorer(
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute each decision of the learned scorer once more, and compare.")
    ] = False,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.figures((memory.lifecycle.replay() if replay else memory.lifecycle.scorer()).to_dict())


@app.command(help="Show which tier a memory of a large scope is in, and why; without an id, what the tiers hold.")
def tiers(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A memory's id.")] = None,
    place: Annotated[
        Placement | None,
        typer.Option(metavar="hot|warm|cold|rules", help="Place the memory there, or let the rules have it again."),
    ] = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=place is None) as memory:
        if id is None:
            if place is not None:
                raise InvalidInputError("--place needs the id of a memory", field="id")
            output.figures({tier: found.to_dict() for tier, found in memory.tiers.stats().items()})
            return
        if place is not None:
            memory.tiers.place(id, None if place is Placement.RULES else place.value)
        output.figures(memory.tiers.explain(id).to_dict())


@config.command("show", help="Show every setting with its value and where that comes from.")
def config_show(file: ConfigFile = None, table: AsTable = None) -> None:
    with reporting():
        from agentmem.settings import Settings, origins

        settings = Settings.load(file)
        found = origins(file)
        shown = {key: {"value": value, "from": found[key]} for key, value in settings.flat().items()}
        Output(table).settings(shown)


@config.command("check", help="Check file and environment; an error names the setting.")
def config_check(file: ConfigFile = None) -> None:
    with reporting():
        from agentmem.settings import Settings, origins

        Settings.load(file)
        given = sorted(key for key, source in origins(file).items() if source != "default")
        say(f"The settings are in order. Given: {', '.join(given) or 'none, all are default'}.")


@app.command(help="Move a store to another embedding model; it goes on serving.")
def reembed(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A name that fastembed knows, a model's folder, or module:object; left out, the bundled one.",
        ),
    ] = None,
    path: StorePath = STORE,
    given: Annotated[
        GivenVectors,
        typer.Option(
            metavar="refuse|keep|embed",
            help="What becomes of vectors that callers gave: the move is refused, they stay, or the text is embedded.",
        ),
    ] = GivenVectors.REFUSE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        with output.progress("embedded") as progress:
            report = memory.reembed(model, progress=progress, given=given.value)
        output.figures({"from_model": report.from_model, "to_model": report.to_model, "records": report.records})


@app.command(help="Compare every part of the store with every other; exit code 1 if they disagree.")
def verify(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        _report(output, memory.verify())


@app.command(help="Rebuild what verify finds wrong; exit code 1 if anything stays wrong or was lost.")
def repair(
    path: StorePath = STORE,
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage",
            help="If the database itself is damaged, move what can be read of it to a new one, and keep the old one.",
        ),
    ] = False,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        _report(output, memory.repair(salvage=salvage))


@app.command(help="Merge files and give space back to the disk.")
def compact(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        before = memory.stats().bytes
        memory.compact()
        output.figures({"before": before, "after": memory.stats().bytes})


@app.command(help="Run the main job on a small conversation, in a temporary store.")
def demo() -> None:
    with reporting():
        from agentmem.cli.demo import run_demo

        run_demo()


def _report(output: Output, report: VerifyReport) -> None:
    output.figures(report.to_dict())
    if not report.ok:
        raise typer.Exit(1)
