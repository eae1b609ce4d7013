"""The bytes of values: chunks, each stored once in a namespace of a user, and what refers to them.

A value is a record by key whose data say what it is (its *description*); its bytes are chunks, in the order of where
they begin. What refers to them stands in ``value_chunks`` under the version that brought the description, and goes with
that body: so history, restoring, erasing and backups of values are those of records. Equal chunks are shared inside of
what keys share, a user's namespace, and nowhere else: nobody can tell from times or sizes what another has. Long ones
have parts that are read by themselves (``stores.chunkframes``).

Small chunks are in the table, others in files that are there, on the disk, before their rows are committed
(``stores.chunkfiles``). A chunk that nothing refers to any more is *loose*; whether it is, is looked at in the
transaction that removes it, and whoever refers to one looks in his own. Its file is noted in ``loose_files`` until it
is gone.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agentmem.stores.bodies import groups
from agentmem.stores.chunkframes import CODECS, is_whole
from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.schema import LIVE

MARK = "$value"
"""In a record's data: what is below it describes a value."""
_COLUMNS = "user, space, hash, size, codec, stored, checksum, file, body"
_ALL = 1_000_000


class Piece(NamedTuple):
    """A chunk as it is to be stored: where it begins in its value, and what it is."""

    start: int
    hash: bytes
    size: int
    codec: str
    stored: int
    checksum: bytes
    file: str | None
    body: bytes | None
    instead_of: str | None = None
    """A file that has this chunk and is damaged: it is replaced."""


class Part(NamedTuple):
    """A chunk as it is stored; ``body`` where it is in the database."""

    start: int
    n: int
    hash: bytes
    size: int
    codec: str
    stored: int
    checksum: bytes
    file: str | None
    body: bytes | None


class Repacked(NamedTuple):
    """A chunk as it was, and what another codec made of it."""

    was: Part
    codec: str
    stored: int
    checksum: bytes
    file: str | None
    body: bytes | None


_BODY = "CAST(body AS BLOB) AS body"
"""A flipped bit of a row can have SQLite take bytes for text, which need not be any."""
_CHUNK = f"0, n, hash, size, codec, stored, checksum, file, {_BODY}"
"""Those of a ``Part`` without where it begins, of ``chunks`` alone."""
PART = "v.start, c.n, c.hash, c.size, c.codec, c.stored, c.checksum, c.file, CAST(c.body AS BLOB)"
"""The columns of a ``Part``."""


def known_file(db: Connection, user: int, space: int, hash: bytes) -> Part | None:
    """The chunk with this content in a user's namespace, if it is in a file."""
    sql = (
        "SELECT 0, n, hash, size, codec, stored, checksum, file, NULL FROM chunks "
        "WHERE user = ? AND space = ? AND hash = ? AND file IS NOT NULL"
    )
    found = db.execute(sql, (user, space, hash))
    return Part._make(found[0]) if found else None


def parts(db: Connection, row: int, version: int, start: int = 0, end: int | None = None) -> list[Part]:
    """The chunks of a value's version that have any of its bytes from ``start`` to ``end``, in their order.

    What is in the database is read with them.
    """
    within = "" if end is None else " AND v.start < ?"
    bound = (row, version, start) if end is None else (row, version, start, end)
    sql = (
        f"SELECT {PART} FROM value_chunks v JOIN chunks c ON c.n = v.chunk "
        f"WHERE v.row = ? AND v.version = ? AND v.start + c.size > ?{within} ORDER BY v.start"
    )
    return [Part._make(found) for found in db.execute(sql, bound)]


class Brought(NamedTuple):
    """The chunks of a version of a record, and the numbers of its user and namespace."""

    user: int
    space: int
    row: int
    version: int
    pieces: Sequence[Piece]


