"""The one place that imports libSQL: a connection whose errors are ours.

libSQL holds the interpreter's lock for the whole of each call, a busy wait included, so nothing here waits inside it:
the busy timeout is 0, reads always fetch everything (an open cursor would block checkpoints), and bulk statements go
in chunks of a few milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from agentmem.stores.forks import statement_lock, transaction_lock
from agentmem.types.errors import (
    AgentMemError,
    ClosedError,
    DiskFullError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from agentmem.types.patience import attempts
from agentmem.types.reentry import from_handler, held_here
from agentmem.types.refusals import refusal

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Any, ...]
_FILES = 6
"""Open at once for a connection: the database, its log and its index, and their folder."""
CHUNK = 200
"""Rows per bulk statement: about 5 ms of work."""
PATIENCE = 30.0
"""Seconds that a statement waits for a file that is locked."""


class BusyError(StoreError):
    """The database is locked right now; retry after a pause. Never leaves the package."""


class GaveWayError(StoreError):
    """The transaction at hand was undone to make room for another; run it again. Never leaves the package."""


class Connection:
    """A connection to one database file, in autocommit mode, safe to share between threads.

    Statements take turns: while any is unfinished the whole connection would stay on the snapshot of the first. One
    that runs on top of another (a signal handler's, say) cannot have its turn, and gets a connection of its own;
    only on a connection that is not ``shared``, one thread's own, is it run all the same.
    """

    def __init__(self, path: Path, check: Callable[[], object] = lambda: None, *, shared: bool = False) -> None:
        """``check`` raises if another database lies at the path than the one that is meant. It is called when that file
        has been opened and nothing has been read: reading would have SQLite take what is called like its log for that.
        """
        self._path = path
        self._check = check
        self._shared = shared
        self._turn = statement_lock()
        self._refused: Callable[[], AgentMemError] | None = None
        self._only_reads = False
        with self._turn:  # no fork in the middle of it
            self._raw: Any = self._connect()
        _connections.add(self)
        try:
            check()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        """A connection of the driver's."""
        return connect(str(self._path), self._path)

    def another(self) -> Connection:
        """A new connection to the same database, which remembers nothing of before. The caller closes it."""
        return Connection(self._path, self._check)

    def execute(self, sql: str, params: Sequence[Value] = (), patience: float = PATIENCE) -> list[Row]:
        """Run one statement and return all its rows.

        Even a read finds the file locked for a moment while another process is its first or its last user: that one
        recovers the write-ahead log, or removes it. Waits up to ``patience`` seconds, outside of libSQL; with 0 it
        raises ``BusyError``.
        """
        try:
            return self._execute(sql, params)
        except BusyError:
            if not patience:
                raise
        error: BusyError | None = None
        for _ in attempts(patience):
            try:
                return self._execute(sql, params)
            except BusyError as exc:
                error = exc
        raise StoreLockedError(
            f"{self._path}: the database was locked elsewhere for more than {patience:g} s; find one that hangs"
        ) from error

    def _execute(self, sql: str, params: Sequence[Value]) -> list[Row]:
        if self._shared and held_here(self._turn):
            return self._execute_apart(sql, params)
        return self._execute_here(sql, params)

    def _execute_here(self, sql: str, params: Sequence[Value]) -> list[Row]:
        try:
            with self._turn:
                if self._refused is not None:
                    raise self._refused()
                rows = self._raw.execute(sql, tuple(params)).fetchall()
                if self._refused is not None:
                    raise self._refused()  # undone by what ran on top of it
                return rows
        except BaseException as exc:
            error = self._error(exc)
            if error is exc:
                raise
            raise error from exc

    def _execute_apart(self, sql: str, params: Sequence[Value]) -> list[Row]:
        if self._refused is not None:
            raise self._refused()
        with closing(self.another()) as connection:
            return connection.execute(sql, params)

    def executemany(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run one statement for each row, in chunks so that other threads get their turn."""
        try:
            for start in range(0, len(rows), CHUNK):
                with self._turn:
                    if self._refused is not None:
                        raise self._refused()
                    self._raw.executemany(sql, rows[start : start + CHUNK])
        except Exception as exc:
            error = self._error(exc)
            if error is exc:
                raise
            raise error from exc

    def insert(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run ``sql``, whose ``{}`` becomes the placeholders of many rows, ``(?,?),(?,?)``, in chunks.

        That takes half to a quarter of the time of ``executemany``: the driver spends some 10 µs on each statement.
        """
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            one = f"({','.join('?' * len(chunk[0]))})"
            self._execute(sql.format(",".join([one] * len(chunk))), tuple(chain.from_iterable(chunk)))

    def select_in(
        self, sql: str, values: Iterable[Value], extra: Sequence[Value] = (), *, chunk: int = CHUNK
    ) -> Iterator[Row]:
        """Rows of ``sql``, whose first ``{}`` becomes placeholders of ``values``, in chunks; ``extra`` binds after."""
        every = list(values)
        for start in range(0, len(every), chunk):
            part = every[start : start + chunk]
            yield from self.execute(sql.replace("{}", ",".join("?" * len(part)), 1), (*part, *extra))

    def execute_in(self, sql: str, values: Sequence[Value]) -> None:
        """Run ``sql``, whose first ``{}`` becomes the placeholders of ``values``, in chunks."""
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            self.execute(sql.replace("{}", ",".join("?" * len(chunk)), 1), chunk)

    def vacuum(self, pages: int) -> None:
        """Give up to this many unused pages back to the file system."""
        try:
            with self._turn:
                # As a script, since the driver takes the pragma's empty rows for an error.
                self._raw.executescript(f"PRAGMA incremental_vacuum({pages})")
        except Exception as exc:
            raise self._error(exc) from exc

    @contextmanager
    def transaction(self) -> Generator[None]:
        """A transaction that writes: all of it or nothing. Forks wait for its end."""
        with transaction_lock():
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.execute("ROLLBACK")
                raise
            self.execute("COMMIT")

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """Statements that read, and all see the same, whatever is written meanwhile.

        Not for long: what is written stays in the write-ahead log until then.
        """
        if self.in_transaction:
            yield
            return
        self.execute("BEGIN")
        self._only_reads = True
        try:
            yield
        finally:
            self._only_reads = False
            self.execute("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        return self._refused is not _closed and bool(self._raw.in_transaction)

    def still(self, seconds: float = -1) -> bool:
        """Wait until no statement runs here, and let none begin until ``go_on``; False if that took too long.

        A thread that a signal handler interrupted in a statement may take any time.
        """
        return self._turn.acquire(timeout=seconds)

    def go_on(self) -> None:
        """The opposite of ``still``."""
        self._turn.release()

    def close(self) -> None:
        """Close the file; again does nothing. Statements are finished by then, since reads fetch all of their rows."""
        with self._turn:
            if self._refused is not _closed:
                self._refused = _closed
                disconnect(self._raw)

    def abandon(self) -> None:
        """Use it no more, and never close it: the last one that is closed removes what is called like its log.

        The system closes the files when the process ends, however that ends.
        """
        if self._refused is not _closed:
            self._refused = _closed
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._raw))

    def leave(self) -> None:
        """In a forked child, leave the parent's connection to the parent."""
        if not held_here(self._turn) and self._turn.acquire(blocking=False):
            try:
                if self._refused is None and (self._only_reads or not self.in_transaction):
                    self.close()
            finally:
                self._turn.release()
        # Not what was forked in the middle of a transaction or statement, which goes on in the parent.
        if self._refused is None and (found := _identity(self._path)):
            _left.add(found)

    def give_way(self) -> bool:
        """Undo the transaction that this thread is in the middle of, to begin another; False if there is none.

        That one is told by ``refuse`` when the other has ended.
        """
        if self._refused is _gave_way:
            self.resume()
            return True
        if not self.in_transaction:
            return False
        self._raw.execute("ROLLBACK")
        return True

    def refuse(self) -> None:
        """Raise ``GaveWayError`` for whatever the undone transaction goes on with, until ``resume``."""
        if self._refused is None:
            self._refused = _gave_way
            # Its next statement may have passed the check above already, and would be a transaction of its own.
            self._raw.execute("PRAGMA query_only=1")

    def resume(self) -> None:
        """Serve again: the transaction that gave way has heard of it."""
        if self._refused is _gave_way:
            self._raw.execute("PRAGMA query_only=0")
            self._refused = None

    def _error(self, exc: BaseException) -> BaseException:
        """What to raise for what came out of a statement."""
        if self._refused is _gave_way:
            return _gave_way()
        if isinstance(exc, AgentMemError) or from_handler(exc):
            return exc
        # The driver panics where a text in the file is not UTF-8, and a panic is no Exception.
        if isinstance(exc, Exception) or type(exc).__name__ == "PanicException":
            return _mapped(exc, self._path)
        return exc


# SQLite keeps a list of what this process has locked. A forked child would go by that of the parent, without the locks:
# once the parent has closed the store, or is killed, whoever closes it next takes itself for the last one, and removes
# the log that the child has open. Closing takes files from the list, and no more, since the parent has them locked.
_connections = weakref.WeakSet[Connection]()
_left = set[tuple[int, int]]()
"""Databases, by device and inode, of the parent's connections that a forked child could not close."""


def _leave() -> None:
    for connection in list(_connections):
        connection.leave()
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _closed() -> AgentMemError:
    # The driver panics on a closed connection, which is no Exception.
    return ClosedError("the store was closed; open a new client")


def _gave_way() -> AgentMemError:
    return GaveWayError("the transaction gave way to another one")


def connect(target: str, path: Path) -> Any:
    """A connection of the driver's to ``target``, a path or a URI, in autocommit mode; errors name ``path``."""
    if _left and _identity(path) in _left:
        raise StoreError(
            f"{path} cannot be opened in this process, which was forked in the middle of a long transaction of its "
            'parent\'s; fork once that has ended, or start processes by "spawn" or "forkserver"'
        )
    try:
        raw = driver().connect(target, isolation_level=None)
        raw.execute("PRAGMA busy_timeout=0").fetchall()
        raw.execute("PRAGMA foreign_keys=OFF").fetchall()
    except Exception as exc:
        if from_handler(exc):
            raise
        raise _mapped(exc, path) from exc
    return raw


def disconnect(raw: Any) -> None:
    """Close a connection of the driver's, no statement of which is running."""
    # The driver closes SQLite's handle twice, the second time in memory that was freed, which may end the process.
    # Beside a statement that is still open it does nothing, and the end of that closes once.
    statement: Any = None
    with suppress(Exception):
        statement = raw.execute("SELECT 1 UNION ALL SELECT 2")
    raw.close()
    del statement


def driver() -> Any:
    """The module of libSQL for this version of Python."""
    if sys.version_info >= (3, 14):
        import libsql  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

        return libsql  # pyright: ignore[reportUnknownVariableType]
    import libsql_experimental  # pyright: ignore[reportMissingTypeStubs]

    return libsql_experimental


def _mapped(exc: BaseException, path: Path) -> StoreError:
    text = str(exc)
    lowered = text.lower()
    if "locked" in lowered or "busy" in lowered:
        return BusyError(f"{path}: {text}")
    if "disk is full" in lowered or "no space" in lowered:
        return DiskFullError(f"{path}: the disk is full; free some space and try again (nothing of this was kept)")
    if "malformed" in lowered or "not a database" in lowered or "corrupt" in lowered or "utf8" in lowered:
        return StoreCorruptError(damaged(path, f"damaged or not a database: {text}"))
    if "readonly" in lowered or "unable to open" in lowered or "permission" in lowered:
        return StoreError(f"{path} cannot be opened for writing ({text}): {_refused(path)}")
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if "i/o error" in lowered and largest != resource.RLIM_INFINITY:
        return StoreError(f"{path}: {text}; this process may not write beyond {largest:,} bytes of a file (ulimit -f)")
    return StoreError(f"{path}: {text}")


def _refused(path: Path) -> str:
    """What the system says to as many files as a connection has; SQLite does not tell.

    Not of the database itself: whoever closes that gives up the locks that connections of this process hold on it.
    """
    opened = list[int]()
    try:
        for _ in range(_FILES):
            opened.append(os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as exc:
        return refusal(exc)
    finally:
        for each in opened:
            os.close(each)
    return "check the permissions of its folder"


def damaged(path: object, how: str) -> str:
    """The words of an error for a database that cannot be read."""
    return (
        f"{path} cannot be read ({how}); restore it from a backup, or rescue what can be read: "
        "agentmem repair --salvage, or Memory.repair(salvage=True)"
    )


def locked_out(path: Path, seconds: float) -> StoreLockedError:
    """The error for a wait that took too long."""
    return StoreLockedError(
        f"{path}: another process kept the write lock for more than {seconds:g} s; "
        "look for a process that hangs, or raise the setting performance.lock_timeout_s"
    )
