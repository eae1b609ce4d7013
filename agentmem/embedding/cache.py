"""`CachedEmbedder`: an LRU cache in front of any embedder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from agentmem.embedding.vectors import checked_vectors
from agentmem.types.errors import InvalidInputError
from agentmem.types.ports import Embedder
from agentmem.types.reentry import held_here

if TYPE_CHECKING:
    from agentmem.types.ports import Vector

_PATIENCE = 0.05
"""Seconds that the lock is waited for. It is held for microseconds, unless a signal handler runs on top of that."""


class CachedEmbedder(Embedder):
    """Remembers the vectors of the last `size` documents and, apart from them, of the last `size` queries.

    The key is the text: one cache belongs to one model. Equal texts in a batch are embedded once. Thread-safe: the lock
    is held for look-ups and copies, never while the model works, so two threads that miss the same text at the same
    moment both embed it. What is returned is the caller's own; changing it does not change the cache.

    Memory: `size` x dim floats for each kind in use (10 MB for 10,000 vectors of 256) and the texts. Texts longer than
    `max_chars` are not kept.

    ``hits`` and ``misses`` count texts; a repetition inside a batch is a hit.
    """

    def __init__(self, inner: Embedder, size: int = 10_000, *, max_chars: int = 4_096) -> None:
        if size < 1:
            raise InvalidInputError(f"size must be at least 1, not {size}", field="size")
        self.inner = inner
        self._max_chars = max_chars
        self._documents = _Slots(size)
        self._queries = _Slots(size)

    @property
    @override
    def name(self) -> str:
        return self.inner.name

    @property
    @override
    def dim(self) -> int:
        return self.inner.dim

    @property
    def hits(self) -> int:
        return self._documents.hits + self._queries.hits

    @property
    def misses(self) -> int:
        return self._documents.misses + self._queries.misses

    @override
    def embed_documents(self, texts: Sequence[str]) -> Vector:
        if isinstance(texts, str) or not texts:
            return self.inner.embed_documents(texts)
        known = self._documents.find(texts)
        if not known:
            wanted = list(dict.fromkeys(texts))
            if len(wanted) == len(texts):
                vectors = self._embed(texts)
                self._keep(self._documents, texts, vectors)
                self._documents.count(0, len(texts))
                return vectors
        else:
            wanted = [text for text in dict.fromkeys(texts) if text not in known]
        return self._assemble(texts, wanted, known)

    @override
    def embed_query(self, text: str) -> Vector:
        known = self._queries.find((text,))
        if known:
            self._queries.count(1, 0)
            return known[text]
        vectors, _ = checked_vectors(self.name, [self.inner.embed_query(text)], (1, self.dim))
        self._keep(self._queries, (text,), vectors)
        self._queries.count(0, 1)
        return vectors[0]

    def clear(self) -> None:
        """Forget every text and vector."""
        self._documents.clear()
        self._queries.clear()

    def _embed(self, texts: Sequence[str]) -> Vector:
        """One vector per text by the model. Checked here too: what is unusable must not be kept for the next call."""
        return checked_vectors(self.name, self.inner.embed_documents(texts), (len(texts), self.dim))[0]

    def _assemble(self, texts: Sequence[str], wanted: list[str], known: dict[str, Vector]) -> Vector:
        """One row per text, from what is known and from one call of the model for the rest."""
        out = np.empty((len(texts), self.dim), np.float32)
        rows = known
        if wanted:
            vectors = self._embed(wanted)
            self._keep(self._documents, wanted, vectors)
            rows = {**known, **dict(zip(wanted, vectors, strict=True))}
        for index, text in enumerate(texts):
            out[index] = rows[text]
        self._documents.count(len(texts) - len(wanted), len(wanted))
        return out

    def _keep(self, slots: _Slots, texts: Sequence[str], vectors: Vector) -> None:
        if max(map(len, texts)) > self._max_chars:
            short = [index for index, text in enumerate(texts) if len(text) <= self._max_chars]
            if not short:
                return
            texts, vectors = [texts[index] for index in short], vectors[short]
        slots.keep(texts, vectors)


@dataclass(slots=True)
class _Held:
    """Vectors in one array, texts mapped to its rows, the least recently used first.

    One array and not one small one per text: storing and finding a batch is then one copy.
    """

    rows: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    vectors: Vector | None = None


class _Slots:
    """A bounded number of vectors. Nobody waits for it for long: while it cannot be had, it finds and keeps nothing."""

    def __init__(self, size: int) -> None:
        self.hits = 0
        self.misses = 0
        self._size = size
        self._held = _Held()
        self._lock = RLock()

    def find(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Copies of the vectors of those texts that are here, marking them as used."""
        held = self._held
        rows, vectors = held.rows, held.vectors
        if vectors is None or rows.keys().isdisjoint(texts) or held_here(self._lock):
            return {}
        try:
            if not self._lock.acquire(timeout=_PATIENCE):
                return {}
            found = [text for text in dict.fromkeys(texts) if text in rows]
            for text in found:
                rows.move_to_end(text)
            return dict(zip(found, vectors[[rows[text] for text in found]], strict=True))
        finally:
            if held_here(self._lock):
                self._lock.release()

    def keep(self, texts: Sequence[str], vectors: Vector) -> None:
        """Remember one vector for each of these texts, all different, forgetting the least recently used."""
        texts, vectors = texts[-self._size :], vectors[-self._size :]
        if held_here(self._lock):
            return
        try:
            if self._lock.acquire(timeout=_PATIENCE):
                self._put(self._held, texts, vectors)
        except BaseException:
            self.clear()  # a signal handler raised in the middle of it
            raise
        finally:
            if held_here(self._lock):
                self._lock.release()

    def _put(self, held: _Held, texts: Sequence[str], vectors: Vector) -> None:
        rows = held.rows
        if held.vectors is None:
            held.vectors = np.empty((self._size, vectors.shape[1]), np.float32)
        if not rows.keys().isdisjoint(texts):
            # Another thread embedded some of them meanwhile.
            new = [index for index, text in enumerate(texts) if text not in rows]
            texts, vectors = [texts[index] for index in new], vectors[new]
        taken = len(rows)
        forgotten = max(0, taken + len(texts) - self._size)
        free = [rows.popitem(last=False)[1] for _ in range(forgotten)]
        free += range(taken, taken + len(texts) - forgotten)
        held.vectors[free] = vectors
        rows.update(zip(texts, free, strict=True))

    def count(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def clear(self) -> None:
        # A new one, so that whoever is in the middle of the old one goes on with that.
        self._held = _Held()
