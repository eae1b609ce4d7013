"""Commands about backups: where they go is in the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentmem.cli.base import STORE, AsTable, StorePath, app, opened, reporting
from agentmem.cli.output import Output

backup = typer.Typer(
    help="Back up the store, where backup.url says; look at backups; restore one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(backup, name="backup")

BackupId = Annotated[
    str | None, typer.Argument(metavar="ID", help="As `agentmem backup list` shows it; left out, the newest.")
]


@backup.command("create", help="Back up the store as it is now; others may go on using it.")
def backup_create(
    *,
    kind: Annotated[
        Literal["full", "incremental", "snapshot"],
        typer.Option("--kind", help="All of it, what happened since the backup before, or all of it to be kept."),
    ] = "full",
    description: Annotated[str | None, typer.Option("--description", help="A note that `list` shows.")] = None,
    new_lineage: Annotated[
        bool,
        typer.Option("--new-lineage", help="Go on beside newer backups that this store does not know of."),
    ] = False,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        with output.progress("records") as progress:
            made = memory.backup.create(kind, description=description, new_lineage=new_lineage, progress=progress)
        output.figures(made.to_dict())


@backup.command("list", help="List the backups, oldest first.")
def backup_list(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.backups(memory.backup.list())


@backup.command("verify", help="Look at every byte of a backup; exit code 1 if it is not whole.")
def backup_verify(id: BackupId = None, path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        report = memory.backup.verify(id)
        output.figures(report.to_dict())
        if not report.ok:
            raise typer.Exit(1)


@backup.command("prune", help="Remove the backups that the settings keep no longer.")
def backup_prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.backups(memory.backup.prune(dry_run=dry_run))


@backup.command("restore", help="Make a store of a backup, in a folder that holds none.")
def backup_restore(
    into: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the store is to be.")],
    id: BackupId = None,
    *,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="As it was at that time, 2025-03-01T12:00+01:00.")
    ] = None,
    seq: Annotated[int | None, typer.Option("--seq", metavar="NUMBER", help="As it was after that event.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="This user's records alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all of it, and make no store.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the backups are; left out, the setting backup.url.")
    ] = None,
    encryption: Annotated[
        str | None,
        typer.Option("--encryption", metavar="SOURCE", help="The master key: file:PATH, env:NAME or command:PROGRAM."),
    ] = None,
    keyring: Annotated[str | None, typer.Option("--keyring", metavar="URL", help="Where the users' keys are.")] = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting():
        from agentmem import ALL, restore
        from agentmem.settings import Settings

        chosen = Settings().backup
        with output.progress("records") as progress:
            report = restore(
                url or chosen.url or "",
                into,
                id=id,
                at=at,
                seq=seq,
                user_id=ALL if user is None else user,
                dry_run=dry_run,
                encryption=encryption or chosen.encryption,
                keyring=keyring or chosen.keyring,
                progress=progress,
            )
        output.figures(report.to_dict())
