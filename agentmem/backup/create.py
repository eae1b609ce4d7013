"""A backup of a store that is in use: its rows as they are at one event, and nothing held up meanwhile.

A full one has all of them. An incremental one has the events since the backup before, and of the records that they are
of what may have changed; what is left then, and who was removed altogether, is in tables of its own (``tables.py``).

Tables are read a few rows at a time, without a transaction, which would keep the log from being emptied, and with it
an erase from being complete. What happened to records while that went on is in the feed; those are read again, in
rounds that get shorter, the last one in a transaction. What was read in a later round takes the place of what was read
before, so the backup is the state at the event that this transaction saw.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.writing import ArchiveWriter
from agentmem.backup import forgetting, holding, lineage, pruning
from agentmem.backup.copy import Copy, tables_of
from agentmem.backup.lineage import Entry, Head, archive_name
from agentmem.backup.moment import Places
from agentmem.backup.pruning import Retention
from agentmem.engine.engine import Engine
from agentmem.stores import meta
from agentmem.stores.copying import Source
from agentmem.stores.folder import BACKUP_LOCK
from agentmem.stores.locks import FileLock
from agentmem.stores.writes import Repository
from agentmem.types.errors import (
    ArchiveCorruptError,
    InvalidInputError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreLockedError,
)
from agentmem.types.patience import Pace

_REST = 0.5


def create(
    engine: Engine,
    objects: Objects,
    keyring: KeyRing | None = None,
    *,
    kind: str = "full",
    description: str | None = None,
    new_lineage: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Entry:
    """Back up the store as it is now; the entry of the new backup.

    ``kind`` is ``"incremental"`` for what has happened since the backup before, where there is one that can be gone on
    from; else the backup is full, and called so. A ``"snapshot"`` is full. ``new_lineage`` goes on without the backups
    that are there, for a store that does not know the newest of them. ``progress`` is called with the records read so
    far and their number. Raises ``ConflictError`` where the store is
    not the newest of its lineage, ``StoreError`` where it moves to another model meanwhile, ``ReadOnlyError``, and what
    ``Objects`` and ``KeyRing`` raise. On an error no backup was added, and what was written of it is removed.
    """
    engine.check_process()
    engine.check_writable()
    with _alone(engine):
        if keyring is not None:
            forgetting.complete(engine, keyring)
        before = _head(engine, objects, new_lineage=new_lineage)
        last = _entry_of(objects, before)
        token, number = secrets.token_hex(8), before.number + 1
        name = archive_name(before.lineage, number, token)
        with closing(engine.repository.db.another()) as connection:
            source = Source(connection)
            if last is not None and source.last_seq() < last.seq:
                raise lineage.overtaken(objects, last.lineage, last.number)
            goes_on = kind == "incremental" and not before.whole_next and last is not None and _can_go_on(source, last)
            kind = "full" if kind == "incremental" and not goes_on else kind
            writer = ArchiveWriter(objects, name, tables_of(source), keyring=keyring, model=source.model())
            with writer:
                copy = Copy(
                    source, writer, last, Pace(lambda: engine.commits.requests, _REST), progress, path=engine.held,
                    whole=not goes_on,
                )  # fmt: skip
                copy.run()
                at = engine.now()
                about = {"kind": kind, "lineage": before.lineage, "number": number, "previous": before.sha256}
                about |= {"seq": copy.seq, "after": copy.after, "at": at, "description": description}
                written = writer.finish(about | {"migrations": source.migrations()})
            entry = Entry(
                before.lineage, number, before.sha256, name, written.sha256, kind, copy.seq, at,
                copy.records, written.size, description, token, copy.after, copy.first_at, copy.purged,
                source.generation, len(source.migrations()), at if last is None or last.began is None else last.began,
                *source.restored_from(), keyring is not None, copy.chunk,
            )  # fmt: skip
        # Killed between the two, the store knows its entry by the token.
        _note(engine, objects, replace(before, token=token))
        sha256 = lineage.add(objects, entry)
        _note(engine, objects, _after(entry, sha256, before))
    return entry


def prune(engine: Engine, objects: Objects, retention: Retention, *, dry_run: bool = False) -> list[Entry]:
    """Remove backups of this store that are kept no longer, and what killed writers have left; which backups, oldest
    first. Raises ``StoreLockedError`` while a backup is being made, and ``ConflictError`` as ``create`` does."""
    engine.check_process()
    engine.check_writable()
    with _alone(engine):
        head = _head(engine, objects, new_lineage=False)
        dropped = lineage.dropped(objects, head.lineage)
        found = pruning.outdated(Places(objects), head.lineage, retention, engine.now(), dropped)
        if not dry_run:
            pruning.remove(objects, found)
            pruning.remove_leftovers(objects, head.lineage)
        return found


def drop_snapshot(engine: Engine, objects: Objects, id: str) -> Entry:
    """Keep a snapshot no longer: it is removed now, or by ``prune`` once nothing goes on from it any more.

    Raises ``NotFoundError``, ``InvalidInputError`` for another kind of backup, ``StoreLockedError``.
    """
    engine.check_process()
    engine.check_writable()
    with _alone(engine):
        places = Places(objects)
        entry = places.find(id)
        if entry.kind != "snapshot":
            raise InvalidInputError(f"the backup {id} is no snapshot, but {entry.kind}; prune() removes it", field="id")
        with suppress(ObjectExistsError):
            objects.create(lineage.dropped_key(entry), b"to be kept no longer")
        later = [each for each in places.all() if each.lineage == entry.lineage and each.number > entry.number]
        if later and all(each.after is None for each in later if each.number == entry.number + 1):
            pruning.remove(objects, [entry])
    return entry


def snapshots(objects: Objects) -> list[Entry]:
    """The snapshots in a place that are to be kept, oldest first."""
    found = [entry for entry in Places(objects).all() if entry.kind == "snapshot"]
    gone = {name: lineage.dropped(objects, name) for name in {entry.lineage for entry in found}}
    return [entry for entry in found if entry.number not in gone[entry.lineage]]


def rewrite(
    engine: Engine, objects: Objects, keyring: KeyRing | None, events: Sequence[int], erased: int
) -> list[Entry]:
    """Make a full backup, and remove those before it that hold any of these events, with what goes on from them;
    which. Those of other lineages stay. Raises as ``create`` does; before the new one is there, nothing is removed."""
    made = create(engine, objects, keyring)
    with _alone(engine):
        places = Places(objects)
        held = holding.holders(places, made.lineage, events, erased)
        found = [each for each in holding.with_followers(places, made.lineage, held) if each.number < made.number]
        pruning.remove(objects, found)
        pruning.remove_leftovers(objects, made.lineage)
    return found


def remove_leftovers(engine: Engine, objects: Objects) -> bool:
    """Remove what backups have left that were broken off; whether nothing of any is left, and none is being made."""
    try:
        with _alone(engine):
            return not pruning.remove_leftovers(objects, lineage_of(engine, objects))
    except StoreLockedError:
        return False


def lineage_of(engine: Engine, objects: Objects) -> str:
    """The lineage that the store's backups in a place are of."""
    return lineage.head(engine.repository.db, objects.url).lineage


