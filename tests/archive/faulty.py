"""A proxy on loopback that breaks the connection to a server, as told."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP = {"connection", "transfer-encoding", "keep-alive"}


class Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    def handle_error(self, *_: Any) -> None:
        pass


class Faulty:
    """Hands requests on. Of those whose method is in ``faults``, the next one suffers the first fault of the list.

    ``503`` and the like: the server says so, and does nothing. ``unsent``: the connection ends before the server has
    the request. ``unanswered``: after the server has done it, before it answers. ``cut``: in the middle of the body.
    ``short``: the body is shorter, and the header says so, too. ``pass``: nothing.
    """

    def __init__(self, port: int) -> None:
        self.faults = dict[str, list[str]]()
        self.requests = list[str]()
        self.dropped: tuple[str, ...] = ()
        """Headers that the server does not get to see."""
        self.closed = False
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError, ValueError):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: faulty.handle(self, port)
                raise AttributeError(name)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: BaseHTTPRequestHandler, port: int) -> None:
        self.requests.append(f"{request.command} {request.path.partition('?')[0]}")
        body = read_body(request)
        waiting = self.faults.get(request.command, [])
        fault = waiting.pop(0) if waiting else "pass"
        if fault == "unsent" or self.closed:
            return hang_up(request)
        if fault.isdigit():
            request.send_response(int(fault))
            request.send_header("Content-Length", "0")
            request.end_headers()
            return None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {*HOP, *self.dropped}}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as onward:
            onward.request(request.command, request.path, body, headers)
            with onward.getresponse() as answer:
                data = answer.read()
        if fault == "unanswered":
            return hang_up(request)
        sent = data[: len(data) // 2] if fault in ("cut", "short") else data
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP | {"content-length", "server", "date"}:
                request.send_header(name, value)
        length = len(sent) if fault == "short" else len(data)
        if request.command == "HEAD":
            length = int(answer.getheader("Content-Length", "0"))
        if answer.status != 204:
            request.send_header("Content-Length", str(length))
        request.end_headers()
        request.wfile.write(sent)
        if fault == "cut":
            return hang_up(request)
        return None


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline().split(b";")[0], 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def between(port: int) -> Iterator[Faulty]:
    """A proxy to the server on that port of this machine."""
    proxy = Faulty(port)
    try:
        yield proxy
    finally:
        proxy.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
