"""Whatever is put comes back as it went in, whole or in part."""

from __future__ import annotations

import io
import math
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from conftest import HashEmbedder
from hypothesis import given
from hypothesis import strategies as st

from agentmem import InvalidInputError, Memory, NotFoundError, StoreCorruptError
from agentmem.client.values import ValuesClient

KB, MB = 1_024, 1_048_576
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TYPES = ["?", "i1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c16", "S3", "U5", "M8[us]", "m8[D]"]
RECORD = np.dtype([("name", "U4"), ("at", "<f8", (2,)), ("n", ">i2")])


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValuesClient]:
    with Memory(tmp_path_factory.mktemp("kinds") / "store", embedder=HashEmbedder()) as memory:
        yield memory.values


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def back(values: ValuesClient, value: object, **more: Any) -> Any:
    values.put("k", value, user_id="ana", **more)
    return values.get("k", user_id="ana")


@hypothesis.settings(max_examples=40)
@given(st.binary(max_size=300) | st.text(st.characters(), max_size=100))
def test_bytes_and_texts(values: ValuesClient, value: bytes | str) -> None:
    found = back(values, value)
    assert (type(found), found) == (type(value), value)


@hypothesis.settings(max_examples=40)
@given(JSON)
def test_json(values: ValuesClient, value: object) -> None:
    found = back(values, value)
    assert repr(found) == repr(value)


def test_json_that_is_no_number_and_deep(values: ValuesClient) -> None:
    assert math.isnan(back(values, [math.nan])[0])
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    assert back(values, deep) == deep


def test_lone_surrogates(values: ValuesClient) -> None:
    assert back(values, "half \ud800 of a pair") == "half \ud800 of a pair"


