"""A stub of a model's server, for the pages of adapters that speak to one."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any


class StubModel(BaseHTTPRequestHandler):
    """The messages API with a model that creates one file, then says that it did."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        last = asked["messages"][-1]["content"]
        if isinstance(last, str):
            assert asked["tools"] == [{"type": "memory_20250818", "name": "memory"}]
            command = {"command": "create", "path": "/memories/style.md", "file_text": "Short answers."}
            content: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "memory", "input": command}
        else:
            content = {"type": "text", "text": last[0]["content"]}
        answer = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [content],
            "stop_reason": "tool_use" if content["type"] == "tool_use" else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def model_stub() -> Generator[dict[str, str]]:
    """Serves the stub; gives the environment in which the client of anthropic finds it."""
    with HTTPServer(("127.0.0.1", 0), StubModel) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}", "ANTHROPIC_API_KEY": "stub"}
        server.shutdown()
        thread.join()
