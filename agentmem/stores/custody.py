"""Whether what an engine has open is still the store at its path, and what is done when it no longer is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from agentmem.stores.connection import Connection
from agentmem.stores.files import LogGoneError, OpenFiles, Stamp
from agentmem.stores.integrity import overwritten
from agentmem.stores.log import WriteAheadLog, truncate_wal
from agentmem.types.errors import StoreGoneError
from agentmem.types.patience import attempts

_RESCUE = 2.0
"""Seconds for which others may keep a log that lost its name from being brought into the database."""


class Custody:
    """The files that the commit thread writes to. Once they are lost, every check says so, for good.

    ``begin``, ``end`` and ``let_go`` are for the commit thread, or for whoever closes the store after that.
    """

    def __init__(self, path: Path, files: OpenFiles, db: Connection, log: WriteAheadLog) -> None:
        """``path`` is the database's, ``db`` the connection that writes to it, and ``log`` its log."""
        self._path = path
        self._files = files
        self._db = db
        self._log = log
        self._stamp: Stamp = files.check()
        files.note_written(self._stamp, log.salts())
        self._lost: str | None = None
        self._overwritten = False

    def check(self) -> None:
        """Raise ``StoreGoneError`` if what lies at the path is no longer what is open here. Takes microseconds."""
        self._check_lost()
        self._files.check()

    def check_at(self, database: str) -> None:
        """The same for a path that leads to the database. Looks at that only."""
        self._check_lost()
        self._files.check_at(database)

    def begin(self) -> None:
        """The same, before anything is written: under the lock between processes, which that of another store is not.

        Also raises if the database was changed since ``end``, and not by SQLite.
        """
        self._check_lost()
        stamp = self._files.check_for_commit()
        if stamp != self._stamp and not self._files.was_noted(stamp):
            self._compare()

    def end(self) -> None:
        """The same, after it was written: what has gone nowhere is not to be acknowledged."""
        self._stamp = self._files.check_for_commit(done=True)
        self._files.note_written(self._stamp, self._log.salts())

    def _check_lost(self) -> None:
        if self._lost is not None:
            raise StoreGoneError(self._lost)

    def _compare(self) -> None:
        # A process may have been killed after it brought the log into it, another program may have done that, or the
        # file was touched. A new connection remembers nothing of before.
        with closing(self._db.another()) as fresh:
            how = overwritten(self._db, fresh)
        if how is not None:
            self._overwritten = True
            self._lost = (
                f"{self._path} was overwritten in place while it was open ({how}), so that its log belongs to what it "
                "was before: end every program that has it open; the next one that opens it finds what was put there"
            )
            raise StoreGoneError(self._lost)

    def close(self, connections: Sequence[Connection]) -> None:
        """Close the connections, which are ``still``; the last one brings the log into the database.

        Not where that has another content than what the log was written for: then they are abandoned.
        """
        for connection in connections:
            connection.abandon() if self._overwritten else connection.close()
            connection.go_on()
        self._files.let_go(closed=not self._overwritten)

    def let_go(self, exc: LogGoneError, connections: Sequence[Connection], *, alone: bool) -> StoreGoneError:
        """Save what is in a log that lost its name, and let go of all files; returns the error that says so.

        ``alone``: the caller holds the lock between processes, under which nobody opens the store. As long as nobody
        has since the log was lost, what it holds can go into the database, and the ``connections`` are closed before
        anybody does. Else the names of log and index may belong to others, whose files SQLite would remove when it
        closes the last connection.
        """
        if self._lost is None:
            # What a signal handler interrupted in a statement may wait for this.
            quiet = [connection for connection in connections if connection.still(_RESCUE)]
            free = alone and len(quiet) == len(connections) and self._files.log_is_free()
            if not free:
                outcome = f"it cannot be brought into the database any more, and a copy of it is in {self._log.copy()}"
            elif any(truncate_wal(self._db) for _ in attempts(_RESCUE, first=0.01)):
                outcome = "what it held was brought into the database, nothing is lost"
            else:
                outcome = "others still hold it"
            for connection in connections:
                connection.close() if free else connection.abandon()
            for connection in quiet:
                connection.go_on()
            self._files.let_go(closed=free)
            self._lost = f"{exc}; {outcome}"
        return StoreGoneError(self._lost)
