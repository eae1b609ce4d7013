"""Tables as bytes: Arrow's, and those of pandas and polars, which neither is imported for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentmem.types.errors import InvalidInputError

_GROUP = 1_048_576
"""Bytes of a group of rows, about: what a read of one row takes."""
_LIBRARIES = ("pyarrow", "pandas", "polars")


def is_table(value: object) -> bool:
    """Whether a value is a table of one of the libraries."""
    kind = type(value)
    names = {"pyarrow": ("Table", "RecordBatch"), "pandas": ("DataFrame", "Series"), "polars": ("DataFrame", "Series")}
    return kind.__name__ in names.get(kind.__module__.partition(".")[0], ())


def encoded(value: Any) -> tuple[dict[str, Any], Iterator[bytes]]:
    """What a table is, and its bytes: groups of rows, each an Arrow stream. ``about`` is whole once all were read.

    Raises ``InvalidInputError`` for what Arrow cannot hold.
    """
    library, form = type(value).__module__.partition(".")[0], type(value).__name__
    table = _as_arrow(value, library, form)
    groups = list[tuple[int, int]]()
    about: dict[str, Any] = {
        "library": library, "form": form, "rows": table.num_rows, "columns": table.column_names, "groups": groups
    }  # fmt: skip
    return about, _groups(table, groups)


def _as_arrow(value: Any, library: str, form: str) -> Any:
    import pyarrow as pa

    arrow: Any = pa
    try:
        if library == "pyarrow":
            return arrow.Table.from_batches([value]) if form == "RecordBatch" else value
        if library == "pandas":
            return arrow.Table.from_pandas(value.to_frame() if form == "Series" else value)
        return value.to_frame().to_arrow() if form == "Series" else value.to_arrow()
    except (arrow.ArrowException, TypeError, ValueError) as exc:
        raise InvalidInputError(f"a {library} {form} cannot be put: {exc}", field="value") from exc


def _groups(table: Any, groups: list[tuple[int, int]]) -> Iterator[bytes]:
    import pyarrow as pa

    arrow: Any = pa
    step = max(1, table.num_rows * _GROUP // max(table.nbytes, 1))
    for start in range(0, max(table.num_rows, 1), step):
        part, sink = table.slice(start, step), arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(part)
        body = sink.getvalue().to_pybytes()
        groups.append((part.num_rows, len(body)))
        yield body


def sliced(groups: Sequence[Sequence[int]], start: int, end: int) -> tuple[tuple[int, int], int, list[int]]:
    """The range of bytes that has the rows from ``start`` to ``end``, how many rows it begins before, and the bytes of
    each group in it. Some group always is."""
    row, at, first, before, sizes = 0, 0, None, 0, list[int]()
    for index, (count, size) in enumerate(groups):
        meets = row < end and row + count > start
        if meets or (index == len(groups) - 1 and first is None):
            if first is None:
                first, before = at, row
            sizes.append(size)
        row, at = row + count, at + size
    begin = first or 0
    return (begin, begin + sum(sizes)), before, sizes


def decoded(about: Mapping[str, Any], body: memoryview, sizes: Sequence[int], start: int, count: int) -> Any:
    """``count`` rows, from ``start`` of those in ``body``, whose groups have these sizes; of the library that they
    came from where that is installed, else Arrow's."""
    import pyarrow as pa

    arrow: Any = pa
    at, found = 0, list[Any]()
    for size in sizes:
        found.append(arrow.ipc.open_stream(arrow.py_buffer(body[at : at + size])).read_all())
        at += size
    table = arrow.concat_tables(found) if len(found) > 1 else found[0]
    return _as_it_was(about, table.slice(start, count))


def _as_it_was(about: Mapping[str, Any], table: Any) -> Any:
    library, form = about["library"], about["form"]
    if library == "pyarrow":
        if form != "RecordBatch":
            return table
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else table.schema.empty_table().to_batches()[0]
    try:
        if library == "pandas":
            frame = table.to_pandas()
            return frame.iloc[:, 0] if form == "Series" else frame
        from importlib import import_module

        frame = import_module("polars").from_arrow(table)
        return frame.to_series() if form == "Series" else frame
    except ImportError:
        return table
