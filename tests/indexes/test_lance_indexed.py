"""The index of vectors on the disk: near to what an exact scan finds, as many as there are, nothing of what is gone."""

from __future__ import annotations

import numpy as np
import pytest

from agentmem.indexes import driver
from agentmem.indexes.lance import LanceIndex

DIM, COUNT = 32, 4_000


def vectors(count: int, seed: int) -> np.ndarray:
    middles, random = np.random.default_rng(9).standard_normal((20, DIM)), np.random.default_rng(seed)
    found = middles[random.integers(0, 20, count)] + random.standard_normal((count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceIndex, np.ndarray, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "NEAR_FROM", 1_000)
        index = LanceIndex(tmp_path_factory.mktemp("lance"), dim=DIM, indexed=lambda: True)
        every, users = vectors(COUNT, 1), np.where(np.arange(COUNT) % 50 == 0, 2, 1)
        rows, zeros = np.arange(1, COUNT + 1), np.zeros(COUNT, np.int64)
        index.apply([], rows, users, zeros, zeros, every)
        index.optimize()
        assert index._run("look at", driver.has_near_index, False)
        return index, every, users


def test_the_nearest_are_found_with_their_similarities(built: tuple[LanceIndex, np.ndarray, np.ndarray]) -> None:
    index, every, users = built
    hits = 0
    for query in vectors(10, 2):
        for user in (None, 1, 2):
            near, similar = index.search(query, 40, user=user, exact=False)
            truth = np.where((users == user) | (user is None), every @ query, -2)
            assert len(set(near.tolist())) == 40
            assert similar == pytest.approx(truth[near - 1], abs=1e-5)
            best = set((np.argsort(-truth)[:10] + 1).tolist())
            hits += len(best & set(near.tolist()))
    assert hits >= 0.9 * 300  # of so few numbers a bit says little; of 256 it is .998


def test_there_are_as_many_as_there_are(built: tuple[LanceIndex, np.ndarray, np.ndarray]) -> None:
    index, _, _ = built
    query = vectors(1, 3)[0]
    for k, user, expected in ((79, 2, 79), (80, 2, 80), (5_000, 2, 80), (5_000, None, COUNT), (5, 3, 0)):
        assert len(index.search(query, k, user=user, exact=False)[0]) == expected
    rows = np.arange(5, 300, 7)
    assert set(index.search(query, 10, rows=rows, exact=False)[0].tolist()) <= set(rows.tolist())


def test_changes_are_found_at_once_and_nothing_of_what_is_gone(
    built: tuple[LanceIndex, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "NEAR_FROM", 1_000)
    index, every, _ = built
    new, one, zero = vectors(1, 7), np.array([COUNT + 1]), np.zeros(1, np.int64)
    index.apply([11], one, zero + 1, zero, zero, new)
    assert index.search(new[0], 3, exact=False)[0][0] == COUNT + 1
    assert 11 not in index.search(every[10], 20, exact=False)[0]
    index.optimize()
    assert index.search(new[0], 3, exact=False)[0][0] == COUNT + 1
    assert 11 not in index.search(every[10], 20, exact=False)[0]
    files = [file.read_bytes() for file in index._folder.rglob("*") if file.is_file()]
    assert not any(every[10].tobytes() in data for data in files)
    assert any(new[0].tobytes() in data for data in files)
