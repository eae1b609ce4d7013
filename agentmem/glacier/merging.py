"""Small archives become larger ones: each costs three objects, and requests when it is searched."""

from __future__ import annotations

import secrets

from agentmem.engine.engine import Engine
from agentmem.glacier.bodies import fetch
from agentmem.glacier.burying import bury, discard
from agentmem.glacier.contents import UNREADABLE, Chunk, Ref, content_of
from agentmem.glacier.place import archives_of, folder_of
from agentmem.glacier.uploading import BYTES, ROWS, begin, write
from agentmem.stores import archived
from agentmem.stores.archived import Archive, Body
from agentmem.stores.writes import Repository

_SMALL = ROWS // 4
"""Records below which an archive is small."""
_MANY = 8
"""So many small ones become one."""


def merge(engine: Engine, many: int = _MANY) -> int:
    """Merge small archives, where there are ``many``; how many were. While nobody else changes archives.

    The old ones stay for a while, for backups that know of them. What cannot be read is left as it is, and ``verify``
    tells. Raises what writing archives raises.
    """
    count = 0
    while len(found := _small(engine)) >= many and (merged := _merge(engine, found)):
        count += merged
    return count


def _small(engine: Engine) -> list[Archive]:
    """The next small archives, as many as make one."""
    found, records, size = list[Archive](), 0, 0
    for line in archived.archives(engine.repository.db):
        if line.state != archived.WRITTEN or not 0 < line.live < _SMALL or line.bytes >= BYTES:
            continue
        records, size = records + line.live, size + line.bytes
        if found and (records > ROWS or size > BYTES):
            break
        found.append(line)
    return found


def _merge(engine: Engine, found: list[Archive]) -> int:
    archives, db = archives_of(engine), engine.repository.db
    objects, keyring = archives.open(read_only=False)
    by_user, merged, model = dict[str | None, list[Body]](), list[str](), archived.model(db)
    values = list[tuple[str | None, Ref | Chunk]]()
    held = archived.rows_in(db, [line.name for line in found])
    for line in found:
        stubs = list(engine.repository.find_rows(held[line.name]))
        try:
            if archives.reading(line.name, lambda reader: reader.manifest.model) != model:
                continue
            bodies = fetch(engine, stubs)
            content = content_of(engine, [stub for stub in stubs if stub.row in bodies], line.name)
        except UNREADABLE:
            continue
        merged.append(line.name)
        values += content
        for stub in stubs:
            if stub.row in bodies:
                by_user.setdefault(engine.repository.names.name(db, stub.user), []).append(bodies[stub.row])
    if len(merged) < 2:
        return 0
    name = secrets.token_hex(8)
    begin(engine, name)
    uploaded = write(objects, keyring, folder_of(name, 1), by_user, model, values)
    if uploaded.unreadable:  # users were erased meanwhile: the next one begins without them
        discard(engine, objects, name)
        return 0
    every = [body for those in by_user.values() for body in those]

    def move(repository: Repository) -> None:
        stubs = list(repository.find_rows(body.row for body in every))
        live = archived.move(repository, stubs, merged, name, engine.now())
        line = archived.archive(repository.db, name)
        if line is not None:
            line = line._replace(state=archived.WRITTEN, records=len(every), live=live)
            archived.put(repository.db, line._replace(objects=uploaded.objects, bytes=uploaded.bytes))
        if live < len(every):
            archived.bury_others(repository, stubs, name)

    engine.write(move, len(every))
    bury(engine)
    return len(merged)
