"""Metadata of a large scope as columns, one for each key: its different values, and which of them a slot has.

A filter cannot tell all values apart: where it compares with 5 and with 9, there are numbers below 5, 5, those between,
9, and those above. So values are put into classes that are at least as fine as what a filter tells apart, and the
filter's own SQL decides on one value of each class. Nothing here says what a filter means.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from agentmem.filters.language import (
    AllOf,
    AnyOf,
    Compared,
    Condition,
    Contains,
    Exists,
    Node,
    OneOf,
    RecordCondition,
    StartsWith,
    Test,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Ints

MOST_CLASSES = 20_000
"""Classes, of a key or of several together, beyond which records are asked one by one."""
MOST_VALUES, _MOST_KEYS = 1_000_000, 32
"""Different values of all keys together, some 110 MB, and keys, that are held."""
_EXACT = 2**53
_NEAR = 1e-15
"""Numbers so near to one that is compared with, as a share of it, are classes of their own: SQLite reads a few numbers
from text as one that lies beside theirs."""
_MISSING = -1

Tests = dict[str, list[Test]]


def asked_of(tree: Node) -> Tests | None:
    """What a filter asks of each key of the metadata; None if it asks for more than metadata."""
    found: Tests = {}
    left: list[Node] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, AllOf | AnyOf):
            left += node.parts
        elif isinstance(node, RecordCondition) or node.data:
            return None
        else:
            _note(node, found)
    return found


def _note(condition: Condition, found: Tests) -> None:
    for path in condition.paths:
        found.setdefault(path[0], []).append(condition.test)


class Columns:
    """Of slots in their order; grows at the end."""

    def __init__(self) -> None:
        self._slots = 0
        self._numbers = dict[str, dict[Any, int]]()
        """Of each key its values and their numbers: texts as they are, numbers as floats, others as JSON in a list."""
        self._of_slot: dict[str, list[NDArray[np.int32]]] = {}
        self._sorted: dict[str, tuple[int, _Sorted]] = {}
        self.overflowed = False
        """Whether there are too many keys or values to hold; then what is held is of no use."""

    def __len__(self) -> int:
        return self._slots

    @property
    def nbytes(self) -> int:
        slots = sum(4 * self._slots for _ in self._of_slot)
        return slots + sum(110 * len(numbers) for numbers in self._numbers.values())

    def extend(self, rows: Ints, metadata: Iterable[tuple[int, str | None]]) -> None:
        """Take up the next slots, which hold these rows, each of them once, and 0 for nothing; a row that is not among
        ``metadata`` has none."""
        there, places = list[int](), dict[str, tuple[list[int], list[int]]]()
        for row, text in metadata:
            if self.overflowed:
                return
            position = len(there)
            there.append(row)
            for key, value in json.loads(text).items() if text else ():
                numbers = self._numbers.setdefault(key, {})
                at, held = places.setdefault(key, ([], []))
                at.append(position)
                held.append(numbers.setdefault(_known_as(value), len(numbers)))
            if not position % 1_000:
                many = sum(map(len, self._numbers.values())) > MOST_VALUES
                self.overflowed = many or len(self._numbers) > _MOST_KEYS
        held_rows = np.array(there, np.int64)
        order = np.argsort(held_rows)
        slot_of = np.full(len(there), -1, np.int64)
        if len(there) and len(rows):
            by_row = np.argsort(rows, kind="stable")
            at_row = np.minimum(np.searchsorted(rows, held_rows[order], sorter=by_row), len(rows) - 1)
            same = rows[by_row[at_row]] == held_rows[order]
            slot_of[order[same]] = by_row[at_row[same]]
        for key in self._numbers:
            column = np.full(len(rows), _MISSING, np.int32)
            at, held = places.get(key, ([], []))
            slots, values = slot_of[at], np.array(held, np.int32)
            column[slots[slots >= 0]] = values[slots >= 0]
            before = self._of_slot.setdefault(key, [np.full(self._slots, _MISSING, np.int32)])
            before.append(column)
        self._slots += len(rows)

    def classes(self, tests: Tests) -> tuple[NDArray[np.int32], list[str]] | None:
        """Of each slot the number of a class, and of each class a document that stands for it.

        None if there are too many classes.
        """
        number = np.zeros(self._slots, np.int32)
        documents: list[dict[str, Any]] = [{}]
        for key, asked in tests.items():
            if key not in self._numbers:
                continue
            of_value, values = self._sorted_of(key).classes(asked)
            if len(values) > MOST_CLASSES:
                return None
            of_key = np.append(of_value + 1, 0).astype(np.int32)[self._column(key)]
            before: list[dict[str, Any]] = documents
            base, documents = len(values) + 1, []
            kinds, number = _distinct(number * np.int32(base) + of_key, base * len(before))
            if len(kinds) > MOST_CLASSES:
                return None
            for kind in map(int, kinds):
                own: dict[str, Any] = {} if kind % base == 0 else {key: values[kind % base - 1]}
                documents.append(before[kind // base] | own)
        return number, [json.dumps(document, ensure_ascii=False) for document in documents]

    def _column(self, key: str) -> NDArray[np.int32]:
        parts = self._of_slot[key]
        if len(parts) > 1:
            self._of_slot[key] = parts = [np.concatenate(parts)]
        return parts[0]

    def _sorted_of(self, key: str) -> _Sorted:
        numbers = self._numbers[key]
        size, found = self._sorted.get(key, (-1, None))
        if found is None or size != len(numbers):
            found = _Sorted(list(numbers))
            self._sorted[key] = len(numbers), found
        return found


class _Sorted:
    """The different values of a key: numbers and texts in their order, and the others."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        numbers = [n for n, value in enumerate(values) if isinstance(value, float)]
        texts = [n for n, value in enumerate(values) if isinstance(value, str)]
        self._others = [n for n, value in enumerate(values) if isinstance(value, tuple)]
        every = np.array([values[n] for n in numbers], np.float64)
        order = np.argsort(every, kind="stable")
        self._floats, self._number_at = every[order], np.array(numbers, np.int64)[order]
        texts.sort(key=values.__getitem__)
        self._texts, self._text_at = [values[n] for n in texts], np.array(texts, np.int64)

    def classes(self, tests: Sequence[Test]) -> tuple[Ints, list[Any]]:
        """Of each value the number of its class, and of each class a value of it as JSON has it."""
        of_value, stand_for = np.empty(len(self._values), np.int64), list[Any]()
        numbers = _classes_between(len(self._floats), self._edges(tests))
        texts = self._text_classes(tests)
        for at, classes, values in (
            (self._number_at, numbers, self._floats.tolist()),
            (self._text_at, texts, self._texts),
            (np.array(self._others, np.int64), np.arange(len(self._others)), None),
        ):
            _, first, which = np.unique(classes, return_index=True, return_inverse=True)
            of_value[at] = which + len(stand_for)
            if values is None:
                stand_for += [json.loads(self._values[self._others[n]][0]) for n in first.tolist()[: MOST_CLASSES + 1]]
            else:
                stand_for += [values[n] for n in first.tolist()]
        return of_value, stand_for

    def _edges(self, tests: Sequence[Test]) -> set[int]:
        """Positions among the numbers at which a class may begin."""
        edges = set[int]()
        for operand in _operands(tests):
            if isinstance(operand, int | float) and not isinstance(operand, bool):
                value = max(-1e300, min(1e300, operand))
                low, high = value - abs(value) * _NEAR, value + abs(value) * _NEAR
                start, end = np.searchsorted(self._floats, low), np.searchsorted(self._floats, high, "right")
                edges.update(range(int(start), min(int(end), int(start) + MOST_CLASSES) + 1))
        return edges

    def _text_classes(self, tests: Sequence[Test]) -> Ints:
        texts, edges, within = self._texts, set[int](), set[str]()
        for test in tests:
            if isinstance(test, StartsWith):
                edges.add(bisect_left(texts, test.operand))
                edges.add(bisect_right(texts, test.operand, key=itemgetter(slice(len(test.operand)))))
            elif isinstance(test, Contains) and isinstance(test.operand, str):
                within.add(test.operand)
            elif not isinstance(test, OneOf | Compared | Contains | Exists) or any(
                not isinstance(operand, str | int | float | bool | list | dict | None) for operand in _operands([test])
            ):
                return np.arange(len(texts))  # every text may be different to such a test: one that tells times, say
        for operand in _operands(tests):
            if isinstance(operand, str):
                edges |= {bisect_left(texts, operand), bisect_right(texts, operand)}
        classes = _classes_between(len(texts), edges)
        for part in within:
            classes = 2 * classes + np.fromiter((part in text for text in texts), np.int64, len(texts))
            classes = np.unique(classes, return_inverse=True)[1]
        return classes


