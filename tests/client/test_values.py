"""Values as programs have them: what metadata stores of them, how filters find them again, and what is refused."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import math
import subprocess
import sys
import types
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from filter_oracle import stored
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agentmem import ALL, FilterError, InvalidInputError, Memory, NewMemory

NEPAL = timezone(timedelta(hours=5, minutes=45))


class Shade(enum.Enum):
    LIGHT = "light"
    PAIR = (1, 2)


class Rank(enum.IntEnum):
    FIRST = 1


class Mode(enum.Flag):
    READ = 4


class Note(enum.StrEnum):
    DRAFT = "draft"


@dataclasses.dataclass(frozen=True)
class Place:
    city: str
    since: date
    inside: Place | None = None


class Order(BaseModel):
    number: int
    at: datetime
    tags: set[str] = set()


Point = collections.namedtuple("Point", "x y")

TAKEN = [
    (np.int8(-3), -3),
    (np.uint32(2**32 - 1), 2**32 - 1),
    (np.float32(0.1), 0.10000000149011612),
    (np.float16(0.5), 0.5),
    (np.float64(2.5), 2.5),
    (np.longdouble(0.25), 0.25),
    (np.bool_(False), False),
    (np.str_("text"), "text"),
    (np.array(7), 7),
    (np.array("x"), "x"),
    (np.array([1.5, 2.5], np.float32), [1.5, 2.5]),
    (np.array([[1, 2], [3, 4]], np.int8), [[1, 2], [3, 4]]),
    (np.array([True, None, "a"], object), [True, None, "a"]),
    (np.array([], np.int64), []),
    (np.array([(1, "a")], [("n", "i4"), ("s", "U1")]), [[1, "a"]]),
    (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (Decimal("19.90"), 19.9),
    (Decimal("3"), 3),
    (Decimal("-7E+2"), -700),
    (Decimal(2**62 + 1), 2**62 + 1),
    (Decimal("1E+30"), 1e30),
    (Decimal.from_float(0.1), 0.1),
    (Fraction(3, 4), 0.75),
    (Fraction(8, 2), 4),
    (Shade.LIGHT, "light"),
    (Shade.PAIR, [1, 2]),
    (Rank.FIRST, 1),
    (Mode.READ, 4),
    (Note.DRAFT, "draft"),
    ({"b", "a", "c"}, ["a", "b", "c"]),
    (frozenset({10, 9, 1.5}), [1.5, 9, 10]),
    ({None, True, 2, "x", (1, 2)}, [None, True, 2, "x", [1, 2]]),
    ({Shade.LIGHT, "light"}, ["light"]),
    ({"z": 1, "a": 2}.keys(), ["a", "z"]),
    (time(9), "09:00:00"),
    (time(9, 0, 0, 5), "09:00:00.000005"),
    (timedelta(hours=1, seconds=1), 3601),
    (timedelta(milliseconds=-1500), -1.5),
    (date(2025, 6, 1), "2025-06-01"),
    (datetime(2025, 6, 1, 1, tzinfo=NEPAL), "2025-05-31T19:15:00+00:00"),
    (datetime(2025, 6, 1, 1, 0, 0, 7, tzinfo=UTC), "2025-06-01T01:00:00.000007+00:00"),
    (PurePosixPath("a/b.txt"), "a/b.txt"),
    (Path("/tmp") / "c", "/tmp/c"),
    (Point(1, 2), [1, 2]),
    (range(3), [0, 1, 2]),
    (collections.deque(["a", "b"]), ["a", "b"]),
    (array.array("i", [1, 2]), [1, 2]),
    (types.MappingProxyType({"k": 1}), {"k": 1}),
    (collections.OrderedDict(a=Decimal(1)), {"a": 1}),
    (Place("Oslo", date(2020, 1, 2)), {"city": "Oslo", "since": "2020-01-02", "inside": None}),
    (
        Order(number=1, at=datetime(2025, 1, 1, tzinfo=UTC), tags={"b", "a"}),
        {"number": 1, "at": "2025-01-01T00:00:00+00:00", "tags": ["a", "b"]},
    ),
]


def shown(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}"


@pytest.mark.parametrize(("given", "kept"), TAKEN, ids=shown)
def test_a_value_is_stored_and_found_again(memory: Memory, given: Any, kept: Any) -> None:
    id = memory.add("with it", user_id="eli", metadata={"k": given, "inside": {"k": [given]}}).id
    memory.add("with another", user_id="eli", metadata={"k": "another", "inside": {"k": ["another"]}})
    record = memory.get(id)
    assert record is not None
    assert record.metadata == {"k": kept, "inside": {"k": [kept]}}
    assert repr(record.metadata["k"]) == repr(kept), "the type, too"
    for value in (given, kept):
        for filters in (
            {"k": {"$eq": value}},
            {"k": {"$in": ["x", value]}},
            {"k": {"$nin": ["another"]}},
            {"inside.k": {"$contains": value}},
            {"inside": {"$eq": {"k": [value]}}},
            {"$not": {"k": {"$ne": value}}},
        ):
            assert [hit.id for hit in memory.search("with", user_id="eli", filters=filters)] == [id], filters
            assert [each.id for each in memory.page(user_id="eli", filters=filters).records] == [id]
    changed = memory.update(id, metadata={"k": None, "more": given})
    assert changed.metadata == {"inside": {"k": [kept]}, "more": kept}
    assert memory.add(NewMemory(content="one more", metadata={"k": given})).record.metadata == {"k": kept}


def test_an_object_may_be_the_metadata_itself(memory: Memory) -> None:
    for metadata in (Place("Rome", date(2021, 3, 4)), Order(number=2, at=datetime(2025, 1, 1, tzinfo=UTC))):
        record = memory.add(f"of {type(metadata).__name__}", metadata=metadata).record  # type: ignore[arg-type]
        assert record.metadata == stored(metadata if isinstance(metadata, Place) else metadata.model_dump())


def test_sets_are_operands_of_in(memory: Memory) -> None:
    id = memory.add("in one of them", metadata={"k": 2}).id
    for items in ({1, 2}, frozenset({2}), (2, 3), np.array([2, 5]), {2: "x"}.keys(), range(3)):
        assert [hit.id for hit in memory.search("one", filters={"k": {"$in": items}})] == [id]
        assert not memory.search("one", filters={"k": {"$nin": items}})


REFUSED = [
    (b"x", ["bytes", ".decode()", "base64.b64encode"]),
    (bytearray(b"x"), ["bytearray", ".decode()"]),
    (memoryview(b"x"), ["memoryview"]),
    (np.bytes_(b"x"), ["bytes", ".decode()"]),
    (np.array([b"x"]), ["[0]", "bytes"]),
    (datetime(2025, 6, 1, 1), ["2025-06-01T01:00:00", "no time zone", ".astimezone()", "timezone.utc", ".isoformat()"]),  # noqa: DTZ001
    (datetime.min.replace(tzinfo=NEPAL), ["years 1 to 9999"]),
    (np.datetime64("2025-06-01"), ["datetime64", "no time zone", ".item().replace("]),
    (np.timedelta64(1, "h"), ["timedelta64", ".item()"]),
    (np.array(["2025-06-01"], "datetime64[D]"), ["datetime64[D]", "time zone"]),
    (time(9, tzinfo=UTC), ["09:00:00+00:00", "no order", ".replace(tzinfo=None)"]),
    (Decimal("0.1234567890123456789"), ["0.1234567890123456789", "float(...)", "str(...)"]),
    (Decimal("NaN"), ["NaN"]),
    (Decimal("sNaN"), ["sNaN"]),
    (Decimal("-Infinity"), ["Infinity"]),
    (Decimal("1E+999999"), ["no float holds"]),
    (Fraction(1, 3), ["1, 3", "float(...)"]),
    (1j, ["complex", "str(...)"]),
    (np.complex128(1), ["complex"]),
    (np.float32("nan"), ["nan", "None"]),
    (np.array([1.0, math.inf]), ["[1]", "inf"]),
    (2**63, ["63 bits"]),
    (np.uint64(2**63), ["63 bits"]),
    (Decimal(2**63 + 1), ["no float holds"]),
    ({"k": {2**63}}, ["63 bits"]),
    (object(), ["object", "str(...)"]),
    (Shade, ["list(...)"]),
    (len, ["builtin_function_or_method", "str(...)"]),
    ((n for n in range(3)), ["generator", "list(...)"]),
    ({"a": 1}.values(), ["dict_values", "list(...)"]),
    (ALL, ["ALL", "no value"]),
    ({1: "x"}, ["the key 1", "keys must be text", "str(...)"]),
    ({Shade.LIGHT: 1}, ["keys must be text"]),
    ([["deep"] * 3, {"x": b""}], ["bytes"]),
]


@pytest.mark.parametrize(("given", "words"), REFUSED, ids=shown)
def test_a_value_without_one_meaning_is_refused_with_what_to_write(
    memory: Memory, given: Any, words: list[str]
) -> None:
    id = memory.add("unchanged", metadata={"k": 1}).id
    calls: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (InvalidInputError, "metadata.k", lambda: memory.add("x", metadata={"k": given})),
        (InvalidInputError, "metadata.k", lambda: memory.update(id, metadata={"k": given})),
        (FilterError, "'k'", lambda: memory.search("x", filters={"k": {"$eq": given}})),
        (FilterError, "'k'", lambda: memory.page(filters={"k": {"$in": [given]}})),
    ]
    for error, name, call in calls:
        with pytest.raises(error) as caught:
            call()
        assert all(word in str(caught.value) for word in [name, *words]), str(caught.value)
        assert len(str(caught.value)) < 500
    assert memory.stats().events == 1


def test_what_pandas_takes_for_missing() -> None:
    pandas = pytest.importorskip("pandas")
    from agentmem.types.values import MeaninglessError, plain

    with pytest.raises(MeaninglessError, match="use None"):
        plain(pandas.NaT)
    with pytest.raises(MeaninglessError, match="NAType"):
        plain(pandas.NA)
    moment = plain(pandas.Timestamp("2025-06-01T01:00:00.123456789", tz="Asia/Kathmandu"))
    assert moment == datetime(2025, 5, 31, 19, 15, 0, 123456, tzinfo=UTC)
    assert type(moment) is datetime
    with pytest.raises(MeaninglessError, match=r"tolist\(\)"):
        plain(pandas.Series([1]))


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-128, 127).map(np.int8),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9),
    st.integers(-1000, 1000).map(lambda n: Fraction(n, 8)),
    st.timedeltas(timedelta(-1000), timedelta(1000)),
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5),
    st.uuids(),
    st.sampled_from([*Note, Shade.LIGHT]),
    st.times(),
    st.sampled_from(["2025-06-01T00:00:00Z", "2025-06-01", "1.0", "true"]),
)
moments = st.one_of(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.sampled_from([UTC, NEPAL])),  # noqa: DTZ001
    st.dates(),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, moments)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.frozensets(st.one_of(numbers, texts, moments), max_size=3),
        st.dictionaries(st.sampled_from(["a", "b.c", "$d", "é", ""]), inner, max_size=2),
        st.lists(st.integers(-5, 5), max_size=3).map(np.array),
    ),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values, others=st.lists(values, max_size=3))
@example(value=datetime(2025, 6, 1, tzinfo=UTC), others=[date(2025, 6, 1), "2025-06-01T05:45:00+05:45"])
@example(value=np.array([]), others=[frozenset(), []])
def test_whatever_metadata_takes_a_filter_finds(memory: Memory, value: Any, others: list[Any]) -> None:
    own = memory.add("has the value", user_id="eli", metadata={"k": value})
    assert own.record.metadata == {"k": stored(value)}
    for other in others:
        memory.add("has another", user_id="eli", metadata={"k": other}, dedupe=False)
    for filters in ({"k": {"$eq": value}}, {"k": {"$in": [value]}}, {"$not": {"k": {"$ne": value}}}):
        assert own.id in [record.id for record in memory.page(user_id="eli", filters=filters).records]
        assert memory.delete_all(user_id="eli", filters=filters, dry_run=True) >= 1
    assert own.id not in [record.id for record in memory.page(user_id="eli", filters={"k": {"$ne": value}}).records]
    memory.erase_all(user_id="eli")


def test_numbers_of_other_kinds_are_arguments_as_well(memory: Memory) -> None:
    record = memory.add("weighed", importance=np.float32(0.5), ttl=np.int64(60), occurred_at=date(2024, 5, 6)).record
    assert record.importance == 0.5
    assert record.expires_at == record.created_at + timedelta(seconds=60)
    assert record.occurred_at == datetime(2024, 5, 6, tzinfo=UTC)
    assert memory.add(NewMemory(content="weighed too", importance=Decimal("0.25"))).record.importance == 0.25
    assert len(memory.search("weighed", limit=np.int64(1), min_similarity=np.float32(-1))) == 1
    assert len(memory.page(limit=np.uint8(2)).records) == 2
    memory.feedback(record.id, rating=Decimal(4))
    assert memory.update(record.id, importance=Fraction(1, 4), if_version=np.int64(1)).importance == 0.25
    with pytest.raises(InvalidInputError, match="importance"):
        memory.add("x", importance=Decimal("1.01"))
    with pytest.raises(InvalidInputError, match="importance"):
        memory.add("x", importance=np.bool_(True))
    with pytest.raises(InvalidInputError, match="importance"):
        memory.add("x", importance=Decimal("NaN"))


def test_nothing_is_imported_to_look_for_it(tmp_path: Path) -> None:
    code = """
import sys
import agentmem
from agentmem.types.values import plain
for value in (None, 1, "x", [1], {"a": 1}, {1}):
    plain(value)
try:
    plain(object())
except Exception:
    pass
print([name for name in ("numpy", "decimal", "fractions", "pydantic") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
