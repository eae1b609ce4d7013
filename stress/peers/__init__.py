"""Libraries that people use for the same purpose, each behind the same few calls and given the same embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from agentmem import Embedder


class Peer(Protocol):
    """One library with one new store. Everything is called from one thread."""

    def add(self, user: str, text: str) -> None:
        """Store one text; it must be searchable when this returns."""
        ...

    def add_batch(self, user: str, texts: Sequence[str]) -> None:
        """Store several, in whatever way the library offers for that."""
        ...

    def ready(self) -> None:
        """Everything is loaded: build the indexes that a careful user would build."""
        ...

    def search(self, user: str, query: str, limit: int) -> list[tuple[str, str]]:
        """The best hits of a user by meaning, as owner and text."""
        ...

    def count(self) -> int:
        """How many records there are."""
        ...

    def close(self) -> None: ...


NAMES = ("agentmem", "mem0", "chromadb", "langgraph", "lancedb")
"""Each is a module here with ``PACKAGE``, the distribution to look up, and ``open_peer``."""

OFFLINE = {
    "ANONYMIZED_TELEMETRY": "False",
    "CHROMA_OTEL_COLLECTION_ENDPOINT": "",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "MEM0_TELEMETRY": "False",
    "OPENAI_API_KEY": "unused",
    "POSTHOG_DISABLED": "1",
    "TOKENIZERS_PARALLELISM": "true",
}
"""Environment that keeps them from calling home. The key is never sent: no call here reaches a language model."""


def opener(name: str) -> tuple[str, Callable[[Path, Embedder], Peer]]:
    """The peer's distribution and how to open a store of it; ``ImportError`` if it is not installed."""
    module = import_module(f"stress.peers.{name}_peer")
    return module.PACKAGE, module.open_peer
