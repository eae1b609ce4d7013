"""Running a server: in this process, or in several that share the socket and the store."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from socket import AI_PASSIVE, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import Any

from typing_extensions import override

from agentmem import AsyncMemory, InvalidInputError, MissingExtraError
from agentmem.server.keys import KeyStore
from agentmem.server.limits import Limits
from agentmem.server.workers import FAILED_TO_START, supervise

try:
    import uvicorn

    from agentmem.server.app import App
    from agentmem.server.protocol import Protocol
    from agentmem.server.visit import Visit
except ImportError as exc:
    raise MissingExtraError("a server needs FastAPI, uvicorn and orjson; pip install 'agentmem-db[server]'") from exc

GRACE_S = 30
"""For which requests that are under way may go on after SIGTERM."""
_BACKLOG = 4_096
_MOUNTS: tuple[tuple[str, str, str], ...] = (
    ("/mcp", "agentmem.mcp.http", "build_app"),
    ("/metrics", "agentmem.observe.http", "build_app"),
)
"""What other rooms serve, where they are installed: a path, a module, and a function of memory and keys."""

log = logging.getLogger("agentmem.server")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a server."""

    path: str
    host: str = "127.0.0.1"
    port: int = 8377
    workers: int = 1
    certificate: str | None = None
    private_key: str | None = None
    limits: Limits = field(default_factory=Limits)
    once: str | None = None
    """A token that lets one visitor in, who may do everything, and nobody else without a key (see ``visit.py``)."""
    embedder: Any = None
    """As ``AsyncMemory`` takes it; it goes to other processes, so a name, or what can be pickled."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve(
    options: Options, say: Callable[[str], object] = log.info, listens: Callable[[str], object] | None = None
) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is under way; an exit code. ``listens`` is told the URL at once.

    Without keys, and as long as there has never been one, only this machine may reach it. Raises
    ``InvalidInputError`` where it may not start as asked, ``StoreError`` for a store that cannot be opened.
    """
    _check(options)
    keys = KeyStore(options.path)
    open_ = not keys.required and options.once is None
    keys.close()
    if open_ and not options.is_local:
        raise InvalidInputError(
            f"there is no key yet, and {options.host} lets other machines in; make a key first "
            "(agentmem key create --user NAME --scopes read,write), or serve on 127.0.0.1",
            field="host",
        )
    listening = _bound(options)
    port = listening.getsockname()[1]
    scheme = "https" if options.certificate else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    entering = "without keys, to this machine only; `agentmem key create` ends that" if open_ else "to those with a key"
    say(f"serving {options.path} at {scheme}://{host}:{port}, {entering}")
    if listens is not None:
        listens(f"{scheme}://{host}:{port}/")
    with listening:
        if options.workers == 1:
            return work(options, listening)
        return supervise(work, options, listening, options.workers)


def work(options: Options, listening: socket) -> int:
    """Serve from a socket until SIGTERM or SIGINT; an exit code. In a process of its own where there are several."""
    server = _Server(
        uvicorn.Config(
            partial(make_app, options),
            factory=True,
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE_S,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.private_key,
        )
    )
    try:
        server.run(sockets=[listening])
    except SystemExit:
        return FAILED_TO_START
    # uvicorn before 0.51 comes back where the store could not be opened.
    return FAILED_TO_START if server.lifespan.should_exit else 0


def make_app(options: Options) -> App:
    """The app, on a store that it opens by itself and closes at its end; one for each process."""
    memory = AsyncMemory(options.path, embedder=options.embedder)
    keys = KeyStore(options.path)
    return App(
        memory, keys, limits=options.limits, open=options.is_local and options.once is None,
        mounts=mounted(memory, keys), close_both=True, visit=None if options.once is None else Visit(options.once),
    )  # fmt: skip


def mounted(memory: AsyncMemory, keys: KeyStore) -> dict[str, Any]:
    """The apps of other rooms, where there are any."""
    found = dict[str, Any]()
    for path, module, function in _MOUNTS:
        parent = module.rpartition(".")[0]
        if find_spec(parent) is not None and find_spec(module) is not None:
            try:
                found[path] = getattr(import_module(module), function)(memory, keys)
            except ImportError as exc:  # its extra is not installed
                log.info("%s is not served: %s", path, exc)
    return found


class _Server(uvicorn.Server):
    """Ends with 0 after a signal that asked it to, as whoever asked expects."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def _bound(options: Options) -> socket:
    """The socket."""
    try:
        found = getaddrinfo(options.host, options.port, type=SOCK_STREAM, flags=AI_PASSIVE)[0]
        listening = socket(found[0], SOCK_STREAM)
        try:
            listening.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            listening.bind(found[4])
            listening.listen(_BACKLOG)  # now, so that nobody is turned away while the store is being opened
        except OSError:
            listening.close()
            raise
    except OSError as exc:
        raise InvalidInputError(
            f"{options.host}:{options.port} cannot be served on: {exc.strerror or exc}; name another --port or --host",
            field="port",
        ) from exc
    return listening


def _no_password() -> str:
    """Nobody is there to type one when a server starts anew."""
    raise InvalidInputError(
        "the private key is protected by a passphrase; `openssl pkey -in KEY -out PLAIN` writes one that is not",
        field="private_key",
    )


def _check(options: Options) -> None:
    if options.workers < 1:
        raise InvalidInputError(f"workers must be at least 1 (got {options.workers})", field="workers")
    if (options.certificate is None) != (options.private_key is None):
        raise InvalidInputError("TLS needs both a certificate and its private key", field="certificate")
    for name in ("certificate", "private_key"):
        file = getattr(options, name)
        if file is not None and not os.path.isfile(file):
            raise InvalidInputError(f"{name}: there is no file {file}", field=name)
    if options.certificate is not None and options.private_key is not None:
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(options.certificate, options.private_key, password=_no_password)
        except (ssl.SSLError, OSError) as exc:
            raise InvalidInputError(
                f"{options.certificate} and {options.private_key} are no certificate and its key: {exc}",
                field="certificate",
            ) from exc
