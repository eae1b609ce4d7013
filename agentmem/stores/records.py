"""Reading: records, their embeddings, their history and the feed, one statement away.

Every method runs on one connection and takes a few milliseconds, since libSQL lets no other thread run meanwhile;
what may be long goes in windows. Conditions are SQL on ``records r``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from agentmem.stores import bodies, documents, embeddings, meta, past
from agentmem.stores.connection import CHUNK, Connection, Row, Value
from agentmem.stores.names import Names
from agentmem.stores.rows import COLUMN_NAMES, AwayError, ScopeKey, Stored, not_found, visible
from agentmem.stores.schema import ARCHIVED, DELETED, ERASED, EXPIRED, LIVE
from agentmem.stores.spaces import entry as entry_of
from agentmem.stores.spaces import parts_of, path_of
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.data import parsed
from agentmem.types.enums import ALL, EventType, Layer
from agentmem.types.errors import ModelMismatchError, NotFoundError
from agentmem.types.forms import OF_CONTENT, count_of, name_of
from agentmem.types.inputs import Scope
from agentmem.types.ports import Entry, FeedEvent
from agentmem.types.records import HistoryEvent, MemoryRecord, StoreEvent
from agentmem.types.spelling import spellings

if TYPE_CHECKING:
    from agentmem.stores.timeline import Conditions

_COLUMNS = ", ".join(f"r.{name}" for name in COLUMN_NAMES)
_SUCCESSOR = "(SELECT s.id FROM records s WHERE s.row = r.superseded_by)"
COLUMNS = f"{_COLUMNS}, NULL, {_SUCCESSOR}"
"""What makes a ``Stored``."""
USED = f"{_COLUMNS}, (SELECT a.last_at FROM accesses a WHERE a.row = r.row), {_SUCCESSOR}"
"""The same with its last access, for what is to be shown."""
_FIND, _FIND_USED = (f"SELECT {columns} FROM records r WHERE r.row IN ({{}})" for columns in (COLUMNS, USED))
WINDOW = 2_000
"""Records whose filter is tested by one statement."""
UNEXPIRED = "(r.expires_at IS NULL OR r.expires_at > ?)"
LIVE_ONLY = f"r.state = {LIVE}"
_HIDDEN = {
    DELETED: "records_by_deletion", ERASED: "records_erased", EXPIRED: "records_by_grace", ARCHIVED: "records_archived",
}  # fmt: skip
"""The index that has the records of a state, and no others."""
_LAST_ROW = 2**62
_EPOCH = f"(SELECT value FROM meta WHERE key = '{meta.NAMES_EPOCH}')"
STANDING = f"SELECT (SELECT value FROM meta WHERE key = '{meta.GENERATION}'), {_EPOCH}"
_EVENTS = 500
OWNER = "iif(r.space, r.space, r.user)"
"""What derived copies know a record by instead of its user, see ``ScopeKey.owners``."""
_ENTRY = ", ".join(
    {"vector": "coalesce(e.vector, x'')", "user": OWNER, "said": "''"}.get(name, f"r.{name}") for name in Entry._fields
)
PIECE = 20_000
"""Embeddings that are read at once, about."""


_LAYERS = {layer.value: layer for layer in Layer}
Owner: TypeAlias = tuple[str | None, str | None, str | None, tuple[str, ...]]
"""The names of a record's user, agent and run, and its namespace."""


