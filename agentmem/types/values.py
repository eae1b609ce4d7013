"""Values of Python programs as those that JSON has: each kind that has one meaning, and what to write for the others.

What metadata stores and what filters compare with goes through here, so that a value is found by itself. A value of a
type that is not built in can only come from somebody who has imported its module: nothing is imported to look for it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any, NoReturn, TypeAlias, cast
from uuid import UUID

from agentmem.types.clock import BEGINNING, END, to_datetime, to_micros
from agentmem.types.enums import ALL
from agentmem.types.errors import shown

MAX_DEPTH = 32
"""Levels of lists and dicts inside each other."""
MAX_INT = 2**63 - 1

Scalar: TypeAlias = str | int | float | None
Json: TypeAlias = "Scalar | list[Json] | dict[str, Json]"
"""What JSON holds and SQLite reads back: integers of 63 bits, finite floats, text without NUL and lone surrogates."""
Time: TypeAlias = datetime | date
"""A datetime here is aware and in UTC."""

_BUILT_IN = frozenset({int, float, bool, str, type(None)})
_SECOND = timedelta(seconds=1)
_NAIVE = (
    "has no time zone, so that it is no instant; write .astimezone() if it is local time, "
    ".replace(tzinfo=timezone.utc) if it is UTC, or .isoformat() to keep it as text"
)


class MeaninglessError(Exception):
    """A value that has no one meaning. The message goes on after the value's name, and says what to write instead."""


def as_number(value: object) -> object:
    """A number of another library as an int or a float, the nearest one; anything else as it is."""
    if type(value) in _BUILT_IN:
        return value
    if isinstance(value, _known("numpy", "generic")):
        scalar = cast("Any", value)
        return scalar.item() if scalar.dtype.kind in "biu" else float(scalar) if scalar.dtype.kind == "f" else scalar
    if isinstance(value, (*_known("decimal", "Decimal"), *_known("fractions", "Fraction"))):
        number = cast("Any", value)
        try:
            return int(number) if abs(number) <= MAX_INT and number == int(number) else float(number)
        except (ArithmeticError, ValueError):  # not a number, or beyond all floats
            return math.nan
    return value


def plain(value: object) -> object:
    """``value`` as None, a bool, an int, a float, text, a date or a datetime in UTC, if it stands for one.

    Else as a container whose items are yet to be looked at: a mapping, a ``Set``, or what has a length and is iterated.
    Raises ``MeaninglessError``.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if not -MAX_INT - 1 <= value <= MAX_INT:
            raise MeaninglessError("is an int beyond 63 bits; store it as text")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MeaninglessError(f"is {float(value)}, which JSON does not have; use None")
        return float(value)
    if isinstance(value, (datetime, date)):
        return _time(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        kind = type(cast("object", value)).__name__
        raise MeaninglessError(
            f"is a {kind}, which JSON cannot hold; write .decode() for text, base64.b64encode(...).decode() for data"
        )
    if isinstance(value, (Mapping, list, tuple, Set)):
        return cast("object", value)
    return _of_other_types(value)


def _of_other_types(value: object) -> object:
    if isinstance(value, Enum):
        return _member(value)
    if isinstance(value, time):
        return _time_of_day(value)
    if isinstance(value, timedelta):
        whole, rest = divmod(value, _SECOND)
        return value.total_seconds() if rest else whole
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (*_known("decimal", "Decimal"), *_known("fractions", "Fraction"))):
        return _exact(value)
    if isinstance(value, _known("numpy", "generic")):
        return plain(_of_numpy(value))
    if isinstance(value, _known("numpy", "ndarray")):
        return _array(value)
    if isinstance(value, _known("pathlib", "PurePath")):
        return _text(os.fspath(cast("os.PathLike[str]", value)))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    if isinstance(value, _known("pydantic", "BaseModel")):
        return dict(cast("Any", value))
    if isinstance(value, Sequence):
        return cast("object", value)
    raise MeaninglessError(f"is {a_type(value)}, which JSON cannot hold; {_instead(value)}")


class Copier:
    """Copies values as JSON holds them; what is refused, and how large it may get, is up to those who inherit."""

    def refuse(self, where: str, reason: str) -> NoReturn:
        """Raise the error about the value that ``where`` names."""
        raise NotImplementedError

    def take(self, items: int, characters: int) -> None:
        """Count what a copy will hold, before it is made; raise where it is too much."""
        raise NotImplementedError

    def inside(self, where: str, key: str) -> str:
        """The name of the value under a key."""
        raise NotImplementedError

    def copy(self, value: object, where: str, depth: int = 0) -> Json:
        """The value as JSON, times as text."""
        found = self.plain(value, where)
        if isinstance(found, (datetime, date)):
            found = time_text(found)
        if found is None or isinstance(found, (bool, int, float, str)):
            self.take(0, len(found) + 2 if isinstance(found, str) else 1)
            return found
        return self._container(found, where, depth)

    def plain(self, value: object, where: str) -> object:
        """``plain(value)``, with the error that is wanted here."""
        try:
            return plain(value)
        except MeaninglessError as exc:
            self.refuse(where, str(exc))

    def _container(self, value: object, where: str, depth: int) -> Json:
        if depth >= MAX_DEPTH:
            self.refuse(where, f"is nested more than {MAX_DEPTH} deep; flatten it")
        items = cast("Sequence[object]", value)
        self.take(len(items), 1)
        if isinstance(value, Mapping):
            return self._object(cast("Mapping[object, object]", value), where, depth)
        copies = [self.copy(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(items)]
        return _in_order(copies) if isinstance(value, Set) else copies

    def _object(self, value: Mapping[object, object], where: str, depth: int) -> dict[str, Json]:
        copies: dict[str, Json] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                self.refuse(where, f"has the key {shown(key)}; keys must be text, so write str(...)")
            name = cast("str", self.plain(key, f"a key of {where}"))
            self.take(0, len(name) + 2)
            copies[name] = self.copy(item, self.inside(where, name), depth + 1)
        return copies


def text_fault(text: str) -> str | None:
    """Why the text cannot be stored unchanged, if so; to be read after its name."""
    if "\x00" in text:
        return f"contains a NUL character at {text.index(chr(0))}; remove it"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            return f"contains a lone surrogate at {exc.start}; decode the text with errors='replace'"
    return None


def bare_text(text: str) -> str:
    """The text as a plain str."""
    # Not str(text), which is "Role.USER" for a member of an enum whose text is "user".
    return text if type(text) is str else str.__str__(text)


def time_text(value: Time) -> str:
    """A time as it is stored: ISO 8601; instants in UTC, to the second or to the microsecond, which sort as text."""
    return value.isoformat()


def type_name(value: object) -> str:
    """The name of a value's type for messages, with the package that it comes from."""
    kind = type(value)
    package = str(kind.__module__).split(".")[0]
    return kind.__name__ if package in ("builtins", "__main__") else f"{package}.{kind.__name__}"


