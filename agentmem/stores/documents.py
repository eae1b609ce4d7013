"""A record's data in its body (see ``stores.bodies``): the parts from 0 on.

Part 0 is what filters look at: the data as JSON, or its beginning where that is more than ``SEEN``. Then, and where the
data has what SQLite's JSON does not, the data itself follows in chunks, parts 1 and up, each of which one statement
moves in a moment. Every part has a checksum.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import NamedTuple, TypeVar

from agentmem.stores import bodies
from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.rows import Stored
from agentmem.types.errors import StoreCorruptError

T = TypeVar("T")
SEEN = 65_536
"""Bytes of data that filters see."""
PART = 262_144
"""Bytes in a chunk, and about how many a statement moves: libSQL lets no other thread run meanwhile."""
_CLOSERS = 300
"""Room for the brackets that end what was cut off: one for each level."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^"\[\]{},:]+')
_SPECIAL = {"NaN": "null", "Infinity": "1e999", "-Infinity": "-1e999"}
_ESCAPE = re.compile(r"\\u0000|\\.")
_NO_KEY = "\\ud800"
_NO_VALUE = f'"{_NO_KEY}"'
"""Of a text that is too long itself."""

_INSERT = "INSERT INTO bodies (row, version, part, body, checksum) VALUES {}"


class Part(NamedTuple):
    """A piece of a body."""

    number: int
    text: str


def parts_of(text: str) -> list[Part]:
    """Data as it is stored."""
    view = seen(text)
    if view == text:
        return [Part(0, text)]
    chunks = (text[start : start + PART] for start in range(0, len(text), PART))
    return [Part(0, view), *(Part(number, chunk) for number, chunk in enumerate(chunks, 1))]


def with_data(stored: Stored, text: str) -> tuple[Stored, list[Part]]:
    """A record that brings data at its version, and what is to be stored of that.

    Without content nothing is embedded.
    """
    parts = parts_of(text)
    vectors = stored.vectors if stored.content else 0
    return stored._replace(body=stored.version, body_size=stored.body_size + size_of(parts), vectors=vectors), parts


def has_texts(stored: Stored) -> bool:
    """Whether the body has other texts than data, so that there need not be any data."""
    return stored.vectors > 1


def seen(text: str) -> str:
    """What filters look at, as JSON that SQLite reads: what lies within the first ``SEEN`` bytes of the data.

    ``NaN`` is null there. A key with a NUL, which SQLite would take for the part before it, is one that no filter has.
    """
    plain = len(text) <= SEEN and "NaN" not in text and "Infinity" not in text and "\\u0000" not in text
    return text if plain else _cut(text, SEEN - _CLOSERS if len(text) > SEEN else SEEN)


def _cut(text: str, most: int) -> str:
    """The values that end before ``most`` characters; brackets close what is open there."""
    made, closers, whole, at = list[str](), list[str](), 0, 0
    for token in _TOKEN.finditer(text, 0, min(most, len(text))):
        if token.start() != at:
            break  # within a text
        at = token.end()
        piece, follower = _SPECIAL.get(token[0], token[0]), text[at : at + 1]
        if piece in ("{", "["):
            closers.append("}" if piece == "{" else "]")
        elif piece in ("}", "]"):
            closers.pop()
        elif follower == ":" and "\\u0000" in piece:
            piece = _ESCAPE.sub(lambda found: _NO_KEY if found[0] == "\\u0000" else found[0], piece)
        made.append(piece)
        # A value ends where another may follow; of a number only its follower tells.
        if piece in ("{", "[", "}", "]") or (piece not in (",", ":") and follower in (",", "}", "]", "")):
            whole = len(made)
    return "".join(made[:whole]) + "".join(reversed(closers)) or _NO_VALUE


def checksum(row: int, part: int, text: str) -> bytes:
    """Of one part of a record (128 bits). Equal data of it has equal checksums, whatever the version."""
    return blake2b(f"{row} {part} {text}".encode(), digest_size=16).digest()


def size_of(parts: Iterable[Part]) -> int:
    """Bytes of all parts."""
    return sum(len(part.text) for part in parts)


def write(db: Connection, new: Sequence[tuple[int, int, Sequence[Part]]]) -> None:
    """Store the parts of rows at versions, and let go of what is too old."""
    pieces = [
        (row, version, part.number, part.text, checksum(row, part.number, part.text))
        for row, version, parts in new
        for part in parts
    ]
    for group in _groups(pieces, lambda piece: len(piece[3])):
        db.insert(_INSERT, group)
    bodies.prune(db, [(row, version) for row, version, _ in new])


def is_same(db: Connection, stored: Stored, parts: Sequence[Part]) -> bool:
    """Whether a record has this data already."""
    if stored.body is None or (not has_texts(stored) and stored.body_size != size_of(parts)):
        return False
    sql = "SELECT part, checksum FROM bodies WHERE row = ? AND version = ? AND part >= 0"
    found = dict(db.execute(sql, (stored.row, stored.body)))
    return found == {part.number: checksum(stored.row, *part) for part in parts}


