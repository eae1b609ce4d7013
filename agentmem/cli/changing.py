"""Commands that change what is there: ``update``, ``delete``, ``restore``, ``erase``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any

import typer

from agentmem import UNSET, NotFoundError
from agentmem.cli import values
from agentmem.cli.base import (
    STORE,
    Agent,
    All,
    AllUsers,
    AsTable,
    DryRun,
    Filter,
    InNamespace,
    Key,
    RecordId,
    RecordIds,
    Run,
    StorePath,
    Under,
    User,
    app,
    chosen,
    opened,
    reporting,
    whose,
    within,
)
from agentmem.cli.output import Output

_TOGETHER = 10_000
"""Memories that are deleted in one transaction."""


@app.command(help="Change one memory; what is left out stays as it is.")
def update(
    id: RecordId,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    content: Annotated[str | None, typer.Option(metavar="TEXT", help="What it says from now on.")] = None,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="An object that is merged key by key, null removes a key; null removes all."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="The metadata are exactly those of --metadata; nothing is merged.")
    ] = False,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Invisible after this long from now; none: never.")
    ] = None,
    importance: Annotated[str | None, typer.Option(metavar="NUMBER", help="From 0 to 1; none takes it away.")] = None,
    if_version: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Only if the memory is at this version.")
    ] = None,
    table: AsTable = None,
) -> None:
    if replace and metadata is None:
        raise typer.BadParameter("--replace goes with --metadata")
    changed: dict[str, Any] = {
        "content": UNSET if content is None else content,
        "metadata": UNSET,
        "ttl": UNSET if ttl is None else None if ttl == values.NONE else values.duration(ttl),
        "importance": UNSET if importance is None else _number(importance),
    }
    if metadata is not None:
        changed["metadata"] = None if metadata.strip() == "null" else values.json_object(metadata, "--metadata")
    output = Output(table)
    with reporting(), opened(path) as memory:
        view = within(memory, user, agent, run)
        output.record(view.update(id, **changed, merge=not replace, if_version=if_version))


def _number(text: str) -> float | None:
    if text == values.NONE:
        return None
    try:
        return float(text)
    except ValueError as exc:
        raise typer.BadParameter(f"--importance={text!r} is neither a number nor none") from exc


@app.command(help="Hide memories everywhere; `agentmem restore` brings them back.")
def delete(
    ids: RecordIds = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    key: Key = None,
    namespace: InNamespace = None,
    under: Under = None,
    everything: All = False,
    all_users: AllUsers = False,
    filters: Filter = None,
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --all: only what was added before; ISO 8601.")
    ] = None,
    dry_run: DryRun = False,
    table: AsTable = None,
) -> None:
    if key is not None:
        if ids or everything or all_users or under is not None or filters is not None or before is not None or dry_run:
            raise typer.BadParameter("--key takes --user, --agent, --run and --namespace only")
        output = Output(table)
        with reporting(), opened(path) as memory:
            if not within(memory, user, agent, run).delete(key=key, namespace=namespace):
                raise NotFoundError(f"there is no record with the key {key!r} here")
            output.figures({"deleted": 1})
        return
    somewhere = namespace is not None or under is not None
    wanted = chosen(ids, everything, user, agent, run, all_users, somewhere)
    if wanted and somewhere:
        raise typer.BadParameter("--namespace and --under go with --all or --key")
    if wanted and (filters is not None or before is not None or all_users or dry_run):
        raise typer.BadParameter("--all-users, --filter, --before and --dry-run go with --all")
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path) as memory:
        if not wanted:
            instant = None if before is None else values.instant(before, "--before", values.zone())
            number = memory.delete_all(
                user_id=user_id, agent_id=agent, run_id=run, namespace=namespace, under=under,
                filters=condition, before=instant, dry_run=dry_run,
            )  # fmt: skip
            output.figures({"would_delete" if dry_run else "deleted": number})
            return
        view = within(memory, user, agent, run)
        groups = (wanted[start : start + _TOGETHER] for start in range(0, len(wanted), _TOGETHER))
        there = [was_there for group in groups for was_there in view.delete_many(group)]
        missing = [id for id, was_there in zip(wanted, there, strict=True) if not was_there]
        _each(output, "deleted", len(wanted) - len(missing), missing)


@app.command(help="Bring back what was deleted or has expired, or what a memory said before.")
def restore(
    ids: RecordIds = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    version: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Back to this version, of a single memory.")
    ] = None,
    everything: All = False,
    filters: Filter = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --all: only what went from then on; ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="With --all: only what went before.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="With --all: what its layer let go.")] = False,
    dry_run: DryRun = False,
    table: AsTable = None,
) -> None:
    wanted = chosen(ids, everything, user, agent, run)
    if wanted and (filters or since or until or expired or dry_run):
        raise typer.BadParameter("--filter, --since, --until, --expired and --dry-run go with --all")
    if version is not None and len(wanted) != 1:
        raise typer.BadParameter("--version belongs to a single ID")
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path) as memory:
        if not wanted:
            first, last = values.between(since, until)
            number = memory.restore_all(
                user_id=user,
                agent_id=agent,
                run_id=run,
                filters=condition,
                since=first,
                until=last,
                why="expired" if expired else "deleted",
                dry_run=dry_run,
            )
            output.figures({"would_restore" if dry_run else "restored": number})
            return
        view = within(memory, user, agent, run)
        if len(wanted) == 1:
            output.record(view.restore(wanted[0], version=version))
            return
        missing = [id for id in wanted if not _found(view.restore, id)]
        _each(output, "restored", len(wanted) - len(missing), missing)


@app.command(help="Remove memories for good: text, metadata, embeddings, from the history too.")
def erase(
    ids: RecordIds = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Everything that was ever stored for --user, and the user's keys, instead of single ones; with "
            "--agent, --run, --namespace or --under what lies there alone.",
        ),
    ] = False,
    all_users: AllUsers = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first, as is done on a terminal.")] = False,
    table: AsTable = None,
) -> None:
    somewhere = namespace is not None or under is not None
    wanted = chosen(ids, everything, user, agent, run, all_users, somewhere)
    if wanted and (somewhere or all_users):
        raise typer.BadParameter("--namespace, --under and --all-users go with --all")
    part = agent is not None or run is not None or namespace is not None or bool(under)
    if not wanted and not part and user is None:
        raise typer.BadParameter("--all erases a person, --user, or a part: --agent, --run, --namespace or --under")
    user_id = whose(user, all_users)
    if wanted:
        what = f"{len(wanted):,} memories" if len(wanted) > 1 else f"the memory {wanted[0]!r}"
    else:
        owner = "everybody" if all_users else "nobody" if user is None else f"the user {user!r}"
        what = f"all memories of {owner}{' that lie there' if part else ''}"
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm(f"Erase {what} for good?", abort=True)
    output = Output(table)
    with reporting(), opened(path) as memory:
        if not wanted and part:
            report = memory.erase_all(user_id=user_id, agent_id=agent, run_id=run, namespace=namespace, under=under)
            output.figures(report.to_dict())
            return
        if not wanted:
            from agentmem.server.keys import KeyStore

            report = memory.erase_all(user_id=user)
            with closing(KeyStore(path)) as keys:
                keys.forget_user(str(user))
            output.figures(report.to_dict())
            return
        view = within(memory, user, agent, run)
        missing = [id for id in wanted if not _found(view.erase, id)]
        _each(output, "erased", len(wanted) - len(missing), missing)


def _found(change: Callable[[str], object], id: str) -> bool:
    """Whether there was such a record to change."""
    try:
        change(id)
    except NotFoundError:
        return False
    return True


def _each(output: Output, done: str, number: int, missing: list[str]) -> None:
    """How many were changed; an error if some of them were not there."""
    if number or not missing:
        output.figures({done: number})
    if missing:
        names = ", ".join(json.dumps(id, ensure_ascii=False) for id in missing[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        raise NotFoundError(f"there is no record with the id {names}{more} here")
