"""mem0 on qdrant in a local folder, with ``infer=False``: texts are stored as they are, no language model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mem0 import Memory
from mem0.embeddings.base import EmbeddingBase

from agentmem import Embedder

PACKAGE = "mem0ai"


class _Embedding(EmbeddingBase):
    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self._embedder = embedder

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        if memory_action == "search":
            return self._embedder.embed_query(text).tolist()
        return self._embedder.embed_documents([text])[0].tolist()

    def embed_batch(self, texts: Sequence[str], memory_action: str = "add") -> list[list[float]]:
        return self._embedder.embed_documents(texts).tolist()


class Mem0Peer:
    def __init__(self, folder: Path, embedder: Embedder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        vectors = {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": embedder.dim}
        config: dict[str, Any] = {
            "vector_store": {"provider": "qdrant", "config": vectors},
            "history_db_path": str(folder / "history.db"),
        }
        self._memory = Memory.from_config(config)
        self._memory.embedding_model = _Embedding(embedder)

    def add(self, user: str, text: str) -> None:
        self._memory.add(text, user_id=user, infer=False)

    def add_batch(self, user: str, texts: Sequence[str]) -> None:
        self._memory.add([{"role": "user", "content": text} for text in texts], user_id=user, infer=False)

    def ready(self) -> None: ...

    def search(self, user: str, query: str, limit: int) -> list[tuple[str, str]]:
        found = self._memory.search(query, filters={"user_id": user}, top_k=limit, threshold=0.0)
        return [(one["user_id"], one["memory"]) for one in found["results"]]

    def count(self) -> int:
        store = self._memory.vector_store
        return store.client.count(store.collection_name).count

    def close(self) -> None:
        self._memory.vector_store.client.close()


def open_peer(folder: Path, embedder: Embedder) -> Mem0Peer:
    return Mem0Peer(folder, embedder)
