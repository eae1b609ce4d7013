"""Metadata filters as one SQL expression for SQLite's JSON functions.

What a filter means is said in ``language``. A leaf asks for the JSON type of the value before it compares, and is 0 or
1, never NULL. Nothing of the filter enters the SQL text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from agentmem.filters.language import (
    AllOf,
    Compared,
    Condition,
    Contains,
    Exists,
    Json,
    Node,
    OneOf,
    Scalar,
    Test,
    parse_filter,
)
from agentmem.types.errors import FilterError

# SQLite allows 32,766 variables in a statement; the rest is for the statement around the filter.
_MAX_PARAMS = 30_000
_SHALLOW = 6


class CompiledFilter(NamedTuple):
    """``sql`` is an expression for WHERE, always 0 or 1; ``params`` belong to its ``?`` in order."""

    sql: str
    params: tuple[Scalar, ...]


def compile_filter(filters: Mapping[str, object] | None, *, column: str = "metadata") -> CompiledFilter | None:
    """The condition on a record's metadata that ``filters`` describes, or ``None`` where there is nothing to check.

    ``column`` is an SQL expression without parameters, for the text of a JSON object, or NULL for no metadata. A name
    that ``json_each`` also has (``key``, ``value``, ``type``, ``id``, ...) has to be qualified: ``r.value``.

    Raises ``FilterError`` as ``parse_filter`` does, and where the statement would have too many parameters.
    """
    tree = parse_filter(filters)
    if tree is None:
        return None
    sql = _render(_compiled(tree, column))
    if len(sql.params) > _MAX_PARAMS:
        raise FilterError("filters has too many conditions on long dotted paths; use fewer conditions or shorter paths")
    return CompiledFilter(sql.text, sql.params)


class _Sql(NamedTuple):
    text: str
    params: tuple[Scalar, ...] = ()


def _join(*parts: str | _Sql) -> _Sql:
    """The parts one after the other, with their parameters in the order of the text."""
    sqls = [_Sql(part) if isinstance(part, str) else part for part in parts]
    return _Sql("".join(sql.text for sql in sqls), tuple(param for sql in sqls for param in sql.params))


def _bind(value: Scalar) -> _Sql:
    return _Sql("?", (value,))


class _Compiled(NamedTuple):
    """A condition: a leaf with its SQL, or the AND or OR of ``parts``; ``depth`` is how far those nest."""

    sql: _Sql = _Sql("")
    operator: str = ""
    parts: tuple[_Compiled, ...] = ()
    depth: int = 0


def _compiled(node: Node, column: str) -> _Compiled:
    if isinstance(node, Condition):
        sql = _reach(column, node.path, _clauses_of(node.test))
        return _Compiled(_join("(NOT ", sql, ")") if node.negated else sql)
    # SQLite's parser has a stack of 100 entries. The deepest operand first costs one entry per level ("(((a OR b) AND
    # c) ..."), the other way round costs three.
    parts = sorted((_compiled(part, column) for part in node.parts), key=lambda part: -part.depth)
    return _Compiled(operator="AND" if isinstance(node, AllOf) else "OR", parts=tuple(parts), depth=parts[0].depth + 1)


def _render(node: _Compiled) -> _Sql:
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


def _logic(node: _Compiled, leaf: Callable[[_Sql], _Sql]) -> _Sql:
    if not node.parts:
        return leaf(node.sql)
    pieces: list[str | _Sql] = []
    for part in node.parts:
        pieces += [f" {node.operator} " if pieces else "(", _logic(part, leaf)]
    return _join(*pieces, ")")


# ------------------------------------------------------------------------------------------------ values to SQL

_Clause: TypeAlias = Callable[[_Sql], _Sql]


class _Clauses(NamedTuple):
    """A test: what to ask of a value, by its JSON type (``missing`` included); of an array's elements, by theirs."""

    value: Mapping[str, _Clause]
    element: Mapping[str, _Clause]
    otherwise: str = "0"


