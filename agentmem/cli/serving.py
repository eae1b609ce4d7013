"""Commands that serve a store, and that make the keys for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem import StoreError
from agentmem.cli.base import STORE, Agent, AsTable, InNamespace, StorePath, app, reporting
from agentmem.cli.output import Output
from agentmem.cli.streams import note
from agentmem.cli.values import local, span

if TYPE_CHECKING:
    from agentmem.server.key import Key
    from agentmem.server.keys import KeyStore

key = typer.Typer(
    help="Make, list, rotate and revoke the keys of a server.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(key, name="key")

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as `agentmem key list` shows it.")]
Expires = Annotated[
    str | None, typer.Option("--expires", metavar="TIME", help="How long it is good for (90d, 12h), or until when.")
]


@app.command(help="Serve the store over HTTP until it is stopped; needs the extra `server`.")
def serve(
    path: StorePath = STORE,
    host: Annotated[str, typer.Option(help="The address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65_535)] = 8377,
    workers: Annotated[int, typer.Option(help="Processes that serve.", min=1, max=64)] = 1,
    certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="FILE", help="The certificate, for HTTPS.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's private key.")
    ] = None,
    per_minute: Annotated[
        int, typer.Option(help="Requests that each key may make in a minute; 0: any number.", min=0)
    ] = 0,
    body_mb: Annotated[float, typer.Option(help="Largest body of a request, in MiB.", min=0.001, max=1_024)] = 20,
    request_s: Annotated[float, typer.Option(help="Longest that a request may take, in seconds.", min=0.1)] = 60,
) -> None:
    with reporting():
        from agentmem.server.limits import Limits
        from agentmem.server.running import Options, serve

        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        limits = Limits(
            body_bytes=round(body_mb * 1_048_576), request_s=request_s, per_minute=per_minute, workers=workers
        )
        code = serve(
            Options(
                path=str(path), host=host, port=port, workers=workers, limits=limits,
                certificate=None if certificate is None else str(certificate),
                private_key=None if private_key is None else str(private_key),
            ),
            note,
        )  # fmt: skip
    raise typer.Exit(code)


@app.command(help="Look at a store in the browser: serve it to this machine until it is stopped, and open the page.")
def dashboard(
    path: StorePath = STORE,
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65_535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page; otherwise its address is only shown.")] = True,
) -> None:
    with reporting():
        import threading
        import webbrowser

        from agentmem.server.running import Options, serve
        from agentmem.server.visit import GOOD_FOR_S, new_once

        if not path.is_dir():
            raise StoreError(f"there is no store at {path}; --path names another")
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        once = new_once()

        def show(url: str) -> None:
            # What follows the # stays in the browser: no server, log or referrer has it.
            page = f"{url}#/enter?once={once}"
            note(f"the page is at {page} (good once, within {GOOD_FOR_S:.0f} s; Ctrl-C ends it)")
            if browser:  # some browsers run in the terminal, and none is waited for
                threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

        code = serve(Options(path=str(path), port=port, once=once), lambda text: None, show)
    raise typer.Exit(code)


@key.command("create", help="Make a key. It is shown once, and kept as a hash only.")
def key_create(
    *,
    scopes: Annotated[str, typer.Option(help="What it allows, of read, write, erase, admin, with commas between.")],
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="ID", help="Whose memories; left out, those of no user.")
    ] = None,
    any_user: Annotated[bool, typer.Option("--any-user", help="Each request says whose memories.")] = False,
    agent: Agent = None,
    namespace: InNamespace = None,
    expires: Expires = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    per_minute: Annotated[int | None, typer.Option(help="Requests that it may make in a minute.", min=1)] = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output, until = Output(table), _expiry(expires)
    with reporting():
        from agentmem.server.keys import KeyStore

        with closing(KeyStore(path)) as keys:
            made = keys.create(
                scopes=[scope.strip() for scope in scopes.split(",") if scope.strip()],
                user_id=user, any_user=any_user, agent_id=agent, namespace=namespace, expires=until, name=name,
                per_minute=per_minute,
            )  # fmt: skip
        output.figures(made.to_dict())
        note("the token is shown this once; whoever has it has what the key allows")


@key.command("list", help="Show all keys, and when each was last used.")
def key_list(path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), _keys(path) as keys:
        found = keys.list()
        if output.table:
            output.rows([_line(one) for one in found], "id", "whose", "scopes", "name", "until", "used_at")
        else:
            output.rows([one.to_dict() for one in found])


@key.command("rotate", help="Make a key that allows what another does, and end that one.")
def key_rotate(
    id: KeyId,
    *,
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old one goes on, such as 1h; 0: not at all.")
    ] = "0",
    expires: Expires = None,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output, until = Output(table), _expiry(expires)
    try:
        both = timedelta(0) if overlap.strip() == "0" else span(overlap)
    except ValueError as exc:
        raise typer.BadParameter(f"--overlap={overlap!r} is {exc}") from exc
    with reporting(), _keys(path) as keys:
        output.figures(keys.rotate(id, overlap=both, expires=until).to_dict())
        note("the token is shown this once; whoever has it has what the key allows")


@key.command("revoke", help="End a key, now and in every process that serves the store.")
def key_revoke(id: KeyId, path: StorePath = STORE, table: AsTable = None) -> None:
    output = Output(table)
    with reporting(), _keys(path) as keys:
        output.figures(keys.revoke(id).to_dict())


@key.command("audit", help="Show what administrators did, oldest first.")
def key_audit(
    *,
    after: Annotated[int, typer.Option(help="Only what came after this line.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="Lines at most.", min=1, max=10_000)] = 100,
    path: StorePath = STORE,
    table: AsTable = None,
) -> None:
    output = Output(table)
    with reporting(), _keys(path) as keys:
        found = [act.to_dict() for act in keys.audit(after=after, limit=limit)]
        if output.table:
            found = [{**act, "at": act["at"][:16].replace("T", " ")} for act in found]
        output.rows(found, "seq", "at", "act", "actor", "target", "user_id")


def _line(one: Key) -> dict[str, Any]:
    """A key in a table that 80 columns have room for."""
    until = "revoked" if one.revoked_at is not None else _day(one.expires_at)
    whose = "any user" if one.any_user else one.user_id or "no user"
    place = [] if one.namespace is None else ["/".join(one.namespace)]
    return {
        "id": one.id,
        "whose": " ".join([whose, *([] if one.agent_id is None else [f"({one.agent_id})"]), *place]),
        "scopes": one.to_dict()["scopes"],
        "name": one.name or "",
        "until": until,
        "used_at": _day(one.used_at),
    }


def _day(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d}"


@contextmanager
def _keys(path: Path) -> Generator[KeyStore]:
    from agentmem.server.keys import KeyStore

    if not path.is_dir():
        raise StoreError(f"there is no store at {path}; --path names another")
    with closing(KeyStore(path)) as keys:
        yield keys


def _expiry(text: str | None) -> Any:
    if text is None:
        return None
    found: timedelta | datetime
    try:
        found = span(text)
    except ValueError:
        try:
            found = local(text)
        except (ValueError, OverflowError, OSError) as exc:
            raise typer.BadParameter(f"--expires={text!r} is neither a span such as 90d nor a time") from exc
    return found
