"""LangGraph's SqliteStore with vector search (sqlite-vec)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from langgraph.store.base import PutOp
from langgraph.store.sqlite import SqliteStore

from agentmem import Embedder

PACKAGE = "langgraph-checkpoint-sqlite"


class LanggraphPeer:
    def __init__(self, folder: Path, embedder: Embedder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        index = {
            "dims": embedder.dim,
            "embed": lambda texts: embedder.embed_documents(texts).tolist(),
            "fields": ["text"],
        }
        opened = SqliteStore.from_conn_string(str(folder / "store.db"), index=index)  # type: ignore[arg-type]
        self._store = self._stack.enter_context(opened)
        self._store.setup()

    def add(self, user: str, text: str) -> None:
        self._store.put(("memories", user), str(uuid.uuid4()), {"text": text})

    def add_batch(self, user: str, texts: Sequence[str]) -> None:
        self._store.batch([PutOp(("memories", user), str(uuid.uuid4()), {"text": text}) for text in texts])

    def ready(self) -> None: ...

    def search(self, user: str, query: str, limit: int) -> list[tuple[str, str]]:
        found = self._store.search(("memories", user), query=query, limit=limit)
        return [(item.namespace[1], item.value["text"]) for item in found]

    def count(self) -> int:
        return self._store.conn.execute("SELECT count(*) FROM store").fetchone()[0]

    def close(self) -> None:
        self._stack.close()


def open_peer(folder: Path, embedder: Embedder) -> LanggraphPeer:
    return LanggraphPeer(folder, embedder)
