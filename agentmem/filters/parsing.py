"""From what a caller writes to the tree of ``language``: every check, every limit, and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Literal, NoReturn, TypeAlias, cast

from typing_extensions import override

from agentmem.filters import fields
from agentmem.filters.fields import OperandError, RecordField
from agentmem.filters.folding import MAX_FOLDED
from agentmem.filters.language import (
    AllOf,
    AnyOf,
    Compared,
    Condition,
    Contains,
    ContainsFolded,
    Exists,
    Node,
    OneOf,
    Operand,
    RecordCondition,
    StartsWith,
    Test,
)
from agentmem.filters.paths import InData, Path, in_data, paths_of
from agentmem.types.errors import FilterError, shown
from agentmem.types.values import MAX_DEPTH, MAX_INT, Copier, Time, as_number, bare_text, text_fault

MAX_CONDITIONS = 500
MAX_ITEMS = 1_000
# Values of all list and dict operands of one filter together, nested ones included.
_MAX_VALUES = 10_000

_LOGIC = ("$and", "$or", "$not")
_ORDER: dict[str, Literal[">", ">=", "<", "<="]] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_NEGATED = {"$ne": "$eq", "$nin": "$in"}
_FIELD = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$contains", "$icontains", "$prefix", "$exists", "$not")
_OPERATORS = tuple(dict.fromkeys((*_FIELD, *_LOGIC)))

Target: TypeAlias = tuple[Path, ...] | InData | RecordField
"""What a key names: paths into the metadata or into the data, or a field of the record."""


def parse_filter(filters: Mapping[str, object] | None) -> Node | None:
    """What ``filters`` asks, or ``None`` where it asks nothing.

    Raises ``FilterError`` where the filter is malformed, names an unknown operator, holds a value that metadata cannot
    hold (or data, of what is compared with that), or is larger than the limits: 32 levels, 32 keys in a path, 500
    conditions, 1,000 items in a ``$in``, 10,000 values in all list and dict operands.
    """
    return None if filters is None else _Parser().filter(filters, "filters", negated=False, depth=1)


def parse_field(key: str) -> Target:
    """What a key means that is written as in a filter: paths into the metadata, or a field of the record.

    Raises ``FilterError`` where it is an operator, or can be no key.
    """
    where = f"field={shown(key)}"
    target = _Parser().target(key, where)
    if target is None:
        meant = fields.similar(key)
        hint = f" (did you mean {meant}?)" if meant else ""
        raise FilterError(f"{where} is no field of a record{hint}; {_fields_and_keys(key)}")
    return target


def _combined(kind: type[AllOf | AnyOf], nodes: Sequence[Node]) -> Node:
    parts: list[Node] = []
    for node in nodes:
        parts.extend(node.parts if isinstance(node, kind) else (node,))
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


class _Operands(Copier):
    """Makes operands as metadata would hold them, or data, and counts what is in the containers."""

    def __init__(self) -> None:
        self._values = 0
        self.of_data = False
        """Whether they are compared with data, which holds more: numbers of any size, any text."""

    def refuse(self, where: str, reason: str) -> NoReturn:
        raise FilterError(f"{_shorten(where)} {reason}")

    def take(self, items: int, characters: int) -> None:
        self._values += items
        if self._values > _MAX_VALUES:
            raise FilterError(f"filters compares with more than {_MAX_VALUES:,} nested values; search in parts")

    def inside(self, where: str, key: str) -> str:
        return f"{where}[{shown(key)}]"

    def key(self, key: str, where: str) -> str:
        """A key as a plain str, if metadata can hold it."""
        fault = text_fault(key)
        if fault is not None:
            self.refuse(where, fault)
        return bare_text(key)

    @override
    def plain(self, value: object, where: str) -> object:
        if self.of_data:
            if isinstance(value, str):
                return bare_text(value)
            number = as_number(value)
            if isinstance(number, float) and math.isinf(number):
                return float(number)
            if isinstance(number, int) and not isinstance(number, bool) and not -MAX_INT - 1 <= number <= MAX_INT:
                return _as_float(number)
        return super().plain(value, where)

    def operand(self, value: object, where: str) -> Operand:
        """A value to compare with; a time stays one."""
        found = self.plain(value, where)
        return found if isinstance(found, date) else self.copy(found, where)

    def items(self, value: object, where: str) -> list[object] | None:
        """The items of an operand that is a list, a tuple, a set or an array; None where it is anything else."""
        if not isinstance(value, (list, tuple)):
            value = None if isinstance(value, (str, Mapping)) else self.plain(value, where)
            if value is None or isinstance(value, (str, bool, int, float, date, Mapping)):
                return None
        items = cast("Sequence[object]", value)
        if len(items) > MAX_ITEMS:
            raise FilterError(f"{where} has {len(items):,} items, more than {MAX_ITEMS:,}; search in parts")
        return list(items)


class _Parser:
    """Walks a filter once and counts what the limits are about. ``where`` says, for messages, which part it is at."""

    def __init__(self) -> None:
        self._conditions = 0
        self._operands = _Operands()

    def filter(self, filters: object, where: str, *, negated: bool, depth: int) -> Node | None:
        """All conditions of one mapping; ``None`` for an empty one."""
        self._check_depth(depth, where)
        if not isinstance(filters, Mapping):
            raise FilterError(f'{where} must be a mapping such as {{"key": "value"}}, not {_name(filters)}')
        nodes: list[Node] = []
        for key, operand in cast("Mapping[object, object]", filters).items():
            here = f"{where}[{shown(key)}]"
            if not isinstance(key, str):
                raise FilterError(f"{here}: keys must be text, not {_name(key)}")
            target = self.target(key, here)
            if target is None:
                nodes.append(self._logic(key, operand, here, negated=negated, depth=depth))
            else:
                nodes.append(self._field(target, operand, here, negated=negated, depth=depth))
        return _combined(AnyOf if negated else AllOf, nodes) if nodes else None

    def target(self, key: str, where: str) -> Target | None:
        """What the key names; ``None`` for an operator."""
        target = in_data(self._operands.key(key, where))
        if target is None and key.startswith("$"):
            return fields.named(key)
        paths = paths_of(key) if target is None else target.paths
        if len(paths[0]) > MAX_DEPTH:
            raise FilterError(f"{_shorten(where)} has {len(paths[0])} parts, more than {MAX_DEPTH}")
        for part in paths[0] if target else paths[0][1:]:
            if part in _OPERATORS:
                raise FilterError(
                    f'{where}: {part} is an operator and goes under the key: {{"key": {{"{part}": ...}}}}'
                )
        return target or paths

    def _logic(self, operator: str, operand: object, where: str, *, negated: bool, depth: int) -> Node:
        if operator in _FIELD and operator not in _LOGIC:
            raise FilterError(f'{where}: {operator} belongs under a key: {{"key": {{"{operator}": ...}}}}')
        if operator not in _LOGIC:
            raise _unknown(operator, where, as_key=True)
        if operator == "$not":
            return self._operand_filter(operand, where, negated=not negated, depth=depth)
        items = _sequence(operand)
        if not items:
            raise FilterError(f"{where} takes a non-empty list of filters, not {shown(operand)}")
        nodes = [
            self._operand_filter(item, f"{where}[{at}]", negated=negated, depth=depth) for at, item in enumerate(items)
        ]
        return _combined(AllOf if (operator == "$and") != negated else AnyOf, nodes)

    def _operand_filter(self, filters: object, where: str, *, negated: bool, depth: int) -> Node:
        node = self.filter(filters, where, negated=negated, depth=depth + 1)
        if node is None:
            raise FilterError(f"{where} is an empty filter, which would match everything; leave it out")
        return node

    def _field(self, target: Target, operand: object, where: str, *, negated: bool, depth: int) -> Node:
        if not isinstance(operand, Mapping):
            return self._condition(target, "$eq", operand, where, negated=negated)
        mapping = cast("Mapping[object, object]", operand)
        operators = [name for name in mapping if isinstance(name, str) and name.startswith("$")]
        paths = target.paths if isinstance(target, InData) else target
        name = paths if isinstance(paths, str) else _shorten(".".join(paths[0]))
        if not operators:
            _refuse_operators_inside(mapping, where, name, depth)
            return self._condition(target, "$eq", mapping, where, negated=negated)
        if len(operators) != len(mapping):
            raise FilterError(
                f'{where} mixes operators and plain keys; write {{"$eq": {{...}}}} to compare with a whole object, '
                f'or a dotted path such as "{name}.name" for a key inside'
            )
        return self._operators(target, cast("Mapping[str, object]", mapping), where, negated=negated, depth=depth)

    def _operators(
        self, target: Target, operators: Mapping[str, object], where: str, *, negated: bool, depth: int
    ) -> Node:
        self._check_depth(depth, where)
        nodes: list[Node] = []
        for name, operand in operators.items():
            here = f"{where}[{shown(name)}]"
            if name != "$not":
                nodes.append(self._condition(target, name, operand, here, negated=negated))
                continue
            inner = _operators_of(operand, here)
            nodes.append(self._operators(target, inner, here, negated=not negated, depth=depth + 1))
        return _combined(AnyOf if negated else AllOf, nodes)

    def _condition(self, target: Target, operator: str, operand: object, where: str, *, negated: bool) -> Node:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise FilterError(f"filters has more than {MAX_CONDITIONS} conditions; use $in, or search in parts")
        if operator in _NEGATED:
            operator, negated = _NEGATED[operator], not negated
        self._operands.of_data = isinstance(target, InData) and operator not in ("$prefix", "$icontains")
        test: Test
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise FilterError(f"{where}: $exists takes True or False, not {shown(operand)}")
            test, negated = Exists(), negated != (not operand)
        elif operator in _ORDER and self._operands.of_data and _is_nan(operand):
            test = OneOf(())
        elif operator in _ORDER:
            test = Compared(_ORDER[operator], self._ordered(target, operator, operand, where))
        elif operator == "$contains":
            test = Contains(self._contained(target, operand, where))
        elif operator == "$icontains":
            test = ContainsFolded(self._part(target, operator, operand, where))
        elif operator == "$prefix":
            test = StartsWith(self._part(target, operator, operand, where))
        elif operator == "$eq":
            test = OneOf(self._equal(target, operand, where))
        elif operator == "$in":
            items = self._operands.items(operand, where)
            if items is None:
                raise FilterError(f"{where} takes a list of values, not {shown(operand)}")
            found = [self._equal(target, item, f"{where}[{at}]") for at, item in enumerate(items)]
            test = OneOf(tuple(value for values in found for value in values))
        elif operator in _LOGIC:
            raise FilterError(f'{where}: {operator} stands beside keys, not under one: {{"{operator}": [...]}}')
        else:
            raise _unknown(operator, where, as_key=False)
        if isinstance(target, str):
            return RecordCondition(target, test, negated)
        if isinstance(target, InData):
            return Condition(target.paths, test, negated, data=True)
        return Condition(target, test, negated)

    def _equal(self, target: Target, value: object, where: str) -> tuple[Operand, ...]:
        if self._operands.of_data and _is_nan(value):
            return ()
        operand = self._operands.operand(value, where)
        return self._stored(target, operand, where, whole=True) if isinstance(target, str) else (operand,)

    def _ordered(self, target: Target, operator: str, value: object, where: str) -> str | int | float | Time:
        operand = self._operands.operand(value, where)
        if isinstance(target, str):
            [operand] = self._stored(target, operand, where, whole=False)
        if operand is None or isinstance(operand, (bool, list, dict)):
            raise FilterError(f"{where}: {operator} takes a number, text or a time, not {shown(value)}")
        return operand

    def _contained(self, target: Target, value: object, where: str) -> Operand:
        operand = self._operands.operand(value, where)
        if isinstance(target, str) and not (isinstance(operand, str) and fields.FIELDS[target] in fields.TEXTS):
            raise FilterError(f"{where}: $contains looks for text in text, and ${target} is compared with $eq or $gt")
        return operand

    def _part(self, target: Target, operator: str, value: object, where: str) -> str:
        """The operand of what looks for text, and for nothing else."""
        operand = self._operands.operand(value, where)
        if not isinstance(operand, str):
            raise FilterError(f"{where}: {operator} takes text, not {shown(value)}")
        if isinstance(target, str) and fields.FIELDS[target] not in fields.TEXTS:
            raise FilterError(f"{where}: {operator} looks for text in text, and ${target} is compared with $eq or $gt")
        if operator == "$icontains" and len(operand) > MAX_FOLDED:
            raise FilterError(
                f"{where} has {len(operand):,} characters, more than {MAX_FOLDED:,}; $contains takes longer ones"
            )
        return operand

    def _stored(self, field: RecordField, operand: Operand, where: str, *, whole: bool) -> tuple[Operand, ...]:
        try:
            return fields.stored(field, operand, whole=whole)
        except OperandError as exc:
            raise FilterError(f"{where}: ${field} {exc}") from exc

    def _check_depth(self, depth: int, where: str) -> None:
        if depth > MAX_DEPTH:
            raise FilterError(f"{_shorten(where)} is nested more than {MAX_DEPTH} deep; write it flatter")


def _is_nan(value: object) -> bool:
    number = as_number(value)
    return isinstance(number, float) and math.isnan(number)


def _as_float(number: int) -> float:
    """The nearest float, as SQLite reads an integer beyond 63 bits."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


