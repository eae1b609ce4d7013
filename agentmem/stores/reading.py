"""A database that is only read: where nothing may be written, nothing is, not even beside it.

SQLite itself makes a log and its index beside a database that it only reads. So which way it is opened goes by what
lies there, and that is looked at around each statement.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote

from typing_extensions import override

from agentmem.stores.commit import Add, Apply, GroupCommit, Task, Write
from agentmem.stores.connection import Connection, Row, Value, connect, disconnect
from agentmem.stores.files import check_database
from agentmem.stores.folder import DATABASE, SHARED_MEMORY, WRITE_AHEAD_LOG
from agentmem.stores.fresh import Fresh
from agentmem.stores.private import PrivateFolder
from agentmem.stores.rows import Stored
from agentmem.stores.schema import configure, migrate
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.errors import ReadOnlyError, StoreError, StoreGoneError, StoreLockedError
from agentmem.types.events import Event
from agentmem.types.patience import attempts

T = TypeVar("T")
_PATIENCE = 5.0
"""Seconds for which a statement is repeated because the files changed under it."""

log = logging.getLogger("agentmem")


class _Look(NamedTuple):
    """What lies there: the database's identity, size and time of change, the same of the log, and whether that has an
    index."""

    database: tuple[int, int, int, int]
    log: tuple[int, int, int, int] | None
    indexed: bool

    @property
    def has_log(self) -> bool:
        """Whether there may be something in the log that is not in the database yet."""
        return self.log is not None and self.log[2] > 0


class ReadConnection(Connection):
    """A connection to ``folder``'s database that writes nothing and makes no file. Takes part in the work of writers.

    * A database whose log is empty is complete; it is read as a file that does not change, until it does.
    * With a log and its index it is read as every other process reads it.
    * A log without an index cannot be read in place where the index cannot be made: then both are copied.

    Statements raise ``StoreGoneError`` once another database lies there, or none.
    """

    def __init__(self, folder: Path) -> None:
        self._database = os.path.join(folder, DATABASE)
        self._log = os.path.join(folder, WRITE_AHEAD_LOG)
        self._index = os.path.join(folder, SHARED_MEMORY)
        self._copy = PrivateFolder()
        self._seen = self._look()
        self._identity = self._seen.database[:2]
        super().__init__(folder / DATABASE, self.check, shared=True)

    @property
    def folder(self) -> Path:
        return self._path.parent

    def check(self, at: str | None = None) -> None:
        """Raise ``StoreGoneError`` if this database does not lie at a path, by default where it was opened."""
        check_database(at or self._database, self._identity)

    @override
    def another(self) -> Connection:
        return ReadConnection(self.folder)

    def upgraded(self) -> Connection:
        """A copy of the database as it is now, brought up to date, for a store of an older version."""
        folder = PrivateFolder()
        try:
            path = folder.open() / DATABASE
            self.execute("VACUUM INTO ?", (str(path),))
            copy = _Copy(path, folder)
            configure(copy)
            migrate(copy, self.folder)
        except BaseException:
            folder.remove()
            raise
        log.warning(
            "%s is of an older version, and is read from a copy that was brought up to date, since it may not be "
            "changed itself; what is written to it from now on is not seen here",
            self.folder,
        )  # fmt: skip
        return copy

    @override
    def close(self) -> None:
        super().close()
        self._copy.remove()

    # -- inside ------------------------------------------------------------------------------------------------------

    @override
    def _execute_here(self, sql: str, params: Sequence[Value]) -> list[Row]:
        error: StoreError | None = None
        for _ in attempts(_PATIENCE):
            seen = self._seen
            try:
                seen = self._follow()
                rows = super()._execute_here(sql, params)
            except StoreError as exc:
                if isinstance(exc, StoreGoneError) or (self._is_valid(seen) and not _awaits_a_writer(exc)):
                    raise
                error = exc
            else:
                if self._is_valid(seen):
                    return rows
        if error is not None and _awaits_a_writer(error):
            raise StoreError(
                f"{self._path}: the log has to be recovered, which takes writing; open the store once without "
                "read_only, where it may be written"
            ) from error
        raise StoreLockedError(
            f"{self._path}: the files changed under a statement for more than {_PATIENCE:g} s; try again"
        ) from error

    def _follow(self) -> _Look:
        """See to it that the connection is of the kind that what lies there needs; returns what that is."""
        if not self._is_valid(self._seen):
            with self._turn:
                if self._refused is not None:
                    raise self._refused()
                self.check()
                before, self._seen = self._seen, self._look()
                try:
                    old, self._raw = self._raw, self._connect()
                except BaseException:
                    self._seen = before
                    raise
                disconnect(old)
        return self._seen

    def _is_valid(self, seen: _Look) -> bool:
        """Whether a connection that was made after a look is still right."""
        now = self._look()
        if seen.has_log and seen.indexed:
            # Others write to these while this reads; SQLite sees to that.
            return now.database[:2] == seen.database[:2] and now.log is not None and now.log[:2] == (seen.log or ())[:2]
        return now == seen or (now.database == seen.database and not seen.has_log and not now.has_log)

    @override
    def _connect(self) -> Any:
        seen = self._seen
        if not seen.has_log:
            return connect(f"file:{quote(self._database)}?immutable=1", self._path)
        if seen.indexed:
            return connect(f"file:{quote(self._database)}?mode=ro", self._path)
        self._copy.remove()
        folder = self._copy.open()
        log.warning("%s has a log without an index, and is read from a copy in %s", self._path, folder)
        for path in (self._database, self._log):
            shutil.copy(path, folder)
        return connect(str(folder / DATABASE), self._path)

    def _look(self) -> _Look:
        try:
            found = os.stat(self._database)
        except OSError:
            found = None
        at = (0, 0, 0, 0) if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        try:
            found = os.stat(self._log)
        except OSError:
            return _Look(at, None, False)
        written = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return _Look(at, written, os.path.exists(self._index))


def _awaits_a_writer(exc: StoreError) -> bool:
    """Whether SQLite would have to write first: to recover the log that somebody has just begun or left.

    No statement here writes anything itself. Whoever has the store open for writing does it in a moment.
    """
    return "readonly" in str(exc.__cause__)


class _Copy(Connection):
    """A connection to a database of its own, which goes with it."""

    def __init__(self, path: Path, folder: PrivateFolder) -> None:
        self._folder = folder
        super().__init__(path, shared=True)

    @override
    def close(self) -> None:
        super().close()
        self._folder.remove()


class NoCommits(GroupCommit):
    """In the place of the commit thread where nothing may be written: refuses everything."""

    def __init__(self, source: ReadConnection) -> None:
        self._source = source
        self.grown = Event[[Repository, str, int, int]]()
        self.repeated = Event[[Repository, Sequence[Stored], Micros]]()
        self.fresh = Fresh()
        self.requests = 0
        self.last_error = None
        self.taken = deque[tuple[float, float]]()

    @override
    def on_thread(self) -> bool:
        return False

    @override
    def submit(self, work: Write[T] | Apply[T] | Task[T], *, background: bool = False) -> NoReturn:
        self.check_writable()

    @override
    def submit_add(self, work: Add) -> NoReturn:
        self.check_writable()

    @override
    def check_writable(self) -> NoReturn:
        raise ReadOnlyError(
            f"{self._source.folder} was opened with read_only=True, so that nothing can be changed; open it without"
        )

    @override
    def check_files(self) -> None:
        self._source.check()

    @override
    def check_at(self, database: str) -> None:
        self._source.check(database)

    @override
    def close(self) -> None:
        pass
