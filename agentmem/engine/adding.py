"""The way of an add: embedded together with whatever waits, then committed together, then its future completes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from agentmem.embedding import is_ours, refuse_long
from agentmem.embedding.batcher import FEW_TEXTS, Batcher, Job, embed_documents
from agentmem.stores.commit import Add, Apply, GroupCommit, UnembeddedError
from agentmem.stores.rows import Created
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.errors import ClosedError, InvalidInputError
from agentmem.types.forms import Form
from agentmem.types.inputs import Draft
from agentmem.types.ports import Embedder
from agentmem.types.promise import Promise
from agentmem.types.toembed import draft_at, embeddings_of, texts_of

T = TypeVar("T")


class Adding:
    """Takes drafts through the embedding workers to the commit thread. Thread-safe.

    ``model()`` gives the number and the embedder of the model in use; with ``refuse`` texts that are too long for it
    are refused.
    """

    def __init__(
        self,
        commits: GroupCommit,
        model: Callable[[], tuple[int, Embedder]],
        *,
        refuse: bool,
        threads: int,
        batch_size: int,
    ) -> None:
        self._commits = commits
        self._model = model
        self._refuse = refuse
        self.batcher = Batcher(model, self._embed_new, threads, batch_size)

    def submit(
        self,
        drafts: Sequence[Draft],
        first_index: int | None = None,
        after: Future[Any] | None = None,
        work: type[Add] = Add,
        *,
        here: bool = False,
    ) -> Future[list[Created]]:
        """Embed and store drafts, all or none, as ``work`` does. The future can be cancelled until its commit begins.

        ``first_index`` is the position of the first among the caller's items, for errors; None for one item.
        With ``after`` they are stored once that add is, and dropped if it fails: a stream keeps its order, however
        its chunks overtake each other in the model.
        With ``here``, a lone caller, who would only wait, embeds on his own thread.
        """
        future: Promise[list[Created]] = Promise()
        if not drafts:
            future.set_result([])
            return future
        for at, draft in enumerate(drafts):
            if draft.form is not None:
                self.check_given(draft.form, None if first_index is None else first_index + at)

        def deliver(number: int, vectors: Sequence[bytes]) -> None:
            self._store(work(drafts, embeddings_of(drafts, vectors), number, self._embed, future), after)

        def fail(exc: Exception) -> None:
            _fail(future, placed(exc, first_index, drafts))

        self._begin(Job(texts_of(drafts), deliver, fail, future.cancelled), here=here)
        return future

    def check_given(self, form: Form | None, index: int | None = None) -> None:
        """Refuse vectors of a caller's if any is not as long as the model's."""
        if form is None or not form.given:
            return
        embedder = self._model()[1]
        dim = embedder.dim
        found = next((length for one in form.given if (length := len(one) // 4) != dim), dim)
        if found != dim:
            raise InvalidInputError(
                f"vector has {found:,} numbers; those of this store's model, {embedder.name!r}, have {dim:,}",
                field="vector",
                index=index,
            )

    def submit_all(
        self,
        texts: Mapping[str, int],
        rows: int,
        run: Callable[[Repository, Mapping[str, bytes], Micros], T],
        *,
        here: bool = False,
    ) -> Future[T]:
        """Embed texts, then make several changes, all or none; see ``Apply``. Each text goes with the position of a
        change that needs it, for errors. What turns out to be needed besides is embedded then, and all is made anew."""
        future: Promise[T] = Promise()
        wanted = dict(texts)

        def store(number: int, vectors: Sequence[bytes]) -> None:
            work = Apply(run, rows, list(wanted), vectors, number, self._embed, again, future)
            try:
                self._commits.submit(work)
            except ClosedError as exc:
                _fail(future, exc)

        def fail(exc: Exception) -> None:
            if isinstance(exc, InvalidInputError) and exc.index is not None:
                exc.index = list(wanted.values())[exc.index]
            _fail(future, exc)

        def again(missing: UnembeddedError) -> None:
            wanted.update(dict.fromkeys(missing.texts, missing.index))
            try:
                self.batcher.submit(Job(list(wanted), store, fail, future.cancelled))
            except ClosedError as exc:
                _fail(future, exc)

        if wanted:
            self._begin(Job(list(wanted), store, fail, future.cancelled), here=here)
        else:
            store(self._model()[0], [])
        return future

    def _begin(self, job: Job, *, here: bool) -> None:
        # A caller's own model may hold a lock, for which an add on top of this one would wait for ever.
        alone = here and len(job.texts) <= FEW_TEXTS and is_ours(self._model()[1])
        if not (alone and self.batcher.embed_here(job)):
            self.batcher.submit(job)

    def check_length(self, text: str) -> None:
        """Refuse a new text that is too long for the model, if that is wanted."""
        try:
            self._check(self._model()[1], [text] if text else [])
        except InvalidInputError as exc:
            raise placed(exc, None) from None

    def close(self) -> None:
        """Finish what is queued for the model, then stop."""
        self.batcher.close()

    def _embed(self, texts: Sequence[str]) -> list[bytes]:
        """Embed texts that are accepted already: what was refused by length is not refused anew by another model."""
        return embed_documents(self._model()[1], texts)

    def _embed_new(self, embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
        self._check(embedder, texts)
        return embed_documents(embedder, texts)

    def _check(self, embedder: Embedder, texts: Sequence[str]) -> None:
        if self._refuse:
            refuse_long(embedder, texts)

    def _store(self, add: Add, after: Future[Any] | None = None) -> None:
        if after is not None:
            after.add_done_callback(lambda done: self._store(add) if _succeeded(done) else add.future.cancel())
            return
        try:
            self._commits.submit_add(add)
        except ClosedError as exc:
            _fail(add.future, exc)


def placed(exc: Exception, first_index: int | None, drafts: Sequence[Draft] = ()) -> Exception:
    """The error with the position of its text among the caller's items."""
    if isinstance(exc, InvalidInputError) and exc.index is not None:
        exc.index = None if first_index is None else first_index + draft_at(drafts, exc.index)
    return exc


def _succeeded(done: Future[Any]) -> bool:
    return not done.cancelled() and done.exception() is None


def _fail(future: Future[Any], exc: Exception) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(exc)
