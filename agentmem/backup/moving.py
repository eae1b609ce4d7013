"""Taking users elsewhere: a part of a store as an archive of its own, and records of an archive into a store in use.

An export is a backup of its own lineage, of one user or of all: ``agentmem.restore`` makes a store of it, and an import
takes its records over into a store, some at a time, with ids, times and history. What is there already is left alone,
so that an import that was broken off is simply begun again. The records of a backup come back in the same way.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice

from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.archive.writing import ArchiveWriter
from agentmem.backup import lineage
from agentmem.backup.chunks import arriving
from agentmem.backup.copy import Copy, tables_of
from agentmem.backup.filling import Wanted
from agentmem.backup.lineage import Entry, archive_name
from agentmem.backup.moment import Moment
from agentmem.backup.proof import scratch
from agentmem.backup.restore import restore_moment
from agentmem.embedding.batcher import embed_documents
from agentmem.engine.engine import Engine
from agentmem.stores import archived, erasure, meta
from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.copying import Source
from agentmem.stores.folder import DATABASE
from agentmem.stores.merging import Taken, arrivals, take
from agentmem.stores.names import Names
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored
from agentmem.types.enums import ALL, AllUsers
from agentmem.types.errors import ModelMismatchError, NotFoundError
from agentmem.types.patience import Pace
from agentmem.types.reports import ImportReport
from agentmem.types.spelling import spellings

_REST = 0.5
_LARGEST = 4 * 2**20
"""Characters of text and data that are taken over in one transaction, if that is more than one record."""
_TOLD = (meta.MODEL, meta.DIM, meta.MODEL_FINGERPRINT)


def export(
    engine: Engine,
    objects: Objects,
    user: str | AllUsers | None,
    keyring: KeyRing | None = None,
    *,
    description: str | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Entry:
    """Write what the store has of a user (None: of nobody; ALL: everything) as it is now. See ``Memory.export``."""
    engine.check_process()
    name, token = secrets.token_hex(16), secrets.token_hex(8)
    archive = archive_name(name, 1, token)
    with closing(engine.repository.db.another()) as connection:
        source = Source(connection)
        only = None if user is ALL else _number_of(source, None if user is None else str(user))
        with ArchiveWriter(objects, archive, tables_of(source), keyring=keyring, model=source.model()) as writer:
            pace = Pace(lambda: engine.commits.requests, _REST)
            copy = Copy(source, writer, None, pace, progress, path=engine.held, whole=True, only=only)
            copy.run()
            at = engine.now()
            about = {"kind": "export", "lineage": name, "number": 1, "previous": None}
            about |= {"seq": copy.seq, "after": None, "at": at, "description": description}
            written = writer.finish(about | {"migrations": source.migrations()})
        entry = Entry(
            name, 1, None, archive, written.sha256, "export", copy.seq, at, copy.records, written.size, description,
            token, None, copy.first_at, copy.purged, source.generation, len(source.migrations()), at, None, 0,
            keyring is not None, copy.chunk,
        )  # fmt: skip
    lineage.add(objects, entry)
    return entry


def _number_of(source: Source, user: str | None) -> int:
    if user is None:
        return 0
    found = next((n for n in map(source.user, spellings(user)) if n is not None), None)
    if found is None:
        raise NotFoundError(f"nothing is stored for the user {user!r}, so there is nothing to export")
    return found


def bring(
    engine: Engine,
    objects: Objects,
    moment: Moment,
    user: str | AllUsers | None,
    keyring: KeyRing | None = None,
    *,
    back: bool,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ImportReport:
    """Take over what an archive has of a user: see ``Memory.import_``; with ``back``, ``BackupClient.restore_user``."""
    engine.check_process()
    engine.check_writable()
    with scratch(engine) as folder:
        wanted, since = Wanted(user), erasure.last_line(engine.repository)
        made = restore_moment(objects, moment, folder, keyring, wanted=wanted, embedder=engine.given, progress=progress)
        with closing(Connection(folder / DATABASE)) as db:
            other = Records(db, Names())
            embed = _Embedding(engine, other)
            total, embedded, after, away = Taken(), 0, 0, list[str]()
            while rows := _next(db, after):
                after = rows[-1]
                found = arrivals(other, rows, embed)
                away += other.ids_of(archived.places(db, rows)).values()
                if not dry_run:
                    with arriving(db, folder, engine.held, found) as (whole, settled):
                        future = engine.begin_write(
                            lambda repository, found=whole: take(
                                repository, found, engine.now(), since=since, back=back, overwrite=overwrite
                            ),
                            rows=len(found),
                        )
                        future.add_done_callback(settled)
                    total.add(future.result())
            embedded = embed.count + made.embedded
    return ImportReport(
        total.added, total.back, total.present, tuple(total.changed), tuple(total.ids), tuple(total.keys), embedded,
        tuple(away),
    )  # fmt: skip


def _next(db: Connection, after: int) -> list[int]:
    """The next rows that are taken over in one transaction: as many as are not too large together."""
    sql = "SELECT row, length(content) + body_size FROM records WHERE row > ? ORDER BY row LIMIT ?"
    rows, size = list[int](), 0
    for row, length in db.execute(sql, (after, CHUNK)):
        size += length
        if rows and size > _LARGEST:
            break
        rows.append(row)
    return rows


class _Embedding:
    """The embeddings of records of another database: as they are, where the model is the same, else made anew."""

    def __init__(self, engine: Engine, other: Records) -> None:
        self._engine, self._other = engine, other
        theirs = [str(other.meta(key)) for key in _TOLD]
        self._same = theirs == [str(engine.repository.meta(key)) for key in _TOLD]
        self.count = 0
        given = 0 if self._same else other.db.execute("SELECT count(*) FROM records WHERE vectors < 0")[0][0]
        if given:
            raise ModelMismatchError(
                f"{given:,} records have vectors that were given for {theirs[0]!r}, and the store here is of "
                f"{engine.embedder.name!r}; import them into a store of that model, and move that over with reembed()"
            )

    def __call__(self, found: Sequence[Stored]) -> dict[int, bytes]:
        if self._same:
            return self._other.vectors(found)
        several = self._other.texts((stored.row, stored.vectors, stored.body) for stored in found)
        texts = {
            stored.row: several.get(stored.row, []) if stored.has_texts else [stored.content]
            for stored in found
            if stored.vectors
        }
        made = iter(embed_documents(self._engine.embedder, [text for each in texts.values() for text in each]))
        self.count += len(texts)
        return {row: b"".join(islice(made, len(each))) for row, each in texts.items()}
