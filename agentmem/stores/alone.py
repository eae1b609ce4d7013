"""A store to oneself, closed: for whoever puts another database in the place of the one that is there. And copies of a
database that are made beside it, and not to be kept."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from agentmem.stores.connection import locked_out
from agentmem.stores.folder import DATABASE, OPEN_LOCK, PROOF, PROOF_LOCK, RESTORING, SALVAGE, WRITE_LOCK, is_store
from agentmem.stores.locks import FileLock
from agentmem.types.errors import StoreError, StoreLockedError


@contextmanager
def alone_with(path: Path, timeout: float, what: str) -> Generator[None]:
    """Nobody has the store open, and nobody opens it. ``what`` is to be done, for the error.

    Raises ``StoreLockedError``.
    """
    with closing(FileLock(path / OPEN_LOCK)) as alone, closing(FileLock(path / WRITE_LOCK)) as gate:
        if not alone.try_acquire():
            raise StoreLockedError(f"{path} is open in another client or process; close it there, then {what}")
        # Also against those whose lock on the store was lost with the file: what they commit now would be left behind.
        if not gate.acquire(timeout):
            raise locked_out(path / DATABASE, timeout)
        yield


@contextmanager
def making_in(path: Path) -> Generator[None]:
    """Nobody else makes a store in this folder, which has none, and who opens one there is told to wait.

    Raises ``StoreLockedError``. Where no store comes of it, the lock's file goes, too.
    """
    with closing(FileLock(path / OPEN_LOCK)) as alone:
        if not alone.try_acquire():
            raise StoreLockedError(f"a store is being made in {path} already; wait for that to end")
        try:
            yield
        finally:
            if not is_store(path):
                (path / OPEN_LOCK).unlink(missing_ok=True)


def remove_copies(path: Path) -> bool:
    """Remove what proofs, restores and salvages that were killed have left in a store; False if some of it cannot be.

    For those who have the store open, so that none is under way in its place but a proof, which stays.
    """
    try:
        for name in (RESTORING, SALVAGE):
            for left in path.glob(f"{name}*"):
                left.unlink(missing_ok=True)
        if (path / PROOF).exists():
            with closing(FileLock(path / PROOF_LOCK)) as lock:
                if lock.try_acquire():
                    shutil.rmtree(path / PROOF)
    except (OSError, StoreError):
        return False
    return True
