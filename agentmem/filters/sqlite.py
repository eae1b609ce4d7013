"""Filters as one SQL expression for SQLite's JSON functions.

What a filter means is said in ``language``. A leaf asks for the JSON type of the value before it compares, and is 0 or
1, never NULL. Nothing of the filter enters the SQL text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agentmem.filters.clauses import Clause, Clauses, clauses_of, step
from agentmem.filters.language import AllOf, Condition, Exists, Node, RecordCondition
from agentmem.filters.parsing import parse_filter
from agentmem.filters.paths import Path
from agentmem.filters.recordsql import field_passes
from agentmem.filters.sql import Sql, bind, join
from agentmem.types.errors import FilterError
from agentmem.types.values import Scalar

# SQLite allows 32,766 variables in a statement; the rest is for the statement around the filter.
_MAX_PARAMS = 30_000
_SHALLOW = 6
_HELD, _SEEN = "_d.body", "_d.row = r.row AND _d.version = r.body AND _d.part = 0"
DATA = f"(SELECT {_HELD} FROM bodies AS _d WHERE {_SEEN})"
"""What filters see of a record's data, as JSON; NULL where there is none."""
_HOLDING = f" FROM (SELECT 1) LEFT JOIN bodies AS _d ON {_SEEN}"
"""The same, found once for all that a filter asks of it."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """``sql`` is an expression for WHERE, always 0 or 1; ``params`` belong to its ``?`` in order; ``tree`` says the
    same."""

    sql: str
    params: tuple[Scalar, ...]
    tree: Node | None = field(default=None, compare=False, repr=False)


def compile_filter(filters: Mapping[str, object] | None, *, column: str = "metadata") -> CompiledFilter | None:
    """The condition on a record's metadata that ``filters`` describes, or ``None`` where there is nothing to check.

    ``column`` is an SQL expression without parameters, for the text of a JSON object, or NULL for no metadata. A name
    that ``json_each`` also has (``key``, ``value``, ``type``, ``id``, ...) has to be qualified: ``r.value``. Conditions
    on a record's own fields need the table ``records AS r``, and ``names``.

    Raises ``FilterError`` as ``parse_filter`` does, and where the statement would have too many parameters.
    """
    tree = parse_filter(filters)
    return None if tree is None else compile_tree(tree, column=column)


def compile_tree(tree: Node, *, column: str = "metadata") -> CompiledFilter:
    """The same of a filter that is parsed already."""
    sql = _render(_compiled(tree, column))
    if _asks_data(tree):
        sql = join("(SELECT ", sql, _HOLDING, ")")
    if len(sql.params) > _MAX_PARAMS:
        raise FilterError("filters has too many conditions on long dotted paths; use fewer conditions or shorter paths")
    return CompiledFilter(sql.text, sql.params, tree)


def _asks_data(node: Node) -> bool:
    if isinstance(node, Condition):
        return node.data
    return not isinstance(node, RecordCondition) and any(_asks_data(part) for part in node.parts)


class _Compiled(NamedTuple):
    """A condition: a leaf with its SQL, or the AND or OR of ``parts``; ``depth`` is how far those nest."""

    sql: Sql = Sql("")
    operator: str = ""
    parts: tuple[_Compiled, ...] = ()
    depth: int = 0


def _compiled(node: Node, column: str) -> _Compiled:
    if isinstance(node, RecordCondition):
        return _leaf(field_passes(node.field, node.test), negated=node.negated)
    if isinstance(node, Condition):
        return _of_document(node, _HELD if node.data else column)
    return _joined("AND" if isinstance(node, AllOf) else "OR", [_compiled(part, column) for part in node.parts])


def _leaf(passes: Sql, *, negated: bool) -> _Compiled:
    return _Compiled(join("(NOT ", passes, ")") if negated else passes)


def _joined(operator: str, parts: Sequence[_Compiled]) -> _Compiled:
    if len(parts) == 1:
        return parts[0]
    # SQLite's parser has a stack of 100 entries. The deepest operand first costs one entry per level ("(((a OR b) AND
    # c) ..."), the other way round costs three.
    sunk = sorted(parts, key=lambda part: -part.depth)
    return _Compiled(operator=operator, parts=tuple(sunk), depth=sunk[0].depth + 1)


def _of_document(condition: Condition, column: str) -> _Compiled:
    """Some value on one of the paths passes; a missing one on the first alone, if no other leads to a value."""
    negated = condition.negated
    either, both = ("AND", "OR") if negated else ("OR", "AND")
    clauses = clauses_of(condition.test)
    steps = [_steps(condition, path) for path in condition.paths]
    first = _leaf(_reach(column, steps[0], clauses), negated=negated)
    others = steps[1:]
    if not others:
        return first
    present = clauses.of_present()
    ways = [_leaf(_reach(column, path, present), negated=negated) for path in others]
    if "missing" not in clauses.value:
        return _joined(either, [first, *ways])
    exists = clauses_of(Exists())
    absent = [_leaf(_reach(column, path, exists), negated=not negated) for path in others]
    there = _leaf(_reach(column, steps[0], present), negated=negated)
    return _joined(either, [_joined(both, [first, *absent]), there, *ways])


def _render(node: _Compiled) -> Sql:
    if node.depth <= _SHALLOW:
        return _logic(node, lambda leaf: leaf)
    # Deep logic and the depth of a leaf do not fit that stack together, so the leaves are named beside the logic. This
    # evaluates all of them for each row.
    leaves: list[str | Sql] = []

    def named(leaf: Sql) -> Sql:
        name = f"_c{len(leaves) // 3}"
        leaves.extend((", " if leaves else "", leaf, f" AS {name}"))
        return Sql(name)

    logic = _logic(node, named)
    return join("(SELECT ", logic, " FROM (SELECT ", *leaves, "))")


def _logic(node: _Compiled, leaf: Callable[[Sql], Sql]) -> Sql:
    if not node.parts:
        return leaf(node.sql)
    pieces: list[str | Sql] = []
    for part in node.parts:
        pieces += [f" {node.operator} " if pieces else "(", _logic(part, leaf)]
    return join(*pieces, ")")


# ------------------------------------------------------------------------------------------------ paths to SQL


def _steps(condition: Condition, path: Path) -> list[str]:
    """A path's keys as SQLite writes them. Data is itself a step on the way, which may be an array."""
    return [""] * condition.data + [step(part) for part in path]


