"""A record's data in its body (see ``stores.bodies``): the parts from 0 on.

Part 0 is what filters look at: the data as JSON, or its beginning where that is more than ``SEEN``. Then, and where the
data has what SQLite's JSON does not, the data itself follows in chunks, parts 1 and up, each of which one statement
moves in a moment. Every part has a checksum.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Protocol

from agentmem.stores import bodies
from agentmem.stores.connection import CHUNK, Connection, Value
from agentmem.stores.rows import Stored
from agentmem.types.errors import NotFoundError, StoreCorruptError
from agentmem.types.forms import OF_CONTENT

SEEN = 65_536
"""Bytes of data that filters see."""
_CLOSERS = 300
"""Room for the brackets that end what was cut off: one for each level."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^"\[\]{},:]+')
_SPECIAL = {"NaN": "null", "Infinity": "1e999", "-Infinity": "-1e999"}
_ESCAPE = re.compile(r"\\u0000|\\.")
_NO_KEY = "\\ud800"
_NO_VALUE = f'"{_NO_KEY}"'
"""Of a text that is too long itself."""


class Held(Protocol):
    """What tells where the data of a record is; a ``Stored`` does."""

    @property
    def row(self) -> int: ...

    @property
    def body(self) -> int | None: ...

    @property
    def body_size(self) -> int: ...


def parts_of(text: str) -> dict[int, str]:
    """Data as it is stored."""
    view = seen(text)
    if view == text:
        return {0: text}
    chunks = (text[start : start + bodies.PIECE] for start in range(0, len(text), bodies.PIECE))
    return {0: view, **dict(enumerate(chunks, 1))}


def begin(
    db: Connection,
    stored: Stored,
    text: str,
    current: Stored | None,
    written: list[tuple[int, int, Mapping[int, str]]],
) -> Stored:
    """A record, as it is written anew, with data; notes what its body brings, unless it is ``current``'s."""
    parts = parts_of(text)
    if current is not None and not (stored.has_texts or current.has_texts) and is_same(db, current, parts):
        return stored._replace(body=current.body, body_size=current.body_size)
    written.append((stored.row, stored.version, parts))
    return stored._replace(body=stored.version, body_size=stored.body_size + bodies.size(parts))


def change(db: Connection, current: Stored, changed: dict[str, Value], text: str | None) -> None:
    """Give a record other data, or none, at its next version.

    ``changed`` are the columns that change with it, after its texts were seen to; those that follow are put there.
    """
    row, version, body = current.row, current.version + 1, changed.get("body", current.body)
    if text is None and (body is None or not bodies.has_data(db, row, int(body))):
        return
    if text is not None and is_same(db, current, parts_of(text)):
        return
    if body == version:
        db.execute("DELETE FROM bodies WHERE row = ? AND version = ? AND part >= 0", (row, version))
    elif body is not None and int(changed.get("vectors") or current.vectors) > OF_CONTENT:
        bodies.carry(db, row, int(body), version, texts=True)
    if text is not None:
        bodies.write(db, [(row, version, parts_of(text))])
        if current.fingerprint is not None:
            changed["fingerprint"] = None  # facts with data are never the same
    size = versions(db, row).get(version, 0)
    changed.update(body=version if size else None, body_size=size)


def at(db: Connection, current: Stored, version: int) -> str | None:
    """The data that a body of a record has; None if it has none. Raises ``NotFoundError`` if it is kept no more."""
    kept = versions(db, current.row)
    if version not in kept:
        raise NotFoundError(
            f"record {current.id!r} has its data of version {version} no more: that of the last {bodies.KEPT} versions "
            f"which brought any is kept, here of {', '.join(map(str, kept)) or 'none'}"
        )
    return read(db, [current._replace(body=version, body_size=kept[version])]).get(current.row)


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


def is_same(db: Connection, stored: Stored, parts: Mapping[int, str]) -> bool:
    """Whether a record has this data already."""
    if stored.body is None or (not stored.has_texts and stored.body_size != bodies.size(parts)):
        return False
    sql = "SELECT part, checksum FROM bodies WHERE row = ? AND version = ? AND part >= 0"
    found = dict(db.execute(sql, (stored.row, stored.body)))
    return found == {part: bodies.checksum(stored.row, part, text) for part, text in parts.items()}


def read(db: Connection, found: Iterable[Held], away: set[int] | None = None) -> dict[int, str]:
    """The data of records, by row; what is not there is left out.

    So are, with ``away``, records that have gone to an archive since they were found, and their rows are put there: of
    their data what filters look at is still here, and may not be taken for all of it.
    """
    texts = dict[int, str]()
    wanted = {stored.row: stored for stored in found if stored.body is not None}
    small = [stored for stored in wanted.values() if stored.body_size <= SEEN]
    for group in bodies.groups([(stored.row, stored.body, stored.body_size) for stored in small], lambda one: one[2]):
        sql = (
            f"WITH wanted (row, version) AS (VALUES {','.join(['(?,?)'] * len(group))}) "
            "SELECT b.row, b.part, b.body, EXISTS (SELECT 1 FROM archived a WHERE a.row = b.row) "
            "FROM wanted w CROSS JOIN bodies b "
            "ON b.row = w.row AND b.version = w.version WHERE b.part >= 0 ORDER BY b.row, b.part"
        )
        rows = db.execute(sql, tuple(value for one in group for value in one[:2]))
        if away is not None:
            away.update(row for row, _, _, gone in rows if gone)
        for row, parts in groupby(rows, lambda each: each[0]):
            texts[row] = _joined([(part, text) for _, part, text, _ in parts])
    large = [stored for stored in wanted.values() if stored.body_size > SEEN]
    for stored in large:
        if (text := _read_large(db, stored)) is not None:
            texts[stored.row] = text
    if away is not None:
        if large:  # read by several statements, between which they may have gone
            sql = "SELECT row FROM archived WHERE row IN ({})"
            away.update(row for (row,) in db.select_in(sql, [stored.row for stored in large]))
        for row in away:
            texts.pop(row, None)
    return texts


def _read_large(db: Connection, stored: Held) -> str | None:
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


def joined(parts: Sequence[tuple[int, str]]) -> str | None:
    """Data from all of its parts, in whatever order; None where there are none."""
    return _joined(sorted(parts)) if parts else None


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
        for group in bodies.groups(keys, lambda key: key[3]):
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
    """A part as it was stored; None if it is not that."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if noted == bodies.checksum(row, part, text) else None
