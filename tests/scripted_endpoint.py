"""An endpoint that speaks OpenAI's chat completions over HTTP, and answers as it is told to: also not at all."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", dict[str, Any]], None]
LIKES = re.compile(r"I like (\w+)")


def operation(**said: Any) -> dict[str, Any]:
    """An operation with all its fields."""
    empty = {"target": None, "text": None, "evidence": [], "valid_from": None, "valid_to": None}
    return {"op": "ADD", "subject": "user", "reason": "it was said", **empty, **said}


def shown(asked: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The facts and the messages of a question."""
    known, new = asked["messages"][-1]["content"].split("New messages:")
    return [[json.loads(line) for line in part.splitlines() if line.startswith("{")] for part in (known, new)]  # type: ignore[return-value]


def likes(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What a good model says of "I like tea": that somebody likes tea, once for each message."""
    return [
        operation(text=f"Likes {found[1]}.", evidence=[{"message": message["id"], "quote": found[0]}])
        for message in shown(asked)[1]
        if (found := LIKES.search(message["text"]))
    ]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self.server.answer(self, asked)

    def send(self, body: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
        """Answer with JSON, or with whatever it is."""
        text = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text)

    def say(self, content: Any, finish: str = "stop", usage: Any = (100, 50), **message: Any) -> None:
        """Answer as a model does; operations, or any text."""
        text = json.dumps({"operations": content}) if isinstance(content, list) else content
        spent = None if usage is None else {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        if usage is not None:
            self.server.tokens += sum(usage)
        said = {"role": "assistant", "content": text, **message}
        self.send(
            {
                "id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": spent,
                "choices": [{"index": 0, "finish_reason": finish, "message": said}],
            }
        )  # fmt: skip

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """``answer`` is what it does; ``asked`` what it was asked; ``tokens`` what it says that it used."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reset()

    def reset(self) -> None:
        """As if it were new, and good."""
        self.answer: Answer = lambda handler, asked: handler.say(likes(asked))
        self.asked = list[dict[str, Any]]()
        self.tokens = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are what is tested."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server while this lasts."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def drip(handler: Handler, asked: dict[str, Any]) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
