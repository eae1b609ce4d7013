"""Puts our storage in the place of CrewAI's LanceDB, for its own tests.

Those give paths, and vectors of any length: a store is opened when the first memory with a vector says how long those
are, and lives as long as the process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import crewai.memory.storage.lancedb_storage as theirs
import numpy as np

from agentmem import Memory
from agentmem.adapters.crewai import AgentMemStorage

_FOLDER = tempfile.TemporaryDirectory()
_STORES: dict[str, Memory] = {}


class _Lengths:
    """A model that only says how long its vectors are."""

    name = "theirs"

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def embed_documents(self, texts: list[str]) -> Any:
        return np.ones((len(texts), self.dim), np.float32)

    def embed_query(self, text: str) -> Any:
        return np.ones(self.dim, np.float32)


class _Storage(AgentMemStorage):
    def __init__(self, path: Any = None, vector_dim: int | None = None, **_: Any) -> None:
        self._path = str(path)
        super().__init__(self._opened(vector_dim) if vector_dim else Memory(":memory:"))

    def _opened(self, dim: int) -> Memory:
        if self._path not in _STORES:
            _STORES[self._path] = Memory(Path(_FOLDER.name) / str(len(_STORES)), embedder=_Lengths(dim))
        return _STORES[self._path]

    def save(self, records: list[Any]) -> None:
        dims = [len(record.embedding) for record in records if record.embedding]
        self._client._given = self._opened(dims[0] if dims else 4)
        super().save(records)

    def __getattribute__(self, name: str) -> Any:
        if name == "_client":
            client = super().__getattribute__(name)
            client._given = _STORES.get(super().__getattribute__("_path"), client._given)
            return client
        return super().__getattribute__(name)


theirs.LanceDBStorage = _Storage  # type: ignore[misc]


def pytest_unconfigure() -> None:
    """Closes the stores."""
    for store in _STORES.values():
        store.close()
    _FOLDER.cleanup()
