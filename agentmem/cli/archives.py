"""Commands for archives of old records: ``archive`` and ``rehydrate``."""

from __future__ import annotations

from typing import Annotated

import typer

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
    Kinds,
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
from agentmem.cli.reading import Layers


@app.command(help="Move memories to archives, in the place that glacier.url names; they can still be read there.")
def archive(
    ids: RecordIds = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    everything: All = False,
    all_users: AllUsers = False,
    filters: Filter = None,
    kind: Kinds = None,
    layer: Layers = None,
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --all: only what was added before; ISO 8601.")
    ] = None,
    dry_run: DryRun = False,
    table: AsTable = None,
) -> None:
    somewhere = namespace is not None or under is not None
    wanted = chosen(ids, everything, user, agent, run, all_users, somewhere)
    if wanted and (somewhere or all_users or filters or kind or layer or before is not None):
        raise typer.BadParameter(
            "--namespace, --under, --all-users, --filter, --kind, --layer and --before go with --all"
        )
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path) as memory:
        if wanted:
            report = within(memory, user, agent, run).tiers.archive(wanted, dry_run=dry_run)
        else:
            instant = None if before is None else values.instant(before, "--before", values.zone())
            report = memory.tiers.archive(
                user_id=user_id, agent_id=agent, run_id=run, namespace=namespace, under=under, filters=condition,
                kinds=kind or None, layers=layer or None, before=instant, dry_run=dry_run,
            )  # fmt: skip
        output.figures(report.to_dict())


@app.command(help="Bring memories back from archives, the same to the bit.")
def rehydrate(
    ids: RecordIds = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    table: AsTable = None,
) -> None:
    wanted = chosen(ids, False, user, agent, run)
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures({"rehydrated": within(memory, user, agent, run).tiers.rehydrate(wanted)})
