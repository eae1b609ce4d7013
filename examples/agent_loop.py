"""An agent that calls tools, around any OpenAI-compatible endpoint, and may be killed at any moment.

With ``OPENAI_BASE_URL`` (and ``OPENAI_API_KEY``, ``OPENAI_MODEL``) set, it talks to that endpoint and to you:

    OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=llama3.2 python examples/agent_loop.py

Without, it starts a stub on 127.0.0.1 that asks for the weather, and holds a conversation by itself in which the
process "dies" between a call of a tool and its result. Everything that was appended is there when it starts again: the
loop looks at the end of the session and does what comes next.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from agentmem import Memory, Session

INSTRUCTIONS = "You are a travel guide. Answer in one line, and look up the weather before you speak of it."
TOOLS: dict[str, Callable[..., str]] = {"weather": lambda city: f"Light rain in {city} until noon."}
DESCRIBED = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city, today.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class Died(Exception):
    """Stands for a process that is killed."""


class Agent:
    """One conversation. ``die_before`` names a tool before whose call it dies, once."""

    def __init__(self, session: Session, client: httpx.Client, model: str, die_before: str | None = None) -> None:
        self.session = session
        self.client = client
        self.model = model
        self.die_before = die_before

    def say(self, text: str) -> str:
        """Take what the user says, and answer."""
        self.session.append({"role": "user", "content": text})
        return self.go_on()

    def go_on(self) -> str:
        """Do what comes next, from wherever the session ends, until there is an answer."""
        while True:
            last = self.session.turns(1)[0].message
            if last.get("tool_calls"):
                self.session.append([self.call(each) for each in last["tool_calls"]])  # all results, or none
            elif last["role"] == "assistant":
                return last["content"]
            else:
                # Appended before anything is done about it: what the model asked for is not asked for again.
                self.session.append(self.ask())

    def ask(self) -> dict[str, Any]:
        """What the model says next."""
        prompt = self.session.prompt(max_tokens=2_000, instructions=INSTRUCTIONS)
        body = {"model": self.model, "messages": prompt.messages(), "tools": DESCRIBED}
        response = self.client.post("chat/completions", json=body)
        response.raise_for_status()
        return response.json()["choices"][0]["message"]

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Call a tool. It may have been called before by a process that died: tools are to be safe to repeat."""
        name = asked["function"]["name"]
        if name == self.die_before:
            raise Died
        result = TOOLS[name](**json.loads(asked["function"]["arguments"]))
        return {"role": "tool", "tool_call_id": asked["id"], "content": result}


class Stub(BaseHTTPRequestHandler):
    """A model that asks for the weather once, and then says what it was told."""

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        results = [each["content"] for each in messages if each["role"] == "tool"]
        if results:
            said: dict[str, Any] = {"role": "assistant", "content": f"I looked: {results[-1]}"}
        else:
            arguments = json.dumps({"city": "Faro"})
            call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
            said = {"role": "assistant", "content": None, "tool_calls": [call]}
        body = json.dumps({"choices": [{"message": said}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stub() -> Iterator[str]:
    """The address of a stub that runs meanwhile."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def talk(path: str, base: str, die_before: str | None = None) -> None:
    """What a process does from its start: go on where the session ends, then listen."""
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
    model = os.environ.get("OPENAI_MODEL", "stub")
    with Memory(path) as memory, httpx.Client(base_url=base, headers=headers, timeout=60) as client:
        session = memory.session("trip", user_id="ana", agent_id="guide")
        agent = Agent(session, client, model, die_before)
        ends = [turn.message for turn in session.turns(1)]
        if ends and (ends[0]["role"] != "assistant" or ends[0].get("tool_calls")):
            print("agent (after a restart):", agent.go_on())
        elif "OPENAI_BASE_URL" in os.environ:
            for line in sys.stdin:
                print("agent:", agent.say(line.strip()))
        else:
            print("ana: Will it rain in Faro?")
            print("agent:", agent.say("Will it rain in Faro?"))


def main() -> None:
    if "OPENAI_BASE_URL" in os.environ:
        talk(os.environ.get("AGENTMEM_PATH", ".agentmem"), os.environ["OPENAI_BASE_URL"])
        return
    with TemporaryDirectory() as folder, stub() as base:
        try:
            talk(folder, base, die_before="weather")
        except Died:
            print("(the process dies between the call of a tool and its result)")
        talk(folder, base)


if __name__ == "__main__":
    main()
