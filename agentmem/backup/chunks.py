"""Chunks of values in a backup: read from a store, each once, and put into the store that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from agentmem.backup.tables import CHUNKS
from agentmem.stores import chunks
from agentmem.stores.chunkfiles import ChunkFiles, Staging, settle
from agentmem.stores.chunkframes import is_whole
from agentmem.stores.chunks import Part, Piece
from agentmem.stores.chunkupkeep import look
from agentmem.stores.connection import Connection, Row
from agentmem.stores.copying import Source
from agentmem.stores.folder import Folder
from agentmem.stores.merging import Arrival, Taken
from agentmem.types.errors import ArchiveCorruptError

_AT_ONCE = 20
_INLINE = 65_536
"""Bytes up to which a chunk lies in the database of a store that is made."""
_STORED = (*CHUNKS.columns[:-1], "file", "body")


class ChunkReader:
    """Reads the chunks of a store in the order of their numbers, those after ``last``, which goes on meanwhile.

    A chunk never changes, and its number is given out once. So whoever has read all up to a number has what any record
    refers to that was there by then, and a backup needs no more than the one before did not have.
    """

    def __init__(self, source: Source, path: Folder, last: int, only: int | None) -> None:
        self._source, self._files, self._only = source, ChunkFiles(path), only
        self._columns = [row[1] for row in source.db.execute("PRAGMA table_info(chunks)")]
        self.last: int = last

    def read(self, pause: Callable[[], object]) -> Iterator[tuple[int, Row]]:
        """The next ones, each with the number of the user whose it is."""
        while found := self._source.chunks(self.last, self._only, _AT_ONCE):
            for values in found:
                row = dict(zip(self._columns, values, strict=True))
                if self._read_body(row):
                    yield row["user"], tuple(row[name] for name in CHUNKS.columns)
                self.last = int(row["n"])
            pause()

    def _read_body(self, row: dict[str, Any]) -> bool:
        """Put the chunk's bytes into its row, None where they are not what was stored; False if it is gone.

        It may have been packed anew since it was found: then it is what it is now.
        """
        found = Part(0, *(row[name] for name in Part._fields[1:]))
        looked = look(self._source.db, self._files, found)
        if looked is not None:
            row.update(looked.part._replace(body=looked.body)._asdict())
        return looked is not None


class ChunkFilling:
    """Puts chunks of one backup after the other into a database that is being made, and beside it.

    Two chunks may have the same content, one of which was removed before the other came: they are one here.
    """

    def __init__(self, db: Connection, into: Path) -> None:
        self._db, self._files = db, ChunkFiles(into)
        self._staging: Staging | None = None
        self._others = list[tuple[int, int]]()

    def add(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Put chunks. Raises ``ArchiveCorruptError`` for one that is not what it says."""
        for values in rows:
            row = dict(zip(columns, values, strict=True))
            body = row["body"]
            if body is not None and not is_whole(row["codec"], row["size"], row["checksum"], body):
                raise ArchiveCorruptError(f"chunk {row['n']} of values in the archive is not what it says")
            there = self._db.execute(
                "SELECT n, file, body IS NOT NULL FROM chunks WHERE user = ? AND space = ? AND hash = ?",
                (row["user"], row["space"], row["hash"]),
            )
            if there:
                n, file, inline = there[0]
                if n != row["n"]:
                    self._others.append((n, row["n"]))
                if file is not None or inline or body is None:
                    continue
                self._db.execute("DELETE FROM chunks WHERE n = ?", (n,))
                row["n"] = n
            row["file"] = None
            if body is not None and len(body) > _INLINE:
                if self._staging is None:
                    self._staging = self._files.stage()
                row["file"], row["body"] = self._staging.write(body), None
            self._db.insert(
                f"INSERT INTO chunks ({', '.join(_STORED)}) VALUES {{}}", [tuple(row[name] for name in _STORED)]
            )

    def finish(self) -> None:
        """Everything is there: what refers to chunks finds them."""
        self._db.executemany("UPDATE value_chunks SET chunk = ? WHERE chunk = ?", self._others)
        if self._staging is not None:
            self._staging.seal()

    def leave(self, *, kept: bool) -> None:
        """The database is a store's now, or else is not kept."""
        if self._staging is None:
            return
        if kept:
            self._staging.leave()
        else:
            self._staging.drop()
            self._files.remove_empty()


@contextmanager
def arriving(
    db: Connection, folder: Path, path: Folder, found: Sequence[Arrival]
) -> Generator[tuple[list[Arrival], Callable[[Future[Taken]], None]]]:
    """Records of another store, whose folder is given, with what their values consist of, in files of this one.

    Also what is to be called when they were taken over, whatever came of that. Until then this process holds the files.
    """
    parts = chunks.all_parts(db, [each.stored.row for each in found])
    theirs, staging = ChunkFiles(folder), None
    made, pieces = dict[str, str](), dict[int, dict[int, list[Piece]]]()
    try:
        for row, versions in parts.items():
            for version, several in versions.items():
                listed = pieces.setdefault(row, {}).setdefault(version, [])
                for part in several:
                    file = part.file
                    if file is not None and file not in made:
                        if staging is None:
                            staging = ChunkFiles(path).stage()
                        made[file] = staging.write(theirs.read(file))
                    own = None if file is None else made[file]
                    listed.append(Piece(part.start, *part[2:7], own, part.body))
        if staging is not None:
            staging.seal()
        yield (
            [each._replace(pieces=pieces.get(each.stored.row, {})) for each in found],
            lambda done: settle(staging, done, attrgetter("files")),
        )
    except BaseException:
        if staging is not None:
            staging.drop()
        raise
