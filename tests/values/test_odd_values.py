"""Values that are nearly of a kind: arrays and tables of odd types come back the same, or are refused."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agentmem import InvalidInputError, Memory, Settings, StoreCorruptError
from agentmem.values import reading


class Quantity(np.ndarray):
    """As those of other packages: more than an array."""

    unit = "m"


def test_what_is_more_than_an_array_is_refused(memory: Memory) -> None:
    for value in (np.arange(3).view(Quantity), np.ma.array([1, 2], mask=[0, 1]), np.rec.array([(1, 2)], dtype="i4,i4")):
        with pytest.raises(InvalidInputError, match="is more than its bytes"):
            memory.values.put("k", value)
    odd = np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}))
    for value in (odd, np.array(["a"], np.dtypes.StringDType())):
        with pytest.raises(InvalidInputError, match="an array of"):
            memory.values.put("k", value)
    for value in (os, io.BytesIO, np.ndarray):
        with pytest.raises(InvalidInputError, match="none of what can be put"):
            memory.values.put("k", value)
    assert memory.values.list() == []


def test_scalars_of_numpy_that_are_texts_come_back_so(memory: Memory) -> None:
    for value in (np.str_("x"), np.str_(""), np.bytes_(b"ab"), np.bytes_(b"")):
        memory.values.put("k", value)
        back = memory.values.get("k")
        assert (type(back), back) == (type(value), value)


def test_types_that_numpy_has_from_elsewhere(memory: Memory) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    for name in ("bfloat16", "float8_e4m3fn", "int4"):
        value = np.array([[1.0, 2.0], [0.0, 4.0]]).astype(getattr(ml_dtypes, name))
        memory.values.put("k", value)
        back = memory.values.get("k")
        assert back.dtype == value.dtype
        assert back.tobytes() == value.tobytes()
        assert memory.values.get("k", start=1).tobytes() == value[1:].tobytes()
    memory.values.put("k", ml_dtypes.bfloat16(1.5))
    assert memory.values.get("k") == ml_dtypes.bfloat16(1.5)


def test_bfloat16_of_pytorch(memory: Memory) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    value = torch.arange(6.0).reshape(2, 3).to(torch.bfloat16)
    memory.values.put("k", value)
    back = memory.values.get("k")
    assert back.dtype == torch.bfloat16
    assert torch.equal(back, value)
    assert torch.equal(memory.values.get("k", start=1), value[1:])
    memory.values.put("k", torch.ones(3, requires_grad=True))
    assert torch.equal(memory.values.get("k"), torch.ones(3))


def test_parts_of_frames_have_their_index(memory: Memory) -> None:
    pd = pytest.importorskip("pandas")
    for index in (None, range(5, 305, 3), pd.RangeIndex(100, 0, -1, name="n"), [str(n) for n in range(100)]):
        frame = pd.DataFrame({"a": range(100), "b": [str(n) for n in range(100)]}, index=index)
        memory.values.put("frame", frame)
        memory.values.put("series", frame["a"])
        for start, end in ((0, 100), (7, 9), (99, 100), (50, 50), (-3, None)):
            part = memory.values.get("frame", start=start, end=end)
            pd.testing.assert_frame_equal(part, frame.iloc[start:end], check_index_type=start != 50)
            pd.testing.assert_series_equal(
                memory.values.get("series", start=start, end=end), frame["a"].iloc[start:end],
                check_index_type=start != 50,
            )  # fmt: skip


def test_arrays_of_polars(memory: Memory) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    for rows in ([[1, 2], None, [3, 4]], [None, [1, None], [1, 2]]):
        for value in (polars.Series("a", rows, dtype=polars.Array(polars.Int8, 2)), polars.DataFrame({"a": rows})):
            memory.values.put("k", value)
            for start in range(4):
                for end in range(start, 4):
                    assert memory.values.get("k", start=start, end=end).equals(value[start:end])
    empty = polars.Array(polars.Int8, 0)
    nested = polars.Struct({"x": polars.List(empty)})
    for value in (polars.Series([[], []], dtype=empty), polars.Series([{"x": [[]]}], dtype=nested)):
        with pytest.raises(InvalidInputError, match="arrays of no items"):
            memory.values.put("none", value)
    assert not memory.values.exists("none")


def test_series_keep_their_name_or_have_none(memory: Memory) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for name in (None, "n", 0, 5, ("a", 1)):
        memory.values.put("k", pd.Series([1, 2, 3], name=name))
        assert memory.values.get("k").name == name
        assert memory.values.get("k", start=1).name == name
    for name in ("", "n"):
        memory.values.put("k", pl.Series(name, [1, 2, 3]))
        assert memory.values.get("k").name == name


def test_a_batch_without_rows(memory: Memory) -> None:
    batch = pa.record_batch({"a": pa.array([], pa.int8()), "b": pa.array([], pa.string()).dictionary_encode()})
    memory.values.put("k", batch)
    assert memory.values.get("k").equals(batch)
    memory.values.put("k", pa.record_batch({"a": [1, 2]}))
    assert memory.values.get("k", start=1, end=1).num_rows == 0


def test_tables_that_would_come_back_otherwise_are_refused(memory: Memory) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    moment = datetime(2020, 1, 1, 5, tzinfo=UTC).replace(tzinfo=None)
    odd = [
        pd.DataFrame({"a": [{"x": 1}, {"y": 2}, {}]}),
        pd.DataFrame({"a": [[{"x": 1}], [{"y": 2}]]}),
        pd.DataFrame([[1, 2]], columns=["a", 1]),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"a": [2**70]}),
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame({"a": [1j]}),
        pd.DataFrame([[1, 2]], columns=[True, False]),
        pd.DataFrame([[1, 2, 3]], columns=pd.period_range("2020", periods=3)),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", None), ("y", "b")])),
        pd.DataFrame({"a": pd.Categorical([(1, 2), (3, 4)])}),
        pd.DataFrame({"a": pd.Series([date(2020, 1, 1), moment], dtype=object)}),
        pd.DataFrame({"a": [{"x": [date(2020, 1, 1), moment]}]}),
        pd.DataFrame({"a": [time(1, tzinfo=UTC)]}),
        pd.DataFrame({"a": [{1, 2}]}),
        pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name=5)),
        pd.DataFrame({"a": [1, 2]}, index=pd.Index([1, 2], dtype=object)),
        pd.DataFrame({"a": [1, 2]}, index=pd.Index([1, None], dtype="Int64")),
        pd.DataFrame({"a": [1]}, index=pd.RangeIndex(1, name=("x", 2))),
        pd.Series([1], name=np.int64(0)),
        pa.record_batch({"a": [1, 2]}).select([]),
        pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}),
        pl.Series("a", [object()], dtype=pl.Object),
    ]
    for value in odd:
        with pytest.raises(InvalidInputError, match="cannot be put"):
            memory.values.put("k", value)
    assert memory.values.list() == []
    same = [
        pd.DataFrame({"a": [{"x": 1, "y": [2]}, None, {"x": 2, "y": []}]}),
        pd.DataFrame({"a": [[1], [2, 3], []], "b": [b"x", None, b"y"]}),
        pd.DataFrame({"a": [date(2020, 1, 1)] * 3, "b": [Decimal("1.5")] * 3}),
        pd.DataFrame({"a": [(1, 2), [3], None], "b": [{"x": date(2020, 1, 1)}, {"x": None}, None]}),
        pd.DataFrame({"a": [[date(2020, 1, 1)], [None]], "b": [[moment], []]}),
        pd.DataFrame({"a": [np.arange(3), np.arange(0)], "b": [time(1), None]}),
        pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["i", None])),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["n", "m"])),
        pd.DataFrame(index=[1, 2, 3]),
        pd.DataFrame(),
    ]
    for frame in same:
        memory.values.put("k", frame)
        found = memory.values.get("k")
        assert found.columns.equals(frame.columns)
        assert found.index.equals(frame.index)
        pd.testing.assert_frame_equal(found, frame)


def test_batches_of_every_type_without_rows(memory: Memory) -> None:
    numbers, kinds = pa.array([1, 2]), pa.array([0, 0], pa.int8())
    arrays = [
        pa.UnionArray.from_sparse(kinds, [numbers]),
        pa.UnionArray.from_dense(kinds, pa.array([0, 1], pa.int32()), [numbers]),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 2, 2))),
    ]
    for array in arrays:
        for batch in (pa.record_batch({"a": array}), pa.record_batch({"a": array}).slice(0, 0)):
            memory.values.put("k", batch)
            assert memory.values.get("k").equals(batch)


def test_what_every_group_of_rows_has_is_no_multiple_of_the_table(memory: Memory) -> None:
    names = pa.array([f"category {n} of very many" for n in range(120_000)]).dictionary_encode()
    table = pa.table({"a": names, "b": np.random.default_rng(0).random(len(names))})
    assert table.nbytes > 4_000_000
    info = memory.values.put("k", table)
    assert info.size < 2 * table.nbytes
    assert memory.values.get("k").equals(table)
    assert memory.values.get("k", start=-2).to_pydict() == table.slice(119_998).to_pydict()
    wide = pa.table({f"column {n}": pa.array([n] * 100) for n in range(5_000)})
    assert memory.values.put("k", wide).size < 2 * wide.nbytes
    assert memory.values.get("k", start=5, end=6).equals(wide.slice(5, 1))


class Waiting(io.RawIOBase):
    """A stream that has nothing right now, as those that do not block."""

    def read(self, size: int = -1, /) -> bytes | None:
        self.asked = getattr(self, "asked", 0) + 1
        return [b"begin", None, b"end", b""][self.asked - 1]


def test_a_stream_that_has_nothing_right_now_is_not_over(memory: Memory) -> None:
    with pytest.raises(InvalidInputError, match="gave NoneType, not bytes"):
        memory.values.put("k", Waiting())
    assert not memory.values.exists("k")


@pytest.mark.parametrize(
    "view",
    [
        memoryview(np.asfortranarray(np.arange(6).reshape(2, 3))),
        memoryview(np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)),
        memoryview(np.empty((0, 3))),
        memoryview(np.empty((3, 0), order="F")),
        memoryview(np.array(5)),
        memoryview(b"abcdef")[::-2],
    ],
)
def test_views_of_every_order_are_their_bytes(memory: Memory, view: memoryview) -> None:
    memory.values.put("k", view)
    assert memory.values.get("k") == view.tobytes()
    memory.values.put("k", iter([b"<", view, b">"]))
    assert memory.values.get("k").read() == b"<" + view.tobytes() + b">"


def test_paths_that_cannot_be(memory: Memory) -> None:
    for name in ("a\0b", "x" * 5_000, "/", "/proc/self/mem"):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            memory.values.put("k", Path(name))
    gone = memoryview(b"x")
    gone.release()
    with pytest.raises(InvalidInputError, match="released"):
        memory.values.put("k", gone)
    assert memory.values.list() == []


def test_numbers_of_numpy_bound_a_part(memory: Memory) -> None:
    memory.values.put("k", b"0123456789")
    assert memory.values.get("k", start=np.int64(2), end=np.uint8(4)) == b"23"
    for odd in (1.5, "1", True, np.bool_(True), np.float64(1)):
        with pytest.raises(InvalidInputError, match="start must be an int"):
            memory.values.get("k", start=odd)  # pyright: ignore


def test_keys_are_not_the_letters_of_a_text(memory: Memory) -> None:
    for odd in ("abc", b"abc", None, 5):
        with pytest.raises(InvalidInputError, match="get_many takes keys"):
            memory.values.get_many(odd)  # pyright: ignore


def test_what_is_held_is_held_somewhere(memory: Memory) -> None:
    with pytest.raises(InvalidInputError, match="hold=True"):
        memory.values.put("k", b"x", hold=True)
    memory.values.put("k", b"x")
    with pytest.raises(InvalidInputError, match="hold=True"):
        memory.values.move("k", None, hold=True)


@pytest.mark.parametrize(
    "about",
    [
        {"kind": "bytes", "size": "x"},
        {"kind": "bytes", "size": -1},
        {"kind": "bytes", "size": True},
        {"kind": 5, "size": 1},
        {"kind": "film", "size": 1},
    ],
)
def test_a_record_that_somebody_made_into_no_value(memory: Memory, about: dict[str, object]) -> None:
    info = memory.values.put("odd", b"x")
    memory.values.put("k", b"y")
    memory.update(info.id, data={"$value": {"digest": "0", **about}})
    assert memory.values.get("odd") is None
    assert memory.values.info("odd") is None
    assert [each.key for each in memory.values.list()] == ["k"]
    memory.values.put("odd", b"z")
    assert memory.values.get("odd") == b"z"


@pytest.mark.parametrize(
    "about",
    [
        {"kind": "array", "dtype": "<f8", "shape": [10**12], "order": "C", "size": 0},
        {"kind": "array", "dtype": "<f8", "size": 0},
        {
            "kind": "table",
            "size": 0,
            "rows": 3,
            "columns": [],
            "groups": [[3, 9]],
            "library": "pyarrow",
            "form": "Table",
        },
        {"kind": "table", "size": 0},
        {"kind": "json", "size": 0},
    ],
)
def test_a_description_that_cannot_be(memory: Memory, about: dict[str, object]) -> None:
    info = memory.values.put("odd", b"")
    memory.update(info.id, data={"$value": {"digest": "0", **about}})
    with pytest.raises(StoreCorruptError):
        memory.values.get("odd")
    assert len(memory.values.list()) <= 1


@pytest.mark.parametrize("size", [100_000, 3_000_000, 12_000_000])
def test_a_stream_that_fills_its_buffer_again_and_again(memory: Memory, size: int) -> None:
    def again() -> Iterator[memoryview]:
        buffer = bytearray(size)
        for n in range(3):
            buffer[:] = bytes([n]) * size
            yield memoryview(buffer)

    memory.values.put("k", again())
    assert memory.values.get("k").read() == b"".join(bytes([n]) * size for n in range(3))
    assert memory.verify().problems == []


def test_reading_a_stream_reads_no_chunk_twice(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.values.put("k", iter([np.random.default_rng(0).bytes(6_000_000)]))
    hashed = list[int]()

    def counted(body: bytes) -> Any:
        hashed.append(len(body))
        return hashlib.sha256(body)

    monkeypatch.setattr(reading, "sha256", counted)
    for read in (
        lambda file: file.read(),
        lambda file: b"".join(iter(lambda: file.read(10_000), b"")),
        lambda file: file.seek(100_000) and file.read(),
        lambda file: file.seek(100_000) and b"".join(iter(lambda: file.read(10_000), b"")),
    ):
        hashed.clear()
        with memory.values.open("k") as file:
            assert len(read(file)) in (6_000_000, 5_900_000)
        assert sum(hashed) <= 6_000_000


def test_a_stream_that_packs_well_is_not_kept_in_memory(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=Settings(values={"inline_kb": 256}))
    parts = [np.random.default_rng(n).bytes(25_000) + bytes(499_288) for n in range(200)]
    memory.values.put("k", iter(parts))
    with memory.values.open("k") as file:
        assert file.read() == b"".join(parts)
    db = memory.handle.engine().repository.db
    [(held, files)] = db.execute("SELECT sum(length(body)), count(file) FROM chunks")
    assert held < 6_000_000
    assert files > 2
    assert memory.verify().ok


def test_bytes_of_every_length_around_a_chunk(memory: Memory) -> None:
    whole = np.random.default_rng(0).bytes(6 * 524_288 + 5)
    for size in (0, 1, 524_287, 524_288, 524_289, 4 * 524_288, 4 * 524_288 + 1, len(whole)):
        memory.values.put("k", whole[:size])
        assert memory.values.get("k") == whole[:size]
        assert memory.values.get("k", start=1, end=size - 1 if size > 1 else 1) == whole[1 : max(1, size - 1)]
    for start in (0, 5, 524_288, 600_000):
        assert memory.values.get("k", start=start) == whole[start:]
        assert memory.values.get("k", start=start, end=-7) == whole[start:-7]