@pytest.mark.parametrize("size", [0, 1, 511, 65_536, 65_537, 524_287, 524_288, 524_289, 2 * MB])
@pytest.mark.parametrize("pattern", ["noise", "zeros", "text"])
def test_sizes_around_the_borders(values: ValuesClient, size: int, pattern: str) -> None:
    body = {"noise": noise(size), "zeros": bytes(size), "text": (b"a word and another, " * (size // 20 + 1))[:size]}
    assert back(values, body[pattern]) == body[pattern]
    info = values.info("k", user_id="ana")
    assert info is not None
    assert (info.kind, info.size) == ("bytes", size)


@hypothesis.settings(max_examples=40)
@given(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3), st.booleans(), st.integers(0, 9))
def test_arrays(values: ValuesClient, dtype: str, shape: list[int], turned: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 100, shape).astype(dtype if dtype[0] not in "Mm" else "i8").astype(dtype)
    array = np.asfortranarray(array) if turned else np.asarray(array)
    found = back(values, array)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert found.flags.f_contiguous == array.flags.f_contiguous
    assert found.flags.writeable


def test_more_arrays(values: ValuesClient) -> None:
    records = np.array([("ana", (1.5, 2), 3), ("rui", (0, -1), 4)], RECORD)
    found = back(values, records)
    assert found.dtype == RECORD
    assert found.tobytes() == records.tobytes()
    apart = np.arange(1_000).reshape(10, 100)[::2, ::3]
    assert np.array_equal(back(values, apart), apart)
    scalar = back(values, np.float32(1.5))
    assert (type(scalar), scalar) == (np.float32, 1.5)
    nan = np.array([np.nan, -0.0, np.inf])
    assert back(values, nan).tobytes() == nan.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_arrays(values: ValuesClient, order: Any) -> None:
    array = np.asarray(np.random.default_rng(1).random((5_000, 7, 5)), order=order)
    back(values, array)
    for start, end in [(0, 3), (10, 2_000), (-5, None), (None, -4_990), (7, 7), (4_000, 9_000), (9_000, None)]:
        found = values.get("k", start=start, end=end, user_id="ana")
        assert np.array_equal(found, array[start:end])


class ByDlpack:
    """An array of a library that nobody has heard of."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def test_arrays_by_dlpack(values: ValuesClient) -> None:
    array = np.arange(12, dtype="f4").reshape(3, 4)
    assert np.array_equal(back(values, ByDlpack(array)), array)


def test_arrays_of_a_library_that_keeps_them_on_a_card(values: ValuesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tensor(ByDlpack):
        def __init__(self, array: np.ndarray, device: int = 2) -> None:
            super().__init__(array)
            self.array, self._device = array, device

        def cpu(self) -> Tensor:
            return Tensor(self.array, 1)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self._device, 0

    Tensor.__module__ = "torch"
    put = Tensor(np.arange(6.0).reshape(2, 3))
    library = types.ModuleType("torch")
    library.asarray = Tensor  # pyright: ignore
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", library)
        found = back(values, put)
        assert type(found) is Tensor
        assert np.array_equal(found.array, put.array)
    if find_spec("torch") is None:  # where it is not installed
        assert np.array_equal(values.get("k", user_id="ana"), put.array)


def test_a_description_makes_nobody_import_anything(values: ValuesClient) -> None:
    from agentmem.values import arrays

    assert arrays.as_of("antigravity", np.arange(3)).tolist() == [0, 1, 2]
    assert "antigravity" not in sys.modules


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int32()),
            "word": pa.array([None if n % 7 == 0 else f"word {n % 50}" for n in range(rows)]).dictionary_encode(),
            "list": pa.array([[n, n + 1] for n in range(rows)]),
        }
    )


@pytest.mark.parametrize("rows", [0, 1, 60_000])
def test_tables(values: ValuesClient, rows: int) -> None:
    put = table(rows)
    found = back(values, put)
    assert found.equals(put)
    assert found.schema.equals(put.schema, check_metadata=True)
    for start, end in [(0, 1), (rows // 2, rows // 2 + 10), (-3, None), (5, 5)]:
        part = values.get("k", start=start, end=end, user_id="ana")
        first, last, _ = slice(start, end).indices(rows)
        assert part.equals(put.slice(first, max(0, last - first)))


def test_record_batches(values: ValuesClient) -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2, 3]})
    assert back(values, batch).equals(batch)


def test_tables_of_pandas(values: ValuesClient) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.5, None], "b": ["x", "y"]}, index=pandas.Index([3, 9], name="id"))
    pandas.testing.assert_frame_equal(back(values, frame), frame)
    pandas.testing.assert_frame_equal(values.get("k", start=1, user_id="ana"), frame.iloc[1:])
    series = pandas.Series([1, 2, 3], name="s")
    pandas.testing.assert_series_equal(back(values, series), series)


def test_tables_of_polars(values: ValuesClient) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, None, 3], "b": ["x", "y", "z"]})
    assert back(values, frame).equals(frame)
    assert values.get("k", start=1, end=2, user_id="ana").equals(frame[1:2])
    assert back(values, frame["b"]).equals(frame["b"])


@pytest.mark.parametrize("how", ["path", "file", "iterator"])
def test_streams(values: ValuesClient, tmp_path: Path, how: str) -> None:
    body = noise(3 * MB + 17)
    (tmp_path / "f").write_bytes(body)
    value: Any = {
        "path": tmp_path / "f",
        "file": io.BytesIO(body),
        "iterator": iter([body[:10], b"", body[10 : 2 * MB], memoryview(body)[2 * MB :]]),
    }[how]
    stream = back(values, value)
    assert stream.read() == body
    stream.seek(-20, io.SEEK_END)
    assert stream.read() == body[-20:]
    stream.seek(MB - 5)
    assert stream.read(10) == body[MB - 5 : MB + 5]
    assert values.get("k", start=100, end=MB, user_id="ana") == body[100:MB]


def test_a_value_of_any_kind_is_opened(values: ValuesClient) -> None:
    back(values, "häuser")
    assert values.open("k", user_id="ana").read() == "häuser".encode()
    with pytest.raises(NotFoundError, match="no value with the key 'none'"):
        values.open("none", user_id="ana")


def test_a_stream_that_breaks_off_leaves_what_was_there(values: ValuesClient) -> None:
    back(values, b"before")

    def broken() -> Iterator[bytes]:
        yield noise(2 * MB)
        raise RuntimeError("the line is dead")

    with pytest.raises(RuntimeError, match="dead"):
        values.put("k", broken(), user_id="ana")
    assert values.get("k", user_id="ana") == b"before"
    with pytest.raises(InvalidInputError, match="binary mode"):
        values.put("k", io.StringIO("text"), user_id="ana")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        values.put("k", Path("/no/such/file"), user_id="ana")
    assert values.get("k", user_id="ana") == b"before"


def test_pickles_are_asked_for_by_name(values: ValuesClient) -> None:
    with pytest.raises(InvalidInputError, match="pickle=True"):
        values.put("k", {1, 2}, user_id="ana")
    values.put("k", {1, 2}, user_id="ana", pickle=True)
    with pytest.raises(InvalidInputError, match="runs what is in it"):
        values.get("k", user_id="ana")
    assert values.get("k", user_id="ana", pickle=True) == {1, 2}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "none of what can be put"),
        ({"a": object()}, "a"),
        (np.array([object()]), "Python objects"),
        (np.ma.masked_array([1], [True]), "more than its bytes"),
        ({1, 2}, "none of what can be put"),
    ],
)
def test_what_has_no_bytes_is_refused(values: ValuesClient, value: object, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        values.put("refused", value, user_id="ana")
    assert not values.exists("refused", user_id="ana")


def test_parts_of_what_has_none(values: ValuesClient) -> None:
    back(values, {"a": 1})
    with pytest.raises(InvalidInputError, match="get it whole"):
        values.get("k", start=1, user_id="ana")
    back(values, np.array(5))
    with pytest.raises(InvalidInputError, match="no rows"):
        values.get("k", start=0, user_id="ana")
    with pytest.raises(InvalidInputError, match="start must be an int"):
        values.get("k", start="1", user_id="ana")  # pyright: ignore


def test_a_part_reads_what_it_must(values: ValuesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentmem.stores.chunkfiles import ChunkFiles

    back(values, io.BytesIO(noise(20 * MB, 3)))
    read, sizes = ChunkFiles.read, list[int]()

    def counted(self: ChunkFiles, name: str, at: int = 0, count: int | None = None) -> bytes:
        sizes.append(len(body := read(self, name, at, count)))
        return body

    monkeypatch.setattr(ChunkFiles, "read", counted)
    assert values.get("k", start=7_777_777, end=8_777_777, user_id="ana") == noise(20 * MB, 3)[7_777_777:8_777_777]
    assert sum(sizes) <= 2_000_000
    sizes.clear()
    stream = values.open("k", user_id="ana")
    stream.seek(15 * MB)
    stream.read(100)
    assert sum(sizes) <= 2 * 524_288


@pytest.mark.parametrize("compression", ["auto", "zstd", "lz4", "none"])
def test_compression(tmp_path: Path, compression: str) -> None:
    from agentmem import Settings

    words = " ".join(f"the same words, {n} times" for n in range(60_000)).encode()
    with Memory(tmp_path, settings=Settings(values={"compression": compression}), embedder=HashEmbedder()) as memory:
        memory.values.put("words", words)
        memory.values.put("noise", noise(MB))
        assert memory.values.get("words") == words
        assert memory.values.get("noise") == noise(MB)
        usage = memory.values.usage()
        assert usage.bytes == len(words) + MB
        saved = usage.bytes - usage.stored
        assert saved == 0 if compression == "none" else saved > len(words) * 0.5


def test_a_description_that_cannot_be(values: ValuesClient) -> None:
    from agentmem.values import arrays

    with pytest.raises(StoreCorruptError, match="cannot be"):
        arrays.decoded({"dtype": "nonsense", "shape": [1], "order": "C"}, lambda _: None)


# -- at a glance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*TYPES, RECORD])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_rows_are_those_of_the_whole(values: ValuesClient, kind: Any, order: Any) -> None:
    dtype = np.dtype(kind)
    array = np.frombuffer(bytes(dtype.itemsize * 90), dtype).reshape(30, 3).copy(order=order)
    array[:2] = np.array([1, 0, 1], "?").astype(dtype) if dtype.names is None else array[:2]
    values.put("k", array, user_id="ana")
    head = values.head("k", 2, user_id="ana")
    assert head.rows == tuple(tuple(str(item) for item in row) for row in array[:2])
    assert (head.columns, head.total, head.width) == (None, 30, 3)


def test_little_is_read_of_what_is_only_looked_at(values: ValuesClient) -> None:
    wide = np.arange(600_000.0).reshape(2, 300_000)
    values.put("k", wide, user_id="ana")
    head = values.head("k", user_id="ana")
    assert (len(head.rows[1]), head.rows[1][0], head.width) == (24, "300000.0", 300_000)
    for array, rows in ((np.float64(2.5), (("2.5",),)), (np.zeros((0, 4)), ()), (np.zeros((2, 0)), ((), ()))):
        values.put("k", array, user_id="ana")
        assert values.head("k", user_id="ana").rows == rows
    table = pa.table({f"c{n}": [f"{n}" * 500] * 5_000 for n in range(30)})
    values.put("k", table, user_id="ana")
    head = values.head("k", 3, user_id="ana")
    assert head.rows[2][1] == "1" * 120 + "…"
    assert (len(head.rows), len(head.columns or ()), head.total, head.width) == (3, 24, 5_000, 30)
    for value in (pa.table({"a": ["x" * 20_000_000]}), np.zeros(3, "S5000"), "a text"):
        values.put("k", value, user_id="ana")
        with pytest.raises(InvalidInputError, match=r"shown|is for arrays"):
            values.head("k", user_id="ana")
    with pytest.raises(NotFoundError):
        values.head("none", user_id="ana")
