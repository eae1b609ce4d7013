"""Looking at backups: which there are, and whether they are whole."""

from __future__ import annotations

from collections.abc import Callable

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup.lineage import Entry
from agentmem.backup.moment import Places
from agentmem.backup.proof import prove as prove_restoring
from agentmem.engine.engine import Engine
from agentmem.types.clock import to_datetime
from agentmem.types.errors import ArchiveCorruptError, ArchiveVersionError, ObjectNotFoundError
from agentmem.types.problems import Problems
from agentmem.types.reports import BackupInfo, VerifyReport

_COUNTED: tuple[str, ...] = ("records", "embeddings", "history")


def info(entry: Entry) -> BackupInfo:
    """The public form of an entry."""
    return BackupInfo(
        entry.id, entry.kind, entry.seq, to_datetime(entry.at), entry.size, entry.records, entry.description
    )


def verify(objects: Objects, id: str | None, keyring: KeyRing | None) -> VerifyReport:
    """Look at every byte of a backup and of those that it goes on from.

    Of sealed blocks whose key is not at hand only the hash is compared. Raises ``ArchiveUnavailableError`` where the
    place cannot be reached, ``ArchiveKeyError`` for another keyring.
    """
    problems, counts = Problems(), dict.fromkeys(_COUNTED, 0)
    places = Places(objects)
    found = places.find(id)
    try:
        places.check_previous(found)
        chain = places.chain(found)
    except ArchiveCorruptError as exc:
        return VerifyReport(False, counts, [f"archive: {exc}"])
    for entry in chain:
        try:
            reader = ArchiveReader(objects, entry.archive, keyring=keyring)
            if reader.sha256 != entry.manifest:
                problems.add(f"archive: {entry.archive} is not the one that the backup {entry.id} names")
            for name in _COUNTED:
                counts[name] += reader.manifest.content(name).rows
            problems.extend(f"archive: {problem}" for problem in reader.problems())
        except (ArchiveCorruptError, ArchiveVersionError, ObjectNotFoundError) as exc:
            problems.add(f"archive: {exc}")
    return VerifyReport(not problems, counts, problems.listed())


def prove(
    engine: Engine,
    objects: Objects,
    id: str | None,
    keyring: KeyRing | None,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> VerifyReport:
    """The same, and make a store of it that is compared with the manifest, and with the store that is open if it is the
    one that was backed up; ``counts`` has how many records were ``restored`` and ``compared``. See ``proof.prove``."""
    report = verify(objects, id, keyring)
    problems = Problems(report.problems)
    restored, compared = prove_restoring(engine, objects, id, keyring, problems, progress=progress)
    return VerifyReport(not problems, report.counts | {"restored": restored, "compared": compared}, problems.listed())
