"""Commands that read: ``search``, ``list``, ``get``, ``history``, ``count``, ``distinct``, ``export``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmem import Layer, NotFoundError
from agentmem.cli import values
from agentmem.cli.base import (
    STORE,
    Agent,
    AllUsers,
    AsTable,
    By,
    Filter,
    Groups,
    InNamespace,
    Key,
    Kinds,
    MaybeId,
    Mode,
    NoData,
    NoTouch,
    Order,
    Rank,
    RecordId,
    Run,
    Since,
    StorePath,
    Under,
    Until,
    User,
    app,
    by_key,
    opened,
    reporting,
    whose,
    within,
)
from agentmem.cli.exporting import lines
from agentmem.cli.output import Output
from agentmem.cli.streams import appearing, note, say
from agentmem.client import PageOptions

Layers = Annotated[
    list[Layer] | None, typer.Option("--layer", metavar="LAYER", help="Only this layer; may be repeated.")
]
Offset = Annotated[int, typer.Option(metavar="NUMBER", help="How many of the first ones to pass over.")]
NOBODY = "this was among memories of no user; --user names one, --all-users takes everybody's"


@app.command(help="Find memories that answer a question, best first.")
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.")],
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    all_users: AllUsers = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many at most.")] = 10,
    offset: Offset = 0,
    mode: Annotated[
        Mode, typer.Option(metavar="MODE", help="By meaning and words (hybrid), or by one: vector, keyword.")
    ] = Mode.HYBRID,
    rank: Annotated[
        Rank, typer.Option(metavar="RANK", help="Best by score, or by similarity: the cosine and nothing else.")
    ] = Rank.SCORE,
    filters: Filter = None,
    kind: Kinds = None,
    layer: Layers = None,
    since: Since = None,
    until: Until = None,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help='Where "yesterday" and times are: Europe/Berlin; else by setting, or here.'),
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="The least cosine, from -1 to 1.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each one was found.")] = False,
    include_glacier: Annotated[
        bool,
        typer.Option("--include-glacier", help="Look through archives, too, which takes as long as reading them."),
    ] = False,
    no_data: NoData = False,
    no_touch: NoTouch = False,
    table: AsTable = None,
) -> None:
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        zone = values.zone(time_zone)
        first, last = values.instant(since, "--since", zone), values.instant(until, "--until", zone)
        found = memory.search(
            query,
            user_id=user_id,
            agent_id=agent,
            run_id=run,
            namespace=namespace,
            under=under,
            limit=limit,
            offset=offset,
            mode=mode.value,
            rank=rank.value,
            filters=condition,
            kinds=kind or None,
            layers=layer or None,
            since=first,
            until=last,
            time_zone=zone,
            min_similarity=min_similarity,
            explain=explain,
            data=not no_data,
            touch=not no_touch,
            include_glacier=include_glacier,
        )
        output.hits(found)
        if found.skipped_archived and output.table:
            note(f"{found.skipped_archived:,} archived memories were passed over; --include-glacier looks there, too")
        if not found and user_id is None and output.table:
            note(NOBODY)


@app.command("list", help="List memories, newest first, or those that were deleted.")
def list_(
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    all_users: AllUsers = False,
    filters: Filter = None,
    kind: Kinds = None,
    layer: Layers = None,
    since: Since = None,
    until: Until = None,
    order: Annotated[Order, typer.Option(metavar="ORDER", help="newest or oldest first.")] = Order.NEWEST,
    by: Annotated[
        By, typer.Option(metavar="BY", help="In the order of adding (added), by the time of the event, or updated.")
    ] = By.ADDED,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="What was deleted, the last one first; --since and --until say when.")
    ] = False,
    expired: Annotated[bool, typer.Option("--expired", help="The same of what its layer let go.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many at most.")] = 100,
    offset: Offset = 0,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Where to go on, as the list before it said.")
    ] = None,
    no_data: NoData = False,
    table: AsTable = None,
) -> None:
    if deleted and expired:
        raise typer.BadParameter("--deleted and --expired exclude each other")
    gone = deleted or expired
    if gone and (kind or layer or order is not Order.NEWEST or by is not By.ADDED or offset or no_data):
        raise typer.BadParameter(
            "--deleted and --expired take no --kind, --layer, --order, --by, --offset or --no-data"
        )
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        given = _listed(
            user_id, agent, run, condition, kind, layer, since, until, namespace=namespace, under=under,
            order=order.value, by=by.value, limit=limit, offset=offset, cursor=cursor, data=not no_data,
        )  # fmt: skip
        page = (
            memory.deleted(why="expired" if expired else "deleted", **given)
            if gone
            else memory.page(touch=False, **given)
        )
        output.records(page.records, gone=gone)
        if not page.records and user_id is None and output.table:
            note(NOBODY)
    if page.cursor is not None:
        note(f"there are more; go on with --cursor {page.cursor}")


@app.command(help="Show one memory. With --user, --agent or --run, only if it is theirs.")
def get(
    id: MaybeId = None,
    *,
    key: Key = None,
    namespace: InNamespace = None,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Also one that was deleted or has expired, and can be restored.")
    ] = False,
    no_touch: NoTouch = False,
    table: AsTable = None,
) -> None:
    by_key(id, key, namespace)
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        view = within(memory, user, agent, run)
        record = view.get(id, key=key, namespace=namespace, deleted=deleted, touch=not no_touch)
        if record is None and key is not None:
            raise NotFoundError(f"there is no record with the key {key!r} here")
        if record is None:
            hint = "" if deleted else "; --deleted shows one that can be restored, `agentmem history` what became of it"
            raise NotFoundError(f"there is no record with the id {id!r} here{hint}")
        output.record(record)


@app.command(help="Show every change of one memory, oldest first.")
def history(
    id: RecordId,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.events(within(memory, user, agent, run).history(id))


@app.command(help="Count memories, as a whole or by user, agent, conversation or kind.")
def count(
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    all_users: AllUsers = False,
    filters: Filter = None,
    kind: Kinds = None,
    layer: Layers = None,
    since: Since = None,
    until: Until = None,
    by: Annotated[
        Groups | None,
        typer.Option(metavar="GROUPS", help="users (everybody's), agents, runs or kinds, with first and last times."),
    ] = None,
    table: AsTable = None,
) -> None:
    if by is not None and (filters or kind or layer or since or until):
        raise typer.BadParameter("--by takes --user, --agent, --run, --namespace, --under and --all-users only")
    if by is Groups.USERS and (user is not None or all_users or namespace is not None or under is not None):
        raise typer.BadParameter("--by users is about all of them; leave out --user, --all-users and namespaces")
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        if by is None:
            given = _listed(user_id, agent, run, condition, kind, layer, since, until, namespace=namespace, under=under)
            number = memory.count(**given)
            output.figures({"records": number})
        elif by is Groups.USERS:
            output.groups(memory.users(agent_id=agent, run_id=run), "user")
        elif by is Groups.AGENTS:
            output.groups(memory.agents(user_id=user_id, run_id=run, namespace=namespace, under=under), "agent")
        elif by is Groups.RUNS:
            output.groups(memory.runs(user_id=user_id, agent_id=agent, namespace=namespace, under=under), "run")
        else:
            found = memory.kinds(user_id=user_id, agent_id=agent, run_id=run, namespace=namespace, under=under)
            output.groups(found, "kind")


@app.command(help="Show the different values that a field has.")
def distinct(
    field: Annotated[
        str, typer.Argument(metavar="FIELD", help="A key of the metadata, or a field of the record: '$run_id'.")
    ],
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    all_users: AllUsers = False,
    filters: Filter = None,
    kind: Kinds = None,
    layer: Layers = None,
    since: Since = None,
    until: Until = None,
    table: AsTable = None,
) -> None:
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        given = _listed(user_id, agent, run, condition, kind, layer, since, until, namespace=namespace, under=under)
        found = memory.distinct(field, **given)
        output.values(found)


@app.command(help="Write memories as JSON Lines, oldest first, as `add --file` takes them.")
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to; left out or -, standard output.")
    ] = None,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: Agent = None,
    run: Run = None,
    namespace: InNamespace = None,
    under: Under = None,
    all_users: AllUsers = False,
    filters: Filter = None,
    kind: Kinds = None,
    layer: Layers = None,
    since: Since = None,
    until: Until = None,
) -> None:
    user_id = whose(user, all_users)
    condition = values.json_object(filters, "--filter")
    output = Output(False)
    with reporting(), opened(path, reading=True) as memory:
        # Without either all of it: an export of a user is that of the user.
        where = {"namespace": namespace, "under": () if namespace is None and under is None else under}
        given = _listed(user_id, agent, run, condition, kind, layer, since, until, order="oldest", **where)
        records = memory.iterate(touch=False, **given)
        written = 0
        with _written(None if file is None or str(file) == "-" else file) as write, output.progress("written") as shown:
            for line in lines(memory, records):
                write(line)
                written += 1
                if written % 500 == 0:
                    shown(written, None)
        if file is not None and str(file) != "-":
            output.json({"written": written, "file": str(file)})


def _listed(
    user_id: str | None,
    agent: str | None,
    run: str | None,
    condition: dict[str, Any] | None,
    kind: list[str] | None,
    layer: list[Layer] | None,
    since: str | None,
    until: str | None,
    **more: Any,
) -> dict[str, Any]:
    """What the options of a command say of which memories are meant, as arguments of ``page`` and its kin."""
    first, last = values.between(since, until)
    return PageOptions(
        user_id=user_id, agent_id=agent, run_id=run, filters=condition, kinds=kind or None, layers=layer or None,
        since=first, until=last, **more,
    ).arguments()  # fmt: skip


@contextmanager
def _written(file: Path | None) -> Generator[Callable[[str], object]]:
    """Writes lines of UTF-8."""
    if file is None:
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None:
            yield say
            return
        sys.stdout.flush()
        yield lambda line: buffer.write(f"{line}\n".encode())
        buffer.flush()
        return
    with appearing(file) as written:
        yield lambda line: written.write(f"{line}\n".encode())
