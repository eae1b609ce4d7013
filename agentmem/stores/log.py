"""The write-ahead log as a file: what was committed is synced here, while other threads run."""

from __future__ import annotations

import os
from pathlib import Path

from agentmem.stores.connection import BusyError, Connection
from agentmem.types.errors import StoreError

_sync = getattr(os, "fdatasync", os.fsync)


_PART = 1_048_576


class UnsyncedError(StoreError):
    """Something is committed, but the disk could not confirm it: a power cut may take it away."""

    def copy(self) -> UnsyncedError:
        """The same for another waiter, with its cause: one raised object must not be raised by several threads."""
        copied = UnsyncedError(*self.args)
        copied.__cause__ = self.__cause__
        return copied


class WriteAheadLog:
    """The ``-wal`` file of a database whose writing connection has ``synchronous=NORMAL``.

    With ``FULL``, SQLite ends each commit with a sync of this file, and libSQL keeps the interpreter's lock for as long
    as the disk takes, so that every thread of the program stands still. With ``NORMAL`` it still syncs where the
    database could be torn: around checkpoints, and when it begins the file anew. Only the commit's own sync is left
    out (https://sqlite.org/pragma.html#pragma_synchronous), and that is ``sync``.

    SQLite takes no locks on this file, so opening and closing it here releases none. Not thread-safe; the caller holds
    the lock between processes.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-wal")
        self._file: int | None = None
        self._doubtful = False

    def sync(self) -> None:
        """Wait until everything that was committed is on the disk. Raises ``UnsyncedError`` if it may not be."""
        try:
            self._sync_once()
        except OSError:
            self._doubtful = True
            self.settle()

    def settle(self) -> None:
        """After a sync that failed: try again. Raises ``UnsyncedError`` as long as that fails, too.

        Until it does not, nothing may be committed or copied into the database: a later sync says nothing about what an
        earlier one could not write (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
        """
        if not self._doubtful:
            return
        try:
            self._write_again()
            self._sync_once()
        except OSError as exc:
            raise UnsyncedError(
                f"{self._path}: the disk does not confirm what was written ({exc}); look after the disk. A change that "
                "failed with this error may be there or not: read before repeating it"
            ) from exc
        self._doubtful = False

    def size(self) -> int:
        """In bytes; 0 if there is no such file."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """To be called before the connection is closed: the last one removes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _sync_once(self) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR)
        _sync(self._file)

    def _write_again(self) -> None:
        """Write the file over itself, since the system takes for written what it could not write."""
        if self._file is None:
            return
        at = 0
        while part := os.pread(self._file, _PART, at):
            at += os.pwrite(self._file, part, at)


def truncate_wal(db: Connection) -> bool:
    """Copy the write-ahead log into the database and empty it; False while a reader still needs it."""
    try:
        return db.execute("PRAGMA wal_checkpoint(TRUNCATE)", patience=0)[0][0] == 0
    except BusyError:
        return False
