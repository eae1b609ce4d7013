"""Which backups of a store there are in a place, in one order, and who may add the next.

::

    LINEAGE/chain/0000000001      a backup: its archive, the SHA-256 of that's manifest, and of the entry before
    LINEAGE/backups/0000000001-…  its archive
    LINEAGE/dropped/0000000001    a snapshot that is to be kept no longer, where it cannot be removed yet

An entry is created once, under the next number, by a store that knows the one before. So of two stores with one past,
a copy beside its original or an old disk that comes back, one adds the next entry, and the other one is refused from
then on: it would overwrite what it does not know. A restored store begins a lineage of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

from agentmem.archive.envelope import packed, unpacked, unwrapped, wrapped
from agentmem.archive.objects import Objects
from agentmem.stores import meta
from agentmem.stores.connection import Connection
from agentmem.types.clock import Micros
from agentmem.types.errors import ArchiveCorruptError, ConflictError, ObjectExistsError, ObjectNotFoundError
from agentmem.types.pool import Pool

_AT_ONCE = 16
_ENTRY = re.compile(r"([0-9a-f]{32})/chain/(\d{10})")


@dataclass(frozen=True)
class Entry:
    """A backup: ``archive`` is the name of its archive, ``manifest`` the SHA-256 of that one's manifest, ``previous``
    that of the entry before. ``seq`` is the last event that it holds, ``at`` when that was read, ``records`` how many
    there were in whatever state, ``size`` the archive's bytes. ``token`` is its writer's."""

    lineage: str
    number: int
    previous: str | None
    archive: str
    manifest: str
    kind: str
    seq: int
    at: Micros
    records: int
    size: int
    description: str | None
    token: str
    after: int | None = None
    """What it goes on from: the last event of the backup before. None: it stands by itself, as a full one does."""
    first_at: Micros | None = None
    """The earliest time of an event after the backup before; None if there was none."""
    purged: int = 0
    """The last event that had been removed with its record."""
    generation: int = 0
    """The number of the model whose vectors it has; 0 of backups that nothing can go on from."""
    migrations: int = 0
    """How many the store had gone through."""
    began: Micros | None = None
    """When the lineage began."""
    parent: str | None = None
    """The lineage of the backup that the store was made of, if it was."""
    parent_row: int = 0
    """The last row that it had from there."""
    sealed: bool = False
    """Whether users' records are sealed; False of backups that do not say so."""
    chunk: int = 0
    """The last chunk of values that it has, or that one before it has."""

    @property
    def id(self) -> str:
        """What users call it."""
        return f"{self.lineage[:8]}-{self.number}"


@dataclass(frozen=True)
class Head:
    """The last entry that a store knows of a lineage; number 0 and no hash for none."""

    lineage: str
    number: int = 0
    sha256: str | None = None
    token: str | None = None
    """Of an entry that this store was about to add."""
    seq: int = 0
    """The last event that it holds."""
    at: Micros | None = None
    full_at: Micros | None = None
    """When the last one was made that stands by itself."""
    whole_next: bool = False
    """Whether the next one has to."""

    @property
    def id(self) -> str:
        """What users call the backup."""
        return f"{self.lineage[:8]}-{self.number}"


def head(db: Connection, url: str) -> Head:
    """What the store knows of its backups in a place."""
    noted = _noted(db)
    return Head(noted["lineage"], **noted["places"].get(url, {}))


def newest_event(db: Connection) -> int:
    """The last event that any backup of the store has, as far as the store knows; 0 if it has none."""
    return max((place["seq"] for place in _noted(db)["places"].values()), default=0)


def note_head(db: Connection, url: str, new: Head) -> None:
    """Remember that. Only inside a transaction."""
    noted = _noted(db)
    noted["lineage"] = new.lineage
    noted["places"][url] = {name: value for name, value in asdict(new).items() if name != "lineage"}
    meta.put(db, meta.BACKUPS, json.dumps(noted))


def adopt(db: Connection, url: str, entry: Entry, sha256: str, full_at: Micros | None) -> None:
    """Have a store that was made of a backup go on with its lineage, which nobody else does. Only inside a transaction.

    ``full_at`` is when the one was made that it goes on from and that stands by itself.
    """
    note_head(db, url, Head(entry.lineage, entry.number, sha256, None, entry.seq, entry.at, full_at))
    meta.put(db, meta.RESTORED, None if entry.parent is None else f"{entry.parent} {entry.parent_row}")