def refer(db: Connection, brought: Iterable[Brought]) -> set[str]:
    """Have versions of records consist of chunks.

    Chunks that are there already are shared. Returns the files of those that were not, which are the store's now.
    """
    by_place = dict[tuple[int, int], list[tuple[int, int, Piece]]]()
    for one in brought:
        listed = by_place.setdefault((one.user, one.space), [])
        listed += ((one.row, one.version, piece) for piece in one.pieces)
    used = set[str]()
    for (user, space), listed in by_place.items():
        wanted = {piece.hash: piece for _, _, piece in listed}
        numbers, replaced = _there(db, user, space, wanted)
        new = {hash: piece for hash, piece in wanted.items() if hash not in numbers}
        rows = [(user, space, *piece[1:-1]) for piece in new.values()]
        for group in groups(rows, lambda row: 200 if row[-1] is None else 200 + len(row[-1])):
            db.insert(f"INSERT INTO chunks ({_COLUMNS}) VALUES {{}}", group)
        used.update(piece.file for piece in new.values() if piece.file is not None)
        numbers |= _there(db, user, space, new)[0]
        db.executemany(
            "UPDATE value_chunks SET chunk = ? WHERE chunk = ?", [(numbers[hash], n) for hash, n in replaced.items()]
        )
        db.insert(
            "INSERT OR REPLACE INTO value_chunks (row, version, start, chunk) VALUES {}",
            [(row, version, piece.start, numbers[piece.hash]) for row, version, piece in listed],
        )
    return used


def _there(
    db: Connection, user: int, space: int, wanted: Mapping[bytes, Piece]
) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """The numbers of the chunks that are there, and of those that were, damaged, and are removed now."""
    found, removed, hashes = dict[bytes, int](), dict[bytes, int](), list(wanted)
    told = f"hash, n, size, codec, checksum, file, {_BODY}"
    sql = f"SELECT {told} FROM chunks WHERE user = ? AND space = ? AND hash IN ({{}})"
    for start in range(0, len(hashes), CHUNK):
        chunk = hashes[start : start + CHUNK]
        rows = db.execute(sql.format(",".join("?" * len(chunk))), (user, space, *chunk))
        for hash, n, size, codec, checksum, file, body in rows:
            if file is not None:
                damaged = wanted[hash].instead_of == file
            else:
                fits = size == wanted[hash].size and codec in CODECS
                damaged = not fits or body is None or not is_whole(codec, size, checksum, body)
            (removed if damaged else found)[hash] = n
            if damaged:
                db.execute("DELETE FROM chunks WHERE n = ?", (n,))
                if file is not None:
                    db.execute("INSERT OR IGNORE INTO loose_files VALUES (?)", (file,))
    return found, removed


def carry(db: Connection, row: int, before: int, version: int) -> None:
    """Have a version of a record consist of the chunks of another one, whose description it has."""
    db.execute(
        "INSERT OR REPLACE INTO value_chunks (row, version, start, chunk) "
        "SELECT row, ?, start, chunk FROM value_chunks WHERE row = ? AND version = ?",
        (version, row, before),
    )


def drop(db: Connection, row: int, version: int) -> None:
    """Have a version of a record consist of no chunks."""
    db.execute("DELETE FROM value_chunks WHERE row = ? AND version = ?", (row, version))


def collect(db: Connection, most: int = _ALL) -> int:
    """Remove loose chunks that nothing refers to; how many were looked at. Their files are loose then."""
    count = 0
    while count < most:
        loose = [n for (n,) in db.execute("SELECT chunk FROM loose_chunks LIMIT ?", (min(CHUNK, most - count),))]
        if not loose:
            break
        unused = "n IN ({}) AND NOT EXISTS (SELECT 1 FROM value_chunks v WHERE v.chunk = n)"
        db.execute_in(
            f"INSERT OR IGNORE INTO loose_files SELECT file FROM chunks WHERE file IS NOT NULL AND {unused}", loose
        )
        db.execute_in(f"DELETE FROM chunks WHERE {unused}", loose)
        db.execute_in("DELETE FROM loose_chunks WHERE chunk IN ({})", loose)
        count += len(loose)
    return count


def loose_files(db: Connection, most: int = CHUNK) -> list[str]:
    """Files that are to be removed."""
    return [name for (name,) in db.execute("SELECT file FROM loose_files LIMIT ?", (most,))]