def public(stored: Stored, owner: Owner, data: str | None = None) -> MemoryRecord:
    """The public form of a row, with its data as JSON text."""
    user, agent, run, namespace = owner
    created = to_datetime(stored.created_at)
    # A frozen dataclass sets field by field: 3 µs for so many, a tenth of it so, and there is one for each hit.
    record = MemoryRecord.__new__(MemoryRecord)
    record.__dict__.update(
        id=stored.id,
        content=stored.content,
        user_id=user,
        agent_id=agent,
        run_id=run,
        role=stored.role,
        kind=stored.kind,
        layer=_LAYERS[stored.layer],
        metadata=json.loads(stored.metadata) if stored.metadata else {},
        importance=stored.importance,
        rating=stored.rating,
        created_at=created,
        updated_at=created if stored.updated_at == stored.created_at else to_datetime(stored.updated_at),
        occurred_at=None if stored.occurred_at is None else to_datetime(stored.occurred_at),
        expires_at=None if stored.expires_at is None else to_datetime(stored.expires_at),
        version=stored.version,
        pinned=bool(stored.pinned),
        namespace=namespace,
        key=stored.key,
        embedding="content" if stored.vectors == OF_CONTENT else name_of(stored.vectors),
        data=None if data is None else parsed(data),
        archived=stored.state == ARCHIVED,
        sliding=None if stored.sliding is None else stored.sliding / 1_000_000,
        valid_from=None if stored.valid_from is None else to_datetime(stored.valid_from),
        valid_to=None if stored.valid_to is None else to_datetime(stored.valid_to),
        retired_at=None if stored.retired_at is None else to_datetime(stored.retired_at),
        # Of one that was erased the id is a hash, in bytes.
        superseded_by=stored.successor if stored.superseded_by and isinstance(stored.successor, str) else None,  # pyright: ignore[reportUnnecessaryIsInstance]
        last_accessed=None if stored.used_at is None else to_datetime(stored.used_at),
    )
    return record


