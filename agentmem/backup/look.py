"""Looking at backups: which there are, and whether they are whole."""

from __future__ import annotations

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup import lineage
from agentmem.backup.lineage import Entry
from agentmem.types.clock import to_datetime
from agentmem.types.errors import ArchiveCorruptError, ArchiveVersionError, NotFoundError, ObjectNotFoundError, shown
from agentmem.types.problems import Problems
from agentmem.types.reports import BackupInfo, VerifyReport

_COUNTED: tuple[str, ...] = ("records", "embeddings", "history")


def info(entry: Entry) -> BackupInfo:
    """The public form of an entry."""
    return BackupInfo(
        entry.id, entry.kind, entry.seq, to_datetime(entry.at), entry.size, entry.records, entry.description
    )


def listed(objects: Objects) -> list[Entry]:
    """Every backup of a place, oldest first."""
    return sorted((entry for entry, _ in lineage.entries(objects)), key=lambda entry: (entry.at, entry.number))


def find(objects: Objects, id: str | None) -> Entry:
    """A backup by its id; None: the newest. Raises ``NotFoundError``."""
    found = listed(objects)
    if not found:
        raise NotFoundError(f"there are no backups in {objects.url}")
    for entry in found:
        if entry.id == id:
            return entry
    if id is not None:
        raise NotFoundError(f"there is no backup {shown(id)} in {objects.url}; the newest is {found[-1].id}")
    return found[-1]


def verify(objects: Objects, entry: Entry, keyring: KeyRing | None) -> VerifyReport:
    """Look at every byte of a backup, and whether the entry before is the one that it names.

    Of sealed blocks whose key is not at hand only the hash is compared. Raises ``ArchiveUnavailableError`` where the
    place cannot be reached, ``ArchiveKeyError`` for another keyring.
    """
    problems, counts = Problems(), dict.fromkeys(_COUNTED, 0)
    try:
        _check_chain(objects, entry)
        reader = ArchiveReader(objects, entry.archive, keyring=keyring)
        if reader.sha256 != entry.manifest:
            problems.add(f"archive: {entry.archive} is not the one that the backup {entry.id} names")
        counts = {name: reader.manifest.content(name).rows for name in _COUNTED}
        problems.extend(f"archive: {problem}" for problem in reader.problems())
    except (ArchiveCorruptError, ArchiveVersionError, ObjectNotFoundError) as exc:
        problems.add(f"archive: {exc}")
    return VerifyReport(not problems, counts, problems.listed())


def _check_chain(objects: Objects, entry: Entry) -> None:
    if entry.number == 1 or entry.previous is None:
        return
    before, sha256 = lineage.read(objects, entry.lineage, entry.number - 1)
    if sha256 != entry.previous:
        raise ArchiveCorruptError(f"the backup {before.id} is not the one that {entry.id} was made after")
