"""The exact vectors beside codes: what is coded in the background, and what happens to it meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from contracts.vector_engine import DIM, VectorEngineContract, vectors

from agentmem.indexes import delta
from agentmem.indexes.codes import new_codes
from agentmem.indexes.delta import Delta

faiss = pytest.importorskip("faiss", reason="the extra faiss is not installed")

from agentmem.indexes.rabitq import RaBitQ  # noqa: E402, it is loaded with FAISS


class Gate:
    """Rests that last until they are ended."""

    def __init__(self) -> None:
        self.reached, self.open, self.go_on = Event(), Event(), True

    def __call__(self) -> Callable[[], bool]:
        return self._rest

    def _rest(self) -> bool:
        self.reached.set()
        assert self.open.wait(20)
        return self.go_on


def plain(*parts: np.ndarray) -> RaBitQ:
    """The same vectors, coded as they come."""
    held = RaBitQ(DIM)
    for part in parts:
        held.append(part)
    return held


def codes_of(engine: Any) -> np.ndarray:
    index = faiss.deserialize_index(engine.saved()["faiss 0"])
    return faiss.vector_to_array(index.codes).reshape(-1, index.code_size)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "LEAST", 60)
    monkeypatch.setattr(delta, "PIECE", 25)
    monkeypatch.setattr(delta, "BLOCK_BYTES", 40 * 4 * DIM)


class TestDelta(VectorEngineContract):
    """Whatever comes after the first vectors waits."""

    @pytest.fixture(autouse=True)
    def waiting(self, monkeypatch: pytest.MonkeyPatch, small: None) -> None:
        monkeypatch.setattr(delta, "LEAST", 10**9)

    def new(self, dim: int = DIM) -> Delta:
        engine = new_codes("rabitq", dim)
        assert isinstance(engine, Delta)
        return engine

    def test_what_is_not_coded_is_compared_exactly(self) -> None:
        first, late = vectors(200), vectors(50, seed=1)
        held = self.new()
        held.append(first)
        held.append(late)
        only = np.arange(250) >= 250 - held.waiting
        for query in vectors(3, seed=2):
            numbers, similar = held.nearest(query, 50, only)
            assert similar == pytest.approx((late @ query)[numbers - 200], abs=1e-6)
            assert (np.diff(similar) <= 0).all()
            few = np.isin(np.arange(250), [3, 201, 249])
            assert set(held.nearest(query, 5, few)[0].tolist()) == {3, 201, 249}


class TestDeltaOfLittle(TestDelta):
    """So little may wait that whoever appends codes it, now and then."""

    @pytest.fixture(autouse=True)
    def little(self, monkeypatch: pytest.MonkeyPatch, waiting: None) -> None:
        monkeypatch.setattr(delta, "MOST_BYTES", 4 * DIM * 40)

    def test_no_more_waits_than_may(self) -> None:
        held, most = self.new(), 0
        held.append(vectors(100))
        for start in range(0, 300, 30):
            held.append(vectors(30, seed=start))
            most = max(most, held.waiting)
        assert 0 < most <= 80


def test_codes_are_those_of_vectors_that_were_coded_as_they_came() -> None:
    first, late = vectors(300), vectors(400, seed=1)
    held = new_codes("rabitq", DIM)
    assert isinstance(held, Delta)
    held.append(first)
    for start in range(0, 400, 7):
        held.append(late[start : start + 7])
    held.settle()
    assert held.waiting == 0
    assert (codes_of(held) == codes_of(plain(first, late))).all()
    assert held.nbytes == plain(first, late).nbytes


def held_at_a_gate() -> tuple[Delta, Gate, np.ndarray]:
    """Coding has come to its first rest: a piece is coded, and the rest of 80 is not."""
    held, gate, every = Delta(RaBitQ(DIM), DIM, gate := Gate()), gate, vectors(180)
    held.append(every[:100])
    held.append(every[100:])
    assert gate.reached.wait(20)
    return held, gate, every


def test_what_is_erased_while_it_is_coded_is_in_no_code() -> None:
    held, gate, every = held_at_a_gate()
    gone = np.array([5, 102, 110, 130, 179], np.int64)
    held.blank(gone)
    numbers, _ = held.nearest(every[110], 3, ~np.isin(np.arange(180), gone))
    assert not set(numbers.tolist()) & set(gone.tolist())
    saved = held.saved()["delta"]
    assert len(saved) == held.waiting == 55
    assert not saved[[130 - 125, 179 - 125]].any()
    gate.open.set()
    held.append(every[:30])
    held.settle()
    expected = codes_of(plain(every[:100], every[100:], every[:30]))
    expected[gone] = 0
    assert (codes_of(held) == expected).all()


def test_what_was_coded_before_it_was_erased_is_overwritten() -> None:
    """The queue has the code when the vector goes, and nobody has taken it up."""
    held, gate, every = held_at_a_gate()
    gate.open.set()
    wait_until(lambda: held._coding is None)  # pyright: ignore[reportPrivateUsage]
    held.blank(np.array([177], np.int64))
    assert held.waiting == 0
    assert not codes_of(held)[177].any()
    assert (codes_of(held)[:177] == codes_of(plain(every[:100], every[100:]))[:177]).all()


def test_a_delta_is_saved_with_the_codes() -> None:
    held, gate, every = held_at_a_gate()
    arrays = {name: np.array(array) for name, array in held.saved().items()}
    gate.open.set()
    other = new_codes("rabitq", DIM)
    other.restore(arrays)
    assert len(other) == 180
    found = other.nearest(every[170], 1, np.ones(180, np.bool_))
    assert (found[0].tolist(), found[1].tolist()) == ([170], pytest.approx([1], abs=1e-6))
    for damaged in (arrays["delta"][:, :3], arrays["delta"].astype(np.float64), arrays["delta"][0]):
        with pytest.raises(ValueError, match="numbers"):
            new_codes("rabitq", DIM).restore({**arrays, "delta": damaged})
    other.append(every)
    other.settle()
    assert (codes_of(other) == codes_of(plain(every[:100], every[100:], every))).all()


class Failing(RaBitQ):
    """Codes nothing while it is told so."""

    fails = True

    def code(self, vectors: Any) -> Any:
        if self.fails:
            raise RuntimeError("no memory left")
        return super().code(vectors)


def test_where_coding_fails_vectors_are_compared_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    codes, every = Failing(DIM), vectors(400)
    held = Delta(codes, DIM)
    held.append(every[:100])
    with caplog.at_level(logging.WARNING, "agentmem"):
        held.append(every[100:200])
        wait_until(lambda: bool(caplog.records))
    assert "compared as they are: no memory left" in caplog.text
    wait_until(lambda: held._coding is None)  # pyright: ignore[reportPrivateUsage]
    assert held.waiting == 100
    assert held.nearest(every[150], 1, np.ones(200, np.bool_))[0].tolist() == [150]
    held.append(every[200:210])
    assert held._coding is None, "tried again at once"  # pyright: ignore[reportPrivateUsage]
    codes.fails = False
    held.append(every[210:])
    wait_until(lambda: held.nearest(every[0], 1, np.ones(400, np.bool_))[0][0] == 0 and held.waiting == 0)
    assert (codes_of(held) == codes_of(plain(every[:100], every[100:]))).all()


def test_closing_ends_what_is_being_coded(caplog: pytest.LogCaptureFixture) -> None:
    held, gate, _ = held_at_a_gate()
    coding = held._coding  # pyright: ignore[reportPrivateUsage]
    assert coding is not None
    held.close()
    assert coding.over
    gate.open.set()
    held.close()
    assert held.nbytes == 0
    assert not caplog.records


def test_coding_ends_where_it_is_told_to() -> None:
    held, gate, every = held_at_a_gate()
    gate.go_on = False
    gate.open.set()
    wait_until(lambda: held._coding is None)  # pyright: ignore[reportPrivateUsage]
    assert held.nearest(every[160], 1, np.ones(180, np.bool_))[0].tolist() == [160]
    assert held.waiting == 55


def test_it_is_asked_and_added_to_while_it_is_coded() -> None:
    """One thread uses it, another one codes; numbers and answers stay."""
    held, every, over = new_codes("rabitq", DIM), vectors(2_000), Event()
    busy = Thread(target=lambda: [np.ones(1_000).sum() for _ in iter(over.is_set, True)])
    busy.start()
    try:
        held.append(every[:100])
        for end in range(120, 2_001, 20):
            held.append(every[end - 20 : end])
            number = end - 1 - end % 19
            found, similar = held.nearest(every[number], 5, np.ones(end, np.bool_))
            assert number in found
            assert similar[0] > 0.75
    finally:
        over.set()
        busy.join()
    held.settle()
    assert (codes_of(held) == codes_of(plain(every[:100], every[100:]))).all()