def _distinct(numbers: NDArray[np.int32], end: int) -> tuple[Ints, NDArray[np.int32]]:
    """The different ones of many numbers below ``end``, and which of those each is."""
    if end > 2 * len(numbers) + 1_000:
        kinds, place = np.unique(numbers, return_inverse=True)
        return kinds.astype(np.int64), place.astype(np.int32)
    # Without sorting, which takes ten times as long.
    there = np.zeros(end, np.bool_)
    there[numbers] = True
    kinds = np.flatnonzero(there)
    place = np.empty(end, np.int32)
    place[kinds] = np.arange(len(kinds))
    return kinds, place[numbers]


def _operands(tests: Sequence[Test]) -> list[Any]:
    found = list[Any]()
    for test in tests:
        if isinstance(test, OneOf):
            found += test.values
        elif isinstance(test, Compared):
            found.append(test.operand)
    return found


def _classes_between(count: int, edges: set[int]) -> Ints:
    begins = np.zeros(count + 1, np.int64)
    begins[[edge for edge in edges if edge <= count]] = 1
    return np.cumsum(begins[:count])


def _known_as(value: Any) -> Any:
    """A value as something that tells it apart: no number is a bool here, and none larger than a float can hold."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT):
        return float(value)
    return (json.dumps(value, ensure_ascii=False),)
