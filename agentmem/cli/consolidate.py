"""``consolidate``: facts drawn from messages, what is proposed, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentmem.cli.base import STORE, AsTable, InNamespace, StorePath, User, app, opened, reporting
from agentmem.cli.output import Output

if TYPE_CHECKING:
    from agentmem import Consolidation, ConsolidationReport, Memory
    from agentmem.cli import values

consolidate = typer.Typer(
    help="Draw facts from messages with the model of the settings; look at what is proposed, and at what it costs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(consolidate, name="consolidate")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Proposals; left out, all, or those of --run.")]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only those of this run.")]


def _of(memory: Memory, user: str | None, namespace: values.Names | None, model: str | None = None) -> Consolidation:
    return memory.consolidation(user_id=user, namespace=namespace, model=model)


def _report(output: Output, report: ConsolidationReport) -> None:
    output.figures(report.to_dict())
    if report.status not in ("done", "limited"):
        raise typer.Exit(1)


@consolidate.command("run", help="Ask the model about what was said since the last run; exits with 1 unless it got on.")
def consolidate_run(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Propose what it says, to be approved, instead of storing it.")
    ] = False,
    batches: Annotated[int | None, typer.Option("--batches", metavar="NUMBER", help="How many at most.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Another model there.")] = None,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        _report(output, _of(memory, user, namespace, model).run(dry_run=dry_run, batches=batches))


@consolidate.command("propose", help="Find repetitions and contradictions among facts, without a model.")
def consolidate_propose(
    *, path: StorePath = STORE, user: User = None, namespace: InNamespace = None, table: AsTable = None
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        found = _of(memory, user, namespace).propose()
        output.rows([one.to_dict() for one in found], "id", "op", "target", "by", "reason")


@consolidate.command("proposals", help="List what waits to be approved, the oldest first.")
def consolidate_proposals(
    *,
    run: OfRun = None,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = _of(memory, user, namespace).proposals(run_id=run)
        output.rows([one.to_dict() for one in found], "id", "op", "text", "subject", "reason")


@consolidate.command("approve", help="Do what was proposed, in one transaction.")
def consolidate_approve(
    ids: Ids = None,
    *,
    run: OfRun = None,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        _report(output, _of(memory, user, namespace).approve(ids or None, run_id=run))


@consolidate.command("reject", help="Delete what was proposed; it is not proposed again.")
def consolidate_reject(
    ids: Ids = None,
    *,
    run: OfRun = None,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures({"rejected": _of(memory, user, namespace).reject(ids or None, run_id=run)})


@consolidate.command("revert", help="Take back all that a run, or an approval, has done.")
def consolidate_revert(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run_id of its report.")],
    *,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        _report(output, _of(memory, user, namespace).revert(run))


@consolidate.command("retry", help="Put dead letters back into the queue, and try the endpoint again at once.")
def consolidate_retry(
    *, path: StorePath = STORE, user: User = None, namespace: InNamespace = None, table: AsTable = None
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures({"retried": _of(memory, user, namespace).retry()})


@consolidate.command("state", help="Say what is waiting, what could not be made sense of, what today came to.")
def consolidate_state(
    *, path: StorePath = STORE, user: User = None, namespace: InNamespace = None, table: AsTable = None
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.figures(_of(memory, user, namespace).state().to_dict())


@consolidate.command("spend", help="Say what each day came to, in tokens and money, of a user or of the whole store.")
def consolidate_spend(
    *,
    everybody: Annotated[bool, typer.Option("--everybody", help="Of the whole store.")] = False,
    path: StorePath = STORE,
    user: User = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        days = _of(memory, user, namespace).spend(everybody=everybody)
        found = [{"day": one.day, **one.spend.to_dict()} for one in days]
        output.rows(found, "day", "calls", "input_tokens", "output_tokens", "money")
