"""Commands about backups: where they go is in the settings."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from agentmem import ALL, StoreError
from agentmem.cli.base import STORE, AsTable, StorePath, app, opened, reporting
from agentmem.cli.interrupt import stopped
from agentmem.cli.output import Output
from agentmem.cli.streams import note

_EVERY_S = 10.0
_LOOK_S = 1.0
"""Between two looks whether the store that is followed is still there."""

backup = typer.Typer(
    help="Back up the store, where backup.url says; look at backups; restore one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(backup, name="backup")
snapshot = typer.Typer(
    help="Keep the store as it is under a name; look at what was kept; go back to it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(snapshot, name="snapshot")

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


@backup.command("follow", help="Back up whatever changes, for the processes that use the store, until it is stopped.")
def backup_follow(
    *,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="SECONDS", help="Between two backups; left out, backup.interval_s, or else 10.", min=0.1
        ),
    ] = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting():
        from agentmem.settings import Settings

        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        with opened(path) as memory:
            memory.backup.list()  # raises where there is no place for backups, or none that can be reached
        every = every or Settings().backup.interval_s or _EVERY_S
        with stopped() as stop, opened(path, settings=Settings(backup={"interval_s": every})) as memory:
            note(f"backing {path} up every {every:g} s, as long as it changes, until Ctrl-C")
            while not stop.wait(_LOOK_S):
                if gone := memory.health().store_error:
                    raise StoreError(gone)
            health = memory.health().backup
            if health is not None and health.last_error is not None:
                raise StoreError(health.last_error)
        # Closing has backed up what was left.
        with opened(path, reading=True) as memory:
            output.backups(memory.backup.list()[-1:])


@backup.command("list", help="List the backups, oldest first.")
def backup_list(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.backups(memory.backup.list())


@backup.command("verify", help="Restore a backup aside and compare it with the store; exit code 1 if it is not whole.")
def backup_verify(
    id: BackupId = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Only look at every byte of it.")] = False,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        with output.progress("records") as progress:
            report = memory.backup.verify(id, quick=quick, progress=progress)
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


@backup.command("restore", help="Make a store of a backup, in a folder that holds none, or make this one what it was.")
def backup_restore(
    into: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where the store is to be; left out with --in-place.")
    ] = None,
    id: BackupId = None,
    *,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Make the store at --path what it was; what it is now is kept first.")
    ] = False,
    backup_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The same as ID.")] = None,
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
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output, wanted = Output(table), id or backup_id
    if in_place:
        if into is not None or user is not None or url or encryption or keyring:
            raise typer.BadParameter("--in-place takes --id, --at, --seq and --dry-run alone; all else is the store's")
        with reporting(), opened(path) as memory:
            with output.progress("records") as progress:
                report = memory.backup.restore(wanted, at=at, seq=seq, dry_run=dry_run, progress=progress)
            output.figures(report.to_dict())
        return
    if into is None:
        raise typer.BadParameter("give the FOLDER where the store is to be, or --in-place")
    with reporting():
        from agentmem import restore
        from agentmem.settings import Settings

        chosen = Settings().backup
        with output.progress("records") as progress:
            report = restore(
                url or chosen.url or "",
                into,
                id=wanted,
                at=at,
                seq=seq,
                user_id=ALL if user is None else user,
                dry_run=dry_run,
                encryption=encryption or chosen.encryption,
                keyring=keyring or chosen.keyring,
                progress=progress,
            )
        output.figures(report.to_dict())


Encryption = Annotated[
    str | None,
    typer.Option("--encryption", metavar="SOURCE", help="The master key that seals it: file:PATH, env:NAME, ..."),
]
Keyring = Annotated[str | None, typer.Option("--keyring", metavar="URL", help="Where the users' keys are.")]
Place = Annotated[str, typer.Argument(metavar="URL", help="A folder, or s3://, gs://, az:// with bucket and prefix.")]


@backup.command("restore-user", help="Bring back what one user had; of everybody else nothing changes.")
def backup_restore_user(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose memories.")],
    *,
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="As in that backup; else the newest.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="As at that time.")] = None,
    seq: Annotated[int | None, typer.Option("--seq", metavar="NUMBER", help="As after that event.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Set back what was changed since, too; else it is only listed.")
    ] = False,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        with output.progress("records") as progress:
            report = memory.backup.restore_user(user, id=id, at=at, seq=seq, overwrite=overwrite, progress=progress)
        output.figures(report.to_dict())


@backup.command("export", help="Write a user, or everybody, with history and embeddings, for another store.")
def backup_export(
    url: Place,
    *,
    user: Annotated[str | None, typer.Option("--user", help="This user alone; left out, everybody.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="A note that stays with it.")] = None,
    encryption: Encryption = None,
    keyring: Keyring = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        with output.progress("records") as progress:
            made = memory.export(
                url,
                user_id=ALL if user is None else user,
                description=description,
                encryption=encryption,
                keyring=keyring,
                progress=progress,
            )
        output.figures(made.to_dict())


@backup.command("import", help="Take over what was exported, or is in a backup; what is there already stays as it is.")
def backup_import(
    url: Place,
    *,
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="That backup; else the newest there.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="This user alone; left out, everybody.")] = None,
    encryption: Encryption = None,
    keyring: Keyring = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, create=True) as memory:
        with output.progress("records") as progress:
            report = memory.import_(
                url,
                id=id,
                user_id=ALL if user is None else user,
                encryption=encryption,
                keyring=keyring,
                progress=progress,
            )
        output.figures(report.to_dict())


SnapshotId = Annotated[str, typer.Argument(metavar="ID", help="As `agentmem snapshot list` shows it.")]


@snapshot.command("create", help="Keep the store as it is now, until it is dropped.")
def snapshot_create(
    description: Annotated[str | None, typer.Argument(metavar="DESCRIPTION", help="A note that `list` shows.")] = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        with output.progress("records") as progress:
            made = memory.backup.create("snapshot", description=description, progress=progress)
        output.figures(made.to_dict())


@snapshot.command("list", help="List what was kept, oldest first.")
def snapshot_list(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.backups(memory.snapshots())


@snapshot.command("restore", help="Make the store what it was then; what it is now is kept first.")
def snapshot_restore(id: SnapshotId, path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures(memory.restore_snapshot(id).to_dict())


@snapshot.command("drop", help="Keep it no longer.")
def snapshot_drop(id: SnapshotId, path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures(memory.drop_snapshot(id).to_dict())
