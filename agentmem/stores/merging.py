"""Records of another database, taken over with their past: same ids, same times, the whole history.

Numbers (rows, names, events) are this store's own. Events that are taken over keep the times at which they happened;
since those are earlier than the events around them, each also says when it came (``past.MOVED``), for whoever asks
what the store was like at an instant.

Functions that write expect to be inside a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentmem.stores import archived, bodies, chunks, documents, erasure, evidence, past
from agentmem.stores.facts import key_of
from agentmem.stores.records import Owner, Records
from agentmem.stores.rows import Patch, Stored
from agentmem.stores.schema import ARCHIVED, ERASED, EXPIRED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType
from agentmem.types.forms import OF_CONTENT, Form, count_of
from agentmem.types.inputs import Scope

_BROUGHT_BACK = (
    "content", "metadata", "importance", "rating", "occurred_at", "expires_at", "sliding", "layer", "kind", "state",
)  # fmt: skip


class Arrival(NamedTuple):
    """A record of another database, with all that belongs to it; numbers are those of that one."""

    stored: Stored
    owner: Owner
    vectors: bytes
    """Its embeddings, by this store's model."""
    texts: tuple[str, ...]
    """Those that were embedded in the place of its content."""
    data: str | None
    parts: list[tuple[int, int, str]]
    """``(version, part, body)`` of what is too large for a row."""
    events: list[tuple[EventType, Micros, int, str | None]]
    use: tuple[Any, ...] | None
    """Its row of ``accesses``, without the number."""
    sources: dict[int, str]
    """Ids of what it was drawn from, and of what took its place, by their rows."""
    pieces: Mapping[int, Sequence[chunks.Piece]] = {}
    """Of a value, what each of its versions consists of; whoever takes it has seen to the files."""


@dataclass
class Taken:
    """What became of records: ``added``; ``back``, brought back to what they were; ``present`` already; ``changed``
    since, and left so; not taken over since their id or key is another's."""

    added: int = 0
    back: int = 0
    present: int = 0
    changed: list[str] = field(default_factory=list[str])
    ids: list[str] = field(default_factory=list[str])
    keys: list[str] = field(default_factory=list[str])
    files: set[str] = field(default_factory=set[str])
    """Of chunks, that are the store's now."""

    def add(self, other: Taken) -> None:
        """Count these, too."""
        self.added, self.back = self.added + other.added, self.back + other.back
        self.present += other.present
        self.changed += other.changed
        self.ids += other.ids
        self.keys += other.keys


def arrivals(
    other: Records, rows: Sequence[int], embed: Callable[[Sequence[Stored]], dict[int, bytes]]
) -> list[Arrival]:
    """Read records, by row; erased ones are passed over, and those whose text lies in an archive (``away``).

    ``embed`` gives their embeddings, by row.
    """
    elsewhere = archived.places(other.db, rows)
    found = sorted(s for s in other.find_rows(rows) if s.state != ERASED and s.row not in elsewhere)
    numbers, db = [stored.row for stored in found], other.db
    events, parts = dict[int, list[Any]](), dict[int, list[Any]]()
    sql = "SELECT row, event, at, version, data FROM history WHERE row IN ({}) ORDER BY seq"
    for row, event, at, version, data in db.select_in(sql, numbers):
        events.setdefault(row, []).append((EventType(event), at, version, data))
    for row, *part in db.select_in("SELECT row, version, part, body FROM bodies WHERE row IN ({})", numbers):
        parts.setdefault(row, []).append(tuple(part))
    sql = f"SELECT {', '.join(_use_columns(other))} FROM accesses WHERE row IN ({{}})"
    use = {row[0]: row[1:] for row in db.select_in(sql, numbers)}
    vectors = embed(found)
    texts = other.texts((stored.row, stored.vectors, stored.body) for stored in found)
    data = documents.read(db, [stored for stored in found if stored.body is not None])
    return [
        Arrival(
            stored, other.owner(stored), vectors.get(stored.row, b""), tuple(texts.get(stored.row, ())),
            data.get(stored.row), parts.get(stored.row, []), events.get(stored.row, []), use.get(stored.row),
            _linked(other, stored),
        )
        for stored in found
    ]  # fmt: skip


def _linked(records: Records, stored: Stored) -> dict[int, str]:
    rows = [source.row for source in evidence.sources_of(stored)]
    rows += [] if stored.superseded_by is None else [stored.superseded_by]
    return records.ids_of(rows)


def _use_columns(records: Records) -> list[str]:
    return [row[1] for row in records.db.execute("PRAGMA table_info(accesses)")]


