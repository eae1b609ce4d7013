"""Filters that no record can pass, as far as they show it themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, cast

from agentmem.filters.fields import RecordField
from agentmem.filters.language import AllOf, AnyOf, Compared, Condition, Exists, Node, OneOf, RecordCondition, Test
from agentmem.filters.paths import Path

_MOST = 30
"""Conditions on one key that are compared with each other."""

_Leaf = Condition | RecordCondition


def contradiction(node: Node) -> str | None:
    """The key of which the filter asks two things that exclude each other, so that it never matches; None without one.

    An empty ``$in``, which programs make of an empty selection, is none. In metadata a list may pass conditions that no
    single value passes together, so that only opposites count there.
    """
    if isinstance(node, AnyOf):
        found = [contradiction(part) for part in node.parts]
        return found[0] if None not in found else None
    if not isinstance(node, AllOf):
        return None
    by_key: dict[RecordField | tuple[bool, tuple[Path, ...]], list[_Leaf]] = {}
    for part in node.parts:
        if isinstance(part, AnyOf):
            if (found := contradiction(part)) is not None:
                return found
        elif isinstance(part, _Leaf):
            key = (part.data, part.paths) if isinstance(part, Condition) else part.field
            by_key.setdefault(key, []).append(part)
    for leaves in by_key.values():
        if any(_exclude(one, other) for one, other in combinations(leaves[:_MOST], 2)):
            return _key(leaves[0])
    return None


def _key(leaf: _Leaf) -> str:
    """What a leaf asks about, as it is written."""
    if isinstance(leaf, RecordCondition):
        return f"${leaf.field}"
    return ".".join((*["$data"] * leaf.data, *leaf.paths[0]))


def keys_of(node: Node) -> Iterator[str]:
    """The keys of metadata, not dotted, that the filter asks about."""
    if isinstance(node, Condition):
        if len(node.paths) == 1 and len(node.paths[0]) == 1 and not node.data:
            yield node.paths[0][0]
    elif not isinstance(node, RecordCondition):
        for part in node.parts:
            yield from keys_of(part)


def _exclude(one: _Leaf, other: _Leaf) -> bool:
    # By their text: True equals 1 in Python, and named tuples of different kinds may be equal.
    if one.negated != other.negated and repr(one.test) == repr(other.test):
        return True
    if _is_absent(one) or _is_absent(other):
        present = other if _is_absent(one) else one
        return not present.negated and not (isinstance(present.test, OneOf) and None in present.test.values)
    if isinstance(one, Condition) or one.negated or other.negated:
        return False
    return _apart(one.test, other.test)


def _is_absent(leaf: _Leaf) -> bool:
    return leaf.negated and isinstance(leaf.test, Exists)


def _apart(one: Test, other: Test) -> bool:
    """Whether no single value passes both."""
    if isinstance(one, OneOf) and isinstance(other, OneOf):
        return _are_text(one.values) and _are_text(other.values) and not set(one.values) & set(other.values)
    if isinstance(one, Compared) and isinstance(other, Compared) and type(one.operand) is type(other.operand):
        low, high = (one, other) if one.operator in (">", ">=") else (other, one)
        if low.operator in (">", ">=") and high.operator in ("<", "<="):
            below, above = cast("Any", low.operand), cast("Any", high.operand)  # of one type
            both_equal = low.operator == ">=" and high.operator == "<="
            return bool(below > above or (below == above and not both_equal))
    return False


def _are_text(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) for value in values)
