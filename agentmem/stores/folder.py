"""A store's folder: what lies in it, and whether there is one."""

from __future__ import annotations

import os
from pathlib import Path

from agentmem.stores.locks import refuse_network_filesystem
from agentmem.types.errors import StoreCorruptError, StoreError

DATABASE = "agentmem.db"
LANCE = "lance"
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


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a store, or what is left of one: the memories, or vectors without them.

    Opens nothing and makes nothing. Raises ``OSError`` where the folder may not be looked into.
    """
    return (Path(path) / DATABASE).exists() or (Path(path) / LANCE).exists()


def prepare_folder(path: Path) -> None:
    """Make the store's folder, for its owner alone, or say why it cannot be one."""
    try:
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path} is a file; a store needs a folder, name another path")
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
        elif not os.access(database, os.W_OK) or not os.access(path, os.W_OK):
            raise PermissionError(f"no permission to write {database}")
    except OSError as exc:
        raise StoreError(f"{path} cannot be used as a store: {exc.strerror or exc}; choose a folder you own") from exc
