# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false
"""LlamaIndex's filters as those of agentmem, on the data that a node is kept as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentmem.adapters.versions import require

require("llama-index-core", at_least="0.14.24", below="0.15", extra="llamaindex")

from llama_index.core.vector_stores.types import (  # noqa: E402
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

_IN = 1_000
"""Values of one ``$in``."""
_REFERENCES = ("ref_doc_id", "doc_id", "document_id")
_OPERATORS = {
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.CONTAINS: "$contains",
    FilterOperator.TEXT_MATCH: "$contains",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "$icontains",
}


def narrowed(
    filters: MetadataFilters | None, ids: list[str] | None = None, documents: list[str] | None = None
) -> dict[str, Any] | None:
    """Filters, and ids of nodes and documents, as a filter of agentmem's."""
    conditions = [] if filters is None or not filters.filters else [_all_of(filters)]
    conditions += [
        _in(field, wanted)
        for field, wanted in (("$data.id", ids), ("$data.ref_doc_id", documents))
        if wanted is not None
    ]
    return {"$and": conditions} if conditions else None


def _in(field: str, values: Sequence[Any]) -> dict[str, Any]:
    parts = [{field: {"$in": list(values[start : start + _IN])}} for start in range(0, len(values), _IN)]
    return {"$or": parts} if parts else {field: {"$in": []}}


def _all_of(filters: MetadataFilters) -> dict[str, Any]:
    parts = [_all_of(part) if isinstance(part, MetadataFilters) else _condition(part) for part in filters.filters]
    match filters.condition:
        case FilterCondition.OR:
            return {"$or": parts}
        case FilterCondition.NOT:
            return {"$not": {"$or": parts}}
        case _:
            return {"$and": parts}


def _condition(wanted: MetadataFilter) -> dict[str, Any]:
    key = wanted.key
    field = "$data.ref_doc_id" if key in _REFERENCES else f"$data.metadata.{key}"
    value: Any = wanted.value
    values: list[Any] = value if isinstance(value, list) else [value]
    alike = [one for each in values for one in _with_bool(each)]
    match wanted.operator:
        case FilterOperator.EQ:
            return {field: value} if isinstance(value, list) else {field: {"$in": alike}}
        case FilterOperator.NE:
            return {field: {"$ne": value}} if isinstance(value, list) else {field: {"$nin": alike}}
        case FilterOperator.IN:
            return {field: {"$in": alike}}
        case FilterOperator.NIN:
            return {field: {"$nin": alike}}
        case FilterOperator.ANY:
            parts = [{field: {"$contains": each}} for each in values]
            return {"$or": parts} if parts else {field: {"$in": []}}
        case FilterOperator.ALL:
            return {"$and": [{field: {"$exists": True}}, *({field: {"$contains": each}} for each in values)]}
        case FilterOperator.IS_EMPTY:
            return {"$or": [{field: None}, {field: ""}, {field: {"$eq": []}}]}
        case operator if operator in _OPERATORS:
            return {field: {_OPERATORS[operator]: value}}
        case operator:
            raise ValueError(f"Invalid operator: {operator}")


def _with_bool(value: Any) -> list[Any]:
    """A value and, for 0 and 1, the bool that Python takes it for: LlamaIndex's filters have no other way to ask."""
    return [value, bool(value)] if not isinstance(value, (str, bool)) and value in (0, 1) else [value]
