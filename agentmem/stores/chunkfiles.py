"""Chunks of values that lie in files, in the folder ``values`` of a store.

Whoever puts a value writes its chunks into a folder of his own, below ``values/new``, which he holds locked until his
rows are committed, and then moves to where it stays. Every file is on the disk before a row names it. What a killed
process has left in ``new`` is nobody's where no row names it, and is removed; a folder that rows name is moved on. So
no file is ever taken away that somebody is just about to refer to: what is in a locked folder is left alone, what is in
any other was decided.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from agentmem.stores.folder import VALUES, Folder, path_of, sync
from agentmem.types.errors import DiskFullError, StoreCorruptError, StoreError
from agentmem.types.refusals import RIGHTS, TOO_MANY, refusal

T = TypeVar("T")

_NEW = "new"
_ATTEMPTS = 100
_OPEN = 64
"""Files of a put that are written and may be on the disk, or not yet."""
_NOT_NOW = TOO_MANY | RIGHTS | {errno.ENOMEM, errno.EAGAIN, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}
"""Errors that are no damage: the file may be whole, and be read once their cause is gone."""


class ChunkFiles:
    """The files of one store. Thread-safe: it holds nothing open but the store's folder, if that was held."""

    def __init__(self, store: Folder) -> None:
        self._store, self._folder = store, path_of(store) / VALUES

    def read(self, name: str, at: int = 0, count: int | None = None) -> bytes:
        """What a file has, or ``count`` bytes from ``at`` on, less where it ends.

        Raises ``FileNotFoundError``, ``StoreCorruptError`` where the disk cannot read it, and ``StoreError`` where the
        system does not let it be opened now, which says nothing about what it has.
        """
        error: OSError | None = None
        for path in self._paths(name):
            try:
                with open(path, "rb", buffering=0) as file:
                    if count is None:
                        return file.readall()
                    return os.pread(file.fileno(), count, at)
            except FileNotFoundError as exc:
                error = exc
            except OSError as exc:
                raise _unread(path, exc) from exc
        raise FileNotFoundError(errno.ENOENT, "no file of this chunk", name) from error

    def read_into(self, name: str, buffer: memoryview, at: int | None = None) -> bool:
        """The same into a buffer, all of a file or as much from byte ``at`` on; False where the file is not of that
        size, or ends before. Raises ``FileNotFoundError``."""
        try:
            with open(self._path(name), "rb", buffering=0) as file:
                if at is not None:
                    file.seek(at)
                elif os.fstat(file.fileno()).st_size != len(buffer):
                    return False
                view = buffer
                while len(view):
                    count = file.readinto(view)
                    if not count:
                        return False
                    view = view[count:]
        except FileNotFoundError:
            raise
        except OSError:
            return False
        return True

    def stage(self) -> Staging:
        """A new folder for chunks that are about to be referred to."""
        return Staging(self._folder, self._store)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, for good once this returns. Raises ``StoreError``."""
        folders = set[Path]()
        for name in names:
            for path in self._paths(name):
                try:
                    path.unlink()
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    raise StoreError(f"{os.path.realpath(path)} cannot be removed: {refusal(exc)}") from exc
                folders.add(path.parent)
        for folder in folders:
            with suppress(OSError):
                sync(folder)
            if folder.parent.name != _NEW:
                with suppress(OSError):
                    folder.rmdir()

    def remove_empty(self) -> None:
        """Remove the folder itself, where there is nothing in it."""
        for folder in (self._folder / _NEW, self._folder):
            with suppress(OSError):
                folder.rmdir()

    def settle(self, named: Callable[[str], set[str]]) -> int:
        """Look after what killed processes have left; how many files were removed.

        ``named`` gives the files in a folder that rows name.
        """
        count = 0
        for folder in _folders(self._folder / _NEW):
            lock = _locked(folder)
            if lock is None:
                continue
            try:
                kept = named(folder.name)
                if kept:
                    count += _keep(folder, kept)
                    _move(folder, self._folder)
                else:
                    count += sum(1 for _ in os.scandir(folder))
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
        return count

    def sweep(self, named: Callable[[str], set[str]]) -> int:
        """The same for everything, which takes a look at every file."""
        count = self.settle(named)
        for group in _folders(self._folder):
            if group.name == _NEW:
                continue
            for folder in _folders(group):
                count += _keep(folder, named(folder.name))
                with suppress(OSError):
                    folder.rmdir()
            with suppress(OSError):
                group.rmdir()
        return count

    def _paths(self, name: str) -> tuple[Path, Path, Path]:
        """Where a file may be, in the order to look: it may be moved, in that direction alone, between two looks."""
        there = self._path(name)
        return there, self._new(name), there

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _new(self, name: str) -> Path:
        return self._folder / _NEW / name


class Staging:
    """A locked folder with chunks that no row names yet. Thread-safe as far as ``write`` goes."""

    def __init__(self, folder: Path, store: Folder | None = None) -> None:
        self._store, self._folder = store, folder
        self._count = count()
        self._open = deque[tuple[Path, int]]()
        for _ in range(_ATTEMPTS):
            self.name = secrets.token_hex(10)
            self._path = folder / _NEW / self.name
            try:
                self._path.mkdir(mode=0o700, parents=True)
                lock = _locked(self._path)
            except OSError as exc:
                raise _failed(self._path, exc) from exc
            if lock is not None:
                self._lock: int | None = lock
                return
        raise StoreError(f"no folder could be made in {folder / _NEW}; look who removes what is there")

    def write(self, *bodies: bytes | bytearray | memoryview) -> str:
        """Write a chunk, which is on the disk after ``seal``; the name of its file. May be called on several threads.

        Syncing each file as it is written takes twice the time: the disk commits its journal for each, and writes
        nothing meanwhile. So it is told to begin, and asked later, when one commit does for many.
        """
        number = next(self._count)
        path = self._path / str(number)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                for body in bodies:
                    view = memoryview(body)
                    while view:
                        view = view[os.write(file, view) :]
                _begin_to_sync(file)
            except BaseException:
                os.close(file)
                raise
        except OSError as exc:
            raise _failed(path, exc) from exc
        self._open.append((path, file))
        if len(self._open) > _OPEN:
            self._sync(_OPEN // 2)
        return f"{self.name}/{number}"

    def _sync(self, left: int) -> None:
        """Have what was written first be on the disk, until no more files than that are open."""
        while len(self._open) > left:
            try:
                path, file = self._open.popleft()
            except IndexError:  # another thread has it
                return
            try:
                try:
                    os.fsync(file)
                finally:
                    os.close(file)
            except OSError as exc:
                raise _failed(path, exc) from exc

    def link(self, name: str) -> str | None:
        """Have a file that is there here, too, whatever becomes of it; None where that cannot be."""
        own = str(next(self._count))
        for there in (self._folder / name[:2] / name, self._folder / _NEW / name):
            with suppress(OSError):
                os.link(there, self._path / own)
                return f"{self.name}/{own}"
        return None

    def seal(self) -> None:
        """Before a row names any of it: all of it is on the disk, and so are the folders that lead here."""
        self._sync(0)
        try:
            for path in (self._path, self._path.parent, self._folder, self._folder.parent):
                sync(path)
        except OSError as exc:
            raise _failed(self._path, exc) from exc

    def keep(self, used: set[str]) -> None:
        """Rows name the files ``used`` now; the others go."""
        try:
            if used:
                with suppress(OSError):  # what is left over goes with the next look at what is there
                    _keep(self._path, used)
                _move(self._path, self._folder)
            else:
                shutil.rmtree(self._path, ignore_errors=True)
        finally:
            self.leave()

    def leave(self) -> None:
        """Whether rows name any of it, is for others to find out."""
        while self._open:
            os.close(self._open.pop()[1])
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """No row will ever name any of it."""
        if self._lock is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self.leave()


def settle(staging: Staging | None, done: Future[T], used: Callable[[T], set[str]]) -> None:
    """After the transaction whose rows were to name files of a staging: ``used`` says which, of what it returned."""
    if staging is None:
        return
    if done.cancelled() or done.exception() is not None:
        staging.leave()  # an error need not mean that nothing was committed
    else:
        staging.keep(used(done.result()))


def _locked(folder: Path) -> int | None:
    """A descriptor of a folder that holds it locked; None where another has it, or it is gone."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there, held = os.stat(folder), os.fstat(number)
        if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
            return number
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(number)
        raise
    os.close(number)
    return None


