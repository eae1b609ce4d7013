"""Writing: a record, its embedding and its history event are always written together.

Every method expects to be inside a transaction (see ``stores.commit``), and reads what it decides by in there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from typing_extensions import override

from agentmem.stores import (
    accounting,
    bodies,
    chunks,
    documents,
    embeddings,
    evidence,
    forms,
    meta,
    past,
    spaces,
)  # fmt: skip
from agentmem.stores.connection import Connection, Value
from agentmem.stores.facts import checksum, fact_key, key_of
from agentmem.stores.fresh import Fresh
from agentmem.stores.known import known_facts
from agentmem.stores.names import Names
from agentmem.stores.records import COLUMNS, STANDING, Records
from agentmem.stores.repetition import as_far_as_there_is_room, id_in_use, news, repeats
from agentmem.stores.rows import (
    COLUMN_NAMES,
    AwayError,
    Created,
    Numbers,
    Patch,
    ScopeKey,
    Stored,
    exact,
    kept,
    not_found,
    restorable,
    version_conflict,
)
from agentmem.stores.schema import ARCHIVED, DELETED, EXPIRED, LIVE
from agentmem.types.clock import Micros
from agentmem.types.enums import UNSET, EventType
from agentmem.types.errors import CapacityError, InvalidInputError
from agentmem.types.forms import OF_CONTENT
from agentmem.types.ids import uuid7s
from agentmem.types.inputs import Draft, Scope, Source
from agentmem.types.metadata import merge_metadata
from agentmem.types.spelling import composed, spellings

_COMMON = len(Stored._fields) - len(Stored._field_defaults)
_INSERT, _INSERT_WHOLE = (
    f"INSERT INTO records ({', '.join(columns)}, checksum) VALUES {{}}"
    for columns in (COLUMN_NAMES[:_COMMON], COLUMN_NAMES)
)
"""Most records make no use of the last columns."""
_STANDING = f"{STANDING}, (SELECT seq FROM sqlite_sequence WHERE name = 'records')"
_SOURCES = (LIVE, ARCHIVED, EXPIRED)
"""States of what a fact may have been drawn from, where what expired will do."""
_INSERT_EVENTS = "INSERT INTO history (row, event, at, version, data) VALUES {}"

Grown: TypeAlias = "Callable[[Repository, str, int, int], object]"
"""Hears of a layer that has grown, inside the transaction: by how many records and bytes of text. May raise."""
Repeated: TypeAlias = "Callable[[Repository, Sequence[Stored], Micros], object]"
"""Hears, inside the transaction, of records that were added again when that brought nothing new."""


class Repository(Records):
    """What is read, and what can be changed inside a transaction."""

    def __init__(
        self,
        db: Connection,
        names: Names,
        generation: int = 1,
        grown: Grown | None = None,
        repeated: Repeated | None = None,
    ) -> None:
        super().__init__(db, names, generation)
        self._grown = grown
        self._repeated = repeated
        self.fresh = Fresh()
        self._first_keys: bool | None = None
        self._last_row = 0

    @override
    def is_current(self) -> bool:
        """Asked first in each transaction; so it is then that the newest row is read, too, by the same statement."""
        [(generation, epoch, row)] = self.db.execute(_STANDING)
        self._last_row = row or 0
        self.fresh.begin()
        return self.stands(generation, epoch)

    @override
    def last_row(self) -> int:
        return self._last_row

    def back_to(self, last_row: int) -> None:
        """What was inserted after that row was undone, inside the transaction."""
        self._last_row = last_row
        self.fresh.back_to(last_row)

    def set_meta(self, key: str, value: Value) -> None:
        """Set a value of the store's own bookkeeping; the keys are in ``stores.meta``."""
        meta.put(self.db, key, value)

    def batch_create(self, drafts: Sequence[Draft], vectors: Sequence[bytes], now: Micros) -> list[Created]:
        """Store drafts with their embeddings and ADD events; what is there already is refreshed instead.

        Comes to the same as storing them one after the other: each outcome is as it is after its draft. Raises
        ``ConflictError`` if a caller's id is in use for anything else, unless the draft says ``skip_taken``; nothing
        may be committed then. What has the ``new_id`` of a draft was added by the same call before, and is left alone.
        """
        scopes = [self.numbers_of(draft.scope) for draft in drafts]
        keys = [
            fact_key(scope, d.role, d.kind, d.content, d.occurred_at) if d.dedupe else None
            for scope, d in zip(scopes, drafts, strict=True)
        ]
        by_id = self._existing_ids(spelling for d in drafts if (id := d.id or d.new_id) for spelling in spellings(id))
        by_key = known_facts(self, drafts, scopes, keys, now, first_keys=self._has_first_keys())
        fresh_ids = iter(uuid7s(sum(draft.id is None for draft in drafts), now))
        row = self.last_row() + 1
        outcomes: list[Created] = []
        latest: dict[int, Stored] = {}
        written = list[forms.Brought]()
        new: list[tuple[Stored, bytes]] = []
        again: set[int] = set()
        for draft, scope, key, vector in zip(drafts, scopes, keys, vectors, strict=True):
            id = draft.new_id if draft.id is None else _spelled(draft.id, by_id)
            same = None if id is None else by_id.get(id)
            if same is not None and draft.id is None:
                outcomes.append(Created("added", same))
                continue
            if same is not None and not (
                repeats(draft, scope, same, now) and self._has_data(same, draft.data, written)
            ):
                error = id_in_use(draft, scope, same, now)
                if not draft.skip_taken:
                    raise error
                outcomes.append(Created("taken", same, str(error)))
                continue
            if same is None and key is not None:
                same = by_key.get(key)
            if same is None:
                stored = Stored(
                    row, next(fresh_ids) if id is None else id, *scope[:3], draft.role, draft.kind,
                    draft.layer.value, draft.content, draft.metadata, draft.importance, None, now, now,
                    draft.occurred_at, draft.end(now), 1, LIVE, 0, None, key, scope[3],
                )  # fmt: skip
                if draft.form is not None:
                    stored = forms.begin(stored, draft.form, written)
                if draft.data is not None:
                    stored = documents.begin(self.db, stored, draft.data, None, written)
                if draft.sliding is not None:
                    stored = stored._replace(sliding=draft.sliding)
                if draft.validity is not None:
                    stored = evidence.begin(stored, draft.validity, self._sources(draft.validity.sources, now))
                row += 1
                new.append((stored, vector))
                outcomes.append(Created("added", stored, data=draft.data))
            else:
                same = latest.get(same.row, same)
                stored, changes = same, news(same, draft, now)
                if changes or draft.form is not None:
                    self.insert(new, now)
                    bodies.write(self.db, written)
                    new, written = [], []
                    patch = Patch({}, form=draft.form, vector=vector, generation=self.generation)
                    stored = self._refresh(same, changes, patch, now)
                again.add(stored.row)
                outcomes.append(Created("duplicate" if stored is same else "refreshed", stored, data=draft.data))
            latest[stored.row] = stored
            if id is not None:
                by_id[id] = stored
            if key is not None:
                by_key[key] = stored
        self.insert(new, now)
        if written:
            bodies.write(self.db, written)
        if self._repeated is not None and (renewed := [latest[row] for row in again if latest[row].begun < now]):
            self._repeated(self, renewed, now)
        return outcomes

    def update(self, id: str, patch: Patch, scope: ScopeKey | None, now: Micros) -> Stored:
        """Change a live record and write an UPDATE event with the values it replaced; nothing new writes nothing.

        Raises ``NotFoundError``, and ``ConflictError`` if the record is not at ``patch.if_version``.
        """
        current = self._current(id, scope, now, patch.if_version)
        values = dict(patch.values)
        if patch.metadata_merge is not None:
            values["metadata"] = merge_metadata(current.metadata, patch.metadata_merge, patch.metadata_limit)
        if "expires_at" in values and "sliding" not in values and current.sliding is not None:
            values["sliding"] = patch.span  # it goes on sliding, by the new span
        return self._change(current, values, patch, EventType.UPDATE, now)

    def delete(self, id: str, scope: ScopeKey | None, now: Micros, if_version: int | None = None) -> bool:
        """Hide a record and write a DELETE event; False if there was none. ``restore`` brings it back."""
        stored = self.find_by_id(id, scope)
        if stored is None or not kept(stored, now):
            return False
        if if_version not in (None, stored.version):
            raise version_conflict(id, if_version, stored.version)
        self.delete_rows([stored], now)
        return True

    def delete_many(self, ids: Sequence[str], scope: ScopeKey | None, now: Micros) -> list[bool]:
        """The same for many, in the order of the ids; the second time an id comes, its record is gone."""
        found, there = dict[int, Stored](), list[bool]()
        for stored in self.there(ids, scope, now):
            is_there = stored is not None and stored.row not in found
            if stored is not None and is_there:
                found[stored.row] = stored
            there.append(is_there)
        self.delete_rows(list(found.values()), now)
        return there

    def there(self, ids: Sequence[str], scope: ScopeKey | None, now: Micros) -> list[Stored | None]:
        """For each id the live or archived record inside the scope; see ``find_by_id``."""
        return [
            stored
            if stored is not None and kept(stored, now) and (scope is None or scope.admits(*stored.scope))
            else None
            for stored in self._by_id(ids)
        ]

    def _sources(self, sources: Sequence[Source], now: Micros) -> list[Stored | None]:
        """The records that a fact is to be drawn from, as far as they may be."""
        return [
            stored
            if stored is not None and (kept(stored, now) or (source.expired and stored.state in _SOURCES))
            else None
            for source, stored in zip(sources, self._by_id([source.id for source in sources]), strict=True)
        ]

    def _by_id(self, ids: Sequence[str]) -> list[Stored | None]:
        """For each id the record that has it, in any state."""
        known = self._existing_ids(dict.fromkeys(spelling for id in ids for spelling in spellings(id)))
        return [next((known[one] for one in spellings(id) if one in known), None) for id in ids]

    def delete_rows(self, found: Sequence[Stored], now: Micros) -> None:
        """Hide live records, each with its DELETE event."""
        self.db.executemany(
            f"UPDATE records SET state = {DELETED}, version = version + 1, updated_at = ? WHERE row = ?",
            [(now, stored.row) for stored in found],
        )
        self.note_events((stored.row, EventType.DELETE, now, stored.version + 1, None) for stored in found)
        self._shrink(found)

    def restore(
        self, id: str, patch: Patch, scope: ScopeKey | None, now: Micros, grace: Micros, since: int | None = None
    ) -> Stored:
        """Make a deleted record live again and give it ``patch.values``, with a RESTORE event.

        One that expired comes back for ``grace`` microseconds only; its layer's time to live begins anew. ``since`` is
        the version to go on from, where that is not the record's own.
        """
        current = self.find_by_id(id, scope)
        if current is None or not restorable(current, now, grace):
            raise not_found(id)
        if patch.if_version is not None and current.version != patch.if_version:
            raise version_conflict(id, patch.if_version, current.version)
        self.check_here([current])
        if since is not None:
            current = current._replace(version=since)
        values = {**patch.values, "state": LIVE}
        if patch.data_of is not UNSET:
            found = None if patch.data_of is None else documents.at(self.db, current, patch.data_of)
            patch = replace(patch, data=found)
        if current.state == EXPIRED:
            values["aged_from"] = now
        if isinstance(patch.data_of, int):  # before, since the body that has them may be one too many afterwards
            chunks.carry(self.db, current.row, patch.data_of, current.version + 1)
        restored = self._change(current, values, patch, EventType.RESTORE, now)
        if isinstance(patch.data_of, int) and restored.body != current.version + 1:
            chunks.drop(self.db, current.row, current.version + 1)
        return restored

    def check_here(self, found: Iterable[Stored]) -> None:
        """Raise ``AwayError`` for a record whose text lies in an archive: before it is changed, it is to come back."""
        gone = {stored.row: stored for stored in found if stored.state != LIVE}
        for (row,) in self.db.select_in("SELECT row FROM archived WHERE row IN ({})", gone) if gone else ():
            raise AwayError(gone[row].id)

    def set_back(self, current: Stored, values: dict[str, Value], patch: Patch, now: Micros) -> Stored:
        """Give a record back what it was, with a RESTORE event, whatever it is now; ``current`` if it is that."""
        return self._change(current, values, patch, EventType.RESTORE, now)

    def rate(
        self,
        id: str,
        rating: float | None,
        data: dict[str, Any],
        scope: ScopeKey | None,
        now: Micros,
        verdict: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Set a record's rating (None leaves it) and write a FEEDBACK event; the version stays.

        ``verdict`` is the value and the weight that it adds to the record's relevance.
        """
        stored = self._current(id, scope, now, None)
        if rating is not None:
            sql = "UPDATE records SET rating = ?, fingerprint = ?, checksum = ? WHERE row = ?"
            new = _keyed(stored._replace(rating=rating))
            self.db.execute(sql, (rating, new.fingerprint, checksum(new), stored.row))
        accounting.note_accesses(self.db, [(stored.row, 0, None, None, *verdict)])
        was = {} if rating in (None, stored.rating) else {"rating": stored.rating}
        self.note_events([(stored.row, EventType.FEEDBACK, now, stored.version, past.with_past(data, was))])

    def new_generation(self) -> int:
        """Make a table for another model's vectors; returns its number."""
        number = 1 + max(int(table.rpartition("_")[2]) for table in self.embedding_tables())
        embeddings.create(self.db, number)
        return number

    def remove_old_embeddings(self, most: int) -> bool:
        """Remove that many vectors of a model that the store no longer uses; False if there were none left."""
        for table in self.old_embedding_tables():
            embeddings.remove_some(self.db, table, most)
            return True
        return False

    def sign(self, rows: Iterable[int]) -> None:
        """Make keys and checksums of records anew, whose kind has changed."""
        found = [_keyed(stored) for stored in self.find_rows(rows)]
        self.db.executemany(
            "UPDATE records SET fingerprint = ?, checksum = ? WHERE row = ?",
            [(stored.fingerprint, checksum(stored), stored.row) for stored in found],
        )

    def grow(self, layer: str, count: int, size: int) -> None:
        """Tell of a layer that has grown by so many records and bytes of text."""
        if self._grown is not None:
            self._grown(self, layer, count, size)

    def note_events(self, events: Iterable[tuple[int, EventType, Micros, int, str | None]]) -> None:
        """Append ``(row, event, at, version after it, data as JSON)`` to the history."""
        self.db.insert(
            _INSERT_EVENTS, [(row, event.value, at, version, data) for row, event, at, version, data in events]
        )

    def insert(self, new: Sequence[tuple[Stored, bytes]], now: Micros, *, with_past: bool = False) -> None:
        """Insert new records with their embeddings and events, and tell of the growth.

        ``with_past``: they come from elsewhere, in whatever state, and their events are yet to be noted.
        """
        if not new:
            return
        if any(stored.more for stored, _ in new):
            self.db.insert(_INSERT_WHOLE, [(*_bindable(stored), checksum(stored)) for stored, _ in new])
            held = [(stored.row, stored.vectors, vectors) for stored, vectors in new]
            embeddings.insert(self.db, self.embeddings, held)
        else:
            self.db.insert(_INSERT, [(*_bindable(stored)[:_COMMON], checksum(stored)) for stored, _ in new])
            held = [(stored.row, vector) for stored, vector in new]
            self.db.insert(f"INSERT INTO {self.embeddings} VALUES {{}}", held)
        if not with_past:
            self.db.insert(_INSERT_EVENTS, [(stored.row, "ADD", now, stored.version, None) for stored, _ in new])
            self.fresh.note(new)
        self._last_row = new[-1][0].row
        growth: dict[str, tuple[int, int]] = {}
        for stored, _ in new:
            if stored.state != LIVE:
                continue
            count, size = growth.get(stored.layer, (0, 0))
            growth[stored.layer] = (count + 1, size + stored.size)
        for layer, (count, size) in growth.items():
            self.grow(layer, count, size)

    def numbers_of(self, scope: Scope) -> Numbers:
        """The numbers of a scope's ids and of its namespace, given out now where they have none."""
        number, db = self.names.intern, self.db
        user, agent, run = number(db, scope.user_id), number(db, scope.agent_id), number(db, scope.run_id)
        if not scope.namespace:
            return user, agent, run, 0
        return user, agent, run, self.names.intern_space(db, spaces.entry(user, spaces.path_of(scope.namespace)))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _refresh(self, current: Stored, changes: dict[str, Value], patch: Patch, now: Micros) -> Stored:
        """Change what a repetition changes, with an UPDATE event; what a full layer has no room for is left as it is.

        Returns ``current`` if nothing is left to change.
        """
        *tries, last = as_far_as_there_is_room(current, changes)
        for values in tries:
            self.db.execute("SAVEPOINT repetition")
            try:
                changed = self._change(current, _begin_anew(current, values, now), patch, EventType.UPDATE, now)
            except CapacityError:
                self.db.execute("ROLLBACK TO repetition")
            else:
                self.db.execute("RELEASE repetition")
                return changed
        if not last and patch.form is None:
            return current
        return self._change(current, _begin_anew(current, last, now), patch, EventType.UPDATE, now)

    def _shrink(self, found: Sequence[Stored]) -> None:
        accounting.resize(
            self.db, ((stored.row, stored.layer, -1, -stored.size) for stored in found if stored.state == LIVE)
        )

    def _has_data(self, stored: Stored, data: str | None, written: Iterable[forms.Brought]) -> bool:
        """Whether a record says the same as a draft's data; one that says nothing of it does not contradict.

        ``written``: bodies that are yet to be written.
        """
        if data is None:
            return True
        parts = documents.parts_of(data)
        pending = next((found for row, _, found in written if row == stored.row and 0 in found), None)
        return documents.is_same(self.db, stored, parts) if pending is None else parts == pending

    def _change(self, current: Stored, values: dict[str, Value], patch: Patch, event: EventType, now: Micros) -> Stored:
        old = current._asdict()
        changed = {column: value for column, value in values.items() if old[column] != value}
        given = b""
        if patch.form is not None or ("content" in changed and current.vectors == OF_CONTENT):
            held = self.vectors([current]).get(current.row, b"") if current.vectors < 0 else b""
            changed.update(forms.embed(self, current, str(changed.get("content", current.content)), patch))
            given = held if "vectors" in changed else b""
        if patch.data is not UNSET:
            documents.change(self.db, current, changed, patch.data)
        if not changed:
            return current
        new = _keyed(current._replace(**{**changed, "version": current.version + 1, "updated_at": now}))
        if not new.content and new.body is None and event == EventType.UPDATE:
            raise InvalidInputError("there is neither content nor data then; delete() forgets it", field="content")
        columns = {**changed, "version": new.version, "updated_at": now, "fingerprint": new.fingerprint}
        sets = ", ".join(f"{column} = ?" for column in columns)
        sql = f"UPDATE records SET {sets}, checksum = ? WHERE row = ?"
        self.db.execute(sql, (*map(exact, columns.values()), checksum(new), current.row))
        told = {c: old[c] for c in changed if c not in _SILENT}
        text = past.with_past(told, past.replaced(current, new, given))
        self.note_events([(current.row, event, now, new.version, text)])
        self._account(current, new)
        if "superseded_by" in changed and new.superseded_by is not None:
            new = new._replace(successor=self.ids_of([new.superseded_by]).get(new.superseded_by))
        return new

    def _account(self, old: Stored, new: Stored) -> None:
        """Keep sizes and queues in step with a record that has changed, and is live now."""
        before = 0 if old.state != LIVE else old.size
        moved = old.state != LIVE or old.layer != new.layer
        sizes = [(new.row, new.layer, 1, new.size)]
        if old.state == LIVE:
            sizes.append((new.row, old.layer, -1, -old.size))
        accounting.resize(self.db, sizes)
        if moved or new.size > before:
            self.grow(new.layer, int(moved), new.size if moved else new.size - before)
        if old.state == LIVE and (old.layer, old.begun) != (new.layer, new.begun):
            accounting.unqueue(self.db, old.layer, [(old.begun, old.row)])
            accounting.queue(self.db, [new.row])
        if old.state != LIVE:
            accounting.queue(self.db, [new.row])
        if moved or old.importance != new.importance:
            accounting.touch(self.db, [new.row])

    def _current(self, id: str, scope: ScopeKey | None, now: Micros, if_version: int | None) -> Stored:
        stored = self.find_by_id(id, scope)
        if stored is None or not kept(stored, now):
            raise not_found(id)
        self.check_here([stored])
        if if_version is not None and stored.version != if_version:
            raise version_conflict(id, if_version, stored.version)
        return stored

    def _existing_ids(self, ids: Iterable[str]) -> dict[str, Stored]:
        found = self.db.select_in(f"SELECT {COLUMNS} FROM records r WHERE r.id IN ({{}})", ids)
        return {stored.id: stored for stored in map(Stored._make, found)}

    def _has_first_keys(self) -> bool:
        if self._first_keys is None:
            self._first_keys = bool(int(self.meta(meta.FIRST_KEYS) or 0))
        return self._first_keys


_SILENT = ("state", "aged_from", "body_size", "fingerprint")
"""Columns whose old values an event does not tell: they follow from the events before it."""


def _keyed(stored: Stored) -> Stored:
    """The record with the key that it has now."""
    return stored._replace(fingerprint=key_of(stored))


def _begin_anew(current: Stored, values: dict[str, Value], now: Micros) -> dict[str, Value]:
    """The same, and the record's time in its layer begins anew, unless the clock was set back."""
    return {**values, "aged_from": now} if values and current.begun < now else values


def _bindable(stored: Stored) -> tuple[Value, ...]:
    return tuple(map(exact, stored[: len(COLUMN_NAMES)]))


def _spelled(id: str, known: Container[str]) -> str:
    """The spelling of a caller's id under which it is stored, or is to be."""
    return next((spelling for spelling in spellings(id) if spelling in known), composed(id))