def a_type(value: object) -> str:
    """``type_name`` with its article."""
    name = type_name(value)
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _known(module: str, name: str) -> tuple[type[Any], ...]:
    """A class of a module, if somebody has imported that; for ``isinstance``."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


def _text(value: str) -> str:
    fault = text_fault(value)
    if fault is not None:
        raise MeaninglessError(fault)
    return bare_text(value)


def _time(value: datetime | date) -> Time:
    if value != value:  # pandas' NaT
        raise MeaninglessError("is no time; use None")
    if not isinstance(value, datetime):
        return date.fromordinal(value.toordinal())
    if value.utcoffset() is None:
        raise MeaninglessError(f"is {value.isoformat()}, which {_NAIVE}")
    micros = to_micros(value)
    if not BEGINNING <= micros <= END:
        raise MeaninglessError(f"is {value.isoformat()}, which is outside of the years 1 to 9999 in UTC")
    return to_datetime(micros)


def _time_of_day(value: time) -> str:
    if value.tzinfo is not None:
        raise MeaninglessError(
            f"is {value.isoformat()}, a time of day with a time zone, which has no order; "
            "write .replace(tzinfo=None), or a datetime"
        )
    return value.isoformat()


def _member(value: Enum) -> object:
    if isinstance(value, type(ALL)):
        raise MeaninglessError(f"is {value!r}, which is no value")
    return plain(value.value)


def _exact(value: object) -> int | float:
    """A Decimal or a Fraction, if a float has its value or is written with its digits."""
    number, kind = as_number(value), cast("Any", type(value))
    if isinstance(number, int):
        return number
    if isinstance(number, float) and math.isfinite(number) and (number == value or kind(repr(number)) == value):
        return number
    raise MeaninglessError(
        f"is {shown(value)}, which no float holds exactly; write float(...) if the nearest one will do, else str(...)"
    )


def _of_numpy(value: object) -> object:
    """The Python value of a numpy scalar."""
    scalar = cast("Any", value)
    kind = scalar.dtype.kind
    if kind in "mM":
        raise MeaninglessError(
            f"is {a_type(value)}, which has no time zone; write "
            ".astype('datetime64[us]').item().replace(tzinfo=timezone.utc)"
            if kind == "M"
            else f"is {a_type(value)}; write .astype('timedelta64[us]').item()"
        )
    found = scalar.item()
    if not isinstance(found, _known("numpy", "generic")):
        return found
    if kind == "f" and float(scalar) == scalar:
        return float(scalar)
    raise MeaninglessError(f"is {a_type(value)} that no Python number holds; write float(...) or str(...)")


def _array(value: object) -> object:
    array = cast("Any", value)
    if array.dtype.kind in "mM":
        raise MeaninglessError(f"is an array of {array.dtype}; write a list of datetimes with time zones")
    if array.ndim:
        return array
    item = array.item()
    if isinstance(item, _known("numpy", "ndarray")):
        raise MeaninglessError("is an array in an array; write .tolist()")
    return plain(item)


def _instead(value: object) -> str:
    kind = type(value)
    for method in ("tolist", "to_dict", "model_dump", "asdict"):
        if callable(getattr(kind, method, None)):
            return f"write .{method}()"
    if hasattr(kind, "__next__") or hasattr(kind, "__iter__"):
        return "write list(...)"
    return "use text, such as str(...), a number, a boolean, None, a date, lists or dicts"


def _in_order(items: list[Json]) -> list[Json]:
    """The members of a set in one order for all: by kind, numbers and text by value; each once."""
    ordered: dict[Any, Json] = {}
    for item in items:
        ordered.setdefault(_place(item), item)
    return [ordered[place] for place in sorted(ordered)]


def _place(item: Json) -> tuple[int, Any]:
    if item is None or isinstance(item, bool):
        return (0, 0) if item is None else (1, item)
    if isinstance(item, (int, float)):
        return 2, item
    if isinstance(item, str):
        return 3, item
    return 4 if isinstance(item, list) else 5, json.dumps(item, sort_keys=True)
