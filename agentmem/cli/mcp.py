"""The command ``agentmem mcp``: the store as a server of the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmem import MissingExtraError
from agentmem.cli.base import STORE, Agent, InNamespace, StorePath, User, app, opened, reporting
from agentmem.cli.streams import note


@app.command("mcp", help="Serve the memories of one user to an assistant, by the Model Context Protocol.")
def serve_mcp(
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    namespace: InNamespace = None,
    tools: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Sets (memory, read, graph) or single tools, with commas between them."),
    ] = "memory",
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse whatever changes something.")] = False,
    graph_file: Annotated[
        Path | None,
        typer.Option(
            "--import", metavar="FILE", help="A file of the reference server to take into the graph first, once."
        ),
    ] = None,
) -> None:
    with reporting():
        try:
            from agentmem.mcp import stdio
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] != "mcp":
                raise
            raise MissingExtraError("mcp is not installed; pip install 'agentmem-db[mcp]'") from exc
        with opened(path, create=True) as memory:
            stdio.serve(
                memory,
                user_id=user,
                agent_id=agent,
                namespace=tuple(namespace or ()),
                read_only=read_only,
                tools=[name.strip() for name in tools.split(",") if name.strip()],
                graph_file=graph_file,
                imported=_tell,
            )


def _tell(done: object) -> None:
    from agentmem.mcp.importing import Imported

    assert isinstance(done, Imported)
    if done.before:
        note("the file was imported before; nothing was added")
        return
    note(f"imported {done.entities:,} entities and {done.relations:,} relations")
    for number, why in done.left_out:
        note(f"line {number} was left out: {why}")
