"""LanceDB by hand: one table, an index on the user, ``optimize()`` after loading. It does not sync its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lancedb
import pyarrow as pa
from lancedb.index import BTree

from agentmem import Embedder

PACKAGE = "lancedb"


class LancePeer:
    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._embedder = embedder
        database = lancedb.connect(folder)
        vector = pa.list_(pa.float32(), embedder.dim)
        schema = pa.schema([pa.field("user", pa.string()), pa.field("text", pa.string()), pa.field("vector", vector)])
        self._table = database.create_table("memories", schema=schema, exist_ok=True)

    def add(self, user: str, text: str) -> None:
        self.add_batch(user, [text])

    def add_batch(self, user: str, texts: Sequence[str]) -> None:
        vectors = self._embedder.embed_documents(texts)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self._embedder.dim)
        self._table.add(pa.table([pa.array([user] * len(texts)), pa.array(texts), flat], schema=self._table.schema))

    def ready(self) -> None:
        self._table.create_index("user", config=BTree())
        self._table.optimize()

    def search(self, user: str, query: str, limit: int) -> list[tuple[str, str]]:
        wanted = self._table.search(self._embedder.embed_query(query), "vector").distance_type("cosine")
        found = wanted.where(f"user = '{user}'", prefilter=True).select(["user", "text", "_distance"]).limit(limit)
        rows = found.to_arrow()
        return list(zip(rows.column("user").to_pylist(), rows.column("text").to_pylist(), strict=True))

    def count(self) -> int:
        return self._table.count_rows()

    def close(self) -> None: ...


def open_peer(folder: Path, embedder: Embedder) -> LancePeer:
    return LancePeer(folder, embedder)