def newest_event(engine: Engine, objects: Objects) -> int:
    """The last event that the store's newest backup in a place has, as far as the store knows; 0 for none."""
    return lineage.head(engine.repository.db, objects.url).seq


def complete_forgetting(engine: Engine, keyring: KeyRing) -> None:
    """Delete the keys of users who were noted as erased. Raises ``StoreLockedError`` while a backup is being made:
    the next one begins with that."""
    with _alone(engine):
        forgetting.complete(engine, keyring)


def forget(engine: Engine, keyring: KeyRing, user_id: str) -> bool:
    """Delete a user's key for ever; whether there was one. Raises ``StoreLockedError`` while a backup is being made.

    What that one holds of the user since he came back would be lost with what it holds from before.
    """
    engine.check_process()
    with _alone(engine):
        return forgetting.delete(engine, keyring, user_id)


@contextmanager
def _alone(engine: Engine) -> Generator[None]:
    lock = FileLock(engine.path / BACKUP_LOCK)
    with closing(lock):
        if not lock.try_acquire():
            raise StoreLockedError(f"{engine.path} is being backed up already; wait for that to end")
        yield


def _head(engine: Engine, objects: Objects, *, new_lineage: bool) -> Head:
    """The entry before the next one. Raises ``ConflictError`` for a store that does not know the newest."""

    def claim(repository: Repository) -> Head:
        if new_lineage:
            repository.set_meta(meta.BACKUPS, None)
        known = lineage.head(repository.db, objects.url)
        lineage.note_head(repository.db, objects.url, known)
        return known

    known = engine.write(claim)
    newest = max(lineage.numbers(objects, known.lineage), default=0)
    if newest <= known.number:
        return known
    entry, sha256 = lineage.read(objects, known.lineage, newest)
    if newest == known.number + 1 and known.token == entry.token:
        return _after(entry, sha256, known)
    raise lineage.overtaken(objects, known.lineage, newest)


def _after(entry: Entry, sha256: str, before: Head) -> Head:
    """What a store knows once a backup is there."""
    full_at = entry.at if entry.after is None else before.full_at
    return Head(entry.lineage, entry.number, sha256, None, entry.seq, entry.at, full_at)


def _note(engine: Engine, objects: Objects, head: Head) -> None:
    engine.write(lambda repository: lineage.note_head(repository.db, objects.url, head))


def _entry_of(objects: Objects, head: Head) -> Entry | None:
    """The backup before the next one; None if there is none, or none any more that can be read."""
    if not head.number:
        return None
    try:
        return lineage.read(objects, head.lineage, head.number)[0]
    except (ObjectNotFoundError, ArchiveCorruptError):
        return None


def _can_go_on(source: Source, last: Entry) -> bool:
    """Whether there can be an increment: neither the vectors nor the tables are others."""
    return (last.generation, last.migrations) == (source.generation, len(source.migrations()))
