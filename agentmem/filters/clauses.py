"""Tests of the filter language as SQL about one JSON value of a known type, for SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple, TypeAlias, cast

from agentmem.filters import folding
from agentmem.filters.language import Compared, Contains, ContainsFolded, Exists, OneOf, Operand, StartsWith, Test
from agentmem.filters.sql import Sql, bind, join, listed
from agentmem.types.values import Json, Scalar, Time, text_fault, time_text

Clause: TypeAlias = Callable[[Sql], Sql]
"""From an expression for a value to one that is 0 or 1: whether the value passes."""


class Clauses(NamedTuple):
    """A test: what to ask of a value, by its JSON type (``missing`` included); of an array's elements, by theirs."""

    value: Mapping[str, Clause]
    element: Mapping[str, Clause]
    otherwise: str = "0"

    def of_present(self) -> Clauses:
        """The same of values that are there."""
        return self._replace(value={kind: clause for kind, clause in self.value.items() if kind != "missing"})


def clauses_of(test: Test) -> Clauses:
    """What a test asks, type by type."""
    match test:
        case OneOf(values):
            return _one_of(values)
        case Compared(operator, operand):
            return _ordered(operator, operand)
        case Contains(operand):
            return _contains(operand)
        case ContainsFolded(operand):
            return _contains_folded(operand)
        case StartsWith(operand):
            starts: dict[str, Clause] = {"text": lambda text: starts_with(text, operand)}
            return Clauses(starts, starts)
        case Exists():
            return Clauses({}, {}, otherwise="1")


def number(value: float) -> Sql:
    """A number as a parameter."""
    # As text through SQLite's own parser: the driver binds every int beyond 31 bits as a float, and the parser's last
    # bit is off for one float in some thousands, which has to happen to both sides.
    return join("json_extract(", bind(_dumps(value)), ", '$')")


def words(operand: str) -> Sql:
    """A text as a parameter."""
    # The driver ends a text at its first NUL, and dies on half a character: SQLite's parser reads those.
    return bind(operand) if text_fault(operand) is None else join("json_extract(", bind(json.dumps(operand)), ", '$')")


def member(group: Sequence[Json], single: Sql) -> Clause:
    """Whether a value is one of several of its type; ``single`` is the first of them as a parameter."""
    if len(group) == 1:
        return _compare("=", single)
    return _compare("IN", join("(SELECT value FROM json_each(", bind(_dumps(group)), "))"))


def _true(_: Sql) -> Sql:
    return Sql("1")


def _ordered(operator: str, operand: str | float | Time) -> Clauses:
    if isinstance(operand, str):
        clauses: dict[str, Clause] = {"text": _compare(operator, words(operand))}
    elif isinstance(operand, date):
        clauses = {"text": _time_compared(operator, operand)}
    else:
        clauses = _numeric(_compare(operator, number(operand)))
    return Clauses(clauses, clauses)


def _contains(operand: Operand) -> Clauses:
    value: dict[str, Clause] = {}
    if isinstance(operand, str):
        value["text"] = lambda text: join("instr(", text, ", ", words(operand), ") > 0")
    return Clauses(value, _one_of([operand]).element)


def _contains_folded(operand: str) -> Clauses:
    value: dict[str, Clause] = {"text": lambda text: folding.has(text, operand)}
    element: dict[str, Clause] = {"text": lambda text: folding.equals(text, operand)}
    return Clauses(value, element)


def starts_with(text: Sql, operand: str) -> Sql:
    """Whether a text begins with another."""
    return join("substr(", text, ", 1, length(", words(operand), ")) = ", words(operand))


def _one_of(values: Sequence[Operand]) -> Clauses:
    """Equal to any of ``values``."""
    clauses: dict[str, Clause] = {}
    kinds: dict[str, list[Json]] = {}
    times: list[Time] = []
    for value in values:
        if isinstance(value, date):
            times.append(value)
        else:
            kinds.setdefault(_kind(value), []).append(value)
    for kind, group in kinds.items():
        if kind == "text":
            clauses[kind] = member(group, words(cast("str", group[0])))
        elif kind == "number":
            clauses |= _numeric(member(group, number(cast("float", group[0]))))
        elif kind in ("object", "array"):
            clauses[kind] = _deep(group)
        else:
            clauses[kind] = _true
    if times:
        clauses["text"] = _either(clauses.get("text"), _time_equal(times))
    element = dict(clauses)
    if "null" in clauses:
        clauses["missing"] = _true
    return Clauses(clauses, element)


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


def _numeric(clause: Clause) -> dict[str, Clause]:
    return {"integer": clause, "real": clause}


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _compare(operator: str, operand: Sql) -> Clause:
    return lambda value: join(value, f" {operator} ", operand)


def _either(first: Clause | None, second: Clause) -> Clause:
    return second if first is None else lambda value: join("(", first(value), " OR ", second(value), ")")


# ------------------------------------------------------------------------------------------------ lists and objects