def want_whole(db: Connection) -> None:
    """Have the next backup in each place be a full one. Only inside a transaction."""
    noted = _noted(db)
    for place in noted["places"].values():
        place["whole_next"] = True
    meta.put(db, meta.BACKUPS, json.dumps(noted))


def _noted(db: Connection) -> dict[str, Any]:
    found = meta.get(db, meta.BACKUPS)
    return json.loads(found) if found else {"lineage": secrets.token_hex(16), "places": {}}


def archive_name(lineage: str, number: int, token: str) -> str:
    """Where the archive of an entry lies."""
    return f"{lineage}/backups/{number:010}-{token}"


def add(objects: Objects, entry: Entry) -> str:
    """Add an entry, which makes the backup one; the SHA-256 of its object. Raises ``ConflictError``."""
    data = wrapped("backup", packed(asdict(entry)))
    try:
        objects.create(_key(entry.lineage, entry.number), data)
    except ObjectExistsError as exc:
        raise overtaken(objects, entry.lineage, entry.number) from exc
    return hashlib.sha256(data).hexdigest()


def overtaken(objects: Objects, lineage: str, number: int) -> ConflictError:
    """The error for a store that does not know the newest backups of its lineage."""
    return ConflictError(
        f"{objects.url} has a backup number {number} of this store's lineage {lineage[:8]} that the store does not "
        "know: this is a copy of a store, or an older state of it. Restore the newest backup, or begin a new lineage, "
        "to go on with this one beside it"
    )


def numbers(objects: Objects, lineage: str) -> list[int]:
    """The numbers of a lineage's entries, ascending."""
    found = (_ENTRY.fullmatch(info.key) for info in objects.list(f"{lineage}/chain"))
    return sorted(int(match[2]) for match in found if match)


def entries(objects: Objects) -> Iterator[tuple[Entry, str]]:
    """Every entry of every lineage, with the SHA-256 of its object, by lineage and number."""
    for _, _, found in every(objects):
        if isinstance(found, ArchiveCorruptError):
            raise found
        yield found


def every(objects: Objects) -> Iterator[tuple[str, int, tuple[Entry, str] | ArchiveCorruptError]]:
    """The same, each after its lineage and number; what is damaged is its error."""
    found = (_ENTRY.fullmatch(info.key) for info in objects.list())
    places = sorted((match[1], int(match[2])) for match in found if match)
    with Pool(_AT_ONCE, "agentmem-backups") as threads:
        numbers, names = [number for _, number in places], [name for name, _ in places]
        for name, number, entry in zip(
            names, numbers, threads.map(_if_there, repeat(objects), names, numbers), strict=True
        ):
            if entry is not None:
                yield name, number, entry


def _if_there(objects: Objects, lineage: str, number: int) -> tuple[Entry, str] | ArchiveCorruptError | None:
    try:
        return read(objects, lineage, number)
    except ObjectNotFoundError:
        return None  # removed since it was listed
    except ArchiveCorruptError as exc:
        return exc


def read(objects: Objects, lineage: str, number: int) -> tuple[Entry, str]:
    """An entry and the SHA-256 of its object. Raises ``ObjectNotFoundError``, ``ArchiveCorruptError``."""
    key = _key(lineage, number)
    data, where = objects.get(key).data, f"{objects.url}/{key}"
    try:
        entry = Entry(**unpacked(unwrapped("backup", data, where), where))
    except TypeError as exc:
        raise ArchiveCorruptError(f"{where} is no entry of a backup: {exc}") from exc
    if (entry.lineage, entry.number) != (lineage, number):
        raise ArchiveCorruptError(f"{where} is the entry of another backup, {entry.id}")
    return entry, hashlib.sha256(data).hexdigest()


def _key(lineage: str, number: int) -> str:
    return f"{lineage}/chain/{number:010}"


def key_of(entry: Entry) -> str:
    """Of the object that makes a backup one."""
    return _key(entry.lineage, entry.number)


def dropped_key(entry: Entry) -> str:
    """Of the object that says that a snapshot is wanted no more."""
    return f"{entry.lineage}/dropped/{entry.number:010}"


def dropped(objects: Objects, lineage: str) -> set[int]:
    """The numbers of a lineage's snapshots that are wanted no more."""
    return {int(info.key.rpartition("/")[2]) for info in objects.list(f"{lineage}/dropped")}
