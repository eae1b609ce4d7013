"""Restoring in place: the database of a store is replaced in one step, while nobody has the store open.

What was there before is backed up first, and has to be the same still when everybody has closed the store. The new
database is made beside the old one. Then the old one's log is emptied into it and removed with its index, so that no
other database can be taken for what it belongs to, and the new one takes its place. Killed before that, the store is
what it was, and killed after it, what it was to be; what derives from the database is made anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup.moment import Moment
from agentmem.backup.restore import Restored, made_aside
from agentmem.stores import archived, chunks, meta
from agentmem.stores.alone import alone_with
from agentmem.stores.chunkfiles import ChunkFiles
from agentmem.stores.connection import Connection
from agentmem.stores.copying import Source
from agentmem.stores.folder import ARENAS, DATABASE, LANCE, SHARED_MEMORY, WRITE_AHEAD_LOG, sync
from agentmem.stores.log import truncate_wal
from agentmem.types.clock import now_micros
from agentmem.types.errors import ConflictError, ModelMismatchError, StoreLockedError
from agentmem.types.ports import AnyEmbedder


def replace_store(
    path: Path,
    objects: Objects,
    moment: Moment,
    keyring: KeyRing | None = None,
    *,
    seq: int,
    timeout: float,
    embedder: AnyEmbedder = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Restored:
    """Make the store in a folder what it was at a moment. ``seq`` is the last event that it may have now.

    Raises ``ConflictError`` where it has a later one, ``StoreLockedError`` while anybody has it open,
    ``ModelMismatchError`` where it used another model then, and what ``restore_moment`` raises; the store is what it
    was then.
    """
    with alone_with(path, timeout, "restore"):
        check_unchanged(path, seq)
        _check_model(path, objects, moment)
        with made_aside(objects, moment, path, keyring, embedder=embedder, progress=progress) as (fresh, restored):
            _keep_archives(path, fresh)
            _close_the_log(path)
            shutil.rmtree(path / ARENAS, ignore_errors=True)
            _take_its_place(fresh, path)
        shutil.rmtree(path / LANCE, ignore_errors=True)
        _leave_values(path)
    return restored


def _leave_values(path: Path) -> None:
    """Remove the files of values that only the old database knew; killed before that, ``compact`` does it."""
    with closing(Connection(path / DATABASE)) as db:
        ChunkFiles(path).sweep(lambda folder: chunks.files_of(db, folder))


def check_unchanged(path: Path, seq: int) -> None:
    """Raise ``ConflictError`` if anything has happened in a store after an event."""
    with closing(Connection(path / DATABASE)) as old:
        last = Source(old).last_seq()
    if last != seq:
        raise ConflictError(
            f"{path} was changed while it was to be restored: event {last:,} came after {seq:,}; end what writes to "
            "it, then restore"
        )


def _check_model(path: Path, objects: Objects, moment: Moment) -> None:
    with closing(Connection(path / DATABASE)) as old:
        now = Source(old).model()
    then = ArchiveReader(objects, moment.chain[-1].archive).manifest.model
    told = (meta.MODEL, meta.DIM, meta.MODEL_FINGERPRINT)
    if [str(now[key]) for key in told] != [str(then.get(key)) for key in told]:
        raise ModelMismatchError(
            f"{path} holds embeddings of {now[meta.MODEL]!r}, and at that moment it held those of "
            f"{then.get(meta.MODEL)!r}; restore into another folder, and move that over with reembed()"
        )


def _keep_archives(path: Path, fresh: Path) -> None:
    """What is known of the archives that the store has written is in no backup."""
    with closing(Connection(path / DATABASE)) as old, closing(Connection(fresh)) as new:
        archived.take_over(old, new, now_micros())
        truncate_wal(new)
    for end in ("-wal", "-shm"):
        fresh.with_name(fresh.name + end).unlink(missing_ok=True)


def _close_the_log(path: Path) -> None:
    """Bring what the log holds into the old database, and remove it."""
    with closing(Connection(path / DATABASE)) as old:
        if not truncate_wal(old):
            raise StoreLockedError(f"the log of {path} is still being read; close the store there, then restore")
    for name in (WRITE_AHEAD_LOG, SHARED_MEMORY):
        (path / name).unlink(missing_ok=True)
    sync(path / DATABASE)
    sync(path)


def _take_its_place(fresh: Path, path: Path) -> None:
    sync(fresh)
    os.replace(fresh, path / DATABASE)
    sync(path)
