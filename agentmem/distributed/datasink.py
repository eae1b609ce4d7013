"""Writing a Lance dataset with Ray Data: tasks write fragments, the driver commits them once, all or none."""

# Ray is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loguru import logger

from agentmem.distributed.committing import Mode, collect, commit, committed
from agentmem.distributed.fragments import MAX_BYTES, MAX_ROWS, Place, Written, new_run, retries, write_fragments
from agentmem.errors import ArchiveError, InvalidInputError, MissingExtraError, ObjectExistsError, ObjectNotFoundError

try:
    from ray.data.block import BlockAccessor
    from ray.data.datasource import Datasink
except ImportError as exc:
    raise MissingExtraError("Ray is not installed; pip install 'agentmem-db[ray]'") from exc

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

__all__ = ["LanceDatasink", "WriteReport", "write_lance"]

TASK_BYTES = 128 * 2**20
"""Bytes of rows that a task writes at least, if there are so many: a fragment has about as many."""
_MODES = ("create", "append", "overwrite")


@dataclass(frozen=True)
class WriteReport:
    """What a run has written."""

    version: int
    """The dataset's, with these rows."""
    rows: int
    """Rows that this run added; 0 where the job was done before."""
    fragments: int
    orphans: int
    """Files of attempts that came to nothing, which were deleted."""
    done_before: bool = False
    """Whether this job had been committed already, so that nothing was added."""


class LanceDatasink(Datasink):
    """A Lance dataset as the end of a Ray dataset, for ``write_datasink``; afterwards ``report`` says what was written.

    ``mode``: ``"create"`` never touches a dataset that is there, ``"append"`` adds to one, ``"overwrite"`` makes a new
    version of these rows alone, or a first one. The rows are there when all of them are, in one version: a run that
    fails or dies leaves the dataset as it was. Tasks that Ray runs again add nothing, nor does a run with the name of a
    ``job`` that was committed before. Files that came to nothing are deleted at the end of the run;
    ``committing.collect_orphans`` deletes those of runs that saw no end.

    ``schema`` is what the rows are cast to; left out, that of the dataset to append to, or of the first rows. Files
    have at most ``max_rows_per_file`` rows and ``max_bytes_per_file`` bytes; a task is handed ``task_bytes`` of rows,
    and holds no more than those.
    """

    def __init__(
        self,
        uri: str,
        *,
        mode: Mode = "create",
        schema: pa.Schema | None = None,
        job: str | None = None,
        max_rows_per_file: int = MAX_ROWS,
        max_bytes_per_file: int = MAX_BYTES,
        task_bytes: int = TASK_BYTES,
        storage_options: Mapping[str, str] | None = None,
        data_storage_version: str | None = None,
    ) -> None:
        super().__init__()
        if mode not in _MODES:
            raise InvalidInputError(f"mode is one of {', '.join(_MODES)}, not {mode!r}", field="mode")
        for name, value in (("max_rows_per_file", max_rows_per_file), ("max_bytes_per_file", max_bytes_per_file)):
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1, not {value}", field=name)
        self.place = Place(uri, storage_options)
        self.run = new_run()
        self.report: WriteReport | None = None
        self._mode: Mode = mode
        self._schema = schema
        self._job = job
        self._limits = (max_rows_per_file, max_bytes_per_file)
        self._format = data_storage_version
        self._task_bytes = task_bytes
        self._check_place()

    @property
    def min_bytes_per_write(self) -> int:
        # With it Ray keeps the task apart from the one before: together they would hold all that they read.
        return self._task_bytes

    def get_name(self) -> str:
        return "Lance"

    def on_write_start(self, schema: Any = None) -> None:
        there = None if self._mode == "create" else retries().call(self.place.open_if_there)
        if there is not None and self._format is None:
            self._format = there.data_storage_version
        if self._mode == "append" and there is not None:
            self._schema = there.schema
        elif self._schema is None and schema is not None:
            self._schema = _plain_schema(getattr(schema, "base_schema", schema))

    def write(self, blocks: Iterable[Any], ctx: Any) -> list[Written]:
        """In a task: write the rows, and say which fragments they became."""
        tables = plain_tables(blocks)
        first = next(tables, None)
        if first is None:
            return []
        rows, size = self._limits
        return write_fragments(
            self.place, _chained(first, tables), self._schema or first.schema, run=self.run, task=ctx.task_idx,
            max_rows=rows, max_bytes=size, version=self._format,
        )  # fmt: skip

    def on_write_complete(self, write_result: Any) -> None:
        written = [one for some in write_result.write_returns for one in some or ()]
        if self._schema is None:
            raise InvalidInputError("there are no rows, and no schema for a dataset without any", field="schema")
        version, taken = commit(self.place, self._mode, self._schema, written, run=self.run, job=self._job)
        gone = 0
        try:
            gone = len(self._collect())
        except ArchiveError as exc:
            logger.warning("the rows are committed, but what is left of {} could not be deleted: {}", self.run, exc)
        self.report = WriteReport(
            version, sum(one.rows for one in taken), len(taken), gone, done_before=bool(written) and not taken
        )

    def on_write_failed(self, error: Exception) -> None:
        try:
            self._collect()
        except ArchiveError as exc:
            logger.warning("what is left of {} could not be deleted: {}", self.run, exc)

    def done_before(self) -> WriteReport | None:
        """What there is to report without writing anything, where this job has been committed already."""
        job = self._job
        version = None if job is None else retries().call(lambda: committed(self.place, job))
        return None if version is None else WriteReport(version, 0, 0, 0, done_before=True)

    def _collect(self) -> list[str]:
        return retries().call(lambda: collect(self.place, lambda run: run == self.run))

    def _check_place(self) -> None:
        """What can be known before hours of work; the commit looks again."""
        there = retries().call(self.place.open_if_there) is not None
        if self._mode == "create" and there and self.done_before() is None:
            raise ObjectExistsError(
                f"there is a dataset in {self.place.uri} already; mode='append' or 'overwrite' changes it"
            )
        if self._mode == "append" and not there:
            raise ObjectNotFoundError(f"there is no dataset in {self.place.uri} to append to; mode='create' makes one")


