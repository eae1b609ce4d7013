"""Objects in a folder of a local or mounted disk: durable when a call returns, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from agentmem.archive.objects import Content, ObjectInfo, Objects, check_folder, check_key, check_range, is_key
from agentmem.types.errors import (
    AgentMemError,
    ArchiveAccessError,
    ArchiveCorruptError,
    ArchiveError,
    ArchiveUnavailableError,
    DiskFullError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from agentmem.types.mounts import network_filesystem
from agentmem.types.refusals import RIGHTS, refusal

# No key begins with a point.
_TEMPORARY = ".new-"
# Of a file that its writer has locked, from before it has a byte until the writer is done with it, or dead.
_HELD = f"{_TEMPORARY}held-"
_LOCK = ".swap.lock"
_ABANDONED_S = 86_400

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = RIGHTS | {errno.EROFS}
# A disk or a mounted server that does not answer; it may again.
_AWAY = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
# A key below which there are others is a folder, and no object.
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})


class FolderObjects(Objects):
    """A folder, made by the first write. Each object is a file, written aside, synced, and put in place in one step.

    Create-only is a hard link, which fails where a name is taken; on file systems without links, and for swaps,
    writers take turns by a lock file. What a killed writer left aside is never listed, and goes with the next
    ``sweep``; on file systems where locks cannot be trusted, a day later.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(os.path.abspath(path))
        self._swept = False
        self._trusts_locks: bool | None = None

    @property
    @override
    def url(self) -> str:
        return str(self._root)

    @override
    def create(self, key: str, data: bytes) -> str:
        return _stamp(self._place(key, [data]))

    @override
    def upload(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        return _info(key, self._place(key, chunks))

    @override
    def swap(self, key: str, data: bytes, stamp: str) -> str:
        path = self._path(key)
        with self._errors("replace", key), self._aside(path, [data]) as new, self._turn():
            try:
                found = _stat(path)
            except FileNotFoundError:
                raise ObjectChangedError(f"{self.url}/{key} is gone; somebody else removed it") from None
            if _stamp(found) != stamp:
                raise ObjectChangedError(f"{self.url}/{key} was replaced by somebody else meanwhile; read it again")
            os.replace(new, path)
            _sync_folder(path.parent)
            return _stamp(_stat(path))

    @override
    def get(self, key: str) -> Content:
        with self._errors("read", key, missing=True), open(self._path(key), "rb") as file:
            found = os.fstat(file.fileno())
            data = file.read()
        if len(data) != found.st_size:
            raise ArchiveCorruptError(f"{self.url}/{key} has {found.st_size} bytes, of which {len(data)} could be read")
        return Content(data, _stamp(found))

    @override
    def read(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        with self._errors("read", key, missing=True), open(self._path(key), "rb") as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise ArchiveCorruptError(f"{self.url}/{key} ends before byte {start + length:,}; it was cut short")
        return data

    @override
    def head(self, key: str) -> ObjectInfo:
        with self._errors("look at", key, missing=True):
            return _info(key, _stat(self._path(key)))

    @override
    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        top = self._root / check_folder(folder)
        with self._errors("list", folder):
            for parent, folders, names in os.walk(top, onerror=_unless_missing):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(parent, name)
                    key = path.relative_to(self._root).as_posix()
                    if is_key(key):
                        with suppress(FileNotFoundError):  # deleted since
                            yield _info(key, _stat(path))

    @override
    def delete(self, key: str) -> None:
        path = self._path(key)
        # A swap that has looked at the object already would bring it back.
        with self._errors("delete", key):
            if path.is_file():
                with self._turn(), suppress(FileNotFoundError):
                    path.unlink()
                    _sync_folder(path.parent)

    @override
    def sweep(self, folder: str = "") -> None:
        top = self._root / check_folder(folder)
        with self._errors("remove what is left in", folder):
            for parent, _, names in os.walk(top, onerror=_unless_missing):
                for name in names:
                    path = Path(parent, name)
                    if name.startswith(_TEMPORARY) and _is_abandoned(path):
                        path.unlink(missing_ok=True)
                        _sync_folder(path.parent)

    @override
    def keeps_versions(self) -> bool:
        return False

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _place(self, key: str, chunks: Iterable[bytes]) -> os.stat_result:
        path = self._path(key)
        with self._errors("write", key):
            if path.exists():  # spares writing it
                raise self._taken(key)
            with self._aside(path, chunks) as new:
                try:
                    os.link(new, path)
                except FileExistsError:
                    raise self._taken(key) from None
                except OSError as exc:
                    if exc.errno not in _NO_LINKS:
                        raise
                    with self._turn():
                        if path.exists():
                            raise self._taken(key) from None
                        os.rename(new, path)
                _sync_folder(path.parent)
                return _stat(path)

    def _taken(self, key: str) -> ObjectExistsError:
        return ObjectExistsError(f"{self.url}/{key} exists already, and is not written twice")

    @contextmanager
    def _aside(self, path: Path, chunks: Iterable[bytes]) -> Generator[Path]:
        """A synced file with this content beside ``path``; gone at the end, unless it was moved."""
        _make_folder(path.parent)
        self._sweep_once()
        new = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            with open(new, "xb", opener=_for_its_owner) as file:
                new = self._held(file.fileno(), new)
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                # Kernels give files the time of the last tick, which two swaps may share.
                now = time.time_ns()
                os.utime(file.fileno(), ns=(now, now))
                _sync(file.fileno())
                yield new
        finally:
            with suppress(FileNotFoundError):
                new.unlink()

    def _held(self, file: int, path: Path) -> Path:
        """Lock a file that is still empty, and give it a name that says so; as it was where locks cannot be trusted."""
        if self._trusts_locks is None:
            self._trusts_locks = network_filesystem(self._root) is None
        if self._trusts_locks:
            held = path.with_name(path.name.replace(_TEMPORARY, _HELD))
            with suppress(OSError):  # not every file system has them
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(path, held)
                return held
        return path

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Alone among the writers, of all processes, that take turns; a lock of each call's own file, for threads."""
        lock = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _sweep_once(self) -> None:
        if not self._swept:
            self._swept = True
            with suppress(AgentMemError):  # nobody has asked for it
                self.sweep()

    @contextmanager
    def _errors(self, doing: str, key: str, *, missing: bool = False) -> Generator[None]:
        """The system's errors as ours; ``missing``: what is not there is an ``ObjectNotFoundError``."""
        try:
            yield
        except OSError as exc:
            if missing and exc.errno in _MISSING:
                raise ObjectNotFoundError(
                    f"there is no {key} in {self.url}; was it deleted, or is the disk not mounted?"
                ) from exc
            raise _mapped(exc, f"cannot {doing} {self.url}/{key}") from exc


def _is_abandoned(path: Path) -> bool:
    """Whether the writer of a file aside is dead: nobody holds its lock, or nothing was written for a day."""
    with suppress(OSError):
        if abs(time.time() - path.stat().st_mtime) > _ABANDONED_S:  # a clock may have been ahead
            return True
        if path.name.startswith(_HELD):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who sweep at once both see it
                return True
            finally:
                os.close(file)
    return False


def _mapped(exc: OSError, what: str) -> AgentMemError:
    text = f"{what}: {refusal(exc)}"
    if exc.errno in _FULL:
        return DiskFullError(f"{text}; nothing of it was kept, free some space and try again")
    if exc.errno in _REFUSED:
        return ArchiveAccessError(text)
    if exc.errno in _AWAY:
        return ArchiveUnavailableError(f"{text}; check the disk, or the server that it is mounted from")
    return ArchiveError(text)


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_ino:x}.{found.st_mtime_ns:x}.{found.st_size:x}"


def _stat(path: Path) -> os.stat_result:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return found


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, found.st_mtime_ns // 1_000)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _unless_missing(exc: OSError) -> None:
    if exc.errno not in _MISSING:
        raise exc


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, so that a power cut does not take away what is put inside."""
    if not path.is_dir():
        _make_folder(path.parent)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(file: int) -> None:
    # On macOS fsync leaves it to the disk when to write.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(file, full)
            return
        except OSError:
            pass  # not every file system has it
    os.fsync(file)
