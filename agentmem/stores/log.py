"""The write-ahead log as a file: what was committed is synced here, while other threads run."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from agentmem.stores.connection import BusyError, Connection
from agentmem.stores.folder import DATABASE, REPLACED, WRITE_AHEAD_LOG, new_folder
from agentmem.stores.private import PrivateFolder
from agentmem.types.errors import StoreCorruptError, StoreError

_sync = getattr(os, "fdatasync", os.fsync)
_HEADER = 32
"""Bytes at the beginning of a log (https://sqlite.org/fileformat.html#the_write_ahead_log)."""
_IN_USE = 128
"""The byte of the index that everybody who has the log open locks (https://sqlite.org/walformat.html#walidxlocks)."""
Salts: TypeAlias = tuple[int, int]
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
        """In bytes; 0 while it is not open."""
        return 0 if self._file is None else os.fstat(self._file).st_size

    def open(self) -> None:
        """Open the file. Called while it is sure to be the one that the connection has open."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)

    def salts(self) -> Salts | None:
        """With which the log begins now; None if it is empty. They change whenever SQLite begins it anew."""
        return None if self._file is None else _salts(os.pread(self._file, _HEADER, 0))

    def copy(self) -> Path | None:
        """A copy of what was committed here, in a folder of its own; None if nothing was."""
        if self._file is None:
            return None
        folder = new_folder(self._path.parent, REPLACED)
        copy = os.open(folder / self._path.name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while part := os.pread(self._file, _PART, at):
                at += os.pwrite(copy, part, at)
            os.fsync(copy)
        finally:
            os.close(copy)
        return folder

    def close(self) -> None:
        """To be called before the connection is closed: the last one removes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _sync_once(self) -> None:
        self.open()
        assert self._file is not None
        _sync(self._file)

    def _write_again(self) -> None:
        """Write the file over itself, since the system takes for written what it could not write."""
        if self._file is None:
            return
        at = 0
        while part := os.pread(self._file, _PART, at):
            at += os.pwrite(self._file, part, at)


def salts_in(path: str) -> Salts | None:
    """Those of a log that nobody here has to have open; None if there is no log, or nothing in it."""
    try:
        with open(path, "rb") as file:
            return _salts(file.read(_HEADER))
    except OSError:
        return None


def _salts(header: bytes) -> Salts | None:
    return struct.unpack_from(">II", header, 16) if len(header) == _HEADER else None


def is_in_use(index: str) -> bool:
    """Whether another process has a log open, by its index. Not while this process has: it would lose its locks."""
    try:
        file = os.open(index, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _IN_USE)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def fits(folder: Path) -> bool:
    """Whether a log may belong to the database beside it: False if that is whole, and with the log it is not.

    Looks at a copy, while nobody has it open.
    """
    private = PrivateFolder()
    try:
        copy = private.open()
        shutil.copy(folder / DATABASE, copy)
        shutil.copy(folder / WRITE_AHEAD_LOG, copy)
        if _is_whole(copy / DATABASE):
            return True
        (copy / WRITE_AHEAD_LOG).unlink(missing_ok=True)
        shutil.copy(folder / DATABASE, copy)
        return not _is_whole(copy / DATABASE)
    except (OSError, StoreError):
        return True  # it cannot be told: there is no space for a copy, for one
    finally:
        private.remove()


def _is_whole(database: Path) -> bool:
    with closing(Connection(database)) as connection:
        try:
            return connection.execute("PRAGMA integrity_check(1)") == [("ok",)]
        except StoreCorruptError:
            return False


def truncate_wal(db: Connection) -> bool:
    """Copy the write-ahead log into the database and empty it; False while a reader still needs it."""
    try:
        return db.execute("PRAGMA wal_checkpoint(TRUNCATE)", patience=0)[0][0] == 0
    except BusyError:
        return False
