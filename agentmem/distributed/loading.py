"""Rows of a Ray dataset into stores: each store has one actor that writes it."""

# Ray is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from agentmem.distributed.datasink import plain_tables
from agentmem.distributed.shardmap import slot_of
from agentmem.errors import InvalidInputError, MissingExtraError

try:
    import ray
    import ray.data
    from ray.data.datasource import Datasink
except ImportError as exc:
    raise MissingExtraError("Ray is not installed; pip install 'agentmem-db[ray]'") from exc

if TYPE_CHECKING:
    import pyarrow as pa

    from agentmem import Embedder

__all__ = ["LoadReport", "load", "store_of"]

CHUNK = 1_000
"""Records of one transaction."""
_TEXTS = ("id", "content", "user_id", "agent_id", "run_id", "role", "kind", "layer")
_AS_IT_IS = ("importance", "occurred_at", "valid_from", "valid_to")
_JSON = ("metadata", "data")
_READ = (*_TEXTS, *_AS_IT_IS, *_JSON, "namespace", "vector")
_PASSED_OVER = frozenset(
    "key rating created_at updated_at expires_at version pinned embedding archived sliding retired_at superseded_by "
    "last_accessed".split()
)
"""Columns of an export that say what a store knows by itself."""


class Target(Protocol):
    """What rows can be loaded into beside stores: a client that can be sent to a task, such as a cluster."""

    def add_many(self, items: Sequence[Any]) -> Sequence[Any]: ...


@dataclass(frozen=True)
class LoadReport:
    """What became of the rows."""

    rows: int
    added: int
    """Records that the stores did not have."""
    there: int
    """Rows that were there already, by an earlier load or an earlier attempt of this one."""