def read(db: Connection, found: Iterable[Stored]) -> dict[int, str]:
    """The data of records, by row; what is not there is left out."""
    texts = dict[int, str]()
    wanted = {stored.row: stored for stored in found if stored.body is not None}
    small = [stored for stored in wanted.values() if stored.body_size <= SEEN]
    for group in _groups([(stored.row, stored.body, stored.body_size) for stored in small], lambda one: one[2]):
        sql = (
            f"WITH wanted (row, version) AS (VALUES {','.join(['(?,?)'] * len(group))}) "
            "SELECT b.row, b.part, b.body FROM wanted w CROSS JOIN bodies b "
            "ON b.row = w.row AND b.version = w.version WHERE b.part >= 0 ORDER BY b.row, b.part"
        )
        rows = db.execute(sql, tuple(value for one in group for value in one[:2]))
        for row, parts in groupby(rows, lambda each: each[0]):
            texts[row] = _joined([(part, text) for _, part, text in parts])
    for stored in wanted.values():
        if stored.body_size > SEEN and (text := _read_large(db, stored)) is not None:
            texts[stored.row] = text
    return texts


def _read_large(db: Connection, stored: Stored) -> str | None:
    numbers = db.execute(
        "SELECT part FROM bodies WHERE row = ? AND version = ? AND part >= 0 ORDER BY part", (stored.row, stored.body)
    )
    parts = list[tuple[int, str]]()
    for (number,) in numbers if len(numbers) < 2 else numbers[1:]:
        sql = "SELECT body FROM bodies WHERE row = ? AND version = ? AND part = ?"
        rows = db.execute(sql, (stored.row, stored.body, number))
        if not rows:
            return None
        parts.append((number, rows[0][0]))
    return _joined(parts) if parts else None


def _joined(parts: Sequence[tuple[int, str]]) -> str:
    """Data from its parts in their order; part 0 is all of it where nothing follows."""
    whole = parts if len(parts) == 1 else [one for one in parts if one[0]]
    return "".join(text for _, text in whole)


def missing(stored: Stored) -> StoreCorruptError:
    """The error for a record whose data is not there."""
    return StoreCorruptError(
        f"the data of record {stored.id!r} cannot be read; reads with data=False have the rest of it, and "
        "repair(salvage=True) lets go of the data"
    )


def versions(db: Connection, row: int) -> dict[int, int]:
    """Versions of a record whose data is there, with its bytes."""
    return dict(
        db.execute("SELECT version, sum(octet_length(body)) FROM bodies WHERE row = ? GROUP BY version", (row,))
    )


def sizes(db: Connection, found: Iterable[Stored]) -> dict[int, int]:
    """Bytes of the bodies that are there, by row."""
    wanted = [(stored.row, stored.body) for stored in found if stored.body is not None]
    held = dict[int, int]()
    for start in range(0, len(wanted), CHUNK):
        group = wanted[start : start + CHUNK]
        sql = (
            f"WITH wanted (row, version) AS (VALUES {','.join(['(?,?)'] * len(group))}) "
            "SELECT b.row, sum(octet_length(b.body)) FROM wanted w CROSS JOIN bodies b "
            "ON b.row = w.row AND b.version = w.version GROUP BY b.row"
        )
        held.update(db.execute(sql, tuple(value for one in group for value in one)))
    return held


def damaged(db: Connection) -> Iterator[tuple[int, int]]:
    """Rows and versions with a part that is not what was stored."""
    after: tuple[int, int, int] = (0, 0, 0)
    while True:
        keys = db.execute(
            "SELECT row, version, part, octet_length(body) FROM bodies WHERE (row, version, part) > (?,?,?) "
            "ORDER BY row, version, part LIMIT 500",
            after,
        )
        for group in _groups(keys, lambda key: key[3]):
            sql = (
                f"WITH wanted (row, version, part) AS (VALUES {','.join(['(?,?,?)'] * len(group))}) "
                "SELECT b.row, b.version, b.part, CAST(b.body AS BLOB), b.checksum FROM wanted w CROSS JOIN bodies b "
                "ON b.row = w.row AND b.version = w.version AND b.part = w.part"
            )
            for row, version, part, body, noted in db.execute(sql, tuple(value for key in group for value in key[:3])):
                if text_of(row, part, body, noted) is None:
                    yield row, version
        if len(keys) < 500:
            return
        after = keys[-1][0], keys[-1][1], keys[-1][2]


def text_of(row: int, part: int, body: bytes, noted: bytes | None) -> str | None:
    """A part as it was stored; None if it is not that. Parts that are no data may have no checksum."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    intact = noted == checksum(row, part, text) or (noted is None and part < 0)
    return text if intact else None


def _groups(rows: Sequence[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The rows in groups that one statement moves in a moment."""
    group, used = list[T](), 0
    for row in rows:
        if group and (used + size(row) > PART or len(group) == CHUNK):
            yield group
            group, used = [], 0
        group.append(row)
        used += size(row)
    if group:
        yield group
