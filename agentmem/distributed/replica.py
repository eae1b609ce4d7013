"""A replica for reading: the records of a cluster as one LanceDB table, on object storage, that follows the shards.

It is for analytics, and for scopes that nobody needs at once. It is never the truth: it says how far behind it is, and
what it lacks can be made anew from the shards. Only what counts wherever a shard goes next is taken over, so that no
shard that comes back takes away what is here. The one file of serving that imports LanceDB.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from agentmem.distributed.cluster import Cluster
from agentmem.distributed.clustercore import Core
from agentmem.distributed.shards import Changes
from agentmem.types.errors import ObjectNotFoundError, StoreError
from agentmem.types.records import MemoryRecord

TABLE, MARKS = "memories", "watermarks"
_EVENTS = 1_000
"""Of a shard, that are taken over in one version of the table."""
_NAMES = 500
"""Ids in one condition."""


class Lag(NamedTuple):
    """How far behind one shard the replica is: in events, and since when it has all that there was."""

    events: int
    as_of: datetime | None


class Replica:
    """The replica of a cluster at a URI that LanceDB takes: a folder, ``s3://``, ``gs://``, ``az://``.

    One process follows at a time; any number read, with LanceDB or whatever reads Lance. ``storage_options`` are
    LanceDB's.
    """

    def __init__(self, cluster: Cluster, uri: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self._core: Core = cluster._core  # pyright: ignore[reportPrivateUsage]
        self._uri, self._options = uri, storage_options
        self._database: Any = None

    def follow(self) -> dict[str, Lag]:
        """Take over what has happened since the last time, shard by shard; how far behind it is after that."""
        marks = self._marks()
        found = dict[str, Lag]()
        for shard in self._core.maps.read().shards:
            at, changed = marks.get(shard, 0), self._changes(shard, marks.get(shard, 0))
            while changed.last > at:
                self._take(shard, changed)
                self._mark(shard, changed)
                at, changed = changed.last, self._changes(shard, changed.last)
            self._mark(shard, changed)
            found[shard] = _lag(at, changed)
        self._leave_shards(found)
        return found

    def lag(self) -> dict[str, Lag]:
        """How far behind it is now. Asks the shards."""
        marks = self._rows(MARKS)
        known = {row["shard"]: row for row in marks}
        found = dict[str, Lag]()
        for shard in self._core.maps.read().shards:
            seq = known[shard]["seq"] if shard in known else 0
            newest = self._core.control(shard, "changes", seq, 1).newest
            found[shard] = Lag(max(0, newest - seq), known[shard]["as_of"] if shard in known else None)
        return found

    def table(self) -> Any:
        """The table, as LanceDB has it. Raises ``ObjectNotFoundError`` before the first ``follow``."""
        if TABLE not in self._names():
            raise ObjectNotFoundError(f"there is no replica at {self._uri} yet; follow() makes it")
        return self._opened().open_table(TABLE)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _changes(self, shard: str, after: int) -> Changes:
        return self._core.control(shard, "changes", after, _EVENTS, timeout=600.0)

    def _take(self, shard: str, changed: Changes) -> None:
        if changed.records:
            rows = _rows(shard, changed)
            # Of records without a vector there is none.
            if TABLE not in self._names():
                self._opened().create_table(TABLE, data=rows, on_bad_vectors="null")
            else:
                made = self.table().merge_insert(["shard", "id"]).when_matched_update_all()
                made.when_not_matched_insert_all().execute(rows, on_bad_vectors="null")
        if TABLE not in self._names():
            return
        if changed.gone:
            self._delete(shard, changed.gone)
        if changed.erased:
            # Of what was erased nobody knows the id any more: what the shard does not have goes, old versions too.
            kept = {record.id for record in self._records(shard)}
            self._delete(shard, [row["id"] for row in self._ids(shard) if row["id"] not in kept])
            self.table().optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)

    def _records(self, shard: str) -> Iterable[MemoryRecord]:
        cursor: str | None = None
        while True:
            page = self._core.control(shard, "listed", cursor, timeout=600.0)
            yield from page.records
            cursor = page.cursor
            if cursor is None:
                return

    def _delete(self, shard: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _NAMES):
            listed = ", ".join(_quoted(id) for id in ids[start : start + _NAMES])
            self.table().delete(f"shard = {_quoted(shard)} AND id IN ({listed})")

    def _ids(self, shard: str) -> list[dict[str, Any]]:
        table = self.table()
        return table.search().where(f"shard = {_quoted(shard)}").select(["id"]).limit(table.count_rows() + 1).to_list()

    def _leave_shards(self, found: Mapping[str, Lag]) -> None:
        """Remove the rows of shards that the cluster does not have any more."""
        for shard in {row["shard"] for row in self._rows(MARKS)} - found.keys():
            with suppress(ObjectNotFoundError):
                self.table().delete(f"shard = {_quoted(shard)}")
            self._opened().open_table(MARKS).delete(f"shard = {_quoted(shard)}")

    def _marks(self) -> dict[str, int]:
        return {row["shard"]: row["seq"] for row in self._rows(MARKS)}

    def _mark(self, shard: str, changed: Changes) -> None:
        as_of = changed.at if changed.last >= changed.newest else None
        known = next((row for row in self._rows(MARKS) if row["shard"] == shard), None)
        if as_of is None and known is not None:
            as_of = known["as_of"]
        row = {"shard": shard, "seq": changed.last, "as_of": as_of}
        if MARKS not in self._names():
            self._opened().create_table(MARKS, data=[row], schema=_mark_schema())
            return
        made = self._opened().open_table(MARKS).merge_insert("shard").when_matched_update_all()
        made.when_not_matched_insert_all().execute([row])

    def _rows(self, name: str) -> list[dict[str, Any]]:
        if name not in self._names():
            return []
        return self._opened().open_table(name).search().limit(100_000).to_list()

    def _names(self) -> list[str]:
        return list(self._opened().table_names(limit=100))

    def _opened(self) -> Any:
        if self._database is None:
            import lancedb as module

            lancedb: Any = module
            more: dict[str, Any] = {} if self._options is None else {"storage_options": dict(self._options)}
            try:
                self._database = lancedb.connect(self._uri, **more)
            except (OSError, ValueError, RuntimeError) as exc:
                raise StoreError(f"LanceDB cannot open {self._uri}: {exc}") from exc
        return self._database


def _lag(at: int, changed: Changes) -> Lag:
    return Lag(max(0, changed.newest - at), changed.at if at >= changed.newest else None)


def _row(shard: str, record: MemoryRecord, vector: Sequence[float] | None) -> dict[str, Any]:
    return {
        "shard": shard, "id": record.id, "user_id": record.user_id, "agent_id": record.agent_id,
        "run_id": record.run_id, "role": record.role, "kind": record.kind, "layer": str(record.layer.value),
        "content": record.content, "metadata": json.dumps(dict(record.metadata), default=str),
        "created_at": record.created_at, "occurred_at": record.occurred_at, "updated_at": record.updated_at,
        "version": record.version, "vector": vector,
    }  # fmt: skip


def _rows(shard: str, changed: Changes) -> Any:
    pa, rows = _arrow(), [_row(shard, record, changed.vectors.get(record.id)) for record in changed.records]
    moment, text = pa.timestamp("us", tz="UTC"), pa.string()
    texts = ("shard", "id", "user_id", "agent_id", "run_id", "role", "kind", "layer", "content", "metadata")
    columns = {
        **dict.fromkeys(texts, text), **dict.fromkeys(("created_at", "occurred_at", "updated_at"), moment),
        "version": pa.int64(), "vector": pa.list_(pa.float32(), changed.dim),
    }  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items())))


def _mark_schema() -> Any:
    pa = _arrow()
    return pa.schema([("shard", pa.string()), ("seq", pa.int64()), ("as_of", pa.timestamp("us", tz="UTC"))])


def _arrow() -> Any:
    import pyarrow as pa

    return pa


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
