"""Tables as bytes: Arrow's, and those of pandas and polars, which neither is imported for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from agentmem.types.errors import InvalidInputError
from agentmem.values.sameness import changed_frame, changed_types

_GROUP = 1_048_576
"""Bytes of a group of rows, about: what a read of one row takes."""
_NAMES = (type(None), str, bool, int, float)
"""Types of names that say nothing, which JSON has."""


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
    if form == "Series" and not value.name:  # the column has one that was made up
        if type(value.name) not in _NAMES:
            raise _refused(about, f"its name is {value.name!r}; rename it")
        about["unnamed"] = value.name
    _check_same(value, table, about)
    return about, _groups(table, groups)


def _as_arrow(value: Any, library: str, form: str) -> Any:
    import pyarrow as pa

    arrow: Any = pa
    try:
        if library == "pyarrow":
            return arrow.Table.from_batches([value]) if form == "RecordBatch" else value
        if library == "pandas":
            frame = value.to_frame() if form == "Series" else value
            if frame.columns.nlevels == 1 and frame.columns.inferred_type.startswith("mixed"):
                raise TypeError("its columns are named by more than one type, and would come back as texts")
            names = [name for name in frame.index.names if name is not None and not isinstance(name, str)]
            if names and type(frame.index).__name__ != "RangeIndex":
                raise TypeError(f"its index is named {names[0]!r}, which would come back as a text")
            return arrow.Table.from_pandas(frame)
        return value.to_frame().to_arrow() if form == "Series" else value.to_arrow()
    except (arrow.ArrowException, ArithmeticError, TypeError, ValueError) as exc:
        raise _refused({"library": library, "form": form}, exc) from exc


def _check_same(value: Any, table: Any, about: Mapping[str, Any]) -> None:
    """Raise ``InvalidInputError`` for a table that would come back as another."""
    import pyarrow as pa

    arrow: Any = pa
    library, form = about["library"], about["form"]
    if library == "pyarrow":
        if form == "RecordBatch" and value.num_rows and not value.num_columns:
            raise _refused(about, "it has rows and no columns; put it as a table")
        return
    if library == "polars" and table.num_rows and any(_has_empty_arrays(field.type) for field in table.schema):
        raise _refused(about, "polars cannot read arrays of no items, its Array(..., 0)")
    try:
        if library == "polars":
            changed = changed_types(value, _as_it_was(about, table.slice(0, 0), 0))
        else:
            changed = changed_frame(
                value.to_frame() if form == "Series" else value, table, named="unnamed" not in about
            )
    except (arrow.ArrowException, ArithmeticError, LookupError, SyntaxError, TypeError, ValueError) as exc:
        raise _refused(about, f"it would not come back: {exc}") from exc
    if changed is not None:
        raise _refused(about, f"{changed}; convert it, or say pickle=True")


def _has_empty_arrays(kind: Any) -> bool:
    if getattr(kind, "list_size", None) == 0:
        return True
    return any(_has_empty_arrays(kind.field(at).type) for at in range(kind.num_fields))


def _refused(about: Mapping[str, Any], why: object) -> InvalidInputError:
    return InvalidInputError(f"a {about['library']} {about['form']} cannot be put: {why}", field="value")


def _groups(table: Any, groups: list[tuple[int, int]]) -> Iterator[bytes]:
    step = _step(table)
    for start in range(0, max(table.num_rows, 1), step):
        part = table.slice(start, step)
        body = _stream(part)
        groups.append((part.num_rows, len(body)))
        yield body


def _step(table: Any) -> int:
    """Rows of a group. Each has the schema, and dictionaries whole, so that large ones make groups larger."""
    everywhere = len(_stream(table.slice(0, 1))) if table.nbytes > _GROUP else 0
    return max(1, table.num_rows * max(_GROUP, everywhere) // max(table.nbytes - everywhere, 1))


def _stream(table: Any) -> bytes:
    import pyarrow as pa

    arrow: Any = pa
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


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


def decoded(
    about: Mapping[str, Any], body: memoryview, sizes: Sequence[int], start: int, count: int, first: int
) -> Any:
    """``count`` rows, from ``start`` of those in ``body``, whose groups have these sizes; of the library that they
    came from where that is installed, else Arrow's. The first of them is the table's row ``first``."""
    import pyarrow as pa

    arrow: Any = pa
    at, found = 0, list[Any]()
    for size in sizes:
        found.append(arrow.ipc.open_stream(arrow.py_buffer(body[at : at + size])).read_all())
        at += size
    table = arrow.concat_tables(found) if len(found) > 1 else found[0]
    if about["library"] == "polars":  # which takes no part of Arrow's arrays of a fixed size, if any is missing
        return _as_it_was(about, table, first).slice(start, count)
    return _as_it_was(about, table.slice(start, count), first)


def plain(body: memoryview, count: int) -> Any:
    """The first rows of a group as Arrow's, whatever library they came from."""
    import pyarrow as pa

    arrow: Any = pa
    return arrow.ipc.open_stream(arrow.py_buffer(body)).read_all().slice(0, count)


def _as_it_was(about: Mapping[str, Any], table: Any, first: int) -> Any:
    """Rows of a table, of which the first is the table's row ``first``."""
    library, form = about["library"], about["form"]
    if library == "pyarrow":
        if form != "RecordBatch":
            return table
        import pyarrow as pa

        arrow: Any = pa
        return arrow.RecordBatch.from_arrays([_joined(column) for column in table.columns], schema=table.schema)
    try:
        if library == "pandas":
            frame = table.to_pandas()
            _number(frame, table, first)
            if form != "Series":
                return frame
            return frame.iloc[:, 0].rename(about["unnamed"]) if "unnamed" in about else frame.iloc[:, 0]
        from importlib import import_module

        frame = import_module("polars").from_arrow(table)
        if form != "Series":
            return frame
        return frame.to_series().rename(about["unnamed"]) if "unnamed" in about else frame.to_series()
    except ImportError:
        return table


def _joined(column: Any) -> Any:
    if not column.num_chunks:
        import pyarrow as pa

        arrow: Any = pa
        return arrow.nulls(0, column.type)
    joined = column.combine_chunks()
    return joined.chunk(0) if hasattr(joined, "num_chunks") else joined


def _number(frame: Any, table: Any, first: int) -> None:
    """Have a part of a frame whose rows are numbered have the numbers that they had in the whole."""
    metadata = cast("dict[str, Any]", table.schema.pandas_metadata or {})
    described = cast("list[Any]", metadata.get("index_columns", []))
    said = cast("dict[str, Any]", described[0]) if len(described) == 1 and isinstance(described[0], dict) else {}
    if said.get("kind") != "range":
        return
    start, step = int(said["start"]), int(said["step"])
    from importlib import import_module

    made = import_module("pandas").RangeIndex
    frame.index = made(start + first * step, start + (first + len(frame)) * step, step, name=said.get("name"))
