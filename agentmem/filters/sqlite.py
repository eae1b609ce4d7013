"""Mongo-style metadata filters, compiled to one SQL expression for SQLite's JSON functions.

A filter is a mapping such as ``{"year": {"$gte": 2020}, "$or": [{"tag": "a"}, {"author.name": "Ada"}]}``. What each
operator means, and the rules for missing keys, arrays and types, are in ``docs/filters.md``.

How it is compiled: logic is brought into negation normal form (a leaf is 0 or 1, never NULL, so De Morgan holds), and
each leaf asks for the JSON type of the value before it compares. Nothing of the filter enters the SQL text.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple, TypeAlias, cast

from agentmem.types.errors import FilterError

MAX_DEPTH = 32
MAX_CONDITIONS = 500
MAX_ITEMS = 1_000
# Values of all list and dict operands of one filter together, nested ones included.
_MAX_VALUES = 10_000
# SQLite allows 32,766 variables in a statement; the rest is for the statement around the filter.
_MAX_PARAMS = 30_000
_SHALLOW = 6
_MAX_INT = 2**63 - 1

_LOGIC = ("$and", "$or", "$not")
_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_NEGATED = {"$ne": "$eq", "$nin": "$in"}
_FIELD = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$contains", "$exists", "$not")
_OPERATORS = tuple(dict.fromkeys((*_FIELD, *_LOGIC)))

_Scalar: TypeAlias = str | int | float | None
_Json: TypeAlias = "_Scalar | list[_Json] | dict[str, _Json]"


class CompiledFilter(NamedTuple):
    """``sql`` is an expression for WHERE, always 0 or 1; ``params`` belong to its ``?`` in order."""

    sql: str
    params: tuple[_Scalar, ...]


def compile_filter(filters: Mapping[str, object] | None, *, column: str = "metadata") -> CompiledFilter | None:
    """The condition on a record's metadata that ``filters`` describes, or ``None`` where there is nothing to check.

    ``column`` is an SQL expression without parameters, for the text of a JSON object, or NULL for no metadata. A name
    that ``json_each`` also has (``key``, ``value``, ``type``, ``id``, ...) has to be qualified: ``r.value``.

    Raises ``FilterError`` where the filter is malformed, names an unknown operator, holds a value that metadata cannot
    hold, or is larger than the limits: 32 levels, 500 conditions, 1,000 items in a ``$in``.
    """
    if filters is None:
        return None
    node = _Compiler(column).filter(filters, "filters", negated=False, depth=1)
    if node is None:
        return None
    sql = _render(node)
    if len(sql.params) > _MAX_PARAMS:
        raise FilterError("filters has too many conditions on long dotted paths; use fewer conditions or shorter paths")
    return CompiledFilter(sql.text, sql.params)


class _Sql(NamedTuple):
    text: str
    params: tuple[_Scalar, ...] = ()


def _join(*parts: str | _Sql) -> _Sql:
    """The parts one after the other, with their parameters in the order of the text."""
    sqls = [_Sql(part) if isinstance(part, str) else part for part in parts]
    return _Sql("".join(sql.text for sql in sqls), tuple(param for sql in sqls for param in sql.params))


def _bind(value: _Scalar) -> _Sql:
    return _Sql("?", (value,))


class _Node(NamedTuple):
    """A condition: a leaf with its SQL, or the AND or OR of ``parts``; ``depth`` is how far those nest."""

    sql: _Sql = _Sql("")
    operator: str = ""
    parts: tuple[_Node, ...] = ()
    depth: int = 0


def _combine(operator: str, nodes: Iterable[_Node]) -> _Node:
    parts: list[_Node] = []
    for node in nodes:
        parts.extend(node.parts if node.operator == operator else (node,))
    if len(parts) == 1:
        return parts[0]
    # SQLite's parser has a stack of 100 entries. The deepest operand first costs one entry per level ("(((a OR b) AND
    # c) ..."), the other way round costs three.
    parts.sort(key=lambda node: -node.depth)
    return _Node(operator=operator, parts=tuple(parts), depth=parts[0].depth + 1)


def _render(node: _Node) -> _Sql:
    if node.depth <= _SHALLOW:
        return _logic(node, lambda leaf: leaf)
    # Deep logic and the depth of a leaf do not fit that stack together, so the leaves are named beside the logic. This
    # evaluates all of them for each row.
    leaves: list[str | _Sql] = []

    def named(leaf: _Sql) -> _Sql:
        name = f"_c{len(leaves) // 3}"
        leaves.extend((", " if leaves else "", leaf, f" AS {name}"))
        return _Sql(name)

    logic = _logic(node, named)
    return _join("(SELECT ", logic, " FROM (SELECT ", *leaves, "))")


def _logic(node: _Node, leaf: Callable[[_Sql], _Sql]) -> _Sql:
    if not node.parts:
        return leaf(node.sql)
    pieces: list[str | _Sql] = []
    for part in node.parts:
        pieces += [f" {node.operator} " if pieces else "(", _logic(part, leaf)]
    return _join(*pieces, ")")


class _Compiler:
    """Walks a filter once and counts what the limits are about. ``where`` says, for messages, which part it is at."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._conditions = 0
        self._values = 0

    def filter(self, filters: object, where: str, *, negated: bool, depth: int) -> _Node | None:
        """All conditions of one mapping; ``None`` for an empty one."""
        self._check_depth(depth, where)
        if not isinstance(filters, Mapping):
            raise FilterError(f'{where} must be a mapping such as {{"key": "value"}}, not {_name(filters)}')
        nodes: list[_Node] = []
        for key, operand in cast("Mapping[object, object]", filters).items():
            here = f"{where}[{_show(key)}]"
            if not isinstance(key, str):
                raise FilterError(f"{here}: keys must be text, not {_name(key)}")
            if key.startswith("$"):
                nodes.append(self._logic(key, operand, here, negated=negated, depth=depth))
            else:
                nodes.append(self._field(key, operand, here, negated=negated, depth=depth))
        return _combine("OR" if negated else "AND", nodes) if nodes else None

    def _logic(self, operator: str, operand: object, where: str, *, negated: bool, depth: int) -> _Node:
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
        return _combine("AND" if (operator == "$and") != negated else "OR", nodes)

    def _operand_filter(self, filters: object, where: str, *, negated: bool, depth: int) -> _Node:
        node = self.filter(filters, where, negated=negated, depth=depth + 1)
        if node is None:
            raise FilterError(f"{where} is an empty filter, which would match everything; leave it out")
        return node

    def _field(self, key: str, operand: object, where: str, *, negated: bool, depth: int) -> _Node:
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
    ) -> _Node:
        self._check_depth(depth, where)
        nodes: list[_Node] = []
        for name, operand in operators.items():
            here = f"{where}[{_show(name)}]"
            if name != "$not":
                nodes.append(self._condition(path, name, operand, here, negated=negated))
                continue
            inner = _operators_of(operand, here)
            nodes.append(self._operators(path, inner, here, negated=not negated, depth=depth + 1))
        return _combine("OR" if negated else "AND", nodes)

    def _condition(self, path: tuple[str, ...], operator: str, operand: object, where: str, *, negated: bool) -> _Node:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise FilterError(f"filters has more than {MAX_CONDITIONS} conditions; use $in, or search in parts")
        if operator in _NEGATED:
            operator, negated = _NEGATED[operator], not negated
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise FilterError(f"{where}: $exists takes True or False, not {_show(operand)}")
            negated = negated != (not operand)
            test = _Test({}, {}, otherwise="1")
        else:
            test = self._test(operator, operand, where)
        sql = _reach(self._column, path, test)
        return _Node(_join("(NOT ", sql, ")") if negated else sql)

    def _test(self, operator: str, operand: object, where: str) -> _Test:
        if operator in _ORDER:
            return _ordered(_ORDER[operator], self._value(operand, where, 0), operator, where)
        if operator == "$contains":
            return _contains(self._value(operand, where, 0))
        if operator == "$eq":
            return _one_of([self._value(operand, where, 0)])
        if operator == "$in":
            items = _items(operand)
            if items is None:
                raise FilterError(f"{where} takes a list of values, not {_show(operand)}")
            if len(items) > MAX_ITEMS:
                raise FilterError(f"{where} has {len(items):,} items, more than {MAX_ITEMS:,}; search in parts")
            return _one_of([self._value(item, f"{where}[{at}]", 0) for at, item in enumerate(items)])
        if operator in _LOGIC:
            raise FilterError(f'{where}: {operator} stands beside keys, not under one: {{"{operator}": [...]}}')
        raise _unknown(operator, where)

    def _value(self, value: object, where: str, depth: int) -> _Json:
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

    def _container(self, value: Mapping[object, object] | Sequence[object], where: str, depth: int) -> _Json:
        self._values += len(value)
        if self._values > _MAX_VALUES:
            raise FilterError(f"filters compares with more than {_MAX_VALUES:,} nested values; search in parts")
        if not isinstance(value, Mapping):
            return [self._value(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
        result: dict[str, _Json] = {}
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
    """``value`` as a plain str, if the driver can bind it: it cuts text at NUL and fails on lone surrogates."""
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


# ------------------------------------------------------------------------------------------------ values to SQL

_Clause: TypeAlias = Callable[[_Sql], _Sql]


class _Test(NamedTuple):
    """What to ask of a value, by its JSON type (``missing`` included); of an array's elements, by theirs."""

    value: Mapping[str, _Clause]
    element: Mapping[str, _Clause]
    otherwise: str = "0"


def _true(_: _Sql) -> _Sql:
    return _Sql("1")


def _ordered(operator: str, operand: _Json, name: str, where: str) -> _Test:
    if isinstance(operand, str):
        clauses: dict[str, _Clause] = {"text": _compare(operator, _bind(operand))}
    elif isinstance(operand, (int, float)) and not isinstance(operand, bool):
        clauses = _numeric(_compare(operator, _number(operand)))
    else:
        raise FilterError(f"{where}: {name} takes a number, text or a date, not {_show(operand)}")
    return _Test(clauses, clauses)


def _contains(operand: _Json) -> _Test:
    value: dict[str, _Clause] = {}
    if isinstance(operand, str):
        value["text"] = lambda text: _join("instr(", text, ", ", _bind(operand), ") > 0")
    return _Test(value, _one_of([operand]).element)


def _one_of(values: Sequence[_Json]) -> _Test:
    """Equal to any of ``values``."""
    clauses: dict[str, _Clause] = {}
    kinds: dict[str, list[_Json]] = {}
    for value in values:
        kinds.setdefault(_kind(value), []).append(value)
    for kind, group in kinds.items():
        if kind == "text":
            clauses[kind] = _member(group, _bind(cast("str", group[0])))
        elif kind == "number":
            clauses |= _numeric(_member(group, _number(cast("float", group[0]))))
        elif kind in ("object", "array"):
            clauses[kind] = _deep(group)
        else:
            clauses[kind] = _true
    element = dict(clauses)
    if "null" in clauses:
        clauses["missing"] = _true
    return _Test(clauses, element)


def _kind(value: _Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def _numeric(clause: _Clause) -> dict[str, _Clause]:
    return {"integer": clause, "real": clause}


def _number(value: float) -> _Sql:
    # As text through SQLite's own parser: the driver binds every int beyond 31 bits as a float, and the parser's last
    # bit is off for one float in some thousands, which has to happen to both sides.
    return _join("json_extract(", _bind(_dumps(value)), ", '$')")


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _compare(operator: str, operand: _Sql) -> _Clause:
    return lambda value: _join(value, f" {operator} ", operand)


def _member(group: list[_Json], single: _Sql) -> _Clause:
    if len(group) == 1:
        return _compare("=", single)
    listed = _join("(SELECT value FROM json_each(", _bind(_dumps(group)), "))")
    return _compare("IN", listed)


def _deep(containers: list[_Json]) -> _Clause:
    """Equal to one of these lists or dicts: as many nodes, and each of its nodes there, at its path."""
    listed = _bind(_dumps([_nodes(container) for container in containers]))

    def clause(value: _Sql) -> _Sql:
        return _join(
            *("EXISTS (SELECT 1 FROM json_each(json_array(json(", value, "))) AS _v"),
            *(", json_each(", listed, ") AS _w"),
            " WHERE (SELECT count(*) FROM json_tree(_v.value)) = json_array_length(_w.value)"
            " AND NOT EXISTS (SELECT 1 FROM json_each(_w.value) AS _n"
            " WHERE coalesce(json_type(_v.value, _n.value ->> 0) NOT IN (_n.value ->> 1, _n.value ->> 2), 1)"
            " OR json_extract(_v.value, _n.value ->> 0) <> _n.value ->> 3))",
        )

    return clause


def _nodes(value: _Json, path: str = "$") -> list[list[_Scalar]]:
    """Each value in ``value``, itself included: its path, its JSON type (two for numbers), and itself if the type does
    not say it already."""
    kind = _kind(value)
    if isinstance(value, dict):
        below = [_nodes(item, path + _step(key)) for key, item in value.items()]
    elif isinstance(value, list):
        below = [_nodes(item, f"{path}[{at}]") for at, item in enumerate(value)]
    elif kind == "number":
        return [[path, "integer", "real", value]]
    else:
        return [[path, kind, kind, value if kind == "text" else None]]
    return [[path, kind, kind, None], *(node for nodes in below for node in nodes)]


# ------------------------------------------------------------------------------------------------ paths to SQL


def _step(key: str) -> str:
    """One key as part of a JSON path. SQLite ends a quoted key at the next quote, but it does read JSON escapes."""
    return '."' + key.replace("\\", "\\\\").replace('"', "\\u0022") + '"'


def _reach(column: str, path: tuple[str, ...], test: _Test) -> _Sql:
    """``test`` on what is at ``path``; on all that is there, where arrays of objects are on the way."""
    steps = [_step(part) for part in path]
    direct = _leaf(column, "$" + "".join(steps), test)
    if len(path) == 1:
        return direct
    prefixes: list[str | _Sql] = []
    for end in range(1, len(steps)):
        prefixes += [", " if prefixes else "", _json("type", column, "$" + "".join(steps[:end]))]
    spread = _spread(column, steps, test)
    return _join("CASE WHEN 'array' IN (", *prefixes, ") THEN ", spread, " ELSE ", direct, " END")


def _json(function: str, document: str, path: str) -> _Sql:
    return _join(f"json_{function}({document}, ", _bind(path), ")")


def _leaf(document: str, path: str, test: _Test) -> _Sql:
    whens: list[str | _Sql] = []
    arrays: list[str | _Sql] = []
    if test.element:
        elements = _whens(test.element, _Sql("_e.value"))
        arrays = ["EXISTS (SELECT 1 FROM ", _json("each", document, path), " AS _e WHERE CASE _e.type", *elements]
        arrays += [" ELSE 0 END)"]
    if "array" in test.value:
        arrays += [" OR " if arrays else "", test.value["array"](_json("extract", document, path))]
    if arrays:
        whens = [" WHEN 'array' THEN ", *arrays]
    whens += _whens(
        {kind: test.value[kind] for kind in test.value if kind != "array"}, _json("extract", document, path)
    )
    kind = _json("type", document, path)
    if not whens:
        return _join("(", kind, " IS NOT NULL)") if test.otherwise == "1" else _Sql("0")
    return _join("CASE coalesce(", kind, ", 'missing')", *whens, f" ELSE {test.otherwise} END")


def _whens(clauses: Mapping[str, _Clause], value: _Sql) -> list[str | _Sql]:
    return [piece for kind, clause in clauses.items() for piece in (f" WHEN '{kind}' THEN ", clause(value))]


def _spread(column: str, steps: Sequence[str], test: _Test) -> _Sql:
    """Some value is at the path and passes. Each step yields a list of objects to look into: those in an array, an
    object itself, or an empty object for anything else, in which whatever follows is missing."""
    document, objects, sources = column, list[str](), list[str | _Sql]()
    for at, step in enumerate(steps[:-1]):
        kind, value = _json("type", document, "$" + step), _json("extract", document, "$" + step)
        found = _join("CASE ", kind, " WHEN 'array' THEN ", value)
        found = _join(found, " WHEN 'object' THEN json_array(", value, ") ELSE '[{}]' END")
        sources += [", " if at else "", "json_each(", found, f") AS _p{at}"]
        objects.append(f"_p{at}.type = 'object'")
        # SQLite may evaluate the conditions of a WHERE in any order, and fails on text that is not JSON.
        document = f"iif(_p{at}.type = 'object', _p{at}.value, NULL)"
    leaf = _leaf(document, "$" + steps[-1], test)
    return _join("EXISTS (SELECT 1 FROM ", *sources, " WHERE ", " AND ".join(objects), " AND ", leaf, ")")
