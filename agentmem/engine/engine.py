"""The engine behind every client of a store in this process: its resources, and the life of its threads.

Nothing here belongs to an event loop. What callers want done is in ``operations``: reads run wherever they are called,
writes on the commit thread, through ``write``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock, get_ident
from typing import Any, Protocol, TypeVar

from agentmem.embedding import open_embedder, settle
from agentmem.engine.adding import Adding
from agentmem.engine.follower import Follower
from agentmem.engine.metering import Meter
from agentmem.engine.opening import Spec, learned, mismatch, open_store
from agentmem.engine.tiering import Tiering
from agentmem.engine.workers import Workers
from agentmem.indexes.codes import coding
from agentmem.indexes.keywords import KeywordIndex
from agentmem.indexes.lance import LanceIndex
from agentmem.indexes.vectors import LanceCopy
from agentmem.lifecycle.residency import Residency
from agentmem.lifecycle.rules import Rules
from agentmem.lifecycle.worker import LifecycleWorker
from agentmem.retrieval.building import Builder
from agentmem.retrieval.fronting import Fronts
from agentmem.retrieval.large import LargeScopes
from agentmem.retrieval.querycache import QueryCache
from agentmem.retrieval.residents import Residents
from agentmem.retrieval.retriever import Retriever
from agentmem.retrieval.snapshots import Snapshots
from agentmem.settings import Settings
from agentmem.stores.chunkupkeep import remove_files, settle_files
from agentmem.stores.commit import GroupCommit, Write
from agentmem.stores.files import OpenFiles
from agentmem.stores.folder import (
    DATABASE,
    FOLLOWER_LOCK,
    LANCE,
    OPEN_LOCK,
    SWEEP_LOCK,
    WRITE_LOCK,
    Folder,
    HeldFolder,
    prepare_folder,
)
from agentmem.stores.locks import FileLock
from agentmem.stores.names import Names
from agentmem.stores.records import Records, public
from agentmem.stores.rows import ScopeKey, Stored
from agentmem.stores.writes import Repository
from agentmem.types.checks import check_instant
from agentmem.types.clock import Clock, Micros, now_micros
from agentmem.types.errors import ClosedError, InvalidInputError, StoreError, StoreGoneError
from agentmem.types.inputs import Scope
from agentmem.types.once import once
from agentmem.types.ports import Embedder
from agentmem.types.promise import Promise
from agentmem.types.records import MemoryRecord
from agentmem.types.reports import BackupHealth

T = TypeVar("T")
READERS = 1
"""Threads for async calls that read, and as many for those that embed first. libSQL runs one statement at a time
anyway, and each further busy thread makes the event loop wait for the GIL for another 5 ms: with 100 clients on two
cores, four threads stalled it for 25 ms (99th percentile) and one of each kind for 12 ms, at the same throughput."""
WAITERS = 16
"""Threads for async calls that mostly wait: for a commit, for LanceDB."""


@dataclass(frozen=True, slots=True)
class Model:
    """The embedding model in use with everything that holds its vectors; replaced as a whole by ``reembed``."""

    number: int
    embedder: Embedder
    records: Records
    vectors: LanceCopy
    retriever: Retriever
    cache: QueryCache | None

    def apart(self) -> Model:
        """The same model for a search on top of another of the same thread."""
        return replace(self, retriever=self.retriever.apart(), cache=None)


class Companion(Protocol):
    """What works beside an engine, for a layer above it."""

    def close(self, patience: float | None) -> None:
        """End; wait no longer than ``patience`` seconds."""
        ...

    def health(self) -> BackupHealth:
        """How it is going."""
        ...


class Held(Protocol):
    """What a layer above holds in memory of the store's content."""

    def drop_outdated(self, *, anyway: bool = False) -> None:
        """Let go of what was erased; looks also where nothing seems to have happened, with ``anyway``."""
        ...

    def tidy(self) -> None:
        """Let go of what nobody uses. Called every moment or so."""
        ...

    def clear(self) -> None:
        """Let go of all."""
        ...


