"""Restoring a backup into a new folder: a store as it was, checked before it is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from agentmem.archive.keyring import KeyRing
from agentmem.archive.manifest import Manifest
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup.lineage import Entry
from agentmem.backup.tables import NOTED, SEQUENCES, TOUCHED, FromArchive
from agentmem.stores import meta
from agentmem.stores.connection import Connection
from agentmem.stores.copying import Target
from agentmem.stores.folder import DATABASE, is_store, sync
from agentmem.stores.integrity import check_accounts, check_records
from agentmem.stores.names import Names
from agentmem.stores.records import Records
from agentmem.stores.schema import configure, migrate
from agentmem.types.errors import ArchiveCorruptError, StoreCorruptError, StoreError
from agentmem.types.problems import Problems

_OWN = frozenset({NOTED.name, SEQUENCES.name, TOUCHED.name})
_CHUNK = 2_000


def restore(
    objects: Objects,
    entry: Entry,
    into: Path,
    keyring: KeyRing | None = None,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> int:
    """Make the store of a backup in a folder that has none; how many records it has, in whatever state.

    It becomes a store in the last step, after every record, embedding and event was compared with the others. What
    belongs to users whose key was deleted is left out. LanceDB and the keyword index are made anew when it is opened,
    and its backups begin a lineage of their own. ``progress`` is called with the records so far and their number.

    Raises ``StoreError`` where there is a store already, ``StoreCorruptError`` where what comes out is not whole, and
    what ``ArchiveReader`` raises; the folder is left without a store then.
    """
    if is_store(into):
        raise StoreError(f"there is a store in {into} already; restore into another folder")
    reader = ArchiveReader(objects, entry.archive, keyring=keyring)
    if reader.sha256 != entry.manifest:
        raise ArchiveCorruptError(f"{objects.url}/{entry.archive} is not the archive that the backup {entry.id} names")
    made = not into.exists()
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = into / f"{DATABASE}.restoring"
    try:
        _discard(fresh)
        os.close(os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(Connection(fresh)) as db:
            # Nothing here has to survive a power cut before it is all there.
            db.execute("PRAGMA journal_mode=OFF")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            count = _Filling(reader, db, into, progress).run()
        with closing(Connection(fresh)) as db:
            configure(db)
            _check(db, into, entry)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for end in ("-wal", "-shm"):
            fresh.with_name(fresh.name + end).unlink(missing_ok=True)
        sync(fresh)
        os.rename(fresh, into / DATABASE)
        sync(into)
    except BaseException:
        _discard(fresh)
        if made and not any(into.iterdir()):
            into.rmdir()
        raise
    return count


class _Filling:
    def __init__(
        self, reader: ArchiveReader, db: Connection, into: Path, progress: Callable[[int, int], object]
    ) -> None:
        self._reader, self._db, self._into, self._progress = reader, db, into, progress
        self._manifest: Manifest = reader.manifest
        self._target = Target(db)

    def run(self) -> int:
        """Fill the database; how many records it has."""
        migrations = self._manifest.about.get("migrations")
        if not isinstance(migrations, list):
            raise ArchiveCorruptError("the archive is not one of a whole store: its manifest names no migrations")
        migrate(self._db, self._into, migrations)  # pyright: ignore[reportUnknownArgumentType]
        touched = dict(row for rows in self._rows(TOUCHED.name) for row in rows)
        total, done = self._manifest.content("records").rows, 0
        for content in self._manifest.tables:
            name = content.table.name
            if name in _OWN:
                continue
            found, belongs = FromArchive(content.table), "round" in content.table.names
            for rows in self._rows(name):
                kept = [row for row in rows if not belongs or _is_last(found.place(row), touched)]
                self._write(name, found.columns, [found.row(row) for row in kept])
                if name == "records":
                    done += len(rows)
                    self._progress(done, total)
        self._finish(migrations)  # pyright: ignore[reportUnknownArgumentType]
        return int(self._db.execute("SELECT count(*) FROM records")[0][0])

    def _rows(self, table: str) -> Iterator[list[tuple[Any, ...]]]:
        for read in self._reader.read(table):
            yield read.rows

    def _write(self, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), _CHUNK):
            self._db.execute("BEGIN")
            self._target.insert(table, columns, rows[start : start + _CHUNK])
            self._db.execute("COMMIT")

    def _finish(self, migrations: list[str]) -> None:
        noted = FromArchive(self._manifest.content(NOTED.name).table)
        rows = [noted.row(row) for rows in self._rows(NOTED.name) for row in rows]
        sequences = [(name, seq) for rows in self._rows(SEQUENCES.name) for name, seq in rows]
        self._db.execute("BEGIN")
        self._target.note((key, value if number is None else number) for key, number, value in rows)
        self._db.execute("COMMIT")
        migrate(self._db, self._into)
        self._db.execute("BEGIN")
        self._target.finish(sequences)
        self._db.execute("COMMIT")


def _is_last(place: tuple[int, int], touched: dict[int, int]) -> bool:
    """Whether a row was read in the last round in which its record was."""
    row, number = place
    return touched.get(row, 0) == number


def _check(db: Connection, into: Path, entry: Entry) -> None:
    """Raise ``StoreCorruptError`` unless the database is whole in itself."""
    problems, records = Problems(), Records(db, Names())
    problems.extend(f"libsql: {row[0]}" for row in db.execute("PRAGMA quick_check(20)") if row[0] != "ok")
    counts = {"records": 0, "embeddings": 0, "history": 0}
    problems.extend(check_records(records, int(meta.get(db, meta.DIM)) * 4, counts))
    problems.extend(check_accounts(records))
    if problems:
        listed = "; ".join(problems.listed())
        raise StoreCorruptError(
            f"what the backup {entry.id} has is no whole store, so none was made in {into}: {listed}"
        )


def _discard(fresh: Path) -> None:
    for part in fresh.parent.glob(f"{fresh.name}*"):
        part.unlink()
