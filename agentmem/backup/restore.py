"""Restoring a backup into a new folder: a store as it was, checked before it is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.backup.filling import Filled, Filling, Wanted
from agentmem.backup.lineage import Entry
from agentmem.backup.moment import Moment, Places
from agentmem.embedding import fingerprint_of, open_embedder, settle
from agentmem.embedding.batcher import embed_documents
from agentmem.stores import chunkupkeep, embeddings, meta
from agentmem.stores.alone import making_in
from agentmem.stores.connection import Connection
from agentmem.stores.folder import DATABASE, RESTORING, is_store, sync
from agentmem.stores.integrity import Window, check_accounts, check_records
from agentmem.stores.names import Names
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored
from agentmem.stores.schema import configure
from agentmem.types.errors import ModelMismatchError, StoreCorruptError, StoreError
from agentmem.types.ports import AnyEmbedder, Embedder
from agentmem.types.problems import Problems

_GROUP = 200
"""Records whose embeddings are made at a time."""


class Restored(NamedTuple):
    """What a store has that was made of a backup: records in whatever state, the last event; how many records were
    embedded anew, how many have lost their data, and how many were left out since they were erased later."""

    records: int
    seq: int
    embedded: int
    without_data: int
    erased: int


def restore(
    objects: Objects,
    entry: Entry,
    into: Path,
    keyring: KeyRing | None = None,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> int:
    """Make the store of a backup in a folder that has none; how many records it has. See ``restore_moment``."""
    return restore_moment(objects, Places(objects).choose(entry.id), into, keyring, progress=progress).records


def restore_moment(
    objects: Objects,
    moment: Moment,
    into: Path,
    keyring: KeyRing | None = None,
    *,
    wanted: Wanted = Wanted(),  # noqa: B008
    embedder: AnyEmbedder = None,
    dry_run: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Restored:
    """Make a store as it was at a moment, in a folder that has none.

    It becomes a store in the last step, after every record, embedding and event was compared with the others. What
    belongs to users whose key was deleted is left out, and so is what was erased since. LanceDB and the keyword index
    are made anew when it is opened, and its backups begin a lineage of their own. Texts that were replaced between two
    backups are embedded again, by ``embedder``, None: by the model that the store names. ``progress`` is called with
    the records so far and their number. With ``dry_run`` all of this is done, and the store not kept.

    Raises ``StoreError`` where there is a store already, ``StoreLockedError`` where one is being made,
    ``StoreCorruptError`` where what comes out is not whole,
    ``ModelMismatchError`` where texts are to be embedded and the model is another one, and what ``ArchiveReader``
    raises; the folder is left without a store then.
    """
    if is_store(into):
        raise _taken(into)
    made = not into.exists()
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with (
            making_in(into),
            made_aside(objects, moment, into, keyring, wanted=wanted, embedder=embedder, progress=progress) as (
                fresh,
                restored,
            ),
        ):
            if not dry_run:
                put_in_place(fresh, into)
    finally:
        if made and not any(into.iterdir()):
            into.rmdir()
    return restored


@contextmanager
def made_aside(
    objects: Objects,
    moment: Moment,
    into: Path,
    keyring: KeyRing | None = None,
    *,
    wanted: Wanted = Wanted(),  # noqa: B008
    embedder: AnyEmbedder = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Generator[tuple[Path, Restored]]:
    """A database as it was at a moment, checked, in a folder, under a name that makes no store of it; removed at the
    end unless it was moved. See ``restore_moment``."""
    name, fresh, filling = moment.chain[-1].id, into / RESTORING, None
    try:
        discard(fresh)
        os.close(os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(Connection(fresh)) as db:
            unsafe(db)
            filling = Filling(objects, keyring, db, into, wanted, progress)
            filled = filling.run(moment)
            _embed(db, filled.unembedded, embedder)
            _note_origin(db, moment.chain[-1], filled)
        with closing(Connection(fresh)) as db:
            configure(db)
            check_whole(db, into, name)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        drop_log(fresh)
        yield fresh, Restored(filled.records, filled.seq, len(filled.unembedded), filled.without_data, filled.erased)
    finally:
        if filling is not None:
            filling.chunks.leave(kept=not fresh.exists())
        discard(fresh)


def put_in_place(fresh: Path, into: Path) -> None:
    """Make a database the store of a folder that has none. Raises ``StoreError`` if one has come there meanwhile."""
    sync(fresh)
    # An empty file is that of somebody who waits for the end of this, to open what is there then.
    with suppress(FileNotFoundError):
        if (into / DATABASE).stat().st_size:
            raise _taken(into)
    os.rename(fresh, into / DATABASE)
    sync(into)


def _taken(into: Path) -> StoreError:
    return StoreError(f"there is a store in {into} already; restore into another folder")


def unsafe(db: Connection) -> None:
    """For a database in the making, which does not have to survive a power cut before it is all there."""
    db.execute("PRAGMA journal_mode=OFF")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA secure_delete=ON")  # what was erased since is read, and removed again


def _note_origin(db: Connection, last: Entry, filled: Filled) -> None:
    db.execute("BEGIN")
    meta.put(db, meta.RESTORED, f"{last.lineage} {filled.last_row}")
    db.execute("COMMIT")


def _embed(db: Connection, rows: Sequence[int], given: AnyEmbedder) -> None:
    """Make the embeddings of records whose text of that time has none in any backup."""
    if not rows:
        return
    embedder, records = _model(db, len(rows), given), Records(db, Names())
    for start in range(0, len(rows), _GROUP):
        found = list(records.find_rows(rows[start : start + _GROUP]))
        several = records.texts((stored.row, stored.vectors, stored.body) for stored in found)
        texts = [_texts_of(stored, several) for stored in found]
        made = iter(embed_documents(embedder, [text for each in texts for text in each]))
        held = [b"".join(next(made) for _ in each) for each in texts]
        db.execute("BEGIN")
        embeddings.insert(
            db, records.embeddings, [(s.row, s.vectors, parts) for s, parts in zip(found, held, strict=True)]
        )
        db.execute("COMMIT")


def _texts_of(stored: Stored, several: dict[int, list[str]]) -> list[str]:
    return several.get(stored.row, []) if stored.has_texts else [stored.content]


def _model(db: Connection, count: int, given: AnyEmbedder) -> Embedder:
    name, dim = meta.get(db, meta.MODEL), int(meta.get(db, meta.DIM))
    embedder = open_embedder((meta.get(db, meta.MODEL_SPEC) or None) if given is None else given, cache_size=0)
    settle(embedder, name, dim)
    if embedder.name != name or (embedder.dim, fingerprint_of(embedder)) != (dim, meta.get(db, meta.MODEL_FINGERPRINT)):
        raise ModelMismatchError(
            f"{count:,} records had texts at that moment that have to be embedded again by the model {name!r} ({dim} "
            f"dimensions), and {embedder.name!r} is another one; give that model as embedder="
        )
    return embedder


def check_whole(db: Connection, into: Path, name: str, windows: Sequence[Window] | None = None) -> None:
    """Raise ``StoreCorruptError`` unless the database is whole in itself; with ``windows``, its pages were looked at
    before, and of records those are looked at which are in one."""
    problems, records = Problems(), Records(db, Names())
    if windows is None:
        problems.extend(unreadable(db))
    counts = {"records": 0, "archived": 0, "embeddings": 0, "history": 0}
    problems.extend(check_records(records, int(meta.get(db, meta.DIM)) * 4, counts, windows))
    problems.extend(check_accounts(records))
    problems.extend(chunkupkeep.loose_ends(db))
    if problems:
        listed = "; ".join(problems.listed())
        raise StoreCorruptError(f"what the backup {name} has is no whole store, so none was made in {into}: {listed}")


def unreadable(db: Connection) -> list[str]:
    """What is wrong with the pages of a database."""
    return [f"libsql: {row[0]}" for row in db.execute("PRAGMA quick_check(20)") if row[0] != "ok"]


def drop_log(fresh: Path) -> None:
    """Remove an emptied log, and its index."""
    for end in ("-wal", "-shm"):
        fresh.with_name(fresh.name + end).unlink(missing_ok=True)


def discard(fresh: Path) -> None:
    """Remove a database in the making."""
    for part in fresh.parent.glob(f"{fresh.name}*"):
        part.unlink()
