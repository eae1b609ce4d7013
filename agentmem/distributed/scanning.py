"""Reading fragments, one after the other and a batch at a time, whatever happens to the connection meanwhile."""

# Lance is not installed where types are checked.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from agentmem.archive.retries import Retries
from agentmem.distributed.fragments import Place, ours, retries

if TYPE_CHECKING:
    import pyarrow as pa

# Lance would read ahead up to 2 GB of a fragment, and sixteen batches. With four times as much of the one and twice of
# the other a reader took 139 MB instead of 75, and longer.
_READ_BYTES, _READ_AHEAD = 16 * 2**20, 1


class Part(NamedTuple):
    """A fragment as the manifest has it."""

    id: int
    rows: int
    bytes: int


class Parts(Sequence[Part]):
    """The fragments of a dataset, in 24 bytes each."""

    def __init__(self, dataset: Any) -> None:
        self._columns = array("q"), array("q"), array("q")
        # One at a time: all fragments of a large dataset as Lance hands them out are more than its manifest.
        for id in dataset.fragment_ids():
            found = dataset.get_fragment(id)
            size = sum(file.file_size_bytes or 0 for file in found.data_files())
            for column, value in zip(self._columns, (id, found.physical_rows - found.num_deletions, size), strict=True):
                column.append(value)

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, at: int) -> Part: ...
    @overload
    def __getitem__(self, at: slice) -> list[Part]: ...
    def __getitem__(self, at: int | slice) -> Part | list[Part]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return Part(*(column[at] for column in self._columns))

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self._columns[2])


@dataclass(frozen=True)
class Scan:
    """What a task has to know to read its fragments."""

    place: Place
    version: int
    columns: tuple[str, ...] | None
    filter: str | None
    predicate: Any
    batch: int


def shares(parts: Sequence[Part], count: int) -> list[list[Part]]:
    """The parts in at most ``count`` runs of about as many rows; none is empty."""
    shares = list[list[Part]]()
    left, rows = count, sum(part.rows for part in parts)
    share, held = list[Part](), 0
    for part in parts:
        if share and left > 1 and held + part.rows / 2 > rows / left:
            shares.append(share)
            left, rows, share, held = left - 1, rows - held, [], 0
        share.append(part)
        held += part.rows
    return [*shares, share] if share else shares


def read(scan: Scan, ids: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of these fragments. After a fault it goes on behind the last row that was handed on."""
    trying = retries()
    dataset = trying.call(lambda: scan.place.open(scan.version))
    for id in ids:
        yield from _read_fragment(scan, dataset, id, trying)


def _read_fragment(scan: Scan, dataset: Any, id: int, trying: Retries) -> Iterator[pa.Table]:
    import pyarrow as pa

    reader: Any = None
    handed = 0

    def following() -> pa.RecordBatch | None:
        nonlocal reader
        try:
            with ours(f"cannot read fragment {id} of {scan.place.uri}"):
                if reader is None:
                    reader = _scanner(scan, dataset, id, handed).to_batches()
                return next(reader, None)
        except Exception:
            reader = None
            raise

    while (batch := trying.call(following)) is not None:
        handed += batch.num_rows
        table = pa.Table.from_batches([batch])
        if _filtered_here(scan):
            table = table.filter(scan.predicate)
        yield table.select(scan.columns) if scan.columns else table


def _filtered_here(scan: Scan) -> bool:
    """Lance takes one filter, of either kind; where there are two, the second is ours."""
    return scan.predicate is not None and scan.filter is not None


def _scanner(scan: Scan, dataset: Any, id: int, offset: int) -> Any:
    columns = None if scan.columns is None else [*scan.columns]
    if columns == []:
        columns = dataset.schema.names[:1]  # a table without columns has no rows
    if _filtered_here(scan):
        columns = None  # it may look at columns that nobody wants
    wanted = scan.filter if scan.filter is not None else scan.predicate
    return dataset.scanner(
        columns=columns,
        filter=wanted,
        fragments=[dataset.get_fragment(id)],
        offset=offset or None,
        batch_size=scan.batch,
        batch_readahead=_READ_AHEAD,
        fragment_readahead=1,
        io_buffer_size=_READ_BYTES,
        scan_in_order=True,
    )
