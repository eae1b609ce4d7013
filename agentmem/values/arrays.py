"""Arrays as bytes: NumPy's, and what other libraries hand over by DLPack."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import numpy as np

from agentmem.types.errors import InvalidInputError, MissingExtraError, StoreCorruptError

_LIBRARIES = {"torch": "torch", "cupy": "cupy", "jax": "jax.numpy", "jaxlib": "jax.numpy"}
"""Whose arrays come back as theirs: what a type's module begins with, and what makes one. Nothing that a description
names is imported but these."""
_BFLOAT16 = "bfloat16"
_CPU = 1
"""DLPack's number of a device whose memory is the machine's own."""


def library_of(value: object) -> str:
    """The package that a value's type is of."""
    return type(value).__module__.partition(".")[0]


def is_scalar(value: object) -> bool:
    """Whether a value is a scalar of NumPy's."""
    return isinstance(value, np.generic)


def is_array(value: object) -> bool:
    """Whether a value is an array of any library."""
    return isinstance(value, np.ndarray) or (
        not isinstance(value, type) and hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")
    )


def encoded(value: object) -> tuple[dict[str, Any], Iterator[memoryview]]:
    """What an array is, and its bytes. Raises ``InvalidInputError`` for one that bytes do not say all of."""
    library = library_of(value)
    numpy = isinstance(value, (np.ndarray, np.generic))
    own, of = (cast("Any", value), None) if numpy else _from_elsewhere(value, library)
    scalar = isinstance(own, np.generic)
    array = _plain(own)
    turned = array.flags.f_contiguous and not array.flags.c_contiguous
    whole: Any = np.ascontiguousarray(array.T if turned else array)
    about: dict[str, Any] = {
        **_type(array.dtype), "shape": list(array.shape), "order": "F" if turned else "C"
    }  # fmt: skip
    if of is not None:
        about["of"] = of
    if scalar:
        about["scalar"] = True
    if library in _LIBRARIES:
        about["library"] = library
    raw: Any = whole.reshape(-1).view(np.uint8) if whole.size and whole.dtype.itemsize else np.empty(0, np.uint8)
    return about, iter([memoryview(raw)])


def _type(dtype: Any) -> dict[str, Any]:
    """A type as a description has it. Raises ``InvalidInputError`` for one that would come back as another."""
    if dtype.hasobject:
        raise InvalidInputError(
            f"an array of {dtype} holds Python objects, which have no bytes of their own; put a list, or a table",
            field="value",
        )
    if getattr(_further(), dtype.name, None) is dtype.type:
        return {"dtype": dtype.str, "type": dtype.name}
    try:
        descr = np.lib.format.dtype_to_descr(dtype)
        same = np.lib.format.descr_to_dtype(_descr(json.loads(json.dumps(descr)))) == dtype
    except (TypeError, ValueError):
        same, descr = False, None
    if not same:
        raise InvalidInputError(
            f"an array of {dtype} would come back as another type; put its fields one by one, or a view as bytes",
            field="value",
        )
    return {"dtype": descr}


def _further() -> Any:
    """The package that gives NumPy further types, if it is in use."""
    return sys.modules.get("ml_dtypes")


def _plain(array: Any) -> Any:
    """An array of NumPy's own, that is no more than that."""
    kind = cast("type[Any]", type(array))
    if issubclass(kind, np.generic) or kind in (np.ndarray, np.memmap):
        return np.asarray(array)
    raise InvalidInputError(
        f"{kind.__name__} is more than its bytes; put the array inside of it (np.asarray)", field="value"
    )


def _from_elsewhere(value: Any, library: str) -> tuple[Any, str | None]:
    """An array of another library in this machine's memory, without importing that library; and its type there, where
    NumPy has none such and the bytes come as integers."""
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        if int(value.__dlpack_device__()[0]) != _CPU:
            for name in ("cpu", "get"):  # torch; cupy
                if callable(move := getattr(value, name, None)):
                    value = move()
                    break
        if library == "torch" and str(getattr(value, "dtype", None)) == f"torch.{_BFLOAT16}":
            return np.from_dlpack(value.contiguous().view(import_module("torch").int16)), _BFLOAT16
        return (np.asarray(value) if type(value).__module__ == "numpy" else np.from_dlpack(value)), None
    except (BufferError, RuntimeError, TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"an array of {library} cannot be read by DLPack: {exc}; put it as a NumPy array", field="value"
        ) from exc


def decoded(about: Mapping[str, Any], fill: Callable[[memoryview], None]) -> Any:
    """An array as it went in. ``fill`` writes its bytes into a buffer."""
    dtype, shape, turned = described(about)
    array: Any
    array = np.empty(shape[::-1] if turned else shape, dtype)
    if array.nbytes:
        fill(memoryview(array.reshape(-1).view(np.uint8)))
    array = array.T if turned else array
    if about.get("scalar"):
        return _scalar(array, dtype)
    found: Any = as_of(about.get("library"), array)
    of = about.get("of")
    return found if of is None or library_of(found) != "torch" else found.view(getattr(import_module("torch"), of))


def _scalar(array: Any, dtype: Any) -> Any:
    # Of the types of texts, NumPy's way gives Python's.
    return dtype.type(array[()]) if dtype.kind in "SU" else array[()]


def as_of(library: str | None, array: Any) -> Any:
    """An array of the library that it came from, where that is installed; NumPy's where it is not."""
    module = _LIBRARIES.get(str(library))
    try:
        return array if module is None else import_module(module).asarray(array)
    except ImportError:
        return array


def rows(about: Mapping[str, Any]) -> int:
    """How many rows it has; 0 dimensions have none to choose from."""
    _, shape = _shape(about)
    if not shape:
        raise InvalidInputError("an array without dimensions has no rows; get it whole", field="start")
    return int(shape[0])


def sliced(about: Mapping[str, Any], start: int, end: int) -> tuple[dict[str, Any], int]:
    """What the rows from ``start`` to ``end`` are, one after the other, and the byte that they begin at."""
    dtype, shape = _shape(about)
    width = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    part = {**about, "shape": [end - start, *shape[1:]], "size": (end - start) * width}
    return part, start * width


def described(about: Mapping[str, Any]) -> tuple[Any, tuple[int, ...], bool]:
    """An array's type and shape, and whether it is in Fortran order."""
    dtype, shape = _shape(about)
    if math.prod(shape) * dtype.itemsize != about["size"]:
        raise StoreCorruptError(f"a value of {about['size']:,} bytes is no array of {dtype} and shape {shape}")
    return dtype, shape, about["order"] == "F"


def _shape(about: Mapping[str, Any]) -> tuple[Any, tuple[int, ...]]:
    try:
        if "type" in about:
            return np.dtype(getattr(import_module("ml_dtypes"), about["type"])), tuple(about["shape"])
        return np.lib.format.descr_to_dtype(_descr(about["dtype"])), tuple(about["shape"])
    except ImportError as exc:
        raise MissingExtraError(
            f"this array is of {about['type']}, a type of the package ml_dtypes; pip install ml_dtypes"
        ) from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise StoreCorruptError(f"a value says that it is an array which cannot be: {exc}") from exc


def _descr(found: Any) -> Any:
    """JSON has no tuples, of which the description of a structured type consists."""
    if not isinstance(found, list):
        return found
    fields = cast("list[list[Any]]", found)
    return [
        (tuple(cast("list[str]", name)) if isinstance(name, list) else name, _descr(kind), *map(tuple, more))
        for name, kind, *more in fields
    ]
