"""What is counted beside the records: their use, the layers' sizes, and the queues of what is due.

Nothing else changes the tables ``accesses``, ``layers`` and ``due`` of an open store. An add touches none of them: new
records are counted and queued in the background (``settle``), and until then what asks counts them on the way.
Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentmem.stores import meta
from agentmem.stores.connection import Connection, Row
from agentmem.stores.rows import Place
from agentmem.stores.schema import LIVE
from agentmem.types.clock import Micros

SETTLE = 500
"""New records that are counted and queued in one transaction: about 3 ms."""
START: Place = (-(2**53), 0)
"""Before the first entry of a walk."""

_SIZE = "octet_length(content) + coalesce(octet_length(metadata), 0) + body_size"
_BYTES = f"coalesce(sum({_SIZE}), 0)"
"""Also where damage has left something else in the columns."""
_SETTLED = f"(SELECT value FROM meta WHERE key = '{meta.SETTLED}')"
_BEGUN = "coalesce(aged_from, created_at)"
_USE = (
    "INSERT INTO accesses (row, times, first_at, last_at, value, weight, touched) "
    "SELECT r.row, u.column2, u.column3, u.column4, u.column5, u.column6, r.layer != 'assets' "
    f"FROM (VALUES {{}}) AS u CROSS JOIN records r ON r.row = u.column1 WHERE r.state = {LIVE} "
    "ON CONFLICT (row) DO UPDATE SET times = times + excluded.times, "
    "first_at = coalesce(min(first_at, excluded.first_at), first_at, excluded.first_at), "
    "last_at = coalesce(max(last_at, excluded.last_at), last_at, excluded.last_at), "
    "value = value + excluded.value, weight = weight + excluded.weight, touched = excluded.touched"
)


# -- use ---------------------------------------------------------------------------------------------------------------


def note_accesses(db: Connection, found: Sequence[Row]) -> None:
    """Add to what is known of the use of live records: ``(row, times, first_at, last_at, value, weight)``.

    Those that may be promoted are marked, so that the next sweep looks at them and at no others.
    """
    db.insert(_USE, found)


def touch(db: Connection, rows: Iterable[int]) -> None:
    """Have the next sweep see whether these records are to be promoted."""
    note_accesses(db, [(row, 0, None, None, 0.0, 0.0) for row in rows])


def touch_all(db: Connection, after: int, most: int) -> int | None:
    """Have the next sweep look at the next records that were ever used; returns how far this came, None at the end."""
    rows = [row[0] for row in db.execute("SELECT row FROM accesses WHERE row > ? ORDER BY row LIMIT ?", (after, most))]
    touch(db, rows)
    return rows[-1] if rows else None


def touched(db: Connection, after: int, most: int) -> list[int]:
    """The next rows that were used since a sweep last looked at them."""
    sql = "SELECT row FROM accesses WHERE touched = 1 AND row > ? ORDER BY row LIMIT ?"
    return [row[0] for row in db.execute(sql, (after, most))]


def seen(db: Connection, rows: Iterable[int]) -> None:
    """These need not be looked at again until they are used again."""
    db.executemany("UPDATE accesses SET touched = 0 WHERE row = ?", [(row,) for row in rows])


def forget_use(db: Connection, rows: Iterable[int]) -> None:
    """Remove what is known of these records' use, and where they were placed because of it."""
    gone = [(row,) for row in rows]
    for table in ("accesses", "placements"):
        db.executemany(f"DELETE FROM {table} WHERE row = ?", gone)


# -- the queues --------------------------------------------------------------------------------------------------------


def queue(db: Connection, rows: Iterable[int]) -> None:
    """Have sweeps find these records when their time in their layer is over."""
    sql = f"INSERT OR IGNORE INTO due SELECT layer, {_BEGUN}, row FROM records WHERE row = ? AND state = {LIVE} "
    db.executemany(sql + "AND pinned = 0", [(row,) for row in rows])


def unqueue(db: Connection, layer: str, places: Iterable[Place]) -> None:
    """Take entries out of a layer's queue: these records have gone, have moved, or have another entry."""
    sql = "DELETE FROM due WHERE layer = ? AND at = ? AND row = ?"
    db.executemany(sql, [(layer, *place) for place in places])


def aged(db: Connection, layer: str, until: Micros, after: Place, most: int) -> list[Place]:
    """The next entries of a layer's queue whose time began at ``until`` or before; some may be out of date."""
    return walk(db, "due", "at", "layer = ?", params=(layer,), until=until, after=after, most=most)


def walk(
    db: Connection,
    table: str,
    time: str,
    where: str,
    *,
    params: tuple[str, ...] = (),
    until: Micros,
    after: Place,
    most: int,
) -> list[Place]:
    """The next ``(time, row)`` of a table in the order of an index that begins with the column ``time``."""
    sql = (
        f"SELECT {time}, row FROM {table} WHERE {where} AND {time} >= ? AND {time} <= ? "
        f"AND ({time} > ? OR row > ?) ORDER BY {time}, row LIMIT ?"
    )
    return [(row[0], row[1]) for row in db.execute(sql, (*params, after[0], until, *after, most))]


