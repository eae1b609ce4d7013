"""Locks between processes, and where a store may lie, so that they can be trusted."""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from agentmem.types.errors import StoreError
from agentmem.types.mounts import network_filesystem
from agentmem.types.patience import attempts
from agentmem.types.refusals import refusal

_NOTE = 1_024


class FileLock:
    """A lock between processes, exclusive or shared, that the operating system releases when its holder dies.

    Not for threads: callers of one process take turns by other means. A lock file that was deleted or replaced is no
    lock any more, since others lock the new one; each time that it is taken, that is looked at.
    """

    def __init__(self, path: Path) -> None:
        self.replaced: Callable[[], object] = lambda: None
        """Called when the file that was locked before is not the one at the path, before that is opened; may raise."""
        self._path = str(path)
        self._fd: int | None = None
        self._at = (0, 0)
        _locks.add(self)

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; ``shared``, if nobody has it for himself."""
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    return False
                raise StoreError(f"{self._path} cannot be locked: {refusal(exc)}") from exc
            if self.is_at_path():
                return True
            self.close()
            self.replaced()

    def is_at_path(self) -> bool:
        """Whether the file that was locked is still the one at the path."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return self._fd is not None and (found.st_dev, found.st_ino) == self._at

    def _open(self) -> int:
        if self._fd is None:
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                why = refusal(exc, "check the store's folder")
                raise StoreError(f"cannot lock {self._path}: {why}") from exc
            opened = os.fstat(self._fd)
            self._at = (opened.st_dev, opened.st_ino)
        return self._fd

    def read(self) -> bytes:
        """What was written into the lock's file, by whoever held it."""
        return os.pread(self._open(), _NOTE, 0)

    def write(self, note: bytes, *, durable: bool = False) -> None:
        """Leave a note in the lock's file, up to 1,024 bytes, in one step; none where the disk does not take it.

        ``durable``: wait until it is on the disk.
        """
        file = self._open()
        try:
            os.pwrite(file, note.ljust(_NOTE), 0)
            if durable:
                os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, 0)

    def acquire(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the lock; the pauses grow from 0.1 to 5 ms."""
        return any(self.try_acquire() for _ in attempts(timeout, first=0.0001, longest=0.005))

    def release(self) -> None:
        """Let the next process in."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which releases the lock too."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_locks = weakref.WeakSet[FileLock]()


def _let_go() -> None:
    """A forked child shares its parent's locks, and would keep them after the parent's death."""
    for lock in list(_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def refuse_network_filesystem(path: Path, mounts: str | None = None) -> None:
    """Raise ``StoreError`` where file locks and memory maps do not hold between machines (``network_filesystem``)."""
    found = network_filesystem(path, mounts)
    if found is not None:
        kind, best = found
        raise StoreError(
            f"{path} is on a network file system ({kind} at {best}), where locks between processes cannot be trusted; "
            "put the store on a local disk"
        )
