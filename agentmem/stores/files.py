"""The files of an open store: whether they are still the ones that lie at its path.

SQLite goes on with the files that it has opened, whatever becomes of their names: in a folder that was deleted, renamed
or replaced by a backup it would commit into nowhere. So their identities are noted when the store is opened and
compared before and after each commit. That is done by ``stat`` alone: closing any descriptor of the database, or of its
shared memory, drops all the locks that this process has on it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from agentmem.stores.connection import Connection, locked_out
from agentmem.stores.folder import (
    DATABASE,
    LANCE,
    OPEN_LOCK,
    REPLACED,
    SHARED_MEMORY,
    WRITE_AHEAD_LOG,
    HeldFolder,
    new_folder,
)
from agentmem.stores.locks import FileLock
from agentmem.stores.log import fits, is_in_use, salts_in
from agentmem.types.errors import StoreError, StoreGoneError, StoreLockedError
from agentmem.types.patience import attempts
from agentmem.types.refusals import refusal

Identity: TypeAlias = tuple[int, int]
"""Device and inode of a file."""
Stamp: TypeAlias = tuple[int, int]
"""Size in bytes and time of the last change, in nanoseconds."""
Note: TypeAlias = dict[str, "tuple[int, int] | None"]
"""Identities by file name; the database's stamp and the log's salts by names of their own."""
_LOG = (WRITE_AHEAD_LOG, SHARED_MEMORY)
_STAMP, _SALTS = "stamp", "salts"
_UPDATING = "updating"
"""Noted while the store is being brought up to date, which is waited for as the write lock is."""
_TOGETHER = (DATABASE, *_LOG)
"""Who has a store open has all of these open; if one of them is replaced, the others no longer belong to it."""
_PATIENCE = 0.5
"""Seconds for which a lock is tried that others hold for a moment only."""
_ALONE = 2.0
"""Seconds for which others may have the store open that is to be brought up to date: those who open it just now."""

_abandoned = set[Identity]()
"""Databases whose connections in this process can never be closed, and so none can be opened."""

log = logging.getLogger("agentmem")


class LogGoneError(StoreGoneError):
    """The database is still there, but its log, or the log's index, is not. What the log holds can be saved."""


