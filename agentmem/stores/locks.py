"""Locks between processes, and the file systems on which they can be trusted."""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType

from agentmem.types.errors import StoreError
from agentmem.types.patience import attempts

_NETWORK = frozenset(
    "nfs nfs4 cifs smb smb3 smbfs afs ncpfs 9p ceph lustre glusterfs beegfs gpfs fuse.sshfs fuse.glusterfs "
    "fuse.s3fs fuse.gcsfuse fuse.rclone".split()
)


class FileLock:
    """A lock between processes, exclusive or shared, that the operating system releases when its holder dies.

    Not for threads: callers of one process take turns by other means.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        _locks.add(self)

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; ``shared``, if nobody has it for himself."""
        if self._fd is None:
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                raise StoreError(f"cannot lock {self._path}: {exc.strerror}; check the store's folder") from exc
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise StoreError(f"{self._path} cannot be locked: {exc.strerror or exc}") from exc
        return True

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
    """Raise ``StoreError`` where file locks and memory maps do not hold between machines.

    ``mounts`` is the text of ``/proc/mounts``; elsewhere than on Linux nothing is known and nothing refused.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text()
        except OSError:
            return
    best, kind = "", ""
    target = os.path.realpath(path)
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        if (target == point or target.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, parts[2]
    if kind in _NETWORK:
        raise StoreError(
            f"{path} is on a network file system ({kind} at {best}), where locks between processes cannot be trusted; "
            "put the store on a local disk"
        )
