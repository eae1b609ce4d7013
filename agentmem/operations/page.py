"""Listing a scope: pages for callers, groups of rows for operations on all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentmem.engine.engine import Engine
from agentmem.filters.sqlite import CompiledFilter
from agentmem.stores.connection import Value
from agentmem.stores.records import UNEXPIRED
from agentmem.stores.rows import Stored
from agentmem.types.enums import Order
from agentmem.types.inputs import Scope
from agentmem.types.records import Page


def page(
    engine: Engine,
    scope: Scope,
    *,
    where: Sequence[str] = (),
    params: Sequence[Value] = (),
    order: Order = "newest",
    limit: int,
    after: int | None = None,
) -> Page:
    """Live records of a scope that satisfy conditions on ``records r``, by order of adding, after a row number."""
    engine.check()
    key = engine.key(scope)
    if key is None:
        return Page([], None)
    found = list[int]()
    scope_where, scope_params = key.where()
    condition = " AND ".join([scope_where, UNEXPIRED, *where])
    newest, records = order == "newest", engine.repository
    for low, high in records.windows(scope_where, scope_params, newest_first=newest, start=after):
        rows = records.rows_between(condition, (*scope_params, engine.now(), *params), low, high)
        found += reversed(rows) if newest else rows
        if len(found) > limit:
            break
    stored = {item.row: item for item in records.find_rows(found[:limit])}
    listed = [engine.record(stored[row]) for row in found[:limit] if row in stored]
    return Page(listed, f"{order}:{found[limit - 1]}" if len(found) > limit else None)


def matching(
    engine: Engine, scope: Scope, condition: CompiledFilter | None = None, *, deleted_too: bool = False
) -> Iterator[list[Stored]]:
    """The scope's records that the condition admits, in groups; those added meanwhile are left out."""
    engine.check()
    key = engine.key(scope)
    if key is None:
        return
    where, params = key.where(erased_apart=deleted_too)
    terms, values = [where], list[Value](params)
    if not deleted_too:
        terms.append(UNEXPIRED)
        values.append(engine.now())
    if condition is not None:
        terms.append(f"({condition.sql})")
        values += condition.params
    records = engine.repository
    last = records.last_row()
    for low, high in records.windows(f"{where} AND r.row <= ?", (*params, last)):
        rows = records.rows_between(" AND ".join(terms), values, low, high)
        if rows:
            yield list(records.find_rows(rows))
