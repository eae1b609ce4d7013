"""The engine behind every client of a store in this process: pipeline, reads, and the life of its threads.

Nothing here belongs to an event loop. An add goes through the embedding workers, then the commit thread, and its future
completes when it is durable; LanceDB follows on a thread of its own. Reads run wherever they are called.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from agentmem.embedding import fingerprint_of, open_embedder, refuse_long
from agentmem.embedding.absent import AbsentModel
from agentmem.embedding.batcher import Batcher, Job, embed_documents, embed_query
from agentmem.engine.follower import Follower, Target
from agentmem.filters.sqlite import CompiledFilter
from agentmem.indexes.lance import LanceIndex
from agentmem.lifecycle.promotion_score import feedback
from agentmem.lifecycle.subject import Rules
from agentmem.lifecycle.worker import Lifecycle
from agentmem.retrieval.querycache import QueryCache
from agentmem.retrieval.search import Retriever
from agentmem.settings import Settings
from agentmem.stores.commit import Add, GroupCommit, Write
from agentmem.stores.connection import Connection, Value, locked_out
from agentmem.stores.locks import FileLock, refuse_network_filesystem
from agentmem.stores.names import Names
from agentmem.stores.repository import UNEXPIRED, Repository, StaleVectorError
from agentmem.stores.rows import Created, Patch, ScopeKey, Stored, not_found, visible
from agentmem.stores.schema import configure, migrate
from agentmem.types.checks import check_instant
from agentmem.types.clock import Clock, Micros, now_micros, to_datetime
from agentmem.types.enums import Order
from agentmem.types.errors import (
    ClosedError,
    InvalidInputError,
    ModelMismatchError,
    NotFoundError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from agentmem.types.inputs import Draft, Scope
from agentmem.types.ports import Embedder
from agentmem.types.records import HistoryEvent, MemoryRecord, Page

T = TypeVar("T")
Spec: TypeAlias = str | os.PathLike[str] | Embedder | None
"""An embedding model as callers name it; see ``open_embedder``."""
DATABASE = "agentmem.db"
OPEN_LOCK = "open.lock"
"""Held, shared, by everybody who has the store open."""
READERS = 1
"""Threads for async calls that read, and as many for those that embed first. libSQL runs one statement at a time
anyway, and each further busy thread makes the event loop wait for the GIL for another 5 ms: with 100 clients on two
cores, four threads stalled it for 25 ms (99th percentile) and one of each kind for 12 ms, at the same throughput."""
WAITERS = 16
"""Threads for async calls that mostly wait: for a commit, for LanceDB."""

_open_engines: dict[str, Engine] = {}
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class Model:
    """The embedding model in use with everything that holds its vectors; replaced as a whole by ``reembed``."""

    number: int
    embedder: Embedder
    repository: Repository
    lance: LanceIndex
    retriever: Retriever


class Engine:
    """One store, opened once per process and shared by its clients. Use ``acquire`` and ``release``."""

    @classmethod
    def acquire(
        cls, path: Path, settings: Settings, embedder: Spec, clock: Clock | None, *, any_model: bool = False
    ) -> Engine:
        """The process's engine for this path, opened now if it is the first.

        With ``any_model``, a store of another model is opened all the same; nothing can be embedded until it is moved.

        Raises ``StoreError`` and its kin for a path that cannot hold a store, ``ModelMismatchError`` for a store of
        another model, ``InvalidInputError`` if the path is already open with other settings.
        """
        key = os.path.realpath(path)
        with _opening:
            engine = _open_engines.get(key)
            if engine is not None and engine.pid == os.getpid():
                engine.check_same(settings, embedder, clock, any_model)
            else:
                engine = _open_engines[key] = cls(Path(key), settings, embedder, clock, any_model)
            engine.clients += 1
            return engine

    def release(self) -> None:
        """Give the engine back; the last client closes it, after everything queued is durable."""
        with _opening:
            self.clients -= 1
            if self.clients == 0:
                _open_engines.pop(str(self.path), None)
                self._stack.close()

    def __init__(
        self, path: Path, settings: Settings, embedder: Spec, clock: Clock | None, any_model: bool = False
    ) -> None:
        self.path = path
        self.settings = settings
        self.pid = os.getpid()
        self.clients = 0
        self._given = embedder
        self._clock = clock
        prepare_folder(path)
        database = path / DATABASE
        gate = FileLock(path / "write.lock")
        in_use = FileLock(path / OPEN_LOCK)
        with ExitStack() as stack:
            stack.callback(gate.close)
            stack.callback(in_use.close)
            if not in_use.try_acquire(shared=True):
                raise StoreLockedError(f"{path} is being salvaged; open it again when that has ended")
            number, chosen = _open_model(database, gate, settings, embedder, any_model)
            self._names = Names()
            self._connection = Connection(database)
            stack.callback(self._connection.close)
            self.lifecycle = Lifecycle(
                lambda: self.repository, lambda: self.embedder.dim, Rules.of(settings),
                settings.lifecycle.sweep_interval_s, FileLock(path / "sweep.lock"), self.now,
            )  # fmt: skip
            self.commits = GroupCommit(
                database, gate, self._names, number, settings.performance.lock_timeout_s, self.now, self.lifecycle.grown
            )
            stack.callback(self.commits.close)
            self.cache = QueryCache(settings.performance.query_cache_size, settings.performance.query_cache_ttl_minutes)
            self.moving = threading.Lock()
            self.model = self._model(number, chosen)
            stack.callback(lambda: self.model.lance.close())
            self.follower = Follower(
                _target(self.model), self.commits, FileLock(path / "follower.lock"), settings, self.check_model
            )
            stack.callback(self.follower.close)
            self._batcher = Batcher(
                lambda: (self.model.number, self.model.embedder),
                self._embed_new,
                settings.performance.embed_threads,
                settings.performance.batch_size,
            )
            stack.callback(self._batcher.close)
            # Apart, so that a model that hangs, or a LanceDB that does, keeps nobody from reading.
            self.reads = ThreadPoolExecutor(READERS, thread_name_prefix="agentmem-read")
            self.searches = ThreadPoolExecutor(READERS, thread_name_prefix="agentmem-search")
            self.waits = ThreadPoolExecutor(WAITERS, thread_name_prefix="agentmem-wait")
            for pool in (self.reads, self.searches, self.waits):
                stack.callback(pool.shutdown)
            self.lifecycle.start(self.commits)
            stack.callback(self.lifecycle.close)
            stack.callback(self.lifecycle.stop)
            stack.callback(self.follower.stop)
            self._stack = stack.pop_all()

    def _model(self, number: int, embedder: Embedder) -> Model:
        repository = Repository(self._connection, self._names, number)
        lance = LanceIndex(self.path / "lance", dim=embedder.dim, table=f"vectors_{number}")
        retriever = Retriever(
            repository, lance, self.settings, embedder.dim, self.cache.drop,
            lambda patience: self.follower.index_keywords(patience), lambda: self.follower.suspect(),
        )  # fmt: skip
        return Model(number, embedder, repository, lance, retriever)

    def adopt(self, number: int, embedder: Embedder, given: Spec) -> None:
        """Go on with another model, whose vectors are complete. Called on the commit thread, right after the flip."""
        new = self._model(number, embedder)
        self.commits.use_generation(number)
        self.follower.switch(_target(new))
        self.model, self._given = new, given
        self.cache.drop(None)

    def check_model(self) -> None:
        """Raise ``ModelMismatchError`` if another process moved the store to another model."""
        if not self.repository.is_current():
            with self.moving:  # if it is this process that moves the store, it has the new model after that
                self.repository.check_generation()

    @property
    def embedder(self) -> Embedder:
        return self.model.embedder

    @property
    def repository(self) -> Repository:
        return self.model.repository

    @property
    def lance(self) -> LanceIndex:
        return self.model.lance

    @property
    def retriever(self) -> Retriever:
        return self.model.retriever

    def check_same(self, settings: Settings, embedder: Spec, clock: Clock | None, any_model: bool) -> None:
        """Refuse to share the engine with a client that wants another one."""
        if settings != self.settings or clock is not self._clock:
            raise InvalidInputError(
                f"{self.path} is already open in this process with other settings; use the same ones, or close it first"
            )
        # None is the model that the store has.
        if not any_model and embedder is not None and embedder is not self._given and embedder != self._given:
            wanted = open_embedder(embedder, cache_size=0)
            if (wanted.name, wanted.dim) != (self.embedder.name, self.embedder.dim):
                raise _mismatch(self.path, self.embedder.name, self.embedder.dim, wanted)

    def now(self) -> Micros:
        return now_micros() if self._clock is None else check_instant(self._clock(), "clock")

    def check_process(self) -> None:
        """Refuse to go on in a forked child: threads, locks and database handles do not survive a fork."""
        if os.getpid() != self.pid:
            raise StoreError("the client was opened before a fork; open a new one in the child process")

    # -- adding ------------------------------------------------------------------------------------------------------

    def submit_add(
        self, drafts: Sequence[Draft], first_index: int | None = None, after: Future[Any] | None = None
    ) -> Future[list[Created]]:
        """Embed and store drafts, all or none. The future can be cancelled until its commit begins.

        ``first_index`` is the position of the first among the caller's items, for errors; None for one item.
        With ``after`` they are stored once that add is, and dropped if it fails: a stream keeps its order, however
        its chunks overtake each other in the model.
        """
        self.check_process()
        future = Future[list[Created]]()
        if not drafts:
            future.set_result([])
            return future
        self._batcher.submit(
            Job(
                texts=[draft.content for draft in drafts],
                deliver=lambda number, vectors: self._store(Add(drafts, vectors, number, self._embed, future), after),
                fail=lambda exc: _fail(future, _placed(exc, first_index)),
                cancelled=future.cancelled,
            )
        )
        return future

    def _embed(self, texts: Sequence[str]) -> list[bytes]:
        return embed_documents(self.embedder, texts)

    def _embed_new(self, embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
        self._check_length(embedder, texts)
        return embed_documents(embedder, texts)

    def _check_length(self, embedder: Embedder, texts: Sequence[str]) -> None:
        """Refuse new text that is too long for the model, if that is wanted; what is stored already stays welcome."""
        if self.settings.long_text == "refuse":
            refuse_long(embedder, texts)

    def _store(self, add: Add, after: Future[Any] | None = None) -> None:
        if after is not None:
            after.add_done_callback(lambda done: self._store(add) if _succeeded(done) else add.future.cancel())
            return
        try:
            self.commits.submit_add(add)
        except ClosedError as exc:
            _fail(add.future, exc)

    # -- reading -----------------------------------------------------------------------------------------------------

    def key(self, scope: Scope | None) -> ScopeKey | None:
        """The scope as numbers; None if nothing was ever stored in it."""
        return ScopeKey(None, None, None) if scope is None else self.repository.scope_key(scope)

    def find(self, id: str, scope: Scope | None, *, any_state: bool = False) -> Stored | None:
        """The record with this id inside the scope (None: any); unless ``any_state``, only if it is live."""
        self.check_process()
        self.check_model()
        key = self.key(scope)
        if key is None:
            return None
        return self.repository.find_by_id(id, key, None if any_state else self.now())

    def used(self, stored: Stored) -> MemoryRecord:
        """The record, which somebody asked for by its id."""
        self.lifecycle.accesses.read(self.now(), stored.row)
        return self.record(stored)

    def record(self, stored: Stored) -> MemoryRecord:
        return self.repository.record(stored)

    def history(self, id: str, scope: Scope | None) -> list[HistoryEvent]:
        """Every event of a record, deleted or not, oldest first. Raises ``NotFoundError``."""
        stored = self.find(id, scope, any_state=True)
        if stored is None:
            raise not_found(id)
        return [replace(event, data=_readable(event.data)) for event in self.repository.history(stored.row, id)]

    def page(
        self, scope: Scope, where: Sequence[str], params: Sequence[Value], order: Order, limit: int, after: int | None
    ) -> Page:
        """Live records of a scope that satisfy conditions on ``records r``, by order of adding."""
        self.check_process()
        self.check_model()
        key = self.key(scope)
        if key is None:
            return Page([], None)
        found = list[int]()
        scope_where, scope_params = key.where()
        condition = " AND ".join([scope_where, UNEXPIRED, *where])
        newest = order == "newest"
        for low, high in self.repository.windows(scope_where, scope_params, newest_first=newest, start=after):
            rows = self.repository.rows_between(condition, (*scope_params, self.now(), *params), low, high)
            found += reversed(rows) if newest else rows
            if len(found) > limit:
                break
        stored = {item.row: item for item in self.repository.find_rows(found[:limit])}
        records = [self.record(stored[row]) for row in found[:limit] if row in stored]
        return Page(records, f"{order}:{found[limit - 1]}" if len(found) > limit else None)

    # -- changing ----------------------------------------------------------------------------------------------------

    def write(self, run: Callable[[Repository], T], rows: int = 1) -> T:
        """Run something in a transaction and wait until it is durable."""
        self.check_process()
        return self.commits.submit(Write(run, rows)).result()

    def update(self, id: str, patch: Patch, scope: Scope | None) -> MemoryRecord:
        """Apply a patch to a live record; a new content is embedded first."""
        content = patch.values.get("content")
        if isinstance(content, str):
            self._must_exist(id, scope)
            try:
                self._check_length(self.embedder, [content])
            except InvalidInputError as exc:
                raise _placed(exc, None) from None
        return self._change(patch, lambda r, ready: r.update(id, ready, self._guard(id, scope), self.now()))

    def _change(self, patch: Patch, run: Callable[[Repository, Patch], Stored]) -> MemoryRecord:
        """Run a change with the embedding that its new content needs, made again if the model changes meanwhile."""
        content = patch.values.get("content")
        while True:
            model = self.model
            if isinstance(content, str):
                vector = embed_documents(model.embedder, [content])[0]
                patch = replace(patch, vector=vector, generation=model.number)
            try:
                return self.record(self.write(partial(_apply, run, patch)))
            except StaleVectorError:
                continue

    def delete(self, id: str, scope: Scope | None) -> bool:
        key = self.key(scope)
        return key is not None and self.write(lambda repository: repository.delete(id, key, self.now()))

    def delete_matching(self, scope: Scope, condition: CompiledFilter | None, dry_run: bool) -> int:
        """Delete what the scope holds now and the condition admits, a window per transaction; returns how many."""
        count = 0
        for found in self.matching(scope, condition):
            count += len(found) if dry_run else self.write(partial(_delete_current, found, self.now))
        return count

    def matching(
        self, scope: Scope, condition: CompiledFilter | None, *, deleted_too: bool = False
    ) -> Iterator[list[Stored]]:
        """The scope's records that the condition admits, in groups; those added meanwhile are left out."""
        self.check_process()
        self.check_model()
        key = self.key(scope)
        if key is None:
            return
        where, params = key.where()
        if deleted_too:
            where = where.replace("r.state = 0", "r.state != 2")
        terms, values = [where], list[Value](params)
        if not deleted_too:
            terms.append(UNEXPIRED)
            values.append(self.now())
        if condition is not None:
            terms.append(f"({condition.sql})")
            values += condition.params
        last = self.repository.last_row()
        for low, high in self.repository.windows(f"{where} AND r.row <= ?", (*params, last)):
            rows = self.repository.rows_between(" AND ".join(terms), values, low, high)
            if rows:
                yield list(self.repository.find_rows(rows))

    def restore(self, id: str, version: int | None, scope: Scope | None) -> MemoryRecord:
        """Bring a deleted record back, or a record back to an earlier version, as a new version."""
        current = self.find(id, scope, any_state=True)
        if current is None:
            raise not_found(id)
        if version is None and visible(current, self.now()):
            return self.record(current)
        values = {} if version is None else self._values_at(current, version)
        patch = Patch({k: v for k, v in values.items() if v != getattr(current, k)}, if_version=current.version)
        grace = self.lifecycle.rules.grace
        return self._change(patch, lambda r, ready: r.restore(id, ready, self._guard(id, scope), self.now(), grace))

    def _values_at(self, current: Stored, version: int) -> dict[str, Value]:
        """A record's values as of one of its versions: today's, undone event by event."""
        if not 1 <= version <= current.version:
            raise NotFoundError(f"record {current.id!r} has the versions 1 to {current.version}, not {version}")
        values = dict[str, Value]()
        for event in reversed(self.repository.history(current.row, current.id)):
            if event.version > version and event.event in ("UPDATE", "RESTORE"):
                values.update(event.data)
        return values

    def rate(self, id: str, rating: float | None, data: dict[str, Any], scope: Scope | None) -> None:
        """Store feedback."""
        accepted = data.get("accepted")
        verdict = (0.0, 0.0) if accepted is None else feedback(accepted)
        self.write(lambda r: r.rate(id, rating, data, self._guard(id, scope), self.now(), verdict))

    def embed_query(self, text: str) -> Any:
        return embed_query(self.embedder, text)

    def _guard(self, id: str, scope: Scope | None) -> ScopeKey:
        key = self.key(scope)
        if key is None:
            raise not_found(id)
        return key

    def _must_exist(self, id: str, scope: Scope | None) -> None:
        if self.find(id, scope) is None:
            raise not_found(id)


