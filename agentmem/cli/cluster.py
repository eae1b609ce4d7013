"""Commands about a cluster: where its shards run, and having them run elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentmem.cli.base import AsTable, app, reporting
from agentmem.cli.output import Output

cluster = typer.Typer(
    help="A memory in several shards on Ray: where they run, and moving them; docs/scale.md.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(cluster, name="cluster")

Url = Annotated[str, typer.Argument(metavar="URL", help="The folder or bucket where the cluster lives.")]
Address = Annotated[
    str,
    typer.Option("--address", envvar="RAY_ADDRESS", metavar="HOST:PORT", help="Where Ray is; auto: on this machine."),
]


def _running(url: str, address: str) -> Any:
    from agentmem.distributed.cluster import Cluster
    from agentmem.distributed.clusteractors import connect

    connect(address)
    return Cluster.running(url)


@cluster.command("status", help="List the shards: where each runs, and how far behind what would come back of it is.")
def cluster_status(url: Url, address: Address = "auto", table: AsTable = None) -> None:
    output = Output(table)
    with reporting():
        found, rows, silent = _running(url, address).shards(), list[dict[str, Any]](), False
        for shard, one in found.items():
            if isinstance(one, Exception):
                silent = True
                rows.append(dict.fromkeys(_SHOWN, "") | {"shard": shard, "state": "does not answer"})
            else:
                rows.append(one._asdict())
        output.rows(rows, *_SHOWN)
        if silent:
            raise typer.Exit(1)


@cluster.command("drain", help="Move every shard away from a node, one after the other, while they serve.")
def cluster_drain(
    url: Url,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The beginning of its id, as `status` shows it.")],
    address: Address = "auto",
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting():
        output.rows([one._asdict() for one in _running(url, address).drain(node)], *_MOVED)


@cluster.command("move", help="Move a shard to another node, while it serves.")
def cluster_move(
    url: Url,
    shard: Annotated[str, typer.Argument(metavar="SHARD", help="As `status` names it.")],
    *,
    node: Annotated[
        str | None, typer.Option("--node", metavar="ID", help="The beginning of its id; left out, where Ray has room.")
    ] = None,
    address: Address = "auto",
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting():
        output.rows([_running(url, address).move(shard, node=node)._asdict()], *_MOVED)


_SHOWN = ("shard", "state", "node", "pid", "records", "behind", "epoch")
_MOVED = ("shard", "source", "target", "records", "seconds", "refused_s")
