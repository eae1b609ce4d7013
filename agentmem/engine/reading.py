"""An engine that only reads: on a read-only volume, for a user who may not write, beside those who do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import RLock, get_ident

from typing_extensions import override

from agentmem.engine.engine import READERS, WAITERS, Engine
from agentmem.engine.follower import Follower
from agentmem.engine.metering import Meter
from agentmem.engine.opening import Spec, find_model
from agentmem.indexes.keywords import KeywordIndex
from agentmem.lifecycle.accesses import Accesses
from agentmem.lifecycle.rules import Rules
from agentmem.lifecycle.worker import LifecycleWorker
from agentmem.retrieval.query import Candidate
from agentmem.retrieval.querycache import QueryCache
from agentmem.settings import Settings
from agentmem.stores.connection import Connection
from agentmem.stores.folder import FOLLOWER_LOCK, SWEEP_LOCK, find_store
from agentmem.stores.locks import FileLock
from agentmem.stores.names import Names
from agentmem.stores.reading import NoCommits, ReadConnection
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored
from agentmem.stores.schema import pending
from agentmem.types.clock import Clock, Micros
from agentmem.types.errors import ReadOnlyError
from agentmem.types.reports import SweepReport


class ReadingEngine(Engine):
    """A store that is only read. Nothing runs in the background; each call sees what others have committed by then."""

    read_only = True

    def __init__(
        self, path: Path, settings: Settings, embedder: Spec, clock: Clock | None, *, any_model: bool = False
    ) -> None:
        self.path = path
        self.settings = settings
        self.pid = os.getpid()
        self._accompanying = RLock()
        self.meter = Meter(str(path))
        self.searching = set[int]()
        self._patience, self._durable = None, None
        self._given = embedder
        self._clock = clock
        find_store(path)
        performance = settings.performance
        with ExitStack() as stack:
            source = ReadConnection(path)
            stack.callback(source.close)
            self.commits = NoCommits(source)
            self._connection: Connection = source
            if pending(source, path):
                self._connection = source.upgraded()
                stack.callback(self._connection.close)
            number, chosen = find_model(self._connection, path, settings, embedder, any_model=any_model)
            self._names = Names()
            self.cache = QueryCache(performance.query_cache_size, performance.query_cache_ttl_minutes)
            self.keywords = KeywordIndex(Records(self._connection, self._names), self.commits)
            self.moving = None
            self.model = self._model(number, chosen)
            self.retriever.residents.applied_seq()  # from here on they follow
            stack.callback(lambda: self.model.vectors.close())
            stack.callback(lambda: self.retriever.residents.close())
            self.lifecycle = _NoLifecycle(
                self.commits,
                Rules.of(settings),
                interval=0,
                lock=FileLock(path / SWEEP_LOCK),
                now=self.now,
                scorer=settings.lifecycle.scorer,
            )
            self.lifecycle.accesses = _NoAccesses(self.lifecycle.rules.similar, lambda repository, uses: None)
            self.follower = _NoFollower(
                self.model.vectors,
                self.keywords,
                self.commits,
                FileLock(path / FOLLOWER_LOCK),
                performance,
                busy=lambda: get_ident() in self.searching,
            )
            self._serve(self.model)
            stack.callback(self._tell_durable)
            self.tiering = self._tiering(self.lifecycle.rules)
            stack.callback(self.tiering.close)
            self.reads = self._workers(stack, READERS, "agentmem-read")
            self.searches = self._workers(stack, READERS, "agentmem-search")
            self.waits = self._workers(stack, WAITERS, "agentmem-wait")
            self._stack = stack.pop_all()

    @override
    def check_writable(self) -> None:
        self.commits.check_writable()


class _NoAccesses(Accesses):
    """Of what is read here, nothing is noted."""

    @override
    def found(
        self, now: Micros, candidates: Sequence[Candidate], chosen: Sequence[int] | None = None, above: int = 0
    ) -> None:
        pass

    @override
    def read(self, now: Micros, row: int) -> None:
        pass

    @override
    def put_off(self, now: Micros, found: Iterable[Stored]) -> list[int]:
        return []


class _NoLifecycle(LifecycleWorker):
    """Rules and limits, to explain records by; nothing is swept."""

    @override
    def sweep(self, now: Micros | None = None, *, dry_run: bool = False) -> SweepReport:
        self._commits.check_writable()
        return super().sweep(now, dry_run=dry_run)


class _NoFollower(Follower):
    """How far LanceDB is, as others have brought it; here nothing is brought any further."""

    @override
    def flush(self, timeout: float | None = None) -> bool:
        if behind := self.behind():
            raise ReadOnlyError(
                f"LanceDB is {behind} changes behind, and with read_only=True it is not brought up to date; searches "
                "find everything all the same"
            )
        return True

    @override
    def poke(self) -> None:
        pass