class Engine:
    """One store, opened once per process and shared by its clients: see ``sharing``."""

    read_only = False
    companion: Companion | None = None
    glacier: object | None = None
    """What is at hand of the archives, for the room ``glacier``, which puts it here when it is first asked."""
    values: Held | None = None
    """What is at hand of values, for the room ``values``, which puts it here when it is first asked."""
    _leaving = _left = False
    folder: HeldFolder | None = None
    """Where what LanceDB writes is to lie, whatever takes the path's place."""

    def __init__(
        self, path: Path, settings: Settings, embedder: Spec, clock: Clock | None, *, any_model: bool = False
    ) -> None:
        self.path = path
        self.settings = settings
        self.pid = os.getpid()
        self._accompanying = RLock()
        self.meter = Meter(str(path))
        self.searching = set[int]()
        """The threads that are in the middle of a search."""
        self._patience: float | None = None
        self._durable: Promise[None] | None = None
        self._given = embedder
        self._clock = clock
        prepare_folder(path)
        model = learned(path, embedder)
        database, performance = path / DATABASE, settings.performance
        gate, in_use = FileLock(path / WRITE_LOCK), FileLock(path / OPEN_LOCK)
        with ExitStack() as stack:
            stack.callback(gate.close)
            stack.callback(in_use.close)
            self.files, self._names = OpenFiles(path, in_use), Names()
            stack.callback(self._leave)
            with self.files.opening(gate, performance.lock_timeout_s) as replaced, ExitStack() as inside:
                inside.callback(in_use.close)
                self._connection, number, chosen = open_store(
                    self.files, path, settings, model, any_model=any_model, replaced=replaced
                )
                inside.callback(self._connection.close)
                self.folder = self.files.folder
                self.commits = GroupCommit(
                    database, gate, self.files, self._connection, self._names,
                    generation=number, timeout=performance.lock_timeout_s, now=self.now,
                )  # fmt: skip
                inside.callback(self.commits.close)
                inside.callback(self._tell_durable)
                inside.callback(self.commits.drain)
                stack.push(inside.pop_all())
            self.cache = QueryCache(performance.query_cache_size, performance.query_cache_ttl_minutes)
            self.keywords = KeywordIndex(Records(self._connection, self._names), self.commits)
            self.moving: Future[Any] | None = None
            """Done when the store has moved to another model, and this engine has that one."""
            self.model = self._model(number, chosen)
            self.retriever.residents.applied_seq()  # from here on they follow
            stack.callback(lambda: self.model.vectors.close())
            stack.callback(lambda: self.retriever.residents.close())
            self.lifecycle = LifecycleWorker(
                self.commits,
                Rules.of(settings),
                interval=settings.lifecycle.sweep_interval_s,
                lock=FileLock(path / SWEEP_LOCK),
                now=self.now,
                scorer=settings.lifecycle.scorer,
            )
            self.commits.grown.subscribe(self.lifecycle.grown)
            self.commits.begun.subscribe(self.lifecycle.begun)
            self.commits.repeated.subscribe(self.lifecycle.repeated)
            self.follower = Follower(
                self.model.vectors,
                self.keywords,
                self.commits,
                FileLock(path / FOLLOWER_LOCK),
                performance,
                busy=lambda: get_ident() in self.searching,
            )
            self.lifecycle.held_up.subscribe(self.follower.await_keywords)
            self.lifecycle.erased.subscribe(lambda: self.retriever.residents.remove_files())
            self.lifecycle.erased.subscribe(lambda: remove_files(self.commits, self._connection, self.held))
            self.lifecycle.beat.subscribe(self._tidy)
            self._serve(self.model)
            settle_files(self._connection, self.held)
            self.follower.start(self.check_model)
            stack.callback(self.follower.close)
            self.adding = Adding(
                self.commits,
                lambda: (self.model.number, self.model.embedder),
                refuse=settings.long_text == "refuse",
                threads=performance.embed_threads,
                batch_size=performance.batch_size,
            )
            stack.callback(self.adding.close)
            # Apart, so that a model that hangs, or a LanceDB that does, keeps nobody from reading.
            self.reads = self._workers(stack, READERS, "agentmem-read")
            self.searches = self._workers(stack, READERS, "agentmem-search")
            self.waits = self._workers(stack, WAITERS, "agentmem-wait")
            self.tiering = self._tiering(self.lifecycle.rules)
            stack.callback(self.tiering.close)
            self.lifecycle.start()
            stack.callback(lambda: self.lifecycle.close(self._patience))
            stack.callback(self.lifecycle.stop)
            stack.callback(self.follower.stop)
            self._stack = stack.pop_all()

    def accompany(self, make: Callable[[], Companion]) -> None:
        """Have something work beside this engine, made now unless there is one, and closed before it."""
        with self._accompanying:
            if self.companion is None and not self._leaving:
                self.companion = make()

    def close(self, patience: float | None, beside: float | None, durable: Promise[None]) -> None:
        """Finish what is queued and stop; ``durable`` is kept as soon as everything is.

        With ``patience``, wait no longer than so many seconds for each of the threads that may have to wait for the
        thread that wants it closed; with ``beside``, for what works beside the engine.
        """
        with self._accompanying:
            self._leaving = True
        if self.companion is not None:
            self.companion.close(beside)
        self._patience, self._durable = patience, durable
        self._stack.close()
        if self.values is not None:
            self.values.clear()

    def _leave(self) -> None:
        self.folder, self._left = None, True
        self.files.leave()

    def _tell_durable(self) -> None:
        if self._durable is not None:
            self._durable.set_result(None)

    def _workers(self, stack: ExitStack, most: int, name: str) -> Workers:
        """Threads for calls of async clients, ended with the stack."""
        workers = Workers(most, name)
        stack.callback(lambda: workers.close(self._patience))
        return workers

    # -- the model ---------------------------------------------------------------------------------------------------

    def _model(self, number: int, embedder: Embedder) -> Model:
        performance = self.settings.performance
        records = Records(self._connection, self._names, number)
        snapshots = Snapshots(lambda: self.held, records, read_only=self.read_only)
        builder = self._builder(records, embedder, snapshots)
        table = LanceIndex(
            self.path / LANCE,
            dim=embedder.dim,
            table=f"vectors_{number}",
            within=self.folder,
            indexed=lambda: self._indexed(builder),
        )
        vectors = LanceCopy(records, self.commits, table, embedder.dim)
        residents = Residents(
            records,
            dim=embedder.dim,
            limit=performance.arena_limit,
            budget_mb=performance.arena_budget_mb,
            builder=builder,
            snapshots=snapshots,
            fresh=self.commits.fresh,
        )
        residents.changed.subscribe(self.cache.drop)
        large = LargeScopes(records, vectors, self.keywords, embedder.dim)
        retriever = Retriever(residents, large, self.settings.retrieval)
        return Model(number, embedder, records, vectors, retriever, self.cache)

    def _indexed(self, builder: Builder | None) -> bool:
        """Whether LanceDB is to find vectors by an index: where large scopes are searched there."""
        index = self.settings.tiers.cold.index
        return index == "ivf_rq" or (index == "auto" and (builder is None or builder.refused))

    def _builder(self, records: Records, embedder: Embedder, snapshots: Snapshots) -> Builder | None:
        """What holds large scopes as codes, if they are to be held so."""
        performance = self.settings.performance
        coded = coding(self.settings.engine_of_large)
        if coded is None:
            return None
        return Builder(
            records,
            coded,
            embedder.dim,
            budget_mb=self.settings.mb_of_large,
            wait_s=performance.large_wait_s,
            snapshots=snapshots,
            activity=lambda: self.commits.requests,
            fronts=Fronts(records, embedder.dim, self.settings, lambda: self.commits.requests),
        )

    def _tiering(self, rules: Rules) -> Tiering:
        tiers = self.settings.tiers
        found = Tiering(
            rules,
            Residency.of(tiers),
            interval=tiers.interval_s,
            now=self.now,
            activity=lambda: (self.lifecycle.accesses.searches, self.commits.requests),
        )
        found.switch(self.repository, self.retriever.residents, self.embedder.dim)
        return found

    def _serve(self, model: Model) -> None:
        """Have everything that works in the background work with this model."""
        model.vectors.suspected.subscribe(self.follower.wake)
        self.follower.switch(model.vectors)
        self.lifecycle.switch(model.records, model.embedder.dim)

    def adopt(self, number: int, embedder: Embedder, given: Spec) -> None:
        """Go on with another model, whose vectors are complete. Called on the commit thread, right after the flip."""
        new, old = self._model(number, embedder), self.retriever.residents
        self.commits.use_generation(number)
        self._serve(new)
        self.tiering.switch(new.records, new.retriever.residents, embedder.dim)
        self.model, self._given = new, given
        self.cache.drop(None)
        old.abandon()

    def check_model(self) -> None:
        """Raise ``ModelMismatchError`` if another process moved the store to another model."""
        if not self.repository.is_current():
            moving = self.moving
            if moving is not None and not self.commits.on_thread():
                # It is this process that moves the store, and it has the new model after that.
                with suppress(Exception):
                    moving.result()
            self.repository.check_generation()

    @property
    def held(self) -> Folder:
        """The store's folder wherever it is moved, and never what takes its place. Raises ``ClosedError``."""
        if self._left:
            raise ClosedError("this client was closed; open a new one")
        return self.path if self.folder is None else self.folder

    @property
    def embedder(self) -> Embedder:
        return self.model.embedder

    @property
    def given(self) -> Spec:
        """The model as it was named by who opened the store, or moved it to another one."""
        return self._given

    @property
    def repository(self) -> Records:
        """What the store holds, for reading."""
        return self.model.records

    @property
    def retriever(self) -> Retriever:
        return self.model.retriever

    def _tidy(self) -> None:
        if self.values is not None:
            self.values.tidy()

    # -- sharing -----------------------------------------------------------------------------------------------------

    def check_same(self, settings: Settings, embedder: Spec, clock: Clock | None, *, any_model: bool) -> None:
        """Refuse to share the engine with a client that wants another one."""
        if settings != self.settings or clock is not self._clock:
            raise InvalidInputError(
                f"{self.path} is already open in this process with other settings; use the same ones, or close it first"
            )
        # None is the model that the store has.
        if not any_model and embedder is not None and embedder is not self._given and embedder != self._given:
            wanted = open_embedder(embedder, cache_size=0)
            settle(wanted, self.embedder.name, self.embedder.dim)
            if wanted.name != self.embedder.name or wanted.dim != self.embedder.dim:
                raise mismatch(self.path, self.embedder.name, self.embedder.dim, wanted)

    def check_process(self) -> None:
        """Refuse to go on in a forked child: threads, locks and database handles do not survive a fork."""
        if os.getpid() != self.pid:
            raise StoreError("the client was opened before a fork; open a new one in the child process")

    def is_at_path(self) -> bool:
        """Whether the store is still where it was opened."""
        try:
            self.commits.check_files()
        except StoreGoneError:
            return False
        return True

    def check_writable(self) -> None:
        """Before an operation that changes something: raise ``ReadOnlyError`` where nothing may be changed."""

    @once
    def database(self) -> str:
        """The path of the database. Each commit looks whether it still lies there, before and after."""
        return str(self.path / DATABASE)

    def check_at(self, database: str) -> None:
        """Raise ``StoreGoneError`` unless this is the store whose database lies at a path."""
        self.commits.check_at(database)

    def check(self) -> None:
        """Before an operation that reads: this process opened the store, and the model is still the store's."""
        self.check_process()
        self.check_model()
        self.lifecycle.check()

    # -- what operations need ----------------------------------------------------------------------------------------

    def now(self) -> Micros:
        """The clock, read once."""
        return now_micros() if self._clock is None else check_instant(self._clock(), "clock")

    def key(self, scope: Scope | None, *, anywhere: bool = False) -> ScopeKey | None:
        """The scope as numbers (None: any); None if nothing was ever stored in it.

        With ``anywhere``, a scope that names no namespace is that of all of them.
        """
        if scope is None:
            return ScopeKey(None, None, None, None)
        return self.repository.scope_key(scope, anywhere=anywhere)

    def record(self, stored: Stored, *, data: bool = True) -> MemoryRecord:
        """The public form of a row; with its data, if that is wanted."""
        return self.repository.record(self.as_used(stored), data=data)

    def changed(self, stored: Stored, data: str | None) -> MemoryRecord:
        """The public form of a row whose data is at hand."""
        return public(self.as_used(stored), self.repository.owner(stored), data)

    def known(self, found: Iterable[Stored], *, data: bool = True) -> list[MemoryRecord]:
        """The public form of rows, without those that were erased after they were read."""
        return list(self.repository.known(map(self.as_used, found), data=data))

    def as_used(self, stored: Stored) -> Stored:
        """The row with its last access, also where that is not written down yet."""
        at = self.lifecycle.accesses.last.get(stored.row)
        if at is None or at <= (stored.used_at or at - 1):
            return stored
        return Stored(*stored[:-2], at, stored.successor)  # _replace takes five times as long, for each hit

    def write(self, run: Callable[[Repository], T], rows: int = 1) -> T:
        """Run something in a transaction and wait until it is durable."""
        return self.begin_write(run, rows).result()

    def begin_write(self, run: Callable[[Repository], T], rows: int = 1) -> Future[T]:
        """The same without waiting; the future has what it returned."""
        self.check_process()
        return self.commits.submit(Write(run, rows))
