"""Commands for what has a key or lies in a namespace, and for the store's feed: ``put``, ``namespaces``, ``events``,
``touch``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from agentmem import UNSET, Layer, NotFoundError
from agentmem.cli import values
from agentmem.cli.base import (
    STORE,
    Agent,
    AllUsers,
    AsTable,
    InNamespace,
    Run,
    Sliding,
    StorePath,
    Under,
    User,
    app,
    opened,
    reporting,
    whose,
    within,
)
from agentmem.cli.output import Output
from agentmem.client import AddOptions


@app.command(help="Store one memory under a key; what has the key is replaced.")
def put(
    key: Annotated[str, typer.Argument(metavar="KEY", help="What it is found by, in its user's namespace.")],
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to remember; may be left out with --data.")
    ] = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    role: Annotated[str | None, typer.Option(metavar="NAME", help="Who said it, for messages.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="NAME", help="What it is.")] = None,
    layer: Annotated[Layer | None, typer.Option(metavar="LAYER", help="interact, insights or assets.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object to filter by.", metavar="JSON")] = None,
    data: Annotated[str | None, typer.Option(help="Any JSON to keep with it.", metavar="JSON")] = None,
    importance: Annotated[float | None, typer.Option(metavar="NUMBER", help="From 0 to 1.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Invisible after this long: 90s, 30m, 24h, 7d.", metavar="DURATION")
    ] = None,
    sliding: Sliding = False,
    occurred_at: Annotated[
        str | None, typer.Option(help="When it happened, if not now; ISO 8601.", metavar="TIME")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="An id of your own, for a new one.")] = None,
    if_version: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Only if the key is at this version; 0: if there is none.")
    ] = None,
    table: AsTable = None,
) -> None:
    options = AddOptions(
        user_id=user, agent_id=agent, run_id=run, namespace=namespace, role=role, kind=kind, layer=layer,
        metadata=values.json_object(metadata, "--metadata"), importance=importance, ttl=values.duration(ttl),
        sliding=sliding or None, occurred_at=values.instant(occurred_at, "--occurred-at"), id=id,
        data=values.any_json(data, "--data"),
    )  # fmt: skip
    if text is None and options.data is None:
        raise typer.BadParameter("give TEXT, or --data, or both")
    output = Output(table)
    with reporting(), opened(path, create=True) as memory:
        output.added(memory.put(key, text, if_version=if_version, **options.arguments()))


@app.command(help="List namespaces with memories, and how many those are.")
def namespaces(
    *,
    path: StorePath = STORE,
    user: User = None,
    all_users: AllUsers = False,
    under: Under = None,
    depth: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Cut paths to so many names, and count deeper ones there.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many at most.")] = 100,
    offset: Annotated[int, typer.Option(metavar="NUMBER", help="How many of the first ones to pass over.")] = 0,
    table: AsTable = None,
) -> None:
    user_id = whose(user, all_users)
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = memory.namespaces(user_id=user_id, under=under or (), depth=depth, limit=limit, offset=offset)
        output.namespaces(found)


@app.command(help="Say that memories were used, or when they are over.")
def touch(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="The records' ids.")],
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Invisible after this long from now; none: never.")
    ] = None,
    table: AsTable = None,
) -> None:
    span = UNSET if ttl is None else None if ttl == values.NONE else values.duration(ttl)
    output = Output(table)
    with reporting(), opened(path) as memory:
        there = within(memory, user, agent, run).touch(ids, ttl=span)
        missing = [json.dumps(id, ensure_ascii=False) for id, found in zip(ids, there, strict=True) if not found]
        output.figures({"touched": there.count(True)})
        if missing:
            raise NotFoundError(f"there is no record with the id {', '.join(missing[:10])} here")


@app.command(help="Show what happened in the store, everybody's, oldest first; for administration.")
def events(
    *,
    path: StorePath = STORE,
    after: Annotated[int, typer.Option(metavar="NUMBER", help="Only what came after the event of this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many at most.")] = 100,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.feed(memory.events(after=after, limit=limit))
