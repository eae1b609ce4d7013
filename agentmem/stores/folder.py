"""A store's folder: what lies in it, and whether there is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from agentmem.stores.locks import refuse_network_filesystem
from agentmem.types.clock import now_micros, to_datetime
from agentmem.types.errors import ReadOnlyError, StoreCorruptError, StoreError
from agentmem.types.refusals import refusal

DATABASE = "agentmem.db"
WRITE_AHEAD_LOG = f"{DATABASE}-wal"
SHARED_MEMORY = f"{DATABASE}-shm"
"""The index of the write-ahead log, which all processes share."""
LANCE = "lance"
ARENAS = "arenas"
"""What is kept of large scopes for the next start: derived, and removed by anybody at any time."""
DAMAGED, REPLACED = "damaged", "replaced"
"""How folders begin in which files of the store were set aside."""
VALUES = "values"
"""Chunks of values that are too large for the database."""
WRITE_LOCK = "write.lock"
"""Held by the process that writes to the database."""
OPEN_LOCK = "open.lock"
"""Held, shared, by everybody who has the store open."""
FOLLOWER_LOCK = "follower.lock"
"""Held by the process that brings LanceDB up to date."""
SWEEP_LOCK = "sweep.lock"
"""Held by the process whose background sweep is running."""
REEMBED_LOCK = "reembed.lock"
"""Held by the process that moves the store to another model."""

BACKUP_LOCK = "backup.lock"
"""Held by the process that backs the store up."""
ARCHIVE_LOCK = "archive.lock"
"""Held by the process that moves records to archives, or changes those."""
PROOF_LOCK = "proof.lock"
"""Held by the process that proves that a backup can be restored."""
RESTORING = f"{DATABASE}.restoring"
"""A database that is to be a store's, and is not all there yet."""
SALVAGE = f"{DATABASE}.salvage"
"""The same, of what could be read of a damaged one."""
PROOF = "proof"
"""The store that is made for that, and removed."""


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a store, or what is left of one: the memories, or vectors without them.

    Opens nothing and makes nothing. Raises ``OSError`` where the folder may not be looked into.
    """
    return (Path(path) / DATABASE).exists() or (Path(path) / LANCE).exists()


def is_writable(path: str | os.PathLike[str]) -> bool:
    """Whether the store in a folder may be written by this process. Opens nothing and makes nothing."""
    return os.access(Path(path) / DATABASE, os.W_OK) and os.access(path, os.W_OK)


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def find_store(path: Path) -> None:
    """Say why what lies at a path cannot be read as a store. Makes nothing."""
    try:
        _check_folder(path)
        if not is_store(path):
            raise StoreError(f"there is no store at {path}, and read_only=True makes none")
        _check_vectors(path)
        if not os.access(path / DATABASE, os.R_OK):
            raise PermissionError(f"no permission to read {path / DATABASE}")
    except OSError as exc:
        raise StoreError(f"{path} cannot be read as a store: {refusal(exc)}") from exc


def prepare_folder(path: Path) -> None:
    """Make the store's folder, for its owner alone, or say why it cannot be one."""
    try:
        if path.exists() and not path.is_dir():
            if path.name == DATABASE:
                raise StoreError(f"{path} is a file of a store; name its folder, {path.parent}")
            raise StoreError(f"{path} is a file; a store needs a folder, name another path")
        for folder in (path, *path.parents):
            if folder.name == LANCE and os.path.exists(folder.parent / DATABASE):
                raise StoreError(
                    f"{path} lies inside of the store {folder.parent}, which tidies up there; name another"
                )
        refuse_network_filesystem(path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = path / DATABASE
        if not database.exists():
            if (path / LANCE).exists():
                raise StoreCorruptError(
                    f"{path} holds vectors but no {DATABASE}, where the memories are; restore it from a backup, "
                    f"or remove {path / LANCE} to start empty"
                )
            os.close(os.open(database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        elif not is_writable(path):
            why = "is on a read-only file system" if _is_read_only(path) else "may not be written by this user"
            raise ReadOnlyError(
                f"{path} cannot be used as a store: it {why}; choose a folder you own, or, to read and search only, "
                "Memory(path, read_only=True)"
            )
    except OSError as exc:
        raise StoreError(f"{path} cannot be used as a store: {refusal(exc, 'choose a folder you own')}") from exc


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        if path.name == DATABASE:
            raise StoreError(f"{path} is a file of a store; name its folder, {path.parent}")
        raise StoreError(f"{path} is a file; a store needs a folder, name another path")
    for folder in (path, *path.parents):
        if folder.name == LANCE and os.path.exists(folder.parent / DATABASE):
            raise StoreError(f"{path} lies inside of the store {folder.parent}, which tidies up there; name another")
    refuse_network_filesystem(path)


def _check_vectors(path: Path) -> None:
    if (path / LANCE).exists() and not (path / DATABASE).exists():
        raise StoreCorruptError(
            f"{path} holds vectors but no {DATABASE}, where the memories are; restore it from a backup, "
            f"or remove {path / LANCE} to start empty"
        )


class HeldFolder:
    """A folder that is held open, so that ``path`` leads to it wherever it is moved, and never to what takes its place.

    Where the system has no such paths, ``path`` is the one that it was opened by. Closed when nobody refers to this any
    more, and not before: from then on the path may lead elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held = Path(f"/proc/self/fd/{self._number}")
        self.path = held if held.is_dir() else path

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)


Folder: TypeAlias = "Path | HeldFolder"
"""A store's folder. Whoever goes on using paths in it refers to this, too, which keeps a held one open."""


def path_of(folder: Folder) -> Path:
    """Where it is."""
    return folder.path if isinstance(folder, HeldFolder) else folder


def is_set_aside(path: Path) -> bool:
    """Whether a store's folder has files that were replaced: by a salvage, or with a log that did not fit.

    It may, where nobody can look.
    """
    try:
        return any(True for what in (DAMAGED, REPLACED) for _ in path.glob(f"{what}-*"))
    except OSError:
        return True


def new_folder(path: Path, what: str) -> Path:
    """A new folder in the store, for its owner alone, named after what it holds and the time."""
    folder = path / f"{what}-{to_datetime(now_micros()):%Y%m%dT%H%M%S.%f}"
    try:
        folder.mkdir(mode=0o700)
    except OSError as exc:
        raise StoreError(f"{folder} cannot be made: {refusal(exc)}") from exc
    return folder


def sync(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