class OpenFiles:
    """The files that an engine has open in the folder ``path``. Any thread may ``check``.

    A note in the file of ``in_use``, the lock that is held by everybody who has the store open, says which files those
    are, so that whoever opens the store next can tell a log that was left by a crash from one of another database. It
    also says which file it is in itself: a backup brings a note of its own, about files that lay elsewhere. What can be
    told by that one is whether a log came with it, from the salts with which SQLite begins each log anew.
    """

    def __init__(self, path: Path, in_use: FileLock) -> None:
        self._path = path
        self._in_use = in_use
        self._database = os.path.join(path, DATABASE)
        self._paths = {name: os.path.join(path, name) for name in _LOG}
        self._held: Note = {}
        self._timeout = _PATIENCE
        self.folder: HeldFolder | None = None
        """The folder that they lie in, wherever that is, once it is open."""

    # -- opening -----------------------------------------------------------------------------------------------------

    @contextmanager
    def opening(self, gate: FileLock, timeout: float) -> Generator[bool]:
        """Around whatever opens the store: holds ``gate``, the write lock, and from then on ``in_use``.

        Before that it is seen to that the files fit together: a log that belongs to a database which is no longer there
        is set aside, or SQLite would take it for the log of the one that is. Gives whether the database was replaced
        beside a ``lance`` folder, which follows the old one.

        Whoever closes the store does so under the same lock, ``in_use`` and all: then it is clear here whether a log
        that is no longer there was removed by the last one who closed it, or while others have it open.

        Raises ``StoreGoneError`` if the log of a database that is open elsewhere was removed, ``StoreLockedError`` if
        the store is being salvaged, or the write lock is not to be had within ``timeout`` seconds.
        """
        self._timeout = timeout
        self._share()  # a salvage may take long, and need not be waited for
        self._in_use.release()
        if not gate.acquire(timeout):
            raise locked_out(self._path / DATABASE, timeout)
        with gate:
            yield self._admit()

    def _admit(self) -> bool:
        noted = _parsed(self._in_use.read()) or {}
        replaced = self._fit(noted)
        noted.pop(_UPDATING, None)  # by one that was killed
        self._held = {**noted, **_identities(self._path)}
        self._note()
        return replaced

    def _fit(self, noted: Note) -> bool:
        """See to it that database and log belong together; returns whether LanceDB's table belongs to another one."""
        if _identity(self._database) in _abandoned:
            raise StoreGoneError(
                f"{self._path}: the log of this store was replaced while this program had it open, and it cannot be "
                "opened here any more; end the program and start it again"
            )
        found, salts = _identities(self._path), salts_in(self._paths[WRITE_AHEAD_LOG])
        together = all(noted.get(name) == found[name] for name in _TOGETHER)
        if not noted or (together and (noted.get(_STAMP), noted.get(_SALTS)) == (_stamp(self._database), salts)):
            self._share()
            return False
        alone = any(self._in_use.try_acquire() for _ in attempts(0 if together else _PATIENCE))
        self._share()
        replaced = noted.get(DATABASE) != found[DATABASE]
        if (replaced or alone) and self._is_stale(noted, found, salts):
            folder = _set_aside(self._path, [name for name in _LOG if found[name] is not None])
            replaced = True
            log.warning(
                "%s is not the file that the log beside it was written for: a backup was restored, it was deleted, or "
                "whoever wrote was killed before anything in that log was acknowledged; the log was moved to %s",
                self._database, folder,
            )  # fmt: skip
        elif not together and not replaced and not alone:
            raise StoreGoneError(
                f"{self._path}: {WRITE_AHEAD_LOG} or {SHARED_MEMORY} was removed or replaced while another client or "
                "process has the store open; close it there, which saves what the log held, and open this one again"
            )
        return replaced and found[LANCE] is not None and noted.get(LANCE) in (None, found[LANCE])

    def _is_stale(self, noted: Note, found: Note, salts: Identity | None) -> bool:
        """Whether the log belongs to another database than the one that is there."""
        if noted.get(DATABASE) != found[DATABASE]:
            if noted.get(OPEN_LOCK) == found[OPEN_LOCK]:
                # That of the database before, or of one that was replaced while it was being opened.
                return any(found[name] is not None and noted.get(name) in (None, found[name]) for name in _LOG)
            if salts is None:
                # Nothing is lost with it, and others may have it open.
                return any(found[name] is not None for name in _LOG)
        if salts is None:
            return False
        if noted.get(_SALTS) not in (None, salts):
            # The note came with a backup that was put over the files. Or a program that knows no notes is at work.
            return noted.get(DATABASE) != found[DATABASE] or not is_in_use(self._paths[SHARED_MEMORY])
        # What has been deleted leaves its number to what is made next, so that another file may seem to be the same.
        return noted.get(_STAMP) not in (None, _stamp(self._database)) and not fits(self._path)

    def connect(self, *, shared: bool = False) -> Connection:
        """A connection to the database that was admitted. Raises ``StoreGoneError`` if another one lies there now."""
        return Connection(Path(self._database), self.check_database, shared=shared)

    def hold(self) -> None:
        """After SQLite has opened the database and its log, and before anything is written: these are the files."""
        try:
            self.folder = HeldFolder(self._path)
        except OSError as exc:
            raise StoreError(f"{self._path} cannot be opened: {refusal(exc)}") from exc
        found = _identities(self._path)
        held = _identity(self.folder.path / DATABASE)
        moved = not found[DATABASE] == held == self._held[DATABASE] or not self._in_use.is_at_path()
        if moved or any(found[name] is None for name in _TOGETHER):
            raise StoreGoneError(f"{self._path} was moved or replaced while it was being opened; open it again")
        self._held |= found
        self._note()

    def note_written(self, stamp: Stamp, salts: Identity | None) -> None:
        """Note how the database and its log are after a commit, before that is acknowledged; seldom something new.

        A log with other salts than the note says is not used, so that those have to be on the disk, too.
        """
        if (self._held.get(_STAMP), self._held.get(_SALTS)) != (stamp, salts):
            anew = self._held.get(_SALTS) != salts
            self._held |= {_STAMP: stamp, _SALTS: salts}
            self._note(durable=anew)

    def was_noted(self, stamp: Stamp) -> bool:
        """Whether another process noted the database as it is now."""
        noted = _parsed(self._in_use.read())
        if noted is None or noted.get(_STAMP) != stamp:
            return False
        self._held |= {name: noted.get(name) for name in (_STAMP, _SALTS)}
        return True

    def note_lance(self) -> None:
        """Note the ``lance`` folder, under the write lock."""
        self._held |= {name: (_parsed(self._in_use.read()) or {}).get(name) for name in (_STAMP, _SALTS)}
        self._held[LANCE] = _identity(self._path / LANCE)
        self._note()

    def _note(self, *, durable: bool = False) -> None:
        self._in_use.write(json.dumps(self._held).encode(), durable=durable)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Around what may only be done while nobody else has the store open, under the write lock.

        Raises ``StoreLockedError``. Whoever opens the store meanwhile waits for this.
        """
        if not any(self._in_use.try_acquire() for _ in attempts(_ALONE)):
            raise StoreLockedError(
                f"{self._path} is of an older version and has to be brought up to date, which cannot be done while "
                "another process has it open; close it there, then open it again"
            )
        self._held[_UPDATING] = None
        self._note()
        try:
            yield
        finally:
            del self._held[_UPDATING]
            self._note()
            self._share()

    def _share(self) -> None:
        if any(self._in_use.try_acquire(shared=True) for _ in attempts(_PATIENCE)):
            return
        if f'"{_UPDATING}"'.encode() in self._in_use.read():
            if any(self._in_use.try_acquire(shared=True) for _ in attempts(self._timeout)):
                return
            raise StoreLockedError(f"{self._path} is being brought up to date; open it again when that has ended")
        raise StoreLockedError(f"{self._path} is being salvaged or restored; open it again when that has ended")

    # -- while it is open --------------------------------------------------------------------------------------------

    def check(self) -> Stamp:
        """Raise ``StoreGoneError`` if other files lie at the path, or none; else the database's stamp."""
        stamp = self.check_for_commit()
        self._check(SHARED_MEMORY)
        return stamp

    def check_for_commit(self, *, done: bool = False) -> Stamp:
        """The same, quicker, before and after (``done``) a commit: without the log's index nothing is lost."""
        stamp = self.check_database(committed=done)
        self._check(WRITE_AHEAD_LOG, committed=done)
        return stamp

    def check_database(self, *, committed: bool = False) -> Stamp:
        """The same for the database alone."""
        return check_database(self._database, self._held[DATABASE], committed=committed)

    def _check(self, name: str, *, committed: bool = False) -> None:
        found = _identity(self._paths[name])
        if found != self._held[name]:
            how = "was removed" if found is None else "was replaced by another file"
            what = f"{name} {how} while the store was open"
            raise LogGoneError(_gone(self._path, what, "What was just written is in the log" if committed else ""))

    def log_is_free(self) -> bool:
        """Whether nobody has put other files in the place of the log and its index."""
        return all(_identity(self._paths[name]) in (None, self._held[name]) for name in _LOG)

    def leave(self) -> None:
        """Hold the folder no longer. Whoever is still at work in it does."""
        self.folder = None

    def let_go(self, *, closed: bool) -> None:
        """Nothing is done with the files any more. Unless the connections to them are ``closed``, nobody may open the
        database in this process again: SQLite would go on with the log that is lost."""
        if not closed and (database := self._held[DATABASE]) is not None:
            _abandoned.add(database)
        self._in_use.close()

    def check_at(self, database: str) -> None:
        """Raise ``StoreGoneError`` if this database is not, or no longer, the one at a path that leads here."""
        check_database(database, self._held[DATABASE])

    def keep_in_use(self) -> None:
        """Hold ``in_use`` again if its file was deleted, so that a salvage elsewhere knows of this engine."""
        if self._in_use.try_acquire(shared=True) and not self._in_use.read():
            # How the log is now is noted with the next commit, under the write lock.
            self._held |= {OPEN_LOCK: _identity(self._path / OPEN_LOCK), _STAMP: None, _SALTS: None}
            self._note()

    def lance_is_new(self) -> bool:
        """Whether the ``lance`` folder is another one than was noted."""
        return _identity(self._path / LANCE) != self._held[LANCE]


