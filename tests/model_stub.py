"""A stub of a model's server, for the pages of adapters that speak to one."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any


class StubModel(BaseHTTPRequestHandler):
    """Anthropic's messages API, with a model that creates one file, then says that it did; and OpenAI's responses and
    chat completions, as a stream, with one that says again what users said."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/responses"):
            self._send(response(asked))
        elif self.path.endswith("/chat/completions"):
            self._send_events(completion(asked))
        else:
            self._send(message(asked))

    def _send(self, answer: dict[str, Any]) -> None:
        self._send_body(json.dumps(answer), "application/json")

    def _send_events(self, events: list[dict[str, Any]]) -> None:
        lines = [*map(json.dumps, events), "[DONE]"]
        self._send_body("".join(f"data: {line}\n\n" for line in lines), "text/event-stream")

    def _send_body(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def message(asked: dict[str, Any]) -> dict[str, Any]:
    """What Anthropic's model answers."""
    last = asked["messages"][-1]["content"]
    if isinstance(last, str):
        assert asked["tools"] == [{"type": "memory_20250818", "name": "memory"}]
        command = {"command": "create", "path": "/memories/style.md", "file_text": "Short answers."}
        content: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "memory", "input": command}
    else:
        content = {"type": "text", "text": last[0]["content"]}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [content],
        "stop_reason": "tool_use" if content["type"] == "tool_use" else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip


def response(asked: dict[str, Any]) -> dict[str, Any]:
    """What OpenAI's model answers by its responses API."""
    items = asked["input"] if isinstance(asked["input"], list) else [{"role": "user", "content": asked["input"]}]
    content = {"type": "output_text", "text": said_again(items), "annotations": [], "logprobs": []}
    output = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
    return {
        "id": "resp_1", "object": "response", "created_at": 0, "status": "completed", "model": asked["model"],
        "output": [output], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2,
        },
    }  # fmt: skip


def completion(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The same by its chat completions."""
    choices: list[dict[str, Any]] = [
        {"delta": {"role": "assistant", "content": said_again(asked["messages"])}, "finish_reason": None},
        {"delta": {}, "finish_reason": "stop"},
    ]
    head = {"id": "chat_1", "object": "chat.completion.chunk", "created": 0, "model": asked["model"]}
    return [head | {"choices": [{"index": 0} | choice]} for choice in choices]


def said_again(messages: list[dict[str, Any]]) -> str:
    """All that users said."""
    said = [each["content"] for each in messages if each.get("role") == "user"]
    return "You said: " + " ".join(
        each if isinstance(each, str) else " ".join(part.get("text", "") for part in each) for each in said
    )


@contextmanager
def model_stub() -> Generator[dict[str, str]]:
    """Serves the stub; gives the environment in which the clients of anthropic and openai find it."""
    with HTTPServer(("127.0.0.1", 0), StubModel) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield {
            "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "stub", "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "stub",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }  # fmt: skip
        server.shutdown()
        thread.join()
