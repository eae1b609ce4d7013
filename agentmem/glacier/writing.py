"""Records leave for archives: uploaded, read back and compared, and only then let go of, in one transaction each.

An archive is noted in the store before it is written, and has up to 2,000 records; several are under way at once. What
a killed process leaves is an archive that is noted and of which nothing is known further: whoever comes next removes
it (``burying.tidy``). A record that changes while it is uploaded stays, and its copy leaves the archive again.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import groupby

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.engine.engine import Engine
from agentmem.glacier import burying, merging
from agentmem.glacier.place import alone, archives_of
from agentmem.glacier.uploading import BYTES, ROWS, Batch, Uploaded, begin, upload
from agentmem.stores import archived
from agentmem.stores.archived import Body
from agentmem.stores.chunkupkeep import remove_files
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository
from agentmem.types.errors import (
    AgentMemError,
    ArchiveCorruptError,
    ArchiveKeyError,
    NotFoundError,
    ObjectNotFoundError,
    StoreError,
)
from agentmem.types.pool import Pool
from agentmem.types.reports import ArchiveReport

AT_ONCE = 3
"""Archives that are uploaded at the same time."""
_READ = 200


def archive(
    engine: Engine,
    rows: Iterable[int],
    pause: Callable[[], object] = lambda: None,
    progress: Callable[[int], object] = lambda done: None,
) -> ArchiveReport:
    """Move records to archives, by row; those that may not leave stay, see ``archived.may_leave``.

    ``progress`` is called with the records that were looked at so far. Raises ``StoreLockedError`` while another one
    does the same, and what ``Objects`` and ``KeyRing`` raise; what was moved until then stays moved, and nothing is
    lost.
    """
    engine.check_process()
    engine.check_writable()
    objects, keyring = archives_of(engine).open(read_only=False)
    with alone(engine):
        archives_of(engine).check_there()
        archives_of(engine).check_keys()
        burying.tidy(engine)
        run = _Run(engine, objects, keyring)
        try:
            for batch in _batches(engine, rows, run.seen):
                run.begin(batch)
                progress(run.looked)
                pause()
            run.end()
        finally:
            run.close()
        remove_files(engine.commits, engine.repository.db, engine.held)
        with suppress(ArchiveCorruptError, ArchiveKeyError, ObjectNotFoundError):  # ``verify`` tells of those
            burying.bury(engine)
        merging.merge(engine)
    progress(run.looked)
    return ArchiveReport(run.moved, run.looked - run.moved, run.archives, run.bytes)


class _Run:
    """Archives that are under way, and what came of those before."""

    def __init__(self, engine: Engine, objects: Objects, keyring: KeyRing | None) -> None:
        self._engine, self._objects, self._keyring = engine, objects, keyring
        self._threads = Pool(AT_ONCE, "agentmem-glacier")
        self._under_way = deque[tuple[Batch, Future[Uploaded]]]()
        self.looked = self.moved = self.archives = self.bytes = 0

    def seen(self, count: int) -> None:
        self.looked += count

    def begin(self, batch: Batch) -> None:
        """Note an archive and begin to upload it; the oldest that is under way is completed if there are too many."""
        while len(self._under_way) >= AT_ONCE:
            self._complete()
        begin(self._engine, batch.name)
        self._under_way.append((batch, self._threads.submit(upload, self._engine, self._objects, self._keyring, batch)))

    def end(self) -> None:
        while self._under_way:
            self._complete()

    def close(self) -> None:
        """After an error: remove what is under way, as far as that is possible now."""
        self._threads.shutdown(cancel_futures=True)
        for batch, _ in self._under_way:
            with suppress(AgentMemError):
                # An error may come from a commit that has succeeded: then the records lie there, and nowhere else.
                line = archived.archive(self._engine.repository.db, batch.name)
                if line is not None and line.state == archived.WRITING:
                    burying.discard(self._engine, self._objects, batch.name)

    def _complete(self) -> None:
        batch, future = self._under_way[0]
        uploaded = future.result()
        left = commit(self._engine, batch, uploaded)
        self._under_way.popleft()
        archives_of(self._engine).failed |= uploaded.failed
        self.moved += len(batch.found) - len(left)
        self.archives += 1
        self.bytes += uploaded.bytes


def _batches(engine: Engine, rows: Iterable[int], seen: Callable[[int], object]) -> Iterator[Batch]:
    """What may leave of these records, as many as make an archive each."""
    found, size, generation = list[tuple[Stored, Body]](), 0, engine.repository.generation
    for part in _chunks(rows, _READ):
        records = engine.repository
        seen(len(part))
        leaving = archived.leaving(records, part)
        sizes = archived.sizes_of_values(records.db, [stored.row for stored, _ in leaving])
        for stored, body in leaving:
            if found and (len(found) == ROWS or size >= BYTES or records.generation != generation):
                yield _batch(engine, found, generation)
                found, size = [], 0
            generation = records.generation
            found.append((stored, body))
            size += len(body.content) + len(body.embeddings) + sum(len(text) for _, _, text in body.parts)
            size += sizes.get(stored.row, 0)
    if found:
        yield _batch(engine, found, generation)


def _batch(engine: Engine, found: list[tuple[Stored, Body]], generation: int) -> Batch:
    names, db, users = engine.repository.names, engine.repository.db, dict[int, str | None]()
    for number in {stored.user for stored, _ in found}:
        with suppress(NotFoundError):  # erased since it was read, with all that there was
            users[number] = names.name(db, number)
    return Batch(secrets.token_hex(8), [one for one in found if one[0].user in users], users, generation)


def commit(engine: Engine, batch: Batch, uploaded: Uploaded) -> set[int]:
    """Let go of what an archive has, in one transaction; the rows of those that stay."""
    found = [(stored, body) for stored, body in batch.found if batch.users[stored.user] not in uploaded.unreadable]

    def write(repository: Repository) -> set[int]:
        left = archived.shelve(repository, found, batch.name, engine.now(), batch.generation, uploaded.failed)
        line = archived.archive(repository.db, batch.name)
        if line is None:
            raise StoreError(f"the archive {batch.name} was removed by somebody else while it was being written")
        archived.put(repository.db, line._replace(objects=uploaded.objects, bytes=uploaded.bytes))
        return left

    left = engine.write(write, len(found))
    return left | {stored.row for stored, _ in batch.found} - {stored.row for stored, _ in found}


def _chunks(rows: Iterable[int], size: int) -> Iterator[Sequence[int]]:
    for _, part in groupby(enumerate(rows), lambda one: one[0] // size):
        yield [row for _, row in part]
