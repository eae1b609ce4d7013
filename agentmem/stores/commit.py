"""Group commit: one thread owns the writing connection, and requests that wait together are committed together.

While one transaction is being made durable the next ones queue up; whatever is there when it ends becomes the next
group, so a lone request never waits for company and a busy store pays for one fsync per group.

Queueing takes no lock: whatever a signal handler interrupts, the commit thread goes on, and so does the handler's own
write. Where a finalizer writes on the commit thread itself, the transaction under it gives way and is replayed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import get_ident
from typing import Any, Generic, TypeAlias, TypeVar

from agentmem.stores import keys, returning
from agentmem.stores.connection import BusyError, Connection, GaveWayError, locked_out
from agentmem.stores.custody import Custody
from agentmem.stores.files import LogGoneError, OpenFiles
from agentmem.stores.forks import transaction_lock
from agentmem.stores.locks import FileLock
from agentmem.stores.log import UnsyncedError, WriteAheadLog, truncate_wal
from agentmem.stores.names import Names
from agentmem.stores.rows import Created, Stored
from agentmem.stores.schema import configure
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import Unset
from agentmem.types.errors import (
    AgentMemError,
    CapacityError,
    ClosedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StoreError,
    StoreGoneError,
)
from agentmem.types.events import Event
from agentmem.types.inputs import Draft
from agentmem.types.patience import attempts
from agentmem.types.promise import Promise, Service, promised
from agentmem.types.toembed import embeddings_of, texts_of
from agentmem.types.waking import together

T = TypeVar("T")
GROUP_ROWS = 2_000
"""Rows after which a group is closed, so that a flood of small requests still commits often."""
_ROW = 8_192
"""Bytes of data that count as a row."""
_TAKEN = 1_024
"""Transactions of which it is known how long they took."""
WAL_LIMIT = 64 * 1_048_576
MOST_WAYS = 5
"""How often a transaction gives way to finalizers, each of which might be due to what it did itself."""
_CLOSING = 5.0
"""Seconds that closing waits for other processes to write."""


UNMET = (ConflictError, NotFoundError, InvalidInputError, CapacityError)
"""What a change raises where the store is not as its caller believed, or is full."""

log = logging.getLogger("agentmem")


@dataclass(slots=True, eq=False)
class Write(Generic[T]):
    """A unit of work: ``run`` is called inside a transaction, and again from the start if its group is replayed.

    With ``committed`` it has a transaction to itself; that is called once it is durable, before the next one begins.
    """

    run: Callable[[Repository], T]
    rows: int = 1
    committed: Callable[[], object] | None = None
    future: Future[T] = field(default_factory=Promise[T])


def rows_of(data: str | Unset | None) -> int:
    """How much data there is to write, as rows of the usual size."""
    return len(data) // _ROW if isinstance(data, str) else 0


class UnembeddedError(AgentMemError):
    """A change needs embeddings of these texts, which nobody could know before. Never leaves the package."""

    def __init__(self, texts: Sequence[str], index: int) -> None:
        super().__init__("texts are yet to be embedded")
        self.texts = texts
        self.index = index
        """The position of the change."""


@dataclass(slots=True, eq=False)
class Add:
    """Drafts with their embeddings. Neighbouring adds of a group become one bulk insert.

    ``embed`` makes the embeddings anew where the store's model is no longer the one of ``generation``.
    """

    drafts: Sequence[Draft]
    vectors: Sequence[bytes]
    generation: int
    embed: Callable[[Sequence[str]], list[bytes]]
    future: Future[list[Created]] = field(default_factory=Promise[list[Created]])

    @property
    def rows(self) -> int:
        """How much there is to write, as rows of the usual size."""
        return len(self.drafts) + sum(rows_of(draft.data) for draft in self.drafts)

    def current_vectors(self, generation: int) -> Sequence[bytes]:
        if self.generation != generation:
            self.vectors = embeddings_of(self.drafts, self.embed(texts_of(self.drafts)))
            self.generation = generation
        return self.vectors


@dataclass(slots=True, eq=False)
class Put(Add):
    """Drafts by key, with their embeddings: all or none."""

    def make(self, repository: Repository, now: Micros) -> list[Created] | _Refused:
        """Store them. A conflict is told before anything has changed, so that the others of the group need not begin
        again because of it."""
        try:
            return keys.put(repository, self.drafts, self.current_vectors(repository.generation), now)
        except ConflictError as exc:
            if len(self.drafts) == 1:
                exc.index = None
            return _Refused(exc)


@dataclass(slots=True, eq=False)
class Apply(Generic[T]):
    """Several changes: all or none. ``run`` makes them, given the embeddings of ``texts`` by text, and the time.

    Where it raises ``UnembeddedError``, nothing was changed and ``again`` is called with that, to queue the same
    changes once more; the future goes on.
    """

    run: Callable[[Repository, Mapping[str, bytes], Micros], T]
    rows: int
    texts: Sequence[str]
    vectors: Sequence[bytes]
    generation: int
    embed: Callable[[Sequence[str]], list[bytes]]
    again: Callable[[UnembeddedError], object]
    future: Future[T]

    def current_vectors(self, generation: int) -> Sequence[bytes]:
        if self.generation != generation:
            self.vectors, self.generation = self.embed(self.texts), generation
        return self.vectors

    def make(self, repository: Repository, now: Micros) -> T | _Refused:
        """Make the changes behind a savepoint: where one cannot be made, they are undone, and the others of the group
        need not begin again because of it."""
        db, names = repository.db, repository.names
        vectors = dict(zip(self.texts, self.current_vectors(repository.generation), strict=True))
        mark, last_row = names.mark(), repository.last_row()
        db.execute("SAVEPOINT apply")
        try:
            result = self.run(repository, vectors, now)
        except (*UNMET, UnembeddedError) as exc:
            db.execute("ROLLBACK TO apply")
            db.execute("RELEASE apply")
            names.back_to(mark)
            repository.back_to(last_row)
            return _Refused(exc)
        db.execute("RELEASE apply")
        return result


@dataclass(slots=True, eq=False)
class _Refused:
    """In the place of a result: what one request raises that has changed nothing."""

    error: AgentMemError


@dataclass(slots=True, eq=False)
class Task(Generic[T]):
    """Maintenance on the writing connection, outside of any transaction."""

    run: Callable[[Connection], T]
    rows: int = 0
    future: Future[T] = field(default_factory=Promise[T])


Work: TypeAlias = Write[Any] | Add | Apply[Any] | Task[Any]


class GroupCommit:
    """The only writer of this process. Made inside ``files.opening``; ``reader`` is the engine's other connection."""

    def __init__(
        self,
        path: Path,
        gate: FileLock,
        files: OpenFiles,
        reader: Connection,
        names: Names,
        *,
        generation: int,
        timeout: float,
        now: Callable[[], Micros],
    ) -> None:
        self._path = path
        self._gate = gate
        self._files = files
        self._reader = reader
        self._names = names
        self._timeout = timeout
        self._now = now
        self._whole = transaction_lock()
        self._db = files.connect()
        configure(self._db)
        self._log = WriteAheadLog(path)
        self._db.execute("PRAGMA synchronous=NORMAL")  # the log is synced here instead
        self._log.open()
        self._custody = Custody(path, files, self._db, self._log)
        gate.replaced = files.check  # with the folder, the lock would be another store's
        self.grown = Event[[Repository, str, int, int]]()
        """A layer has grown by so many records and bytes of text. Called inside the transaction; may refuse it."""
        self.repeated = Event[[Repository, Sequence[Stored], Micros]]()
        """Records were added again, which brought nothing new. Called inside the transaction."""
        self.begun = Event[[Repository]]()
        """A transaction has begun. Called inside it."""
        self._repository = Repository(self._db, names, generation, self.grown, self.repeated)
        self.fresh = self._repository.fresh
        self._queue: deque[Work] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung for all that is queued."""
        self._closing = False
        self._ended = False
        self._inside = False
        self._given_way = 0
        self._stuck = False
        self._log_size = 0
        self.requests = 0
        """Of callers, so far; background work does not count."""
        self.last_error: str | None = None
        """Why the last transaction could not be written, as for want of room; None once one has been."""
        self.taken = deque[tuple[float, float]](maxlen=_TAKEN)
        """When the last transactions ended (``time.monotonic``), and how many seconds their way to the disk took."""
        self._thread = Service(self._loop, "agentmem-commit", self._serve)
        self._thread.start()

    def submit(self, work: Write[T] | Apply[T] | Task[T], *, background: bool = False) -> Future[T]:
        """Queue work; its future completes once the result is durable, or with the error that undid it."""
        self._put(work, not background)
        return work.future

    def submit_add(self, work: Add) -> Future[list[Created]]:
        """Queue an insert; see ``submit``."""
        self._put(work, True)
        return work.future

    def _put(self, work: Work, request: bool) -> None:
        if self._closing:
            raise ClosedError("the store was closed")
        self._queue.append(work)
        self.requests += request
        self._bell.put(None)
        if self._ended:
            self._refuse_rest()  # it came after the thread's last look

    def on_thread(self) -> bool:
        """Whether this is the commit thread."""
        return get_ident() == self._thread.ident

    def drain(self) -> None:
        """Take nothing more, and wait until everything that is queued is committed."""
        self._closing = True
        self._bell.put(None)
        self._thread.ended.result()

    def close(self) -> None:
        """Commit what is queued, then stop and close both connections.

        The last of all processes to do so brings the log into the database and removes it, by its name. Under the lock
        between processes nobody puts another one there meanwhile.
        """
        self.drain()
        connections = (self._db, self._reader)
        for connection in connections:
            connection.still()  # before the lock, for which whoever interrupted a statement may wait
        held = False
        try:
            self._custody.check()
            held = self._gate.acquire(min(self._timeout, _CLOSING))
            self._custody.begin()
        except LogGoneError as exc:
            self._let_go(exc)
        except StoreError:
            pass  # if the store is gone, SQLite sees that, too, and leaves what lies there alone
        self._log.close()
        self._custody.close(connections)
        if held:
            self._gate.release()

    def check_writable(self) -> None:
        """Raise ``ReadOnlyError`` where nothing may be written."""

    def check_files(self) -> None:
        """Raise ``StoreGoneError`` if what lies at the path is no longer what this has open. Takes microseconds."""
        self._custody.check()

    def note_lance(self) -> None:
        """Note which ``lance`` folder belongs to this database, if there is a new one."""
        if self._files.lance_is_new():
            self.submit(Task(lambda _: self._files.note_lance()), background=True).result()

    def check_at(self, database: str) -> None:
        """The same for a path that leads to the database. Looks at that only."""
        self._custody.check_at(database)

    def watch(self) -> None:
        """The same, for a thread that looks now and then: a log that lost its name is saved before anybody needs it."""
        try:
            self.check_files()
            if not self._closing:
                self._files.keep_in_use()
        except LogGoneError:
            self.submit(Task(lambda _: self.check_files()), background=True).result()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while self._queue or not self._closing:
            self._work()
        self._ended = True
        self._refuse_rest()

    def _serve(self, promise: Promise[Any]) -> None:
        """Go on until the promise is kept for which a finalizer waits on this thread, on top of whatever that did."""
        if self._given_way >= MOST_WAYS and promise.cancel():  # else it may be stored yet, when nobody expects it
            raise StoreError(
                "the store was used by a finalizer in the middle of a transaction that was undone for others several "
                "times already, and is not once more; nothing was stored. Write to the store outside of finalizers"
            )
        promise.add_done_callback(lambda _: self._bell.put(None))
        undone = self._db.give_way()
        if undone:
            self._names.forget()
            # Nothing of it is left: others may write, and open the store, before it begins anew.
            self._inside = False
            self._gate.release()
        try:
            while not promise.done():
                self._work()
        finally:
            if undone:
                self._inside = True
                self._db.refuse()
            self._bell.put(None)  # in place of those that were heard here

    def _work(self) -> None:
        if not self._queue:
            self._bell.get()
        elif group := self._take():
            self._commit(group)
            self._limit_wal()

    def _refuse_rest(self) -> None:
        while self._queue:
            with suppress(IndexError):  # the other of two who do this was faster
                work = self._queue.popleft()
                if work.future.set_running_or_notify_cancel():
                    work.future.set_exception(ClosedError("the store was closed"))

    def _take(self) -> list[Work]:
        """The next group; work that was cancelled while it waited is dropped here, for good."""
        group: list[Work] = []
        rows = 0
        while self._queue:
            try:
                work = self._queue.popleft()
            except IndexError:
                break  # what served a finalizer here meanwhile was faster
            if group and (_alone(work) or rows + work.rows > GROUP_ROWS):
                self._queue.appendleft(work)
                break
            if work.future.set_running_or_notify_cancel():
                group.append(work)
                rows += work.rows
                if _alone(work):
                    break
        return group

    def _commit(self, group: list[Work], given_way: int = 0) -> None:
        """Make a group durable; if it fails, replay it request by request, so that a bad one fails alone."""
        try:
            results = self._run(group, given_way)
        except GaveWayError:
            self._db.resume()
            self._commit(group, given_way + 1)
            return
        except UnsyncedError as exc:
            # It is committed, so that a replay would do it twice, or the disk does not let anything be.
            self.last_error = str(exc)
            for work in group:
                work.future.set_exception(exc.copy())
            return
        except StoreGoneError as exc:
            told = self._let_go(exc) if isinstance(exc, LogGoneError) else exc
            for work in group:
                work.future.set_exception(StoreGoneError(str(told)))
            return
        except BaseException as exc:
            # Also what is no Exception, such as a panic of the driver: without this thread nobody could write again.
            if len(group) == 1:
                if isinstance(exc, StoreError):
                    self.last_error = str(exc)
                group[0].future.set_exception(exc)
                return
            for work in group:
                self._commit([work])
            return
        self.last_error = None
        with together():
            for work, result in zip(group, results, strict=True):
                if isinstance(result, _Refused) and isinstance(result.error, UnembeddedError):
                    assert isinstance(work, Apply)
                    work.again(result.error)
                elif isinstance(result, _Refused):
                    work.future.set_exception(result.error)
                else:
                    work.future.set_result(result)

    def _run(self, group: list[Work], given_way: int) -> list[Any]:
        before, self._given_way = self._given_way, given_way
        try:
            first = group[0]
            return [self._maintain(first)] if isinstance(first, Task) else self._transaction(group)
        finally:
            self._given_way = before

    def _transaction(self, group: list[Work]) -> list[Any]:
        for work in group:
            if isinstance(work, (Add, Apply)):
                # What was embedded with the model of before is embedded again; no other process waits for that here.
                work.current_vectors(self._repository.generation)
        with self._locked():
            self._patiently("BEGIN IMMEDIATE")
            try:
                self._repository.check_generation()
                self.begun(self._repository)
                results = self._apply(group)
                begun = time.monotonic()
                self._patiently("COMMIT")
            except BaseException:
                self._names.forget()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._names.commit()
            self._log.sync()
            self.fresh.committed(self._repository.generation)
            ended = time.monotonic()
            self.taken.append((ended, ended - begun))
        for work in group:
            if isinstance(work, Write) and work.committed is not None:
                work.committed()
        return results

    def use_generation(self, generation: int) -> None:
        """Go on with another model's vectors. Only from ``Write.committed``, on the commit thread."""
        self._repository.generation = generation

    def _maintain(self, task: Task[T]) -> T:
        with self._locked():
            return task.run(self._db)

    def _apply(self, group: list[Work]) -> list[Any]:
        results: list[Any] = []
        at = 0
        while at < len(group):
            work = group[at]
            if isinstance(work, (Put, Apply)):
                results.append(work.make(self._repository, self._now()))
                at += 1
                continue
            if not isinstance(work, Add):
                assert isinstance(work, Write)  # a task is always alone
                results.append(work.run(self._repository))
                at += 1
                continue
            adds = [work]
            while at + len(adds) < len(group) and type(following := group[at + len(adds)]) is Add:
                adds.append(following)
            created = returning.add(
                self._repository,
                [draft for add in adds for draft in add.drafts],
                [vector for add in adds for vector in add.current_vectors(self._repository.generation)],
                self._now(),
            )
            start = 0
            for add in adds:
                results.append(created[start : start + len(add.drafts)])
                start += len(add.drafts)
            at += len(adds)
        return results

    def _patiently(self, sql: str) -> None:
        """Run a statement that may find the database busy (a checkpoint elsewhere), waiting outside of libSQL."""
        error: BusyError | None = None
        for _ in attempts(self._timeout):
            try:
                self._db.execute(sql, patience=0)
                return
            except BusyError as exc:
                error = exc
        raise locked_out(self._path, self._timeout) from error

    def _limit_wal(self) -> None:
        if self._log_size > WAL_LIMIT:
            try:
                self._maintain(Task(truncate_wal))
                self._stuck = False
            except StoreError as exc:
                # The disk is full, for one: the log stays as it is, and the next commit tries again.
                if not self._stuck:
                    _warn("the write-ahead log could not be emptied, and will be tried again: %s", exc)
                self._stuck = True

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Keep other processes from writing, and forks from happening; no log is in doubt, the files are the store's.

        They are looked at before, since the lock in a folder that was replaced is that of another store; and after,
        since nothing may be acknowledged that has gone nowhere.
        """
        if self._inside:  # a finalizer's write, on top of one that has the lock
            with self._checked():
                yield
            return
        if not self._gate.acquire(self._timeout):
            raise locked_out(self._path, self._timeout)
        with self._gate, self._whole:
            self._inside = True
            try:
                with self._checked():
                    yield
            finally:
                self._inside = False

    @contextmanager
    def _checked(self) -> Generator[None]:
        self._custody.begin()
        self._log.settle()
        yield
        self._custody.end()
        # Now: once callers have been woken, each system call would have this thread wait for the interpreter's lock.
        self._log_size = self._log.size()

    def _let_go(self, exc: LogGoneError) -> StoreGoneError:
        held = not self._inside and self._gate.acquire(self._timeout)
        with self._whole:
            told = self._custody.let_go(exc, (self._db, self._reader), alone=held or self._inside)
        if held:
            self._gate.release()
        return told


def _alone(work: Work) -> bool:
    """Whether nothing else may share the work's transaction."""
    return isinstance(work, Task) or (isinstance(work, Write) and work.committed is not None)


def _warn(message: str, error: Exception) -> None:
    """Log a warning, on another thread: a handler's lock may be held by one that waits for a commit."""
    with suppress(RuntimeError):  # the interpreter is about to end
        promised(lambda: log.warning(message, error))