def prepare_folder(path: Path) -> None:
    """Make the store's folder, for its owner alone, or say why it cannot be one."""
    try:
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path} is a file; a store needs a folder, name another path")
        refuse_network_filesystem(path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = path / DATABASE
        if not database.exists():
            if (path / "lance").exists():
                raise StoreCorruptError(
                    f"{path} holds vectors but no {DATABASE}, where the memories are; restore it from a backup, "
                    f"or remove {path / 'lance'} to start empty"
                )
            os.close(os.open(database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        elif not os.access(database, os.W_OK) or not os.access(path, os.W_OK):
            raise PermissionError(f"no permission to write {database}")
    except OSError as exc:
        raise StoreError(f"{path} cannot be used as a store: {exc.strerror or exc}; choose a folder you own") from exc


def _open_model(
    database: Path, gate: FileLock, settings: Settings, given: Spec, any_model: bool
) -> tuple[int, Embedder]:
    """Bring the tables up to date and find the store's model: the given one, or if None the one it was written with."""
    if not gate.acquire(settings.performance.lock_timeout_s):
        raise locked_out(database, settings.performance.lock_timeout_s)
    with gate, closing(Connection(database)) as connection:
        configure(connection)
        migrate(connection, database.parent)
        repository = Repository(connection, Names())
        name, dim = repository.meta("model"), repository.meta("dim")
        embedder = open_model(repository, settings, given)
        fingerprint = fingerprint_of(embedder)
        if name is None:
            with_model(repository, embedder, given)
        elif (name, int(dim), repository.meta("fingerprint")) != (embedder.name, embedder.dim, fingerprint):
            if not any_model:
                raise _mismatch(database.parent, name, int(dim), embedder)
            embedder = AbsentModel(name, int(dim))
        return int(repository.meta("generation") or 1), embedder


def open_model(repository: Repository, settings: Settings, given: Spec) -> Embedder:
    """The given model, or if None the one that the store was written with."""
    spec = (repository.meta("model_spec") or None) if given is None else given
    return open_embedder(spec, cache_size=settings.performance.embedding_cache_size)


def with_model(repository: Repository, embedder: Embedder, given: Spec) -> None:
    """Note which model the store's vectors are of, and how to open it again (None for an object of the caller's)."""
    spec = "" if given is None else None
    if isinstance(given, (str, os.PathLike)):
        spec = os.fspath(given)
        spec = os.path.abspath(spec) if os.path.isdir(spec) else spec
    repository.set_meta("dim", embedder.dim)
    repository.set_meta("fingerprint", fingerprint_of(embedder))
    repository.set_meta("model_spec", spec)
    repository.set_meta("model", embedder.name)


def _mismatch(path: Path, name: str, dim: int, wanted: Embedder) -> ModelMismatchError:
    other = f"{wanted.name!r} ({wanted.dim})"
    if (name, dim) == (wanted.name, wanted.dim):
        other = f"the {wanted.name!r} that is installed here, whose files differ"
    return ModelMismatchError(
        f"{path} holds embeddings of {name!r} ({dim} dimensions) and cannot be used with {other}; "
        "open it with the model it has, or move it over: agentmem reembed MODEL, or Memory.reembed(model)"
    )


def _target(model: Model) -> Target:
    return Target(model.repository, model.lance, model.embedder.dim)


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """An event's data as a caller knows the fields: metadata as a dict, times as ISO 8601 text."""
    readable = dict(data)
    if isinstance(data.get("metadata"), str):
        readable["metadata"] = json.loads(data["metadata"])
    if isinstance(data.get("expires_at"), int):
        readable["expires_at"] = to_datetime(data["expires_at"]).isoformat()
    return readable


def _apply(run: Callable[[Repository, Patch], Stored], patch: Patch, repository: Repository) -> Stored:
    return run(repository, patch)


def _delete_current(found: Sequence[Stored], now: Callable[[], Micros], repository: Repository) -> int:
    """Delete those of the records that are still there now that the transaction has begun."""
    instant = now()
    current = [item for item in repository.find_rows(item.row for item in found) if visible(item, instant)]
    repository.delete_rows(current, instant)
    return len(current)


def _placed(exc: Exception, first_index: int | None) -> Exception:
    """The error with the position of its text among the caller's items."""
    if isinstance(exc, InvalidInputError) and exc.index is not None:
        exc.index = None if first_index is None else first_index + exc.index
    return exc


def _succeeded(done: Future[Any]) -> bool:
    return not done.cancelled() and done.exception() is None


def _fail(future: Future[Any], exc: Exception) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(exc)
