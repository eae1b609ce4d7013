"""The border to pyarrow: rows as blocks of Arrow, compressed, and catalogues of blocks as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agentmem.archive.tables import Row, Table
from agentmem.types.errors import ArchiveCorruptError, InvalidInputError

_LEVEL = 1
# Of a block before it is compressed: a text has up to 16 MiB, and so has its metadata.
_LARGEST = 2**30


class Block(NamedTuple):
    """A line of a catalogue: one user's rows, and where they are.

    ``number`` counts the table's blocks from 0. ``size`` bytes from ``offset`` in the object ``pack``, whose SHA-256 is
    ``sha256`` (hex), hold ``rows`` rows; ``raw`` is their size before compression. ``zones`` are the least and the
    greatest value of each column of the table's ``zones``, in order; None where no row has any.
    """

    number: int
    tag: str
    pack: str
    offset: int
    size: int
    sha256: str
    rows: int
    raw: int
    zones: tuple[tuple[int, int] | None, ...]


def encoded(table: Table, rows: Sequence[Row]) -> tuple[bytes, int]:
    """Rows as one Arrow record batch message, zstd-compressed, and its size before. Raises ``InvalidInputError``."""
    pa = _pyarrow()
    schema = _schema(pa, table)
    try:
        columns: list[Any] = list(zip(*rows, strict=True)) or [[] for _ in table.columns]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
        raise InvalidInputError(f"a row of table {table.name} is not {table.columns}: {exc}", field="rows") from exc
    message = pa.RecordBatch.from_arrays(arrays, schema=schema).serialize()
    return pa.Codec("zstd", compression_level=_LEVEL).compress(message, asbytes=True), message.size


def decoded(table: Table, data: bytes, raw: int, rows: int, where: str) -> list[tuple[Any, ...]]:
    """The rows again. Raises ``ArchiveCorruptError`` where it is not that many rows of that table."""
    pa = _pyarrow()
    try:
        if not 0 <= raw <= _LARGEST:
            raise ValueError(f"a block has no {raw} bytes")
        message = pa.Codec("zstd").decompress(data, decompressed_size=raw)
        batch = pa.ipc.read_record_batch(message, _schema(pa, table))
        batch.validate(full=True)
        if batch.num_rows != rows:
            raise ValueError(f"{batch.num_rows} rows instead of {rows}")
        return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    except (pa.ArrowException, ValueError, OSError) as exc:
        raise ArchiveCorruptError(f"{where} holds no block of table {table.name}: {exc}") from exc


def catalogue(table: Table, blocks: Sequence[Block]) -> bytes:
    """A Parquet file with a row for each block: its fields, and ``min_COLUMN`` and ``max_COLUMN`` for each zone."""
    pa, parquet = _pyarrow(), _parquet()
    plain = [field for field in Block._fields if field != "zones"]
    columns: dict[str, Any] = {
        field: pa.array([getattr(block, field) for block in blocks], _field_type(pa, field)) for field in plain
    }
    for place, name in enumerate(table.zones):
        for side, prefix in enumerate(("min", "max")):
            values = [zone[side] if (zone := block.zones[place]) else None for block in blocks]
            columns[f"{prefix}_{name}"] = pa.array(values, pa.int64())
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), sink, compression="zstd", write_statistics=False)
    return sink.getvalue().to_pybytes()


def read_catalogue(table: Table, data: bytes, where: str) -> Iterator[Block]:
    """The blocks of a catalogue, in order. Raises ``ArchiveCorruptError``."""
    pa, parquet = _pyarrow(), _parquet()
    plain = [field for field in Block._fields if field != "zones"]
    try:
        batch: Any
        for batch in parquet.ParquetFile(pa.BufferReader(data)).iter_batches(batch_size=1_000):
            columns = [batch.column(field).to_pylist() for field in plain]
            least = [batch.column(f"min_{name}").to_pylist() for name in table.zones]
            most = [batch.column(f"max_{name}").to_pylist() for name in table.zones]
            for row, fields in enumerate(zip(*columns, strict=True)):
                sides = ((low[row], high[row]) for low, high in zip(least, most, strict=True))
                yield Block(*fields, zones=tuple(None if low is None else (low, high) for low, high in sides))
    except (pa.ArrowException, KeyError, ValueError, OSError) as exc:
        raise ArchiveCorruptError(f"{where} is no catalogue of table {table.name}: {exc}") from exc


def _field_type(pa: Any, field: str) -> Any:
    return pa.string() if field in ("tag", "pack", "sha256") else pa.int64()


def _schema(pa: Any, table: Table) -> Any:
    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.large_string(), "bytes": pa.large_binary()}
    return pa.schema([(name, types[kind]) for name, kind in table.columns])


def _pyarrow() -> Any:
    import pyarrow as pa
    from pyarrow import ipc

    assert ipc  # imported with it
    return pa


def _parquet() -> Any:
    from pyarrow import parquet

    return parquet