def take(
    repository: Repository, found: Sequence[Arrival], now: Micros, *, since: int, back: bool, overwrite: bool
) -> Taken:
    """Take records over that are not there yet. With ``back``, live ones only, each with a RESTORE event, and those
    that are there but deleted become what they were; with ``overwrite`` those that have changed, too.

    Left out is what was erased, as long as its tombstone stays, and all of a person who was erased after the line
    ``since`` (``erasure.last_line``): while what is taken over was being read.
    """
    taken, new = Taken(), list[tuple[Stored, Arrival]]()
    erased = _erased(repository, found, now, since)
    there = {stored.id: stored for stored in repository.find_ids([each.stored.id for each in found])}
    row, claimed = repository.last_row() + 1, set[tuple[Any, ...]]()
    for each in found:
        stored, known = each.stored, there.get(each.stored.id)
        if back and stored.state != LIVE:
            continue
        if stored.id in erased:
            taken.ids.append(stored.id)
            continue
        if known is not None:
            _meet(repository, each, known, now, taken, back=back, overwrite=overwrite)
            continue
        user, agent, run, space = repository.numbers_of(_scope(each.owner))
        place = (user, space, stored.key)
        if stored.key is not None and stored.state in (LIVE, ARCHIVED):
            if place in claimed or _has_key(repository, place):
                taken.keys.append(stored.id)
                continue
            claimed.add(place)
        stored = stored._replace(row=row, user=user, agent=agent, run=run, space=space)
        if each.sources:
            known_rows = {s.id: s.row for s in repository.find_ids(list(each.sources.values()))}
            known_rows |= {s.id: s.row for s, _ in new}
            stored = evidence.renumbered(stored, each.sources, known_rows)
        if back:
            stored = stored._replace(version=stored.version + 1, updated_at=now)
        new.append((stored._replace(fingerprint=key_of(stored)), each))
        row += 1
    taken.files |= _insert(repository, new, now, back=back)
    taken.added = len(new)
    return taken


def _erased(repository: Repository, found: Sequence[Arrival], now: Micros, since: int) -> set[str]:
    """Ids of what is not to come back, since it was erased."""
    users = {each.owner[0] for each in found}
    gone = {user for user in users if user is not None and erasure.is_gone(repository, user, since)}
    ids = {each.stored.id for each in found if each.owner[0] in gone}
    if erasure.has_tombstones(repository):
        places = {user: repository.scope_key(Scope(user), anywhere=True) for user in users}
        for each in found:
            place = places[each.owner[0]]
            if place is not None and erasure.find_erased(repository, each.stored.id, place, now) is not None:
                ids.add(each.stored.id)
    return ids


def _meet(
    repository: Repository, each: Arrival, known: Stored, now: Micros, taken: Taken, *, back: bool, overwrite: bool
) -> None:
    if known.state == ERASED or repository.owner(known) != each.owner:
        taken.ids.append(known.id)
    elif not back or known.state == ARCHIVED:
        taken.present += 1
    elif archived.places(repository.db, [known.row]):
        taken.changed.append(known.id)  # it was deleted while its text lay in an archive, which nobody asks now
    elif known.state == LIVE and not overwrite:
        same = all(getattr(known, name) == getattr(each.stored, name) for name in _BROUGHT_BACK)
        if (
            same
            and documents.read(repository.db, [known] if known.body is not None else []).get(known.row) == each.data
        ):
            taken.present += 1
        else:
            taken.changed.append(known.id)
    elif known.state != LIVE and known.key is not None and _has_key(repository, (known.user, known.space, known.key)):
        taken.keys.append(known.id)
    else:
        values = {name: getattr(each.stored, name) for name in _BROUGHT_BACK}
        if known.state == EXPIRED:
            values["aged_from"] = now
        patch = Patch(
            {}, vector=each.vectors, generation=repository.generation, form=_form(each), of=each.stored.content,
            data=each.data,
        )  # fmt: skip
        changed = repository.set_back(known, values, patch, now)
        if each.stored.body in each.pieces and changed.body not in (None, known.body):
            pieces = each.pieces[int(each.stored.body or 0)]
            place = (changed.user, changed.space, changed.row, int(changed.body or 0))
            taken.files |= chunks.refer(repository.db, [chunks.Brought(*place, pieces)])
        taken.present += changed is known
        taken.back += changed is not known


def _scope(owner: Owner) -> Scope:
    user, agent, run, namespace = owner
    return Scope(user, agent, run, namespace)


def _form(each: Arrival) -> Form:
    code = each.stored.vectors
    if code == OF_CONTENT:
        return Form(of_content=True)
    if code < 0:
        width = len(each.vectors) // count_of(code)
        return Form(given=tuple(each.vectors[at : at + width] for at in range(0, len(each.vectors), width)))
    return Form(texts=each.texts)


def _has_key(repository: Repository, place: tuple[Any, ...]) -> bool:
    sql = f"SELECT 1 FROM records WHERE user = ? AND space = ? AND key = ? AND state IN ({LIVE}, {ARCHIVED})"
    return bool(repository.db.execute(sql, place))


def _insert(repository: Repository, new: Sequence[tuple[Stored, Arrival]], now: Micros, *, back: bool) -> set[str]:
    db = repository.db
    repository.insert([(stored, each.vectors) for stored, each in new], now, with_past=True)
    bodies.write(
        db, [(stored.row, version, {part: body}) for stored, each in new for version, part, body in each.parts]
    )
    used_files = chunks.refer(
        db,
        [
            chunks.Brought(stored.user, stored.space, stored.row, version, pieces)
            for stored, each in new
            for version, pieces in each.pieces.items()
        ],
    )
    events = list[tuple[int, EventType, Micros, int, str | None]]()
    for stored, each in new:
        events += [(stored.row, event, at, version, _moved(data, now)) for event, at, version, data in each.events]
        if back:
            events.append((stored.row, EventType.RESTORE, now, stored.version, None))
    repository.note_events(events)
    columns = _use_columns(repository)
    used = [(stored.row, *each.use) for stored, each in new if each.use is not None]
    db.insert(f"INSERT INTO accesses ({', '.join(columns)}) VALUES {{}}", used)
    return used_files


def _moved(data: str | None, now: Micros) -> str | None:
    """An event's data, with when it came here; numbers of other events mean nothing here."""
    told: dict[str, Any] = json.loads(data) if data else {}
    was = {name: value for name, value in past.was(told).items() if name != past.EARLIER}
    return past.with_past(told, was | {past.MOVED: now})
