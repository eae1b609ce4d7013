"""Tests of the filter language as SQL about a field of ``records AS r``, for SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import cast

from agentmem.filters import folding
from agentmem.filters.clauses import member, number, starts_with
from agentmem.filters.fields import FIELDS, RecordField
from agentmem.filters.language import Compared, Contains, ContainsFolded, Exists, OneOf, Operand, StartsWith, Test
from agentmem.filters.sql import Sql, bind, join, listed
from agentmem.types.clock import to_micros
from agentmem.types.values import Time

_NAMES = {"user_id": "user", "agent_id": "agent", "run_id": "run"}
_FORM = (
    "CASE WHEN r.vectors < 0 THEN 'given' WHEN r.vectors > 1 THEN 'texts' "
    "WHEN r.vectors = 1 THEN 'content' ELSE 'none' END"
)
"""``types.forms.name_of`` of the column."""
_DAY = timedelta(days=1) - timedelta(microseconds=1)


def field_passes(field: RecordField, test: Test) -> Sql:
    """Whether the field passes the test: 0 or 1."""
    value = Sql(field_value(field))
    match test:
        case Exists():
            return join("(", value, " IS NOT NULL)")
        case Contains(operand):
            passes = join("instr(", value, ", ", bind(cast("str", operand)), ") > 0")
        case ContainsFolded(operand):
            passes = folding.has(value, operand)
        case StartsWith(operand):
            passes = starts_with(value, operand)
        case Compared(operator, operand):
            passes = _compared(value, operator, operand)
        case OneOf(values):
            return _one_of(field, value, values)
    return join("coalesce(", passes, ", 0)")


def field_value(field: RecordField) -> str:
    """The field's value as an expression: text, a number, a time in microseconds, or NULL."""
    # The scope's ids are stored as numbers; 0, which is in no table, is none.
    if field == "embedding":
        return _FORM
    named = _NAMES.get(field)
    return f"r.{field}" if named is None else f"(SELECT value FROM names WHERE n = r.{named})"


def _compared(value: Sql, operator: str, operand: str | float | Time) -> Sql:
    if isinstance(operand, date):
        first, last = _span(operand)
        return join(value, f" {operator} ", _integer(first if operator in ("<", ">=") else last))
    return join(value, f" {operator} ", bind(operand) if isinstance(operand, str) else number(operand))


def _one_of(field: RecordField, value: Sql, values: Sequence[Operand]) -> Sql:
    some = [each for each in values if each is not None]
    ways = [join(value, " IS NULL")] if len(some) < len(values) else []
    if FIELDS[field] == "time":
        for each in some:
            first, last = _span(cast("Time", each))
            ways.append(join("coalesce(", value, " BETWEEN ", _integer(first), " AND ", _integer(last), ", 0)"))
    elif some:
        plain = cast("list[str] | list[float]", some)
        single = bind(plain[0]) if isinstance(plain[0], str) else number(plain[0])
        ways.append(join("coalesce(", member(plain, single)(value), ", 0)"))
    return join("(", listed(ways, " OR "), ")") if ways else Sql("0")


def _span(when: Time) -> tuple[int, int]:
    """The first and the last microsecond of an instant, or of a day in UTC."""
    if isinstance(when, datetime):
        return to_micros(when), to_micros(when)
    midnight = datetime.combine(when, time(), UTC)
    return to_micros(midnight), to_micros(midnight + _DAY)


def _integer(value: int) -> Sql:
    # The driver binds integers of more than 31 bits as floats.
    return join("CAST(", bind(str(value)), " AS INTEGER)")