# -- sizes -------------------------------------------------------------------------------------------------------------


def sizes(db: Connection) -> dict[str, tuple[int, int, str]]:
    """Of each layer the live records, the bytes of their text and metadata, and the pressure that was last noted.

    What is counted, and in the same statement what is not counted yet.
    """
    found = db.execute(
        f"WITH t AS (SELECT layer, count(*) AS count, {_BYTES} AS size FROM records "
        f"WHERE state = {LIVE} AND row > {_SETTLED} GROUP BY layer) "
        "SELECT l.layer, l.records + coalesce(t.count, 0), l.bytes + coalesce(t.size, 0), l.pressure "
        "FROM layers l LEFT JOIN t ON t.layer = l.layer LIMIT 10"
    )
    return {layer: (records, used, level) for layer, records, used, level in found}


def resize(db: Connection, changes: Iterable[tuple[int, str, int, int]]) -> None:
    """Count ``(row, layer, records, bytes)`` more, or less, where that row is counted already."""
    settled = int(meta.get(db, meta.SETTLED) or 0)
    growth: dict[str, tuple[int, int]] = {}
    for row, layer, count, size in changes:
        if row <= settled:
            before = growth.get(layer, (0, 0))
            growth[layer] = (before[0] + count, before[1] + size)
    sql = "UPDATE layers SET records = records + ?, bytes = bytes + ? WHERE layer = ?"
    db.executemany(sql, [(count, size, layer) for layer, (count, size) in growth.items() if count or size])


def noted_pressure(db: Connection) -> list[tuple[str, str]]:
    """Of each layer the pressure that was last noted."""
    return [(layer, level) for layer, level in db.execute("SELECT layer, pressure FROM layers")]


def note_pressure(db: Connection, layer: str, level: str) -> None:
    db.execute("UPDATE layers SET pressure = ? WHERE layer = ?", (level, layer))


def settle(db: Connection, last: int, most: int) -> bool:
    """Count and queue the next new records, up to the row ``last``; False if those were all."""
    low = int(meta.get(db, meta.SETTLED) or 0)
    high = min(low + most, last)
    new = f"state = {LIVE} AND row > ? AND row <= ?"
    db.execute(
        f"INSERT OR IGNORE INTO due SELECT layer, {_BEGUN}, row FROM records WHERE {new} AND pinned = 0", (low, high)
    )
    db.execute(
        "UPDATE layers SET records = records + t.count, bytes = bytes + t.size FROM (SELECT layer, count(*) AS count, "
        f"{_BYTES} AS size FROM records WHERE {new} GROUP BY layer) AS t WHERE t.layer = layers.layer",
        (low, high),
    )
    meta.put(db, meta.SETTLED, high)
    return high < last


def settled(db: Connection) -> int:
    """The row up to which records are counted and queued."""
    return int(meta.get(db, meta.SETTLED) or 0)


# -- checking and mending ----------------------------------------------------------------------------------------------


def recount(db: Connection) -> None:
    """Count the layers' records and bytes anew, and make their queues anew."""
    counted = f"state = {LIVE} AND row <= {_SETTLED}"
    db.execute("DELETE FROM due")
    db.execute(f"INSERT OR IGNORE INTO due SELECT layer, {_BEGUN}, row FROM records WHERE {counted} AND pinned = 0")
    db.execute(
        f"UPDATE layers SET (records, bytes) = (SELECT count(*), {_BYTES} "
        f"FROM records WHERE {counted} AND records.layer = layers.layer)"
    )
    db.execute("DELETE FROM accesses WHERE row NOT IN (SELECT row FROM records)")


def counted_anew(db: Connection, low: int, high: int) -> dict[str, tuple[int, int]]:
    """Live records with ``low < row <= high`` and their bytes, by layer."""
    sql = f"SELECT layer, count(*), {_BYTES} FROM records WHERE row > ? AND row <= ? AND state = {LIVE} "
    return {layer: (records, used) for layer, records, used in db.execute(sql + "GROUP BY layer", (low, high))}


def unqueued(db: Connection, low: int, high: int) -> list[str]:
    """Ids of records in ``low < row <= high`` that sweeps would not find when their time is over."""
    sql = (
        f"SELECT id FROM records r WHERE row > ? AND row <= ? AND state = {LIVE} AND pinned = 0 "
        f"AND row <= {_SETTLED} AND NOT EXISTS (SELECT 1 FROM due d "
        "WHERE d.layer = r.layer AND d.at = coalesce(r.aged_from, r.created_at) AND d.row = r.row)"
    )
    return [row[0] for row in db.execute(sql, (low, high))]


def used_by_nobody(db: Connection) -> int:
    """How many entries of use belong to no record."""
    return db.execute("SELECT count(*) FROM accesses WHERE row NOT IN (SELECT row FROM records)")[0][0]
