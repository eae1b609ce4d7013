"""Arrays in one file, with checksums: for what is derived, and made anew where it is damaged.

A file is written beside its place and then put there, so that a reader has the old one or the new one. It is not
synced: what a power cut leaves is told by the checksums.
"""

from __future__ import annotations

import json
import os
import struct
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"agentmem arrays 1\n"
_SIZES = struct.Struct("<QI")
_ALIGNED = 64


class DamagedFileError(ValueError):
    """The file is not what was written."""


def write(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``header``, values as JSON has them, and the arrays. Raises ``OSError``."""
    listed, at = list[tuple[str, str, list[int], int, int]](), 0
    for name, array in arrays.items():
        listed.append((name, array.dtype.str, list(array.shape), at, zlib.crc32(_bytes(array))))
        at += -(-array.nbytes // _ALIGNED) * _ALIGNED
    text = json.dumps({"header": header, "arrays": listed}).encode()
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    try:
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(_MAGIC + _SIZES.pack(len(text), zlib.crc32(text)) + text)
            for array in arrays.values():
                file.write(_bytes(array))
                file.write(bytes(-array.nbytes % _ALIGNED))
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def read_header(path: Path) -> dict[str, Any]:
    """The header alone. Raises ``DamagedFileError``, and ``OSError`` where there is no file."""
    with open(path, "rb") as file:
        return _described(file)[0]


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the arrays, compared with their checksums. Raises as ``read_header`` does."""
    import numpy as np

    with open(path, "rb") as file:
        header, listed = _described(file)
        start, arrays = file.tell(), dict[str, Any]()
        for name, kind, shape, at, crc in listed:
            array = np.empty(shape, np.dtype(kind))
            file.seek(start + at)
            if array.size and (file.readinto(_bytes(array)) != array.nbytes or zlib.crc32(_bytes(array)) != crc):
                raise DamagedFileError(f"{path}: {name} is damaged")
            arrays[name] = array
    return header, arrays


def _described(file: Any) -> tuple[dict[str, Any], list[tuple[str, str, list[int], int, int]]]:
    start = file.read(len(_MAGIC) + _SIZES.size)
    if len(start) != len(_MAGIC) + _SIZES.size or not start.startswith(_MAGIC):
        raise DamagedFileError(f"{file.name} is no file of arrays")
    length, crc = _SIZES.unpack(start[len(_MAGIC) :])
    if length > os.fstat(file.fileno()).st_size:
        raise DamagedFileError(f"{file.name}: its beginning is damaged")
    text = file.read(length)
    if len(text) != length or zlib.crc32(text) != crc:
        raise DamagedFileError(f"{file.name}: its beginning is damaged")
    described = json.loads(text)
    return described["header"], described["arrays"]


def _bytes(array: NDArray[Any]) -> memoryview:
    import numpy as np

    if not array.size:
        return memoryview(b"")
    contiguous: Any = np.ascontiguousarray(array)
    return memoryview(contiguous).cast("B")
