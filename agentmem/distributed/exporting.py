"""Stores as a Lance dataset, for analytics: a task reads each store, others write."""

# Ray is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentmem import ALL, Memory, MemoryRecord
from agentmem.distributed.datasink import WriteReport, write_lance
from agentmem.distributed.datasource import BLOCK_BYTES
from agentmem.errors import InvalidInputError, MissingExtraError

try:
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask
except ImportError as exc:
    raise MissingExtraError("Ray is not installed; pip install 'agentmem-db[ray]'") from exc

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["StoreDatasource", "export", "read_stores"]

CHUNK = 1_000
"""Records that are read, and handed on, at a time."""
_TIMES = ("created_at", "updated_at", "occurred_at", "expires_at", "valid_from", "valid_to", "retired_at")
_TEXTS = (
    "id",
    "content",
    "user_id",
    "agent_id",
    "run_id",
    "key",
    "role",
    "kind",
    "layer",
    "embedding",
    "superseded_by",
)


class StoreDatasource(Datasource):
    """The records of stores, for ``ray.data.read_datasource``: a task for each store, on a node that has its folder.

    Columns are the record's fields, ``metadata`` and ``data`` as JSON texts, and with ``vectors`` a column ``vector``:
    float32, of length one, null where a record has none, the first where it has several. Archived records are not
    among them. Nothing is written, and a read counts for no record's life.

    What changes while a store is read is seen or not, record by record; for one moment, read a copy: ``restore`` makes
    one of a backup.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], *, vectors: bool = True) -> None:
        super().__init__()
        self._paths = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        if not self._paths:
            raise InvalidInputError("there is no store to read", field="paths")
        self._counts, dims = list[int](), set[int]()
        for path in self._paths:
            if not Path(path).exists():
                raise InvalidInputError(f"there is no store in {path}", field="paths")
            with Memory(path) as memory:
                stats = memory.stats()
                self._counts.append(stats.records)
                dims.add(stats.dim)
        if vectors and len(dims) > 1:
            raise InvalidInputError(
                f"the stores have vectors of {' and '.join(map(str, sorted(dims)))} numbers; vectors=False leaves them",
                field="vectors",
            )
        self._dim = dims.pop() if vectors else 0

    def get_name(self) -> str:
        return "Store"

    def estimate_inmemory_data_size(self) -> int | None:
        return sum(self._counts) * (1_024 + 4 * self._dim)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        dim, tasks = self._dim, list[ReadTask]()
        for path in self._paths:
            # How many records there will be is not known: some end meanwhile.
            metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            tasks.append(ReadTask(lambda path=path: _read(path, dim), metadata, per_task_row_limit=per_task_row_limit))
        return tasks


def read_stores(paths: str | Path | Sequence[str | Path], *, vectors: bool = True) -> ray.data.Dataset:
    """A Ray dataset of the records of stores; the arguments are those of ``StoreDatasource``."""
    source = StoreDatasource(paths, vectors=vectors)
    found = ray.data.read_datasource(source)
    found.context.target_max_block_size = BLOCK_BYTES
    return found


def export(paths: str | Path | Sequence[str | Path], uri: str, *, vectors: bool = True, **writing: Any) -> WriteReport:
    """Write the records of stores to a Lance dataset, a folder or a URL; ``writing`` goes to ``write_lance``.

    It is for analytics and other programs: what brings a store back is ``memory.export`` and a backup, which have all
    of it, sealed where they are to be.
    """
    source = read_stores(paths, vectors=vectors)
    return write_lance(source, uri, **{"schema": _schema(StoreDatasource(paths, vectors=vectors)._dim), **writing})


# -- in a task ---------------------------------------------------------------------------------------------------------


def _read(path: str, dim: int) -> Iterator[pa.Table]:
    with Memory(path) as memory:
        records = memory.iterate(user_id=ALL, under=(), order="oldest", touch=False)
        while chunk := list(islice(records, CHUNK)):
            yield _table(memory, chunk, dim)


def _table(memory: Memory, records: list[MemoryRecord], dim: int) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: [_text(getattr(record, name)) for record in records] for name in _TEXTS}
    columns |= {name: [getattr(record, name) for record in records] for name in ("importance", "rating", "version")}
    columns |= {name: [getattr(record, name) for record in records] for name in (*_TIMES, "pinned")}
    columns["namespace"] = [list(record.namespace) for record in records]
    columns["metadata"] = [json.dumps(dict(record.metadata)) if record.metadata else None for record in records]
    columns["data"] = [None if record.data is None else json.dumps(record.data) for record in records]
    if dim:
        columns["vector"] = _vectors(memory, [record.id for record in records], dim)
    return pa.table(columns, schema=_schema(dim))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _vectors(memory: Memory, ids: list[str], dim: int) -> pa.Array:
    import pyarrow as pa

    flat, missing = np.zeros((len(ids), dim), np.float32), np.ones(len(ids), np.bool_)
    for number, held in enumerate(memory.vectors(ids)):
        if held is not None and len(held.vectors):
            flat[number], missing[number] = held.vectors[0], False
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), dim, mask=pa.array(missing))


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

    at = pa.timestamp("us", "UTC")
    fields = [(name, pa.string()) for name in _TEXTS]
    fields += [("importance", pa.float64()), ("rating", pa.float64()), ("version", pa.int64())]
    fields += [(name, at) for name in _TIMES] + [("pinned", pa.bool_()), ("namespace", pa.list_(pa.string()))]
    fields += [("metadata", pa.string()), ("data", pa.string())]
    return pa.schema(fields + ([("vector", pa.list_(pa.float32(), dim))] if dim else []))
