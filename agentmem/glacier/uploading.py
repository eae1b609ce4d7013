"""One archive: written, read back, and compared with what it was to be."""

from __future__ import annotations

from typing import NamedTuple

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.archive.writing import ArchiveWriter
from agentmem.engine.engine import Engine
from agentmem.glacier.bodies import TABLE, from_row, to_row
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
    """What an archive is where it lies, and whose records in it nobody can read, since their keys were deleted."""

    objects: int
    bytes: int
    unreadable: list[str | None]


def begin(engine: Engine, name: str) -> None:
    """Note an archive in the store before anything of it is written."""
    engine.write(lambda repository: archived.begin(repository.db, name, engine.now()))


def upload(engine: Engine, objects: Objects, keyring: KeyRing | None, batch: Batch) -> Uploaded:
    """Write an archive for the first time. Raises as ``write`` does."""
    by_user = dict[str | None, list[Body]]()
    for stored, body in batch.found:
        by_user.setdefault(batch.users[stored.user], []).append(body)
    return write(objects, keyring, folder_of(batch.name, 1), by_user, archived.model(engine.repository.db))


def write(
    objects: Objects,
    keyring: KeyRing | None,
    folder: str,
    by_user: dict[str | None, list[Body]],
    model: dict[str, object],
) -> Uploaded:
    """Write records into a folder, read them back, and compare. Raises ``ArchiveCorruptError`` where they differ."""
    with ArchiveWriter(objects, folder, [TABLE], keyring=keyring, model=model) as writer:
        for user, those in by_user.items():
            writer.add(TABLE.name, user, [to_row(body, user) for body in those])
        written = writer.finish({"kind": "glacier"})
    reader = ArchiveReader(objects, folder, keyring=keyring, keep=True)
    if reader.sha256 != written.sha256:
        raise ArchiveCorruptError(f"{objects.url}/{folder} is not what was just written there")
    for user, those in by_user.items():
        back = [from_row(row) for rows in reader.read(TABLE.name, user=user) for row in rows.rows]
        if back != those and user not in written.unreadable:
            raise ArchiveCorruptError(f"{objects.url}/{folder} does not give back what was just written there")
    packs = {block.pack for block in reader.blocks(TABLE.name)}
    parts = len(reader.manifest.content(TABLE.name).catalogue)
    return Uploaded(len(packs) + parts + 1, written.size, written.unreadable)
