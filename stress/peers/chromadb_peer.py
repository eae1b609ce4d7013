"""Chroma, embedded, on disk; the vectors are computed here and handed in."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import chromadb
from chromadb.config import Settings

from agentmem import Embedder

PACKAGE = "chromadb"


class ChromaPeer:
    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._embedder = embedder
        self._client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
        self._collection = self._client.get_or_create_collection(
            "memories", embedding_function=None, metadata={"hnsw:space": "cosine"}
        )

    def add(self, user: str, text: str) -> None:
        self.add_batch(user, [text])

    def add_batch(self, user: str, texts: Sequence[str]) -> None:
        self._collection.add(
            ids=[str(uuid.uuid4()) for _ in texts],
            embeddings=self._embedder.embed_documents(texts),
            documents=list(texts),
            metadatas=[{"user": user} for _ in texts],
        )

    def ready(self) -> None: ...

    def search(self, user: str, query: str, limit: int) -> list[tuple[str, str]]:
        found = self._collection.query(
            query_embeddings=[self._embedder.embed_query(query)],
            n_results=limit,
            where={"user": user},
            include=["documents", "metadatas"],
        )
        owners = [str(one["user"]) for one in (found["metadatas"] or [[]])[0]]
        return list(zip(owners, (found["documents"] or [[]])[0], strict=True))

    def count(self) -> int:
        return self._collection.count()

    def close(self) -> None: ...


def open_peer(folder: Path, embedder: Embedder) -> ChromaPeer:
    return ChromaPeer(folder, embedder)