def check_database(path: str, held: Identity | None, *, committed: bool = False) -> Stamp:
    """Raise ``StoreGoneError`` if the database at a path is not the one that is ``held`` open; else its stamp.

    ``committed``: something has just been committed that is not acknowledged yet.
    """
    tail = "What was just written is in the old store, if that was kept" if committed else ""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        what = f"{DATABASE} is gone: the store was deleted or moved away while it was open"
        raise StoreGoneError(_gone(Path(path).parent, what, tail)) from None
    except OSError as exc:
        what = f"{DATABASE} can no longer be looked at ({exc.strerror})"
        raise StoreGoneError(_gone(Path(path).parent, what, tail)) from exc
    if (found.st_dev, found.st_ino) != held:
        what = f"{DATABASE} is not the file that was opened: another store, or a backup, took its place"
        raise StoreGoneError(_gone(Path(path).parent, what, tail))
    return found.st_size, found.st_mtime_ns


def _gone(path: Path, what: str, tail: str = "") -> str:
    return f"{path}: {what}. This client can do nothing more; close it and open a new one" + (tail and f". {tail}")


def _set_aside(path: Path, names: list[str]) -> Path:
    try:
        folder = new_folder(path, REPLACED)
        for name in names:
            os.rename(path / name, folder / name)
    except (OSError, StoreError) as exc:
        if isinstance(exc.__cause__ or exc, FileNotFoundError):
            raise StoreGoneError(f"{path} was moved or replaced while it was being opened; open it again") from exc
        raise StoreError(f"what was replaced in {path} cannot be moved aside: {exc}") from exc
    return folder


def _identity(path: str | Path) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(path: Path) -> Note:
    return {name: _identity(path / name) for name in (*_TOGETHER, LANCE, OPEN_LOCK)}


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _parsed(note: bytes) -> Note | None:
    """A note as it was written; None if there is none that can be read."""
    try:
        found = json.loads(note)
        return {str(name): None if at is None else (int(at[0]), int(at[1])) for name, at in found.items()}
    except (ValueError, TypeError, AttributeError, IndexError):
        return None
