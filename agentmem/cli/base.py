"""The program that commands are added to, and what they share: options, opening a store, one line for an error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from agentmem import ALL, AgentMemError, Memory, StoreError
from agentmem.cli.streams import note, say
from agentmem.cli.values import Names, namespace, store_folder
from agentmem.cli.words import error_text, in_the_shell
from agentmem.client import is_store, is_writable

if TYPE_CHECKING:
    from agentmem.settings import Settings

INTERRUPTED = 130
"""Exit code of a command that was stopped with Ctrl-C, as shells report it."""
TAKEN = 3
"""Exit code of an import that left lines out whose id or key is another memory's."""

# Help is given to each command as it is, not by a docstring: `python -OO` has none.
app = typer.Typer(
    name="agentmem",
    help="A memory for LLM agents and chatbots, on local disk.",
    epilog="Results are JSON when piped and a table on a terminal; --json and --table choose.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Mode(StrEnum):
    HYBRID = "hybrid"
    VECTOR = "vector"
    KEYWORD = "keyword"


class Rank(StrEnum):
    SCORE = "score"
    SIMILARITY = "similarity"


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


class By(StrEnum):
    ADDED = "added"
    EVENT = "event"
    UPDATED = "updated"


class Groups(StrEnum):
    USERS = "users"
    AGENTS = "agents"
    RUNS = "runs"
    KINDS = "kinds"


class OnError(StrEnum):
    RAISE = "raise"
    SKIP = "skip"


class GivenVectors(StrEnum):
    REFUSE = "refuse"
    KEEP = "keep"
    EMBED = "embed"


STORE = Path(".agentmem")
StorePath = Annotated[
    Path,
    typer.Option(
        "--path",
        "-p",
        envvar="AGENTMEM_PATH",
        help="Folder of the store.",
        metavar="FOLDER",
        parser=store_folder,
    ),
]
User = Annotated[
    str | None, typer.Option("--user", "-u", metavar="ID", help="Whose memories; left out, those of no user.")
]
Agent = Annotated[str | None, typer.Option("--agent", metavar="ID", help="Only those of this agent.")]
Run = Annotated[str | None, typer.Option("--run", metavar="ID", help="Only those of this conversation.")]
InNamespace = Annotated[
    Names | None,
    typer.Option(
        "--namespace", metavar="PATH", parser=namespace, help='Only this namespace: letters/2026, or ["a/b"].'
    ),
]
Under = Annotated[
    Names | None,
    typer.Option("--under", metavar="PATH", parser=namespace, help="This namespace and all below it; / is everything."),
]
Sliding = Annotated[bool, typer.Option("--sliding", help="The --ttl counts from the last read.")]
NoTouch = Annotated[bool, typer.Option("--no-touch", help="Leave no trace of this: it is no use of what is shown.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="What it was put by, in place of its id.")]
AllUsers = Annotated[bool, typer.Option("--all-users", help="Everybody's memories, for administration.")]
Filter = Annotated[
    str | None, typer.Option("--filter", help="A condition on metadata, or $data.KEY, Mongo style.", metavar="JSON")
]
NoData = Annotated[bool, typer.Option("--no-data", help="Leave out the data that memories have, which may be large.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", metavar="NAME", help="Only this kind; may be repeated.")]
Since = Annotated[
    str | None, typer.Option("--since", help="Only what happened from then on; ISO 8601.", metavar="TIME")
]
Until = Annotated[str | None, typer.Option("--until", help="Only what happened before; ISO 8601.", metavar="TIME")]
AsTable = Annotated[
    bool | None, typer.Option("--table/--json", help="How to print; default: table on a terminal, else JSON.")
]
RecordId = Annotated[str, typer.Argument(metavar="ID", help="The record's id.")]
MaybeId = Annotated[str | None, typer.Argument(metavar="ID", help="The record's id; left out with --key.")]
RecordIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The records' ids.")]
All = Annotated[bool, typer.Option("--all", help="All that --user, --agent and --run say, instead of single ones.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")]


def whose(user: str | None, all_users: bool) -> str | None:
    """The ``user_id`` of a read."""
    if all_users and user is not None:
        raise typer.BadParameter("--all-users and --user exclude each other")
    return ALL if all_users else user  # pyright: ignore[reportReturnType]


def chosen(ids: list[str] | None, everything: bool, *scope: str | bool | None) -> list[str]:
    """The ids that a command is for; none if it is for all of a scope. Refuses both, and neither."""
    if bool(ids) == everything:
        raise typer.BadParameter("give either IDs, or --all with --user, --agent or --run")
    if everything and not any(scope):
        raise typer.BadParameter("--all needs --user, --agent or --run, so that nothing is changed by accident")
    return ids or []


def by_key(id: str | None, key: str | None, namespace: Names | None) -> None:
    """Refuse an id and a key, neither of them, and a namespace that no key is in."""
    if (id is None) == (key is None):
        raise typer.BadParameter("give either ID or --key")
    if key is None and namespace is not None:
        raise typer.BadParameter("--namespace says where a --key is; an ID needs none")


@contextmanager
def opened(
    path: Path,
    *,
    create: bool = False,
    reading: bool = False,
    embedding: bool = False,
    settings: Settings | None = None,
) -> Generator[Memory]:
    """The store. Reading does not create one: a mistyped path would look like an empty memory.

    One that cannot be written is opened read-only for a command that is only ``reading``. One whose model is not at
    hand is refused for a command that goes on ``embedding``; to any other it is no error until something is embedded.
    """
    if not create and path.is_dir() and not is_store(path):
        raise StoreError(f"{path} holds no store; `agentmem add` makes one, --path names another")
    if not create and not path.exists():
        raise StoreError(f"there is no store at {path}; `agentmem add` makes one, --path names another")
    with Memory(path, settings=settings, read_only=reading and not is_writable(path)) as memory:
        if embedding:
            memory.handle.engine()
        memory.handle.any_model = True
        yield memory


def within(memory: Memory, user: str | None, agent: str | None, run: str | None) -> Memory:
    """The store as somebody sees it who was named; as it is if nobody was."""
    if user is None and agent is None and run is None:
        return memory
    return memory.scoped(user_id=user, agent_id=agent, run_id=run)


@contextmanager
def reporting() -> Generator[None]:
    """One line on standard error in place of a traceback, for whatever is not a bug."""
    try:
        yield
    except BrokenPipeError as exc:
        # Whoever read the output has seen enough. What is still buffered has nowhere to go.
        sys.stdout = None
        raise typer.Exit(1) from exc
    except (AgentMemError, OSError) as exc:
        say(f"agentmem: {error_text(exc)}", error=True)
        raise typer.Exit(1) from exc
    except KeyboardInterrupt as exc:
        say("agentmem: interrupted", error=True)
        raise typer.Exit(INTERRUPTED) from exc


def _remark(message: Warning | str, *_: object) -> None:
    """A warning, such as about a filter that can never match, as one line."""
    note(in_the_shell(str(message)))


def _leave_only(called: Sequence[str]) -> None:
    """Leave out all commands but the one that is called by its name: to make all of them takes a tenth of a second."""
    commands = [one for one in app.registered_commands if _name_of(one) in called]
    groups = [one for one in app.registered_groups if one.name in called]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups


def _name_of(command: CommandInfo) -> str | None:
    return command.name or (command.callback and get_command_name(command.callback.__name__))


def run() -> None:
    """The whole program. What goes wrong outside of a command, such as printing its help, is one line as well."""
    warnings.showwarning = _remark
    try:
        with reporting():
            _leave_only(sys.argv[1:2])
            app()
    except typer.Exit as exc:
        sys.exit(exc.exit_code)
