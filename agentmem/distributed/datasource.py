"""Reading a Lance dataset with Ray Data: each task has fragments of its own and streams them in batches."""

# Ray is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentmem.distributed.fragments import Place, retries
from agentmem.distributed.scanning import Parts, Scan, read, shares
from agentmem.errors import InvalidInputError, MissingExtraError

try:
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask
except ImportError as exc:
    raise MissingExtraError("Ray is not installed; pip install 'agentmem-db[ray]'") from exc

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LanceDatasource", "read_lance"]

BATCH = 4_096
"""Rows that a task reads at a time."""
BLOCK_BYTES = 32 * 2**20
"""Bytes of the blocks that a task hands on: what it holds is a few of these."""


class LanceDatasource(Datasource):
    """A version of a Lance dataset, for ``ray.data.read_datasource``.

    Looks at the dataset's manifest only; what is read is read by the tasks. No two tasks have a fragment in common.
    ``columns`` and ``filter`` (SQL, as Lance has it) are Lance's work, and so are ``select_columns`` and
    ``filter(expr=...)`` of the Ray dataset above, which Ray hands down here. Without a ``version`` it is the latest at
    this moment, and stays so, whatever is written meanwhile. ``batch`` is how many rows are read at a time.

    Where object storage fails in the middle of a fragment, its reading goes on after the last row that was handed on.
    """

    def __init__(
        self,
        uri: str,
        *,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        version: int | None = None,
        storage_options: Mapping[str, str] | None = None,
        batch: int = BATCH,
    ) -> None:
        super().__init__()
        self._projection_map = None if columns is None else {name: name for name in columns}
        place = Place(uri, storage_options)
        dataset = retries().call(lambda: place.open(version))
        self._schema = dataset.schema
        self._check(columns)
        self._parts = Parts(dataset)
        self._scan = Scan(place, dataset.version, None, filter, None, batch)

    @property
    def version(self) -> int:
        """The version that is read."""
        return self._scan.version

    def get_name(self) -> str:
        return "Lance"

    def supports_projection_pushdown(self) -> bool:
        return True

    def supports_predicate_pushdown(self) -> bool:
        return True

    def estimate_inmemory_data_size(self) -> int | None:
        return self._parts.bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """At most ``parallelism`` tasks, each with fragments that follow one another, of about as many rows."""
        columns, predicate = self._get_data_columns(), self.get_current_predicate()
        scan = replace(self._scan, columns=None if columns is None else tuple(columns))
        if predicate is not None:
            scan = replace(scan, predicate=predicate.to_pyarrow())
        whole = scan.filter is None and predicate is None
        tasks = list[ReadTask]()
        for parts in shares(self._parts, parallelism):
            rows = sum(part.rows for part in parts)
            # How many rows a filter leaves is not known before they are read.
            metadata = BlockMetadata(
                num_rows=rows if whole else None,
                size_bytes=sum(part.bytes for part in parts),
                input_files=None,
                exec_stats=None,
            )
            ids = [part.id for part in parts]
            tasks.append(
                ReadTask(
                    lambda ids=ids: read(scan, ids),
                    metadata,
                    schema=self._schema_of(columns),
                    per_task_row_limit=per_task_row_limit,
                )
            )
        return tasks

    def _schema_of(self, columns: list[str] | None) -> pa.Schema | None:
        import pyarrow as pa

        if columns == []:
            return None
        return self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])

    def _check(self, columns: Sequence[str] | None) -> None:
        unknown = [name for name in columns or () if name not in self._schema.names]
        if unknown:
            raise InvalidInputError(
                f"there is no column {unknown[0]!r}; there are {', '.join(self._schema.names)}", field="columns"
            )


def read_lance(
    uri: str,
    *,
    columns: Sequence[str] | None = None,
    filter: str | None = None,
    version: int | None = None,
    storage_options: Mapping[str, str] | None = None,
    batch: int = BATCH,
    tasks: int | None = None,
) -> ray.data.Dataset:
    """A Ray dataset of a Lance dataset; the arguments are those of ``LanceDatasource``.

    ``tasks`` is how many there are at most; left out, Ray decides. Blocks have some 32 MB each, so that no task holds
    more than a few of those.
    """
    source = LanceDatasource(
        uri, columns=columns, filter=filter, version=version, storage_options=storage_options, batch=batch
    )
    found = ray.data.read_datasource(source, **({} if tasks is None else {"override_num_blocks": tasks}))
    found.context.target_max_block_size = BLOCK_BYTES
    return found
