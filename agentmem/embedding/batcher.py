"""Embeds what waits, together: requests that arrive while all workers are busy share the next call of the model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agentmem.errors import AgentMemError, ClosedError, EmbeddingError
from agentmem.ports import Embedder

if TYPE_CHECKING:
    from agentmem.ports import Vector

MOST_TEXTS = 1_024
"""Texts per call of the model when requests are joined; a single larger request goes as one."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Texts to embed. A worker calls one of ``deliver`` and ``fail``, unless ``cancelled()`` is true by then."""

    texts: Sequence[str]
    deliver: Callable[[list[bytes]], object]
    fail: Callable[[Exception], object]
    cancelled: Callable[[], bool]


class Batcher:
    """Worker threads in front of an embedder."""

    def __init__(self, embedder: Embedder, threads: int, batch_size: int) -> None:
        self._embedder = embedder
        self._batch_size = batch_size
        self._queue: deque[Job] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"agentmem-embed-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; it is dropped silently if it is cancelled before a worker takes it."""
        with self._ready:
            if self._closing:
                raise ClosedError("the store was closed")
            self._queue.append(job)
            self._ready.notify()

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._ready:
            self._closing = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._closing:
                    self._ready.wait()
                if not self._queue:
                    return
                jobs = self._take()
            if jobs:
                self._embed(jobs)

    def _take(self) -> list[Job]:
        jobs, texts = list[Job](), 0
        while self._queue and len(jobs) < self._batch_size:
            if jobs and texts + len(self._queue[0].texts) > MOST_TEXTS:
                break
            job = self._queue.popleft()
            if not job.cancelled():
                jobs.append(job)
                texts += len(job.texts)
        return jobs

    def _embed(self, jobs: list[Job]) -> None:
        try:
            vectors = embed_documents(self._embedder, [text for job in jobs for text in job.texts])
        except AgentMemError as exc:
            if len(jobs) == 1:
                jobs[0].fail(exc)
                return
            # One text may be the culprit: its neighbours should not fail with it.
            for job in jobs:
                self._embed([job])
            return
        start = 0
        for job in jobs:
            job.deliver(vectors[start : start + len(job.texts)])
            start += len(job.texts)


def embed_documents(embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
    """One embedding per text, normalised, as the bytes of float32. Raises ``EmbeddingError`` for unusable ones."""
    if not texts:
        return []
    vectors = _checked(embedder, lambda: embedder.embed_documents(texts), (len(texts), embedder.dim))
    buffer, width = vectors.tobytes(), vectors.shape[1] * 4
    return [buffer[start : start + width] for start in range(0, len(buffer), width)]


def embed_query(embedder: Embedder, text: str) -> Vector:
    """The query's embedding, normalised: float32, shape ``(dim,)``."""
    return _checked(embedder, lambda: embedder.embed_query(text)[None], (1, embedder.dim))[0]


def _checked(embedder: Embedder, embed: Callable[[], Vector], shape: tuple[int, int]) -> Vector:
    try:
        vectors = np.ascontiguousarray(embed(), np.float32)
    except EmbeddingError:
        raise
    except Exception as exc:
        raise EmbeddingError(f"the model {embedder.name!r} failed: {type(exc).__name__}: {exc}") from exc
    if vectors.shape != shape:
        raise EmbeddingError(f"the model {embedder.name!r} returned the shape {vectors.shape} instead of {shape}")
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise EmbeddingError(f"the model {embedder.name!r} returned a zero or non-finite vector for text {bad}")
    return vectors / lengths[:, None]
