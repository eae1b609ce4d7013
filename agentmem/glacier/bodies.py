"""What an archive has of records: one table, a row each, blocks of one user's records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agentmem.archive.blocks import Block
from agentmem.archive.reading import ArchiveReader
from agentmem.archive.tables import Table
from agentmem.engine.engine import Engine
from agentmem.glacier.place import Archives, archives_of
from agentmem.stores import archived
from agentmem.stores.archived import Body
from agentmem.stores.connection import Connection
from agentmem.stores.rows import Stored
from agentmem.types.errors import ArchiveCorruptError, ArchiveError, ArchiveKeyError, NotFoundError, ObjectNotFoundError

TABLE = Table(
    "bodies",
    (
        ("row", "int"), ("id", "text"), ("version", "int"), ("vectors", "int"), ("content", "text"),
        ("embeddings", "bytes"), ("parts", "bytes"), ("user", "text"),
    ),
    ("row",),
)  # fmt: skip
"""``vectors`` is the code of the embeddings, which are float32; ``parts`` is JSON, ``[[version, part, text], ...]``,
the record's data and what else it was embedded by; null where it has none. ``user`` is whose it is, null for nobody."""


def to_row(body: Body, user: str | None) -> tuple[Any, ...]:
    """A body as the table has it."""
    parts = json.dumps(body.parts, ensure_ascii=False).encode() if body.parts else None
    return (*body[:-1], parts, user)


def from_row(row: Sequence[Any]) -> Body:
    """The other way round. Raises ``ArchiveCorruptError``."""
    try:
        found: list[Any] = [] if row[-2] is None else json.loads(row[-2])
        parts = tuple((int(version), int(part), str(text)) for version, part, text in found)
    except (ValueError, TypeError) as exc:
        raise ArchiveCorruptError(
            f"an archive has no data of the record in row {row[0]} that can be read: {exc}"
        ) from exc
    return Body._make((*row[:-2], parts))


def read(reader: ArchiveReader, user: str | None, rows: Iterable[int]) -> Iterator[Body]:
    """Those of a user's records that an archive has; blocks that cannot have any of them are not opened."""
    wanted = frozenset(rows)

    def may_have(block: Block) -> bool:
        zone = block.zones[0]
        return zone is not None and any(zone[0] <= row <= zone[1] for row in wanted)

    for found in reader.read(TABLE.name, user=user, wanted=may_have):
        yield from (from_row(row) for row in found.rows if row[0] in wanted)


def fetch(engine: Engine, stubs: Sequence[Stored]) -> dict[int, Body]:
    """What lies in archives of these records, by row; of those that are whole nothing.

    Where an archive lacks a record, or is damaged, an older copy of the same version is taken, if there is one.
    Raises ``ArchiveError`` and below for a record that is to be found nowhere.
    """
    db, archives, found = engine.repository.db, archives_of(engine), dict[int, Body]()
    here = archived.places(db, [stored.row for stored in stubs])
    groups = dict[tuple[str, int], list[Stored]]()
    for stored in stubs:
        if stored.row in here:
            groups.setdefault((here[stored.row], stored.user), []).append(stored)
    for (name, number), those in groups.items():
        try:
            user = engine.repository.names.name(db, number)
        except NotFoundError:
            continue  # erased since, with all that there was
        try:
            got = _fetch(archives, name, user, those)
            error = None
        except (ArchiveCorruptError, ObjectNotFoundError, ArchiveKeyError) as exc:
            got, error = {}, exc
        found |= got
        for stored in those:
            if stored.row not in got:
                found[stored.row] = _copy(engine, archives, name, user, stored, error)
    return found


def _fetch(archives: Archives, name: str, user: str | None, those: Sequence[Stored]) -> dict[int, Body]:
    rows = [stored.row for stored in those]
    return archives.reading(name, lambda reader: {body.row: body for body in read(reader, user, rows)})


def _copy(
    engine: Engine, archives: Archives, name: str, user: str | None, stored: Stored, error: ArchiveError | None
) -> Body:
    """A record that the archive it is to be in does not give: from one in which it was before, without its vectors
    where those are another model's."""
    db = engine.repository.db
    for other in archived.copies(db, stored.row):
        try:
            body = _fetch(archives, other, user, [stored]).get(stored.row) if other != name else None
            if body is not None and (body.id, body.version) == (stored.id, stored.version):
                given = body.vectors < 0
                return body if given or is_of_model(archives, db, other) else body._replace(embeddings=b"")
        except (ArchiveCorruptError, ObjectNotFoundError, ArchiveKeyError):
            continue
    raise error or ArchiveCorruptError(
        f"the archive {name} does not have the record {stored.id!r}, or no key of its user's can open it"
    )


def is_of_model(archives: Archives, db: Connection, name: str) -> bool:
    """Whether the vectors in an archive are those of the store's model. Raises as ``Archives.reading`` does."""
    model = archived.model(db)
    return archives.reading(name, lambda reader: {key: reader.manifest.model.get(key) for key in model} == model)
