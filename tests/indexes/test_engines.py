"""The engines that hold vectors in memory, and which codes are taken."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from contracts.vector_engine import DIM, VectorEngineContract, vectors

from agentmem import MissingExtraError
from agentmem.indexes import codes, exact
from agentmem.indexes.codes import bytes_of, coding, new_codes
from agentmem.indexes.exact import Exact, cosines
from agentmem.indexes.int8 import Int8
from agentmem.types.ports import VectorEngine


class TestExact(VectorEngineContract):
    CANDIDATES = 10
    ERROR = 1e-5
    BYTES = 1.3

    def new(self, dim: int = DIM) -> Exact:
        return Exact(dim)

    def test_it_is_exact(self) -> None:
        held, every = self.filled()
        query = vectors(1, seed=2)[0]
        assert held.similarities(query) == pytest.approx(every @ query, abs=1e-6)
        assert (
            held.nearest(query, 10, np.ones(len(held), np.bool_))[0].tolist()
            == np.argsort(-(every @ query))[:10].tolist()
        )


class TestExactInBlocks(TestExact):
    """Vectors that lie in many blocks."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exact, "BLOCK", 64)

    @pytest.mark.parametrize("count", [1, 63, 64, 65, 200, 256])
    def test_some_are_kept_and_replaced(self, count: int) -> None:
        held, every = self.new(), vectors(400)
        held.append(every)
        numbers = np.sort(np.random.default_rng(count).permutation(400)[:count])
        held.keep(numbers)
        assert len(held) == count
        assert (held.vectors(np.arange(count)) == every[numbers]).all()
        assert held.nbytes == 4 * DIM * count
        held.replace(np.array([count - 1, 0][: min(count, 2)]), every[[7, 8]][: min(count, 2)])
        held.append(every[:70])
        expected = every[numbers].copy()
        expected[[count - 1, 0][: min(count, 2)]] = every[[7, 8]][: min(count, 2)]
        assert (held.vectors(np.arange(count + 70)) == np.concatenate([expected, every[:70]])).all()


class TestInt8(VectorEngineContract):
    CANDIDATES = 20
    ERROR = 0.02

    def new(self, dim: int = DIM) -> Int8:
        return Int8(dim)

    def test_numbers_at_the_edge_of_a_byte_do_not_overflow(self) -> None:
        """All numbers as large as they get: where sums were kept in 16 bits, they would not fit."""
        every = np.full((40, 256), 1 / 16, np.float32)
        every[::2] *= -1
        held = Int8(256)
        held.append(every)
        for query in (every[0], every[1]):
            numbers, similar = held.nearest(query, 40, np.ones(40, np.bool_))
            assert similar == pytest.approx(every[numbers] @ query, abs=0.02)

    def test_a_vector_of_zeros_is_near_to_nothing(self) -> None:
        held = Int8(DIM)
        held.append(np.zeros((1, DIM), np.float32))
        assert held.nearest(vectors(1)[0], 1, np.ones(1, np.bool_))[1].tolist() == [0.0]


class TestRaBitQ(VectorEngineContract):
    @pytest.fixture(autouse=True)
    def faiss(self) -> None:
        pytest.importorskip("faiss", reason="the extra faiss is not installed")

    def new(self, dim: int = DIM) -> VectorEngine:
        from agentmem.indexes.rabitq import RaBitQ

        return RaBitQ(dim)

    def test_the_program_keeps_its_threads(self) -> None:
        import faiss

        held, before = self.new(), faiss.omp_get_max_threads()
        held.append(vectors(100))
        held.nearest(vectors(1)[0], 5, np.ones(100, np.bool_))
        assert faiss.omp_get_max_threads() == before

    def test_damaged_codes_are_told(self) -> None:
        held, _ = self.filled(100)
        [(name, saved)] = held.saved().items()
        for damaged in (saved[: len(saved) // 2], saved[:3], np.zeros(50, np.uint8)):
            with pytest.raises(ValueError, match="FAISS"):
                self.new().restore({name: damaged})


class TestRaBitQOfManySegments(TestRaBitQ):
    """Two threads share them."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from agentmem.indexes import rabitq

        monkeypatch.setattr(rabitq, "SEGMENT", 700)
        monkeypatch.setattr(rabitq, "SHARED", 1_000)

    def test_segments_say_what_one_would(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from agentmem.indexes import rabitq

        codes, every = self.filled()
        monkeypatch.setattr(rabitq, "SEGMENT", 10_000)
        whole = self.new()
        whole.append(every[:1_000])
        whole.append(every[1_000:])
        for share in (1.0, 0.5, 0.01):
            allowed = np.random.default_rng(4).random(len(every)) < share
            for query in vectors(3, seed=6):
                one, other = (each.nearest(query, 50, allowed) for each in (codes, whole))
                assert one[0].tolist() == other[0].tolist()
                assert one[1] == pytest.approx(other[1], abs=1e-6)


def test_without_faiss_there_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_has_faiss", lambda: False)
    assert (coding("auto"), coding("int8"), coding("lancedb")) == ("int8", "int8", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'agentmem-db\[faiss\]'"):
        coding("rabitq")


def test_faiss_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_has_faiss", lambda: True)
    assert (coding("auto"), coding("int8"), coding("rabitq")) == ("rabitq", "int8", "rabitq")


@pytest.mark.parametrize("coded", ["rabitq", "int8"])
def test_what_a_vector_takes_is_known_before(coded: str) -> None:
    if coded == "rabitq":
        pytest.importorskip("faiss", reason="the extra faiss is not installed")
    held = new_codes(coded, 256)  # pyright: ignore[reportArgumentType]
    held.append(np.eye(256, dtype=np.float32))
    assert held.nbytes <= 1.3 * 256 * bytes_of(coded, 256)  # pyright: ignore[reportArgumentType]


def test_the_engines_are_loaded_when_they_are_needed() -> None:
    code = (
        "import sys, agentmem.indexes.codes as c; c.coding('auto'); print({'faiss', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("dim", [3, 256, 384, 1_537])
def test_a_cosine_does_not_depend_on_what_else_is_compared(dim: int) -> None:
    random = np.random.default_rng(dim)
    rows = random.standard_normal((1_000, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    together = cosines(rows, rows[0])
    assert np.allclose(together, rows.astype(np.float64) @ rows[0].astype(np.float64), atol=1e-6)
    for count in (1, 2, 7, 40):
        for start in (0, 1, 333, 1_000 - count):
            assert np.array_equal(cosines(rows[start : start + count], rows[0]), together[start : start + count])