def _reach(column: str, steps: Sequence[str], clauses: Clauses) -> Sql:
    """Whether a value at a path passes; any of those there, where arrays of objects are on the way."""
    direct = _at(column, "$" + "".join(steps), clauses)
    if len(steps) == 1:
        return direct
    prefixes: list[str | Sql] = []
    for end in range(1, len(steps)):
        prefixes += [", " if prefixes else "", _json("type", column, "$" + "".join(steps[:end]))]
    spread = _spread(column, steps, clauses)
    return join("CASE WHEN 'array' IN (", *prefixes, ") THEN ", spread, " ELSE ", direct, " END")


def _json(function: str, document: str, path: str) -> Sql:
    return join(f"json_{function}({document}, ", bind(path), ")")


def _at(document: str, path: str, clauses: Clauses) -> Sql:
    """Whether the value at a JSON path passes."""
    whens: list[str | Sql] = []
    arrays: list[str | Sql] = []
    if clauses.element:
        elements = _whens(clauses.element, Sql("_e.value"))
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
        return join("(", kind, " IS NOT NULL)") if clauses.otherwise == "1" else Sql("0")
    return join("CASE coalesce(", kind, ", 'missing')", *whens, f" ELSE {clauses.otherwise} END")


def _whens(clauses: Mapping[str, Clause], value: Sql) -> list[str | Sql]:
    return [piece for kind, clause in clauses.items() for piece in (f" WHEN '{kind}' THEN ", clause(value))]


def _spread(column: str, steps: Sequence[str], clauses: Clauses) -> Sql:
    """Some value is at the path and passes. Each step yields a list of objects to look into: those in an array, an
    object itself, or an empty object for anything else, in which whatever follows is missing."""
    document, objects, sources = column, list[str](), list[str | Sql]()
    for at, way in enumerate(steps[:-1]):
        kind, value = _json("type", document, "$" + way), _json("extract", document, "$" + way)
        found = join("CASE ", kind, " WHEN 'array' THEN ", value)
        found = join(found, " WHEN 'object' THEN json_array(", value, ") ELSE '[{}]' END")
        sources += [", " if at else "", "json_each(", found, f") AS _p{at}"]
        objects.append(f"_p{at}.type = 'object'")
        # SQLite may evaluate the conditions of a WHERE in any order, and fails on text that is not JSON.
        document = f"iif(_p{at}.type = 'object', _p{at}.value, NULL)"
    leaf = _at(document, "$" + steps[-1], clauses)
    return join("EXISTS (SELECT 1 FROM ", *sources, " WHERE ", " AND ".join(objects), " AND ", leaf, ")")