def load(
    dataset: ray.data.Dataset,
    into: str | Path | Sequence[str | Path] | Target,
    *,
    model: str | Embedder | None = None,
    route: Callable[[str | None, int], int] | None = None,
    actor_options: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Add the rows to a store, to several, each user's to one of them, or to a client.

    Columns have the names of ``NewMemory``'s fields; ``metadata`` and ``data`` are JSON texts. ``id`` and ``content``
    have to be there, and no null among the ids: by them a row that comes again is known, so that a load that was cut
    short is simply begun again. With a column ``vector`` the records have those as vectors of their own
    (docs/vectors.md); the others are embedded by the store, whose ``model`` is what ``Memory`` takes. Further columns
    are refused, but for those of an export that a store makes itself.

    Each store is opened by one actor, where ``actor_options`` place it, and comes back there if it dies. ``route`` says
    which store a user belongs to, of how many; left out, ``store_of``.
    """
    schema = dataset.schema()
    if schema is None:
        return LoadReport(0, 0, 0)
    _check_columns(schema.names)
    if not isinstance(into, str | Path) and callable(getattr(into, "add_many", None)):
        sink = _IntoClient(into)
        dataset.write_datasink(sink)
    else:
        paths = [into] if isinstance(into, str | Path) else [*into]  # pyright: ignore[reportGeneralTypeIssues]
        if not paths:
            raise InvalidInputError("load into at least one store", field="into")
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, **(actor_options or {})}
        actor = ray.remote(_Writer).options(**options)
        writers = [actor.remote(str(path), model) for path in paths]
        try:
            sink = _IntoStores(writers, route or store_of)
            dataset.write_datasink(sink)
            ray.get([writer.close.remote() for writer in writers])
        finally:
            for writer in writers:
                ray.kill(writer)
    return LoadReport(sink.rows, sink.added, sink.rows - sink.added)


def store_of(user_id: str | None, stores: int) -> int:
    """The number of the store that has this user's memories, however the id is spelled; of at most 4,096 stores."""
    return slot_of(user_id) % stores


def _check_columns(names: Sequence[str]) -> None:
    missing = [name for name in ("id", "content") if name not in names]
    if missing:
        raise InvalidInputError(
            f"there is no column {missing[0]!r}; rename_columns gives one that name", field="dataset"
        )
    unknown = [name for name in names if name not in _READ and name not in _PASSED_OVER]
    if unknown:
        raise InvalidInputError(
            f"{unknown[0]!r} is no field of a memory; drop_columns leaves it out, and metadata as JSON has room for it",
            field="dataset",
        )


# -- in a task ---------------------------------------------------------------------------------------------------------


class _Into(Datasink):
    """Counts what its tasks say they have added."""

    rows = added = 0

    def get_name(self) -> str:
        return "Store"

    def on_write_complete(self, write_result: Any) -> None:
        counts = [one for one in write_result.write_returns if one is not None]
        self.rows, self.added = sum(rows for rows, _ in counts), sum(added for _, added in counts)


class _IntoStores(_Into):
    def __init__(self, writers: list[Any], route: Callable[[str | None, int], int]) -> None:
        super().__init__()
        self._writers, self._route = writers, route

    def write(self, blocks: Iterable[Any], ctx: Any) -> tuple[int, int]:
        rows = added = 0
        waiting: list[list[dict[str, Any]]] = [[] for _ in self._writers]
        sent: list[Any] = [None] * len(self._writers)

        def send(store: int) -> int:
            # One call ahead of each store: what waits for it is bounded, and it never waits for us.
            done = ray.get(sent[store]) if sent[store] is not None else 0
            sent[store] = self._writers[store].add.remote(waiting[store])
            waiting[store] = []
            return done

        for items in _chunks(blocks):
            rows += len(items)
            for item in items:
                store = self._route(item.get("user_id"), len(self._writers))
                waiting[store].append(item)
                if len(waiting[store]) == CHUNK:
                    added += send(store)
        for store, items in enumerate(waiting):
            if items:
                added += send(store)
        return rows, added + sum(ray.get([one for one in sent if one is not None]))


class _IntoClient(_Into):
    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client

    def write(self, blocks: Iterable[Any], ctx: Any) -> tuple[int, int]:
        rows = added = 0
        for items in _chunks(blocks):
            rows += len(items)
            added += _count(self._client.add_many(_memories(items)))
        return rows, added


class _Writer:
    """The actor that writes a store."""

    def __init__(self, path: str, model: Any) -> None:
        from agentmem import Memory

        self._memory = Memory(path, embedder=model)

    def add(self, items: list[dict[str, Any]]) -> int:
        return _count(self._memory.add_many(_memories(items)))

    def close(self) -> None:
        self._memory.close()


def _count(results: Iterable[Any]) -> int:
    return sum(result.status == "added" for result in results)


def _memories(items: list[dict[str, Any]]) -> list[Any]:
    from agentmem import NewMemory

    # A fact is a record of its own under its id, also where another one says the same.
    return [NewMemory(**item, dedupe=False) for item in items]


def _chunks(blocks: Iterable[Any]) -> Iterable[list[dict[str, Any]]]:
    for table in plain_tables(blocks):
        for start in range(0, table.num_rows, CHUNK):
            yield _items(table.slice(start, CHUNK))


def _items(table: pa.Table) -> list[dict[str, Any]]:
    columns = {name: table.column(name) for name in table.column_names if name in _READ}
    vectors = _vectors(columns.pop("vector")) if "vector" in columns else None
    items = list[dict[str, Any]]()
    for number, row in enumerate(table.select(list(columns)).to_pylist()):
        item = {name: value for name, value in row.items() if value is not None}
        if "id" not in item:
            raise InvalidInputError("a row has no id; by its id a row that comes again is known", field="id")
        for name in _JSON:
            if name in item:
                item[name] = json.loads(item[name])
        if "namespace" in item:
            item["namespace"] = tuple(item["namespace"])
        if vectors is not None and vectors[number] is not None:
            item["vector"] = vectors[number]
        items.append(item)
    return items


def _vectors(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    found = list[Any]()
    for chunk in column.chunks:
        flat = np.asarray(chunk.values if chunk.null_count else chunk.flatten(), np.float32)
        if chunk.null_count:
            dim = chunk.type.list_size
            flat = flat[chunk.offset * dim : (chunk.offset + len(chunk)) * dim]
        rows = flat.reshape(len(chunk), -1)
        found += [row if there else None for row, there in zip(rows, np.asarray(chunk.is_valid()), strict=True)]
    return found