def forget_files(db: Connection, names: Sequence[str]) -> None:
    """Note that these are gone."""
    db.execute_in("DELETE FROM loose_files WHERE file IN ({})", names)


def files_of(db: Connection, folder: str) -> set[str]:
    """The files in a folder that chunks are in."""
    found = db.execute("SELECT file FROM chunks WHERE file >= ? AND file < ?", (f"{folder}/", f"{folder}0"))
    return {name for (name,) in found}


def is_used(db: Connection) -> bool:
    """Whether there are any chunks."""
    return bool(db.execute("SELECT 1 FROM chunks LIMIT 1"))


def every(db: Connection) -> Iterator[Part]:
    """All chunks, without where they begin, a few at a time."""
    after, sql = 0, f"SELECT {_CHUNK} FROM chunks WHERE n > ? ORDER BY n LIMIT 20"
    while found := db.execute(sql, (after,)):
        yield from map(Part._make, found)
        after = found[-1][1]


def all_parts(db: Connection, rows: Iterable[int]) -> dict[int, dict[int, list[Part]]]:
    """The chunks of every version of some values, by row and version."""
    found = dict[int, dict[int, list[Part]]]()
    sql = (
        f"SELECT v.row, v.version, {PART} FROM value_chunks v JOIN chunks c ON c.n = v.chunk WHERE v.row IN ({{}}) "
        "ORDER BY v.row, v.version, v.start"
    )
    for row, version, *part in db.select_in(sql, rows, chunk=20):
        found.setdefault(row, {}).setdefault(version, []).append(Part._make(part))
    return found


def references(db: Connection, row: int) -> list[tuple[int, int, int, int]]:
    """What the versions of a record consist of: ``(version, start, chunk, size)``, in order."""
    sql = (
        "SELECT v.version, v.start, v.chunk, c.size FROM value_chunks v JOIN chunks c ON c.n = v.chunk WHERE v.row = ? "
        "ORDER BY v.version, v.start"
    )
    return [(version, start, n, size) for version, start, n, size in db.execute(sql, (row,))]


def numbered(db: Connection, n: int) -> Part | None:
    """The chunk of this number, if there still is one."""
    found = db.execute(f"SELECT {_CHUNK} FROM chunks WHERE n = ?", (n,))
    return Part._make(found[0]) if found else None


def users_of(db: Connection, n: int) -> list[tuple[str, int]]:
    """The records, by id, that refer to a chunk, and from which byte on."""
    sql = (
        "SELECT DISTINCT r.id, v.start FROM value_chunks v JOIN records r ON r.row = v.row WHERE v.chunk = ? "
        "ORDER BY r.row LIMIT 20"
    )
    return [(str(id), start) for id, start in db.execute(sql, (n,))]


def repack(db: Connection, made: Repacked) -> bool:
    """Have a chunk be packed otherwise; False if it is not what it was. Its content is the same, and so is its number:
    a backup that has it goes on being whole."""
    was = made.was
    changed = db.execute(
        "UPDATE chunks SET codec = ?, stored = ?, checksum = ?, file = ?, body = ? WHERE n = ? AND checksum = ? "
        "AND file IS ? RETURNING n",
        (made.codec, made.stored, made.checksum, made.file, made.body, was.n, was.checksum, was.file),
    )
    if changed and was.file is not None:
        db.execute("INSERT OR IGNORE INTO loose_files VALUES (?)", (was.file,))
    return bool(changed)


def values_and_bytes(db: Connection) -> tuple[int, int]:
    """How many live records have chunks here, and the bytes that all chunks take, those of former versions too."""
    [(count,)] = db.execute(
        f"SELECT count(DISTINCT v.row) FROM value_chunks v CROSS JOIN records r ON r.row = v.row WHERE r.state = {LIVE}"
    )
    return int(count), usage(db)[2]


def usage(db: Connection) -> tuple[int, int, int]:
    """How many chunks there are, the bytes of their contents, and the bytes that they take."""
    [(count, size, stored)] = db.execute(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(stored), 0) FROM chunks"
    )
    return count, size, stored
