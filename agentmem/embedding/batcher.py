"""Embeds what waits, together: requests that arrive while all workers are busy share the next call of the model.

Queueing takes no lock, and neither do the workers among themselves: whatever a signal handler or a finalizer
interrupts, there, here or in the model, the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import ref

from agentmem.embedding import is_ours
from agentmem.embedding.vectors import checked_vectors
from agentmem.types.errors import AgentMemError, ClosedError, EmbeddingError
from agentmem.types.ports import Embedder
from agentmem.types.promise import Promise, Service
from agentmem.types.reentry import from_handler

if TYPE_CHECKING:
    from agentmem.types.ports import Vector

MOST_TEXTS = 1_024
"""Texts per call of the model when requests are joined; a single larger request goes as one."""
FEW_TEXTS = 64
"""So many are not worth sharing between workers."""
_GLANCE = 0.01
"""Seconds after which a worker on which a finalizer waits looks whether that can go on: another may hear the bell."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Texts to embed. A worker calls one of ``deliver`` and ``fail``, unless ``cancelled()`` is true by then.

    ``deliver`` is told the number of the model that was used.
    """

    texts: Sequence[str]
    deliver: Callable[[int, list[bytes]], object]
    fail: Callable[[Exception], object]
    cancelled: Callable[[], bool]


class _Here:
    __slots__ = ("__weakref__",)


class Batcher:
    """Worker threads in front of an embedder; ``model()`` is asked for its number and itself before each call, and
    ``embed`` embeds with it."""

    def __init__(
        self,
        model: Callable[[], tuple[int, Embedder]],
        embed: Callable[[Embedder, Sequence[str]], list[bytes]],
        threads: int,
        batch_size: int,
    ) -> None:
        self._model = model
        self._documents = embed
        self._batch_size = batch_size
        self._queue: deque[Job] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung for all that is queued."""
        self._waiting = 0  # texts in the queue, more or less
        self._here: Callable[[], _Here | None] = lambda: None
        """What stands for the caller who embeds for himself, as long as he does."""
        self._closing = False
        self._ended = False
        self._threads = [Service(self._loop, f"agentmem-embed-{n}", self._serve) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; it is dropped silently if it is cancelled before a worker takes it."""
        if self._closing:
            raise ClosedError("the store was closed")
        texts = len(job.texts)
        self._queue.append(job)
        self._waiting += texts
        self._bell.put(None)
        if self._ended:
            self._refuse_rest()  # it came after the last look of the workers

    def embed_here(self, job: Job) -> bool:
        """Embed a job on the calling thread, which spares it the way to a worker and back; False if it has company, and
        shall share a call of the model with that.

        What interrupts the model here, and raises, ends it.
        """
        if self._queue or self._closing or self._here() is not None:
            return False
        here = _Here()  # goes with this call, however that ends
        self._here = ref(here)
        number, embedder = self._model()
        try:
            vectors = self._documents(embedder, job.texts)
        except AgentMemError as exc:
            job.fail(exc)
        else:
            job.deliver(number, vectors)
        return True

    def close(self) -> None:
        """Finish what is queued, then stop."""
        self._closing = True
        self._bell.put(None)
        for thread in self._threads:
            thread.ended.result()
        self._ended = True
        self._refuse_rest()

    def _loop(self) -> None:
        while self._queue or not self._closing:
            self._work()
        self._bell.put(None)  # for the next one to end

    def _serve(self, promise: Promise[Any]) -> None:
        """Go on until the promise is kept that a finalizer waits for on this thread."""
        while not promise.done():
            self._work(_GLANCE)
        self._bell.put(None)  # in place of those that were heard here

    def _work(self, patience: float | None = None) -> None:
        if not self._queue:
            with suppress(Empty):
                self._bell.get(timeout=patience)
        elif jobs := self._take():
            self._embed(jobs)

    def _refuse_rest(self) -> None:
        while self._queue:
            with suppress(IndexError):  # the other of two who do this was faster
                self._queue.popleft().fail(ClosedError("the store was closed"))

    def _take(self) -> list[Job]:
        """The next jobs: at most this worker's share of what waits, or the others would have nothing to do.

        Callers that were answered together come back together; with all of their jobs in one call of the model they
        would stay together for ever, and one worker would do everything.
        """
        share = max(FEW_TEXTS, min(MOST_TEXTS, self._waiting // len(self._threads)))
        jobs: list[Job] = []
        texts = 0
        while len(jobs) < self._batch_size:
            try:
                job = self._queue.popleft()
            except IndexError:
                break
            count = len(job.texts)
            if jobs and texts + count > share:
                self._queue.appendleft(job)
                self._bell.put(None)
                break
            self._waiting -= count
            if not job.cancelled():
                jobs.append(job)
                texts += count
        return jobs

    def _embed(self, jobs: list[Job]) -> None:
        number, embedder = self._model()
        try:
            vectors = self._documents(embedder, [text for job in jobs for text in job.texts])
        except BaseException as exc:
            # Whatever a model raises, this thread goes on: somebody waits for each of these jobs.
            if len(jobs) == 1:
                jobs[0].fail(exc if isinstance(exc, AgentMemError) else _failed(embedder, exc))
                return
            # One text may be the culprit: its neighbours should not fail with it.
            for job in jobs:
                self._embed([job])
            return
        start = 0
        for job in jobs:
            job.deliver(number, vectors[start : start + len(job.texts)])
            start += len(job.texts)


def embed_documents(embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
    """One embedding per text, normalised, as the bytes of float32. Raises ``EmbeddingError`` for unusable ones."""
    if not texts:
        return []
    if is_ours(embedder):
        vectors = embedder.embed_documents(texts)
    else:
        vectors = _checked(embedder, lambda: embedder.embed_documents(texts), (len(texts), embedder.dim))
    buffer, width = vectors.tobytes(), vectors.shape[1] * 4
    return [buffer[start : start + width] for start in range(0, len(buffer), width)]


def embed_query(embedder: Embedder, text: str) -> Vector:
    """The query's embedding, normalised: float32, shape ``(dim,)``."""
    return _checked(embedder, lambda: [embedder.embed_query(text)], (1, embedder.dim))[0]


def _checked(embedder: Embedder, embed: Callable[[], object], shape: tuple[int, int]) -> Vector:
    try:
        given = embed()
    except EmbeddingError:
        raise
    except Exception as exc:
        if from_handler(exc):
            raise
        raise _failed(embedder, exc) from exc
    vectors, lengths = checked_vectors(embedder.name, given, shape)
    return vectors / lengths[:, None]


def _failed(embedder: Embedder, exc: BaseException) -> EmbeddingError:
    error = EmbeddingError(f"the model {embedder.name!r} failed: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error