class Records:
    """What the store holds. ``generation`` numbers the embedding model whose vectors are read."""

    def __init__(self, db: Connection, names: Names, generation: int = 1) -> None:
        self.db = db
        self.names = names
        self.generation = generation

    # -- models ------------------------------------------------------------------------------------------------------

    @property
    def embeddings(self) -> str:
        """The table with this generation's vectors."""
        return f"embeddings_{self.generation}"

    def is_current(self) -> bool:
        """Whether the store still uses this generation. Takes note of names that were removed, too."""
        [(generation, epoch)] = self.db.execute(STANDING)
        return self.stands(generation, epoch)

    def stands(self, generation: Any, epoch: Any) -> bool:
        """The same, of what ``STANDING`` gives."""
        self.names.follow(epoch or 0)
        return int(generation or 1) == self.generation

    def check_generation(self) -> None:
        """Raise ``ModelMismatchError`` if another process moved the store on to another model."""
        if not self.is_current():
            raise ModelMismatchError(
                f"this store was moved to the model {self.meta(meta.MODEL)!r} while it was open here; "
                "close the client and open it again"
            )

    def embedding_tables(self) -> list[str]:
        """The tables of all generations: the current one, one in the making, old ones that are yet to be removed."""
        found = self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'embeddings_*'")
        return [row[0] for row in found]

    def old_embedding_tables(self) -> list[str]:
        """The tables of models that the store no longer uses. Only inside a transaction is that more than a hint."""
        plan = self.meta(meta.NEXT_GENERATION)
        making = f"embeddings_{json.loads(plan)['generation']}" if plan else None
        return [table for table in self.embedding_tables() if table not in (self.embeddings, making)]

    def meta(self, key: str) -> Any:
        """A value of the store's own bookkeeping, or None; the keys are in ``stores.meta``."""
        return meta.get(self.db, key)

    def first_event(self, row: int) -> int | None:
        """The number of a record's first event that is still there, or None."""
        return self.db.execute("SELECT min(seq) FROM history WHERE row = ?", (row,))[0][0]

    # -- scopes ------------------------------------------------------------------------------------------------------

    def scope_key(self, scope: Scope, *, anywhere: bool = False) -> ScopeKey | None:
        """The scope's numbers, or None if nobody has one of its ids (so that nothing can match).

        A scope that names no namespace is that of what is in none; with ``anywhere``, that of all of them.

        ``is_current`` or ``newest`` comes before it: names that were removed meanwhile may have come back with other
        numbers.
        """
        user = None if scope.user_id is ALL else self._known(scope.user_id) if scope.user_id is not None else 0
        agent = None if scope.agent_id is None else self._known(scope.agent_id)
        run = None if scope.run_id is None else self._known(scope.run_id)
        if -1 in (user, agent, run):
            return None
        if not scope.namespace and scope.under is None:
            return ScopeKey(user, agent, run, None if anywhere and scope.namespace is None else 0)
        below = scope.under is not None
        path = path_of(scope.under if scope.under is not None else scope.namespace or ())
        if user is None or below:
            return self.key_at(user, path, below=below, agent=agent, run=run)
        space = self.names.find_space(self.db, entry_of(user, path))
        return None if space is None else ScopeKey(user, agent, run, space)

    def key_at(
        self, user: int | None, path: bytes, *, below: bool, agent: int | None = None, run: int | None = None
    ) -> ScopeKey | None:
        """A scope of a user's namespaces at a path or, ``below``, at it and below; None if there are none."""
        if user is None and not path:
            return ScopeKey(None, agent, run, None if below else 0, None, b"", below)
        spaces = tuple(self.names.spaces_below(self.db, user, path, exactly=not below))
        return None if path and not spaces else ScopeKey(user, agent, run, None, spaces, path, below)

    def _known(self, name: str) -> int:
        found = self.names.find(self.db, name)
        return -1 if found is None else found

    # -- records -----------------------------------------------------------------------------------------------------

    def find_by_id(self, id: str, scope: ScopeKey | None = None, now: Micros | None = None) -> Stored | None:
        """The record in any state; with ``scope`` only inside it, with ``now`` only if live and not expired.

        Of the spellings of an id the given one goes first.
        """
        rows = list[Row]()
        for spelling in spellings(id):
            rows = rows or self.db.execute(f"SELECT {USED} FROM records r WHERE r.id = ?", (spelling,))
        if not rows:
            return None
        stored = Stored._make(rows[0])
        if scope is not None and not scope.admits(*stored.scope):
            return None
        return None if now is not None and not visible(stored, now) else stored

    def find_rows(
        self, rows: Iterable[int], *, used: bool = False, conditions: Conditions = ((), ())
    ) -> Iterator[Stored]:
        """Records by row number, in any state and no particular order; ``used`` if they are to be shown.

        With ``conditions``, those that satisfy them as they are read: rows that were found by a statement before this
        one may have been changed since.
        """
        sql = " AND ".join([_FIND_USED if used else _FIND, *conditions[0]])
        return map(Stored._make, self.db.select_in(sql, rows, conditions[1]))

    def last_uses(self, rows: Iterable[int]) -> dict[int, Micros | None]:
        """When rows were last used, as far as that was written down."""
        return dict(self.db.select_in("SELECT row, last_at FROM accesses WHERE row IN ({})", rows))

    def find_ids(self, ids: Iterable[str]) -> Iterator[Stored]:
        """Records by id, in any state and no particular order."""
        return map(Stored._make, self.db.select_in(f"SELECT {COLUMNS} FROM records r WHERE r.id IN ({{}})", ids))

    def record(self, stored: Stored, *, data: bool = True) -> MemoryRecord:
        """The public form of a row; with ``data``, if it has any.

        Where that has been replaced many times since the row was read, it is the record as it is now. Raises
        ``NotFoundError`` if it was erased since, and its user, too; ``AwayError`` if it went to an archive.
        """
        if stored.body is None or not data:
            return public(stored, self.owner(stored))
        while True:
            texts = self._data([stored])
            if stored.row in texts or stored.has_texts:
                return public(stored, self.owner(stored), texts.get(stored.row))
            stored = self._moved_on(stored)

    def data_of(self, found: Iterable[Stored]) -> dict[int, str]:
        """The data, as JSON text, of those rows that have any. Raises ``NotFoundError`` if one was changed or erased
        since it was read, so that its data is no longer there; ``AwayError`` if it went to an archive."""
        with_data = [stored for stored in found if stored.body is not None]
        texts = self._data(with_data) if with_data else {}
        for stored in with_data:
            if stored.row not in texts and not stored.has_texts:
                raise not_found(self._moved_on(stored).id)
        return texts

    def _data(self, found: Sequence[Stored]) -> dict[int, str]:
        """The data of rows. Raises ``AwayError`` where a live one has gone to an archive since."""
        away = set[int]()
        texts = documents.read(self.db, [stored for stored in found if stored.state == LIVE], away)
        if away:
            raise AwayError(next(stored.id for stored in found if stored.row in away))
        rest = [stored for stored in found if stored.state != LIVE]
        return texts | documents.read(self.db, rest) if rest else texts

    def _moved_on(self, stored: Stored) -> Stored:
        """The record as it is now, whose data is no longer what it was.

        Raises ``NotFoundError``, ``AwayError``, ``StoreCorruptError``.
        """
        current = next(self.find_rows([stored.row]), None)
        if current is None or current.state == ERASED:
            raise not_found(stored.id)
        if current.state == ARCHIVED and stored.state != ARCHIVED:
            raise AwayError(stored.id)
        if current.body == stored.body:
            raise documents.missing(stored)
        return current

    def owner(self, stored: Stored) -> Owner:
        """The names of a row's user, agent and run, and its namespace. Raises as ``record`` does."""
        return self.owner_of(*stored.scope)

    def owner_of(self, user: int, agent: int, run: int, space: int) -> Owner:
        """The same for the numbers of a row."""
        name, db = self.names.name, self.db
        namespace = parts_of(self.names.path(db, space)) if space else ()
        return name(db, user), name(db, agent), name(db, run), namespace

    def known(self, found: Iterable[Stored], *, data: bool = True) -> Iterator[MemoryRecord]:
        """The public form of rows, without those that were erased after they were read. Raises ``AwayError``."""
        every = list(found)
        texts = self._data(every) if data else {}
        for stored in every:
            with suppress(NotFoundError):
                if stored.row in texts:
                    yield public(stored, self.owner(stored), texts[stored.row])
                else:
                    yield self.record(stored, data=data)

    def last_row(self) -> int:
        """The newest record's row number."""
        rows = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        return rows[0][0] if rows else 0

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

    def rows_between(self, where: str, params: Sequence[Value], low: int, high: int) -> list[int]:
        """Row numbers in ``low < row <= high`` that satisfy a condition, ascending."""
        sql = f"SELECT r.row FROM records r WHERE {where} AND r.row > ? AND r.row <= ? ORDER BY r.row"
        return [row[0] for row in self.db.execute(sql, (*params, low, high))]

    def counts_between(self, low: int, high: int) -> dict[int, int]:
        """How many embeddings each of the live records has, by row, in ``low < row <= high``."""
        sql = f"SELECT r.row, r.vectors FROM records r WHERE {LIVE_ONLY} AND r.row > ? AND r.row <= ?"
        return {row: count_of(code) for row, code in self.db.execute(sql, (low, high))}

    def rows_among(self, rows: Sequence[int], where: str, params: Sequence[Value]) -> list[int]:
        """Those of the rows that satisfy a condition."""
        sql = f"SELECT r.row FROM records r WHERE r.row IN ({{}}) AND ({where})"
        return [row[0] for row in self.db.select_in(sql, rows, params)]

    def matching(self, key: ScopeKey, where: str, params: Sequence[Value]) -> Iterator[int]:
        """Rows of a scope's live records that satisfy a condition, in windows so that no statement takes long."""
        scope, bound = key.where()
        for low, high in self.windows(scope, bound):
            yield from self.rows_between(f"{scope} AND ({where})", (*bound, *params), low, high)

    def passing(self, texts: str, where: str, params: Sequence[Value]) -> list[int]:
        """Which of some metadata, a JSON list of texts or null, satisfy a condition on ``r.metadata``: positions."""
        sql = f"SELECT r.key FROM (SELECT key, value AS metadata FROM json_each(?)) AS r WHERE {where}"
        return [row[0] for row in self.db.execute(sql, (texts, *params))]

    def passing_with(self, texts: Mapping[int, str], where: str, params: Sequence[Value]) -> list[int]:
        """Which records, by row, satisfy a condition if their content is what is given, by row."""
        columns = ", ".join(f"s.{name}" for name in COLUMN_NAMES if name != "content")
        sql = (
            f"SELECT r.row FROM (SELECT {columns}, t.value AS content FROM json_each(?) t CROSS JOIN records s "
            f"ON s.row = CAST(t.key AS INTEGER)) AS r WHERE {where}"
        )
        return [row[0] for row in self.db.execute(sql, (json.dumps(texts), *params))]

    def metadata_of(self, rows: Sequence[int]) -> Iterator[tuple[int, str | None]]:
        """The metadata of rows, each with its row number."""
        return map(tuple, self.db.select_in("SELECT row, metadata FROM records WHERE row IN ({})", rows))

    def metadata_between(self, low: int, high: int) -> list[tuple[int, str | None]]:
        """The same of all rows in ``low < row <= high``."""
        return self.db.execute("SELECT row, metadata FROM records WHERE row > ? AND row <= ?", (low, high))

    def versions(self, key: ScopeKey, after: int, limit: int) -> list[tuple[int, int]]:
        """The next live records of a scope: row numbers and versions, by row number."""
        where, params = key.where()
        sql = f"SELECT r.row, r.version FROM records r WHERE {where} AND r.row > ? ORDER BY r.row LIMIT ?"
        return self.db.execute(sql, (*params, after, limit))

    def count(self, where: str, params: Sequence[Value], stop: int) -> int:
        """How many records satisfy a condition, counting up to ``stop``."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM records r WHERE {where} LIMIT ?)"
        return self.db.execute(sql, (*params, stop))[0][0]

    def hidden(self) -> dict[int, int]:
        """How many records there are of each state but live, by state; no record is looked at, but its index entry."""
        counts = (
            f"(SELECT count(*) FROM records INDEXED BY {_HIDDEN[state]} WHERE state = {state})" for state in _HIDDEN
        )
        return dict(zip(_HIDDEN, self.db.execute(f"SELECT {', '.join(counts)}")[0], strict=True))

    # -- for indexes -------------------------------------------------------------------------------------------------

    @property
    def _entry(self) -> str:
        return f"SELECT {_ENTRY} FROM records r LEFT JOIN {self.embeddings} e ON e.row = r.row"

    def entries(self, where: str, params: Sequence[Value], after: int, limit: int) -> list[Entry]:
        """The next records that satisfy a condition, as indexes see them, by row number."""
        sql = f"{self._entry} WHERE {where} AND r.row > ? ORDER BY r.row LIMIT ?"
        return list(map(Entry._make, self.db.execute(sql, (*params, after, limit))))

    def entries_of(self, rows: Iterable[int], where: str = LIVE_ONLY, params: Sequence[Value] = ()) -> list[Entry]:
        """Those of the rows that satisfy a condition."""
        wanted = sorted(set(rows))
        found = list[Entry]()
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            if part[-1] - part[0] < len(part):  # no gap, as in what was added at once: a quarter less time
                sql = f"{self._entry} WHERE r.row BETWEEN ? AND ? AND {where}"
                read: Iterable[Row] = self.db.execute(sql, (part[0], part[-1], *params))
            else:
                read = self.db.select_in(f"{self._entry} WHERE r.row IN ({{}}) AND {where}", part, params)
            found += map(Entry._make, read)
        return found

    def whole(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        """The entries with what only few have: embeddings after the first, and the texts that those are of.

        In several lists, where that is much.
        """
        if all(entry.vectors == OF_CONTENT for entry in entries):
            if entries:
                yield entries
            return
        at = 0
        while at < len(entries):
            end, held = at, 0
            while end < len(entries) and (end == at or held < PIECE):
                held += count_of(entries[end].vectors)
                end += 1
            yield self._whole(entries[at:end])
            at = end

    def _whole(self, entries: list[Entry]) -> list[Entry]:
        several = [entry.row for entry in entries if count_of(entry.vectors) > 1]
        further = embeddings.further(self.db, self.embeddings, several)
        texts = self.texts((entry.row, entry.vectors, entry.body) for entry in entries)
        return [
            entry
            if entry.vectors in embeddings.SINGLE
            else entry._replace(
                vector=entry.vector + further.get(entry.row, b""),
                said=bodies.beside(entry.content, texts.get(entry.row, ())),
            )
            for entry in entries
        ]

    def texts(self, places: Iterable[tuple[int, int, int | None]]) -> dict[int, list[str]]:
        """What was embedded in the place of the content, by row: ``(row, vectors, body)`` of records."""
        wanted = [(row, body) for row, code, body in places if code > OF_CONTENT and body is not None]
        return bodies.texts_of(self.db, wanted) if wanted else {}

    def neighbours(self, entry: Entry, most: int) -> list[int]:
        """Row numbers of the up to ``most`` live records before this one in its run, and of those after it."""
        found = list[int]()
        for compare, order in (("<", "DESC"), (">", "")):
            # The index of runs leads straight to them, unless many users give their runs the same name.
            rows = self.db.execute(
                f"SELECT r.row, {OWNER}, r.agent FROM records r WHERE r.run = ? AND r.run != 0 AND {LIVE_ONLY} "
                f"AND r.row {compare} ? ORDER BY r.row {order} LIMIT ?",
                (entry.run, entry.row, 8 * most),
            )
            near = [row for row, user, agent in rows if (user, agent) == (entry.user, entry.agent)][:most]
            if len(near) < most and len(rows) == 8 * most:
                [(user, space)] = self.db.execute("SELECT user, space FROM records WHERE row = ?", (entry.row,))
                where, params = ScopeKey(user, None, None if user or space else entry.run, space).where()
                rows = self.db.execute(
                    f"SELECT r.row FROM records r WHERE {where} AND +r.agent = ? AND +r.run = ? "
                    f"AND r.row {compare} ? ORDER BY r.row {order} LIMIT ?",
                    (*params, entry.agent, entry.run, entry.row, most),
                )
                near = [row[0] for row in rows]
            found += near
        return found

    def live_vectors(self, rows: Iterable[int]) -> dict[int, bytes]:
        """Embeddings of those of the rows that are live and have any, all of each one after the other."""
        sql = f"SELECT e.row, e.vector, r.vectors FROM {self.embeddings} e JOIN records r ON r.row = e.row "
        found = list(self.db.select_in(f"{sql}WHERE e.row IN ({{}}) AND {LIVE_ONLY}", rows))
        return self._all_parts({row: vector for row, vector, _ in found}, {row: code for row, _, code in found})

    def vectors_of(self, rows: Sequence[int]) -> dict[int, bytes]:
        """Embeddings of the rows, in whatever state they are. Nothing else is read."""
        sql = f"SELECT row, vector FROM {self.embeddings} WHERE row IN ({{}})"
        return dict(self.db.select_in(sql, rows, chunk=WINDOW))

    def ids_of(self, rows: Iterable[int]) -> dict[int, str]:
        """The ids of rows, in whatever state they are, but of those that were erased."""
        sql = f"SELECT row, id FROM records WHERE row IN ({{}}) AND state != {ERASED}"
        return dict(self.db.select_in(sql, rows))

    def not_erased(self, rows: Iterable[int]) -> set[int]:
        """Those of the rows that were not erased, in whatever other state they are."""
        sql = f"SELECT row FROM records WHERE row IN ({{}}) AND state != {ERASED}"
        return {row for (row,) in self.db.select_in(sql, rows)}

    def owned_vectors(self, rows: Iterable[int]) -> dict[int, tuple[tuple[int, int, int], bytes]]:
        """The same with the numbers of owner, agent and run."""
        sql = (
            f"SELECT r.row, {OWNER}, r.agent, r.run, r.vectors, e.vector FROM records r "
            f"JOIN {self.embeddings} e ON e.row = r.row "
        )
        found = list(self.db.select_in(f"{sql}WHERE r.row IN ({{}}) AND {LIVE_ONLY}", rows))
        vectors = self._all_parts({row[0]: row[5] for row in found}, {row[0]: row[4] for row in found})
        return {row[0]: (row[1:4], vectors[row[0]]) for row in found}

    def vectors(self, found: Sequence[Stored]) -> dict[int, bytes]:
        """The same of records in whatever state."""
        codes = {stored.row: stored.vectors for stored in found}
        sql = f"SELECT row, vector FROM {self.embeddings} WHERE row IN ({{}})"
        return self._all_parts(dict(self.db.select_in(sql, codes)), codes)

    def _all_parts(self, first: dict[int, bytes], codes: dict[int, int]) -> dict[int, bytes]:
        several = [row for row in first if codes[row] not in embeddings.SINGLE]
        if several:
            for row, more in embeddings.further(self.db, self.embeddings, several).items():
                first[row] += more
        return first

    # -- the history, which is the feed ------------------------------------------------------------------------------

    def last_seq(self) -> int:
        """The newest event's number; one row, so that every call can afford to ask."""
        rows = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'history'")
        return rows[0][0] if rows else 0

    def newest(self) -> int:
        """The same, and takes note of names that were removed."""
        rows = self.db.execute(f"SELECT seq, {_EPOCH} FROM sqlite_sequence WHERE name = 'history'")
        if not rows:
            return 0
        self.names.follow(rows[0][1] or 0)
        return rows[0][0]

    def purged_seq(self) -> int:
        """Up to this event, some were removed, with their records: who is behind it may have missed them."""
        return int(self.meta(meta.PURGED) or 0)

    def event_at(self, seq: int) -> Row | None:
        """What tells an event from one of another history: name, time, version, which record; None if it is gone."""
        sql = (
            "SELECT h.row, h.event, h.at, h.version, r.id FROM history h LEFT JOIN records r ON r.row = h.row "
            "WHERE h.seq = ?"
        )
        rows = self.db.execute(sql, (seq,))
        # The id of a tombstone is bytes.
        return tuple(str(value) for value in rows[0]) if rows else None

    def erased_after(self, seq: int) -> bool:
        """Whether any record was erased after an event, or events after it were removed."""
        if self.purged_seq() > seq:
            return True
        sql = "SELECT EXISTS (SELECT 1 FROM history WHERE seq > ? AND event = 'ERASE')"
        return bool(self.db.execute(sql, (seq,))[0][0])

    def removals(self) -> int:
        """How often names were removed."""
        return int(self.meta(meta.NAMES_EPOCH) or 0)

    def events_after(self, seq: int, limit: int) -> list[FeedEvent]:
        """The next events of the feed. Row 0 is the store: a new model; it belongs to nobody (its numbers are NULL)."""
        rows = self.db.execute(
            "SELECT h.seq, h.row, r.user, r.agent, r.run, r.space, h.event FROM history h "
            "LEFT JOIN records r ON r.row = h.row WHERE h.seq > ? ORDER BY h.seq LIMIT ?",
            (seq, limit),
        )
        return list(map(FeedEvent._make, rows))

    def changed_since(self, seq: int) -> set[int]:
        """The rows that later events are about."""
        return {row for (row,) in self.db.execute("SELECT DISTINCT row FROM history WHERE seq > ?", (seq,))}

    def feed(self, after: int, before: int | None, limit: int, *, newest_first: bool = False) -> list[StoreEvent]:
        """The next events of the feed as callers see them: whose they are, and no texts."""
        rows = self.db.execute(
            "SELECT h.seq, h.event, h.at, h.version, r.id, r.user, r.agent, r.run, r.space FROM history h "
            "LEFT JOIN records r ON r.row = h.row WHERE h.seq > ? AND h.seq < ? "
            f"ORDER BY h.seq{' DESC' if newest_first else ''} LIMIT ?",
            (after, _LAST_ROW if before is None else before, limit),
        )
        found = list[StoreEvent]()
        for number, event, at, version, id, *numbers in rows:
            owner: Owner = (None, None, None, ())
            if numbers[0] is not None:
                with suppress(NotFoundError):  # erased since, and so is whose it was
                    owner = self.owner_of(*numbers)
            known = id if isinstance(id, str) else None
            found.append(StoreEvent(number, EventType(event), to_datetime(at), version, known, *owner))
        return found

    def history(self, row: int, id: str) -> list[HistoryEvent]:
        """All events of one record, oldest first."""
        found, last = list[HistoryEvent](), 0
        while True:
            rows = self.db.execute(
                "SELECT seq, event, at, version, data FROM history "
                f"WHERE row = ? AND seq > ? AND event != 'TOUCH' ORDER BY seq LIMIT {_EVENTS}",
                (row, last),
            )
            found += [
                HistoryEvent(seq, id, EventType(event), to_datetime(at), version, past.shown(data))
                for seq, event, at, version, data in rows
            ]
            if len(rows) < _EVENTS:
                return found
            last = rows[-1][0]
