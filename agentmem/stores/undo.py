"""A database as it was at an earlier event of its own history: what happened since is taken back, newest first.

For a copy of a store that nobody uses yet. What was erased stays erased: such records go altogether. What no event
tells is left as it is: how often records were used, and the time of a layer that began anew with a repetition.

What lies in an archive stays there, whenever it went: taken back is what its row says. Only where an event since has
replaced its text, that text makes it whole here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agentmem.stores import archived, bodies, documents, embeddings, past
from agentmem.stores.connection import CHUNK, Connection, Row, Value
from agentmem.stores.facts import checksum, key_of
from agentmem.stores.records import COLUMNS
from agentmem.stores.rows import COLUMN_NAMES, Stored, exact
from agentmem.stores.schema import ARCHIVED, ERASED, LIVE, STATE_AFTER
from agentmem.types.enums import EventType
from agentmem.types.forms import OF_CONTENT

_EMBEDDINGS = "embeddings_1"
_TOLD = frozenset(COLUMN_NAMES)
_KEYS = "records_by_key"
_ANY_KEY = b"\0"


class TakenBack(NamedTuple):
    """What is left to do: rows of records whose embeddings are those of later texts, or missing; and what could not be
    taken back, by row: records whose data of that time is kept nowhere, which have none now."""

    unembedded: list[int]
    without_data: list[int]


def last_event(db: Connection, at: int) -> int:
    """The number of the last event at an instant or before; 0 for none. Where the clock was set back, all that came
    before such an event counts as having happened."""
    # What came from another store keeps its times; of what was erased nothing says that it did.
    came = f"coalesce(json_extract(h.data, '$.{past.WAS}.{past.MOVED}'), h.at)"
    told = f"(h.event = 'ERASE' OR NOT EXISTS (SELECT 1 FROM records r WHERE r.row = h.row AND r.state = {ERASED}))"
    sql = f"SELECT coalesce(max(h.seq), 0) FROM history h WHERE {came} <= ? AND {told}"
    return int(db.execute(sql, (at,))[0][0])


def there_at(db: Connection, seq: int) -> int:
    """How many records there were at an event, of those that are not erased by now."""
    sql = f"SELECT count(*) FROM records WHERE state != {ERASED} AND row IN (SELECT row FROM history WHERE seq <= ?)"
    return int(db.execute(sql, (seq,))[0][0])


def erased_since(db: Connection, seq: int) -> int:
    """How many there were that were erased after it, and are known still."""
    sql = (
        "SELECT count(*) FROM history e WHERE e.event = 'ERASE' AND e.seq > ? "
        "AND EXISTS (SELECT 1 FROM history h WHERE h.row = e.row AND h.seq <= ?)"
    )
    return int(db.execute(sql, (seq, seq))[0][0])


def forget_rows(db: Connection, rows: Sequence[int]) -> None:
    """Remove records, by row, as if there had been none; what belongs to them is removed with ``finish``."""
    for start in range(0, len(rows), CHUNK):
        db.execute_in("DELETE FROM records WHERE row IN ({})", rows[start : start + CHUNK])


def back_to(db: Connection, seq: int) -> TakenBack:
    """Take back what happened after an event. Inside a transaction."""
    [(index,)] = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (_KEYS,))
    # While this goes on, two records may have a key that they had one after the other.
    db.execute(f"DROP INDEX {_KEYS}")
    db.execute("DELETE FROM records WHERE row IN (SELECT row FROM history WHERE seq > ? AND event = 'ERASE')", (seq,))
    db.execute("DELETE FROM records WHERE row NOT IN (SELECT row FROM history WHERE seq <= ?)", (seq,))
    left = TakenBack([], [])
    for found in _changed(db, seq):
        _take_back(db, found, seq, left)
    db.execute("DELETE FROM history WHERE seq > ?", (seq,))
    db.execute(index)
    return left


def tidy(db: Connection) -> None:
    """Leave of bodies and of TOUCH events what a store keeps of them."""
    db.execute(
        "DELETE FROM history WHERE event = 'TOUCH' AND seq != "
        "(SELECT max(seq) FROM history h WHERE h.row = history.row AND h.event = 'TOUCH')"
    )
    db.execute("DELETE FROM bodies WHERE version > (SELECT version FROM records r WHERE r.row = bodies.row)")
    many = db.execute("SELECT row FROM bodies GROUP BY row HAVING count(DISTINCT version) > ?", (bodies.KEPT,))
    bodies.keep_last(db, [row for (row,) in many])


def _changed(db: Connection, seq: int) -> Iterator[list[tuple[Stored, list[Row]]]]:
    """Records that anything happened to after an event, each with all of its events."""
    rows = [row for (row,) in db.execute("SELECT DISTINCT row FROM history WHERE seq > ? AND row != 0", (seq,))]
    for start in range(0, len(rows), CHUNK):
        chunk, events = rows[start : start + CHUNK], dict[int, list[Row]]()
        sql = "SELECT row, seq, event, at, version, data FROM history WHERE row IN ({}) ORDER BY seq"
        for row, *event in db.select_in(sql, chunk):
            events.setdefault(row, []).append(tuple(event))
        found = map(Stored._make, db.select_in(f"SELECT {COLUMNS} FROM records r WHERE r.row IN ({{}})", chunk))
        yield [(stored, events[stored.row]) for stored in found]


def _take_back(db: Connection, found: Sequence[tuple[Stored, list[Row]]], seq: int, left: TakenBack) -> None:
    away = archived.places(db, [stored.row for stored, _ in found])
    before = [_before(stored, events, seq, away=stored.row in away) for stored, events in found]
    back = [one.stored.row for one in before if not one.away]
    db.execute_in("DELETE FROM archived WHERE row IN ({})", back)
    sizes = documents.sizes(db, [one.stored for one in before])
    written = list[tuple[Value, ...]]()
    for one in before:
        stored = one.stored
        if one.away:
            written.append((*_bindable(stored), checksum(stored), stored.row))
            continue
        stored = stored._replace(body_size=sizes.get(stored.row, 0) if stored.body is not None else 0)
        if stored.body is not None and not stored.body_size:
            left.without_data.append(stored.row)
            stored = stored._replace(body=None, vectors=min(stored.vectors, int(bool(stored.content))))
        if stored.vectors < 0 and one.embedded and not one.given:
            stored = stored._replace(vectors=int(bool(stored.content)))
        stored = stored._replace(fingerprint=key_of(stored))
        if one.embedded:
            embeddings.remove(db, [_EMBEDDINGS], [stored.row])
            if stored.vectors < 0:
                embeddings.insert(db, _EMBEDDINGS, [(stored.row, stored.vectors, one.given)])
            elif stored.vectors:
                left.unembedded.append(stored.row)
        written.append((*_bindable(stored), checksum(stored), stored.row))
    sets = ", ".join(f"{column} = ?" for column in (*COLUMN_NAMES, "checksum"))
    db.executemany(f"UPDATE records SET {sets} WHERE row = ?", written)


class _Before(NamedTuple):
    stored: Stored
    embedded: bool
    """Whether its embeddings were others."""
    given: bytes
    """What they were, where a caller gave them."""
    away: bool = False
    """Whether its text, vectors and data lie in an archive."""


def _before(stored: Stored, events: Sequence[Row], seq: int, *, away: bool) -> _Before:
    """A record as it was after one of its events; ``body_size`` and ``fingerprint`` are yet to be made.

    Of one that is ``away``, in an archive, they are made when it comes back.
    """
    values, embedded, given = dict[str, Any](), False, b""
    code = stored.vectors
    for number, event, _, _, text in reversed(events):
        if number <= seq:
            break
        data: dict[str, Any] = json.loads(text) if text else {}
        was = past.was(data)
        if event in (EventType.UPDATE, EventType.RESTORE):
            values.update((column, value) for column, value in data.items() if column in _TOLD)
            before = int(values.get("vectors", code))
            texts = "body" in data and max(before, code) > OF_CONTENT
            if before != code or past.GIVEN in was or texts or ("content" in data and code == OF_CONTENT):
                embedded, given = True, base64.b64decode(was.get(past.GIVEN, ""))
            code = before
        elif event in (EventType.PROMOTE, EventType.DEMOTE):
            values["layer"] = data.get("from", values.get("layer", stored.layer))
            values["kind"] = data.get("kind", values.get("kind", stored.kind))
        elif event in (EventType.PIN, EventType.UNPIN):
            values["pinned"] = int(event == EventType.UNPIN)
        elif event == EventType.TOUCH:
            values.update(_ends(was, seq))
        values.update((column, was[column]) for column in ("aged_from", "rating") if column in was)
        if was.get(past.RECOGNISED):
            values["fingerprint"] = _ANY_KEY
    happened = [each for each in events if each[0] <= seq]
    version = int(happened[-1][3])
    values["version"] = version
    values["updated_at"] = next(each[2] for each in happened if each[3] == version)
    states = [STATE_AFTER[each[1]] for each in happened if each[1] in STATE_AFTER]
    values["state"] = states[-1] if states else LIVE
    if values.get("aged_from") == stored.created_at:
        values["aged_from"] = None
    if away and "content" not in values:
        state = ARCHIVED if values["state"] == LIVE else values["state"]
        kept = {"state": state, "vectors": stored.vectors, "body_size": stored.body_size}
        kept |= {"fingerprint": stored.fingerprint or values.get("fingerprint")}
        return _Before(stored._replace(**values | kept), False, b"", away=True)
    return _Before(stored._replace(**values), embedded, given)


def _ends(was: dict[str, Any], seq: int) -> dict[str, Any]:
    """The end and the span that a record had before those of a TOUCH, and of others that it took the place of."""
    if "expires_at" not in was:
        return {}
    end, span = was["expires_at"], was.get("sliding")
    for number, *earlier in reversed(was.get(past.EARLIER, ())):
        if number <= seq:
            break
        end, span = earlier
    return {"expires_at": end, "sliding": span}


def _bindable(stored: Stored) -> tuple[Value, ...]:
    return tuple(map(exact, stored[: len(COLUMN_NAMES)]))
