"""The language of metadata filters: from a Mongo-style mapping to a checked tree of conditions.

A filter is a mapping such as ``{"year": {"$gte": 2020}, "$or": [{"tag": "a"}, {"author.name": "Ada"}]}``. What each
operator means to those who write one, and the rules for missing keys, arrays and types, are in ``docs/filters.md``.

``parse_filter`` does all checks, keeps all limits, and leaves to a target what the tree says::

    AllOf(parts)   AnyOf(parts)             logic, in negation normal form: no "not" but at a leaf
    Condition(path, test, negated)          a leaf
        OneOf(values)                       the tests: $eq and $in (negated $ne and $nin),
        Compared(operator, operand)         $gt, $gte, $lt, $lte,
        Contains(operand)                   $contains,
        Exists()                            $exists

A target has to treat every case of ``Node`` and of ``Test`` and nothing else: it meets no operator's name, and no
operand of a wrong type. It tells the cases apart by class: they are named tuples, which are quick to make, and as
tuples ``AllOf(parts) == AnyOf(parts)``.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Literal, NamedTuple, TypeAlias, cast

from agentmem.types.errors import FilterError

MAX_DEPTH = 32
MAX_CONDITIONS = 500
MAX_ITEMS = 1_000
# Values of all list and dict operands of one filter together, nested ones included.
_MAX_VALUES = 10_000
_MAX_INT = 2**63 - 1

_LOGIC = ("$and", "$or", "$not")
_ORDER: dict[str, Literal[">", ">=", "<", "<="]] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_NEGATED = {"$ne": "$eq", "$nin": "$in"}
_FIELD = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$contains", "$exists", "$not")
_OPERATORS = tuple(dict.fromkeys((*_FIELD, *_LOGIC)))

Scalar: TypeAlias = str | int | float | None
Json: TypeAlias = "Scalar | list[Json] | dict[str, Json]"
"""An operand, as metadata can hold it: dates are ISO 8601 text, tuples are lists, members of enums are their values,
integers have 63 bits, floats are finite, text has neither NUL nor lone surrogates. A bool is no number."""


class OneOf(NamedTuple):
    """The value equals one of ``values``, or is an array with such an element. A missing value counts as null.

    Values are equal within their type only: numbers by their value (``1`` and ``1.0``, integers exact), text by its
    code points, arrays element by element, objects by their keys and values in any order. Nothing equals one of none.
    """

    values: tuple[Json, ...]


class Compared(NamedTuple):
    """The value stands to ``operand`` as ``operator`` says, or is an array with such an element.

    Numbers are compared with numbers, text with text by code points; a value of any other type fails.
    """

    operator: Literal[">", ">=", "<", "<="]
    operand: str | int | float


class Contains(NamedTuple):
    """The value is text with ``operand`` in it, which then is text too, or an array with an element equal to it."""

    operand: Json


class Exists(NamedTuple):
    """There is a value, be it null."""


Test: TypeAlias = OneOf | Compared | Contains | Exists
"""What is asked of one value. "Array with such an element" looks at its elements only, not into arrays among them."""


class Condition(NamedTuple):
    """Some value at ``path`` passes ``test``; ``negated``: none does. There is no third outcome, such as SQL's NULL.

    ``path`` holds at least one key, outermost first; keys are exact, and a number is a key too, not a position. It
    begins at the record's metadata, an empty object where there are none. Each key leads from an object to the value
    under it; from an array to what it leads to from each object in it (other elements are passed over, arrays among
    them too); from anything else, and from an object without the key, to a missing value, which stays missing for the
    keys that follow. The value at the end of the path is not spread, even if it is an array. So where arrays are on
    the way there may be several values, or none.
    """

    path: tuple[str, ...]
    test: Test
    negated: bool


class AllOf(NamedTuple):
    """Every one of ``parts`` holds: two or more, none of them an ``AllOf``."""

    parts: tuple[Node, ...]


class AnyOf(NamedTuple):
    """At least one of ``parts`` holds: two or more, none of them an ``AnyOf``."""

    parts: tuple[Node, ...]


Node: TypeAlias = AllOf | AnyOf | Condition


def parse_filter(filters: Mapping[str, object] | None) -> Node | None:
    """What ``filters`` asks, or ``None`` where it asks nothing.

    Raises ``FilterError`` where the filter is malformed, names an unknown operator, holds a value that metadata cannot
    hold, or is larger than the limits: 32 levels, 32 keys in a path, 500 conditions, 1,000 items in a ``$in``, 10,000
    values in all list and dict operands.
    """
    return None if filters is None else _Parser().filter(filters, "filters", negated=False, depth=1)


def _combined(kind: type[AllOf | AnyOf], nodes: Sequence[Node]) -> Node:
    parts: list[Node] = []
    for node in nodes:
        parts.extend(node.parts if isinstance(node, kind) else (node,))
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


class _Parser:
    """Walks a filter once and counts what the limits are about. ``where`` says, for messages, which part it is at."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def filter(self, filters: object, where: str, *, negated: bool, depth: int) -> Node | None:
        """All conditions of one mapping; ``None`` for an empty one."""
        self._check_depth(depth, where)
        if not isinstance(filters, Mapping):
            raise FilterError(f'{where} must be a mapping such as {{"key": "value"}}, not {_name(filters)}')
        nodes: list[Node] = []
        for key, operand in cast("Mapping[object, object]", filters).items():
            here = f"{where}[{_show(key)}]"
            if not isinstance(key, str):
                raise FilterError(f"{here}: keys must be text, not {_name(key)}")
            if key.startswith("$"):
                nodes.append(self._logic(key, operand, here, negated=negated, depth=depth))
            else:
                nodes.append(self._field(key, operand, here, negated=negated, depth=depth))
        return _combined(AnyOf if negated else AllOf, nodes) if nodes else None

    def _logic(self, operator: str, operand: object, where: str, *, negated: bool, depth: int) -> Node:
        if operator in _FIELD and operator not in _LOGIC:
            raise FilterError(f'{where}: {operator} belongs under a key: {{"key": {{"{operator}": ...}}}}')
        if operator not in _LOGIC:
            raise _unknown(operator, where)
        if operator == "$not":
            return self._operand_filter(operand, where, negated=not negated, depth=depth)
        items = _items(operand)
        if not items:
            raise FilterError(f"{where} takes a non-empty list of filters, not {_show(operand)}")
        nodes = [
            self._operand_filter(item, f"{where}[{at}]", negated=negated, depth=depth) for at, item in enumerate(items)
        ]
        return _combined(AllOf if (operator == "$and") != negated else AnyOf, nodes)

    def _operand_filter(self, filters: object, where: str, *, negated: bool, depth: int) -> Node:
        node = self.filter(filters, where, negated=negated, depth=depth + 1)
        if node is None:
            raise FilterError(f"{where} is an empty filter, which would match everything; leave it out")
        return node

    def _field(self, key: str, operand: object, where: str, *, negated: bool, depth: int) -> Node:
        path = _split(key, where)
        if not isinstance(operand, Mapping):
            return self._condition(path, "$eq", operand, where, negated=negated)
        mapping = cast("Mapping[object, object]", operand)
        operators = [name for name in mapping if isinstance(name, str) and name.startswith("$")]
        if not operators:
            _refuse_operators_inside(mapping, where, key, depth)
            return self._condition(path, "$eq", mapping, where, negated=negated)
        if len(operators) != len(mapping):
            raise FilterError(
                f'{where} mixes operators and plain keys; write {{"$eq": {{...}}}} to compare with a whole object, '
                f'or a dotted path such as "{_shorten(key)}.name" for a key inside'
            )
        return self._operators(path, cast("Mapping[str, object]", mapping), where, negated=negated, depth=depth)

    def _operators(
        self, path: tuple[str, ...], operators: Mapping[str, object], where: str, *, negated: bool, depth: int
    ) -> Node:
        self._check_depth(depth, where)
        nodes: list[Node] = []
        for name, operand in operators.items():
            here = f"{where}[{_show(name)}]"
            if name != "$not":
                nodes.append(self._condition(path, name, operand, here, negated=negated))
                continue
            inner = _operators_of(operand, here)
            nodes.append(self._operators(path, inner, here, negated=not negated, depth=depth + 1))
        return _combined(AnyOf if negated else AllOf, nodes)

    def _condition(self, path: tuple[str, ...], operator: str, operand: object, where: str, *, negated: bool) -> Node:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise FilterError(f"filters has more than {MAX_CONDITIONS} conditions; use $in, or search in parts")
        if operator in _NEGATED:
            operator, negated = _NEGATED[operator], not negated
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise FilterError(f"{where}: $exists takes True or False, not {_show(operand)}")
            return Condition(path, Exists(), negated != (not operand))
        return Condition(path, self._test(operator, operand, where), negated)

    def _test(self, operator: str, operand: object, where: str) -> Test:
        if operator in _ORDER:
            return _ordered(operator, self._value(operand, where, 0), where)
        if operator == "$contains":
            return Contains(self._value(operand, where, 0))
        if operator == "$eq":
            return OneOf((self._value(operand, where, 0),))
        if operator == "$in":
            items = _items(operand)
            if items is None:
                raise FilterError(f"{where} takes a list of values, not {_show(operand)}")
            if len(items) > MAX_ITEMS:
                raise FilterError(f"{where} has {len(items):,} items, more than {MAX_ITEMS:,}; search in parts")
            return OneOf(tuple(self._value(item, f"{where}[{at}]", 0) for at, item in enumerate(items)))
        if operator in _LOGIC:
            raise FilterError(f'{where}: {operator} stands beside keys, not under one: {{"{operator}": [...]}}')
        raise _unknown(operator, where)

    def _value(self, value: object, where: str, depth: int) -> Json:
        """An operand as JSON can hold it."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _checked_text(value, where)
        if isinstance(value, (int, float)):
            return _checked_number(value, where)
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, (Mapping, list, tuple)):
            self._check_depth(depth, where)
            return self._container(cast("Mapping[object, object] | Sequence[object]", value), where, depth)
        raise FilterError(f"{where} is a {_name(value)}; use text, a number, a boolean, None, a date, a list or a dict")

    def _container(self, value: Mapping[object, object] | Sequence[object], where: str, depth: int) -> Json:
        self._values += len(value)
        if self._values > _MAX_VALUES:
            raise FilterError(f"filters compares with more than {_MAX_VALUES:,} nested values; search in parts")
        if not isinstance(value, Mapping):
            return [self._value(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
        result: dict[str, Json] = {}
        for key, item in value.items():
            here = f"{where}[{_show(key)}]"
            if not isinstance(key, str):
                raise FilterError(f"{here}: keys must be text, not {_name(key)}")
            result[_checked_text(key, here)] = self._value(item, here, depth + 1)
        return result

    def _check_depth(self, depth: int, where: str) -> None:
        if depth > MAX_DEPTH:
            raise FilterError(f"{_shorten(where)} is nested more than {MAX_DEPTH} deep; write it flatter")


# ---------------------------------------------------------------------------------------------- checks and messages


def _name(value: object) -> str:
    return type(value).__name__


def _mapping(value: object) -> Mapping[object, object] | None:
    return cast("Mapping[object, object]", value) if isinstance(value, Mapping) else None


def _items(value: object) -> Sequence[object] | None:
    return cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else None


def _show(value: object) -> str:
    return reprlib.repr(value)


def _shorten(where: str) -> str:
    return where if len(where) <= 80 else where[:77] + "..."


def _unknown(operator: str, where: str) -> FilterError:
    close = get_close_matches(operator, _OPERATORS, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return FilterError(
        f"{where}: unknown operator {_show(operator)}{hint}; the operators are {', '.join(_OPERATORS)}, "
        "and a top-level key that starts with $ cannot be filtered on"
    )


def _ordered(operator: str, operand: Json, where: str) -> Compared:
    if operand is None or isinstance(operand, (bool, list, dict)):
        raise FilterError(f"{where}: {operator} takes a number, text or a date, not {_show(operand)}")
    return Compared(_ORDER[operator], operand)


def _operators_of(operand: object, where: str) -> Mapping[str, object]:
    """The operand of a ``$not`` under a key: a mapping of operators."""
    mapping = _mapping(operand)
    if not mapping or not all(isinstance(name, str) and name.startswith("$") for name in mapping):
        raise FilterError(
            f'{where} takes operators, such as {{"$not": {{"$gt": 3}}}}, not {_show(operand)}; for a value use $ne'
        )
    return cast("Mapping[str, object]", mapping)


def _refuse_operators_inside(value: object, where: str, key: str, depth: int) -> None:
    """``{"a": {"b": {"$gt": 1}}}`` would compare with that very object; nobody means it."""
    if depth > MAX_DEPTH or not isinstance(value, Mapping):
        return
    for name, item in cast("Mapping[object, object]", value).items():
        if isinstance(name, str) and name.startswith("$"):
            raise FilterError(
                f"{where} has {_show(name)} inside an object that is compared as a whole; for a key inside use a "
                f'dotted path such as "{_shorten(key)}.name", for the object itself {{"$eq": {{...}}}}'
            )
        _refuse_operators_inside(item, where, key, depth + 1)


def _split(key: str, where: str) -> tuple[str, ...]:
    parts = tuple(_checked_text(key, where).split("."))
    if len(parts) > MAX_DEPTH:
        raise FilterError(f"{where} has {len(parts)} parts, more than {MAX_DEPTH}")
    for part in parts[1:]:
        if part in _OPERATORS:
            raise FilterError(f'{where}: {part} is an operator and goes under the key: {{"key": {{"{part}": ...}}}}')
    return parts


def _checked_text(value: str, where: str) -> str:
    """``value`` as a plain str, if metadata can hold it."""
    if "\x00" in value:
        raise FilterError(f"{where} contains a NUL character, which metadata cannot hold; remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise FilterError(f"{where} contains a lone surrogate; decode the text with errors='replace'") from exc
    return str.__str__(value)


def _checked_number(value: float, where: str) -> float:
    if isinstance(value, int):
        if not -_MAX_INT - 1 <= value <= _MAX_INT:
            raise FilterError(f"{where} is an int beyond 63 bits, which metadata cannot hold; store and compare text")
        return int(value)
    if not math.isfinite(value):
        raise FilterError(f"{where} is {value}, which metadata cannot hold; use a finite number or None")
    return float(value)
