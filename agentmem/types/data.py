"""A record's data: any JSON, as the ASCII text that is stored, and back.

Nothing is changed on the way: what JSON cannot give back as it was is refused, with the path to it. ``NaN`` and the
infinities are kept, as Python's ``json`` writes them; tuples become lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from threading import Thread
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from agentmem.types.errors import InvalidInputError, StoreCorruptError, shown
from agentmem.types.values import a_type, bare_text

T = TypeVar("T")
MAX_DATA = 16 * 1_048_576
"""Bytes of JSON, in which every character beyond ASCII is written as an escape."""
MAX_LEVELS = 256
"""Levels of lists and dicts inside each other: far from where Python itself would stop."""
_MAX_BITS = 14_000
"""Some 4,200 digits. Python reads no number of more than 4,300 from JSON."""
_DIGITS = 600
"""Digits that Python reads however it is set."""
_LONGEST_PATH = 120
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_PLAIN = frozenset[type]({str, int, float, bool, type(None)})
_TEXT = {str}

Convert = Callable[[object], object]
"""What stands for an object that is none of JSON's; itself if nothing does."""


class _Open(NamedTuple):
    """A container that is being copied: what is left of it, and where its copy is."""

    items: Any
    into: Any
    key: object
    """In what it lies itself, for the path."""


def data_json(value: object) -> str | None:
    """Data as JSON text; None for no data.

    Raises ``InvalidInputError`` for what JSON does not have, with its path, for more than ``MAX_LEVELS`` levels, and
    for more than ``MAX_DATA`` bytes.
    """
    return None if value is None else dumped(copied(value))


def copied(value: object, name: str = "data", convert: Convert | None = None) -> object:
    """A value as JSON has it. ``convert`` gives what stands for an object that JSON does not have.

    Raises as ``data_json`` does.
    """
    return _Copy(name, convert).of(value)


def dumped(copy: object, name: str = "data") -> str:
    """What ``copied`` made as JSON text. Raises ``InvalidInputError`` for more than ``MAX_DATA`` bytes."""
    text = _deeply(lambda: json.dumps(copy, separators=(",", ":")))
    if len(text) > MAX_DATA:
        raise _too_much(name)
    return text


def parsed(text: str) -> Any:
    """Data as it went in. Raises ``StoreCorruptError`` for what is no JSON."""
    try:
        return _deeply(lambda: json.loads(text))
    except json.JSONDecodeError as exc:
        raise StoreCorruptError(f"the data of a record is damaged: {exc}") from exc
    except ValueError:  # a number of more digits than this process reads at once
        return _deeply(lambda: json.loads(text, parse_int=_long_int))


def _long_int(digits: str) -> int:
    negative, number = digits.startswith("-"), 0
    digits = digits.lstrip("-")
    for start in range(0, len(digits), _DIGITS):
        chunk = digits[start : start + _DIGITS]
        number = number * 10 ** len(chunk) + int(chunk)
    return -number if negative else number


def _deeply(run: Callable[[], T]) -> T:
    """Run what goes down into nested values, on a thread of its own where the caller's stack has no room for that."""
    try:
        return run()
    except RecursionError:
        found = list[T]()
        thread = Thread(target=lambda: found.append(run()), name="agentmem-json")
        thread.start()
        thread.join()
        return found[0]


def _too_much(name: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name} has more than {MAX_DATA:,} bytes of JSON; store it elsewhere, and here where it is", field="data"
    )