def write_lance(dataset: ray.data.Dataset, uri: str, *, mode: Mode = "create", **options: Any) -> WriteReport:
    """Write a Ray dataset to a Lance dataset; the arguments are those of ``LanceDatasink``."""
    sink = LanceDatasink(uri, mode=mode, **options)
    if (before := sink.done_before()) is not None:
        return before
    dataset.write_datasink(sink)
    if sink.report is None:  # no block came
        sink.on_write_complete(_Nothing())
    assert sink.report is not None
    return sink.report


class _Nothing:
    write_returns = ()


def _chained(first: pa.Table, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from tables


def plain_tables(blocks: Iterable[Any]) -> Iterator[pa.Table]:
    for block in blocks:
        table = _plain(BlockAccessor.for_block(block).to_arrow())
        if table.num_rows:
            yield table


def _plain_schema(schema: Any) -> pa.Schema | None:
    """The schema of a Ray dataset as Lance takes it; None where it is not known yet."""
    import pyarrow as pa

    return _plain(schema.empty_table()).schema if isinstance(schema, pa.Schema) else None


def _plain(table: pa.Table) -> pa.Table:
    """Ray's own type for arrays of one shape as lists of a fixed size, which Lance takes for vectors."""
    import pyarrow as pa

    for number, name in enumerate(table.schema.names):
        column = table.column(number)
        shape = getattr(column.type, "shape", None)
        if not isinstance(column.type, pa.ExtensionType) or shape is None or len(shape) != 1:
            continue
        lists = pa.list_(column.type.storage_type.value_type, shape[0])
        chunks = [pa.FixedSizeListArray.from_arrays(chunk.storage.flatten(), type=lists) for chunk in column.chunks]
        table = table.set_column(number, name, pa.chunked_array(chunks, type=lists))
    return table.replace_schema_metadata(None)
