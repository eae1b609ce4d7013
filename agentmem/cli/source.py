"""What there is to add: lines of text, JSON Lines, or a JSON array; each item with the line that it stands on."""

from __future__ import annotations

import json
import re
import reprlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from agentmem import InvalidInputError
from agentmem.cli.streams import note, reading, text_of
from agentmem.cli.values import local, span

if TYPE_CHECKING:
    from agentmem.client import Item

_UNDECODED = re.compile("[\udc80-\udcff]")
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Mark:
    """What an exported record has that is given to a memory after it was added."""

    rating: float | None
    pinned: bool


class Source:
    """The items of a file.

    ``left_out`` are lines that hold none, with the reasons, where those are to be skipped; ``marks`` are those of
    exported records, by id. ``has_ids``: whether any item so far had an id of its own.
    """

    def __init__(self, text: TextIO, name: str, *, plain: bool, skip: bool) -> None:
        self.name = name
        self.left_out = list[tuple[int, str]]()
        self.marks = dict[str, Mark]()
        self.has_ids = False
        self._text = text
        self._plain = plain
        self._skip = skip
        # From which item on lines are further ahead of items, and by how much.
        self._from, self._ahead = [0], [1]
        self._read = 0

    def __iter__(self) -> Iterator[Item]:
        with reading(self.name):
            for number, value in self._lines() if self._plain else self._values():
                if number - self._read != self._ahead[-1]:
                    self._from.append(self._read)
                    self._ahead.append(number - self._read)
                self._read += 1
                if isinstance(value, dict):
                    self._mark(cast("dict[str, Any]", value))
                yield value

    def _mark(self, item: dict[str, Any]) -> None:
        self.has_ids |= item.get("id") is not None
        rating, pinned = item.get("rating"), item.get("pinned") is True
        if "version" in item and (rating is not None or pinned):
            self.marks[str(item.get("id"))] = Mark(rating, pinned)

    def line(self, index: int) -> int:
        """The number of the line, as an editor counts it, that the item at this position begins on."""
        return index + self._ahead[bisect_right(self._from, index) - 1]

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Lines that are not blank, with their numbers."""
        for number, line in enumerate(self._text, 1):
            text = (line.removeprefix("\ufeff") if number == 1 else line).strip()
            if text and not self._is_undecoded(number, text):
                yield number, text

    def _is_undecoded(self, number: int, text: str) -> bool:
        undecoded = _UNDECODED.search(text)
        if undecoded:
            byte = f"the byte 0x{ord(undecoded[0]) - 0xDC00:02x} at {undecoded.start() + 1}"
            reason = f"{byte}; --encoding names another encoding, --repair replaces such bytes"
            if not self._skip:
                raise InvalidInputError(f"{self.name} is not UTF-8 text: line {number}, {reason}")
            self.left_out.append((number, f"not UTF-8 text: {reason}"))
        return undecoded is not None

    def _refuse(self, number: int, reason: str) -> None:
        """Leave a line out, or raise."""
        if not self._skip:
            raise InvalidInputError(f"{self.name}, line {number}: {reason}")
        self.left_out.append((number, reason))

    def _values(self) -> Iterator[tuple[int, Any]]:
        lines = self._lines()
        first = next(lines, None)
        if first is None:
            return
        if first[1].startswith("["):
            note(f"{self.name} is read as one JSON array; JSON Lines, an item a line, need less memory")
            yield from self._array(first[0], "\n".join([first[1], self._text.read()]))
            return
        for number, line in chain([first], lines):
            try:
                value = _checked(json.loads(line))
            except InvalidInputError as exc:
                self._refuse(number, str(exc))
            except (ValueError, RecursionError) as exc:
                self._refuse(number, f"not JSON: {_why(exc)}; {_FORMS}")
            else:
                yield number, value

    def _array(self, number: int, text: str) -> Iterator[tuple[int, Any]]:
        """The elements of a JSON array that is the whole text, which begins on this line.

        Where it is no JSON any more, what was read before stays; that and the rest is one line that is left out.
        """
        decoder, at, counted = json.JSONDecoder(), _space(text, 1), 0
        while not text.startswith("]", at):
            number, counted = number + text.count("\n", counted, at), at
            try:
                value, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as exc:
                if isinstance(exc, json.JSONDecodeError):  # where it ends to be JSON, which may be lines further down
                    number += text.count("\n", counted, exc.pos)
                self._refuse(number, f"not JSON: {_why(exc)}")
                return
            if not self._is_undecoded(number, text[at:end]):
                try:
                    value = _checked(value)
                except InvalidInputError as exc:
                    self._refuse(number, str(exc))
                else:
                    yield number, value
            at = _space(text, end)
            if text.startswith(",", at) and not text.startswith("]", _space(text, at + 1)):
                at = _space(text, at + 1)
            elif not text.startswith("]", at):
                number += text.count("\n", counted, at)
                self._refuse(number, "the JSON array has no comma or end here")
                return
        end = _space(text, at + 1)
        if end != len(text):
            number += text.count("\n", counted, end)
            self._refuse(number, f"more follows the end of the JSON array; {_FORMS}")


_FORMS = (
    "each line holds a JSON text or object (JSON Lines), or the whole file is one JSON array of them; "
    "lines of plain text are for `agentmem add -`"
)


def _why(exc: ValueError | RecursionError) -> str:
    """What is wrong with JSON; the line is said beside it."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at column {exc.colno}"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)


def _checked(value: object) -> object:
    """An item, with times, durations, numbers and metadata in the forms that the options take as well."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise InvalidInputError(f"neither a text nor an object; {_FORMS}")
    item = cast("dict[str, Any]", value)
    for name, (read, what) in _AS_OPTIONS.items():
        given = item.get(name)
        if isinstance(given, str):
            try:
                item[name] = read(given)
            except (ValueError, OverflowError, OSError, RecursionError) as exc:
                why = str(exc) if read is span else f"not {what}"
                raise InvalidInputError(f"{name}={reprlib.repr(given)} is {why}", field=name) from exc
        elif given is not None and name == "occurred_at":
            raise InvalidInputError(f"{name} must be a text, {what}, not {reprlib.repr(given)}", field=name)
    return item


_AS_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "ttl": (span, "a duration such as 90s, 30m, 24h or 7d"),
    "occurred_at": (local, "a time such as 2026-03-01 or 2026-03-01T09:30+01:00"),
    "importance": (float, "a number from 0 to 1"),
    "metadata": (json.loads, "a JSON object"),
}
"""Fields that an option takes as text, how that is read, and what it must be."""


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


@contextmanager
def opened(
    file: Path | None, *, plain: bool, skip: bool, repair: bool = False, encoding: str | None = None
) -> Generator[Source]:
    """The items of a file (None: standard input); ``plain`` lines are texts themselves."""
    name = "standard input" if file is None else str(file)
    with text_of(file, name, encoding, repair=repair) as text:
        yield Source(text, name, plain=plain, skip=skip)
