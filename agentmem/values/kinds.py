"""Which kinds of values there are: what each is as bytes, and how it comes back.

A kind is a word in the value's description, which stands in the record's data under ``chunks.MARK``: ``kind``,
``size`` in bytes, ``digest`` of the chunks' hashes, and what the kind needs besides.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from agentmem.stores.chunkframes import FRAME
from agentmem.types.data import copied, parsed
from agentmem.types.errors import InvalidInputError
from agentmem.values import arrays, tables
from agentmem.values.codecs import Bytes

KINDS = BYTES, TEXT, JSON, ARRAY, TABLE, STREAM, PICKLE = "bytes", "str", "json", "array", "table", "stream", "pickle"
_STEP = 4 * FRAME


@dataclass
class Encoded:
    """A value on its way in: its kind, what that needs, and its bytes, to be read once. ``about`` is whole after."""

    kind: str
    about: dict[str, Any]
    blocks: Iterable[Bytes]
    close: Callable[[], object] = lambda: None


def encode(value: object, *, as_pickle: bool = False) -> Encoded:
    """What a value is, as bytes. Raises ``InvalidInputError`` for what none of the kinds is.

    With ``as_pickle`` whatever Python can pickle.
    """
    if as_pickle:
        return Encoded(PICKLE, {}, [pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)])
    if arrays.is_scalar(value):  # some of them are texts or bytes, too
        about, blocks = arrays.encoded(value)
        return Encoded(ARRAY, about, blocks)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Encoded(BYTES, {}, [_plain(cast("Bytes", value))])
    if isinstance(value, str):
        return Encoded(TEXT, {}, [value.encode("utf-8", "surrogatepass")])
    if tables.is_table(value):
        about, blocks = tables.encoded(value)
        return Encoded(TABLE, about, blocks)
    if arrays.is_array(value):
        about, blocks = arrays.encoded(value)
        return Encoded(ARRAY, about, blocks)
    if isinstance(value, os.PathLike):
        return _of_file(cast("os.PathLike[str]", value))
    if not isinstance(value, (type, ModuleType)) and callable(read := getattr(value, "read", None)):
        return Encoded(STREAM, {}, _reading(read))
    if isinstance(value, Iterator):
        return Encoded(STREAM, {}, _checked(cast("Iterator[object]", value)))
    return Encoded(JSON, {}, [_as_json(value)])


def _plain(value: Bytes) -> Bytes:
    """The same as bytes one after the other, in the order of rows, as Python has them."""
    try:
        view = memoryview(value)
    except ValueError as exc:
        raise InvalidInputError(f"a memoryview was released: {exc}", field="value") from exc
    return value if view.c_contiguous and view.nbytes else view.tobytes()


def _as_json(value: object) -> bytes:
    try:
        copy = copied(value, "value")
    except InvalidInputError as exc:
        if value is None or isinstance(value, (bool, int, float, dict, list, tuple)):
            raise
        raise InvalidInputError(
            f"a {type(value).__name__} is none of what can be put: bytes, str, what JSON has, arrays (NumPy, DLPack), "
            "tables (Arrow, pandas, polars), a Path, an open file, an iterator of bytes; or say pickle=True",
            field="value",
        ) from exc
    return json.dumps(copy, separators=(",", ":")).encode()


def _of_file(path: os.PathLike[str]) -> Encoded:
    def failed(exc: OSError | TypeError | ValueError) -> InvalidInputError:
        return InvalidInputError(
            f"{str(path)!r} cannot be read: {getattr(exc, 'strerror', None) or exc}", field="value"
        )

    try:
        file = open(path, "rb", buffering=0)
    except (OSError, TypeError, ValueError) as exc:
        raise failed(exc) from exc

    def read(size: int) -> bytes | None:
        try:
            return file.read(size)
        except OSError as exc:
            raise failed(exc) from exc

    return Encoded(STREAM, {}, _reading(read), file.close)


def _reading(read: Callable[[int], object]) -> Iterator[Bytes]:
    while True:
        block = _block(read(_STEP))
        if not memoryview(block).nbytes:
            return
        yield block


def _checked(blocks: Iterator[object]) -> Iterator[Bytes]:
    return (_block(block) for block in blocks)


def _block(block: object) -> Bytes:
    if not isinstance(block, (bytes, bytearray, memoryview)):
        raise InvalidInputError(
            f"a stream gave {type(block).__name__}, not bytes; open files in binary mode", field="value"
        )
    return _plain(cast("Bytes", block))


class Whole:
    """A value's bytes, for whoever makes the value of them; implemented by whoever reads them."""

    def bytes(self, start: int, end: int) -> bytes:
        """The bytes of a range."""
        raise NotImplementedError

    def fill(self, buffer: memoryview, start: int) -> None:
        """Write as many bytes as the buffer has room for into it."""
        raise NotImplementedError


def decode(about: Mapping[str, Any], source: Whole, *, pickled: bool = False) -> Any:
    """A whole value as it went in. A stream is none: it is opened."""
    kind, size = about["kind"], int(about["size"])
    if kind == ARRAY:
        return arrays.decoded(about, lambda buffer: source.fill(buffer, 0))
    if kind == TABLE:
        groups = about["groups"]
        sizes = [size for _, size in groups]
        return tables.decoded(about, memoryview(source.bytes(0, size)), sizes, 0, int(about["rows"]), 0)
    body = source.bytes(0, size)
    if kind == TEXT:
        return body.decode("utf-8", "surrogatepass")
    if kind == JSON:
        return parsed(body.decode())
    if kind == PICKLE:
        if not pickled:
            raise is_pickle()
        return pickle.loads(body)
    return body


def is_pickle() -> InvalidInputError:
    """The error for whoever has not said that a pickle may be read."""
    return InvalidInputError(
        "this value was put as a pickle, and reading one runs what is in it: say pickle=True, and only for what you "
        "have put yourself",
        field="pickle",
    )


def decode_part(about: Mapping[str, Any], source: Whole, start: int | None, end: int | None) -> Any:
    """What a value has from ``start`` to ``end``, as a slice counts: rows of arrays and tables, else bytes."""
    kind = about["kind"]
    if kind == ARRAY:
        first, last = _within(start, end, arrays.rows(about))
        if about["order"] == "F":  # its rows lie apart from each other, everywhere
            return arrays.decoded(about, lambda buffer: source.fill(buffer, 0))[first:last].copy(order="F")
        part, at = arrays.sliced(about, first, last)
        return arrays.decoded(part, lambda buffer: source.fill(buffer, at))
    if kind == TABLE:
        first, last = _within(start, end, int(about["rows"]))
        (low, high), before, sizes = tables.sliced(about["groups"], first, last)
        return tables.decoded(about, memoryview(source.bytes(low, high)), sizes, first - before, last - first, first)
    if kind not in (BYTES, STREAM):
        raise InvalidInputError(
            f"start and end are for bytes, streams, arrays and tables; this value is {kind!r}: get it whole",
            field="start",
        )
    return source.bytes(*_within(start, end, int(about["size"])))


def _within(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)
