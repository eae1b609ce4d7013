"""One archive: written, read back, and compared with what it was to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.archive.writing import ArchiveWriter
from agentmem.engine.engine import Engine
from agentmem.glacier.bodies import TABLE, from_row, to_row
from agentmem.glacier.contents import CHUNKS, REFS, Chunk, FromStore, Ref
from agentmem.glacier.place import folder_of
from agentmem.stores import archived
from agentmem.stores.archived import Body
from agentmem.stores.rows import Stored
from agentmem.types.errors import ArchiveCorruptError

ROWS = 2_000
"""Records in an archive: one transaction lets go of them, for some 0.1 s."""
BYTES = 16 * 2**20
"""And bytes of them, unless a single one has more."""


class Batch(NamedTuple):
    """Records that make an archive, with the names of their users by number, and the number of the model's vectors."""

    name: str
    found: list[tuple[Stored, Body]]
    users: dict[int, str | None]
    generation: int


class Uploaded(NamedTuple):
    """What an archive is where it lies, and whose records in it nobody can read, since their keys were deleted.

    ``failed`` are the rows of values of which a part could not be read.
    """

    objects: int
    bytes: int
    unreadable: list[str | None]
    failed: frozenset[int] = frozenset()


def begin(engine: Engine, name: str) -> None:
    """Note an archive in the store before anything of it is written."""
    engine.write(lambda repository: archived.begin(repository.db, name, engine.now()))


def upload(engine: Engine, objects: Objects, keyring: KeyRing | None, batch: Batch) -> Uploaded:
    """Write an archive for the first time. Raises as ``write`` does."""
    by_user, folder = dict[str | None, list[Body]](), folder_of(batch.name, 1)
    for stored, body in batch.found:
        by_user.setdefault(batch.users[stored.user], []).append(body)
    values = FromStore(engine, [(stored, batch.users[stored.user]) for stored, _ in batch.found if stored.body])
    uploaded = write(objects, keyring, folder, by_user, archived.model(engine.repository.db), values)
    return uploaded._replace(failed=frozenset(values.failed))


def write(
    objects: Objects,
    keyring: KeyRing | None,
    folder: str,
    by_user: dict[str | None, list[Body]],
    model: dict[str, object],
    values: Iterable[tuple[str | None, Ref | Chunk]] = (),
) -> Uploaded:
    """Write records into a folder, and what the ``values`` among them consist of; read all of it back, and compare.

    Raises ``ArchiveCorruptError`` where it differs.
    """
    sent = dict[str | None, _Sent]()
    with ArchiveWriter(objects, folder, [TABLE, REFS, CHUNKS], keyring=keyring, model=model) as writer:
        for user, those in by_user.items():
            writer.add(TABLE.name, user, [to_row(body, user) for body in those])
        for user, each in values:
            writer.add(REFS.name if isinstance(each, Ref) else CHUNKS.name, user, [each])
            sent.setdefault(user, _Sent()).note(each)
        written = writer.finish({"kind": "glacier"})
    reader = ArchiveReader(objects, folder, keyring=keyring, keep=True)
    if reader.sha256 != written.sha256:
        raise ArchiveCorruptError(f"{objects.url}/{folder} is not what was just written there")
    for user, those in by_user.items():
        back = [from_row(row) for rows in reader.read(TABLE.name, user=user) for row in rows.rows]
        same = back == those and sent.get(user, _Sent()) == _back(reader, user)
        if not same and user not in written.unreadable:
            raise ArchiveCorruptError(f"{objects.url}/{folder} does not give back what was just written there")
    tables = [table for table in reader.manifest.tables if table.rows]
    packs = {block.pack for table in tables for block in reader.blocks(table.table.name)}
    parts = sum(len(table.catalogue) for table in tables)
    return Uploaded(len(packs) + parts + 1, written.size, written.unreadable)


@dataclass
class _Sent:
    """What an archive is to have of a user's values; of chunks that is their checksums."""

    refs: set[Ref] = field(default_factory=set[Ref])
    chunks: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])

    def note(self, each: Ref | Chunk) -> None:
        if isinstance(each, Ref):
            self.refs.add(each)
        else:
            self.chunks[each.row, each.n] = each.checksum if each.is_whole else b""


def _back(reader: ArchiveReader, user: str | None) -> _Sent:
    found = _Sent()
    for refs in reader.read(REFS.name, user=user):
        for row in refs.rows:
            found.note(Ref._make(row))
    for chunks in reader.read(CHUNKS.name, user=user):
        for row in chunks.rows:
            found.note(Chunk._make(row))
    return found
