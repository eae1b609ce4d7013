"""Pieces of SQL with their parameters. Nothing of a filter is ever written into the text."""

from __future__ import annotations

from typing import NamedTuple

from agentmem.types.values import Scalar


class Sql(NamedTuple):
    """An expression, or a part of one, and what belongs to its ``?``, in order."""

    text: str
    params: tuple[Scalar, ...] = ()


def join(*parts: str | Sql) -> Sql:
    """The parts one after the other, with their parameters in the order of the text."""
    sqls = [Sql(part) if isinstance(part, str) else part for part in parts]
    return Sql("".join(sql.text for sql in sqls), tuple(param for sql in sqls for param in sql.params))


def listed(parts: list[Sql], between: str) -> Sql:
    """The parts with ``between`` between them."""
    pieces: list[str | Sql] = []
    for part in parts:
        pieces += [between, part] if pieces else [part]
    return join(*pieces)


def bind(value: Scalar) -> Sql:
    """A parameter. Integers of more than 31 bits come out as floats, see ``clauses.number``."""
    return Sql("?", (value,))
