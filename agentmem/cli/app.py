"""The program ``agentmem``: its commands, in the order in which the help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

# isort: off
from agentmem.cli.base import app, run

# Each adds its commands when it is imported.
from agentmem.cli import adding, keyed, reading, changing, agents, consolidate, upkeep, backups, archives, doctor
from agentmem.cli import cluster, mcp, serving, valuecommands
from agentmem.cli.streams import say
# isort: on

__all__ = [
    "adding", "agents", "app", "archives", "backups", "changing", "cluster", "consolidate", "doctor", "keyed", "mcp",
    "reading", "run", "serving", "upkeep", "valuecommands",
]  # fmt: skip


def _show_version(wanted: bool) -> None:
    if wanted:
        from agentmem import __version__

        say(f"agentmem {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