def _clauses_of(test: Test) -> _Clauses:
    match test:
        case OneOf(values):
            return _one_of(values)
        case Compared(operator, operand):
            return _ordered(operator, operand)
        case Contains(operand):
            return _contains(operand)
        case Exists():
            return _Clauses({}, {}, otherwise="1")


def _true(_: _Sql) -> _Sql:
    return _Sql("1")


def _ordered(operator: str, operand: str | float) -> _Clauses:
    if isinstance(operand, str):
        clauses: dict[str, _Clause] = {"text": _compare(operator, _bind(operand))}
    else:
        clauses = _numeric(_compare(operator, _number(operand)))
    return _Clauses(clauses, clauses)


def _contains(operand: Json) -> _Clauses:
    value: dict[str, _Clause] = {}
    if isinstance(operand, str):
        value["text"] = lambda text: _join("instr(", text, ", ", _bind(operand), ") > 0")
    return _Clauses(value, _one_of([operand]).element)


def _one_of(values: Sequence[Json]) -> _Clauses:
    """Equal to any of ``values``."""
    clauses: dict[str, _Clause] = {}
    kinds: dict[str, list[Json]] = {}
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
    return _Clauses(clauses, element)


def _kind(value: Json) -> str:
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


def _member(group: list[Json], single: _Sql) -> _Clause:
    if len(group) == 1:
        return _compare("=", single)
    listed = _join("(SELECT value FROM json_each(", _bind(_dumps(group)), "))")
    return _compare("IN", listed)


def _deep(containers: list[Json]) -> _Clause:
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


def _nodes(value: Json, path: str = "$") -> list[list[Scalar]]:
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


def _reach(column: str, path: tuple[str, ...], clauses: _Clauses) -> _Sql:
    """Whether a value at ``path`` passes; any of those there, where arrays of objects are on the way."""
    steps = [_step(part) for part in path]
    direct = _leaf(column, "$" + "".join(steps), clauses)
    if len(path) == 1:
        return direct
    prefixes: list[str | _Sql] = []
    for end in range(1, len(steps)):
        prefixes += [", " if prefixes else "", _json("type", column, "$" + "".join(steps[:end]))]
    spread = _spread(column, steps, clauses)
    return _join("CASE WHEN 'array' IN (", *prefixes, ") THEN ", spread, " ELSE ", direct, " END")


def _json(function: str, document: str, path: str) -> _Sql:
    return _join(f"json_{function}({document}, ", _bind(path), ")")


def _leaf(document: str, path: str, clauses: _Clauses) -> _Sql:
    whens: list[str | _Sql] = []
    arrays: list[str | _Sql] = []
    if clauses.element:
        elements = _whens(clauses.element, _Sql("_e.value"))
        arrays = ["EXISTS (SELECT 1 FROM ", _json("each", document, path), " AS _e WHERE CASE _e.type", *elements]
        arrays += [" ELSE 0 END)"]
    if "array" in clauses.value:
        arrays += [" OR " if arrays else "", clauses.value["array"](_json("extract", document, path))]
    if arrays:
        whens = [" WHEN 'array' THEN ", *arrays]
    whens += _whens(
        {kind: clauses.value[kind] for kind in clauses.value if kind != "array"}, _json("extract", document, path)
    )
    kind = _json("type", document, path)
    if not whens:
        return _join("(", kind, " IS NOT NULL)") if clauses.otherwise == "1" else _Sql("0")
    return _join("CASE coalesce(", kind, ", 'missing')", *whens, f" ELSE {clauses.otherwise} END")


def _whens(clauses: Mapping[str, _Clause], value: _Sql) -> list[str | _Sql]:
    return [piece for kind, clause in clauses.items() for piece in (f" WHEN '{kind}' THEN ", clause(value))]


def _spread(column: str, steps: Sequence[str], clauses: _Clauses) -> _Sql:
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
    leaf = _leaf(document, "$" + steps[-1], clauses)
    return _join("EXISTS (SELECT 1 FROM ", *sources, " WHERE ", " AND ".join(objects), " AND ", leaf, ")")
