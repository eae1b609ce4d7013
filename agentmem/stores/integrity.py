"""What must hold inside libSQL: records, embeddings and history agree, and so do the counts beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import TypeAlias

from agentmem.stores import accounting, archived, documents
from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.facts import is_intact
from agentmem.stores.records import COLUMNS, LIVE_ONLY, Records
from agentmem.stores.rows import Stored
from agentmem.stores.schema import ARCHIVED, ERASED, LIVE, STATE_AFTER
from agentmem.types.forms import OF_CONTENT, count_of

Window: TypeAlias = tuple[int, int]
"""Records with ``low < row <= high``."""

_EVENTS = 10_000
"""Events that are compared with the records by one statement."""
_NEAR, _WIDEST = 50, 2_000
"""Rows between two that are looked at together, and of what is looked at together."""
_DECISIVE = ", ".join(f"'{event}'" for event in STATE_AFTER)


def check_records(
    records: Records, size: int, counts: MutableMapping[str, int], windows: Iterable[Window] | None = None
) -> Iterator[str]:
    """Problems of records: each has an embedding of ``size`` bytes, and a history from ADD to its version and state.

    Adds what it sees to ``counts``: ``records``, ``archived``, ``embeddings`` and ``history``. With ``windows``, of the
    records with ``low < row <= high`` alone; of what belongs to no record, all the same.
    """
    db, table = records.db, records.embeddings
    for low, high in records.windows("1", ()) if windows is None else windows:
        with db.standing_still():
            found = list(_check_window(records, size, counts, low, high))
        yield from found
    orphans = db.execute(f"SELECT count(*) FROM {table} WHERE row NOT IN (SELECT row FROM records)")[0][0]
    if orphans:
        yield f"libsql: {orphans} embeddings belong to no record"
    orphans = db.execute(f"SELECT count(*) FROM more_{table} WHERE row NOT IN (SELECT row FROM records)")[0][0]
    if orphans:
        yield f"libsql: {orphans} embeddings belong to no record"
    yield from _check_parts(records)
    yield from _check_events(records)
    orphans = db.execute("SELECT count(*) FROM archived WHERE row NOT IN (SELECT row FROM records)")[0][0]
    if orphans:
        yield f"libsql: {orphans} records are noted to be in archives and do not exist"


def unsound(records: Records, size: int, windows: Iterable[Window] | None = None) -> list[Window]:
    """Windows of records, of these or of all, in which ``check_records`` has a problem."""
    return [
        (low, high)
        for low, high in (records.windows("1", ()) if windows is None else windows)
        if any(_check_window(records, size, Counter(), low, high))
    ]


def changed_since(records: Records, seq: int) -> list[Window]:
    """Windows that together have every record that anything happened to after an event, and not many others."""
    found = list[Window]()
    for row in sorted(records.changed_since(seq) - {0}):
        low, high = found[-1] if found else (row - 1, row)
        if row - high > _NEAR or row - low > _WIDEST:
            found.append((row - 1, row))
        else:
            found[-1:] = [(low, row)]
    return found


def _check_window(records: Records, size: int, counts: MutableMapping[str, int], low: int, high: int) -> Iterator[str]:
    found = records.db.execute(
        "SELECT r.id, r.state, r.version, r.vectors, length(e.vector), "
        "(SELECT event FROM history h WHERE h.row = r.row ORDER BY seq LIMIT 1), "
        "(SELECT max(version) FROM history h WHERE h.row = r.row), "
        "(SELECT count(*) FROM history h WHERE h.row = r.row), "
        f"(SELECT event FROM history h WHERE h.row = r.row AND event IN ({_DECISIVE}) ORDER BY seq DESC LIMIT 1), "
        "(SELECT i.row FROM records i WHERE i.id = r.id) = r.row, a.row IS NOT NULL "
        f"FROM records r LEFT JOIN {records.embeddings} e ON e.row = r.row LEFT JOIN archived a ON a.row = r.row "
        "WHERE r.row > ? AND r.row <= ?",
        (low, high),
    )
    for id, state, version, code, length, first, last, events, decisive, indexed, away in found:
        counts["records"] += state == LIVE
        counts["archived"] += away
        if (state == ARCHIVED) != (away and state in (LIVE, ARCHIVED)):
            yield f"record {id!r}: its state is {state}, and {'an' if away else 'no'} archive is noted for it"
        counts["embeddings"] += length is not None
        counts["history"] += events
        if length != (None if state == ERASED or away or not code else size):
            yield f"record {id!r}: its embedding has {length} bytes instead of {size}"
        if first != "ADD" or last != version:
            yield f"record {id!r}: at version {version}, but its history runs from {first} to {last}"
        if (LIVE if state == ARCHIVED else state) != STATE_AFTER.get(decisive, LIVE):
            yield f"record {id!r}: its state is {state} after {decisive}"
        if not indexed:
            yield f"record {id!r} is not found by its id"
    yield from _check_contents(records, low, high)
    yield from _check_several(records, size, counts, low, high)
    yield from _check_names(records, low, high)


def _check_contents(records: Records, low: int, high: int) -> Iterator[str]:
    """Records are what was stored, as far as their checksums tell."""
    sql = (
        f"SELECT {COLUMNS}, r.checksum FROM records r WHERE r.row > ? AND r.row <= ? AND r.state != {ERASED} "
        "ORDER BY r.row LIMIT ?"
    )
    while found := records.db.execute(sql, (low, high, CHUNK)):
        for *columns, noted in found:
            stored = Stored._make(columns)
            if not is_intact(stored, noted):
                yield f"record {stored.id!r}: its content, metadata or scope is not what was stored"
        if found_with_body := [stored for *columns, _ in found if (stored := Stored._make(columns)).body is not None]:
            yield from _check_bodies(records, found_with_body)
        low = found[-1][0]


def _check_bodies(records: Records, found: Sequence[Stored]) -> Iterator[str]:
    """The bodies that records have are there, as far as their size tells."""
    held, away = documents.sizes(records.db, found), archived.places(records.db, [stored.row for stored in found])
    for stored in found:
        if stored.row not in away and held.get(stored.row, 0) != stored.body_size:
            yield (
                f"record {stored.id!r}: its data of version {stored.body} has {held.get(stored.row, 0):,} bytes, not "
                f"{stored.body_size:,}"
            )


def _check_parts(records: Records) -> Iterator[str]:
    """Every part of a body is what was stored, and that of a record."""
    for row, version in documents.damaged(records.db):
        stored = next(records.find_rows([row]), None)
        if stored is not None:
            yield f"record {stored.id!r}: its data of version {version} is not what was stored"
    sql = f"SELECT count(*) FROM bodies WHERE row NOT IN (SELECT row FROM records WHERE state != {ERASED})"
    if orphans := records.db.execute(sql)[0][0]:
        yield f"libsql: {orphans} parts of data belong to no record"


def _check_several(records: Records, size: int, counts: MutableMapping[str, int], low: int, high: int) -> Iterator[str]:
    """A record has as many embeddings as it says, and the texts that they are of."""
    db, more = records.db, f"more_{records.embeddings}"
    sql = f"SELECT row, count(*), max(part), min(length(vector)), max(length(vector)) FROM {more} "
    held = {row: rest for row, *rest in db.execute(f"{sql} WHERE row > ? AND row <= ? GROUP BY row", (low, high))}
    sql = (
        "SELECT row, id, state, vectors, body FROM records WHERE row > ? AND row <= ? AND vectors NOT IN (1, -1) "
        "AND row NOT IN (SELECT row FROM archived)"
    )
    for row, id, state, code, body in db.execute(sql, (low, high)):
        expected = max(0, count_of(code) - 1)
        found = held.pop(row, [0, 0, size, size])
        counts["embeddings"] += found[0]
        if found != [expected, expected, size, size]:
            yield f"record {id!r}: {found[0]} further embeddings up to {found[1]}, not {expected} of {size} bytes"
        if code > OF_CONTENT and state != ERASED:
            texts = records.texts([(row, code, body)]).get(row, [])
            if len(texts) != count_of(code):
                yield f"record {id!r}: {len(texts)} texts were embedded, not {count_of(code)}"
    for row in held:
        yield f"record in row {row}: it has further embeddings, and should have one"


def _check_names(records: Records, low: int, high: int) -> Iterator[str]:
    """Whose a record is has a name; one that was erased has none itself."""
    nameless = " OR ".join(
        f"({name} != 0 AND {name} NOT IN (SELECT n FROM names))" for name in ("user", "agent", "run", "space")
    )
    sql = f"SELECT id FROM records WHERE row > ? AND row <= ? AND ({nameless})"
    for (id,) in records.db.execute(sql, (low, high)):
        yield f"record {id!r}: whose it is has no name"
    sql = f"SELECT row FROM records WHERE row > ? AND row <= ? AND state = {ERASED} AND typeof(id) != 'blob'"
    for (row,) in records.db.execute(sql, (low, high)):
        yield f"record in row {row}: it was erased and still has its id"


def _check_events(records: Records) -> Iterator[str]:
    """Every event is of a record, or of the store itself."""
    sql = (
        "SELECT count(*) FROM history WHERE seq > ? AND seq <= ? AND row != 0 AND row NOT IN (SELECT row FROM records)"
    )
    last = records.last_seq()
    orphans = sum(records.db.execute(sql, (low, low + _EVENTS))[0][0] for low in range(0, last, _EVENTS))
    if orphans:
        yield f"libsql: {orphans} events belong to no record"


def check_accounts(records: Records) -> list[str]:
    """The layers' running totals are what counting anew gives, and use is known of records that exist only."""
    with records.db.standing_still():
        differences = _differences(records)
        if orphans := accounting.used_by_nobody(records.db):
            differences.append(f"lifecycle: accesses of {orphans} records that do not exist")
    return differences