# ------------------------------------------------------------------------------------------------------- messages


def _name(value: object) -> str:
    return type(value).__name__


def _mapping(value: object) -> Mapping[object, object] | None:
    return cast("Mapping[object, object]", value) if isinstance(value, Mapping) else None


def _sequence(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else ()


def _shorten(where: str) -> str:
    return where if len(where) <= 80 else where[:77] + "..."


def _unknown(operator: str, where: str, *, as_key: bool) -> FilterError:
    meant = fields.similar(operator) if as_key else None
    close = get_close_matches(operator, _OPERATORS, n=1) if meant is None else [meant]
    hint = f" (did you mean {close[0]}?)" if close else ""
    known = f"the operators are {', '.join(_OPERATORS)}"
    if as_key:
        known += f"; {_fields_and_keys(operator)}"
    return FilterError(f"{where}: unknown operator {shown(operator)}{hint}; {known}")


def _fields_and_keys(key: str) -> str:
    own, escaped = ", ".join(f"${field}" for field in fields.FIELDS), "\\" + key
    return (
        f"of the record itself there are {own}, and $data.KEY for a key of its data; a key of the metadata is written "
        f"{shown(escaped)}"
    )


def _operators_of(operand: object, where: str) -> Mapping[str, object]:
    """The operand of a ``$not`` under a key: a mapping of operators."""
    mapping = _mapping(operand)
    if not mapping or not all(isinstance(name, str) and name.startswith("$") for name in mapping):
        raise FilterError(
            f'{where} takes operators, such as {{"$not": {{"$gt": 3}}}}, not {shown(operand)}; for a value use $ne'
        )
    return cast("Mapping[str, object]", mapping)


def _refuse_operators_inside(value: object, where: str, key: str, depth: int) -> None:
    """``{"a": {"b": {"$gt": 1}}}`` would compare with that very object; nobody means it."""
    if depth > MAX_DEPTH or not isinstance(value, Mapping):
        return
    for name, item in cast("Mapping[object, object]", value).items():
        if isinstance(name, str) and name.startswith("$"):
            raise FilterError(
                f"{where} has {shown(name)} inside an object that is compared as a whole; for a key inside use a "
                f'dotted path such as "{key}.name", for the object itself {{"$eq": {{...}}}}'
            )
        _refuse_operators_inside(item, where, key, depth + 1)
