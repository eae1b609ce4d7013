"""Commands for values, ``value put``, ``get`` and so on: files, bytes, texts and JSON by key."""

from __future__ import annotations

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from agentmem import Memory, NotFoundError
from agentmem.cli import values
from agentmem.cli.base import STORE, Agent, AsTable, Filter, InNamespace, Run, StorePath, User, app, opened, reporting
from agentmem.cli.output import Output
from agentmem.cli.streams import appearing

value = typer.Typer(help="Keep files, bytes, texts and JSON by key.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(value, name="value")

_BLOCK = 1 << 20


class Where(StrEnum):
    """The tiers."""

    hot = "hot"
    warm = "warm"
    cold = "cold"
    glacier = "glacier"


Hold = Annotated[bool, typer.Option("--hold", help="It stays there, whatever its use; else the rules move it on.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="What it is found by, in its user's namespace.")]
IfVersion = Annotated[
    int | None,
    typer.Option("--if-version", metavar="NUMBER", help="Only if it is at this version; 0: if there is none."),
]


@value.command("put", help="Store a file, what is piped in, a text or JSON under a key; what has the key is replaced.")
def value_put(
    key: Key,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The file; - is what is piped in.")] = None,
    *,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="A text instead of a file.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="JSON instead of a file.")] = None,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object to filter by.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Gone after this long: 90s, 30m, 24h, 7d.", metavar="DURATION")
    ] = None,
    if_version: IfVersion = None,
    tier: Annotated[
        Where | None, typer.Option(help="Where it begins: glacier is the archives of the settings.")
    ] = None,
    hold: Hold = False,
    table: AsTable = None,
) -> None:
    if sum(given is not None for given in (file, text, data)) != 1:
        raise typer.BadParameter("give one of FILE, --text and --data")
    what: Any = text if data is None else values.any_json(data, "--data")
    if file is not None:
        what = sys.stdin.buffer if str(file) == "-" else file
    output = Output(table)
    with reporting(), opened(path, create=True) as memory:
        info = memory.values.put(
            key, what, user_id=user, agent_id=agent, run_id=run, namespace=namespace,
            metadata=values.json_object(metadata, "--metadata"), ttl=values.duration(ttl), if_version=if_version,
            tier=None if tier is None else tier.value, hold=hold,
        )  # fmt: skip
        output.figures(info.to_dict())


@value.command("get", help="Write a value to a file or the standard output: bytes as they are, an array as .npy.")
def value_get(
    key: Key,
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")] = None,
    start: Annotated[int | None, typer.Option(metavar="NUMBER", help="The first byte, or row of an array.")] = None,
    end: Annotated[int | None, typer.Option(metavar="NUMBER", help="The byte or row before which it ends.")] = None,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
) -> None:
    with reporting(), opened(path, reading=True) as memory:
        source, size = _source(memory, key, user, namespace, start, end)
        if out is not None:
            with appearing(out) as file:
                _copy(source, size, file)
            return
        if sys.stdout.isatty() and not _is_text(memory, key, user, namespace):
            raise typer.BadParameter(
                "these are bytes, which a terminal cannot show: write them with --out, or pipe them"
            )
        sys.stdout.flush()
        _copy(source, size, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _source(
    memory: Memory, key: str, user: str | None, namespace: values.Names | None, start: int | None, end: int | None
) -> tuple[BinaryIO, int]:
    """A file at where to begin, and how many bytes of it are meant."""
    info = memory.values.info(key, user_id=user, namespace=namespace)
    if info is None:
        raise NotFoundError(f"there is no value with the key {key!r} here")
    if info.kind == "table":
        raise typer.BadParameter("a table has no form of its own outside of Python; get it there")
    if info.kind == "array":
        import numpy as np

        file = io.BytesIO()
        np.save(file, memory.values.get(key, start=start, end=end, user_id=user, namespace=namespace))
        size = file.tell()
        file.seek(0)
        return file, size
    if info.kind not in ("bytes", "stream") and (start, end) != (None, None):
        memory.values.get(key, start=start, end=end, user_id=user, namespace=namespace)  # says that it has no parts
    source = memory.values.open(key, user_id=user, namespace=namespace)
    first, last, _ = slice(start, end).indices(source.seek(0, io.SEEK_END))
    source.seek(first)
    return source, max(0, last - first)


def _copy(source: BinaryIO, size: int, into: BinaryIO) -> None:
    while size and (block := source.read(min(size, _BLOCK))):
        into.write(block)
        size -= len(block)


def _is_text(memory: Memory, key: str, user: str | None, namespace: values.Names | None) -> bool:
    info = memory.values.info(key, user_id=user, namespace=namespace)
    return info is not None and info.kind in ("str", "json")


@value.command("list", help="List values whose keys begin with a prefix, or whose metadata meet a filter.")
def value_list(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="How their keys begin; left out, all.")] = "",
    *,
    filters: Filter = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many.")] = 100,
    after: Annotated[
        str | None, typer.Option(metavar="KEY", help="Go on after this key, the last of the page before.")
    ] = None,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    condition = values.json_object(filters, "--filter")
    if condition is not None and (prefix or after is not None):
        raise typer.BadParameter("--filter goes without PREFIX and --after")
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        if condition is None:
            found = memory.values.list(prefix, user_id=user, namespace=namespace, limit=limit, after=after)
        else:
            found = memory.values.query(condition, user_id=user, namespace=namespace, limit=limit)
        output.rows([info.to_dict() for info in found], "key", "kind", "size", "version", "tier", "updated_at")


@value.command("info", help="Show what a value is, without reading it.")
def value_info(
    key: Key, *, path: StorePath = STORE, user: User = None, namespace: InNamespace = None, table: AsTable = None
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        info = memory.values.info(key, user_id=user, namespace=namespace)
        if info is None:
            raise NotFoundError(f"there is no value with the key {key!r} here")
        output.figures(info.to_dict())


@value.command("versions", help="List what a value has been, oldest first.")
def value_versions(
    key: Key, *, path: StorePath = STORE, user: User = None, namespace: InNamespace = None, table: AsTable = None
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = memory.values.versions(key, user_id=user, namespace=namespace)
        output.rows([one.to_dict() for one in found], "version", "event", "at", "kind", "size")


@value.command("restore", help="Go back to what a value was at a version.")
def value_restore(
    key: Key,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="As `value versions` lists it.")],
    *,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures(memory.values.restore(key, version, user_id=user, namespace=namespace).to_dict())


@value.command("move", help="Have a value lie on the disk or in the archives, or be held in memory by who reads it.")
def value_move(
    key: Key,
    tier: Annotated[Where, typer.Argument(metavar="TIER", help="hot, warm, cold or glacier.")],
    *,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    hold: Hold = False,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures(memory.values.move(key, tier.value, user_id=user, namespace=namespace, hold=hold).to_dict())


@value.command("tiers", help="Show how many values lie on the disk and in the archives, and their bytes.")
def value_tiers(*, path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = memory.values.tiers()
        rows = [{"tier": name, **found[name].to_dict()} for name in ("cold", "glacier")]
        output.rows(rows, "tier", "values", "bytes")


@value.command("delete", help="Hide a value; `agentmem restore` brings it back by its id.")
def value_delete(
    key: Key,
    *,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    if_version: IfVersion = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        if not memory.values.delete(key, user_id=user, namespace=namespace, if_version=if_version):
            raise NotFoundError(f"there is no value with the key {key!r} here")
        output.figures({"deleted": 1})


@value.command("erase", help="Remove all that was ever put under a key, for good.")
def value_erase(
    key: Key, *, path: StorePath = STORE, user: User = None, namespace: InNamespace = None, table: AsTable = None
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        report = memory.values.erase(key, user_id=user, namespace=namespace)
        output.figures(report.to_dict())
