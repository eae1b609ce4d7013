"""Commands for what agents work with: ``session``, ``block``, ``prompt``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem import Memory, NotFoundError
from agentmem.cli import values
from agentmem.cli.base import STORE, AsTable, InNamespace, StorePath, User, app, opened, reporting
from agentmem.cli.output import Output

if TYPE_CHECKING:
    from agentmem import Session, Turn

session = typer.Typer(
    help="Look at conversations, go on with them, take turns back.", no_args_is_help=True, rich_markup_mode=None
)
block = typer.Typer(
    help="Texts that an agent always has before it: look at them, edit them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(session, name="session")
app.add_typer(block, name="block")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The conversation's id.")]
OfAgent = Annotated[str | None, typer.Option("--agent", metavar="ID", help="Whose session or block, of the agents.")]
Label = Annotated[str, typer.Argument(metavar="LABEL", help="The block's name.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
IfVersion = Annotated[int | None, typer.Option("--if-version", metavar="NUMBER", help="Only if it is at this version.")]
HowMany = Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many of the last ones.")]


def _session(
    memory: Memory, run: str, user: str | None, agent: str | None, namespace: values.Names | None = None
) -> Session:
    return memory.session(run, user_id=user, agent_id=agent, namespace=namespace)


def _turns(turns: list[Turn]) -> list[dict[str, Any]]:
    return [{"id": turn.id, "at": turn.at.isoformat(), "message": turn.message} for turn in turns]


# -- sessions ----------------------------------------------------------------------------------------------------------


@session.command("list", help="List sessions that are not over, the one begun last first.")
def session_list(
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    limit: HowMany = 100,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = memory.sessions(user_id=user, agent_id=agent, namespace=namespace, limit=limit)
        output.rows([one.to_dict() for one in found], "run_id", "title", "last_at", "closed_at", "ends_at")


@session.command("show", help="Show the last turns of a session, oldest first, whole.")
def session_show(
    run: RunId,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    limit: HowMany = 20,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        output.rows(_turns(_session(memory, run, user, agent, namespace).turns(limit)), "at", "message")


@session.command("append", help="Append a message to a session, which begins it if there is none.")
def session_append(
    run: RunId,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is said.")] = None,
    *,
    role: Annotated[str, typer.Option("--role", metavar="NAME", help="Who says it.")] = "user",
    message: Annotated[
        str | None, typer.Option("--message", metavar="JSON", help="A whole message instead, tool calls and all.")
    ] = None,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    if (text is None) == (message is None):
        raise typer.BadParameter("give either TEXT or --message")
    said = values.json_object(message, "--message") or {"role": role, "content": text}
    output = Output(table)
    with reporting(), opened(path, create=True) as memory:
        output.rows(_turns(_session(memory, run, user, agent, namespace).append(said)), "id", "at", "message")


@session.command("pop", help="Take back the last turns of a session, or with --exchange all since the user spoke last.")
def session_pop(
    run: RunId,
    *,
    exchange: Annotated[bool, typer.Option("--exchange", help="From what the user said last on.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many.")] = 1,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        found = _session(memory, run, user, agent, namespace)
        output.rows(_turns(found.undo(limit) if exchange else found.pop(limit)), "id", "at", "message")


@session.command("info", help="Say what is known of a session, its working memory and summary included.")
def session_info(
    run: RunId,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = _session(memory, run, user, agent, namespace)
        info, summary = found.info(), found.summary()
        if info is None:
            raise NotFoundError(f"there is no session {run!r} here; `agentmem session list` shows those that there are")
        more = {"turns": found.count(), "working": found.working.get()}
        output.figures({**info.to_dict(), **more, "summary": None if summary is None else summary.text})


@session.command("rename", help="Give a session a title; an empty one removes it.")
def session_rename(
    run: RunId,
    title: Annotated[str, typer.Argument(metavar="TITLE")],
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures(_session(memory, run, user, agent, namespace).rename(title or None).to_dict())


@session.command("close", help="Have a session take no more turns; with --reopen, let it go on.")
def session_close(
    run: RunId,
    *,
    reopen: Annotated[bool, typer.Option("--reopen", help="Undo it.")] = False,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        found = _session(memory, run, user, agent, namespace)
        output.figures((found.reopen() if reopen else found.close()).to_dict())


@session.command("summarize", help="Have a summary stand for all turns but the last ones; the turns stay.")
def session_summarize(
    run: RunId,
    *,
    keep: Annotated[int, typer.Option("--keep", metavar="NUMBER", help="How many turns it leaves out.")] = 20,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="NUMBER", help="How long it may be.")] = 400,
    by_model: Annotated[bool, typer.Option("--by-model", help="Have the model of the settings write it.")] = False,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        made = _session(memory, run, user, agent, namespace).summarize(
            keep=keep, max_tokens=max_tokens, model=True if by_model else None
        )
        output.figures({} if made is None else {**made.to_dict(), "text": made.text})


@session.command("delete", help="Delete a session: turns, working memory and summary.")
def session_delete(
    run: RunId,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        output.figures({"deleted": _session(memory, run, user, agent, namespace).delete()})


# -- blocks ------------------------------------------------------------------------------------------------------------


@block.command("list", help="List blocks: nobody's, or those of --user, of --agent, of both.")
def block_list(
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = memory.blocks(user_id=user, agent_id=agent, namespace=namespace).list()
        output.rows([one.to_dict() for one in found], "label", "version", "tokens", "limit", "value")


@block.command("write", help="Write a block's text, which makes it if there is none; with --append, add lines.")
def block_write(
    label: Label,
    text: Annotated[str, typer.Argument(metavar="TEXT")],
    *,
    append: Annotated[bool, typer.Option("--append", help="Add it at the end.")] = False,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="For a new one.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="NUMBER", help="Tokens, for a new one.")] = 2_000,
    reason: Reason = None,
    if_version: IfVersion = None,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, create=True) as memory:
        blocks = memory.blocks(user_id=user, agent_id=agent, namespace=namespace)
        if blocks.get(label) is None and if_version is None:
            made = blocks.create(label, text, description=description, limit=limit, reason=reason)
        else:
            edit = blocks.append if append else blocks.rewrite
            made = edit(label, text, reason=reason, if_version=if_version)
        output.figures(made.to_dict())


@block.command("replace", help="Put a text in the place of another one, which must be in the block once.")
def block_replace(
    label: Label,
    old: Annotated[str, typer.Argument(metavar="OLD")],
    new: Annotated[str, typer.Argument(metavar="NEW")],
    *,
    reason: Reason = None,
    if_version: IfVersion = None,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        blocks = memory.blocks(user_id=user, agent_id=agent, namespace=namespace)
        output.figures(blocks.replace(label, old, new, reason=reason, if_version=if_version).to_dict())


@block.command("history", help="List what a block was after each change, oldest first.")
def block_history(
    label: Label,
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = memory.blocks(user_id=user, agent_id=agent, namespace=namespace).history(label)
        output.rows([one.to_dict() for one in found], "version", "at", "reason", "value")


@block.command("restore", help="Make a block's text again what it was at a version.")
def block_restore(
    label: Label,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="As `agentmem block history` shows it.")],
    *,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        blocks = memory.blocks(user_id=user, agent_id=agent, namespace=namespace)
        output.figures(blocks.restore(label, version).to_dict())


@block.command("delete", help="Delete a block.")
def block_delete(
    label: Label,
    *,
    if_version: IfVersion = None,
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path) as memory:
        blocks = memory.blocks(user_id=user, agent_id=agent, namespace=namespace)
        output.figures({"deleted": blocks.delete(label, if_version=if_version)})


# -- prompts -----------------------------------------------------------------------------------------------------------


@app.command(help="Print what to send to a model next: its messages, and what they are made of.")
def prompt(
    run: RunId,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="What to remember by; left out, what the user said last.")
    ] = None,
    *,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="NUMBER", help="How long it may be.")] = 4_000,
    instructions: Annotated[str, typer.Option("--instructions", metavar="TEXT", help="What it begins with.")] = "",
    path: StorePath = STORE,
    user: User = None,
    agent: OfAgent = None,
    namespace: InNamespace = None,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), opened(path, reading=True) as memory:
        found = _session(memory, run, user, agent, namespace)
        made = found.prompt(query, max_tokens=max_tokens, instructions=instructions, touch=False)
        output.figures({"messages": made.messages(), "manifest": made.manifest.to_dict()})
