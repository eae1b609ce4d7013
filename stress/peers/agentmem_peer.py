"""agentmem itself, in the mode that the others have: vectors only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentmem import Embedder, Memory

PACKAGE = "agentmem-db"


class AgentmemPeer:
    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._memory = Memory(folder, embedder=embedder)
        self._memory.warm_up()  # opens the store, as the others' constructors do

    def add(self, user: str, text: str) -> None:
        self._memory.add(text, user_id=user)

    def add_batch(self, user: str, texts: Sequence[str]) -> None:
        self._memory.add_many(texts, user_id=user)

    def ready(self) -> None:
        self._memory.flush()

    def search(self, user: str, query: str, limit: int, mode: str = "vector") -> list[tuple[str, str]]:
        found = self._memory.search(query, user_id=user, limit=limit, mode=mode)  # type: ignore[arg-type]
        return [(hit.record.user_id or "", hit.content) for hit in found]

    def search_hybrid(self, user: str, query: str, limit: int) -> list[tuple[str, str]]:
        return self.search(user, query, limit, "hybrid")

    def count(self) -> int:
        return self._memory.stats().records

    def close(self) -> None:
        self._memory.close()


def open_peer(folder: Path, embedder: Embedder) -> AgentmemPeer:
    return AgentmemPeer(folder, embedder)
