"""Proving that a backup can be restored: it is, into a store that nobody keeps, and compared with what is known of it.

What the manifest says is compared, and, where the store that is open made the backup, every record, embedding and event
that nothing has happened to since. The store that is made for that lies in the store's own folder, on a disk that has
room for it, and is removed, also by whoever comes after a proof that was killed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup import lineage
from agentmem.backup.moment import Places
from agentmem.backup.restore import restore_moment
from agentmem.engine.engine import Engine
from agentmem.stores import meta
from agentmem.stores.comparing import Comparison
from agentmem.stores.connection import Connection
from agentmem.stores.copying import Source
from agentmem.stores.folder import DATABASE, PROOF, PROOF_LOCK
from agentmem.stores.locks import FileLock
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.errors import ArchiveCorruptError, ObjectNotFoundError, StoreCorruptError, StoreLockedError
from agentmem.types.patience import Pace
from agentmem.types.problems import Problems

_REST = 0.5


class Proof(NamedTuple):
    """What is known of the last proof of a place, of the store's newest backup there: when, of which, and the first
    problem, None for none."""

    at: Micros
    id: str
    problem: str | None


def prove(
    engine: Engine,
    objects: Objects,
    id: str | None,
    keyring: KeyRing | None,
    problems: Problems,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[int, int]:
    """Restore a backup and compare it; how many records came back, and how many were compared with the store's.

    Adds what is wrong to ``problems``. Raises ``StoreLockedError`` while another proof is made, and what the place
    raises where it cannot be reached.
    """
    places = Places(objects)
    entry = places.find(id)
    known = lineage.head(engine.repository.db, objects.url)
    with scratch(engine) as folder:
        found = _restored(engine, places, entry, folder, objects, keyring, problems, progress)
        if (entry.lineage, entry.number) == (known.lineage, known.number) and not engine.read_only:
            _note(engine, objects.url, Proof(engine.now(), entry.id, next(iter(problems.listed()), None)))
    return found


def _restored(
    engine: Engine,
    places: Places,
    entry: lineage.Entry,
    folder: Path,
    objects: Objects,
    keyring: KeyRing | None,
    problems: Problems,
    progress: Callable[[int, int], object],
) -> tuple[int, int]:
    try:
        # Without what was erased since, since it is compared with what was backed up.
        moment = places.choose(entry.id)._replace(later=[])
        made = restore_moment(objects, moment, folder, keyring, progress=progress)
        readers = [ArchiveReader(objects, each.archive, keyring=keyring) for each in moment.chain]
        unreadable = sum(reader.unreadable("records") for reader in readers)
    except (ArchiveCorruptError, ObjectNotFoundError, StoreCorruptError) as exc:
        problems.add(f"restore: {exc}")
        return 0, 0
    if made.seq != entry.seq or made.records < entry.records - unreadable:
        problems.add(
            f"restore: {made.records:,} records up to event {made.seq:,} came back, and the backup {entry.id} has "
            f"{entry.records:,} up to event {entry.seq:,}"
        )
    if entry.lineage != lineage.head(engine.repository.db, objects.url).lineage:
        return made.records, 0
    pace = Pace(lambda: engine.commits.requests, _REST)

    def pause() -> None:
        pace()
        progress(made.records, made.records)  # which may raise, to break it off

    return made.records, _compare(engine, folder, entry, problems, pause, partial=unreadable > 0)


def last(engine: Engine, url: str) -> Proof | None:
    """The last proof of a place that is known of; None if none was ever made."""
    found = json.loads(engine.repository.meta(meta.PROVED) or "{}").get(url)
    return None if found is None else Proof(*found)


@contextmanager
def scratch(engine: Engine) -> Generator[Path]:
    """A folder for a store that nobody keeps, not yet made, and gone at the end. Raises ``StoreLockedError``."""
    if engine.read_only:
        with TemporaryDirectory(prefix="agentmem-proof-") as name:
            yield Path(name)
        return
    folder = engine.path / PROOF
    with closing(FileLock(engine.path / PROOF_LOCK)) as lock:
        if not lock.try_acquire():
            raise StoreLockedError(
                f"a backup of {engine.path} is being verified already, or imported; wait for that to end"
            )
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _compare(
    engine: Engine,
    folder: Path,
    entry: lineage.Entry,
    problems: Problems,
    pause: Callable[[], object],
    *,
    partial: bool,
) -> int:
    with closing(engine.repository.db.another()) as live, closing(Connection(folder / DATABASE)) as other:
        source = Source(live)
        if source.generation != entry.generation:
            return 0  # another model's vectors
        comparison = Comparison(live, other, entry.seq, source.generation, partial=partial)
        problems.extend(f"restore: {problem}" for problem in comparison.differences(pause))
        return comparison.compared


def _note(engine: Engine, url: str, proof: Proof) -> None:
    """Note it; after one that went wrong the next backup goes on from nothing, and mends it."""

    def write(repository: Repository) -> None:
        if proof.problem is not None:
            lineage.want_whole(repository.db)
        noted = json.loads(repository.meta(meta.PROVED) or "{}")
        repository.set_meta(meta.PROVED, json.dumps(noted | {url: list(proof)}))

    engine.write(write)
