"""The command ``agentmem mcp``: the store as a server of the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmem import InvalidInputError, Memory, MissingExtraError
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
    http: Annotated[
        bool, typer.Option("--http", help="Over HTTP, at /mcp, in place of standard input; keys settle who is who.")
    ] = False,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Of --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", help="Of --http.", min=0, max=65535)] = 8378,
) -> None:
    with reporting():
        try:
            from agentmem.mcp import stdio
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] != "mcp":
                raise
            raise MissingExtraError("mcp is not installed; pip install 'agentmem-db[mcp]'") from exc
        wanted = [name.strip() for name in tools.split(",") if name.strip()]
        with opened(path, create=True, embedding=True) as memory:
            if http:
                if agent is not None or namespace or graph_file is not None:
                    raise InvalidInputError("--agent, --namespace and --import are not for --http; keys have a scope")
                _serve_http(memory, path, user, wanted, read_only, host, port)
                return
            stdio.serve(
                memory,
                user_id=user,
                agent_id=agent,
                namespace=tuple(namespace or ()),
                read_only=read_only,
                tools=wanted,
                graph_file=graph_file,
                imported=_tell,
            )


def _serve_http(
    memory: Memory, path: Path, user: str | None, tools: list[str], read_only: bool, host: str, port: int
) -> None:
    from agentmem.mcp.http import McpApp
    from agentmem.mcp.serving import serve
    from agentmem.server.entering import Gate
    from agentmem.server.keys import KeyStore

    keys = KeyStore(path)
    try:
        if user is not None and keys.required:
            raise InvalidInputError("there are keys, and each says whose memories it is for; leave out --user")
        gate = Gate(memory.aio, keys, open=False)
        app = McpApp(
            memory.aio, keys, tools=tools, user_id=user, sessions=True, read_only=read_only, look=gate.look
        )  # fmt: skip
        serve(app, keys, host=host, port=port, say=note)
    finally:
        keys.close()


def _tell(done: object) -> None:
    from agentmem.mcp.importing import Imported

    assert isinstance(done, Imported)
    if done.before:
        note("the file was imported before; nothing was added")
        return
    note(f"imported {done.entities:,} entities and {done.relations:,} relations")
    for number, why in done.left_out:
        note(f"line {number} was left out: {why}")