class _Copy:
    """Copies a value as JSON has it, without going down on the stack."""

    def __init__(self, name: str, convert: Convert | None) -> None:
        self._name = name
        self._convert = convert
        self._room = MAX_DATA
        self._open = list[_Open]()

    def of(self, value: object) -> object:
        whole: list[object] = []
        self._take(value, whole, None)
        while self._open:
            items, into, _ = self._open[-1]
            try:
                key, item = next(items)
            except StopIteration:
                self._open.pop()
            else:
                self._take(item, into, key)
        return whole[0]

    def _take(self, value: object, into: Any, key: object) -> None:
        """Put a value where it belongs; of a container an empty one, whose items come next."""
        if isinstance(into, dict):
            key = self._key(key)
        made, items = self._made(value, key)
        if isinstance(into, dict):
            into[key] = made
        else:
            into.append(made)
        if len(self._open) == MAX_LEVELS and isinstance(made, (dict, list)):
            self._refuse(key, f"is nested more than {MAX_LEVELS} deep; flatten it")
        if items is not None:
            self._open.append(_Open(items, made, key))

    def _made(self, value: object, key: object) -> tuple[object, Any]:
        """The copy of a value, and of a container's the items that are yet to be copied into it."""
        kind = type(value)
        if kind is not dict and kind is not list and kind not in _PLAIN:
            value = self._plain(value, key)
        if isinstance(value, str):
            return self._text(value, key), None
        if isinstance(value, dict):
            fields = cast("dict[object, object]", value)
            if set(map(type, fields)) == _TEXT and self._take_all(fields.values()) and self._take_all(fields):
                return dict(fields), None
            self._use(2 + 4 * len(fields))
            return {}, iter(fields.items())
        if isinstance(value, list):
            elements = cast("list[object]", value)
            if self._take_all(elements):
                return list(elements), None
            self._use(2 + 2 * len(elements))
            return [], enumerate(elements)
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            self._refuse(key, f"is an int of more than {_MAX_BITS:,} bits; store it as text, such as hex(...)")
        self._use(value.bit_length() >> 2 if isinstance(value, int) else 3)
        return value, None

    def _take_all(self, items: Collection[Any]) -> bool:
        """Count the items of a container at once, where all are plain and nothing is wrong with any: a long list of
        numbers takes a twentieth of the time."""
        kinds = set(map(type, items))
        if not kinds <= _PLAIN:
            return False
        size = 2 * len(items) + 2
        if int in kinds:
            numbers = [item for item in items if type(item) is int]
            if max(max(numbers), -min(numbers)).bit_length() > _MAX_BITS:
                return False
        if str in kinds:
            texts = "\x00".join([item for item in items if type(item) is str])
            if not texts.isascii() and _PAIR.search(texts):
                return False
            size += len(texts)
        self._use(size)
        return True

    def _plain(self, value: object, key: object) -> object:
        """A value of another type as one of those that JSON has."""
        if not isinstance(value, (str, int, float, list, tuple, Mapping)) and self._convert is not None:
            value = self._convert(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return bare_text(value)
        for kind in (int, float):
            if isinstance(value, kind):
                return kind(value)
        if isinstance(value, Mapping):
            return dict(cast("Mapping[object, object]", value))
        if isinstance(value, (list, tuple)):
            return list(cast("list[object]", value))
        self._refuse(key, f"is {a_type(value)}, which JSON does not have; {_instead(value)}")

    def _text(self, value: str, key: object) -> str:
        self._use(len(value) + 2)
        if not value.isascii() and _PAIR.search(value):
            self._refuse(
                key, "has the halves of a character one by one; join them: .encode('utf-16', 'surrogatepass')"
                ".decode('utf-16')"
            )  # fmt: skip
        return value

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            self._refuse(None, f"has the key {shown(key)}; keys must be text, so write str(...)")
        return self._text(bare_text(key), key)

    def _use(self, size: int) -> None:
        """Count what a copy will hold, before it is made: lists that hold each other often unfold into too much."""
        self._room -= size
        if self._room < 0:
            raise _too_much(self._name)

    def _refuse(self, key: object, reason: str) -> NoReturn:
        keys = [one.key for one in self._open[1:]] + ([] if key is None or not self._open else [key])
        path = self._name + "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in keys)
        path = path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH // 2]}...{path[-_LONGEST_PATH // 2 :]}"
        path = path.encode("utf-8", "backslashreplace").decode()
        raise InvalidInputError(f"{path} {reason}", field="data")


def _instead(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "write base64.b64encode(...).decode()"
    for method in ("model_dump", "to_dict", "tolist", "isoformat", "dict"):
        if callable(getattr(type(value), method, None)):
            return f"write .{method}()"
    if hasattr(type(value), "__iter__"):
        return "write list(...)"
    return "write str(...)"
