"""A stub of a model's server, for the pages and tests of adapters that speak to one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from threading import Thread
from typing import Any

import pytest


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


@pytest.fixture(scope="session", autouse=True)
def stub_model() -> Iterator[None]:
    """Where anthropic is installed, its client finds the stub, in processes that are started from here, too."""
    if not find_spec("anthropic"):
        yield
        return
    with HTTPServer(("127.0.0.1", 0), StubModel) as server, pytest.MonkeyPatch.context() as patch:
        Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("ANTHROPIC_API_KEY", "stub")
        patch.setenv("CREWAI_DISABLE_TELEMETRY", "true")
        yield
        server.shutdown()