def _differences(records: Records) -> list[str]:
    noted = {layer: found[:2] for layer, found in accounting.sizes(records.db).items()}
    counts, sizes, lost = Counter(dict.fromkeys(noted, 0)), Counter[str](), list[str]()
    for low, high in records.windows(LIVE_ONLY, ()):
        for layer, (count, used) in accounting.counted_anew(records.db, low, high).items():
            counts[layer] += count
            sizes[layer] += used
        lost += accounting.unqueued(records.db, low, high)
    return [
        f"lifecycle: the layer {layer} is taken for {noted.get(layer)} (records, bytes) and has {(count, sizes[layer])}"
        for layer, count in counts.items()
        if noted.get(layer) != (count, sizes[layer])
    ] + [f"lifecycle: record {id!r} is in no queue" for id in lost]


def overwritten(known: Connection, fresh: Connection) -> str | None:
    """How the database differs from what a connection remembers of it, as a new one finds it; None if it does not.

    Only while nobody writes. It is seen where a file that was copied over the database has other counters, other newest
    rows, or another size, unless those are still in the log.
    """
    for sql in (
        "SELECT name, seq FROM sqlite_sequence ORDER BY name",
        "SELECT seq, row FROM history ORDER BY seq DESC LIMIT 1",
        "SELECT max(row) FROM records",
        "SELECT max(n) FROM names",
        "PRAGMA page_count",
    ):
        found, expected = fresh.execute(sql), known.execute(sql)
        if found != expected:
            return f"{sql} gives {found}, not {expected}"
    problems = fresh.execute("PRAGMA integrity_check(1)")
    return None if problems == [("ok",)] else f"{problems[0][0]}"
