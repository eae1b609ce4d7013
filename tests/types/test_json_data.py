"""Data as JSON text and back: the same value, or an error that says where it cannot be."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem import InvalidInputError
from agentmem.types import data as codec
from agentmem.types.data import MAX_DATA, MAX_LEVELS, data_json, parsed

SURROGATES = [chr(0xD800), chr(0xDBFF), chr(0xDC00), chr(0xDFFF)]
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SURROGATES[2:])) | st.text(
    st.sampled_from([*SURROGATES[:2], "\x00", '"', "\\", "é", "日"])
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**4000), 10**4000) | st.floats() | texts
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)


def same(one: Any, other: Any) -> bool:
    """To the bit: NaN is itself, 1 is not 1.0 and not True, the order of keys counts."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@given(documents.filter(lambda value: value is not None))
def test_it_comes_back_as_it_went_in(value: Any) -> None:
    text = data_json(value)
    assert text is not None
    assert text.isascii()
    assert same(parsed(text), value)


def test_none_is_no_data() -> None:
    assert data_json(None) is None


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Tone(StrEnum):
    WARM = "warm"


class Pair(NamedTuple):
    one: int
    other: str


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ((1, (2,)), [1, [2]]), (Pair(1, "a"), [1, "a"]), (OrderedDict(b=1, a=2), {"b": 1, "a": 2}), (Size.SMALL, 1),
        (Tone.WARM, "warm"), ({Tone.WARM: 1}, {"warm": 1}), (MappingProxyType({"a": 1}), {"a": 1}),
    ],
)  # fmt: skip
def test_what_is_one_of_the_types_of_json_becomes_it(value: Any, kept: Any) -> None:
    assert same(parsed(data_json(value) or ""), kept)


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        (b"x", "data", "bytes"), ({"a": [1, {"b": b"x"}]}, r"data\.a\[1\]\.b", "base64"),
        ({"a": {1: 2}}, r"data\.a", "keys must be text"), ({"a": {None: 2}}, r"data\.a", "keys must be text"),
        ([{1, 2}], r"data\[0\]", r"list\("),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, r"data\.when", r"isoformat\(\)"),
        ({"c": Colour.RED}, r"data\.c", "Colour"), ([object()], r"data\[0\]", "object"), (range(3), "data", r"list\("),
        ({"n": 2**14_001}, r"data\.n", "hex"), (["\ud83d\ude00"], r"data\[0\]", "one by one"),
        ({"a": {"\ud83d\ude00": 1}}, r"data\.a\..*", "one by one"), ({"\ud800": b""}, r"data\.\\ud800", "bytes"),
    ],
)  # fmt: skip
def test_what_json_does_not_have_is_refused_with_its_path(value: Any, path: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^{path} .*{why}") as caught:
        data_json(value)
    assert caught.value.field == "data"
    assert len(str(caught.value).encode()) < 500


def nested(levels: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"k": value}
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_how_deep_it_may_be(kind: str) -> None:
    deepest = nested(MAX_LEVELS, kind)
    assert parsed(data_json(deepest) or "") == deepest
    for levels in (MAX_LEVELS + 1, 50_000):
        with pytest.raises(InvalidInputError, match=f"nested more than {MAX_LEVELS} deep") as caught:
            data_json(nested(levels, kind))
        assert len(str(caught.value)) < 300


def test_a_deep_stack_does_not_matter() -> None:
    deepest = nested(MAX_LEVELS, "dict")

    def below(frames: int) -> Any:
        return below(frames - 1) if frames else parsed(data_json(deepest) or "")

    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    assert below(sys.getrecursionlimit() - depth - 60) == deepest


def test_values_that_hold_each_other() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(InvalidInputError, match="nested more than"):
        data_json(ring)
    unfolds: list[Any] = [1] * 20
    for _ in range(20):
        unfolds = [unfolds] * 20
    with pytest.raises(InvalidInputError, match="more than 16,777,216 bytes"):
        data_json(unfolds)


@pytest.mark.parametrize("char", ["x", "é", "😀"])
def test_how_large_it_may_be(char: str) -> None:
    width = len(json.dumps(char)) - 2
    fits = char * ((MAX_DATA - 2) // width)
    text = data_json(fits)
    assert text is not None
    assert MAX_DATA - width < len(text) <= MAX_DATA
    with pytest.raises(InvalidInputError, match="more than 16,777,216 bytes"):
        data_json(fits + char)


def test_numbers_of_more_digits_than_this_process_reads() -> None:
    value = {"n": [10**4100 + 7, -(10**4100), 3]}
    text = data_json(value)
    assert text is not None
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        assert parsed(text) == value
    finally:
        sys.set_int_max_str_digits(before)
    assert codec.parsed("[-0, 0]") == [0, 0]
