"""What was erased leaves the archives that have copies of it: they are written anew without it, and the old ones go.

Which those are is noted in the transaction that erases, so whoever is killed on the way leaves the rest to the next
one. Functions that change archives expect that nobody else does (``place.alone``).
"""

from __future__ import annotations

from collections.abc import Iterable

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.engine.engine import Engine
from agentmem.glacier.bodies import TABLE, from_row
from agentmem.glacier.contents import kept_in
from agentmem.glacier.place import Archives, alone, archives_of, folder_of, generations
from agentmem.glacier.uploading import Uploaded, write
from agentmem.stores import archived
from agentmem.stores.archived import Body
from agentmem.stores.writes import Repository
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    InvalidInputError,
    ObjectNotFoundError,
    StoreError,
)
from agentmem.types.spelling import spellings

_DAY = 86_400_000_000
_NOT_NOW = (ArchiveError, StoreError, InvalidInputError)
"""What keeps an erase from the archives: that is tried again, and the erase goes on with what else there is to do.
Input is invalid where the settings name no place any more."""


def bury_now(engine: Engine) -> bool:
    """Have what was erased leave the archives, if anything is to; False if that cannot be done now."""
    db = engine.repository.db
    if not archived.is_due(db):
        return True
    try:
        # Where nothing but what others write may have a copy, they see to it themselves, and are not waited for.
        with alone(engine) if archived.burials(db) else alone(engine, 0):
            archives_of(engine).check_there()
            tidy(engine)
            bury(engine)
    except _NOT_NOW:
        return False
    return True


def forget_user(engine: Engine, user_id: str, number: int | None) -> bool:
    """A user was erased, and archives are sealed: delete the key, so that no copy of them can be read any more.

    False if that cannot be done now: then the archives are written anew, as for a single record; as are those that were
    written before archives were sealed, and where the user has come back meanwhile, and lies in archives again under
    this key. ``number``: the user's, if it is still known.
    """
    archives, db = archives_of(engine), engine.repository.db
    held = archived.burials(db)
    try:
        with alone(engine):
            _, keyring = archives.open(read_only=False)
            if keyring is None:
                return True
            back = engine.repository.names.find(db, user_id)
            if back is not None and archived.any_of(db, back):
                return False
            for name in spellings(user_id):
                keyring.delete(name)
            sealed = [name for name in held if _is_sealed(archives, name, keyring)]
            if number is not None and sealed:
                engine.write(lambda repository: archived.unreadable(repository.db, number, sealed))
    except _NOT_NOW:
        return False
    return True


def _is_sealed(archives: Archives, name: str, keyring: KeyRing) -> bool:
    """Whether an archive can be read with keys of this ring only; False where it cannot be looked at."""
    try:
        return archives.reading(name, lambda reader: reader.manifest.keyring == keyring.id)
    except ArchiveError:
        return False


def bury(engine: Engine) -> None:
    """Write every archive anew of which something was erased. Raises what reading and writing them raises; of those
    that are damaged or cannot be opened the first error, once all others are done."""
    found, damaged = archived.burials(engine.repository.db), None
    for name, rows in sorted(found.items()):
        try:
            _rewrite(engine, name, rows)
        except (ArchiveCorruptError, ArchiveKeyError, ObjectNotFoundError) as exc:
            if isinstance(exc, ArchiveKeyError) or not _is_of_no_use(engine, name):
                damaged = damaged or exc
    if damaged is not None:
        raise damaged


def _is_of_no_use(engine: Engine, name: str) -> bool:
    """Remove a damaged archive in which nothing lies any more, if this store has written it."""
    db = engine.repository.db
    if archived.archive(db, name) is None or archived.rows_in(db, [name])[name]:
        return False
    discard(engine, archives_of(engine).open(read_only=False)[0], name)
    return True


def _rewrite(engine: Engine, name: str, rows: set[int]) -> None:
    archives, db = archives_of(engine), engine.repository.db
    objects, keyring = archives.open(read_only=False)
    written, line = generations(objects, name), archived.archive(db, name)
    whole = [number for number, keys in written.items() if f"{folder_of(name, number)}/manifest" in keys]
    number = line.generation if line is not None and line.generation in whole else max(whole, default=0)
    if number:
        reader = ArchiveReader(objects, folder_of(name, number), keyring=keyring)
        kept, dropped = dict[str | None, list[Body]](), False
        for block in reader.read(TABLE.name):
            for row in block.rows:
                body = from_row(row)
                if body.row in rows:
                    dropped = True
                else:
                    kept.setdefault(row[-1], []).append(body)
        if dropped and kept:
            number = max(written) + 1
            values = kept_in(reader, {body.row: user for user, those in kept.items() for body in those})
            uploaded = write(objects, keyring, folder_of(name, number), kept, reader.manifest.model, values)
            _note(engine, name, number, uploaded)
        elif dropped:
            number = 0
    archives.forget(name)
    _remove(objects, (key for other, keys in written.items() if other != number for key in keys))
    objects.sweep(name)
    engine.write(lambda repository: _done(repository, name, rows, there=bool(number)))


def _note(engine: Engine, name: str, number: int, uploaded: Uploaded) -> None:
    def change(repository: Repository) -> None:
        line = archived.archive(repository.db, name)
        if line is not None:
            line = line._replace(generation=number, objects=uploaded.objects, bytes=uploaded.bytes)
            archived.put(repository.db, line)

    engine.write(change)


def _done(repository: Repository, name: str, rows: Iterable[int], *, there: bool) -> None:
    archived.buried(repository.db, name, rows)
    line = archived.archive(repository.db, name)
    if line is not None and not there and line.live <= 0:
        archived.forget(repository.db, name)


def tidy(engine: Engine) -> int:
    """Remove what killed writers have left, and archives whose last record came back long enough ago; how many."""
    archives, now = archives_of(engine), engine.now()
    objects, _ = archives.open(read_only=False)
    kept, count = round(archives.settings.keep_days * _DAY), 0
    db, done = engine.repository.db, list[str]()
    for line in archived.archives(db):
        outdated = line.emptied_at is not None and line.live <= 0 and line.emptied_at + kept <= now
        if line.state == archived.WRITING or outdated:
            done.append(line.name)
    # Whatever was counted: what records lie in stays.
    held = archived.rows_in(db, done) if done else {}
    for name in done:
        if not held[name]:
            discard(engine, objects, name)
            count += 1
    return count


def discard(engine: Engine, objects: Objects, name: str) -> None:
    """Remove an archive of which no record is away."""
    _remove(objects, [info.key for info in objects.list(name)])
    objects.sweep(name)
    archives_of(engine).forget(name)
    engine.write(lambda repository: archived.forget(repository.db, name))


def _remove(objects: Objects, keys: Iterable[str]) -> None:
    """Manifests first: without one there is no archive."""
    for key in sorted(keys, key=lambda key: not key.endswith("/manifest")):
        objects.delete(key)
