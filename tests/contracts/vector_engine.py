"""What every engine that finds near vectors must do: the nearest under a mask, as numpy has them; save and restore."""

from __future__ import annotations

import numpy as np
import pytest

from agentmem.types.ports import VectorEngine

DIM = 64


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Of length one, in some bundles as texts of a few subjects are."""
    middles, random = np.random.default_rng(99).standard_normal((12, DIM)), np.random.default_rng(seed)
    found = middles[random.integers(0, 12, count)] + random.standard_normal((count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


class VectorEngineContract:
    """Inherit it, with ``new``. ``CANDIDATES`` proposals hold the ten nearest; ``ERROR`` is how far a cosine may be
    from its own, ``BYTES`` how many it takes for one of a vector."""

    CANDIDATES = 100
    ERROR = 0.25
    BYTES = 1.0

    def new(self, dim: int = DIM) -> VectorEngine:
        raise NotImplementedError

    def filled(self, count: int = 3_000) -> tuple[VectorEngine, np.ndarray]:
        codes, every = self.new(), vectors(count)
        for start in range(0, count, 1_000):
            codes.append(every[start : start + 1_000])
        return codes, every

    def test_the_nearest_are_among_the_proposals(self) -> None:
        codes, every = self.filled()
        assert len(codes) == len(every)
        assert 0 < codes.nbytes <= self.BYTES * every.nbytes
        found = 0
        for query in vectors(20, seed=5):
            numbers, similar = codes.nearest(query, self.CANDIDATES, np.ones(len(codes), np.bool_))
            assert (numbers.dtype, similar.dtype) == (np.int64, np.float32)
            assert len(set(numbers.tolist())) == len(numbers) == self.CANDIDATES
            assert (np.diff(similar) <= 0).all()
            exact = every @ query
            assert np.abs(exact[numbers] - similar).max() < self.ERROR
            found += len(set(np.argsort(-exact)[:10].tolist()) & set(numbers.tolist()))
        assert found >= 198

    @pytest.mark.parametrize("share", [0.002, 0.1, 0.3, 0.9])
    def test_a_mask_holds_before_the_cut(self, share: float) -> None:
        codes, _ = self.filled()
        allowed = np.random.default_rng(3).random(len(codes)) < share
        for k in (1, 10, 400, 5_000):
            numbers, similar = codes.nearest(vectors(1, seed=8)[0], k, allowed)
            assert len(numbers) == len(similar) == min(k, int(allowed.sum()))
            assert allowed[numbers].all()

    def test_several_queries_are_answered_as_each_alone(self) -> None:
        codes, _ = self.filled(1_200)
        queries = vectors(40, seed=12)
        for allowed in (np.ones(1_200, np.bool_), np.arange(1_200) % 9 == 0, np.zeros(1_200, np.bool_)):
            together = codes.nearest_many(queries, 10, allowed)
            assert len(together) == len(queries)
            for query, (numbers, similar) in zip(queries, together, strict=True):
                alone = codes.nearest(query, 10, allowed)
                assert (numbers.dtype, similar.dtype) == (np.int64, np.float32)
                assert similar == pytest.approx(alone[1], abs=1e-5)
                assert len(set(numbers.tolist()) ^ set(alone[0].tolist())) <= 2  # two that are about as near
        assert codes.nearest_many(queries[:0], 10, np.ones(1_200, np.bool_)) == []

    def test_exactly_what_is_allowed_is_found(self) -> None:
        codes, random = self.new(), np.random.default_rng(6)
        codes.append(vectors(60))
        for _ in range(50):
            chosen, k = set(random.integers(0, 60, random.integers(0, 20)).tolist()), int(random.integers(1, 80))
            allowed = np.isin(np.arange(60), list(chosen))
            numbers, _ = codes.nearest(vectors(1, seed=9)[0], k, allowed)
            assert len(numbers) == min(k, len(chosen))
            assert set(numbers.tolist()) <= chosen

    def test_nothing_is_found_where_nothing_is(self) -> None:
        numbers, similar = self.new().nearest(vectors(1)[0], 5, np.empty(0, np.bool_))
        assert (len(numbers), len(similar)) == (0, 0)

    def test_what_is_appended_is_found_at_once_and_one_by_one(self) -> None:
        codes, _ = self.filled(1_000)
        for number, vector in enumerate(vectors(5, seed=21), 1_000):
            codes.append(vector[None])
            numbers, _ = codes.nearest(vector, 5, np.ones(len(codes), np.bool_))
            assert number in numbers

    def test_a_first_vector_may_be_alone(self) -> None:
        codes = self.new()
        for vector in vectors(3):
            codes.append(vector[None])
            numbers, _ = codes.nearest(vector, 1, np.arange(len(codes)) == len(codes) - 1)
            assert numbers.tolist() == [len(codes) - 1]

    def test_nothing_is_left_of_what_is_blank(self) -> None:
        codes, every = self.filled(500)
        before, numbers = codes.saved(), np.array([3, 7, 499], np.int64)
        kept = {name: array.tobytes() for name, array in before.items()}
        codes.blank(numbers)
        assert {name: array.tobytes() for name, array in codes.saved().items()} != kept
        allowed = np.ones(500, np.bool_)
        allowed[numbers] = False
        found, _ = codes.nearest(every[8], 3, allowed)
        assert 8 in found
        codes.append(every[3:4])
        again, _ = codes.nearest(every[3], 3, np.append(allowed, True))
        assert 500 in again

    def test_saved_ones_are_the_same_and_can_grow(self) -> None:
        codes, every = self.filled(800)
        arrays = {name: np.array(array) for name, array in codes.saved().items()}
        other = self.new()
        assert other.kind == codes.kind
        other.restore(arrays)
        query, allowed = vectors(1, seed=4)[0], np.ones(800, np.bool_)
        for one, another in zip(codes.nearest(query, 50, allowed), other.nearest(query, 50, allowed), strict=True):
            assert (one == another).all()
        other.append(every[:10])
        assert len(other) == 810
        assert len(codes) == 800

    def test_codes_of_another_length_do_not_fit(self) -> None:
        codes, _ = self.filled(100)
        other = self.new(32)
        assert other.kind != codes.kind
        with pytest.raises(ValueError, match="numbers"):
            other.restore(codes.saved())
        with pytest.raises(ValueError):  # noqa: PT011, the message is the engine's
            other.restore({})
        assert len(other) == 0

    def test_closing_gives_the_memory_back(self) -> None:
        codes, _ = self.filled(500)
        codes.close()
        codes.close()
        assert codes.nbytes == 0
