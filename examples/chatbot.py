"""A chatbot that remembers: an async loop around any OpenAI-compatible endpoint.

With ``OPENAI_BASE_URL`` (and ``OPENAI_API_KEY``, ``OPENAI_MODEL``) set, it talks to that endpoint and to you:

    OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=llama3.2 python examples/chatbot.py

Without, it starts a stub on 127.0.0.1 that answers with what it was told about the user, and holds two short
conversations by itself. Memories are kept in ``AGENTMEM_PATH``, or nowhere if that is not set.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx

from agentmem import AsyncMemory, Settings

KEEP = Settings(message_layer="assets")
"""Turns are kept for good. Left out, they live a day, all but those that are asked for again and again."""
SYSTEM = "You are a helpful assistant. What you know about the user from earlier conversations:\n"
SCRIPT = [
    ["Hi, I'm Ana. I am allergic to peanuts.", "And I live in Lisbon, fourth floor, no lift."],
    ["What should I tell the cook about my allergy?"],
]


class Chatbot:
    """One user's conversations. Every turn is remembered, and what bears on a message goes into the prompt."""

    def __init__(self, memory: AsyncMemory, client: httpx.AsyncClient, model: str, user: str) -> None:
        self.memory = memory.scoped(user_id=user)
        self.client = client
        self.model = model

    async def reply(self, run: str, text: str) -> str:
        """Answer a message of a conversation."""
        known, turns = await asyncio.gather(
            self.memory.context(text, max_tokens=500), self.memory.recent(run_id=run, limit=10)
        )
        messages = [{"role": "system", "content": SYSTEM + (known or "(nothing yet)")}]
        messages += [{"role": turn.role or "user", "content": turn.content} for turn in turns]
        messages.append({"role": "user", "content": text})
        response = await self.client.post("chat/completions", json={"model": self.model, "messages": messages})
        response.raise_for_status()
        answer: str = response.json()["choices"][0]["message"]["content"]
        # Both or neither, and before the answer is shown: what the user has seen is remembered.
        await self.memory.add_many(
            [{"role": "user", "content": text}, {"role": "assistant", "content": answer}], run_id=run
        )
        return answer


async def typed() -> AsyncIterator[str]:
    """What the user types, without blocking the loop."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip():
            yield line.strip()


async def chat(base_url: str, path: str, scripted: bool) -> None:
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
    async with (
        AsyncMemory(path, settings=KEEP) as memory,
        httpx.AsyncClient(base_url=base_url.rstrip("/") + "/", headers=headers, timeout=60) as client,
    ):
        bot = Chatbot(memory, client, os.environ.get("OPENAI_MODEL", "stub"), user=os.environ.get("CHAT_USER", "ana"))
        if not scripted:
            run = uuid4().hex
            async for text in typed():
                print(f"bot: {await bot.reply(run, text)}")
            return
        for number, conversation in enumerate(SCRIPT, 1):
            print(f"conversation {number}")
            for text in conversation:
                print(f"  you: {text}")
                print(f"  bot: {await bot.reply(f'conversation-{number}', text)}")


class _Stub(BaseHTTPRequestHandler):
    """Answers like a chat endpoint: with what the system message says that the user said."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [line.partition("- user: ")[2] for line in request["messages"][0]["content"].splitlines()]
        said = " / ".join(filter(None, known))
        answer = f"You once told me: {said}" if said else "Nice to meet you!"
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def stub_server() -> Iterator[str]:
    """A local endpoint on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    with TemporaryDirectory() as folder:
        path = os.environ.get("AGENTMEM_PATH", folder)
        if base_url := os.environ.get("OPENAI_BASE_URL"):
            asyncio.run(chat(base_url, path, scripted=False))
        else:
            with stub_server() as local:
                asyncio.run(chat(local, path, scripted=True))


if __name__ == "__main__":
    main()