def _deep(containers: list[Json]) -> Clause:
    """Equal to one of these lists or dicts: as many nodes, and each of its nodes there, at its path."""
    nodes = bind(_dumps([_nodes(container) for container in containers]))

    def clause(value: Sql) -> Sql:
        return join(
            *("EXISTS (SELECT 1 FROM json_each(json_array(json(", value, "))) AS _v"),
            *(", json_each(", nodes, ") AS _w"),
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
        below = [_nodes(item, path + step(key)) for key, item in value.items()]
    elif isinstance(value, list):
        below = [_nodes(item, f"{path}[{at}]") for at, item in enumerate(value)]
    elif kind == "number":
        return [[path, "integer", "real", value]]
    else:
        return [[path, kind, kind, value if kind == "text" else None]]
    return [[path, kind, kind, None], *(node for nodes in below for node in nodes)]


def step(key: str) -> str:
    """One key as part of a JSON path. SQLite ends a quoted key at the next quote, but it does read JSON escapes."""
    return '."' + key.replace("\\", "\\\\").replace('"', "\\u0022") + '"'


# ------------------------------------------------------------------------------------------------------------ times

_D = "[0-9]"
_DAY = f"{_D}{_D}{_D}{_D}-{_D}{_D}-{_D}{_D}"
_CLOCK = f"{_D}{_D}:[0-5]{_D}:[0-5]{_D}"
# Step by step, since SQLite's parser has a stack of 100 entries, and this may stand deep inside of a filter. Decimals
# go a way of their own, since SQLite counts in milliseconds.
_STEPS = f"""_2 (_v, _zone) AS (SELECT _v,
    CASE substr(_v, 20, 1) WHEN '.' THEN ltrim(substr(_v, 21), '0123456789') ELSE substr(_v, 20) END FROM _1),
_3 (_v, _decimals, _back) AS (SELECT _v, substr(_v, 21, max(0, length(_v) - 20 - length(_zone))),
    CASE WHEN substr(_v, 20, 2) GLOB '.[^0-9]' THEN NULL WHEN _zone = 'Z' THEN '+00:00'
    WHEN _zone GLOB '[-+]{_D}{_D}:[0-5]{_D}' AND substr(_zone, 2) < '24'
    THEN iif(_zone < '-', '-', '+') || substr(_zone, 2) END FROM _2),
_4 (_v, _decimals, _seconds) AS (SELECT _v, _decimals,
    strftime('%Y-%m-%dT%H:%M:%S', substr(_v, 1, 19), _back) FROM _3),
_time (_v, _day, _t) AS (SELECT _v, _v GLOB '{_DAY}' AND date(_v, '0 days') = _v AND _v > '0001',
    CASE WHEN _v NOT GLOB '{_DAY}[T ]{_CLOCK}*' OR date(substr(_v, 1, 10), '0 days') IS NOT substr(_v, 1, 10)
    OR substr(_v, 12, 2) > '23' OR _v < '0001' THEN NULL
    WHEN _v GLOB '{_DAY}T{_CLOCK}+00:00' THEN _v
    WHEN _v GLOB '{_DAY}T{_CLOCK}.{_D * 6}+00:00' AND _v NOT GLOB '*.000000+00:00' THEN _v
    WHEN _seconds < '0001' THEN NULL
    WHEN rtrim(substr(_decimals, 1, 6), '0') = '' THEN _seconds || '+00:00'
    ELSE _seconds || '.' || substr(_decimals || '00000', 1, 6) || '+00:00' END FROM _4)"""
"""From ``_v``, a text: ``_day``, whether it is a day, and ``_t``, the normal text of the instant that it is, or NULL.

The normal text is what is stored today: in UTC, with all six decimals or none.
"""


def _time_compared(operator: str, operand: Time) -> Clause:
    text = time_text(operand)
    days = join(f"_v {operator} ", bind(text[:10]))
    if isinstance(operand, datetime):
        instants = join("_t ", operator, " ", bind(text))
    else:
        instants = join("substr(_t, 1, 10) ", operator, " ", bind(text))
    return _of_time(days, instants)


def _time_equal(operands: Sequence[Time]) -> Clause:
    instants = [time_text(each) for each in operands if isinstance(each, datetime)]
    days = [time_text(each) for each in operands if not isinstance(each, datetime)]
    either = [*days, *(text[:10] for text in instants)]
    ways = [member(instants, bind(instants[0]))(Sql("_t"))] if instants else []
    ways += [member(days, bind(days[0]))(Sql("substr(_t, 1, 10)"))] if days else []
    return _of_time(member(either, bind(either[0]))(Sql("_v")), join("(", listed(ways, " OR "), ")"))


def _of_time(day: Sql, instant: Sql) -> Clause:
    """What to ask of a text ``_v`` that is a day, and of one that is an instant, whose normal text is ``_t``."""
    return lambda value: join(
        *("(WITH _1 (_v) AS (SELECT ", value, f"), {_STEPS}"),
        *(" SELECT CASE WHEN _day THEN ", day, " ELSE coalesce(", instant, ", 0) END FROM _time)"),
    )
