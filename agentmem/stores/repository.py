"""Records, embeddings and history in libSQL: the truth, one statement away.

Every method runs on one connection; those that write expect to be inside a transaction (see ``stores.commit``). A
record, its embedding and its history event are always written together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from agentmem.stores.connection import CHUNK, Connection, Row, Value
from agentmem.stores.names import Names
from agentmem.stores.rows import (
    Created,
    Patch,
    ScopeKey,
    Stored,
    expired,
    fingerprint,
    not_found,
    past_grace,
    version_conflict,
    visible,
)
from agentmem.stores.schema import ERASED, EXPIRED, LIVE, SETTLED
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import ALL, EventType, Layer
from agentmem.types.errors import AgentMemError, ConflictError, ModelMismatchError
from agentmem.types.ids import uuid7s
from agentmem.types.inputs import Draft, Scope
from agentmem.types.metadata import check_metadata_size
from agentmem.types.ports import Entry
from agentmem.types.records import HistoryEvent, MemoryRecord

COLUMNS = ", ".join(f"r.{name}" for name in Stored._fields)
WINDOW = 2_000
"""Records whose filter is tested by one statement."""
NEXT_GENERATION = "next_generation"
"""In ``meta``: the plan of a generation in the making, as JSON; its number is ``generation``."""
_LAST_ROW = 2**62
UNEXPIRED = "(r.expires_at IS NULL OR r.expires_at > ?)"
_INSERT = (
    "INSERT INTO records (row, id, user, agent, run, role, kind, layer, content, metadata, importance, rating, "
    "created_at, updated_at, occurred_at, expires_at, version, state, pinned, aged_from, fingerprint) "
    "VALUES {}"
)
_ENTRY = ", ".join(("e." if name == "vector" else "r.") + name for name in Entry._fields)
_ACCESS = (
    "INSERT INTO accesses (row, times, first_at, last_at, value, weight, touched) "
    "SELECT r.row, u.column2, u.column3, u.column4, u.column5, u.column6, r.layer != 'assets' "
    "FROM (VALUES {}) AS u CROSS JOIN records r ON r.row = u.column1 WHERE r.state = 0 "
    "ON CONFLICT (row) DO UPDATE SET times = times + excluded.times, "
    "first_at = coalesce(min(first_at, excluded.first_at), first_at, excluded.first_at), "
    "last_at = coalesce(max(last_at, excluded.last_at), last_at, excluded.last_at), "
    "value = value + excluded.value, weight = weight + excluded.weight, touched = excluded.touched"
)
INSERT_EVENTS = "INSERT INTO history (row, event, at, version, data) VALUES {}"


Grown: TypeAlias = "Callable[[Repository, str, int, int], object]"
"""Hears of a layer that has grown, inside the transaction: by how many records and bytes of text. May raise."""


class StaleVectorError(AgentMemError):
    """The embedding was made by the model that was current before; embed again. Never leaves the package."""


class Repository:
    """The repository port on libSQL. ``generation`` numbers the embedding model whose vectors it reads and writes."""

    def __init__(self, db: Connection, names: Names, generation: int = 1, grown: Grown | None = None) -> None:
        self.db = db
        self.names = names
        self.generation = generation
        self._grown = grown

    @property
    def embeddings(self) -> str:
        """The table with this generation's vectors."""
        return f"embeddings_{self.generation}"

    @property
    def _entry(self) -> str:
        return f"SELECT {_ENTRY} FROM records r JOIN {self.embeddings} e ON e.row = r.row"

    def is_current(self) -> bool:
        """Whether the store still uses this generation."""
        return int(self.meta("generation") or 1) == self.generation

    def check_generation(self) -> None:
        """Raise ``ModelMismatchError`` if another process moved the store on to another model."""
        if not self.is_current():
            raise ModelMismatchError(
                f"this store was moved to the model {self.meta('model')!r} while it was open here; "
                "close the client and open it again"
            )

    # -- reading -----------------------------------------------------------------------------------------------------

    def scope_key(self, scope: Scope) -> ScopeKey | None:
        """The scope's numbers, or None if one of its ids was never stored (so that nothing can match)."""
        user = None if scope.user_id is ALL else self._known(scope.user_id) if scope.user_id is not None else 0
        agent = None if scope.agent_id is None else self._known(scope.agent_id)
        run = None if scope.run_id is None else self._known(scope.run_id)
        return None if -1 in (user, agent, run) else ScopeKey(user, agent, run)

    def _known(self, name: str) -> int:
        found = self.names.find(self.db, name)
        return -1 if found is None else found

    def find_by_id(self, id: str, scope: ScopeKey | None = None, now: Micros | None = None) -> Stored | None:
        """The record in any state; with ``scope`` only inside it, with ``now`` only if live and not expired."""
        rows = self.db.execute(f"SELECT {COLUMNS} FROM records r WHERE r.id = ?", (id,))
        if not rows:
            return None
        stored = Stored._make(rows[0])
        if scope is not None and not scope.admits(stored.user, stored.agent, stored.run):
            return None
        return None if now is not None and not visible(stored, now) else stored

    def find_rows(self, rows: Iterable[int]) -> Iterator[Stored]:
        """Records by row number, in any state and no particular order."""
        return map(Stored._make, self.db.select_in(f"SELECT {COLUMNS} FROM records r WHERE r.row IN ({{}})", rows))

    def record(self, stored: Stored) -> MemoryRecord:
        """The public form of a row."""
        name = self.names.name
        return MemoryRecord(
            id=stored.id,
            content=stored.content,
            user_id=name(self.db, stored.user),
            agent_id=name(self.db, stored.agent),
            run_id=name(self.db, stored.run),
            role=stored.role,
            kind=stored.kind,
            layer=Layer(stored.layer),
            metadata=json.loads(stored.metadata) if stored.metadata else {},
            importance=stored.importance,
            rating=stored.rating,
            created_at=to_datetime(stored.created_at),
            updated_at=to_datetime(stored.updated_at),
            occurred_at=None if stored.occurred_at is None else to_datetime(stored.occurred_at),
            expires_at=None if stored.expires_at is None else to_datetime(stored.expires_at),
            version=stored.version,
            pinned=bool(stored.pinned),
        )

    def last_seq(self) -> int:
        """The newest event's number; one row, so that every call can afford to ask."""
        rows = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'history'")
        return rows[0][0] if rows else 0

    def last_row(self) -> int:
        """The newest record's row number."""
        rows = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        return rows[0][0] if rows else 0

    def events_after(self, seq: int, limit: int) -> list[Row]:
        """``(seq, row, user, agent, run)`` of the next events of the feed. Row 0 is the store: a new model."""
        return self.db.execute(
            "SELECT h.seq, h.row, r.user, r.agent, r.run FROM history h LEFT JOIN records r ON r.row = h.row "
            "WHERE h.seq > ? ORDER BY h.seq LIMIT ?",
            (seq, limit),
        )

    def history(self, row: int, id: str) -> list[HistoryEvent]:
        """All events of one record, oldest first."""
        found = list[HistoryEvent]()
        last = 0
        while True:
            rows = self.db.execute(
                "SELECT seq, event, at, version, data FROM history WHERE row = ? AND seq > ? ORDER BY seq LIMIT 500",
                (row, last),
            )
            found += [
                HistoryEvent(seq, id, EventType(event), to_datetime(at), version, json.loads(data) if data else {})
                for seq, event, at, version, data in rows
            ]
            if len(rows) < 500:
                return found
            last = rows[-1][0]

    def entries(self, where: str, params: Sequence[Value], after: int, limit: int) -> list[Entry]:
        """The next records that satisfy a condition on ``records r``, as indexes see them, by row number."""
        sql = f"{self._entry} WHERE {where} AND r.row > ? ORDER BY r.row LIMIT ?"
        return list(map(Entry._make, self.db.execute(sql, (*params, after, limit))))

    def entries_of(self, rows: Iterable[int], where: str = "r.state = 0", params: Sequence[Value] = ()) -> list[Entry]:
        """Those of the rows that satisfy a condition on ``records r``."""
        return list(
            map(Entry._make, self.db.select_in(f"{self._entry} WHERE r.row IN ({{}}) AND {where}", rows, params))
        )

    def beside(self, entry: Entry, most: int) -> list[int]:
        """Row numbers of the up to ``most`` live records before this one in its run, and of those after it."""
        found = list[int]()
        for compare, order in (("<", "DESC"), (">", "")):
            # The index of runs leads straight to them, unless many users give their runs the same name.
            rows = self.db.execute(
                f"SELECT r.row, r.user, r.agent FROM records r WHERE r.run = ? AND r.run != 0 AND r.state = 0 "
                f"AND r.row {compare} ? ORDER BY r.row {order} LIMIT ?",
                (entry.run, entry.row, 8 * most),
            )
            near = [row for row, user, agent in rows if (user, agent) == (entry.user, entry.agent)][:most]
            if len(near) < most and len(rows) == 8 * most:
                where, params = ScopeKey(entry.user, None, None).where()
                if not entry.user:
                    where, params = ScopeKey(0, None, entry.run).where()
                rows = self.db.execute(
                    f"SELECT r.row FROM records r WHERE {where} AND +r.agent = ? AND +r.run = ? "
                    f"AND r.row {compare} ? ORDER BY r.row {order} LIMIT ?",
                    (*params, entry.agent, entry.run, entry.row, most),
                )
                near = [row[0] for row in rows]
            found += near
        return found

    def windows(
        self, where: str, params: Sequence[Value], *, newest_first: bool = False, start: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Ranges ``low < row <= high`` that together hold every record of a condition, ``WINDOW`` records each.

        ``start`` is a row number to go on after.

        A statement that tests a filter on one window takes a few milliseconds, however rarely the filter is met.
        """
        compare, order, edge = ("<", "DESC", "min") if newest_first else (">", "", "max")
        sql = (
            f"SELECT {edge}(row) FROM (SELECT r.row FROM records r WHERE {where} AND r.row {compare} ? "
            f"ORDER BY r.row {order} LIMIT {WINDOW})"
        )
        at = start if start is not None else _LAST_ROW if newest_first else 0
        while (found := self.db.execute(sql, (*params, at))[0][0]) is not None:
            yield (found - 1, at - 1) if newest_first else (at, found)
            at = found

    def rows_after(self, row: int, limit: int) -> list[int]:
        """The next row numbers, of records in any state."""
        sql = "SELECT row FROM records WHERE row > ? ORDER BY row LIMIT ?"
        return [found[0] for found in self.db.execute(sql, (row, limit))]

    def rows_between(self, where: str, params: Sequence[Value], low: int, high: int) -> list[int]:
        """Row numbers in ``low < row <= high`` that satisfy a condition on ``records r``, ascending."""
        sql = f"SELECT r.row FROM records r WHERE {where} AND r.row > ? AND r.row <= ? ORDER BY r.row"
        return [row[0] for row in self.db.execute(sql, (*params, low, high))]

    def count(self, where: str, params: Sequence[Value], stop: int) -> int:
        """How many records satisfy a condition on ``records r``, counting up to ``stop``."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM records r WHERE {where} LIMIT ?)"
        return self.db.execute(sql, (*params, stop))[0][0]

    def live_vectors(self, rows: Iterable[int]) -> dict[int, bytes]:
        """Embeddings of those of the rows that are live."""
        sql = f"SELECT e.row, e.vector FROM {self.embeddings} e JOIN records r ON r.row = e.row "
        return dict(self.db.select_in(sql + "WHERE e.row IN ({}) AND r.state = 0", rows))

    def embedding_tables(self) -> list[str]:
        """The tables of all generations: the current one, one in the making, old ones that are yet to be removed."""
        found = self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'embeddings_*'")
        return [row[0] for row in found]

    def old_embedding_tables(self) -> list[str]:
        """The tables of models that the store no longer uses. Only inside a transaction is that more than a hint."""
        plan = self.meta(NEXT_GENERATION)
        making = f"embeddings_{json.loads(plan)['generation']}" if plan else None
        return [table for table in self.embedding_tables() if table not in (self.embeddings, making)]

    def meta(self, key: str) -> Any:
        """A value of the store's own bookkeeping, or None."""
        rows = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    # -- writing -----------------------------------------------------------------------------------------------------

    def set_meta(self, key: str, value: Value) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def create(self, draft: Draft, vector: bytes, now: Micros) -> Created:
        """Store one draft; see ``batch_create``."""
        return self.batch_create([draft], [vector], now)[0]

    def batch_create(self, drafts: Sequence[Draft], vectors: Sequence[bytes], now: Micros) -> list[Created]:
        """Store drafts with their embeddings and ADD events; duplicates are answered with what is already there.

        Raises ``ConflictError`` if a caller's id is in use for anything else; nothing may be committed then.
        """
        number = self.names.intern
        keys = [
            (number(self.db, d.scope.user_id), number(self.db, d.scope.agent_id), number(self.db, d.scope.run_id))
            for d in drafts
        ]
        prints = [
            fingerprint(key, d.role, d.kind, d.content) if d.dedupe else None
            for key, d in zip(keys, drafts, strict=True)
        ]
        by_id = self._existing_ids(d.id for d in drafts if d.id is not None)
        by_print = self._existing_facts(
            [(key[0], mark) for key, mark in zip(keys, prints, strict=True) if mark is not None], now
        )
        fresh_ids = iter(uuid7s(sum(d.id is None for d in drafts), now))
        row = self.last_row() + 1
        outcomes, records, embeddings, events = list[Created](), list[Row](), list[Row](), list[Row]()
        growth = dict[str, tuple[int, int]]()
        for draft, key, mark, vector in zip(drafts, keys, prints, vectors, strict=True):
            id = draft.id if draft.id is not None else next(fresh_ids)
            same = by_id.get(id) if draft.id is not None else None
            if same is not None and not _same(same, key, draft, now):
                raise ConflictError(f"the id {id!r} is already in use; choose another one, or update the record")
            if same is None and mark is not None:
                same = by_print.get(mark)
            if same is not None:
                outcomes.append(Created("duplicate", same))
                continue
            expires = None if draft.ttl is None else now + draft.ttl
            stored = Stored(
                row, id, *key, draft.role, draft.kind, draft.layer.value, draft.content, draft.metadata,
                draft.importance, None, now, now, draft.occurred_at, expires, 1, LIVE, 0, None,
            )  # fmt: skip
            records.append((*_bindable(stored), mark))
            embeddings.append((row, vector))
            events.append((row, "ADD", now, 1, None))
            outcomes.append(Created("added", stored))
            count, size = growth.get(stored.layer, (0, 0))
            growth[stored.layer] = (count + 1, size + stored.size)
            row += 1
            if draft.id is not None:
                by_id[id] = stored
            if mark is not None:
                by_print[mark] = stored
        self.db.insert(_INSERT, records)
        self.db.insert(f"INSERT INTO {self.embeddings} VALUES {{}}", embeddings)
        self.db.insert(INSERT_EVENTS, events)
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
            "UPDATE records SET state = 1, version = version + 1, updated_at = ? WHERE row = ?",
            [(now, stored.row) for stored in found],
        )
        self.db.insert(INSERT_EVENTS, [(stored.row, "DELETE", now, stored.version + 1, None) for stored in found])
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
        self.note_accesses([(stored.row, 0, None, None, *verdict)])
        self._event(stored.row, EventType.FEEDBACK, now, stored.version, data)

    def erase_rows(self, found: Sequence[Stored], now: Micros) -> None:
        """Remove text, metadata and embeddings of records, from their history too; what remains is the event chain."""
        rows = [(stored.row,) for stored in found]
        self.db.executemany(
            "UPDATE records SET state = 2, version = version + 1, content = '', metadata = NULL, fingerprint = NULL, "
            "role = NULL, kind = '', importance = NULL, rating = NULL, occurred_at = NULL, expires_at = NULL, "
            "updated_at = ? WHERE row = ?",
            [(now, stored.row) for stored in found],
        )
        for table in (*self.embedding_tables(), "accesses"):
            self.db.executemany(f"DELETE FROM {table} WHERE row = ?", rows)
        self._shrink(found)
        self.db.executemany("UPDATE history SET data = NULL WHERE row = ?", rows)
        self.db.insert(INSERT_EVENTS, [(stored.row, "ERASE", now, stored.version + 1, None) for stored in found])

    def remove_old_embeddings(self, most: int) -> bool:
        """Remove that many vectors of a model that the store no longer uses; False if there were none left."""
        for table in self.old_embedding_tables():
            rows = self.db.execute(f"SELECT row FROM {table} LIMIT ?", (most,))
            self.db.executemany(f"DELETE FROM {table} WHERE row = ?", rows)
            if len(rows) < most:
                self.db.execute(f"DROP TABLE {table}")
            return True
        return False

    def note_accesses(self, found: Sequence[Row]) -> None:
        """Add to what is known of the use of live records: ``(row, times, first_at, last_at, value, weight)``.

        Those that may be promoted are marked, so that the next sweep looks at them and at no others.
        """
        self.db.insert(_ACCESS, found)

    def touch(self, rows: Iterable[int]) -> None:
        """Have the next sweep see whether these records are to be promoted."""
        self.note_accesses([(row, 0, None, None, 0.0, 0.0) for row in rows])

    def refresh_prints(self, rows: Iterable[int]) -> None:
        """Make the fingerprints of plain facts anew, whose kind has changed."""
        found = [stored for stored in self.find_rows(rows) if stored.state == LIVE]
        self.db.executemany(
            "UPDATE records SET fingerprint = ? WHERE row = ? AND fingerprint IS NOT NULL",
            [(fingerprint((s.user, s.agent, s.run), s.role, s.kind, s.content), s.row) for s in found],
        )

    def grow(self, layer: str, count: int, size: int) -> None:
        """Tell of a layer that has grown by so many records and bytes of text."""
        if self._grown is not None:
            self._grown(self, layer, count, size)

    def resize(self, changes: Iterable[tuple[int, str, int, int]]) -> None:
        """Count ``(row, layer, records, bytes)`` more, or less, where that row is counted already."""
        settled = int(self.meta(SETTLED) or 0)
        growth = dict[str, tuple[int, int]]()
        for row, layer, count, size in changes:
            if row <= settled:
                before = growth.get(layer, (0, 0))
                growth[layer] = (before[0] + count, before[1] + size)
        sql = "UPDATE layers SET records = records + ?, bytes = bytes + ? WHERE layer = ?"
        self.db.executemany(sql, [(count, size, layer) for layer, (count, size) in growth.items() if count or size])

    def queue(self, rows: Iterable[int]) -> None:
        """Have sweeps find these records when their time in their layer is over."""
        sql = (
            "INSERT OR IGNORE INTO due SELECT layer, coalesce(aged_from, created_at), row FROM records "
            "WHERE row = ? AND state = 0 AND pinned = 0"
        )
        self.db.executemany(sql, [(row,) for row in rows])

    # -- inside ------------------------------------------------------------------------------------------------------

    def _shrink(self, found: Sequence[Stored]) -> None:
        self.resize((stored.row, stored.layer, -1, -stored.size) for stored in found if stored.state == LIVE)

    def _change(self, current: Stored, values: dict[str, Value], patch: Patch, event: EventType, now: Micros) -> Stored:
        old = current._asdict()
        changed = {column: value for column, value in values.items() if old[column] != value}
        if not changed:
            return current
        new = current._replace(**{**changed, "version": current.version + 1, "updated_at": now})
        columns = {**changed, "version": new.version, "updated_at": now}
        if "content" in changed:
            key = (current.user, current.agent, current.run)
            mark = fingerprint(key, current.role, current.kind, new.content)
            sql = "UPDATE records SET fingerprint = ? WHERE row = ? AND fingerprint IS NOT NULL"
            self.db.execute(sql, (mark, current.row))
            if patch.generation != self.generation:
                raise StaleVectorError("the model changed while the new content was being embedded")
            self.db.execute(f"UPDATE {self.embeddings} SET vector = ? WHERE row = ?", (patch.vector, current.row))
        sets = ", ".join(f"{column} = ?" for column in columns)
        self.db.execute(f"UPDATE records SET {sets} WHERE row = ?", (*columns.values(), current.row))
        replaced = {column: old[column] for column in changed if column not in ("state", "aged_from")}
        self._event(current.row, event, now, new.version, replaced)
        count, size = int(current.state != LIVE), new.size - (current.size if current.state == LIVE else 0)
        self.resize([(current.row, current.layer, count, size)])
        if count or size > 0:
            self.grow(current.layer, count, size)
        if count:
            self.queue([current.row])
        if count or "importance" in changed:
            self.touch([current.row])
        return new

    def _event(self, row: int, event: EventType, now: Micros, version: int, data: dict[str, Any]) -> None:
        text = json.dumps(data, ensure_ascii=False) if data else None
        self.db.insert(INSERT_EVENTS, [(row, event.value, now, version, text)])

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
        """Visible records by fingerprint, of the users and fingerprints given; the oldest where there are several."""
        found = list[Row]()
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            found += self.db.execute(
                f"WITH wanted (user, mark) AS (VALUES {','.join(['(?,?)'] * len(chunk))}) "
                f"SELECT {COLUMNS}, r.fingerprint FROM wanted w CROSS JOIN records r "
                "ON r.user = w.user AND r.fingerprint = w.mark "
                f"WHERE r.state = 0 AND r.fingerprint IS NOT NULL AND {UNEXPIRED} ORDER BY r.row DESC",
                (*(value for pair in chunk for value in pair), now),
            )
        return {row[-1]: Stored._make(row[:-1]) for row in found}


def _bindable(stored: Stored) -> tuple[Value, ...]:
    """The driver turns large ints into floats; beyond 53 bits (years before 1685, after 2255) text keeps them exact."""
    when = stored.occurred_at
    return stored if when is None or -(2**53) < when < 2**53 else stored._replace(occurred_at=str(when))  # pyright: ignore[reportArgumentType]


def _same(stored: Stored, key: tuple[int, int, int], draft: Draft, now: Micros) -> bool:
    return visible(stored, now) and (stored.user, stored.agent, stored.run) == key and stored.content == draft.content