def _begin_to_sync(file: int) -> None:
    """Have the system write a file to the disk, without waiting for it."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        with suppress(OSError):
            # "Not needed" has what was written go to the disk, and stay in memory as long as that takes.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _keep(folder: Path, names: set[str]) -> int:
    """Remove all others; how many. The folder may go meanwhile, with the last value that has a file in it."""
    try:
        found = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    count = 0
    for each in found:
        if f"{folder.name}/{each.name}" not in names:
            with suppress(FileNotFoundError):
                os.unlink(each.path)
                count += 1
    return count


def _move(folder: Path, into: Path) -> None:
    """Where a folder stays. Killed before, it is found in ``new``, too."""
    with suppress(OSError):
        (into / folder.name[:2]).mkdir(mode=0o700, exist_ok=True)
        os.rename(folder, into / folder.name[:2] / folder.name)


def _folders(path: Path) -> Iterator[Path]:
    try:
        found = list(os.scandir(path))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (Path(each.path) for each in found if each.is_dir(follow_symlinks=False))


def _unread(path: Path, exc: OSError) -> StoreError:
    what = f"{os.path.realpath(path)} cannot be read"
    if exc.errno not in _NOT_NOW:
        return StoreCorruptError(f"{what}: {exc.strerror or exc}")
    return StoreError(f"{what}: {refusal(exc, 'try again')}")


def _failed(path: Path, exc: OSError) -> StoreError:
    where = os.path.realpath(path)  # the store's folder may be named by its descriptor
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{where}: the disk is full; free some space and try again (nothing of this was kept)")
    return StoreError(f"{where} cannot be written: {refusal(exc, 'look at the disk')} (nothing of this was kept)")
