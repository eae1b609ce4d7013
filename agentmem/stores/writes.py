"""Writing: a record, its embedding and its history event are always written together.

Every method expects to be inside a transaction (see ``stores.commit``), and reads what it decides by in there, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from agentmem.stores import accounting, meta
from agentmem.stores.connection import CHUNK, Connection, Row, Value
from agentmem.stores.names import Names
from agentmem.stores.records import COLUMNS, LIVE_ONLY, UNEXPIRED, Records
from agentmem.stores.rows import (
    Created,
    Patch,
    ScopeKey,
    Stored,
    expired,
    fact_digest,
    not_found,
    past_grace,
    version_conflict,
    visible,
)
from agentmem.stores.schema import DELETED, ERASED, EXPIRED, LIVE
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType
from agentmem.types.errors import AgentMemError, ConflictError
from agentmem.types.ids import uuid7s
from agentmem.types.inputs import Draft
from agentmem.types.metadata import check_metadata_size

_INSERT = (
    "INSERT INTO records (row, id, user, agent, run, role, kind, layer, content, metadata, importance, rating, "
    "created_at, updated_at, occurred_at, expires_at, version, state, pinned, aged_from, fingerprint) "
    "VALUES {}"
)
_INSERT_EVENTS = "INSERT INTO history (row, event, at, version, data) VALUES {}"

Grown: TypeAlias = "Callable[[Repository, str, int, int], object]"
"""Hears of a layer that has grown, inside the transaction: by how many records and bytes of text. May raise."""


class StaleVectorError(AgentMemError):
    """The embedding was made by the model that was current before; embed again. Never leaves the package."""


class Repository(Records):
    """What is read, and what can be changed inside a transaction."""

    def __init__(self, db: Connection, names: Names, generation: int = 1, grown: Grown | None = None) -> None:
        super().__init__(db, names, generation)
        self._grown = grown

    def set_meta(self, key: str, value: Value) -> None:
        """Set a value of the store's own bookkeeping; the keys are in ``stores.meta``."""
        meta.put(self.db, key, value)

    def batch_create(self, drafts: Sequence[Draft], vectors: Sequence[bytes], now: Micros) -> list[Created]:
        """Store drafts with their embeddings and ADD events; duplicates are answered with what is already there.

        Raises ``ConflictError`` if a caller's id is in use for anything else; nothing may be committed then.
        """
        number = self.names.intern
        keys = [
            (number(self.db, d.scope.user_id), number(self.db, d.scope.agent_id), number(self.db, d.scope.run_id))
            for d in drafts
        ]
        digests = [
            fact_digest(key, d.role, d.kind, d.content) if d.dedupe else None
            for key, d in zip(keys, drafts, strict=True)
        ]
        by_id = self._existing_ids(d.id for d in drafts if d.id is not None)
        by_digest = self._existing_facts(
            [(key[0], digest) for key, digest in zip(keys, digests, strict=True) if digest is not None], now
        )
        fresh_ids = iter(uuid7s(sum(d.id is None for d in drafts), now))
        row = self.last_row() + 1
        outcomes, records, embeddings, events = list[Created](), list[Row](), list[Row](), list[Row]()
        growth = dict[str, tuple[int, int]]()
        for draft, key, digest, vector in zip(drafts, keys, digests, vectors, strict=True):
            id = draft.id if draft.id is not None else next(fresh_ids)
            same = by_id.get(id) if draft.id is not None else None
            if same is not None and not _same(same, key, draft, now):
                raise ConflictError(f"the id {id!r} is already in use; choose another one, or update the record")
            if same is None and digest is not None:
                same = by_digest.get(digest)
            if same is not None:
                outcomes.append(Created("duplicate", same))
                continue
            expires = None if draft.ttl is None else now + draft.ttl
            stored = Stored(
                row, id, *key, draft.role, draft.kind, draft.layer.value, draft.content, draft.metadata,
                draft.importance, None, now, now, draft.occurred_at, expires, 1, LIVE, 0, None,
            )  # fmt: skip
            records.append((*_bindable(stored), digest))
            embeddings.append((row, vector))
            events.append((row, "ADD", now, 1, None))
            outcomes.append(Created("added", stored))
            count, size = growth.get(stored.layer, (0, 0))
            growth[stored.layer] = (count + 1, size + stored.size)
            row += 1
            if draft.id is not None:
                by_id[id] = stored
            if digest is not None:
                by_digest[digest] = stored
        self.db.insert(_INSERT, records)
        self.db.insert(f"INSERT INTO {self.embeddings} VALUES {{}}", embeddings)
        self.db.insert(_INSERT_EVENTS, events)
        for layer, (count, size) in growth.items():
            self.grow(layer, count, size)
        return outcomes

    def update(self, id: str, patch: Patch, scope: ScopeKey | None, now: Micros) -> Stored:
        """Change a live record and write an UPDATE event with the values it replaced; nothing new writes nothing.

        Raises ``NotFoundError``, and ``ConflictError`` if the record is not at ``patch.if_version``.
        """
        current = self._current(id, scope, now, patch.if_version)
        values = dict(patch.values)
        if patch.metadata_merge is not None:
            merged: dict[str, Any] = json.loads(current.metadata) if current.metadata else {}
            merged.update(patch.metadata_merge)
            kept = {key: value for key, value in merged.items() if value is not None or key not in patch.metadata_merge}
            text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
            check_metadata_size(text, patch.metadata_limit)
            values["metadata"] = text if kept else None
        return self._change(current, values, patch, EventType.UPDATE, now)

    def delete(self, id: str, scope: ScopeKey | None, now: Micros) -> bool:
        """Hide a record and write a DELETE event; False if there was none. ``restore`` brings it back."""
        stored = self.find_by_id(id, scope, now)
        if stored is None:
            return False
        self.delete_rows([stored], now)
        return True

    def delete_rows(self, found: Sequence[Stored], now: Micros) -> None:
        """Hide live records, each with its DELETE event."""
        self.db.executemany(
            f"UPDATE records SET state = {DELETED}, version = version + 1, updated_at = ? WHERE row = ?",
            [(now, stored.row) for stored in found],
        )
        self.note_events((stored.row, EventType.DELETE, now, stored.version + 1, None) for stored in found)
        self._shrink(found)

    def restore(self, id: str, patch: Patch, scope: ScopeKey | None, now: Micros, grace: Micros) -> Stored:
        """Make a deleted record live again and give it ``patch.values``, with a RESTORE event.

        One that expired comes back for ``grace`` microseconds only; its layer's time to live begins anew.
        """
        current = self.find_by_id(id, scope)
        if current is None or current.state == ERASED or expired(current, now) or past_grace(current, now, grace):
            raise not_found(id)
        if patch.if_version is not None and current.version != patch.if_version:
            raise version_conflict(id, patch.if_version, current.version)
        values = {**patch.values, "state": LIVE}
        if current.state == EXPIRED:
            values["aged_from"] = now
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
            self.db.execute("UPDATE records SET rating = ? WHERE row = ?", (rating, stored.row))
        accounting.note_accesses(self.db, [(stored.row, 0, None, None, *verdict)])
        self._event(stored.row, EventType.FEEDBACK, now, stored.version, data)

    def erase_rows(self, found: Sequence[Stored], now: Micros) -> None:
        """Remove text, metadata and embeddings of records, from their history too; what remains is the event chain."""
        rows = [(stored.row,) for stored in found]
        self.db.executemany(
            f"UPDATE records SET state = {ERASED}, version = version + 1, content = '', metadata = NULL, "
            "fingerprint = NULL, role = NULL, kind = '', importance = NULL, rating = NULL, occurred_at = NULL, "
            "expires_at = NULL, updated_at = ? WHERE row = ?",
            [(now, stored.row) for stored in found],
        )
        for table in self.embedding_tables():
            self.db.executemany(f"DELETE FROM {table} WHERE row = ?", rows)
        accounting.forget_use(self.db, (stored.row for stored in found))
        self._shrink(found)
        self.db.executemany("UPDATE history SET data = NULL WHERE row = ?", rows)
        self.note_events((stored.row, EventType.ERASE, now, stored.version + 1, None) for stored in found)

    def new_generation(self) -> int:
        """Make a table for another model's vectors; returns its number."""
        number = 1 + max(int(table.rpartition("_")[2]) for table in self.embedding_tables())
        self.db.execute(f"CREATE TABLE embeddings_{number} (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        return number

    def put_embeddings(self, generation: int, vectors: dict[int, bytes]) -> None:
        """Store vectors of a generation by row, except those of records that were erased meanwhile."""
        self.db.executemany(
            f"INSERT OR REPLACE INTO embeddings_{generation} SELECT ?, ? FROM records WHERE row = ? AND state != ?",
            [(row, vector, row, ERASED) for row, vector in vectors.items()],
        )

    def remove_old_embeddings(self, most: int) -> bool:
        """Remove that many vectors of a model that the store no longer uses; False if there were none left."""
        for table in self.old_embedding_tables():
            rows = self.db.execute(f"SELECT row FROM {table} LIMIT ?", (most,))
            self.db.executemany(f"DELETE FROM {table} WHERE row = ?", rows)
            if len(rows) < most:
                self.db.execute(f"DROP TABLE {table}")
            return True
        return False

    def refresh_digests(self, rows: Iterable[int]) -> None:
        """Make the digests of plain facts anew, whose kind has changed."""
        found = [stored for stored in self.find_rows(rows) if stored.state == LIVE]
        self.db.executemany(
            "UPDATE records SET fingerprint = ? WHERE row = ? AND fingerprint IS NOT NULL",
            [(fact_digest((s.user, s.agent, s.run), s.role, s.kind, s.content), s.row) for s in found],
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

    # -- inside ------------------------------------------------------------------------------------------------------

    def _shrink(self, found: Sequence[Stored]) -> None:
        accounting.resize(
            self.db, ((stored.row, stored.layer, -1, -stored.size) for stored in found if stored.state == LIVE)
        )

    def _change(self, current: Stored, values: dict[str, Value], patch: Patch, event: EventType, now: Micros) -> Stored:
        old = current._asdict()
        changed = {column: value for column, value in values.items() if old[column] != value}
        if not changed:
            return current
        new = current._replace(**{**changed, "version": current.version + 1, "updated_at": now})
        columns = {**changed, "version": new.version, "updated_at": now}
        if "content" in changed:
            key = (current.user, current.agent, current.run)
            digest = fact_digest(key, current.role, current.kind, new.content)
            sql = "UPDATE records SET fingerprint = ? WHERE row = ? AND fingerprint IS NOT NULL"
            self.db.execute(sql, (digest, current.row))
            if patch.generation != self.generation:
                raise StaleVectorError("the model changed while the new content was being embedded")
            self.db.execute(f"UPDATE {self.embeddings} SET vector = ? WHERE row = ?", (patch.vector, current.row))
        sets = ", ".join(f"{column} = ?" for column in columns)
        self.db.execute(f"UPDATE records SET {sets} WHERE row = ?", (*columns.values(), current.row))
        replaced = {column: old[column] for column in changed if column not in ("state", "aged_from")}
        self._event(current.row, event, now, new.version, replaced)
        count, size = int(current.state != LIVE), new.size - (current.size if current.state == LIVE else 0)
        accounting.resize(self.db, [(current.row, current.layer, count, size)])
        if count or size > 0:
            self.grow(current.layer, count, size)
        if count:
            accounting.queue(self.db, [current.row])
        if count or "importance" in changed:
            accounting.touch(self.db, [current.row])
        return new

    def _event(self, row: int, event: EventType, now: Micros, version: int, data: dict[str, Any]) -> None:
        text = json.dumps(data, ensure_ascii=False) if data else None
        self.note_events([(row, event, now, version, text)])

    def _current(self, id: str, scope: ScopeKey | None, now: Micros, if_version: int | None) -> Stored:
        stored = self.find_by_id(id, scope, now)
        if stored is None:
            raise not_found(id)
        if if_version is not None and stored.version != if_version:
            raise version_conflict(id, if_version, stored.version)
        return stored

    def _existing_ids(self, ids: Iterable[str]) -> dict[str, Stored]:
        found = self.db.select_in(f"SELECT {COLUMNS} FROM records r WHERE r.id IN ({{}})", ids)
        return {stored.id: stored for stored in map(Stored._make, found)}

    def _existing_facts(self, wanted: Sequence[tuple[int, bytes]], now: Micros) -> dict[bytes, Stored]:
        """Visible records by digest, of the users and digests given; the oldest where there are several."""
        found = list[Row]()
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            found += self.db.execute(
                f"WITH wanted (user, digest) AS (VALUES {','.join(['(?,?)'] * len(chunk))}) "
                f"SELECT {COLUMNS}, r.fingerprint FROM wanted w CROSS JOIN records r "
                "ON r.user = w.user AND r.fingerprint = w.digest "
                f"WHERE {LIVE_ONLY} AND r.fingerprint IS NOT NULL AND {UNEXPIRED} ORDER BY r.row DESC",
                (*(value for pair in chunk for value in pair), now),
            )
        return {row[-1]: Stored._make(row[:-1]) for row in found}


def _bindable(stored: Stored) -> tuple[Value, ...]:
    """The driver turns large ints into floats; beyond 53 bits (years before 1685, after 2255) text keeps them exact."""
    when = stored.occurred_at
    return stored if when is None or -(2**53) < when < 2**53 else stored._replace(occurred_at=str(when))  # pyright: ignore[reportArgumentType]


def _same(stored: Stored, key: tuple[int, int, int], draft: Draft, now: Micros) -> bool:
    return visible(stored, now) and (stored.user, stored.agent, stored.run) == key and stored.content == draft.content
